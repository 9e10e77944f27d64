//! Gaps: calls of which something is missing, as a list, a metric, and in the call's own timeline.

use std::sync::Arc;
use std::time::Duration;

use backstop::core::event::Event;
use backstop::core::id::EventId;
use backstop::core::timestamp::Timestamp;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{Change, Journal as _};
use serde_json::{Value, json};

use crate::gateway::{Gateway, NOW, draft, name};

const HOUR: Duration = Duration::from_secs(3600);

fn brief(gaps: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    gaps["items"].as_array().unwrap().iter().map(|gap| (text(&gap["kind"]), text(&gap["key"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(kind, key)| ((*kind).to_owned(), (*key).to_owned())).collect()
}

#[tokio::test]
async fn a_call_that_never_ended_is_listed_until_it_ends() {
    let gateway = Gateway::watching(MemoryJournal::default()).await;
    let started = gateway.accept("call_started", "call-1").await;
    let open = gateway.get("/api/v1/keys/call-1").await.json();
    let missing = json!([{ "source": "flyflow", "part": "end", "type": "call_ended" }]);
    assert_eq!((&open["missing"], &open["complete"]), (&missing, &json!(false)));
    assert_eq!(gateway.get("/api/v1/gaps").await.json(), json!({ "items": [], "other": 0, "next": null }));
    gateway.pass(HOUR);
    gateway.accept("tool_call", "call-2").await;
    let gaps = gateway.until("/api/v1/gaps", |gaps| gaps["items"] != json!([])).await;
    let gap = &gaps["items"][0];
    let expected = json!({
        "kind": "never_ended", "source": "flyflow", "key": "call-1", "since": "2023-11-14T22:13:20.000Z",
        "event": started, "type": "call_started", "endpoints": [], "deliveries": 0, "alert": gap["alert"],
    });
    assert_eq!(*gap, expected);
    let alert = gateway.get(&format!("/api/v1/events/{}", gap["alert"].as_str().unwrap())).await.json();
    assert_eq!((&alert["source"], &alert["type"]), (&json!("backstop"), &json!("backstop.call.incomplete")));
    let metric = "backstop_calls_incomplete{source=\"flyflow\",kind=\"never_ended\"} 1.0";
    loop {
        let scraped = String::from_utf8(gateway.get("/metrics").await.body).unwrap();
        assert!(scraped.contains("backstop_endpoint_in_flight{endpoint=\"healthy\"}"), "{scraped}");
        if scraped.contains(metric) {
            assert!(scraped.contains("backstop_calls_unwatched_total{source=\"flyflow\"} 0"), "{scraped}");
            break;
        }
    }
    gateway.accept("call_ended", "call-1").await;
    assert_eq!(brief(&gateway.get("/api/v1/gaps").await.json()), [], "at once");
    let whole = gateway.get("/api/v1/keys/call-1").await.json();
    assert_eq!((&whole["missing"], &whole["complete"]), (&json!([]), &json!(true)));
}

#[tokio::test]
async fn gaps_are_of_what_is_asked_for_and_come_in_pages() {
    let gateway = Gateway::watching(MemoryJournal::default()).await;
    for key in ["a", "b", "c"] {
        gateway.accept("call_ended", key).await;
    }
    gateway.pass(HOUR);
    gateway.tried("fan", "d").await;
    gateway.tried("picky", "d").await;
    gateway.tried("healthy", "e").await;
    let three = |gaps: &Value| gaps["items"].as_array().map(Vec::len) == Some(3);
    gateway.until("/api/v1/gaps?kind=ended_without_start", three).await;
    let all = gateway.get("/api/v1/gaps").await.json();
    let lost = "ended_without_start";
    assert_eq!(brief(&all)[0], ("undelivered".to_owned(), "d".to_owned()), "the undelivered first");
    let mut rest = brief(&all)[1..].to_vec();
    rest.sort();
    assert_eq!(rest, pairs(&[(lost, "a"), (lost, "b"), (lost, "c")]));
    let call = &all["items"][0];
    assert_eq!((&call["deliveries"], &call["type"]), (&json!(3), &json!("picky")));
    let mut places: Vec<&str> = call["endpoints"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    places.sort_unstable();
    assert_eq!(places, ["flaky", "picky"]);

    assert_eq!(brief(&gateway.get("/api/v1/gaps?kind=undelivered").await.json()), pairs(&[("undelivered", "d")]));
    assert_eq!(brief(&gateway.get("/api/v1/gaps?kind=never_ended").await.json()), []);
    assert_eq!(brief(&gateway.get("/api/v1/gaps?source=other").await.json()), []);
    let (mut found, mut path) = (Vec::new(), "/api/v1/gaps?kind=ended_without_start&limit=2".to_owned());
    loop {
        let page = gateway.get(&path).await.json();
        found.extend(brief(&page).into_iter().map(|(_, key)| key));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/gaps?kind=ended_without_start&limit=2&cursor={next}");
    }
    found.sort();
    assert_eq!(found, ["a", "b", "c"]);
    for (query, wrong) in [("kind=odd", "kind"), ("kind=undelivered&kind=undelivered", "kind"), ("key=a", "key")] {
        let got = gateway.get(&format!("/api/v1/gaps?{query}")).await;
        assert_eq!(got.json()["parameter"], wrong, "{query}");
        got.problem(400);
    }
}

#[tokio::test]
async fn undelivered_calls_beyond_the_limit_are_counted() {
    let gateway = Gateway::watching(MemoryJournal::default()).await;
    for key in ["a", "b", "c"] {
        gateway.tried("picky", key).await;
    }
    let gaps = gateway.get("/api/v1/gaps?limit=2").await.json();
    assert_eq!((brief(&gaps), &gaps["other"]), (pairs(&[("undelivered", "c"), ("undelivered", "b")]), &json!(1)));
}

#[tokio::test]
async fn a_call_that_waits_for_an_endpoint_that_is_no_more_is_undelivered() {
    let journal = MemoryJournal::default();
    let received_at = Timestamp::from_millis(NOW);
    let mut parked = draft("tool_call", "call-1", "{}");
    parked.endpoints = vec![name("former"), name("healthy")];
    let event = Event { id: EventId::floor(received_at), received_at, draft: parked };
    journal.commit(&[Change::Accept(Arc::new(event))]).unwrap();
    let gateway = Gateway::watching(journal).await;
    let gaps = gateway.get("/api/v1/gaps?kind=undelivered").await.json();
    let gap = &gaps["items"][0];
    assert_eq!((&gap["key"], &gap["endpoints"], &gap["deliveries"]), (&json!("call-1"), &json!(["former"]), &json!(1)));
}
