//! Metrics of retention: what is held, what was let go of.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{count, seconds};
use crate::core::timestamp::Timestamp;
use crate::journal::{Counters, Held};

/// One look at what is kept.
#[derive(Debug)]
pub(super) struct Retained {
    pub(super) counters: Counters,
    /// When the oldest event that is kept was received.
    pub(super) oldest: Option<Timestamp>,
    /// Bytes of the log that were given back since the process began.
    pub(super) freed_bytes: u64,
}

/// A gauge with one value a source.
type OfSource = (&'static str, &'static str, fn(&Held) -> u64);

const HELD: [OfSource; 2] = [
    ("held_bytes", "Bytes of bodies that are kept", |held| held.bytes),
    ("live_bytes", "Bytes of bodies that deliveries still to be made need", |held| held.live_bytes),
];

impl Collector for Retained {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = [
            ("events_dropped", "Events that were let go of since the journal began", self.counters.dropped),
            ("freed_bytes", "Bytes on disk that were given back since the process began", self.freed_bytes),
            (
                "damaged_bytes",
                "Damaged bytes of the log that went with what was let go of, since the journal began",
                self.counters.damaged_bytes,
            ),
        ];
        for (name, help, total) in totals {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(total).encode(family)?;
        }
        if let Some(oldest) = self.oldest {
            let help = "When the oldest event that is kept was received";
            let family = encoder.encode_descriptor("oldest_timestamp_seconds", help, None, MetricType::Gauge)?;
            ConstGauge::new(seconds(oldest)).encode(family)?;
        }
        for (name, help, bytes) in HELD {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (source, held) in &self.counters.sources {
                let labels = [("source", source.as_str())];
                ConstGauge::new(count(bytes(held))).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
