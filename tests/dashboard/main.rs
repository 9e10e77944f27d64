//! The dashboard in a real browser, in front of the real program. Pictures are kept in `target/screenshots`. Without
//! Chromium these are skipped, loudly; where `CI` is set they fail.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod browser;
mod hostile;
#[path = "../support/http.rs"]
#[allow(dead_code, reason = "end to end more of it is used")]
mod http;
#[path = "../support/lines.rs"]
#[allow(dead_code, reason = "end to end more of it is used")]
mod lines;
mod looks;
#[path = "../support/place.rs"]
#[allow(dead_code, reason = "end to end more of it is used")]
mod place;
mod stage;

use serde_json::json;

use browser::{Browser, ENTER, ESCAPE};
use stage::Stage;

#[test]
fn a_token_is_shown_once_and_a_cookie_that_no_script_sees_from_then_on() {
    let stage = Stage::open();
    let Some(browser) = Browser::open(1280, 800, "dark") else { return };
    browser.visit(&format!("http://{}/", stage.gateway.admin));
    browser.until("document.activeElement.name === 'token'");
    assert_eq!(browser.complaints(), Vec::<String>::new());

    browser.press("bst_nobody");
    browser.press(ENTER);
    browser.until("document.querySelector('.problem').textContent.includes('not whole')");
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|line| line.contains("401")), "{complaints:?}");

    stage.enter(&browser);
    let cookies = browser.cookies();
    let [cookie] = cookies.as_array().unwrap().as_slice() else { panic!("{cookies}") };
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Strict")));
    assert_eq!(
        (browser.run("return document.cookie", &[]), browser.run("return JSON.stringify(localStorage)", &[])),
        (json!(""), json!("{\"session\":\"1\"}"))
    );
    assert!(
        !browser
            .run("return document.documentElement.innerHTML", &[])
            .as_str()
            .unwrap()
            .contains(stage.gateway.token())
    );

    browser.run("location.reload()", &[]);
    browser.until("document.querySelector('.screen-overview .lane')");

    browser.click(".side button", "Sign out");
    browser.until("document.querySelector('input[name=token]')");
    assert_eq!(browser.cookies(), json!([]));
    let (name, value) = (cookie["name"].as_str().unwrap(), cookie["value"].as_str().unwrap());
    let cookie = format!("cookie: {name}={value}\r\n");
    let who = http::ask(&stage.gateway.admin, "GET", "/api/v1/whoami", &cookie, b"").unwrap();
    assert_eq!(who.status, 401, "the session is over on the server, too: {who:?}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn what_failed_is_found_replayed_and_watched_by_keyboard() {
    let stage = Stage::open();
    let Some(browser) = Browser::open(1600, 1000, "dark") else { return };
    stage.receiver.answer(500, "{\"error\":\"the database is being moved\"}");
    for call in 0..5 {
        stage.post("call_started", &format!("call-{call}"), &json!({ "agent": "reception" }));
    }
    stage.gateway.until("counters", |counters| counters["endpoints"]["crm"]["dead"] == 5);
    stage.enter(&browser);
    browser.until("document.querySelector('.side nav a[data-name=failed] .count').textContent === '5'");

    browser.press("gf");
    browser.until("document.querySelectorAll('.screen-failed tbody tr').length === 5");
    browser.press("/");
    browser.until("document.activeElement.classList.contains('query')");
    browser.press("key:call-3");
    browser.press(ENTER);
    browser.until("location.hash === '#/failed?key=call-3' && document.querySelectorAll('tbody tr').length === 1");
    browser.press("j");
    browser.until("document.querySelector('tbody tr.current') && document.activeElement.closest('tr.current')");
    browser.press(ENTER);
    browser.until(
        "location.hash.startsWith('#/event/') && document.querySelector('.story')?.innerText.includes('attempt 2')",
    );
    browser.click(".story button", "attempt 2");
    browser.until("document.querySelector('dialog[open]').innerText.includes('the database is being moved')");
    browser.press(ESCAPE);
    browser.until("!document.querySelector('dialog[open]')");
    browser.press(ESCAPE);
    browser.until("location.hash === '#/failed?key=call-3' && document.querySelectorAll('tbody tr').length === 1");
    browser.press("?");
    browser.until("document.querySelector('dialog[open]').innerText.includes('Keyboard')");
    browser.press(ESCAPE);

    browser.click(".chip", "call-3");
    browser.until("location.hash === '#/failed' && document.querySelectorAll('tbody tr').length === 5");
    stage.receiver.answer(200, "{}");
    browser.press("jxjx");
    browser.until("document.querySelectorAll('input.pick:checked').length === 2");
    browser.press("r");
    browser.until("document.querySelector('dialog .plan b')?.textContent === '2 deliveries' && !document.querySelector('dialog footer .primary').disabled");
    browser.picture("replay-plan");
    browser.click("dialog footer button", "Replay 2");
    browser.until("location.hash.startsWith('#/replays/rpl_') && document.querySelector('.screen-replays').innerText.includes('all it made got there')");
    browser.picture("replay-done");
    stage.gateway.until("counters", |counters| counters["endpoints"]["crm"]["failed"] == 3);
    browser.until("document.querySelector('.side nav a[data-name=failed] .count').textContent === '3'");
    browser.press("ga");
    browser.until("document.querySelector('.screen-audit tbody')?.innerText.includes('replay.begin')");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn endpoints_are_paused_tried_and_resumed() {
    let stage = Stage::open();
    let Some(browser) = Browser::open(1280, 800, "light") else { return };
    stage.enter(&browser);
    stage.go(&browser, "#/endpoints/crm", "document.querySelector('h1')?.innerText.includes('crm')");
    browser.click("button", "Pause");
    browser.press("being moved");
    browser.click("dialog button", "Pause");
    browser.until("document.querySelector('main').innerText.includes('being moved')");
    browser.click("button", "Send a test event");
    browser.until("location.hash.startsWith('#/event/') && document.querySelector('.story').innerText.includes('the endpoint is paused')");
    stage.go(&browser, "#/endpoints/crm", "document.querySelector('h1')?.innerText.includes('paused')");
    browser.click("button", "Resume");
    // It comes back few at a time: that is half open.
    browser.until("document.querySelector('h1') && !document.querySelector('h1').innerText.includes('paused')");
    stage.gateway.until("counters", |counters| counters["endpoints"]["crm"]["delivered"] == 1);
    browser.click("button", "Rotate its secret");
    browser.until("document.querySelector('dialog[open] .code').innerText.startsWith('whsec_')");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// A page at another port of the same host is of the same site: the browser sends the cookie along.
#[test]
fn another_page_gets_nothing_done_with_the_session() {
    let stage = Stage::open();
    let Some(browser) = Browser::open(1280, 800, "dark") else { return };
    stage.enter(&browser);
    let api = format!("http://{}/api/v1", stage.gateway.admin);
    stage.receiver.show(&format!(
        "<!doctype html><title>evil</title><form id=f method=post action=\"{api}/endpoints/crm/pause\"><input name=note value=x></form>\
         <iframe src=\"http://{}/\"></iframe>",
        stage.gateway.admin
    ));
    browser.visit(&format!("http://{}/", stage.receiver.address));
    let ask = "return fetch(arguments[0], { method: arguments[1], credentials: 'include', mode: arguments[2], headers: arguments[3] }).then((answer) => answer.type + answer.status, () => 'refused')";
    assert_eq!(
        browser.run(ask, &[json!(format!("{api}/endpoints/crm/pause")), json!("POST"), json!("no-cors"), json!({})]),
        "opaque0"
    );
    assert_eq!(
        browser.run(
            ask,
            &[json!(format!("{api}/endpoints/crm/pause")), json!("POST"), json!("cors"), json!({ "x-backstop": "1" })]
        ),
        "refused"
    );
    assert_eq!(browser.run(ask, &[json!(format!("{api}/events")), json!("GET"), json!("cors"), json!({})]), "refused");
    browser.run("document.getElementById('f').submit()", &[]);
    browser.until("document.body.innerText.includes('another page than the gateway')");
    assert_eq!(stage.gateway.get("endpoints/crm")["pause"], json!(null));
    browser.visit(&format!("http://{}/", stage.gateway.admin));
    browser.until("document.querySelector('.screen-overview .lane')");
}
