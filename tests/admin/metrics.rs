//! The metrics: what a scrape says, and that it says it in Prometheus' own words.

use std::time::Duration;

use serde_json::json;

use crate::gateway::{Gateway, TOKEN};

/// The sample lines of a scrape.
async fn scrape(gateway: &Gateway) -> Vec<String> {
    let got = gateway.get("/metrics").await;
    assert_eq!((got.status, got.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let text = String::from_utf8(got.body).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_scrape_says_how_each_endpoint_stands() {
    let gateway = Gateway::fragile(100, 100).await;
    gateway.tried("down", "k").await;
    gateway.tried("busy", "k").await;
    gateway.tried("rated", "k").await;
    gateway.post("/api/v1/endpoints/healthy/pause", &json!({})).await;
    let waiting = gateway.accept("healthy", "k").await;
    gateway.until_waits(&waiting, "pause").await;
    gateway.until("/api/v1/endpoints/down", |endpoint| endpoint["circuit"]["state"] == "open").await;
    let samples = scrape(&gateway).await;
    for line in [
        "backstop_endpoint_circuit{endpoint=\"down\",state=\"open\"} 1.0",
        "backstop_endpoint_circuit{endpoint=\"down\",state=\"closed\"} 0.0",
        "backstop_endpoint_circuit{endpoint=\"healthy\",state=\"closed\"} 1.0",
        "backstop_endpoint_circuit_since_timestamp_seconds{endpoint=\"down\"} 1700000000.0",
        "backstop_endpoint_circuit_probes_failed{endpoint=\"down\"} 0.0",
        "backstop_endpoint_paused{endpoint=\"healthy\"} 1.0",
        "backstop_endpoint_paused{endpoint=\"down\"} 0.0",
        "backstop_endpoint_paused_since_timestamp_seconds{endpoint=\"healthy\"} 1700000000.0",
        "backstop_endpoint_backlog{endpoint=\"healthy\",status=\"scheduled\"} 1.0",
        "backstop_endpoint_backlog{endpoint=\"down\",status=\"retrying\"} 1.0",
        "backstop_endpoint_silent_until_timestamp_seconds{endpoint=\"busy\"} 1700000060.0",
        "backstop_endpoint_rate_next_timestamp_seconds{endpoint=\"rated\"} 1700000060.0",
        "backstop_endpoint_window{endpoint=\"healthy\"} 4.0",
        "backstop_endpoint_in_flight{endpoint=\"healthy\"} 0.0",
        "backstop_endpoint_attempts_total{endpoint=\"down\"} 1",
        "backstop_endpoint_delivered_total{endpoint=\"rated\"} 1",
        "backstop_endpoint_dead_total{endpoint=\"rated\"} 0",
        "backstop_endpoint_cancelled_total{endpoint=\"rated\"} 0",
        "backstop_retention_events_dropped_total 0",
        "backstop_retention_freed_bytes_total 0",
        "backstop_retention_damaged_bytes_total 0",
    ] {
        assert!(samples.iter().any(|sample| sample == line), "{line} is not in {samples:#?}");
    }
    let probe = "backstop_endpoint_circuit_next_probe_timestamp_seconds{endpoint=";
    let probes: Vec<&String> = samples.iter().filter(|sample| sample.starts_with(probe)).collect();
    let [probe] = probes.as_slice() else { panic!("only an open circuit has one: {probes:?}") };
    let at: f64 = probe.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(at > 1_700_000_000.0, "{probe}");
}

#[tokio::test]
async fn metrics_are_behind_the_token() {
    let gateway = Gateway::start().await;
    let wrong = format!("authorization: Bearer {TOKEN}x\r\n");
    for headers in ["", wrong.as_str()] {
        gateway.ask_with("GET", "/metrics", headers, b"").await.problem(401);
    }
    let got = gateway.ask("POST", "/metrics", b"").await;
    got.problem(405);
    assert_eq!(got.header("allow"), Some("GET"));
}

#[tokio::test]
async fn what_waits_ages_and_what_is_sent_again_is_not_called_late() {
    let gateway = Gateway::start().await;
    gateway.post("/api/v1/endpoints/healthy/pause", &json!({})).await;
    let id = gateway.accept("healthy", "k").await;
    gateway.until_waits(&id, "pause").await;
    gateway.pass(Duration::from_mins(2));
    let samples = scrape(&gateway).await;
    let has = |samples: &[String], line: &str| samples.iter().any(|sample| sample == line);
    assert!(has(&samples, "backstop_endpoint_oldest_waiting_age_seconds{endpoint=\"healthy\"} 120.0"), "{samples:#?}");

    gateway.post("/api/v1/endpoints/healthy/resume", &json!({})).await;
    gateway.until_count("healthy", "delivered", 1).await;
    gateway.pass(Duration::from_hours(1));
    gateway.post(&format!("/api/v1/events/{id}/replay"), &json!({})).await;
    gateway.until_count("healthy", "delivered", 2).await;
    let samples = scrape(&gateway).await;
    for line in [
        "backstop_endpoint_oldest_waiting_age_seconds{endpoint=\"healthy\"} 0.0",
        "backstop_endpoint_outcomes_total{endpoint=\"healthy\",outcome=\"delivered\"} 2",
        "backstop_endpoint_attempt_seconds_count{endpoint=\"healthy\"} 2",
        "backstop_endpoint_delivery_seconds_count{endpoint=\"healthy\"} 1",
        "backstop_endpoint_delivery_seconds_bucket{endpoint=\"healthy\",le=\"60\"} 0",
        "backstop_endpoint_delivery_seconds_bucket{endpoint=\"healthy\",le=\"300\"} 1",
    ] {
        assert!(has(&samples, line), "{line} is not in {samples:#?}");
    }
}
