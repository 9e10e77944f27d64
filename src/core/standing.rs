//! A standing: what is known of an endpoint beyond its config and survives a restart.
//!
//! Whether it is paused and by whom, how its circuit stands, until when it asked for silence, and since
//! when it has been there again. The config says what an endpoint is; this says how it does. It is kept
//! in the journal, one per endpoint, the last one counts.

use crate::core::breaker::Circuit;
use crate::core::timestamp::Timestamp;

/// Longest note of a pause, in bytes; a longer one is cut at a character boundary.
pub const NOTE_LEN_MAX: usize = 512;

/// How an endpoint stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Set while nothing is sent because someone wants it so.
    pub pause: Option<Pause>,
    /// Whether it can be relied on.
    pub circuit: Circuit,
    /// It asked for silence until then; [`Timestamp::ZERO`] if it did not.
    pub held_until: Timestamp,
    /// When it last came back: its circuit closed, or its pause ended. Deliveries do not age before that.
    pub available_since: Timestamp,
}

/// A pause: deliveries wait, and none spends an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// Who wants it.
    pub cause: PauseCause,
    /// What the operator said about it; empty if nothing.
    pub note: String,
}

/// Who paused an endpoint. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PauseCause {
    /// An operator.
    Operator = 1,
    /// The endpoint itself: it answered 410 Gone.
    Gone = 2,
}

impl Default for Standing {
    /// An endpoint that nothing is known of.
    fn default() -> Self {
        Self { pause: None, circuit: Circuit::Closed, held_until: Timestamp::ZERO, available_since: Timestamp::ZERO }
    }
}

impl PauseCause {
    /// The cause with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Operator, Self::Gone].into_iter().find(|cause| *cause as u8 == code)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Gone => "gone",
        }
    }
}
