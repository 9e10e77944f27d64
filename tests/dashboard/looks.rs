//! How it looks: every screen fits a telephone and a wide screen, in the dark and in the light.

use serde_json::json;

use crate::browser::Browser;
use crate::http;
use crate::stage::Stage;

#[test]
fn every_screen_fits_a_telephone_and_a_wide_screen() {
    let stage = Stage::open();
    let Some(browser) = Browser::open(1600, 1000, "dark") else { return };
    stage.receiver.answer(500, "{\"error\":\"the database is being moved\"}");
    let long = "a-key-without-any-place-to-break-it-that-goes-on-and-on-and-on-until-nobody-can-read-it-any-more";
    let event = stage.post("call_ended", long, &json!({ "text": "word".repeat(200) }));
    http::ask(&stage.gateway.ingest, "POST", "/in/shop", "content-type: application/json\r\n", b"{}").unwrap();
    stage.gateway.until("counters", |counters| counters["endpoints"]["crm"]["dead"] == 1);
    stage.enter(&browser);
    let refusal = stage.gateway.get("refusals")["items"][0]["id"].as_str().unwrap().to_owned();
    let screens = [
        ("overview", "#/".to_owned(), "document.querySelector('.chart')"),
        ("failed", "#/failed".to_owned(), "document.querySelector('tbody tr')"),
        ("events", "#/events".to_owned(), "document.querySelector('tbody tr') && document.querySelector('.bars')"),
        ("event", format!("#/event/{event}"), "document.querySelector('.story li')"),
        ("call", format!("#/call/{long}"), "document.querySelector('.story li')"),
        ("calls", "#/calls".to_owned(), "document.querySelector('tbody tr')"),
        ("endpoints", "#/endpoints".to_owned(), "document.querySelector('.lane')"),
        ("endpoint", "#/endpoints/crm".to_owned(), "document.querySelector('.chart')"),
        ("replays", "#/replays".to_owned(), "document.querySelector('.empty')"),
        ("sources", "#/sources".to_owned(), "document.querySelector('tbody tr')"),
        ("refusal", format!("#/sources/refusals/{refusal}"), "document.querySelector('.code')"),
        ("audit", "#/audit".to_owned(), "document.querySelector('tbody tr')"),
    ];
    for (width, height, scheme) in
        [(1600, 1000, "dark"), (1600, 1000, "light"), (360, 780, "dark"), (360, 780, "light")]
    {
        browser.be(width, height, scheme);
        for (name, hash, until) in &screens {
            stage.go(&browser, hash, &format!("document.querySelector('.screen') && ({until})"));
            let over = browser.run("return document.documentElement.scrollWidth - innerWidth", &[]);
            assert!(over.as_i64().unwrap() <= 0, "{name} at {width} is {over} px too wide");
            if width == 360 {
                let small = "return [...document.querySelectorAll('main .button, main select, main .chip, .burger')].filter((one) => one.getClientRects().length && one.getBoundingClientRect().height < 43.5).map((one) => one.outerText)";
                assert_eq!(browser.run(small, &[]), json!([]), "{name}: too small for a finger");
            }
            browser.picture(&format!("{name}-{width}-{scheme}"));
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
