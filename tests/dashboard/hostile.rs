//! What is shown is hostile: it stays text wherever it is shown.

use serde_json::json;

use crate::browser::Browser;
use crate::http;
use crate::stage::Stage;

const CORPUS: [&str; 8] = [
    "<script>window.fired=1</script>",
    "<img src=x onerror=window.fired=1>",
    "\"><svg onload=window.fired=1>",
    "javascript:window.fired=1//",
    "</textarea></script><iframe srcdoc='<script>parent.fired=1</script>'>",
    "{{constructor.constructor('window.fired=1')()}}",
    "<a href=javascript:window.fired=1 autofocus onfocus=window.fired=1>",
    "__proto__\u{202e}\u{0}<math><mtext></form><form><mglyph><style></math><img src onerror=window.fired=1>",
];

/// Nothing has run, and nothing but what the page is made of stands in it.
const INERT: &str = "window.fired === undefined && !document.querySelector('main script, main img, main iframe, main object, main embed, main style, main math, dialog script, dialog img, dialog iframe, [onerror], [onload], [onfocus], [style*=expression]') && [...document.querySelectorAll('a[href]')].every((one) => /^(#\\/|\\/api\\/v1\\/)/.test(one.getAttribute('href')))";

#[test]
fn what_is_shown_runs_nothing_wherever_it_came_from() {
    let stage = Stage::open();
    let Some(browser) = Browser::open(1600, 1000, "dark") else { return };
    stage.receiver.answer(500, &CORPUS.join(" "));
    let mut events = Vec::new();
    for text in CORPUS {
        events.push(stage.post(text, text, &json!({ text: text })));
        let strange = format!("content-type: text/plain\r\nuser-agent: {}\r\n", text.replace('\0', ""));
        let answer = http::ask(&stage.gateway.ingest, "POST", "/in/shop", &strange, text.as_bytes()).unwrap();
        assert_eq!(answer.status, 422, "{answer:?}");
    }
    stage.gateway.until("counters", |counters| counters["endpoints"]["crm"]["dead"] == CORPUS.len());
    let note = json!({ "note": CORPUS.join(" ") }).to_string();
    assert_eq!(stage.gateway.ask("POST", "endpoints/crm/pause", &note).status, 200);
    let refusals = stage.gateway.until("refusals", |list| list["items"].as_array().unwrap().len() == CORPUS.len());

    stage.enter(&browser);
    let mut screens = vec![
        ("#/".to_owned(), "document.querySelector('.groups').innerText.includes('<script>')"),
        ("#/failed".to_owned(), "document.querySelector('tbody').innerText.includes('<img src=x')"),
        ("#/events".to_owned(), "document.querySelector('tbody').innerText.includes('<svg onload')"),
        ("#/calls".to_owned(), "document.querySelector('tbody').innerText.includes('<script>')"),
        ("#/endpoints/crm".to_owned(), "document.querySelector('main').innerText.includes('<a href=javascript')"),
        ("#/audit".to_owned(), "document.querySelector('tbody').innerText.includes('<script>')"),
        ("#/sources".to_owned(), "document.querySelectorAll('tbody tr').length"),
    ];
    for (at, event) in events.iter().enumerate() {
        screens.push((
            format!("#/event/{event}"),
            "document.querySelector('.story').innerText.includes('<script>') && document.querySelector('.code')",
        ));
        let path: String = CORPUS[at].bytes().map(|byte| format!("%{byte:02X}")).collect();
        screens.push((format!("#/call/{path}"), "document.querySelector('.story li a')"));
        screens.push((format!("#/failed?key={path}&type={path}&endpoint={path}"), "document.querySelector('.chip')"));
    }
    for refusal in refusals["items"].as_array().unwrap() {
        let id = refusal["id"].as_str().unwrap();
        screens.push((format!("#/sources/refusals/{id}"), "document.querySelector('.code')"));
    }
    for (screen, until) in &screens {
        stage.go(&browser, screen, &format!("location.hash === {} && ({until})", json!(screen)));
        browser.until(INERT);
    }
    stage.go(&browser, &format!("#/event/{}", events[0]), "document.querySelector('.story button')");
    browser.click(".story button", "attempt 1");
    browser.until("document.querySelector('dialog[open]').innerText.includes('<b>there</b>')");
    browser.until(INERT);
    browser.picture("hostile");
    // Asking for an endpoint of such a name is refused, which the browser notes; nothing else is complained about.
    let complaints = browser.complaints();
    let others: Vec<&String> = complaints.iter().filter(|line| !line.contains("400 (Bad Request)")).collect();
    assert!(others.is_empty(), "{others:#?}");
}
