//! What people are told: how a lane stands, and what a delivery waits for.
//!
//! "Why is it late?" has one answer at a time: the first thing that would have to change.

use crate::core::breaker::TripCause;
use crate::core::id::DeliveryId;
use crate::core::name::Name;
use crate::core::standing::{PauseCause, Standing};
use crate::core::timestamp::Timestamp;

/// How a lane stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneView {
    /// Whose lane.
    pub endpoint: Name,
    /// Attempts on their way.
    pub in_flight: usize,
    /// First-time deliveries held in memory.
    pub fresh: usize,
    /// Waiting deliveries held in memory.
    pub waiting: usize,
    /// Whether more of either stands in the journal only.
    pub behind: bool,
    /// The endpoint asked for silence until then.
    pub held_until: Option<Timestamp>,
    /// How many attempts the window allows now.
    pub window: usize,
    /// Keys whose first delivery holds others back now.
    pub lines: usize,
    /// The rate lets nothing go before then.
    pub rate_next_at: Option<Timestamp>,
    /// What survives a restart: the pause, the circuit.
    pub standing: Standing,
}

/// What a scheduled delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// What.
    pub on: On,
    /// Since when it waits for that.
    pub since: Timestamp,
}

/// What a delivery can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The attempt that is on its way.
    Attempt,
    /// The end of its endpoint's pause.
    Pause {
        /// Who paused it.
        cause: PauseCause,
    },
    /// Its endpoint's circuit, which is open.
    Circuit {
        /// Why it opened.
        cause: TripCause,
        /// When the next probe goes.
        probe_at: Timestamp,
    },
    /// Its turn while the endpoint comes back: few go at a time.
    Ramp {
        /// How many.
        allowed: u32,
    },
    /// The end of the silence that the endpoint asked for (Retry-After).
    Silence {
        /// When.
        until: Timestamp,
    },
    /// Its own due time.
    Due {
        /// When.
        at: Timestamp,
    },
    /// An earlier delivery of its key, or of its endpoint where all go in order.
    Line {
        /// Which.
        behind: DeliveryId,
        /// When it passes at the latest; `None` while the one before it is not failing.
        until: Option<Timestamp>,
    },
    /// The window: as many as it allows are on their way.
    Window {
        /// How many.
        limit: usize,
    },
    /// The rate.
    Rate {
        /// When the next one may go.
        next_at: Timestamp,
    },
    /// The gateway: as many as it allows over all endpoints are on their way, or the share of this one is.
    Gateway {
        /// How many.
        limit: usize,
    },
    /// Others of its endpoint, which go first.
    Turn {
        /// How many of them are held in memory.
        ahead: usize,
    },
    /// Being loaded: it stands in the journal until those before it have gone.
    Journal,
}

impl On {
    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Pause { .. } => "pause",
            Self::Circuit { .. } => "circuit",
            Self::Ramp { .. } => "ramp",
            Self::Silence { .. } => "silence",
            Self::Due { .. } => "due",
            Self::Line { .. } => "line",
            Self::Window { .. } => "window",
            Self::Rate { .. } => "rate",
            Self::Gateway { .. } => "gateway",
            Self::Turn { .. } => "turn",
            Self::Journal => "journal",
        }
    }
}
