//! What has no place for now: deliveries whose endpoint the config lost, events that no route took.

use serde_json::Value;

use crate::events::{CALL_STARTED, call_ended, delivery};
use crate::place::Place;
use crate::sink::{OK, Sink};

fn config(endpoint: &str, sink: &Sink, types: &str) -> String {
    format!(
        r#"
        server.drain_timeout = "100ms"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.{endpoint}]
        url = "{}"
        [[routes]]
        types = [{types}]
        endpoints = ["{endpoint}"]
        "#,
        sink.url()
    )
}

#[test]
fn the_parked_are_listed_and_taken_back_and_the_unrouted_go_where_routes_send_them_now() {
    let (held, open) = (Sink::holding(), Sink::answering(OK));
    let place = Place::new(&config("crm", &held, r#""call_ended""#));
    let gateway = place.serve();
    let (parked, unrouted) = (gateway.accept(&call_ended(1)), gateway.accept(CALL_STARTED));
    let refused = gateway.verb(["replay", &unrouted]).failed(4);
    assert!(refused.contains("no route sends the event anywhere"), "{refused}");
    gateway.stop();

    place.configure(&config("billing", &open, r#""call_started""#));
    let gateway = place.serve();
    let list = gateway.verb(["failed", "--parked"]).ok();
    assert!(
        list.contains(&delivery(&parked, 0)) && list.contains("waits for crm to be in the config; since "),
        "{list}"
    );
    let others = gateway.verb(["failed", "--parked", "--endpoint", "billing", "--output", "json"]).json();
    assert_eq!(others["items"], Value::Array(vec![]));
    assert!(gateway.verb(["counters"]).ok().contains("; 1 deliveries parked\n"));
    let listed = gateway.verb(["events", "--unrouted", "--output", "json"]).json();
    assert_eq!(listed["items"][0]["id"], unrouted.as_str());
    gateway.verb(["replay", &unrouted]).ok();
    gateway.until_count("billing", "delivered", 1);
    assert!(gateway.verb(["cancel", "--endpoint", "crm"]).ok().starts_with("1 cancelled"));
    let list = gateway.verb(["failed", "--status", "cancelled"]).ok();
    assert!(list.contains(&delivery(&parked, 0)) && list.contains("operator"), "{list}");
    assert_eq!(gateway.get("counters")["parked"], 0);
    gateway.verb(["audit"]).ok();
}
