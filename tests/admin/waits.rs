//! Why a delivery is late: every thing that it can wait for, provoked, and said in one call.

use std::sync::Arc;
use std::time::Duration;

use backstop::core::event::Event;
use backstop::core::id::EventId;
use backstop::core::timestamp::Timestamp;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{Change, Journal as _};
use serde_json::{Value, json};

use crate::gateway::{Gateway, NOW, delivery, draft, name};

/// When a test begins.
const THEN: &str = "2023-11-14T22:13:20.000Z";
/// A minute later.
const MINUTE_LATER: &str = "2023-11-14T22:14:20.000Z";
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_due_time_after_a_failure_and_nothing_once_it_has_ended() {
    let gateway = Gateway::start().await;
    let event = gateway.tried("fan", "k").await;
    let shown = gateway.get(&format!("/api/v1/events/{event}")).await.json();
    let [healthy, picky, flaky] = shown["deliveries"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert!(healthy.get("waits_for").is_none() && picky.get("waits_for").is_none(), "{shown}");
    assert_eq!(flaky["waits_for"], json!({ "on": "due", "at": flaky["due_at"], "since": THEN }));
    let alone = gateway.get(&format!("/api/v1/deliveries/{}", delivery(&event, 2))).await.json();
    assert_eq!(alone["waits_for"], flaky["waits_for"]);
    let list = gateway.get("/api/v1/deliveries?status=retrying,dead").await.json();
    assert_eq!(list["items"][0]["waits_for"], flaky["waits_for"]);
    assert!(list["items"][1].get("waits_for").is_none(), "{list}");
}

#[tokio::test]
async fn an_attempt_on_its_way_and_the_full_window_behind_it() {
    let gateway = Gateway::fragile(100, 100).await;
    let first = gateway.accept("tiny", "k").await;
    assert_eq!(gateway.until_waits(&first, "attempt").await, json!({ "on": "attempt", "since": THEN }));
    gateway.pass(Duration::from_secs(1));
    let second = gateway.accept("tiny", "k").await;
    let said = gateway.until_waits(&second, "window").await;
    assert_eq!(said, json!({ "on": "window", "limit": 1, "since": "2023-11-14T22:13:21.000Z" }));
    gateway.slow.add_permits(1);
    gateway.until_waits(&second, "attempt").await;
}

#[tokio::test]
async fn the_pause_whoever_wants_it() {
    let gateway = Gateway::fragile(100, 100).await;
    gateway.post("/api/v1/endpoints/healthy/pause", &json!({})).await;
    let event = gateway.accept("healthy", "k").await;
    let said = json!({ "on": "pause", "cause": "operator", "since": THEN });
    assert_eq!(gateway.until_waits(&event, "pause").await, said);
    gateway.tried("gone", "k").await;
    let event = gateway.accept("gone", "k").await;
    assert_eq!(gateway.until_waits(&event, "pause").await["cause"], "gone");
}

#[tokio::test]
async fn the_open_circuit_with_its_next_probe() {
    let gateway = Gateway::fragile(100, 100).await;
    let event = gateway.tried("down", "k").await;
    let said = gateway.until_waits(&event, "circuit").await;
    assert_eq!((&said["cause"], &said["since"]), (&json!("consecutive_failures"), &json!(THEN)));
    let circuit = &gateway.get("/api/v1/endpoints/down").await.json()["circuit"];
    assert_eq!((&said["probe_at"], &circuit["state"]), (&circuit["probe_at"], &json!("open")));
}

#[tokio::test]
async fn the_ramp_after_a_pause() {
    let gateway = Gateway::fragile(100, 100).await;
    gateway.post("/api/v1/endpoints/slow/pause", &json!({})).await;
    let (first, second) = (gateway.accept("slow", "a").await, gateway.accept("slow", "b").await);
    gateway.post("/api/v1/endpoints/slow/resume", &json!({})).await;
    gateway.until_waits(&first, "attempt").await;
    assert_eq!(gateway.until_waits(&second, "ramp").await, json!({ "on": "ramp", "allowed": 1, "since": THEN }));
}

#[tokio::test]
async fn the_silence_that_the_endpoint_asked_for() {
    let gateway = Gateway::fragile(100, 100).await;
    let event = gateway.tried("busy", "k").await;
    let silence = json!({ "on": "silence", "until": MINUTE_LATER, "since": THEN });
    assert_eq!(gateway.until_waits(&event, "silence").await, silence);
    let endpoint = gateway.get("/api/v1/endpoints/busy").await.json();
    assert_eq!(endpoint["lane"]["held_until"], MINUTE_LATER);
}

#[tokio::test]
async fn the_rate() {
    let gateway = Gateway::fragile(100, 100).await;
    gateway.tried("rated", "k").await;
    let event = gateway.accept("rated", "k").await;
    let said = gateway.until_waits(&event, "rate").await;
    assert_eq!(said, json!({ "on": "rate", "next_at": MINUTE_LATER, "since": THEN }));
    assert_eq!(gateway.get("/api/v1/endpoints/rated").await.json()["lane"]["rate_next_at"], MINUTE_LATER);
    gateway.pass(MINUTE);
    let path = format!("/api/v1/deliveries/{}", delivery(&event, 0));
    gateway.until(&path, |delivery| delivery["status"] == "delivered").await;
}

#[tokio::test]
async fn the_one_before_in_its_line_and_how_long_at_most() {
    let gateway = Gateway::fragile(100, 100).await;
    let first = gateway.accept("serial", "call-1").await;
    gateway.until_waits(&first, "attempt").await;
    let second = gateway.accept("serial", "call-1").await;
    let said = gateway.until_waits(&second, "line").await;
    assert_eq!(said, json!({ "on": "line", "behind": delivery(&first, 0), "until": null, "since": THEN }));
    assert_eq!(gateway.get("/api/v1/endpoints/serial").await.json()["lane"]["lines_held"], 1);

    // Another key's is not held up, but its failures hold those behind it.
    let bad = gateway.engine.accept(draft("serial", "call-2", "bad")).await.unwrap().id.to_string();
    gateway.until_waits(&bad, "due").await;
    let behind = gateway.accept("serial", "call-2").await;
    let said = gateway.until_waits(&behind, "line").await;
    let line = json!({ "on": "line", "behind": delivery(&bad, 0), "until": MINUTE_LATER, "since": THEN });
    assert_eq!(said, line);
    gateway.slow.add_permits(3);
    gateway.pass(MINUTE);
    let path = format!("/api/v1/deliveries/{}", delivery(&behind, 0));
    let passed = gateway.until(&path, |delivery| delivery["status"] == "delivered").await;
    assert_eq!((&passed["released_out_of_order"], &passed["attempts"][0]["released_out_of_order"]), (&TRUE, &TRUE));
    let first = gateway.get(&format!("/api/v1/deliveries/{}", delivery(&first, 0))).await.json();
    assert_eq!((&first["released_out_of_order"], &first["attempts"][0]["probe"]), (&FALSE, &FALSE));
}

const TRUE: Value = Value::Bool(true);
const FALSE: Value = Value::Bool(false);

#[tokio::test]
async fn the_gateway_where_its_endpoint_has_its_share() {
    let gateway = Gateway::fragile(100, 4).await;
    let other = gateway.accept("tiny", "k").await;
    gateway.until_waits(&other, "attempt").await;
    let (first, second) = (gateway.accept("slow", "k").await, gateway.accept("slow", "k").await);
    gateway.until_waits(&first, "attempt").await;
    // Two of four places are taken, and the others are kept for those who have none.
    let said = gateway.until_waits(&second, "gateway").await;
    assert_eq!(said, json!({ "on": "gateway", "limit": 4, "since": THEN }));
}

#[tokio::test]
async fn the_gateway_whose_places_are_all_taken() {
    let gateway = Gateway::fragile(100, 2).await;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(gateway.accept("slow", "k").await);
    }
    let said = gateway.until_waits(&events[2], "gateway").await;
    assert_eq!(said, json!({ "on": "gateway", "limit": 2, "since": THEN }));
}

#[tokio::test]
async fn the_journal_where_more_wait_than_are_held_in_memory() {
    let gateway = Gateway::fragile(1, 100).await;
    let mut events = Vec::new();
    for _ in 0..8 {
        events.push(gateway.accept("slow", "k").await);
    }
    gateway.until_waits(&events[4], "window").await;
    assert_eq!(gateway.until_waits(&events[7], "journal").await, json!({ "on": "journal", "since": THEN }));
    assert_eq!(gateway.get("/api/v1/endpoints/slow").await.json()["lane"]["behind"], true);
}

#[tokio::test]
async fn an_endpoint_that_the_config_does_not_have() {
    let journal = MemoryJournal::default();
    let id = EventId::floor(Timestamp::from_millis(NOW));
    let mut old = draft("old", "k", "{}");
    old.endpoints = vec![name("former")];
    let old = Event { id, received_at: Timestamp::from_millis(NOW), draft: old };
    journal.commit(&[Change::Accept(Arc::new(old))]).unwrap();
    let gateway = Gateway::over(journal).await;
    let said = gateway.until_waits(&id.to_string(), "parked").await;
    assert_eq!(said, json!({ "on": "parked", "since": THEN }));
}
