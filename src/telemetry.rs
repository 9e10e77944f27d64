//! Telemetry: structured logs, with one wide line per attempt, and the counts of what was turned away.
//!
//! No line holds a secret, a body, or a header's value. Metrics join in a later issue; their place is here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::attempt::{Attempt, Outcome, Reply};
use crate::core::delivery::{Reason, Step};
use crate::core::id::DeliveryId;

/// Writes the one line of an attempt.
pub fn attempt(id: DeliveryId, attempt: &Attempt, step: Step, reason: Reason) {
    let failure = match &attempt.reply {
        Reply::Answer(_) => None,
        Reply::Failure(failure) => Some(failure),
    };
    let due = match step {
        Step::Retry { due } => Some(due.to_string()),
        _ => None,
    };
    let next = match step {
        Step::Succeed => "delivered",
        Step::Retry { .. } => "retry",
        _ => "dead",
    };
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                delivery = %id,
                attempt = attempt.number,
                status = attempt.status(),
                failure = failure.map(|failure| failure.class.as_str()),
                detail = failure.map(|failure| failure.detail.as_str()),
                outcome = attempt.outcome.as_str(),
                took_ms = attempt.took_ms,
                next,
                reason = reason.as_str(),
                due,
                "attempt"
            )
        };
    }
    if attempt.outcome == Outcome::Delivered { line!(info) } else { line!(warn) }
}

/// Why a request was turned away at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Turned {
    /// The same event was there already; it was acknowledged, not stored again.
    Duplicate,
    /// No such source.
    UnknownSource,
    /// Another method than POST.
    Method,
    /// The body is over the source's cap.
    TooLarge,
    /// The body came too slowly, or broke off.
    Slow,
    /// A strict source could not read it.
    Unreadable,
    /// The journal could not take it.
    Unavailable,
}

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct Intake {
    counts: [AtomicU64; Turned::ALL.len()],
}

impl Turned {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Duplicate,
        Self::UnknownSource,
        Self::Method,
        Self::TooLarge,
        Self::Slow,
        Self::Unreadable,
        Self::Unavailable,
    ];

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::UnknownSource => "unknown_source",
            Self::Method => "method",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Unreadable => "unreadable",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Intake {
    /// Counts one.
    pub fn note(&self, turned: Turned) {
        if let Some(count) = self.counts.get(turned as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts by reason.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let pairs = Turned::ALL.iter().zip(&self.counts);
        pairs.map(|(turned, count)| (turned.as_str(), count.load(Ordering::Relaxed))).collect()
    }
}
