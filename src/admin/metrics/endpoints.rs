//! Metrics of endpoints: how each stands, and how attempts at it went.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{count, seconds, whole};
use crate::admin::endpoints::Known;
use crate::core::breaker::Circuit;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::telemetry::measures::Attempts;

/// A gauge with one value an endpoint: its name, what it says, where it is.
type Gauge = (&'static str, &'static str, fn(&Known) -> Option<f64>);
/// A gauge with one value for each word of a label: its name, what it says, the label, where they are.
type Split = (&'static str, &'static str, &'static str, fn(&Known) -> Vec<(&'static str, f64)>);
/// A counter: its name without `_total`, what it says, where it is.
type Counter = (&'static str, &'static str, fn(&Known) -> u64);

const GAUGES: [Gauge; 11] = [
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
    ("failed", "Deliveries that gave up and that no later one has taken the place of", |known| {
        Some(count(known.tally.failed))
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

const COUNTERS: [Counter; 7] = [
    ("attempts", "Attempts journaled", |known| known.tally.attempts),
    ("delivered", "Deliveries that the endpoint acknowledged", |known| known.tally.delivered),
    ("dead", "Deliveries that gave up", |known| known.tally.dead),
    ("cancelled", "Deliveries that an operator took back", |known| known.tally.cancelled),
    ("expired", "Deliveries that retention gave up", |known| known.tally.expired),
    ("routed", "Deliveries that routes made", |known| known.tally.routed),
    ("replayed", "Deliveries that were made again, by replays and by hand", |known| known.tally.replayed),
];

/// One look at every endpoint.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at: Timestamp,
    pub(super) known: BTreeMap<Name, Known>,
    /// When the oldest event was received of which each has a delivery waiting.
    pub(super) oldest: BTreeMap<Name, Timestamp>,
    pub(super) tried: BTreeMap<Name, Arc<Attempts>>,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (endpoint, known) in &self.known {
                let Some(value) = value(known) else { continue };
                ConstGauge::new(value).encode(family.encode_family(&[("endpoint", endpoint.as_str())])?)?;
            }
        }
        for (name, help, label, values) in SPLITS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (endpoint, known) in &self.known {
                for (word, value) in values(known) {
                    let labels = [("endpoint", endpoint.as_str()), (label, word)];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (endpoint, known) in &self.known {
                ConstCounter::new(value(known)).encode(family.encode_family(&[("endpoint", endpoint.as_str())])?)?;
            }
        }
        self.encode_waiting(&mut encoder)?;
        self.encode_tried(&mut encoder)
    }
}

impl Snapshot {
    fn encode_waiting(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How long ago the event was received that waits longest; 0 if none waits";
        let mut family = encoder.encode_descriptor("oldest_waiting_age_seconds", help, None, MetricType::Gauge)?;
        for endpoint in self.known.keys() {
            let age = self.oldest.get(endpoint).map_or(0.0, |received_at| self.at.since(*received_at).as_secs_f64());
            ConstGauge::new(age).encode(family.encode_family(&[("endpoint", endpoint.as_str())])?)?;
        }
        Ok(())
    }

    /// What was measured of attempts since the process began.
    fn encode_tried(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Attempts that ended since the process began, by what they mean";
        let mut family = encoder.encode_descriptor("outcomes", help, None, MetricType::Counter)?;
        for (endpoint, tried) in &self.tried {
            for (outcome, count) in tried.outcomes() {
                let labels = [("endpoint", endpoint.as_str()), ("outcome", outcome.as_str())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Seconds that an attempt took";
        let mut family = encoder.encode_descriptor("attempt_seconds", help, None, MetricType::Histogram)?;
        for (endpoint, tried) in &self.tried {
            tried.seconds.encode(family.encode_family(&[("endpoint", endpoint.as_str())])?)?;
        }
        let help = "Seconds from an event's acceptance to its delivery, replays left out";
        let mut family = encoder.encode_descriptor("delivery_seconds", help, None, MetricType::Histogram)?;
        for (endpoint, tried) in &self.tried {
            tried.delivery_seconds.encode(family.encode_family(&[("endpoint", endpoint.as_str())])?)?;
        }
        Ok(())
    }
}
