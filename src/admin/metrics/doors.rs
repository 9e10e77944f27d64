//! Metrics of the doors: what was taken in, what became no event, which operators were denied.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::counter;
use crate::core::name::Name;
use crate::telemetry::measures::Taken;

/// What came to the door since the process began.
#[derive(Debug)]
pub(super) struct AtTheDoor {
    pub(super) turned_away: BTreeMap<&'static str, u64>,
    pub(super) not_kept: u64,
    pub(super) taken: BTreeMap<Name, Arc<Taken>>,
}

/// Who was turned away from the admin API since the process began.
#[derive(Debug)]
pub(super) struct Denied(pub(super) Vec<(&'static str, u64)>);

impl Collector for AtTheDoor {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that made no new event";
        let mut family = encoder.encode_descriptor("turned_away", help, None, MetricType::Counter)?;
        for (reason, count) in &self.turned_away {
            ConstCounter::new(*count).encode(family.encode_family(&[("reason", *reason)])?)?;
        }
        let help = "Refused requests that were to be kept and could not be";
        counter(&mut encoder, "refusals_not_kept", help, self.not_kept)?;
        let help = "Bytes of the bodies that were taken in";
        let mut family = encoder.encode_descriptor("ingest_body_bytes", help, None, MetricType::Counter)?;
        for (source, taken) in &self.taken {
            ConstCounter::new(taken.bytes()).encode(family.encode_family(&[("source", source.as_str())])?)?;
        }
        let help = "Seconds from a request's head to its yes, when its event was durable; duplicates included";
        let mut family = encoder.encode_descriptor("ingest_seconds", help, None, MetricType::Histogram)?;
        for (source, taken) in &self.taken {
            taken.seconds.encode(family.encode_family(&[("source", source.as_str())])?)?;
        }
        Ok(())
    }
}

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
