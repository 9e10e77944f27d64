//! A sender's trace goes on: to the endpoint, into the log, and to whoever looks at the event.

use serde_json::Value;

use crate::http;
use crate::place::Place;
use crate::sink::{OK, Sink};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_trace_goes_on_and_can_be_found_again() {
    let sink = Sink::answering(OK);
    let place = Place::new(&format!(
        "[sources.flyflow]\npreset = \"flyflow\"\n[endpoints.crm]\nurl = \"{}\"\n[[routes]]\nendpoints = [\"crm\"]\n",
        sink.url()
    ));
    let gateway = place.serve();
    let post = |headers: &str, call: &str| {
        let body = format!("{{\"event_type\": \"call_ended\", \"call_id\": \"{call}\"}}");
        let answer = http::ask(&gateway.ingest, "POST", "/in/flyflow", headers, body.as_bytes()).unwrap();
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let traced = post(&format!("traceparent: {PARENT}\r\ntracestate: a=1\r\n"), "traced");
    let untraced = post("traceparent: 00-nonsense\r\n", "untraced");
    gateway.until_count("crm", "delivered", 2);
    for request in sink.posts() {
        assert_eq!(request.path, "/webhook");
        let is_traced = request.id() == traced;
        assert_eq!(request.header("traceparent"), is_traced.then_some(PARENT));
        assert_eq!(request.header("tracestate"), is_traced.then_some("a=1"));
    }
    assert_eq!(gateway.get(&format!("events/{traced}"))["trace_id"], TRACE);
    assert_eq!(gateway.get(&format!("events/{untraced}"))["trace_id"], Value::Null);
    assert!(gateway.verb(["event", &traced]).ok().contains(TRACE));
    let log = gateway.stop();
    let attempts: Vec<&Value> = log.iter().filter(|line| line["message"] == "attempt").collect();
    assert_eq!(attempts.len(), 2);
    for line in attempts {
        let is_traced = line["key"] == "traced";
        assert_eq!(line["trace_id"].as_str(), is_traced.then_some(TRACE), "{line}");
    }
}
