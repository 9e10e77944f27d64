//! Traces, told to a collector (the feature `otlp`).

use serde_json::Value;

use crate::http;
use crate::place::{Gateway, Place};
use crate::sink::{BROKEN, OK, Sink};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";

fn place(crm: &Sink, collector: &str) -> Place {
    let mut place = Place::new(&format!(
        "[sources.flyflow]\npreset = \"flyflow\"\n[endpoints.crm]\nurl = \"{}?token=hunter2\"\n[[routes]]\nendpoints = [\"crm\"]\n",
        crm.url()
    ));
    place.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    place
}

/// Where a sink listens, without a path.
fn base(sink: &Sink) -> String {
    sink.url().strip_suffix("/webhook").unwrap().to_owned()
}

/// Posts an event of this call; its id.
fn post(gateway: &Gateway, call: &str, headers: &str) -> String {
    let body = format!("{{\"event_type\": \"call_ended\", \"call_id\": \"{call}\"}}");
    let answer = http::ask(&gateway.ingest, "POST", "/in/flyflow", headers, body.as_bytes()).unwrap();
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// An attribute of a span or a resource.
fn attribute<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    let found = of["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str().or_else(|| found["value"]["intValue"].as_str())
}

#[test]
fn acceptance_and_attempts_are_told_as_parts_of_the_senders_trace() {
    let (crm, collector) = (Sink::answering(OK), Sink::answering(OK));
    let mut place = place(&crm, &base(&collector));
    place.set("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3%2Ccret");
    place.set("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test");
    place.set("OTEL_SERVICE_NAME", "gateway");
    let gateway = place.serve();
    let traced = post(&gateway, "traced", &format!("traceparent: 00-{TRACE}-{SENDER}-01\r\ntracestate: a=1\r\n"));
    let untraced = post(&gateway, "untraced", "");
    let unsampled = post(&gateway, "unsampled", &format!("traceparent: 00-{TRACE}-{SENDER}-00\r\n"));
    // The same once more is no acceptance.
    assert_eq!(post(&gateway, "untraced", ""), untraced);
    gateway.until_count("crm", "delivered", 3);
    let log = gateway.stop();
    assert!(!log.iter().any(|line| line.to_string().contains("s3")), "{log:#?}");

    let told = collector.posts();
    let mut spans: Vec<Value> = Vec::new();
    for post in &told {
        assert_eq!((post.path.as_str(), post.header("x-key")), ("/v1/traces", Some("s3,cret")));
        assert_eq!(post.header("content-type"), Some("application/json"));
        assert!(!post.body.contains("hunter2"), "{}", post.body);
        let body: Value = serde_json::from_str(&post.body).unwrap();
        let resource = &body["resourceSpans"][0]["resource"];
        assert_eq!(attribute(resource, "service.name"), Some("gateway"));
        assert_eq!(attribute(resource, "deployment.environment.name"), Some("test"));
        spans.extend(body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let requests = crm.posts();
    let request = |id: &str| requests.iter().find(|request| request.id() == id).unwrap();
    for (id, sender) in [(&traced, SENDER), (&untraced, "")] {
        let accept = spans.iter().find(|span| attribute(span, "backstop.event.id") == Some(id)).unwrap();
        assert_eq!((&accept["name"], &accept["kind"]), (&"accept".into(), &2.into()));
        assert_eq!(accept["parentSpanId"], sender);
        assert_eq!(attribute(accept, "backstop.source"), Some("flyflow"));
        let attempt = spans.iter().find(|span| span["parentSpanId"] == accept["spanId"]).unwrap();
        assert_eq!((&attempt["name"], &attempt["kind"]), (&"attempt".into(), &3.into()));
        assert_eq!(attempt["traceId"], accept["traceId"]);
        assert_eq!(attribute(attempt, "backstop.endpoint"), Some("crm"));
        assert_eq!(attribute(attempt, "http.response.status_code"), Some("200"));
        let nanos = |name: &str| attempt[name].as_str().unwrap().parse::<u64>().unwrap();
        assert!(nanos("startTimeUnixNano") <= nanos("endTimeUnixNano"));
        // The endpoint is called by the attempt.
        let (trace, span) = (accept["traceId"].as_str().unwrap(), attempt["spanId"].as_str().unwrap());
        assert_eq!(request(id).header("traceparent"), Some(format!("00-{trace}-{span}-01").as_str()));
        assert_eq!(trace == TRACE, !sender.is_empty());
    }
    assert_eq!(request(&traced).header("tracestate"), Some("a=1"));
    assert_eq!(request(&unsampled).header("traceparent"), Some(format!("00-{TRACE}-{SENDER}-00").as_str()));
}

#[test]
fn a_failed_attempt_says_why() {
    let (crm, collector) = (Sink::answering(BROKEN), Sink::answering(OK));
    let place = place(&crm, &base(&collector));
    let gateway = place.serve();
    post(&gateway, "call", "");
    gateway.until_count("crm", "retrying", 1);
    gateway.stop();
    let told: String = collector.posts().iter().map(|post| post.body.clone()).collect();
    assert!(told.contains("\"status\":{\"code\":2,\"message\":\"it answered 500\"}"), "{told}");
}

#[test]
fn a_collector_that_is_of_no_use_costs_spans_and_nothing_else() {
    let (crm, collector) = (Sink::answering(OK), Sink::answering(BROKEN));
    for (collector, why) in [(base(&collector), "it answered 500"), ("http://127.0.0.1:1".to_owned(), "error")] {
        let place = place(&crm, &collector);
        let gateway = place.serve();
        post(&gateway, "call", "");
        gateway.until_count("crm", "delivered", 1);
        let log = gateway.stop();
        let lost: Vec<&Value> = log.iter().filter(|line| line["message"] == "spans were lost").collect();
        let [lost] = lost.as_slice() else { panic!("{log:#?}") };
        assert_eq!((&lost["lost"], &lost["level"]), (&2.into(), &"WARN".into()));
        assert!(lost["why"].as_str().unwrap().contains(why), "{lost}");
    }
}

#[test]
fn what_the_environment_says_is_read_or_named() {
    let crm = Sink::answering(OK);
    for (name, value, is_wrong) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", true),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "hunter2:4318", true),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", true),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "hunter2", true),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz", true),
        ("OTEL_TRACES_EXPORTER", "none", false),
        ("OTEL_SDK_DISABLED", "true", false),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", false),
    ] {
        let mut place = place(&crm, "http://127.0.0.1:1");
        place.set(name, value);
        let gateway = place.serve();
        post(&gateway, name, "");
        gateway.until_count("crm", "delivered", 1);
        let log = gateway.stop();
        let said = log.iter().filter(|line| line["level"] == "ERROR").map(Value::to_string).collect::<String>();
        assert_eq!(said.contains(name), is_wrong, "{name}: {log:#?}");
        assert!(!log.iter().any(|line| line.to_string().contains("hunter2")), "{log:#?}");
        // None of them is told of.
        assert!(!log.iter().any(|line| line["message"] == "spans were lost"), "{log:#?}");
    }
}
