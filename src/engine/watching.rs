//! The tasks that watch what happens and tell of it: alerts and calls. Nothing waits for them, and they end at once.

use std::sync::Arc;

use tokio::sync::watch;

use super::alerts::{self, Alerts, Herald};
use super::calls::{self, Calls};
use super::rules::Current;
use super::{Health, Parts};

/// A handle on both.
pub(super) struct Watching {
    pub(super) alerts: Alerts,
    pub(super) calls: Calls,
    stop: watch::Sender<bool>,
}

impl Watching {
    /// Starts both on the current runtime. They have something to do where the rules of now say so.
    pub(super) fn start(parts: &Parts, rules: &Current, herald: &Herald, health: &watch::Sender<Health>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let alerting = alerts::Parts {
            journal: Arc::clone(&parts.journal),
            clock: Arc::clone(&parts.clock),
            herald: herald.clone(),
            rules: rules.clone(),
        };
        let calling = calls::Parts {
            journal: Arc::clone(&parts.journal),
            clock: Arc::clone(&parts.clock),
            herald: herald.clone(),
            rules: rules.clone(),
        };
        let alerts = Alerts::start(alerting, health.clone(), stopped.clone());
        Self { alerts, calls: Calls::start(calling, health.clone(), stopped), stop }
    }

    /// The rules have changed.
    pub(super) fn wake(&self) {
        self.calls.listener().notify_one();
        self.alerts.look_again();
    }

    /// Ends both.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}
