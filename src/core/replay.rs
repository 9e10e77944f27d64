//! A replay: an operator's request to deliver old events again, many at a time.
//!
//! It is a durable job: its selection is frozen at creation by position (no event accepted later can
//! enter it), it walks the journal oldest first behind a cursor, and it makes NEW deliveries of OLD
//! events. Cursor and deliveries move in one commit, so a crash neither skips nor doubles an item.
//! Later issues add pace, canary and per-type age; their place is [`Replay`].

use crate::core::filter::Filter;
use crate::core::id::{DeliveryId, ReplayId};
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;

/// A replay job as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// What is replayed. `until` is always set: the freeze.
    pub filter: Filter,
    /// Where to; `None` is where each delivery went before.
    pub to: Option<Name>,
    /// How far it has come: everything up to and including this delivery is done.
    pub cursor: Option<DeliveryId>,
    /// Deliveries that fitted the filter so far.
    pub selected: u64,
    /// Deliveries it made so far.
    pub queued: u64,
    /// Fitting deliveries it made nothing of, because one to that endpoint was already waiting.
    pub skipped: u64,
    /// Where it stands.
    pub state: ReplayState,
}

/// Where a replay stands. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplayState {
    /// Making deliveries.
    Running = 1,
    /// All deliveries are made; how they fare is each delivery's own matter.
    Completed = 2,
    /// An operator stopped it; deliveries already made stay.
    Cancelled = 3,
}

impl ReplayState {
    /// The state with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Running, Self::Completed, Self::Cancelled].into_iter().find(|state| *state as u8 == code)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}
