//! Failure groups: what failed alike is one, is listed and replayed as one.

use serde_json::{Value, json};

use crate::gateway::{Gateway, delivery, ids};

fn group<'a>(failures: &'a Value, endpoint: &str) -> &'a Value {
    failures["items"].as_array().unwrap().iter().find(|group| group["endpoint"] == endpoint).unwrap()
}

#[tokio::test]
async fn what_failed_alike_is_one_group_with_a_sample() {
    let gateway = Gateway::start().await;
    assert_eq!(
        gateway.get("/api/v1/failures").await.json(),
        json!({ "items": [], "deliveries": 0, "groups": 0, "other": 0 })
    );
    let first = gateway.tried("fan", "call-1").await;
    gateway.pass(std::time::Duration::from_secs(1));
    let second = gateway.tried("picky", "call-2").await;
    let failures = gateway.get("/api/v1/failures").await.json();
    assert_eq!((&failures["deliveries"], &failures["groups"], &failures["other"]), (&json!(3), &json!(2), &json!(0)));
    let picky = group(&failures, "picky");
    assert_eq!(failures["items"][0], *picky, "the largest first");
    let expected = json!({
        "id": picky["id"], "endpoint": "picky", "class": "status", "status": 400, "count": 2, "dead": 2,
        "first_at": "2023-11-14T22:13:20.000Z", "last_at": "2023-11-14T22:13:21.000Z",
        "sample": {
            "delivery": delivery(&second, 0), "event": second, "type": "picky", "key": "call-2", "text": "\u{fffd}\0no",
        },
    });
    assert_eq!(*picky, expected);
    let flaky = group(&failures, "flaky");
    assert_eq!((&flaky["class"], &flaky["status"]), (&json!("refused"), &Value::Null));
    assert_eq!((&flaky["count"], &flaky["dead"]), (&json!(1), &json!(0)));
    assert_eq!((&flaky["sample"]["text"], &flaky["sample"]["event"]), (&json!("nobody listens"), &json!(first)));
}

#[tokio::test]
async fn groups_are_of_what_is_asked_for() {
    let gateway = Gateway::start().await;
    gateway.tried("fan", "call-1").await;
    gateway.tried("healthy", "call-1").await;
    let fitting = [
        ("endpoint=picky", 1, 0),
        ("status=retrying", 1, 0),
        ("status=dead,retrying", 2, 0),
        ("key=call-2", 0, 0),
        ("since=1h&type=fan", 2, 0),
        ("limit=1", 1, 1),
    ];
    for (query, items, other) in fitting {
        let got = gateway.get(&format!("/api/v1/failures?{query}")).await.json();
        assert_eq!(got["items"].as_array().map(Vec::len), Some(items), "{query}: {got}");
        assert_eq!(got["other"], other, "{query}");
    }
    for (query, wrong) in [
        ("status=delivered", "status"),
        ("cursor=x", "cursor"),
        ("order=oldest", "order"),
        ("limit=0", "limit"),
        ("unrouted=true", "unrouted"),
    ] {
        let got = gateway.get(&format!("/api/v1/failures?{query}")).await;
        assert_eq!(got.json()["parameter"], wrong, "{query}");
        got.problem(400);
    }
}

#[tokio::test]
async fn a_group_is_a_filter_of_lists_and_replays() {
    let gateway = Gateway::start().await;
    let first = gateway.tried("fan", "call-1").await;
    let second = gateway.tried("picky", "call-2").await;
    let failures = gateway.get("/api/v1/failures").await.json();
    let [picky, flaky] = ["picky", "flaky"].map(|endpoint| group(&failures, endpoint)["id"].as_str().unwrap());
    let of = |group: &str| format!("/api/v1/deliveries?group={group}");
    let listed = gateway.get(&of(picky)).await.json();
    assert_eq!(ids(&listed), [delivery(&second, 0), delivery(&first, 1)]);
    assert_eq!(listed["items"][0]["group"], picky);
    assert_eq!(ids(&gateway.get(&of(flaky)).await.json()), [delivery(&first, 2)], "what is retried has failed, too");
    assert_eq!(ids(&gateway.get(&format!("{}&status=dead", of(flaky))).await.json()).len(), 0);
    assert_eq!(ids(&gateway.get(&format!("/api/v1/events?group={flaky}")).await.json()), [first.as_str()]);
    let wrong = gateway.get(&of("flg_1")).await;
    assert_eq!(wrong.json()["parameter"], "group");

    gateway.pass(std::time::Duration::from_secs(1));
    let opened = gateway.post("/api/v1/replays", &json!({ "filter": { "group": picky } })).await;
    assert_eq!((opened.status, &opened.json()["filter"]["group"]), (202, &json!(picky)));
    let path = format!("/api/v1/replays/{}", opened.json()["id"].as_str().unwrap());
    let done = gateway.until(&path, |replay| replay["state"] == "completed").await;
    assert_eq!((&done["selected"], &done["queued"]), (&json!(2), &json!(2)));
    gateway.until_count("picky", "dead", 4).await;
    let after = gateway.get("/api/v1/failures").await.json();
    assert_eq!(group(&after, "picky")["count"], 2, "what a replay took the place of is not counted");
}
