//! The journal: the durable store of everything, and the contract every store keeps.
//!
//! In words: [`Journal::commit`] takes a batch of changes and returns only when all of it would survive
//! a power cut; it decides each change against what is already there (a duplicate, a delivery that has
//! moved on) and says so in a [`Receipt`]. Batches are the unit because syncs are the cost. There is one
//! writer, the committer; readers may call from any thread and see every committed change.
//!
//! [`memory`] is the model: the contract with no disk under it. [`embedded`] is one directory: the
//! [`log`] is the truth, sled the index over it, and the index can always be built again. A shared SQL
//! store fits the same trait: nothing here speaks of keys, rows or files.
//!
//! Invariants: an event and its deliveries appear together or not at all. A delivery moves only along
//! the arrows of [`crate::core::delivery`]. An attempt and the state it leads to are one change.

pub mod audit;
mod codec;
pub mod disk;
pub mod embedded;
mod entry;
mod ledger;
pub mod log;
pub mod memory;
pub mod operations;
pub mod private;
mod query;
pub mod record;
pub mod refused;
pub mod retention;
pub mod seal;
mod sled;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use audit::{Audit, Span};

use crate::core::attempt::Attempt;
use crate::core::delivery::{Delivery, Reason, Status, Step};
use crate::core::event::{Event, EventHead, KeyTag};
use crate::core::filter::Filter;
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::{Replay, Skipped, Turn};
use crate::core::retention::Retention;
use crate::core::scheduler::{Active, Fresh};
use crate::core::standing::Standing;
use crate::core::timestamp::Timestamp;
use retention::{Retain, Sweep};

/// The store of events, deliveries, attempts and replays. See the module's text for the contract.
///
/// Calls block on disk; asynchronous callers use a blocking thread.
pub trait Journal: Send + Sync + 'static {
    /// Decides and stores `changes` in order; returns when all are durable. One receipt per change.
    ///
    /// A batch settles a delivery at most once: the next attempt begins when the one before it is stored.
    ///
    /// On [`JournalError::Full`] nothing was stored and a later call may succeed; a batch with a [`Change::Retain`]
    /// is refused so before room is spent on it that is kept for outcomes. Any other error is
    /// final for this process: what was stored is unknown until the journal is opened again.
    fn commit(&self, changes: &[Change]) -> Result<Vec<Receipt>, JournalError>;

    /// Whether new events should be refused now, to leave room for settling what is here.
    fn is_full(&self) -> bool;

    /// Whether it can still be relied on; what failed in the background shows here.
    fn check(&self) -> Result<(), JournalError> {
        Ok(())
    }

    /// Never-tried original deliveries to `endpoint` of events after `after`, oldest first, at most `limit`.
    fn fresh(&self, endpoint: &Name, after: EventId, limit: usize) -> Result<Fresh, JournalError>;

    /// As [`Journal::fresh`], but only of events whose key has the tag `key`.
    ///
    /// What the answer says of events it looked at goes for events of that key.
    fn fresh_of_key(&self, endpoint: &Name, key: KeyTag, after: EventId, limit: usize) -> Result<Fresh, JournalError>;

    /// Retrying and replayed deliveries to `endpoint`, earliest due first, at most `limit`; whether that was all.
    fn waiting(&self, endpoint: &Name, limit: usize) -> Result<(Vec<Active>, bool), JournalError>;

    /// Remembers, in its own time, that every first attempt to `endpoint` of events up to `mark` is journaled.
    fn set_mark(&self, endpoint: &Name, mark: EventId);

    /// The last remembered mark: where [`Journal::fresh`] may begin after a restart.
    fn mark(&self, endpoint: &Name) -> EventId;

    /// How `endpoint` stands by the last [`Change::Stand`]; [`Standing::default`] if there was none.
    fn standing(&self, endpoint: &Name) -> Standing;

    /// How every endpoint stands that ever had a [`Change::Stand`], in order of their names.
    fn standings(&self) -> Vec<(Name, Standing)>;

    /// What is known of an event and its deliveries, without headers, body and attempts.
    fn entry(&self, id: EventId) -> Result<Option<EventView>, JournalError>;

    /// The whole event. `None` if it is unknown, if retention has let go of its payload (its entry says so), or if
    /// its record was damaged on disk while its entry was not.
    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, JournalError>;

    /// The attempts of a delivery, first to last. They go with the event's payload.
    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, JournalError>;

    /// Events that fit.
    fn events(&self, query: &Query<EventId>) -> Result<Page<EventView, EventId>, JournalError>;

    /// When the oldest event that is kept was received; `None` if none is.
    fn oldest(&self) -> Result<Option<Timestamp>, JournalError> {
        let oldest = self.events(&Query { filter: Filter::default(), after: None, newest_first: false, limit: 1 })?;
        Ok(oldest.items.first().map(|view| view.head.received_at))
    }

    /// Deliveries that fit, each with its event's head.
    fn deliveries(&self, query: &Query<DeliveryId>) -> Result<Page<(EventHead, Delivery), DeliveryId>, JournalError>;

    /// All replays, newest first.
    fn replays(&self) -> Result<Vec<Replay>, JournalError>;

    /// The running totals.
    fn counters(&self) -> Counters;

    /// Holds what is known of every event of the span against what was stored of it; see [`audit`].
    ///
    /// Commits go on meanwhile and are not in it. It takes as long as reading everything that is stored.
    fn audit(&self, span: Span) -> Result<Audit, JournalError>;

    /// How large it is, as far as that is known; of a store without files, nothing.
    fn size(&self) -> Size {
        Size::default()
    }

    /// The greatest id in use, so that new ones are greater.
    fn last_id(&self) -> u128;

    /// A small step of retention: the change to be committed next, or what was done instead.
    ///
    /// Nothing is let go of by this call but what a committed [`Change::Retain`] has released. What is due may be
    /// kept for longer: space is given back by whole stretches of the journal, and only where that pays. One
    /// sweeper at a time; ask again once the change is committed.
    fn sweep(&self, retention: &Retention, now: Timestamp) -> Result<Sweep, JournalError> {
        let _ = (retention, now);
        Ok(Sweep::Idle)
    }

    /// Makes the next start quick. The journal accepts no commit afterwards.
    fn close(&self) -> Result<(), JournalError>;
}

/// One thing to be stored.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new event with its routing.
    Accept(Arc<Event>),
    /// An attempt and the state it leads to.
    Settle(Settlement),
    /// An operator takes a scheduled delivery back.
    Cancel {
        /// Which.
        id: DeliveryId,
        /// When.
        at: Timestamp,
    },
    /// An operator wants one event delivered again.
    Redeliver(Redelivery),
    /// A replay begins.
    OpenReplay(Box<Replay>),
    /// A replay moves on.
    AdvanceReplay(Advance),
    /// An operator stops a replay.
    CancelReplay {
        /// Which.
        id: ReplayId,
        /// When.
        at: Timestamp,
    },
    /// A replay is paused, goes on, or has passed its canary.
    TurnReplay {
        /// Which.
        id: ReplayId,
        /// What happens to it.
        turn: Turn,
        /// When.
        at: Timestamp,
    },
    /// How an endpoint stands from now on. A note beyond [`crate::core::standing::NOTE_LEN_MAX`] is cut.
    Stand {
        /// Which.
        endpoint: Name,
        /// All of it, in place of what was known before.
        standing: Standing,
    },
    /// Retention lets go of some events, and keeps the rest of what stood beside them. It is the last of its batch.
    Retain(Box<Retain>),
}

/// An attempt and the state it leads to: one change, never two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which delivery.
    pub id: DeliveryId,
    /// What was tried.
    pub attempt: Attempt,
    /// What happens to the delivery.
    pub step: Step,
    /// Why.
    pub reason: Reason,
}

/// A request to deliver one event to one endpoint again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redelivery {
    /// Which event.
    pub event: EventId,
    /// Where to; need not be where it went before.
    pub endpoint: Name,
    /// When it was asked for.
    pub at: Timestamp,
    /// Also if a delivery of this event to this endpoint is still scheduled.
    pub force: bool,
}

/// One slice of a replay's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Which replay.
    pub id: ReplayId,
    /// Everything up to and including this delivery is done after this.
    pub cursor: Option<DeliveryId>,
    /// The fitting deliveries of the slice, by event and target endpoint.
    pub items: Vec<(EventId, Name)>,
    /// More that fitted, of which nothing is to be made.
    pub skipped: Skipped,
    /// When.
    pub at: Timestamp,
    /// Whether this was the last slice.
    pub finished: bool,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Stored as asked.
    Done,
    /// Not stored: the same event is already there, under this id.
    Duplicate(EventId),
    /// Stored, and these deliveries came to be.
    Made(Vec<(DeliveryId, Name)>),
    /// Not stored: the delivery or replay is not where the change assumes it to be.
    Stale,
    /// Not stored: there is no such event, delivery or replay.
    Missing,
    /// Not stored: retention has let go of the event's payload, so there is nothing to deliver.
    PayloadGone,
}

/// An event and its deliveries, in slot order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    /// The event.
    pub head: EventHead,
    /// Its deliveries; empty if it was routed nowhere.
    pub deliveries: Vec<Delivery>,
    /// Whether headers, body and attempts are still kept.
    pub has_payload: bool,
}

/// What to list.
#[derive(Debug, Clone)]
pub struct Query<C> {
    /// What fits.
    pub filter: Filter,
    /// Continue behind this, as a former page said.
    pub after: Option<C>,
    /// Newest events first, or oldest first.
    pub newest_first: bool,
    /// At most this many.
    pub limit: usize,
}

/// A part of a list. A page may be short, even empty, and still have a next: long searches come in slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// What fits.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<C>,
}

/// Running totals since the journal began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Events accepted.
    pub accepted: u64,
    /// Of those, routed nowhere.
    pub unrouted: u64,
    /// Of those accepted, let go of by retention. They stay in every other count.
    pub dropped: u64,
    /// Damaged stretches of the journal that retention has removed with the rest.
    pub damaged: u64,
    /// How many bytes they had.
    pub damaged_bytes: u64,
    /// By endpoint.
    pub endpoints: BTreeMap<Name, Tally>,
    /// Of the deliveries that replays made: by replay.
    pub replays: BTreeMap<ReplayId, Tally>,
    /// What is held now, by source; those that nothing is held of are not named.
    pub sources: BTreeMap<Name, Held>,
}

/// How large a journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Bytes that were ever written to it.
    pub log_written_bytes: u64,
    /// Bytes of the index on disk.
    pub index_bytes: u64,
    /// Events that the index has yet to take over.
    pub unindexed: usize,
}

/// What is held of one source now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Events.
    pub events: u64,
    /// Bytes of their bodies, as far as those are still kept.
    pub bytes: u64,
    /// Of those bytes, what deliveries still to be made need.
    pub live_bytes: u64,
}

/// How many deliveries to one endpoint stand where. The statuses add up to `routed + replayed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Deliveries that routing made.
    pub routed: u64,
    /// Deliveries that replays made.
    pub replayed: u64,
    /// Attempts journaled.
    pub attempts: u64,
    /// Not yet tried.
    pub scheduled: u64,
    /// Tried, to be tried again.
    pub retrying: u64,
    /// Done.
    pub delivered: u64,
    /// Gave up.
    pub dead: u64,
    /// Of the dead, those that no later delivery has taken the place of: what is listed as failed.
    pub failed: u64,
    /// Taken back.
    pub cancelled: u64,
    /// Out of retention.
    pub expired: u64,
}

/// What a journal cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalError {
    /// There is no room; nothing was stored. Room may come back.
    Full(String),
    /// A write or sync failed; what was stored is unknown. Stop, and open the journal again.
    Failed(String),
    /// It is closed.
    Closed,
    /// It cannot be opened.
    Open(String),
}

impl Tally {
    /// Deliveries in `status`.
    #[must_use]
    pub const fn of(&self, status: Status) -> u64 {
        match status {
            Status::Scheduled => self.scheduled,
            Status::Retrying => self.retrying,
            Status::Delivered => self.delivered,
            Status::Dead => self.dead,
            Status::Cancelled => self.cancelled,
            Status::Expired => self.expired,
        }
    }

    pub(crate) const fn of_mut(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Scheduled => &mut self.scheduled,
            Status::Retrying => &mut self.retrying,
            Status::Delivered => &mut self.delivered,
            Status::Dead => &mut self.dead,
            Status::Cancelled => &mut self.cancelled,
            Status::Expired => &mut self.expired,
        }
    }

    /// Whether every delivery that came to be is in exactly one status.
    #[must_use]
    pub fn reconciles(&self) -> bool {
        let standing: u64 = Status::ALL.into_iter().map(|status| self.of(status)).sum();
        standing == self.routed + self.replayed && self.failed <= self.dead
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(why) => write!(f, "the journal has no room: {why}"),
            Self::Failed(why) => write!(f, "the journal failed: {why}"),
            Self::Closed => f.write_str("the journal is closed"),
            Self::Open(why) => write!(f, "the journal cannot be opened: {why}"),
        }
    }
}

impl std::error::Error for JournalError {}
