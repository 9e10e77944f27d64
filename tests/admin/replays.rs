//! Replays as jobs, over HTTP: what they would do, their terms, their turns, copies elsewhere.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::gateway::{Gateway, TOKEN, delivery};

/// Dead letters of `picky`, and a moment later.
async fn dead(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(gateway.tried("picky", &format!("k{number}")).await);
    }
    gateway.clock.0.fetch_add(1, Ordering::SeqCst);
    ids
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let got = gateway.post(&format!("/api/v1/replays{path}"), body).await;
    assert!((200..300).contains(&got.status), "{}", got.json());
    got.json()
}

#[tokio::test]
async fn a_plan_says_what_would_be_made_and_makes_nothing() {
    let gateway = Gateway::start().await;
    let ids = dead(&gateway, 7).await;
    let asked = json!({
        "filter": { "endpoint": "picky" }, "dry_run": true, "rate": "2/s", "max_age": { "none*": "1s" },
    });
    let plan = post(&gateway, "", &asked).await;
    assert_eq!((&plan["selected"], &plan["would_make"]), (&json!(7), &json!(7)));
    assert_eq!(plan["by_endpoint"], json!({ "picky": 7 }));
    assert_eq!((&plan["by_status"], &plan["by_type"]), (&json!({ "dead": 7 }), &json!({ "picky": 7 })));
    assert_eq!(plan["by_age"][0], json!(["1h", 7]));
    assert_eq!((&plan["oldest"], &plan["newest"]), (&json!("2023-11-14T22:13:20.000Z"), &plan["oldest"]));
    assert_eq!(plan["samples"].as_array().unwrap().len(), 5);
    assert_eq!(
        plan["samples"][0],
        json!({ "event": ids[0], "delivery": delivery(&ids[0], 0), "to": "picky", "type": "picky" }),
    );
    assert_eq!(plan["takes_ms"], 2500, "two at once, the others by the rate");
    assert_eq!(gateway.get("/api/v1/replays").await.json()["items"], json!([]));
    let old = json!({ "filter": { "endpoint": "picky" }, "dry_run": true, "max_age": { "*": "500ms" } });
    let plan = post(&gateway, "", &old).await;
    assert_eq!((&plan["would_make"], &plan["skipped_by"]["too_old"]), (&json!(0), &json!(7)));
    assert_eq!((&plan["oldest"], &plan["takes_ms"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_replay_shows_its_terms_and_is_paused_resumed_and_done_again() {
    let gateway = Gateway::start().await;
    dead(&gateway, 4).await;
    let asked = json!({
        "filter": { "endpoint": "picky" }, "rate": "1/h", "max_age": { "tool_call": "5m" }, "canary": 9,
        "stop_after_failures": 100, "skip_if_delivered_later": true, "to": "healthy",
    });
    let begun = post(&gateway, "", &asked).await;
    let path = format!("/{}", begun["id"].as_str().unwrap());
    let shown = gateway.until(&format!("/api/v1/replays{path}"), |replay| replay["delivered"] == 1).await;
    assert_eq!((&shown["state"], &shown["queued"], &shown["open"]), (&json!("running"), &json!(1), &json!(0)));
    assert_eq!((&shown["rate"], &shown["max_age_ms"]), (&json!([1, 3_600_000]), &json!({ "tool_call": 300_000 })));
    assert_eq!((&shown["canary"], &shown["canary_passed"]), (&json!(9), &json!(false)));
    assert_eq!((&shown["stop_after_failures"], &shown["order"]), (&json!(100), &json!("oldest")));
    let paused = post(&gateway, &format!("{path}/pause"), &json!({})).await;
    assert_eq!((&paused["state"], &paused["hold"]), (&json!("paused"), &json!("operator")));
    assert!(gateway.post(&format!("/api/v1/replays{path}/pause"), &json!({})).await.problem(409).contains("ended"));
    let rest = json!({ "what": "rest" });
    assert!(gateway.post(&format!("/api/v1/replays{path}/rerun"), &rest).await.problem(422).contains("not ended"));
    let resumed = post(&gateway, &format!("{path}/resume"), &json!({})).await;
    assert_eq!((&resumed["state"], &resumed["hold"]), (&json!("running"), &Value::Null));
    assert_eq!(post(&gateway, &format!("{path}/cancel"), &json!({})).await["state"], "cancelled");
    gateway.clock.0.fetch_add(1, Ordering::SeqCst);
    let again = post(&gateway, &format!("{path}/rerun"), &rest).await;
    assert_eq!((&again["filter"], &again["rate"]), (&begun["filter"], &begun["rate"]));
    let again = format!("/api/v1/replays/{}", again["id"].as_str().unwrap());
    assert_eq!(gateway.until(&again, |replay| replay["delivered"] == 1).await["queued"], 1);
    gateway.post(&format!("/api/v1/replays{path}/rerun"), &json!({ "what": "all" })).await.problem(400);
    gateway.post(&format!("/api/v1/replays{path}/dance"), &json!({})).await.problem(404);
}

#[tokio::test]
async fn an_idempotency_key_stands_for_one_request() {
    let gateway = Gateway::start().await;
    dead(&gateway, 2).await;
    let body = json!({ "filter": { "endpoint": "picky" }, "to": "healthy" });
    let ask = async |key: &str, body: &Value| {
        let headers = format!("authorization: Bearer {TOKEN}\r\nidempotency-key: {key}\r\n");
        gateway.ask_with("POST", "/api/v1/replays", &headers, body.to_string().as_bytes()).await
    };
    let first = ask("monday", &body).await;
    assert_eq!(first.status, 202);
    let path = format!("/api/v1/replays/{}", first.json()["id"].as_str().unwrap());
    gateway.until(&path, |replay| replay["delivered"] == 2).await;
    let second = ask("monday", &body).await;
    assert_eq!((second.status, &second.json()["id"]), (200, &first.json()["id"]));
    assert_eq!(second.json()["delivered"], 2, "as it stands now");
    let other = json!({ "filter": { "endpoint": "picky" } });
    assert!(ask("monday", &other).await.problem(422).contains("another request"));
    assert_eq!(ask("tuesday", &body).await.status, 202);
    ask(&"k".repeat(256), &body).await.problem(400);
}

#[tokio::test]
async fn a_trial_compares_answers_and_changes_nothing() {
    let gateway = Gateway::start().await;
    dead(&gateway, 3).await;
    let before = gateway.get("/api/v1/counters").await.json();
    let asked = json!({ "filter": { "endpoint": "picky" }, "to_url": "https://example.com/elsewhere", "copies": 2 });
    let trial = post(&gateway, "", &asked).await;
    assert_eq!((&trial["copies"], trial["items"].as_array().unwrap().len()), (&json!(2), 2));
    let copy = &trial["items"][0];
    assert_eq!((&copy["endpoint"], &copy["before"]["status"]), (&json!("picky"), &json!(400)));
    assert_eq!(&copy["now"]["status"], &copy["before"]["status"], "the transport answers by the endpoint's name");
    assert_eq!((&trial["differ"], &trial["delivered"]), (&json!(0), &json!(0)));
    assert_eq!(gateway.get("/api/v1/counters").await.json(), before);
    assert_eq!(gateway.get("/api/v1/replays").await.json()["items"], json!([]));
    let both = json!({ "filter": { "endpoint": "picky" }, "to_url": "http://x/", "to": "healthy" });
    gateway.post("/api/v1/replays", &both).await.problem(400);
}
