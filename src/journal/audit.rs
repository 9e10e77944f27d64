//! What an audit says: every delivery that ever came to be, and where it stands, held against the truth.
//!
//! An audit is exact also while events flow, because it is of one moment: all that was committed when it began, and
//! nothing since. It is clean if nothing differs: every event that was accepted is known, routed where it was routed
//! to, and every one of its deliveries stands where its last record says; nothing is known that has no record; what
//! waits is where it is looked for; and the running totals are the sums. What differs is named by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Counters, Tally};
use crate::core::delivery::Status;
use crate::core::filter::Filter;
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;

/// Most differences named; more are counted.
pub const DIFFERENCES_MAX: usize = 1000;

/// Which events an audit is of, by when they were received. The default is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// At or after this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Records of the log that were looked at.
    pub records: u64,
    /// The sums over the span's events, at the moment the audit began.
    pub counters: Counters,
    /// What differs, at most [`DIFFERENCES_MAX`].
    pub differences: Vec<Difference>,
    /// How many differences there are.
    pub found: u64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of what kind.
    pub what: What,
    /// Of what; nothing if it is a sum of an endpoint or a place in the log.
    pub id: Option<Subject>,
    /// Of which endpoint.
    pub endpoint: Option<Name>,
    /// In words.
    pub detail: String,
}

/// What a difference is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An event.
    Event(EventId),
    /// A delivery.
    Delivery(DeliveryId),
    /// A replay.
    Replay(ReplayId),
}

/// How something can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The log has it, the index knows nothing of it.
    Missing,
    /// The index has it, and no record in the log says so.
    Unfounded,
    /// An event is known otherwise than it was accepted: its head, or where it was routed to.
    Misrouted,
    /// A record of it has not reached the index.
    Behind,
    /// It does not stand where its last record says.
    Astray,
    /// It waits, but not where it is looked for: it would never go.
    Unfindable,
    /// A sum that does not agree.
    Count,
    /// The log has lost it: its bytes there are no record any more.
    Lost,
}

impl Span {
    /// Whether an event received then is in it.
    #[must_use]
    pub fn admits(&self, received_at: Timestamp) -> bool {
        self.since.is_none_or(|since| received_at >= since) && self.until.is_none_or(|until| received_at < until)
    }

    /// Whether it is everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// The ids that its events can have: `low..high`.
    #[must_use]
    pub fn id_bounds(&self) -> (EventId, EventId) {
        Filter { since: self.since, until: self.until, ..Filter::default() }.id_bounds()
    }
}

impl Audit {
    /// Whether nothing differs.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.found == 0
    }

    pub(crate) fn note(&mut self, what: What, id: Option<Subject>, endpoint: Option<&Name>, detail: String) {
        self.found += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(Difference { what, id, endpoint: endpoint.cloned(), detail });
        }
    }

    /// Notes where `others`, which are called `whose`, are not the sums.
    pub(crate) fn compare(&mut self, others: &Counters, whose: &str) {
        let counters = self.counters.clone();
        for (count, of) in EVENT_COUNTS {
            self.compare_count((None, None), count, of(&counters), of(others), whose);
        }
        let none = Tally::default();
        for name in both(&counters.endpoints, &others.endpoints) {
            let [sums, other] = [&counters, others].map(|all| all.endpoints.get(name).unwrap_or(&none));
            self.compare_tallies((None, Some(name)), sums, other, whose);
        }
        for id in both(&counters.replays, &others.replays) {
            let [sums, other] = [&counters, others].map(|all| all.replays.get(id).unwrap_or(&none));
            self.compare_tallies((Some(Subject::Replay(*id)), None), sums, other, whose);
        }
    }

    fn compare_tallies(&mut self, of: (Option<Subject>, Option<&Name>), sums: &Tally, other: &Tally, whose: &str) {
        for (count, field) in DELIVERY_COUNTS {
            self.compare_count(of, count, field(sums), field(other), whose);
        }
        let standing: u64 = Status::ALL.into_iter().map(|status| other.of(status)).sum();
        let made = other.routed + other.replayed;
        if standing != made {
            let detail = format!("{made} deliveries were made and {standing} stand somewhere, by {whose}");
            self.note(What::Count, of.0, of.1, detail);
        }
    }

    fn compare_count(
        &mut self,
        (id, endpoint): (Option<Subject>, Option<&Name>),
        count: &str,
        sum: u64,
        other: u64,
        whose: &str,
    ) {
        if sum != other {
            let detail = format!("{count}: {sum} by the index, {other} by {whose}");
            self.note(What::Count, id, endpoint, detail);
        }
    }
}

/// The keys of either, in order.
fn both<'a, K: Ord, V>(one: &'a BTreeMap<K, V>, other: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    one.keys().chain(other.keys()).collect()
}

/// What a sum is called, and where it is.
type Count<T> = (&'static str, fn(&T) -> u64);

const EVENT_COUNTS: [Count<Counters>; 2] =
    [("accepted", |counters| counters.accepted), ("unrouted", |counters| counters.unrouted)];

const DELIVERY_COUNTS: [Count<Tally>; 10] = [
    ("routed", |tally| tally.routed),
    ("replayed", |tally| tally.replayed),
    ("attempts", |tally| tally.attempts),
    ("scheduled", |tally| tally.scheduled),
    ("retrying", |tally| tally.retrying),
    ("delivered", |tally| tally.delivered),
    ("dead", |tally| tally.dead),
    ("failed", |tally| tally.failed),
    ("cancelled", |tally| tally.cancelled),
    ("expired", |tally| tally.expired),
];

impl What {
    /// The word used in the API and the CLI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unfounded => "unfounded",
            Self::Misrouted => "misrouted",
            Self::Behind => "behind",
            Self::Astray => "astray",
            Self::Unfindable => "unfindable",
            Self::Count => "count",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => write!(f, "{id}"),
            Self::Delivery(id) => write!(f, "{id}"),
            Self::Replay(id) => write!(f, "{id}"),
        }
    }
}
