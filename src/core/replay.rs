//! A replay: an operator's request to deliver old events again, many at a time.
//!
//! It is a durable job. Its selection is frozen at creation by position: no event accepted later and no delivery
//! made later can enter it, and nothing is copied. It walks the journal behind a cursor and makes NEW deliveries
//! of OLD events; cursor and deliveries move in one commit, so a crash neither skips nor doubles an item. Its
//! [`Terms`] govern it: how fast, in which order, what is too old, when to stop by itself. Absent: how its
//! deliveries fare, which the journal counts.

mod pace;
mod plan;

use std::time::Duration;

use crate::core::delivery::Delivery;
use crate::core::event::EventHead;
use crate::core::filter::Filter;
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::rate::Rate;
use crate::core::route::type_matches;
use crate::core::timestamp::Timestamp;
pub use pace::{Fared, Next, OPEN_MAX};
pub use plan::{AGES, Plan, SAMPLES_MAX, Sample, TYPES_MAX};

/// Longest idempotency key, in bytes.
pub const REQUEST_KEY_LEN_MAX: usize = 255;

/// A replay job as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// What is replayed.
    pub filter: Filter,
    /// What came later cannot enter the selection.
    pub freeze: Freeze,
    /// Where to; `None` is where each delivery went before, and for unrouted events where routes send them now.
    pub to: Option<Name>,
    /// How.
    pub terms: Terms,
    /// By which the same request is recognised if it comes again.
    pub request: Option<Request>,
    /// Who asked for it, by the name of the token; unknown of those that were asked for before this was kept.
    pub by: Option<Name>,
    /// How far it has come: everything up to and including this delivery is done.
    pub cursor: Option<DeliveryId>,
    /// Deliveries that fitted the filter so far.
    pub selected: u64,
    /// Deliveries it made so far.
    pub queued: u64,
    /// Fitting deliveries it made nothing of.
    pub skipped: Skipped,
    /// Where it stands.
    pub state: ReplayState,
    /// While it is paused: why.
    pub hold: Option<Hold>,
    /// Whether its canary has been delivered, or an operator went on without.
    pub canary_passed: bool,
    /// Failures that an operator has seen and went on after: they stop it no more.
    pub forgiven: u64,
}

/// The end of a replay's selection. Events are told by their ids: those only grow, whatever the clock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freeze {
    /// Only events with smaller ids.
    pub before: EventId,
    /// Of deliveries that were made again, only those until then.
    pub at: Timestamp,
}

/// How a replay goes about its work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// Makes no more than this.
    pub rate: Option<Rate>,
    /// Newest events first. Refused where an endpoint keeps an order.
    pub newest_first: bool,
    /// Events of these types that happened longer ago are left out. Of several patterns that fit the most specific
    /// one counts.
    pub max_ages: Vec<(String, Duration)>,
    /// Leaves out what has got there since: by a later delivery of the same event to the same endpoint.
    pub skip_if_delivered_later: bool,
    /// Pauses when so many of its deliveries have failed: given up, or at least once.
    pub stop_after_failures: Option<u64>,
    /// Makes so many at first and no more until all of them are delivered.
    pub canary: Option<u64>,
}

/// The client's word for one request, and what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The `Idempotency-Key`.
    pub key: String,
    /// A digest of what was asked.
    pub digest: [u8; 16],
}

/// Of the fitting deliveries, those nothing was made of, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skipped {
    /// One of that event to that endpoint was waiting already, or made by the same replay.
    pub waiting: u64,
    /// Older than its type's `max_age`.
    pub too_old: u64,
    /// A later one has got there.
    pub delivered_later: u64,
    /// Nothing is left to send: the body is out of retention.
    pub body_gone: u64,
    /// No route sends it anywhere, or its endpoint is no longer in the config.
    pub nowhere: u64,
}

/// Why a fitting delivery is not replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// See [`Skipped::waiting`].
    Waiting,
    /// See [`Skipped::too_old`].
    TooOld,
    /// See [`Skipped::delivered_later`].
    DeliveredLater,
    /// See [`Skipped::body_gone`].
    BodyGone,
    /// See [`Skipped::nowhere`].
    Nowhere,
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
    /// Makes nothing until an operator resumes it.
    Paused = 4,
}

/// Why a replay is paused. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Hold {
    /// An operator wants it so.
    Operator = 1,
    /// As many failed as its terms allow.
    Failures = 2,
    /// One of its canary was given up or taken back.
    Canary = 3,
}

/// What can happen to a replay, beside its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It makes nothing more for now.
    Pause(Hold),
    /// It goes on; so many failures until now are forgiven.
    Resume {
        /// See [`Replay::forgiven`].
        forgiven: u64,
    },
    /// Its canary is delivered.
    PassCanary,
}

impl Replay {
    /// One that begins: everything that fits and was there at `created_at`, to where it went before, without terms.
    #[must_use]
    pub fn new(id: ReplayId, created_at: Timestamp, filter: Filter) -> Self {
        Self {
            id,
            created_at,
            filter,
            freeze: Freeze { before: EventId::from_u128(id.as_u128()), at: created_at },
            to: None,
            terms: Terms::default(),
            request: None,
            by: None,
            cursor: None,
            selected: 0,
            queued: 0,
            skipped: Skipped::default(),
            state: ReplayState::Running,
            hold: None,
            canary_passed: false,
            forgiven: 0,
        }
    }

    /// It after `turn`; `None` if it stands where that cannot happen.
    #[must_use]
    pub fn turned(&self, turn: Turn) -> Option<Self> {
        use ReplayState::{Paused, Running};
        match (self.state, turn) {
            (Running, Turn::Pause(hold)) => Some(Self { state: Paused, hold: Some(hold), ..self.clone() }),
            (Paused, Turn::Resume { forgiven }) => {
                let canary_passed = self.canary_passed || self.hold == Some(Hold::Canary);
                Some(Self { state: Running, hold: None, canary_passed, forgiven, ..self.clone() })
            }
            (Running, Turn::PassCanary) if !self.canary_passed => Some(Self { canary_passed: true, ..self.clone() }),
            _ => None,
        }
    }

    /// Whether a cursor lies further along its walk than its own.
    #[must_use]
    pub fn is_behind(&self, cursor: Option<DeliveryId>) -> bool {
        match (self.cursor, cursor) {
            (None, Some(_)) => true,
            (Some(own), Some(other)) if self.terms.newest_first => other < own,
            (Some(own), Some(other)) => other > own,
            (_, None) => false,
        }
    }
}

impl Freeze {
    /// Whether a delivery of this event was there.
    #[must_use]
    pub fn admits(&self, head: &EventHead, delivery: &Delivery) -> bool {
        let is_original = delivery.replay.is_none() && delivery.born_at == head.received_at;
        head.id < self.before && (is_original || delivery.born_at <= self.at)
    }
}

impl Terms {
    /// Whether an event is too old to be replayed now.
    #[must_use]
    pub fn is_too_old(&self, now: Timestamp, head: &EventHead) -> bool {
        let fitting = self.max_ages.iter().filter(|(pattern, _)| type_matches(pattern, &head.event_type));
        // A pattern without a star fits one type alone; of two with one the longer says more.
        let specific = fitting.max_by_key(|(pattern, _)| (!pattern.ends_with('*'), pattern.len()));
        specific.is_some_and(|(_, age)| head.occurred_at.unwrap_or(head.received_at).after(*age) < now)
    }
}

impl Skipped {
    /// Counts one more.
    pub const fn count(&mut self, skip: Skip) {
        let count = match skip {
            Skip::Waiting => &mut self.waiting,
            Skip::TooOld => &mut self.too_old,
            Skip::DeliveredLater => &mut self.delivered_later,
            Skip::BodyGone => &mut self.body_gone,
            Skip::Nowhere => &mut self.nowhere,
        };
        *count += 1;
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            too_old: self.too_old + other.too_old,
            delivered_later: self.delivered_later + other.delivered_later,
            body_gone: self.body_gone + other.body_gone,
            nowhere: self.nowhere + other.nowhere,
        }
    }

    /// All of them.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.waiting + self.too_old + self.delivered_later + self.body_gone + self.nowhere
    }
}

impl ReplayState {
    /// Every state, in code order.
    pub const ALL: [Self; 4] = [Self::Running, Self::Completed, Self::Cancelled, Self::Paused];

    /// The state with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == code)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
        }
    }

    /// Whether nothing more will happen to it.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

impl Hold {
    /// The hold with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Operator, Self::Failures, Self::Canary].into_iter().find(|hold| *hold as u8 == code)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Failures => "failures",
            Self::Canary => "canary",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    pub(super) fn replay(state: ReplayState, hold: Option<Hold>) -> Replay {
        let new = Replay::new(ReplayId::from_u128(1), Timestamp::ZERO, Filter::failed());
        Replay { state, hold, ..new }
    }

    #[test]
    fn only_what_runs_is_paused_and_only_what_is_paused_goes_on() {
        use ReplayState::{Cancelled, Completed, Paused, Running};
        for state in [Running, Completed, Cancelled, Paused] {
            let it = replay(state, (state == Paused).then_some(Hold::Operator));
            let after = |turn| it.turned(turn).map(|it| (it.state, it.hold, it.canary_passed, it.forgiven));
            let paused = (state == Running).then_some((Paused, Some(Hold::Failures), false, 0));
            assert_eq!(after(Turn::Pause(Hold::Failures)), paused, "{state:?}");
            let resumed = (state == Paused).then_some((Running, None, false, 3));
            assert_eq!(after(Turn::Resume { forgiven: 3 }), resumed, "{state:?}");
            let passed = (state == Running).then_some((Running, None, true, 0));
            assert_eq!(after(Turn::PassCanary), passed, "{state:?}");
        }
        let canary = replay(Paused, Some(Hold::Canary)).turned(Turn::Resume { forgiven: 0 }).unwrap();
        assert!(canary.canary_passed, "an operator who goes on after a failed canary goes on without it");
        assert_eq!(canary.turned(Turn::PassCanary), None);
    }

    #[test]
    fn the_most_specific_pattern_says_how_old_is_too_old() {
        let max_ages = [("*", 10), ("call_*", 5), ("call_ended", 100), ("tool*", 1)];
        let max_ages = max_ages.map(|(pattern, hours)| (pattern.to_owned(), HOUR * hours)).to_vec();
        let terms = Terms { max_ages, ..Terms::default() };
        let now = Timestamp::ZERO.after(HOUR * 1000);
        let head = |event_type: &str, hours_ago: u32| EventHead {
            id: EventId::MIN,
            received_at: now,
            source: Name::new("flyflow").unwrap(),
            event_type: event_type.into(),
            key: None,
            occurred_at: Some(Timestamp::ZERO.after(HOUR * (1000 - hours_ago))),
            body_bytes: 0,
        };
        for (event_type, hours) in [("other", 10), ("call_started", 5), ("call_ended", 100), ("tool_call", 1)] {
            assert!(!terms.is_too_old(now, &head(event_type, hours)), "{event_type}");
            assert!(terms.is_too_old(now, &head(event_type, hours + 1)), "{event_type}");
        }
        let received = EventHead { occurred_at: None, ..head("tool_call", 900) };
        assert!(!terms.is_too_old(now, &received), "one that does not say when it happened is as old as its receipt");
        assert!(!Terms::default().is_too_old(now, &head("x", 900)));
    }

    #[test]
    fn a_walk_goes_one_way() {
        let at = |number| Some(EventId::from_u128(number).delivery(0));
        let mut it = replay(ReplayState::Running, None);
        assert!(it.is_behind(at(5)) && !it.is_behind(None));
        it.cursor = at(5);
        assert_eq!([4, 5, 6].map(|number| it.is_behind(at(number))), [false, false, true]);
        it.terms.newest_first = true;
        assert_eq!([4, 5, 6].map(|number| it.is_behind(at(number))), [true, false, false]);
    }
}
