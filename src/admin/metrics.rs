//! Metrics: how endpoints and calls stand, for Prometheus (its text format, version 0.0.4).
//!
//! Nothing is counted here: each scrape is written from the same look at config, journal and scheduler that
//! the list of endpoints is; calls are counted by the engine, and what became no event at the door. Labels are
//! bounded: names of endpoints and sources, and the few words of the core. Base
//! units; times are seconds since 1970. What does not apply (the next probe of a closed circuit) has no line.

mod retention;

use std::collections::BTreeMap;
use std::fmt;

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{self, CONTENT_TYPE as TEXT_FORMAT};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::endpoints::{self, Known};
use super::problem::{Answer, Problem};
use super::{AdminState, GET, only, respond, with};
use crate::core::breaker::Circuit;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::engine::calls::CallCounts;
use retention::Retained;

/// A gauge with one value an endpoint: its name, what it says, where it is.
type Gauge = (&'static str, &'static str, fn(&Known) -> Option<f64>);
/// A gauge with one value for each word of a label: its name, what it says, the label, where they are.
type Split = (&'static str, &'static str, &'static str, fn(&Known) -> Vec<(&'static str, f64)>);
/// A counter: its name without `_total`, what it says, where it is.
type Counter = (&'static str, &'static str, fn(&Known) -> u64);

const GAUGES: [Gauge; 10] = [
    ("in_flight", "Attempts on their way", |known| known.lane.as_ref().map(|lane| whole(lane.in_flight))),
    ("window", "Attempts that may be on their way", |known| known.lane.as_ref().map(|lane| whole(lane.window))),
    ("lines_held", "Lines whose first delivery holds others back", |known| {
        known.lane.as_ref().map(|lane| whole(lane.lines))
    }),
    ("paused", "1 while nothing is sent because someone wants it so", |known| {
        Some(f64::from(known.standing.pause.is_some()))
    }),
    ("paused_since_timestamp_seconds", "When the pause began", |known| {
        known.standing.pause.as_ref().map(|pause| seconds(pause.since))
    }),
    ("circuit_since_timestamp_seconds", "Since when the circuit is open or half open", |known| {
        match known.standing.circuit {
            Circuit::Closed => None,
            Circuit::HalfOpen { since, .. } | Circuit::Open { since, .. } => Some(seconds(since)),
        }
    }),
    ("circuit_next_probe_timestamp_seconds", "No probe goes to the open circuit before this", |known| {
        match known.standing.circuit {
            Circuit::Open { probe_at, .. } => Some(seconds(probe_at)),
            _ => None,
        }
    }),
    ("circuit_probes_failed", "Probes that failed since the circuit opened", |known| match known.standing.circuit {
        Circuit::Open { probes, .. } => Some(f64::from(probes)),
        _ => None,
    }),
    ("silent_until_timestamp_seconds", "Until when the endpoint asked for silence (Retry-After)", |known| {
        known.lane.as_ref().and_then(|lane| lane.held_until).map(seconds)
    }),
    ("rate_next_timestamp_seconds", "The rate lets nothing go before this", |known| {
        known.lane.as_ref().and_then(|lane| lane.rate_next_at).map(seconds)
    }),
];

const SPLITS: [Split; 2] = [
    ("circuit", "1 for the state that the circuit is in", "state", |known| {
        let (closed, half_open, open) = match known.standing.circuit {
            Circuit::Closed => (1.0, 0.0, 0.0),
            Circuit::HalfOpen { .. } => (0.0, 1.0, 0.0),
            Circuit::Open { .. } => (0.0, 0.0, 1.0),
        };
        vec![("closed", closed), ("half_open", half_open), ("open", open)]
    }),
    ("backlog", "Deliveries that wait: scheduled were not tried yet, retrying were", "status", |known| {
        vec![("scheduled", count(known.tally.scheduled)), ("retrying", count(known.tally.retrying))]
    }),
];

const COUNTERS: [Counter; 4] = [
    ("attempts", "Attempts journaled", |known| known.tally.attempts),
    ("delivered", "Deliveries that the endpoint acknowledged", |known| known.tally.delivered),
    ("dead", "Deliveries that gave up", |known| known.tally.dead),
    ("cancelled", "Deliveries that an operator took back", |known| known.tally.cancelled),
];

/// How many calls are incomplete.
#[derive(Debug)]
struct Calls(CallCounts);

/// One look at every endpoint.
#[derive(Debug)]
struct Snapshot(BTreeMap<Name, Known>);

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let scraped = warp::path!("metrics").and(only(GET)).and(with(state)).then(scrape);
    scraped.map(respond).boxed()
}

async fn scrape(state: AdminState) -> Answer {
    let snapshot = Snapshot(endpoints::known(&state).await?);
    let mut registry = Registry::with_prefix("backstop");
    registry.sub_registry_with_prefix("endpoint").register_collector(Box::new(snapshot));
    let kept = state.engine.read(|journal| Ok((journal.counters(), journal.oldest()?)));
    let ((counters, oldest), freed_bytes) = (kept.await?, state.engine.freed_bytes());
    let retained = Retained { counters, oldest, freed_bytes };
    registry.sub_registry_with_prefix("retention").register_collector(Box::new(retained));
    registry.sub_registry_with_prefix("calls").register_collector(Box::new(Calls(state.engine.call_counts())));
    let (turned_away, not_kept) = (state.intake.counts(), state.refused.lost());
    registry.register_collector(Box::new(AtTheDoor { turned_away, not_kept }));
    registry.sub_registry_with_prefix("admin").register_collector(Box::new(Denied(state.register.denied().collect())));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"))?;
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(TEXT_FORMAT));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (endpoint, known) in &self.0 {
                let Some(value) = value(known) else { continue };
                ConstGauge::new(value).encode(family.encode_family(&[("endpoint", endpoint.as_str())])?)?;
            }
        }
        for (name, help, label, values) in SPLITS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (endpoint, known) in &self.0 {
                for (word, value) in values(known) {
                    let labels = [("endpoint", endpoint.as_str()), (label, word)];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (endpoint, known) in &self.0 {
                ConstCounter::new(value(known)).encode(family.encode_family(&[("endpoint", endpoint.as_str())])?)?;
            }
        }
        Ok(())
    }
}

impl Collector for Calls {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls that never ended, ended without a beginning, or have events that did not arrive";
        let mut family = encoder.encode_descriptor("incomplete", help, None, MetricType::Gauge)?;
        for (source, kind, number) in &self.0.incomplete {
            let labels = [("source", source.as_str()), ("kind", kind.as_str())];
            ConstGauge::new(count(*number)).encode(family.encode_family(&labels)?)?;
        }
        let help = "Calls that there was no room to watch";
        let mut family = encoder.encode_descriptor("unwatched", help, None, MetricType::Counter)?;
        for (source, number) in &self.0.unwatched {
            ConstCounter::new(*number).encode(family.encode_family(&[("source", source.as_str())])?)?;
        }
        Ok(())
    }
}

/// Who was turned away from the admin API since the process began.
#[derive(Debug)]
struct Denied(Vec<(&'static str, u64)>);

impl Collector for Denied {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests of operators that were denied";
        let mut family = encoder.encode_descriptor("denied", help, None, MetricType::Counter)?;
        for (reason, count) in &self.0 {
            ConstCounter::new(*count).encode(family.encode_family(&[("reason", *reason)])?)?;
        }
        Ok(())
    }
}

/// What became no event since the process began.
#[derive(Debug)]
struct AtTheDoor {
    turned_away: BTreeMap<&'static str, u64>,
    not_kept: u64,
}

impl Collector for AtTheDoor {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that made no new event";
        let mut family = encoder.encode_descriptor("turned_away", help, None, MetricType::Counter)?;
        for (reason, count) in &self.turned_away {
            ConstCounter::new(*count).encode(family.encode_family(&[("reason", *reason)])?)?;
        }
        let help = "Refused requests that were to be kept and could not be";
        let family = encoder.encode_descriptor("refusals_not_kept", help, None, MetricType::Counter)?;
        ConstCounter::new(self.not_kept).encode(family)
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.since(Timestamp::ZERO).as_secs_f64()
}

fn whole(number: usize) -> f64 {
    u64::try_from(number).map_or(f64::INFINITY, count)
}

/// Exact up to 2^53, which no backlog reaches.
#[allow(clippy::cast_precision_loss, reason = "a gauge is a float, and what is counted here is below 2^53")]
const fn count(number: u64) -> f64 {
    number as f64
}
