//! Many deliveries taken back at once, by a filter.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::gateway::{Gateway, TOKEN, delivery};

const PATH: &str = "/api/v1/deliveries/cancel";

#[tokio::test]
async fn what_waits_and_fits_is_cancelled_and_the_rest_is_left_alone() {
    let gateway = Gateway::start().await;
    gateway.post("/api/v1/endpoints/healthy/pause", &json!({})).await;
    for key in ["a", "b", "c"] {
        gateway.accept("healthy", key).await;
    }
    gateway.pass(Duration::from_secs(3600));
    let late = gateway.accept("fan", "d").await;
    gateway.until_count("flaky", "retrying", 1).await;

    let cancel = async |filter: Value| gateway.post(PATH, &json!({ "filter": filter })).await;
    let done = cancel(json!({ "endpoint": "healthy", "key": "a" })).await;
    assert_eq!((done.status, done.json()), (200, json!({ "cancelled": 1, "in_flight": 0 })));
    let before = cancel(json!({ "type": ["heal*"], "until": "30m" })).await.json();
    assert_eq!(before, json!({ "cancelled": 2, "in_flight": 0 }));
    let retrying = cancel(json!({ "status": ["retrying"] })).await.json();
    assert_eq!(retrying, json!({ "cancelled": 1, "in_flight": 0 }));
    let left = gateway.get(&format!("/api/v1/events/{late}")).await.json();
    let status = |slot: usize| left["deliveries"][slot]["status"].as_str().unwrap();
    assert_eq!([status(0), status(1), status(2)], ["scheduled", "dead", "cancelled"]);
    assert_eq!(left["deliveries"][2]["reason"], "operator");
    assert_eq!(cancel(json!({ "endpoint": "healthy" })).await.json()["cancelled"], 1);
    assert_eq!(cancel(json!({ "endpoint": "healthy" })).await.json()["cancelled"], 0);
    assert_eq!(gateway.get("/api/v1/audit").await.json()["ok"], true);
}

#[tokio::test]
async fn what_is_on_its_way_is_counted_and_goes_on() {
    let gateway = Gateway::fragile(100, 100).await;
    let mut events = Vec::new();
    for _ in 0..7 {
        events.push(gateway.accept("slow", "k").await);
    }
    gateway.until_waits(&events[4], "window").await;
    let done = gateway.post(PATH, &json!({ "filter": { "endpoint": "slow" } })).await;
    assert_eq!(done.json(), json!({ "cancelled": 3, "in_flight": 4 }));
    gateway.slow.add_permits(4);
    gateway.until_count("slow", "delivered", 4).await;
    assert_eq!(gateway.get("/api/v1/audit").await.json()["ok"], true);
}

#[tokio::test]
async fn a_waiting_delivery_that_a_later_one_took_the_place_of_is_meant_too() {
    let gateway = Gateway::start().await;
    let event = gateway.tried("flaky", "k").await;
    let again = gateway.post(&format!("/api/v1/events/{event}/replay"), &json!({ "force": true })).await;
    assert_eq!(again.status, 202);
    let done = gateway.post(PATH, &json!({ "filter": { "endpoint": "flaky" } })).await;
    assert_eq!(done.json()["cancelled"].as_u64().unwrap() + done.json()["in_flight"].as_u64().unwrap(), 2);
}

#[tokio::test]
async fn a_filter_that_means_everything_or_nothing_is_refused() {
    let gateway = Gateway::start().await;
    let event = gateway.tried("flaky", "k").await;
    for body in ["", "{}", "{\"filter\": {}}", "{\"filter\": {\"include_superseded\": true}}"] {
        let detail = gateway.ask("POST", PATH, body.as_bytes()).await.problem(422);
        assert!(detail.contains("say what is meant"), "{detail}");
    }
    for (filter, parameter) in [
        (json!({ "unrouted": true }), "unrouted"),
        (json!({ "status": ["dead"] }), "status"),
        (json!({ "status": ["scheduled", "failed"] }), "status"),
        (json!({ "endpoint": "No Name" }), "endpoint"),
    ] {
        let got = gateway.post(PATH, &json!({ "filter": filter })).await;
        got.problem(400);
        assert_eq!(got.json()["parameter"], parameter);
    }
    for body in [json!({ "endpoint": "flaky" }), json!({ "filter": [] }), json!({ "filter": { "endpiont": "x" } })] {
        gateway.post(PATH, &body).await.problem(400);
    }
    let got = gateway.ask("PUT", PATH, b"").await;
    got.problem(405);
    assert_eq!(got.header("allow"), Some("POST"));
    assert_eq!(gateway.get(PATH).await.header("allow"), Some("POST"));
    let left = gateway.get(&format!("/api/v1/deliveries/{}", delivery(&event, 0))).await.json();
    assert_eq!(left["status"], "retrying");
}

#[tokio::test]
async fn more_than_a_page_is_cancelled_even_if_the_asker_hangs_up() {
    const EVENTS: usize = 2100;
    let gateway = Gateway::fragile(100, 100).await;
    gateway.post("/api/v1/endpoints/healthy/pause", &json!({})).await;
    for _ in 0..EVENTS {
        gateway.accept("healthy", "k").await;
    }
    let mut stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let body = json!({ "filter": { "endpoint": "healthy" } }).to_string();
    let length = body.len();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // Not before it has begun, or the request may never have been read.
    let begun = |counters: &Value| counters["endpoints"]["healthy"]["cancelled"] != 0;
    gateway.until("/api/v1/counters", begun).await;
    drop(stream);
    gateway.until_count("healthy", "cancelled", EVENTS).await;
    assert_eq!(gateway.get("/api/v1/audit").await.json()["ok"], true);
}
