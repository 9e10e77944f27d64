//! A delivery: one event to one endpoint, and the only things that can happen to it.
//!
//! ```text
//!              dispatch               succeed
//! scheduled ───────────▶ in_flight ───────────▶ delivered
//!   │  ▲                   │   │
//!   │  └───────────────────┘   └──────────────▶ dead
//!   │        retry               give up
//!   ├──────────▶ cancelled   (an operator)
//!   └──────────▶ expired     (retention)
//! ```
//!
//! Terminal states reach nothing. A paused endpoint or an open circuit is a state of the endpoint, not
//! of its deliveries: they stay `scheduled`. `in_flight` is never on disk: after a crash the delivery is
//! `scheduled` again and the attempt is repeated.

use crate::core::attempt::FailureClass;
use crate::core::failure::FailureGroup;
use crate::core::id::{DeliveryId, ReplayId};
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits until it is due, and then for its endpoint to admit it.
    Scheduled {
        /// Not before this.
        due: Timestamp,
    },
    /// An attempt is on its way.
    InFlight {
        /// Its number.
        attempt: u32,
    },
    /// The endpoint answered 2xx.
    Delivered,
    /// Gave up; the dead letter. Can be replayed.
    Dead,
    /// An operator took it back.
    Cancelled,
    /// Fell out of retention while it waited.
    Expired,
}

/// What can happen to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An attempt begins.
    Dispatch {
        /// Its number.
        attempt: u32,
    },
    /// The attempt succeeded.
    Succeed,
    /// The attempt failed; another follows.
    Retry {
        /// When.
        due: Timestamp,
    },
    /// The attempt failed; none follows.
    GiveUp,
    /// An operator takes it back.
    Cancel,
    /// Retention ends it.
    Expire,
}

/// Why a delivery is where it is: kept with every move, shown everywhere. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Scheduled: the event was accepted and routed here.
    Received = 1,
    /// Scheduled: an operator asked for it again.
    Replayed = 2,
    /// Scheduled: the last attempt failed; backing off.
    Backoff = 3,
    /// Scheduled: the endpoint said when to come back.
    RetryAfter = 4,
    /// Delivered: the endpoint answered 2xx.
    Acknowledged = 5,
    /// Dead: the retry policy's attempts are used up.
    AttemptsExhausted = 6,
    /// Dead: the retry policy's age is reached.
    AgeExceeded = 7,
    /// Dead: the endpoint answered 410 Gone.
    Gone = 8,
    /// Dead: the endpoint answered a status that its policy calls permanent.
    Rejected = 9,
    /// Cancelled: an operator took it back.
    Operator = 10,
    /// Expired: it waited longer than retention keeps.
    Retention = 11,
    /// Dead: the event's record was damaged on disk; there is nothing to send.
    Lost = 12,
    /// Scheduled: it was sent as a probe while its endpoint was down, and failed; no attempt was spent.
    ProbeFailed = 13,
}

/// A move that the state machine does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IllegalMove {
    /// Where the delivery stands.
    pub from: State,
    /// What was to happen.
    pub step: Step,
}

impl State {
    /// The state after `step`, or an error if the drawing above has no such arrow.
    pub const fn apply(self, step: Step) -> Result<Self, IllegalMove> {
        match (self, step) {
            (Self::Scheduled { .. }, Step::Dispatch { attempt }) => Ok(Self::InFlight { attempt }),
            (Self::InFlight { .. }, Step::Succeed) => Ok(Self::Delivered),
            (Self::InFlight { .. }, Step::Retry { due }) => Ok(Self::Scheduled { due }),
            (Self::InFlight { .. }, Step::GiveUp) => Ok(Self::Dead),
            (Self::Scheduled { .. }, Step::Cancel) => Ok(Self::Cancelled),
            (Self::Scheduled { .. }, Step::Expire) => Ok(Self::Expired),
            (from, step) => Err(IllegalMove { from, step }),
        }
    }

    /// Whether nothing can happen any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Delivered | Self::Dead | Self::Cancelled | Self::Expired)
    }

    /// When it is due, if it waits.
    #[must_use]
    pub const fn due(self) -> Option<Timestamp> {
        match self {
            Self::Scheduled { due } => Some(due),
            _ => None,
        }
    }
}

/// What is known of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Which event, which of its deliveries.
    pub id: DeliveryId,
    /// Where to.
    pub endpoint: Name,
    /// Where it stands.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub changed_at: Timestamp,
    /// Since when it exists: the event's receive time, or the replay's.
    pub born_at: Timestamp,
    /// Attempts made and journaled.
    pub attempts: u32,
    /// Of those, probes that failed: the retry policy does not count them.
    pub probes: u32,
    /// Whether it was sent past an earlier delivery of its key that had held it too long.
    pub out_of_order: bool,
    /// The last answer's status.
    pub last_status: Option<u16>,
    /// The last failure, where no answer came.
    pub last_failure: Option<FailureClass>,
    /// What the last attempt looked like, if it failed.
    pub group: Option<FailureGroup>,
    /// The replay that made it.
    pub replay: Option<ReplayId>,
    /// Whether a later delivery of the same event to the same endpoint exists.
    pub superseded: bool,
    /// Whether its event's headers and body are still kept: else there is nothing to send again.
    pub has_payload: bool,
}

impl Delivery {
    /// How it is listed.
    #[must_use]
    pub const fn status(&self) -> Status {
        Status::of(self.state, self.attempts)
    }
}

/// A state as people list it: `scheduled` is split by whether an attempt has failed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Not yet tried.
    Scheduled,
    /// Tried, failed, to be tried again.
    Retrying,
    /// Done.
    Delivered,
    /// Gave up.
    Dead,
    /// Taken back.
    Cancelled,
    /// Out of retention.
    Expired,
}

impl Status {
    /// How a delivery in this state is listed that was tried so many times.
    #[must_use]
    pub const fn of(state: State, attempts: u32) -> Self {
        match state {
            State::Scheduled { .. } if attempts > 0 => Self::Retrying,
            State::Scheduled { .. } | State::InFlight { .. } => Self::Scheduled,
            State::Delivered => Self::Delivered,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
            State::Expired => Self::Expired,
        }
    }

    /// Every status, in the order people read them.
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Retrying, Self::Delivered, Self::Dead, Self::Cancelled, Self::Expired];

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The status with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl Reason {
    /// Every reason, in code order.
    pub const ALL: [Self; 13] = [
        Self::Received,
        Self::Replayed,
        Self::Backoff,
        Self::RetryAfter,
        Self::Acknowledged,
        Self::AttemptsExhausted,
        Self::AgeExceeded,
        Self::Gone,
        Self::Rejected,
        Self::Operator,
        Self::Retention,
        Self::Lost,
        Self::ProbeFailed,
    ];

    /// The reason with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }

    /// The reason with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Replayed => "replayed",
            Self::Backoff => "backoff",
            Self::RetryAfter => "retry_after",
            Self::Acknowledged => "acknowledged",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::AgeExceeded => "age_exceeded",
            Self::Gone => "gone",
            Self::Rejected => "rejected",
            Self::Operator => "operator",
            Self::Retention => "retention",
            Self::Lost => "lost",
            Self::ProbeFailed => "probe_failed",
        }
    }
}

impl std::fmt::Display for IllegalMove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a delivery that is {:?} cannot {:?}", self.from, self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: Timestamp = Timestamp::from_millis(5);

    /// Every pair of state and step: exactly the arrows of the drawing are legal.
    #[test]
    fn exactly_the_drawn_arrows_are_legal() {
        let states = [
            State::Scheduled { due: DUE },
            State::InFlight { attempt: 2 },
            State::Delivered,
            State::Dead,
            State::Cancelled,
            State::Expired,
        ];
        let steps = [
            Step::Dispatch { attempt: 2 },
            Step::Succeed,
            Step::Retry { due: DUE },
            Step::GiveUp,
            Step::Cancel,
            Step::Expire,
        ];
        let mut arrows = Vec::new();
        for (from, state) in states.into_iter().enumerate() {
            for (by, step) in steps.into_iter().enumerate() {
                if let Ok(to) = state.apply(step) {
                    assert!(!state.is_terminal());
                    arrows.push((from, by, states.iter().position(|state| *state == to).unwrap()));
                }
            }
        }
        assert_eq!(arrows, [(0, 0, 1), (0, 4, 4), (0, 5, 5), (1, 1, 2), (1, 2, 0), (1, 3, 3)]);
    }

    #[test]
    fn names_and_codes_round_trip() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason as u8), Some(reason));
            assert_eq!(Reason::from_name(reason.as_str()), Some(reason));
        }
        for status in Status::ALL {
            assert_eq!(Status::from_name(status.as_str()), Some(status));
        }
        assert_eq!(Reason::from_code(0), None);
    }
}
