//! Calls, by the verbs: a call's timeline, one that never ended, and what failed alike replayed as one.

use serde_json::{Value, json};

use crate::events::{CALL, CALL_ENDED, CALL_STARTED, call_ended};
use crate::http;
use crate::place::{Gateway, Place};
use crate::sink::{BROKEN, OK, Sink};

/// Calls go to `crm`; who wants to know what happens here is `ops`. A call that takes longer than this never ends.
fn place(crm: &str, ops: &str, timeout: &str) -> Place {
    Place::new(&format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        lifecycle = {{ start = "call_started", end = "call_ended", timeout = "{timeout}" }}
        [endpoints.crm]
        url = "{crm}"
        retry = {{ attempts_max = 1 }}
        breaker = "off"
        [endpoints.ops]
        url = "{ops}"
        [[routes]]
        endpoints = ["crm"]
        [[routes]]
        source = "backstop"
        endpoints = ["ops"]
        "#
    ))
}

/// A table's cells, without its header and the notes below rows.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).filter(|line| !line.starts_with(' ')).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn a_call_is_told_in_order_whatever_order_it_came_in() {
    let sink = Sink::answering(OK);
    let place = place(&sink.url(), &sink.url(), "2h");
    let gateway = place.serve();
    for body in CALL.iter().rev() {
        gateway.accept(body);
    }
    gateway.until("keys/abc123", |call| call["complete"] == true);
    let told = gateway.verb(["call", "abc123"]).ok();
    let (head, timeline) = told.split_once("\n\n").unwrap();
    let expected = "call         abc123\ncomplete     yes\n\
                    events       3, from 2023-06-08T10:29:00.000Z to 2023-06-08T10:31:00.000Z\ncrm          3 delivered";
    assert_eq!(head, expected);
    let types: Vec<&str> = rows(timeline).iter().map(|row| row[1]).collect();
    assert_eq!(types, ["call_started", "tool_call", "call_ended"]);
    assert_eq!(timeline.matches("\n  crm: delivered (acknowledged), 1 try, last 200").count(), 3, "{timeline}");
    let paged = gateway.verb(["call", "abc123", "--limit", "2", "--output", "json"]).json();
    assert_eq!((paged["items"].as_array().map(Vec::len), paged["next"].is_string()), (Some(2), true));
    assert!(gateway.verb(["call", "nobody"]).failed(4).contains("no event has this key"));
    assert!(gateway.verb(["gaps"]).err.contains("no call has a gap"));
}

#[test]
fn a_call_that_never_ended_is_listed_and_told_until_it_ends() {
    let (sink, ops) = (Sink::answering(OK), Sink::answering(OK));
    let place = place(&sink.url(), &ops.url(), "1ms");
    let gateway = place.serve();
    let started = gateway.accept(CALL_STARTED);
    let gaps = gateway.until("gaps?kind=never_ended", |gaps| gaps["items"] != json!([]));
    let alert = gaps["items"][0]["alert"].as_str().unwrap().to_owned();
    gateway.until(&format!("events/{alert}"), |alert| alert["deliveries"][0]["status"] == "delivered");
    let posts = ops.posts();
    let told: Value = serde_json::from_str(&posts[0].body).unwrap();
    assert_eq!(
        (posts.len(), &told["type"], &told["reason"]),
        (1, &json!("backstop.call.incomplete"), &json!("never_ended"))
    );
    assert_eq!((&told["key"], &told["event"]), (&json!("abc123"), &json!(started)));
    assert_eq!(sink.posts().len(), 1, "a route for every source takes no alerts");
    gateway.kill();

    let gateway = place.serve();
    let table = gateway.verb(["gaps"]).ok();
    assert_eq!(rows(&table)[0][..3], ["abc123", "flyflow", "never_ended"], "{table}");
    assert!(gateway.verb(["call", "abc123"]).ok().contains("missing      its end: no call_ended of flyflow"));
    gateway.accept(CALL_ENDED);
    assert_eq!(gateway.verb(["gaps", "--output", "json"]).json()["items"], json!([]));
    let answer = http::ask(&gateway.ingest, "POST", "/in/backstop", "", b"{}").unwrap();
    assert_eq!(answer.status, 404, "nobody can send as the gateway");
}

#[test]
fn what_failed_alike_is_replayed_as_one() {
    let (sink, ops) = (Sink::answering(BROKEN), Sink::answering(OK));
    let place = place(&sink.url(), &ops.url(), "2h");
    let gateway = place.serve();
    for number in 0..3 {
        gateway.accept(&call_ended(number));
    }
    gateway.until_count("crm", "failed", 3);
    let table = gateway.verb(["failures"]).ok();
    let row = &rows(&table)[0];
    assert_eq!(row[1..5], ["crm", "500", "3", "3"], "{table}");
    let group = row[0].to_owned();
    sink.answer(OK);
    gateway.verb(["replay", "--group", &group]).ok();
    gateway.until_count("crm", "failed", 0);
    all_delivered(&gateway);
    assert!(gateway.verb(["failures"]).err.contains("nothing has failed"));
}

fn all_delivered(gateway: &Gateway) {
    let tally = gateway.until_count("crm", "delivered", 3)["endpoints"]["crm"].clone();
    assert_eq!((&tally["dead"], &tally["replayed"]), (&json!(3), &json!(3)));
}
