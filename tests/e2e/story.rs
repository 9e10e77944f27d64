//! The story of the README, by the verbs: a call comes in, one endpoint fails, is repaired, gets its replay.

use serde_json::{Value, json};

use crate::events::{CALL, CALL_ENDED, CALL_STARTED, TOOL_CALL, call_ended, delivery};
use crate::place::{Gateway, Place, attempts};
use crate::sink::{BROKEN, MUCH_LATER, OK, Sink};

/// Two endpoints; `billing` gives up after two attempts.
fn config(crm: &Sink, billing: &Sink) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{}"
        [endpoints.billing]
        url = "{}"
        retry = {{ initial = "10ms", attempts_max = 2 }}
        breaker = "off"
        [[routes]]
        types = ["call_*", "tool_call"]
        endpoints = ["crm", "billing"]
        "#,
        crm.url(),
        billing.url()
    )
}

/// The ids of a list's items.
fn ids(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// A gateway on which a call's events have failed at `billing`; with the events' ids.
fn failed_call(place: &Place) -> (Gateway, [String; 3]) {
    let gateway = place.serve();
    let events = CALL.map(|event| gateway.accept(event));
    gateway.until_count("billing", "failed", 3);
    gateway.until_count("crm", "delivered", 3);
    (gateway, events)
}

#[test]
fn a_call_fails_is_listed_replayed_and_delivered() {
    let (crm, billing) = (Sink::answering(OK), Sink::answering(BROKEN));
    let place = Place::new(&config(&crm, &billing));
    let (gateway, events) = failed_call(&place);

    let table = gateway.verb(["failed"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("DELIVERY "), "{table}");
    assert_eq!(lines.len(), 4, "{table}");
    for (line, event) in lines[1..].iter().zip(events.iter().rev()) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells[0], delivery(event, 1), "newest first");
        assert_eq!(cells[1], "billing");
        assert_eq!(cells[3..8], ["abc123", "dead", "attempts_exhausted", "2", "500"]);
    }
    let list = gateway.verb(["failed", "--type", "tool_call", "--output", "json"]).json();
    let [item] = list["items"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!(item["event"]["id"], events[1]);
    assert_eq!((&item["status"], &item["reason"]), (&json!("dead"), &json!("attempts_exhausted")));

    let story = gateway.verb(["event", &events[1]]).ok();
    for piece in ["tool_call", "abc123", "crm  delivered (acknowledged)", "billing  dead (attempts_exhausted)"] {
        assert!(story.contains(piece), "{piece}: {story}");
    }
    assert!(story.contains("#2 retryable after ") && story.contains(": 500  seen"), "{story}");
    assert_eq!(gateway.verb(["event", &events[1], "--body"]).ok(), TOOL_CALL);

    billing.answer(OK);
    let replayed = gateway.verb(["replay", "--endpoint", "billing"]).ok();
    assert!(
        replayed.starts_with("rpl_")
            && replayed.ends_with(" completed: 3 selected, 3 queued, 0 skipped; 3 delivered\n")
    );
    gateway.until_count("billing", "delivered", 3);
    assert_eq!(gateway.verb(["failed"]).ok(), "");
    let (seen, replays) = (billing.posts(), gateway.verb(["replays", "--output", "json"]).json());
    assert_eq!(seen.len(), 9);
    for (body, event) in CALL.iter().zip(&events) {
        let post = seen[6..].iter().find(|post| post.id() == event).unwrap();
        assert_eq!(post.body, *body, "byte for byte, under the id of the first time");
        assert_eq!(post.header("backstop-replay"), replays["items"][0]["id"].as_str());
    }
    assert!(gateway.verb(["replays"]).ok().contains(" completed "));
    let audit = gateway.verb(["audit"]).ok();
    assert!(audit.contains("\n3 events, 9 deliveries, ") && audit.ends_with(" records: nothing differs\n"), "{audit}");
    gateway.stop();
    assert_eq!(place.run(["audit", "--offline", "--output", "json"]).json()["deliveries"], 9);
}

#[test]
fn totals_and_endpoints_are_shown() {
    let (crm, billing) = (Sink::answering(OK), Sink::answering(BROKEN));
    let place = Place::new(&config(&crm, &billing));
    let (gateway, _) = failed_call(&place);
    gateway.accept(CALL_STARTED);
    gateway.accept("no JSON");
    let counters = gateway.verb(["counters"]).ok();
    assert!(counters.starts_with("4 events accepted, 1 of them unrouted; 0 attempts in flight\n"), "{counters}");
    assert!(counters.contains(": 1 duplicate\n"), "{counters}");
    let row = |text: &str, name: &str| -> Vec<String> {
        let row = text.lines().find(|line| line.starts_with(name)).unwrap();
        row.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row(&counters, "billing"), ["billing", "3", "0", "6", "0", "0", "0", "3", "3", "0", "0"]);
    assert_eq!(row(&counters, "crm"), ["crm", "3", "0", "3", "0", "0", "3", "0", "0", "0", "0"]);
    let endpoints = gateway.verb(["endpoints"]).ok();
    assert_eq!(row(&endpoints, "crm")[1..4], ["ok", "-", "0"]);
    assert_eq!(row(&endpoints, "crm")[5..], ["0", "0"]);
    assert_eq!(row(&endpoints, "billing").last().unwrap(), "3");
    let one = gateway.verb(["endpoints", "billing"]).ok();
    assert_eq!(row(&one, "url"), ["url", &*billing.url()]);
    assert_eq!(row(&one, "breaker"), ["breaker", "off"]);
    assert!(gateway.verb(["endpoints", "nowhere"]).failed(4).contains("has such an endpoint"));
    let unrouted = gateway.verb(["events", "--unrouted", "--output", "json"]).json();
    assert_eq!(unrouted["items"].as_array().unwrap().len(), 1);
    let to_crm = gateway.verb(["replay", "--unrouted", "--to", "crm"]).ok();
    assert!(to_crm.ends_with(" completed: 1 selected, 1 queued, 0 skipped; 1 delivered\n"), "{to_crm}");
    assert_eq!(crm.wait_for(4)[3].body, "no JSON");
}

#[test]
fn a_waiting_delivery_is_cancelled_and_a_list_goes_on_where_it_ended() {
    let (crm, billing) = (Sink::answering(MUCH_LATER), Sink::answering(OK));
    let place = Place::new(&config(&crm, &billing));
    let gateway = place.serve();
    let events: Vec<String> = (0..3).map(|number| gateway.accept(&call_ended(number))).collect();
    gateway.until_count("billing", "delivered", 3);
    crm.wait_for(1);
    gateway.until("counters", |counters| counters["in_flight"] == 0);

    let page = gateway.verb(["events", "--limit", "2", "--oldest", "--output", "json"]).json();
    assert_eq!(ids(&page), events[..2]);
    let next = page["next"].as_str().unwrap();
    let rest = gateway.verb(["events", "--limit", "2", "--oldest", "--cursor", next, "--output", "json"]).json();
    assert_eq!(ids(&rest), events[2..]);
    let shown = gateway.verb(["events", "--limit", "2", "--oldest"]);
    assert!(shown.err.contains(&format!("--cursor {next}")), "{shown:?}");

    let delivery = delivery(&events[2], 0);
    assert_eq!(gateway.verb(["cancel", &delivery]).ok(), format!("{delivery} cancelled\n"));
    assert!(gateway.verb(["cancel", &delivery]).failed(4).contains("it has ended already"));
    assert!(gateway.verb(["replay", &events[0], "--to", "crm"]).failed(4).contains("is waiting already"));
    let cancelled = gateway.verb(["failed", "--status", "cancelled", "--output", "json"]).json();
    assert_eq!(ids(&cancelled), [delivery]);
    gateway.verb(["audit"]).ok();
}

#[test]
fn every_attempt_leaves_one_line_in_the_log() {
    let (crm, billing) = (Sink::answering(OK), Sink::answering(BROKEN));
    let place = Place::new(&config(&crm, &billing));
    let (gateway, events) = failed_call(&place);
    let log = gateway.stop();
    let lines = attempts(&log);
    assert_eq!(lines.len(), crm.posts().len() + billing.posts().len());
    assert_eq!(lines.len(), 9);
    let of = |delivery: String| lines.iter().filter(move |line| line["delivery"] == delivery.as_str());
    let delivered: Vec<_> = of(delivery(&events[2], 0)).collect();
    let [line] = delivered.as_slice() else { panic!("{delivered:#?}") };
    for (field, value) in [
        ("level", json!("INFO")),
        ("endpoint", json!("crm")),
        ("source", json!("flyflow")),
        ("event_type", json!("call_ended")),
        ("key", json!("abc123")),
        ("body_bytes", json!(CALL_ENDED.len())),
        ("attempt", json!(1)),
        ("status", json!(200)),
        ("outcome", json!("delivered")),
        ("next", json!("delivered")),
        ("reason", json!("acknowledged")),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(line["took_ms"].is_u64(), "{line}");
    let failed: Vec<_> = of(delivery(&events[2], 1)).collect();
    let [first, second] = failed.as_slice() else { panic!("{failed:#?}") };
    assert_eq!((&first["attempt"], &second["attempt"]), (&json!(1), &json!(2)));
    assert_eq!((&first["next"], &first["reason"]), (&json!("retry"), &json!("backoff")));
    assert!(first["due"].is_string(), "{first}");
    assert_eq!((&second["next"], &second["reason"]), (&json!("dead"), &json!("attempts_exhausted")));
    assert_eq!((&second["status"], &second["outcome"]), (&json!(500), &json!("retryable")));
}
