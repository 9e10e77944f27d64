//! Metrics of replays: how many there are in which state, and what those that are not over have under way.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{count, gauge};
use crate::core::id::ReplayId;
use crate::core::replay::{Replay, ReplayState};
use crate::journal::Tally;

/// One look at every replay that is kept.
#[derive(Debug)]
pub(super) struct Replaying {
    pub(super) replays: Vec<Replay>,
    pub(super) tallies: BTreeMap<ReplayId, Tally>,
}

impl Collector for Replaying {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Replays that are kept, by where they stand";
        let mut family = encoder.encode_descriptor("kept", help, None, MetricType::Gauge)?;
        for state in ReplayState::ALL {
            let number = self.replays.iter().filter(|replay| replay.state == state).count();
            let labels = [("state", state.as_str())];
            ConstGauge::new(super::whole(number)).encode(family.encode_family(&labels)?)?;
        }
        let waiting: u64 = self.tallies.values().map(|tally| tally.scheduled + tally.retrying).sum();
        let help = "Deliveries that replays made and that wait";
        gauge(&mut encoder, "waiting_deliveries", help, count(waiting))
    }
}
