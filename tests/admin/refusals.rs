//! Refused requests: listed by filters, shown whole, taken in once what was wrong is put right.

use backstop::core::event::Header;
use backstop::core::refused::{Refused, Why};
use backstop::core::timestamp::Timestamp;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::gateway::{Gateway, NOW, name};

const CALL: &str = r#"{"event_type":"healthy","n":1}"#;

fn refused(why: Why, at: u64, body: &str) -> Refused {
    Refused {
        at: Timestamp::from_millis(NOW + at),
        source: name("flyflow"),
        why,
        detail: "it was not as it should be".to_owned(),
        first: None,
        peer: Some("192.0.2.1:4000".to_owned()),
        headers: vec![Header { name: "x-raw".to_owned(), value: Bytes::from_static(b"\xff") }],
        body: Bytes::copy_from_slice(body.as_bytes()),
        body_bytes: Some(body.len() as u64),
    }
}

async fn list(gateway: &Gateway, query: &str) -> Vec<Value> {
    let page = gateway.get(&format!("/api/v1/refusals?{query}")).await.json();
    page["items"].as_array().unwrap().clone()
}

async fn only_one(gateway: &Gateway, query: &str) -> String {
    let items = list(gateway, query).await;
    assert_eq!(items.len(), 1, "{items:?}");
    items[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn they_are_listed_by_filters_page_by_page() {
    let gateway = Gateway::start().await;
    gateway.refusals.note(refused(Why::TooLarge, 0, "a"));
    gateway.refusals.note(refused(Why::Malformed, 1000, "b"));
    gateway.refusals.note(Refused { source: name("other"), ..refused(Why::Malformed, 2000, "c") });
    let count = async |query: &str| list(&gateway, query).await.len();
    assert_eq!(count("").await, 3);
    assert_eq!(count("source=flyflow").await, 2);
    assert_eq!(count("reason=malformed&source=flyflow").await, 1);
    assert_eq!(count("since=2023-11-14T22:13:21Z").await, 2);
    assert_eq!(count("until=2023-11-14T22:13:21Z").await, 1);
    let first = gateway.get("/api/v1/refusals?limit=2&order=oldest").await.json();
    let reasons = |page: &Value| page["items"].as_array().unwrap().iter().map(|item| item["reason"].clone()).collect();
    let told: Vec<Value> = reasons(&first);
    assert_eq!(told, ["too_large", "malformed"]);
    let next = first["next"].as_str().unwrap();
    let last = gateway.get(&format!("/api/v1/refusals?limit=2&order=oldest&cursor={next}")).await.json();
    assert_eq!((last["items"].as_array().unwrap().len(), &last["next"]), (1, &Value::Null));
    for wrong in ["reason=rude", "status=dead", "limit=0", "order=any", "cursor=x", "since=never", "source=a&source=b"]
    {
        gateway.get(&format!("/api/v1/refusals?{wrong}")).await.problem(400);
    }
}

#[tokio::test]
async fn one_is_shown_with_all_that_was_kept() {
    let gateway = Gateway::start().await;
    gateway.refusals.note(Refused { body_bytes: Some(99), ..refused(Why::TooLarge, 0, "a beginning") });
    let id = only_one(&gateway, "").await;
    let shown = gateway.get(&format!("/api/v1/refusals/{id}")).await.json();
    let expected = json!({
        "id": id, "at": "2023-11-14T22:13:20.000Z", "source": "flyflow", "reason": "too_large",
        "detail": "it was not as it should be", "duplicate_of": null, "peer": "192.0.2.1:4000", "body_bytes": 99,
        "body_kept_bytes": 11, "whole": false, "event": null, "headers": [["x-raw", { "base64": "/w==" }]],
        "body": "a beginning"
    });
    assert_eq!(shown, expected);
    gateway.get("/api/v1/refusals/ref_00000000000000000000000000").await.problem(404);
    gateway.get("/api/v1/refusals/evt_00000000000000000000000000").await.problem(404);
}

#[tokio::test]
async fn what_is_put_right_is_taken_in_once() {
    let gateway = Gateway::start().await;
    gateway.refusals.note(refused(Why::TooLarge, 0, CALL));
    let id = only_one(&gateway, "").await;
    let path = format!("/api/v1/refusals/{id}/ingest");
    let taken = gateway.post(&path, &json!({})).await;
    assert_eq!(taken.status, 202);
    let event = taken.json()["event"].as_str().unwrap().to_owned();
    let shown = gateway.get(&format!("/api/v1/events/{event}")).await.json();
    assert_eq!((&shown["type"], &shown["source"]), (&json!("healthy"), &json!("flyflow")));
    assert_eq!(shown["headers"], json!([["x-raw", { "base64": "/w==" }]]));
    assert_eq!(shown["deliveries"][0]["endpoint"], "healthy");
    assert_eq!(list(&gateway, "").await[0]["event"], event.as_str());
    let again = gateway.post(&path, &json!({})).await.problem(409);
    assert!(again.contains(&event), "{again}");
    let forced = gateway.post(&path, &json!({ "force": true })).await.json();
    assert_ne!(forced["event"], event.as_str());
    gateway.get(&format!("/api/v1/events/{}", forced["event"].as_str().unwrap())).await.json();
}

#[tokio::test]
async fn what_is_still_wrong_is_said() {
    let gateway = Gateway::start().await;
    let refuse = async |refused: Refused| {
        gateway.refusals.note(refused);
        let id = list(&gateway, "limit=1").await[0]["id"].as_str().unwrap().to_owned();
        format!("/api/v1/refusals/{id}/ingest")
    };
    let told = async |path: &str, status: u16| gateway.post(path, &json!({})).await.problem(status);
    let strict = refuse(refused(Why::Malformed, 0, "no JSON")).await;
    assert!(told(&strict, 422).await.contains("not JSON"));
    let long = format!("{{\"event_type\":\"healthy\",\"pad\":\"{}\"}}", "x".repeat(1000));
    let large = refuse(refused(Why::TooLarge, 1, &long)).await;
    assert!(told(&large, 422).await.contains("more than the 1000 bytes"));
    let gone = refuse(Refused { source: name("gone"), ..refused(Why::Malformed, 2, CALL) }).await;
    assert!(told(&gone, 422).await.contains("no source `gone`"));
    let cut = refuse(Refused { body_bytes: None, ..refused(Why::TooLarge, 3, CALL) }).await;
    assert!(told(&cut, 422).await.contains("only its beginning"));
    // The same event twice: once it is in, the other is a duplicate, and is taken by force only.
    let one = refuse(refused(Why::TooLarge, 4, CALL)).await;
    let other = refuse(refused(Why::TooLarge, 5, CALL)).await;
    assert_eq!(gateway.post(&one, &json!({})).await.status, 202);
    assert!(told(&other, 409).await.contains("there already, as evt_"));
    assert_eq!(gateway.post(&other, &json!({ "force": true })).await.status, 202);
    gateway.post("/api/v1/refusals/ref_00000000000000000000000000/ingest", &json!({})).await.problem(404);
    gateway.post(&one, &json!({ "farce": true })).await.problem(400);
    gateway.get(&one).await.problem(405);
}
