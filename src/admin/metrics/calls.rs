//! Metrics of calls: which are incomplete.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::count;
use crate::engine::calls::CallCounts;

/// How many calls are incomplete.
#[derive(Debug)]
pub(super) struct Calls(pub(super) CallCounts);

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
