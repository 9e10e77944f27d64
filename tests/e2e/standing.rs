//! How an endpoint stands: paused by an operator, down and back, as the verbs show it and across restarts.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::events::{CALL_ENDED, call_ended, delivery};
use crate::place::{Gateway, Place};
use crate::sink::{OK, Sink};

fn config(url: &str, lines: &str) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{url}"
        {lines}
        [[routes]]
        endpoints = ["crm"]
        "#
    )
}

/// The line of `crm` in the table of endpoints, by words, and the notes below it.
fn shown(gateway: &Gateway) -> (Vec<String>, String) {
    let table = gateway.verb(["endpoints"]).ok();
    let (_, below) = table.split_once('\n').unwrap();
    let (row, notes) = below.split_once('\n').unwrap();
    (row.split_whitespace().map(str::to_owned).collect(), notes.to_owned())
}

#[test]
fn a_paused_endpoint_stays_paused_over_a_restart_and_drains_when_it_is_resumed() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink.url(), ""));
    let gateway = place.serve();
    let paused = gateway.verb(["pause", "crm", "--note", "moving house"]).ok();
    assert!(paused.contains("crm ") && paused.contains("\n  paused by operator: moving house\n"), "{paused}");
    let events: Vec<String> = (0..3).map(|number| gateway.accept(&call_ended(number))).collect();
    gateway.kill();

    let gateway = place.serve();
    let (row, notes) = shown(&gateway);
    assert_eq!((&*row[1], &*row[5]), ("paused", "3"));
    assert_eq!(notes, "  paused by operator: moving house\n");
    let story = gateway.verb(["event", &events[0]]).ok();
    let line =
        format!("  waits for crm to be resumed, paused by an operator; since {}", event_time(&gateway, &events[0]));
    assert!(story.lines().any(|other| other == line), "{line} is not in\n{story}");
    let list = gateway.verb(["failed", "--status", "scheduled"]).ok();
    assert_eq!(list.matches("\n  waits for crm to be resumed").count(), 3, "{list}");
    assert_eq!(
        gateway.verb(["failed", "--status", "scheduled", "--output", "json"]).json()["items"][0]["waits_for"]["on"],
        "pause"
    );
    assert_eq!(sink.posts().len(), 0, "nothing went while it was paused");

    let resumed = gateway.verb(["resume", "crm", "--output", "json"]).json();
    assert_eq!((&resumed["name"], &resumed["pause"]), (&json!("crm"), &Value::Null));
    gateway.until_count("crm", "delivered", 3);
    assert_eq!(sink.posts().len(), 3);
    let log = gateway.stop();
    let told = |line: &&Value| line["message"] == "endpoint" && line["endpoint"] == "crm";
    assert!(log.iter().filter(told).all(|line| line["paused"] != "operator"), "the restart tells no news: {log:#?}");
}

/// When an event was received.
fn event_time(gateway: &Gateway, event: &str) -> String {
    gateway.get(&format!("events/{event}"))["received_at"].as_str().unwrap().to_owned()
}

#[test]
fn a_circuit_opens_is_shown_survives_a_kill_and_closes_when_the_endpoint_is_back() {
    // Nobody listens there; the port stays the test's.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let flow = "retry = { initial = \"10ms\", interval_max = \"50ms\", attempts_max = 4 }\n\
                breaker = { failures = 3, probe_initial = \"100ms\", probe_max = \"200ms\" }";
    let place = Place::new(&config(&format!("http://{address}/webhook"), flow));
    let gateway = place.serve();
    let event = gateway.accept(CALL_ENDED);
    let open = |endpoint: &Value| endpoint["circuit"]["state"] == "open" && endpoint["circuit"]["probes_failed"] != 0;
    let before = gateway.until("endpoints/crm", open)["circuit"].clone();
    assert_eq!((&before["cause"], &before["last_failure"]), (&json!("consecutive_failures"), &json!("refused")));
    gateway.kill();

    let gateway = place.serve();
    let after = gateway.get("endpoints/crm")["circuit"].clone();
    assert_eq!((&after["state"], &after["since"]), (&json!("open"), &before["since"]), "the outage goes on");
    let (row, notes) = shown(&gateway);
    assert_eq!((&*row[1], row[2].as_str(), &*row[5]), ("open", before["since"].as_str().unwrap(), "1"));
    assert!(notes.starts_with("  opened by consecutive failures, last refused; "), "{notes}");
    let path = format!("deliveries/{}", delivery(&event, 0));
    let waiting = gateway.until(&path, |delivery| delivery["waits_for"]["on"] == "circuit");
    assert_eq!(waiting["waits_for"]["cause"], "consecutive_failures");
    // Far more often than it may be tried, and still it is not given up: probes spend nothing.
    let probed = gateway.until(&path, |delivery| delivery["probes_failed"].as_u64() > Some(4));
    assert_eq!(probed["status"], "retrying");

    let sink = Sink::on(TcpListener::bind(address).unwrap(), OK);
    gateway.until(&path, |delivery| delivery["status"] == "delivered");
    assert_eq!(sink.wait_for(1)[0].id(), event);
    let story = gateway.verb(["event", &event]).ok();
    assert!(story.contains(" (probe) retryable after ") && story.contains(" (probe) delivered after "), "{story}");
    // One probe widens the ramp, the deliveries behind it close the circuit.
    (0..40).for_each(|number| drop(gateway.accept(&call_ended(number))));
    gateway.until("endpoints/crm", |endpoint| endpoint["circuit"]["state"] == "closed");
    gateway.until_count("crm", "delivered", 41);
    assert_eq!(shown(&gateway).0[1], "ok");
    let log = gateway.stop();
    let circuits: Vec<&str> =
        log.iter().filter(|line| line["message"] == "endpoint").map(|line| line["circuit"].as_str().unwrap()).collect();
    assert_eq!(circuits.first(), Some(&"open"), "{circuits:?}");
    assert_eq!(circuits.last(), Some(&"closed"), "{circuits:?}");
}

#[test]
fn what_waits_is_cancelled_by_filters() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink.url(), ""));
    let gateway = place.serve();
    gateway.verb(["pause", "crm"]).ok();
    (0..5).for_each(|number| drop(gateway.accept(&call_ended(number))));
    assert_eq!(gateway.verb(["cancel", "--endpoint", "crm", "--key", "call-3"]).ok(), "1 cancelled\n");
    let done = gateway.verb(["cancel", "--type", "call_*", "--since", "1h", "--output", "json"]).json();
    assert_eq!(done, json!({ "cancelled": 4, "in_flight": 0 }));
    gateway.verb(["resume", "crm"]).ok();
    let event = gateway.accept(CALL_ENDED);
    assert_eq!(sink.wait_for(1)[0].id(), event, "nothing of what was cancelled is sent");
    gateway.until_count("crm", "cancelled", 5);
    gateway.verb(["audit"]).ok();
}
