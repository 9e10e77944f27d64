//! A key's timeline: every event of a call in order of what happened, with where each got to.

use backstop::core::event::Draft;
use backstop::core::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::gateway::{Gateway, NOW, draft, ids, name};

/// Accepts an event that happened at `second`; its id.
async fn happened(gateway: &Gateway, event_type: &str, key: &str, second: Option<u64>) -> String {
    let occurred_at = second.map(|second| Timestamp::from_millis(NOW - 60_000 + second * 1000));
    let draft = Draft { occurred_at, ..draft(event_type, key, "{}") };
    gateway.engine.accept(draft).await.unwrap().id.to_string()
}

#[tokio::test]
async fn a_call_is_told_in_order_of_what_happened() {
    let gateway = Gateway::start().await;
    gateway.get("/api/v1/keys/call-1").await.problem(404);
    let ended = happened(&gateway, "healthy", "call-1", Some(30)).await;
    let silent = happened(&gateway, "nowhere", "call-1", None).await;
    let started = happened(&gateway, "fan", "call-1", Some(1)).await;
    happened(&gateway, "healthy", "call-2", Some(2)).await;
    let call = gateway.until("/api/v1/keys/call-1", |call| call["undelivered"] == 2).await;
    assert_eq!(ids(&call), [started.as_str(), &ended, &silent], "one that does not say when counts by its receipt");
    let endpoints = json!({
        "healthy": { "delivered": 2 }, "picky": { "dead": 1 }, "flaky": { "retrying": 1 },
    });
    assert_eq!((&call["key"], &call["events"], &call["complete"]), (&json!("call-1"), &json!(3), &json!(false)));
    assert_eq!((&call["endpoints"], &call["next"]), (&endpoints, &Value::Null));
    assert_eq!(call["first_at"], "2023-11-14T22:12:21.000Z");
    assert_eq!(call["last_at"], "2023-11-14T22:13:20.000Z");
    let deliveries = call["items"][0]["deliveries"].as_array().unwrap();
    let stand = |delivery: &Value| (delivery["endpoint"].clone(), delivery["status"].clone());
    assert_eq!(
        deliveries.iter().map(stand).collect::<Vec<_>>(),
        [("healthy", "delivered"), ("picky", "dead"), ("flaky", "retrying")].map(|(to, is)| (json!(to), json!(is)))
    );
    assert_eq!((&deliveries[1]["last_status"], &deliveries[1]["attempts_made"]), (&json!(400), &json!(1)));
    assert_eq!(deliveries[2]["waits_for"]["on"], "due");
    let whole = gateway.until("/api/v1/keys/call-2", |call| call["complete"] == true).await;
    assert_eq!(whole["undelivered"], 0);
}

#[tokio::test]
async fn a_long_call_comes_in_pages() {
    let gateway = Gateway::start().await;
    let mut expected = Vec::new();
    for second in [5, 3, 9, 3, 1, 7] {
        expected.push((second, happened(&gateway, "nowhere", "call-1", Some(second)).await));
    }
    expected.sort();
    let (mut found, mut path) = (Vec::new(), "/api/v1/keys/call-1?limit=4".to_owned());
    loop {
        let page = gateway.get(&path).await.json();
        assert_eq!(page["events"], 6, "of the whole call on each page");
        found.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/keys/call-1?limit=4&cursor={next}");
    }
    assert_eq!(found, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    for (query, wrong) in [("cursor=x", "cursor"), ("limit=0", "limit"), ("order=oldest", "order"), ("key=y", "key")] {
        let got = gateway.get(&format!("/api/v1/keys/call-1?{query}")).await;
        assert_eq!(got.json()["parameter"], wrong, "{query}");
        got.problem(400);
    }
}

#[tokio::test]
async fn a_key_is_any_text_and_sources_are_told_apart() {
    let gateway = Gateway::start().await;
    let long = "k".repeat(300);
    for (key, path) in [("a/b c", "a%2Fb%20c"), ("100%", "100%25"), ("größe", "gr%C3%B6%C3%9Fe"), ("a,b", "a,b")] {
        let id = happened(&gateway, "nowhere", key, Some(1)).await;
        let call = gateway.get(&format!("/api/v1/keys/{path}")).await.json();
        assert_eq!((&call["key"], ids(&call)), (&json!(key), vec![id]), "{key}");
    }
    let id = happened(&gateway, "nowhere", &"k".repeat(256), Some(1)).await;
    assert_eq!(ids(&gateway.get(&format!("/api/v1/keys/{long}")).await.json()), [id]);
    gateway.get("/api/v1/keys/%ff").await.problem(404);

    let mine = happened(&gateway, "nowhere", "shared", Some(1)).await;
    let other = Draft { source: name("other"), ..draft("nowhere", "shared", "{}") };
    let other = gateway.engine.accept(other).await.unwrap().id.to_string();
    assert_eq!(gateway.get("/api/v1/keys/shared").await.json()["events"], 2);
    assert_eq!(ids(&gateway.get("/api/v1/keys/shared?source=other").await.json()), [other]);
    assert_eq!(ids(&gateway.get("/api/v1/keys/shared?source=flyflow").await.json()), [mine]);
}
