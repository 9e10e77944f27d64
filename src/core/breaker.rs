//! The circuit breaker of one endpoint.

use std::time::Duration;

use crate::core::attempt::FailureClass;
use crate::core::timestamp::Timestamp;

/// When the circuit opens and how it is probed.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerPolicy {
    /// Opens after this many failures in a row; failures that were on their way together count once.
    pub failures: u32,
    /// Opens if this part of all attempts within `window` fails; above 0, at most 1.
    pub failure_rate: f64,
    /// Fewer attempts than this within `window` say nothing about the rate.
    pub samples_min: u32,
    /// The span over which the rate is taken.
    pub window: Duration,
    /// The first probe goes this long after the circuit opened; each next one twice as long after the one before.
    pub probe_initial: Duration,
    /// No longer than this lies between two probes.
    pub probe_max: Duration,
}

impl Eq for BreakerPolicy {}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_rate: 0.5,
            samples_min: 20,
            window: Duration::from_secs(60),
            probe_initial: Duration::from_secs(5),
            probe_max: Duration::from_secs(300),
        }
    }
}

/// Why the circuit opened. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TripCause {
    /// Too many failures in a row.
    ConsecutiveFailures = 1,
    /// Too large a part of the attempts failed.
    FailureRate = 2,
}

impl TripCause {
    /// The cause with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::ConsecutiveFailures, Self::FailureRate].into_iter().find(|cause| *cause as u8 == code)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
        }
    }
}

/// What the endpoint last did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It answered with this status.
    Status(u16),
    /// It did not answer.
    Failure(FailureClass),
}

/// How the circuit stands: what survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Deliveries go.
    Closed,
    /// Deliveries are held; one at a time goes as a probe.
    Open {
        /// Since when.
        since: Timestamp,
        /// Why.
        cause: TripCause,
        /// What was seen last.
        sign: Sign,
        /// The next probe goes no sooner.
        probe_at: Timestamp,
        /// Probes that failed so far.
        probes: u32,
    },
    /// Deliveries go again, few at first.
    HalfOpen {
        /// Since when.
        since: Timestamp,
        /// As many as this may be on their way.
        allowed: u32,
    },
}
