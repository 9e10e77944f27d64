//! A journal that does as a test says: holds a commit, is full, fails, has lost a body, notes what it did.
//!
//! What it stores is in a [`MemoryJournal`] that outlives it, as a disk outlives a process.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use backstop::core::attempt::Attempt;
use backstop::core::delivery::Delivery;
use backstop::core::event::{Event, EventHead, KeyTag};
use backstop::core::id::{DeliveryId, EventId};
use backstop::core::name::Name;
use backstop::core::replay::Replay;
use backstop::core::retention::Retention;
use backstop::core::scheduler::{Active, Fresh};
use backstop::core::standing::Standing;
use backstop::core::timestamp::Timestamp;
use backstop::journal::audit::{Audit, Span};
use backstop::journal::memory::MemoryJournal;
use backstop::journal::retention::Sweep;
use backstop::journal::{Change, Counters, EventView, Journal, JournalError, Page, Query, Receipt};
use tokio::sync::watch;

use super::world::within;

/// What happened, in the order it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// The commit of this event has returned.
    Accepted(EventId),
    /// The commit of this attempt has returned.
    Settled(DeliveryId, u32),
    /// The transport was given this attempt.
    Sent(DeliveryId, u32),
    /// The journal was closed.
    Closed,
}

pub(crate) type Diary = Arc<Mutex<Vec<Note>>>;

/// Where in a commit it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Nothing is stored yet.
    Before,
    /// All is stored; the engine does not know.
    After,
}

type Fits = Box<dyn Fn(&Change) -> bool + Send>;

#[derive(Default)]
struct Rules {
    hold: Option<(Point, Fits)>,
    held: bool,
    full: bool,
    no_room_to_retain: bool,
    high_water: bool,
    failures: u32,
    dead: bool,
    closed: bool,
    lost: BTreeSet<EventId>,
    commits: u64,
}

pub(crate) struct Disk {
    pub(crate) memory: Arc<MemoryJournal>,
    diary: Diary,
    rules: Mutex<Rules>,
    released: Condvar,
    moved: watch::Sender<()>,
}

impl Disk {
    pub(crate) fn new(memory: Arc<MemoryJournal>, diary: Diary) -> Self {
        let (moved, _) = watch::channel(());
        Self { memory, diary, rules: Mutex::default(), released: Condvar::new(), moved }
    }

    /// Holds the next commit with a fitting change, and with it all others.
    pub(crate) fn hold(&self, point: Point, fits: impl Fn(&Change) -> bool + Send + 'static) {
        self.rules().hold = Some((point, Box::new(fits)));
    }

    /// Waits until a commit is held.
    pub(crate) async fn held(&self) {
        self.until(|disk| disk.rules().held).await;
    }

    pub(crate) fn release(&self) {
        let mut rules = self.rules();
        (rules.hold, rules.held) = (None, false);
        self.released.notify_all();
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.rules().full = full;
    }

    /// From now on there is no room for a batch with retention in it.
    pub(crate) fn refuse_retains(&self) {
        self.rules().no_room_to_retain = true;
    }

    pub(crate) fn set_high_water(&self, reached: bool) {
        self.rules().high_water = reached;
    }

    /// The next commits fail; those after them would not.
    pub(crate) fn fail(&self, commits: u32) {
        self.rules().failures = commits;
    }

    pub(crate) fn lose(&self, id: EventId) {
        self.rules().lost.insert(id);
    }

    /// From now on nothing is stored: the process that used this is gone.
    pub(crate) fn kill(&self) {
        self.rules().dead = true;
        self.released.notify_all();
    }

    /// How often a commit was asked for.
    pub(crate) fn commits(&self) -> u64 {
        self.rules().commits
    }

    /// Waits for something that a commit brings about.
    pub(crate) async fn until(&self, fits: impl Fn(&Self) -> bool) {
        let mut moved = self.moved.subscribe();
        within(async {
            while !fits(self) {
                moved.changed().await.unwrap();
            }
        })
        .await;
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap()
    }

    fn obey(&self, point: Point, changes: &[Change]) -> Result<(), JournalError> {
        let mut rules = self.rules();
        if rules.hold.as_ref().is_some_and(|(at, fits)| *at == point && changes.iter().any(fits)) {
            rules.held = true;
            self.moved.send_replace(());
        }
        while rules.held && !rules.dead {
            rules = self.released.wait(rules).unwrap();
        }
        if rules.dead { Err(JournalError::Failed("the process is gone".to_owned())) } else { Ok(()) }
    }

    fn refuse(&self, changes: &[Change]) -> Result<(), JournalError> {
        let mut rules = self.rules();
        rules.commits += 1;
        if rules.closed {
            return Err(JournalError::Closed);
        }
        if rules.failures > 0 {
            rules.failures -= 1;
            return Err(JournalError::Failed("the disk broke".to_owned()));
        }
        let retains = changes.iter().any(|change| matches!(change, Change::Retain(_)));
        if rules.full || (retains && rules.no_room_to_retain) {
            Err(JournalError::Full("no room".to_owned()))
        } else {
            Ok(())
        }
    }

    fn note(&self, changes: &[Change], receipts: &[Receipt]) {
        let done = changes.iter().zip(receipts).filter(|(_, receipt)| **receipt == Receipt::Done);
        let notes = done.filter_map(|(change, _)| match change {
            Change::Accept(event) => Some(Note::Accepted(event.id)),
            Change::Settle(settlement) => Some(Note::Settled(settlement.id, settlement.attempt.number)),
            _ => None,
        });
        self.diary.lock().unwrap().extend(notes);
    }
}

impl Journal for Disk {
    fn commit(&self, changes: &[Change]) -> Result<Vec<Receipt>, JournalError> {
        let committed = self.obey(Point::Before, changes).and_then(|()| {
            self.refuse(changes)?;
            let receipts = self.memory.commit(changes)?;
            self.obey(Point::After, changes)?;
            self.note(changes, &receipts);
            Ok(receipts)
        });
        self.moved.send_replace(());
        committed
    }

    fn is_full(&self) -> bool {
        self.rules().high_water
    }

    fn set_mark(&self, endpoint: &Name, mark: EventId) {
        if !self.rules().dead {
            self.memory.set_mark(endpoint, mark);
        }
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, JournalError> {
        if self.rules().lost.contains(&id) { Ok(None) } else { self.memory.event(id) }
    }

    fn close(&self) -> Result<(), JournalError> {
        self.rules().closed = true;
        self.diary.lock().unwrap().push(Note::Closed);
        Ok(())
    }

    fn fresh(&self, endpoint: &Name, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        self.memory.fresh(endpoint, after, limit)
    }
    fn fresh_of_key(&self, endpoint: &Name, key: KeyTag, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        self.memory.fresh_of_key(endpoint, key, after, limit)
    }
    fn standing(&self, endpoint: &Name) -> Standing {
        self.memory.standing(endpoint)
    }
    fn standings(&self) -> Vec<(Name, Standing)> {
        self.memory.standings()
    }
    fn waiting(&self, endpoint: &Name, limit: usize) -> Result<(Vec<Active>, bool), JournalError> {
        self.memory.waiting(endpoint, limit)
    }
    fn mark(&self, endpoint: &Name) -> EventId {
        self.memory.mark(endpoint)
    }
    fn entry(&self, id: EventId) -> Result<Option<EventView>, JournalError> {
        self.memory.entry(id)
    }
    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, JournalError> {
        self.memory.attempts(id)
    }
    fn events(&self, query: &Query<EventId>) -> Result<Page<EventView, EventId>, JournalError> {
        self.memory.events(query)
    }
    fn deliveries(&self, query: &Query<DeliveryId>) -> Result<Page<(EventHead, Delivery), DeliveryId>, JournalError> {
        self.memory.deliveries(query)
    }
    fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        self.memory.replays()
    }
    fn sweep(&self, retention: &Retention, now: Timestamp) -> Result<Sweep, JournalError> {
        self.memory.sweep(retention, now)
    }
    fn counters(&self) -> Counters {
        self.memory.counters()
    }
    fn audit(&self, span: Span) -> Result<Audit, JournalError> {
        self.memory.audit(span)
    }
    fn last_id(&self) -> u128 {
        self.memory.last_id()
    }
}
