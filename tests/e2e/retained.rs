//! What is past its time goes, is counted, and is told by every verb that counts.

use crate::events::call_ended;
use crate::http;
use crate::place::Place;
use crate::sink::{OK, Sink};

/// Events in several segments of the log.
const EVENTS: usize = 24;
/// Less than those have.
const SEGMENTS_BYTES: u64 = 11 << 20;
const PADDING_BYTES: usize = 500_000;

fn config(sink: &Sink, retention: &str) -> String {
    format!(
        "{retention}\n[sources.flyflow]\npreset = \"flyflow\"\ndedup = \"off\"\n\
         [endpoints.crm]\nurl = \"{}\"\n[[routes]]\nendpoints = [\"crm\"]\n",
        sink.url()
    )
}

#[test]
fn what_is_past_its_time_goes_and_room_comes_back() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink, ""));
    let gateway = place.serve();
    let padding = format!(", \"padding\": \"{}\"}}", "x".repeat(PADDING_BYTES));
    for number in 0..EVENTS {
        gateway.accept(&format!("{}{padding}", call_ended(number).strip_suffix('}').unwrap()));
    }
    gateway.until_count("crm", "delivered", EVENTS);
    gateway.stop();
    let stats = || place.run(["journal", "stats", "--output", "json"]).json();
    let before = stats();
    assert_eq!((&before["dropped"], &before["freed_bytes"]), (&0.into(), &0.into()));
    assert!(before["oldest_received_at"].is_string(), "{before}");

    // By when it is looked at again, all of it is older than this.
    place.configure(&config(&sink, "[retention]\npayload = \"1ms\"\nmetadata = \"1ms\""));
    let gateway = place.serve();
    let counters = gateway.until("counters", |counters| {
        counters["dropped"] == EVENTS && counters["freed_bytes"].as_u64() > Some(SEGMENTS_BYTES)
    });
    assert!(counters["oldest_received_at"].is_null(), "{counters}");
    assert_eq!(counters["endpoints"]["crm"]["delivered"], EVENTS);
    let token = format!("authorization: Bearer {}\r\n", gateway.token());
    let metrics = http::ask(&gateway.admin, "GET", "/metrics", &token, b"").unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    let dropped = format!("backstop_retention_events_dropped_total {}\n", counters["dropped"]);
    assert!(metrics.contains(&dropped), "{dropped} is not in {metrics}");
    let text = gateway.verb(["counters"]).ok();
    assert!(text.contains("were let go of"), "{text}");
    gateway.verb(["audit"]).ok();
    gateway.stop();

    let after = stats();
    assert_eq!((&after["dropped"], &after["oldest_received_at"]), (&EVENTS.into(), &serde_json::Value::Null));
    assert!(after["freed_bytes"].as_u64() > Some(SEGMENTS_BYTES), "{after}");
    assert!(after["log_bytes"].as_u64() < before["log_bytes"].as_u64(), "{before} {after}");
    assert!(place.run(["journal", "verify"]).ok().contains("counters agree      yes\n"));
}
