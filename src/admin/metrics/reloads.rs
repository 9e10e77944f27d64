//! Metrics of the config: how it was read last.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{gauge, seconds};
use crate::admin::reload::Last;

/// How the config was read last.
#[derive(Debug)]
pub(super) struct Reloads(pub(super) Last);

impl Collector for Reloads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Last { succeeded, success_at } = self.0;
        let help = "1 if the config was taken in when it was read last, at the start or since";
        gauge(&mut encoder, "last_reload_successful", help, f64::from(succeeded))?;
        let help = "When the config was taken in last";
        gauge(&mut encoder, "last_reload_success_timestamp_seconds", help, seconds(success_at))
    }
}
