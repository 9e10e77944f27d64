//! The tasks that watch what happens and tell of it: alerts and calls. Nothing waits for them, and they end at once.

use std::sync::Arc;

use tokio::sync::watch;

use super::alerts::{self, Alerts, Herald};
use super::calls::{self, Calls};
use super::{Health, Parts};

/// A handle on both.
pub(super) struct Watching {
    pub(super) alerts: Alerts,
    pub(super) calls: Calls,
    stop: watch::Sender<bool>,
}

impl Watching {
    /// Starts what the config gives something to do for, on the current runtime.
    pub(super) fn start(parts: &Parts, herald: &Herald, health: &watch::Sender<Health>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let alerting = alerts::Parts {
            journal: Arc::clone(&parts.journal),
            clock: Arc::clone(&parts.clock),
            herald: herald.clone(),
            endpoints: parts.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
            call_sources: parts.lifecycles.iter().map(|(source, _)| source.clone()).collect(),
        };
        let calling = calls::Parts {
            journal: Arc::clone(&parts.journal),
            clock: Arc::clone(&parts.clock),
            herald: herald.clone(),
            lifecycles: parts.lifecycles.clone(),
        };
        let alerts = Alerts::start(alerting, health.clone(), stopped.clone());
        Self { alerts, calls: Calls::start(calling, health.clone(), stopped), stop }
    }

    /// Ends both.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}
