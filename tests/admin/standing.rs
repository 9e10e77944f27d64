//! How an endpoint stands: paused and resumed, by an operator or by its own 410, and its circuit.

use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::{Gateway, delivery};

const THEN: &str = "2023-11-14T22:13:20.000Z";

#[tokio::test]
async fn an_endpoint_is_paused_with_a_note_and_drained_when_it_is_resumed() {
    let gateway = Gateway::start().await;
    let paused = gateway.post("/api/v1/endpoints/healthy/pause", &json!({ "note": "moving house" })).await;
    let pause = json!({ "since": THEN, "cause": "operator", "note": "moving house" });
    assert_eq!((paused.status, &paused.json()["pause"]), (200, &pause));
    let event = gateway.accept("healthy", "k").await;
    gateway.until_waits(&event, "pause").await;
    let shown = gateway.get("/api/v1/endpoints/healthy").await.json();
    assert_eq!((&shown["pause"], &shown["backlog"], &shown["lane"]["fresh"]), (&pause, &json!(1), &json!(1)));
    assert_eq!(shown["circuit"], json!({ "state": "closed" }));

    // Again, without a body: the later word counts.
    let again = gateway.ask("POST", "/api/v1/endpoints/healthy/pause", b"").await;
    assert_eq!(again.json()["pause"], json!({ "since": THEN, "cause": "operator", "note": null }));

    let resumed = gateway.ask("POST", "/api/v1/endpoints/healthy/resume", b"").await;
    assert_eq!((resumed.status, &resumed.json()["pause"]), (200, &Value::Null));
    let path = format!("/api/v1/deliveries/{}", delivery(&event, 0));
    let done = gateway.until(&path, |delivery| delivery["status"] == "delivered").await;
    assert_eq!(done["attempts_made"], 1, "waiting spent nothing");
    // Twice is once.
    assert_eq!(gateway.ask("POST", "/api/v1/endpoints/healthy/resume", b"").await.status, 200);
}

#[tokio::test]
async fn only_an_endpoint_of_the_config_is_paused_and_only_by_a_sound_request() {
    let gateway = Gateway::start().await;
    for verb in ["pause", "resume"] {
        for endpoint in ["no-such", "No%20Name", "%ff"] {
            gateway.ask("POST", &format!("/api/v1/endpoints/{endpoint}/{verb}"), b"").await.problem(404);
        }
        let stranger = gateway.ask_with("POST", &format!("/api/v1/endpoints/healthy/{verb}"), "", b"").await;
        stranger.problem(401);
    }
    for body in ["[]", "{\"notes\": \"x\"}", "{\"note\": 1}"] {
        gateway.ask("POST", "/api/v1/endpoints/healthy/pause", body.as_bytes()).await.problem(400);
    }
    assert_eq!(gateway.get("/api/v1/endpoints/healthy").await.json()["pause"], Value::Null);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_pauses_itself_until_an_operator_resumes_it() {
    let gateway = Gateway::start().await;
    gateway.tried("gone", "k").await;
    let shown = gateway.until("/api/v1/endpoints/gone", |endpoint| endpoint["pause"] != Value::Null).await;
    assert_eq!(shown["pause"], json!({ "since": THEN, "cause": "gone", "note": "it answered 410 Gone" }));
    let second = gateway.accept("gone", "k").await;
    gateway.until_waits(&second, "pause").await;
    gateway.ask("POST", "/api/v1/endpoints/gone/resume", b"").await;
    let path = format!("/api/v1/deliveries/{}", delivery(&second, 0));
    let dead = gateway.until(&path, |delivery| delivery["status"] == "dead").await;
    assert_eq!(dead["reason"], "gone");
    gateway.until("/api/v1/endpoints/gone", |endpoint| endpoint["pause"]["cause"] == "gone").await;
}

#[tokio::test]
async fn a_circuit_opens_is_probed_and_closes() {
    let gateway = Gateway::fragile(100, 100).await;
    let event = gateway.tried("down", "k").await;
    let state = |state: &'static str| move |endpoint: &Value| endpoint["circuit"]["state"] == state;
    let circuit = gateway.until("/api/v1/endpoints/down", state("open")).await["circuit"].clone();
    assert_eq!((&circuit["since"], &circuit["cause"]), (&json!(THEN), &json!("consecutive_failures")));
    assert_eq!((&circuit["last_failure"], &circuit["last_status"]), (&json!("refused"), &Value::Null));
    assert_eq!(circuit["probes_failed"], 0);

    gateway.pass(Duration::from_secs(3600));
    let probed = |endpoint: &Value| endpoint["circuit"]["probes_failed"] == 1;
    let probed = gateway.until("/api/v1/endpoints/down", probed).await["circuit"].clone();
    assert_eq!(probed["since"], THEN, "it is the same outage");
    let path = format!("/api/v1/deliveries/{}", delivery(&event, 0));
    let tried = gateway.until(&path, |delivery| delivery["attempts_made"] == 2).await;
    assert_eq!((&tried["probes_failed"], &tried["reason"]), (&json!(1), &json!("probe_failed")));
    assert_eq!((&tried["attempts"][0]["probe"], &tried["attempts"][1]["probe"]), (&json!(false), &json!(true)));

    gateway.slow.add_permits(1);
    gateway.pass(Duration::from_secs(3600));
    let done = gateway.until(&path, |delivery| delivery["status"] == "delivered").await;
    assert_eq!(done["attempts"][2]["probe"], true);
    let back = gateway.until("/api/v1/endpoints/down", |endpoint| endpoint["circuit"]["state"] != "open").await;
    assert!(["half_open", "closed"].contains(&back["circuit"]["state"].as_str().unwrap()), "{back}");
}
