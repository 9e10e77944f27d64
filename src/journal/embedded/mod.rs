//! The embedded journal: one directory, power-safe, nothing to run beside it.
//!
//! ```text
//! <dir>/LOCK       held while a process has the journal open
//! <dir>/log/       the truth (see `log`)
//! <dir>/index/     sled over it (see `sled`); may be deleted, is built again
//! <dir>/index.state  whether the index may be trusted at the next start
//! <dir>/ballast    given up when the disk is full
//! ```
//!
//! A commit is decided on a stage, appended to the log as one group, synced once, applied to the overlay,
//! and acknowledged. The indexer takes the overlay over into sled in its own time. Readers ask the overlay
//! first, then sled; bodies and attempts are read from the log by position.
//!
//! After any error but `Full` the journal takes nothing more: what is on disk is unknown until it is
//! opened again.

mod audit;
mod indexer;
mod overlay;
mod payload;
mod space;
mod stage;
mod start;
mod sweep;

use std::collections::BTreeSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::audit::{Audit, Span};
use super::entry::{Entry, Slot};
use super::ledger;
use super::log::{Findings, Log, LogError, Position, Seals};
use super::query::{self, SCAN_MAX};
use super::record::Record;
use super::retention::Sweep;
use super::sled::{Among, Index, merge};
use super::{Change, Counters, EventView, Journal, JournalError, Page, Query, Receipt, Size};
use crate::core::attempt::Attempt;
use crate::core::delivery::Delivery;
use crate::core::event::{Event, EventHead, KeyTag};
use crate::core::filter::Filter;
use crate::core::id::{DeliveryId, EventId};
use crate::core::name::Name;
use crate::core::replay::Replay;
use crate::core::retention::Retention;
use crate::core::scheduler::{Active, Fresh};
use crate::core::standing::Standing;
use crate::core::timestamp::Timestamp;
use indexer::Indexer;
use overlay::{ENTRIES_MAX, Overlay, Take};
use space::Space;
use stage::Stage;
pub use start::{DirLock, OpenReport, Progress, Settings, Verified};
use sweep::Sweeper;

/// How long a commit waits for the index to make room before it gives up. Far above what a healthy disk needs.
const ROOM_TIMEOUT: Duration = Duration::from_secs(60);
/// Entries that the index is handed at once.
const BATCH_MAX: usize = 1024;

/// The journal in a directory.
pub struct EmbeddedJournal {
    inner: Arc<Inner>,
    indexer: Mutex<Option<Indexer>>,
    report: OpenReport,
    _lock: File,
}

struct Inner {
    log: Log,
    index: Arc<Index>,
    overlay: Mutex<Overlay>,
    /// Rung when the overlay has become smaller, or the indexer has failed.
    room: Condvar,
    /// One commit at a time.
    committing: Mutex<()>,
    /// One handover at a time: what a later one calls applied must not overtake an earlier one's entries.
    handing_over: Mutex<()>,
    /// One audit at a time; nothing is let go of, or removed from the log, during one.
    auditing: Mutex<()>,
    sweeper: Mutex<Sweeper>,
    /// The journal's directory.
    dir: PathBuf,
    space: Space,
    failed: OnceLock<JournalError>,
    closed: AtomicBool,
}

/// Sizes for people: what stands where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of log segments on disk.
    pub log_bytes: u64,
    /// Bytes of the index on disk.
    pub index_bytes: u64,
    /// Entries not yet in the index.
    pub overlay_entries: usize,
    /// Where the log begins: so many bytes of it were given back since it began.
    pub begin: Position,
    /// Where the next record goes.
    pub end: Position,
}

impl EmbeddedJournal {
    /// Opens the journal, repairing what needs it; `progress` is told of long work.
    pub fn open(settings: &Settings, progress: &dyn Fn(Progress)) -> Result<Self, JournalError> {
        start::open(settings, progress)
    }

    /// Has the next [`EmbeddedJournal::open`] build the index again.
    pub fn distrust_index(settings: &Settings) -> Result<(), JournalError> {
        start::distrust(settings)
    }

    /// Reads the whole log, whatever the index says.
    pub fn verify(settings: &Settings) -> Result<Verified, JournalError> {
        start::verify(settings)
    }

    /// What opening found and did.
    #[must_use]
    pub const fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Sizes on disk and in memory.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            log_bytes: self.inner.log.bytes(),
            index_bytes: start::folder_bytes(&self.inner.dir.join(start::INDEX)),
            overlay_entries: self.inner.overlay().len(),
            begin: self.inner.log.begin(),
            end: self.inner.log.end(),
        }
    }

    /// How much of the log is sealed with which key, and how much with none.
    #[must_use]
    pub fn seals(&self) -> Seals {
        self.inner.log.seals()
    }

    /// Writes everything the overlay holds into the index: what tests and benches wait for.
    pub fn settle_index(&self) -> Result<(), JournalError> {
        self.inner.index_all()
    }
}

impl Inner {
    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index has failed: it is not trusted at the next start, which builds it again.
    fn fail_index(&self, error: JournalError) -> JournalError {
        let _forgotten = start::forget_state(&self.dir).is_ok();
        self.fail(error)
    }

    /// What the index says. If it cannot, or panics as sled does on some damage, it has failed.
    fn ask_index<T>(&self, ask: impl FnOnce(&Index) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let panicked = |_| Err(JournalError::Failed("the index is damaged: using it panicked".to_owned()));
        let answer = catch_unwind(AssertUnwindSafe(|| ask(&self.index))).unwrap_or_else(panicked);
        answer.map_err(|error| self.fail_index(error))
    }

    fn fail(&self, error: JournalError) -> JournalError {
        let error = self.failed.get_or_init(|| error).clone();
        self.room.notify_all();
        error
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(JournalError::Closed);
        }
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn wait_for_room(&self) -> Result<(), JournalError> {
        let is_short = || self.space.is_index_short();
        let has_none = |overlay: &Overlay| overlay.len() >= ENTRIES_MAX && self.failed.get().is_none();
        let may_come = |overlay: &mut Overlay| has_none(overlay) && !is_short();
        let waited = self.room.wait_timeout_while(self.overlay(), ROOM_TIMEOUT, may_come);
        let (overlay, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if has_none(&overlay) && is_short() {
            return Err(JournalError::Full("the index cannot grow".to_owned()));
        }
        if timeout.timed_out() {
            return Err(self.fail(JournalError::Failed("the index does not keep up at all".to_owned())));
        }
        self.check()
    }

    /// Whether no delivery waits to be made.
    fn is_all_done(&self) -> bool {
        self.overlay().kept().endpoints.values().all(|tally| tally.scheduled + tally.retrying == 0)
    }

    /// Writes records and brings them in; gives ballast up for that only if they may have it.
    fn append(&self, records: &[Record], with_ballast: bool) -> Result<(), JournalError> {
        let places = match with_ballast {
            true => start::append(&self.log, &self.space, records),
            false => self.log.append(records, Record::encode),
        };
        let places = places.map_err(|error| match error {
            LogError::Full(why) => JournalError::Full(why),
            LogError::Failed(why) => self.fail(JournalError::Failed(why)),
        })?;
        // Bringing a record in may have to ask the index for the entry.
        self.ask_index(|_| {
            let mut overlay = self.overlay();
            for (record, place) in records.iter().zip(places) {
                ledger::apply(record, place, &mut *overlay)?;
            }
            overlay.set_applied(self.log.end());
            Ok(())
        })
    }

    /// The entry as it stands now. The overlay is asked first: what it lets go of is in the index by then.
    fn load(&self, id: EventId) -> Result<Option<Entry>, JournalError> {
        {
            let overlay = self.overlay();
            if let Some(held) = overlay.held(id) {
                return Ok(held.cloned());
            }
            if let Some(expected) = overlay.expected(id) {
                return Ok(Some(expected.clone()));
            }
        }
        self.ask_index(|index| index.get(id))
    }

    /// Hands overlay entries to the index until none are left that should go; `all` of them if asked.
    ///
    /// On [`JournalError::Full`] they stay where they are, and nothing has failed.
    fn hand_over(&self, all: bool) -> Result<(), JournalError> {
        let take = if all { Take::All } else { Take::Due };
        let _one_at_a_time = self.handing_over.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.reserve()?;
            let Some(handover) = self.overlay().hand_over(BATCH_MAX, take) else { return Ok(()) };
            self.ask_index(|index| index.write(&handover))?;
            let was_last = handover.updates.len() < BATCH_MAX;
            self.overlay().handed_over(handover);
            self.room.notify_all();
            if was_last && !all {
                return Ok(());
            }
        }
    }

    /// Hands the oldest entries to the index until it holds all that the records before `end` say: what it has
    /// taken over, not what it is about to. Whatever is committed meanwhile comes behind those, so this ends.
    fn index_up_to(&self, end: Position) -> Result<(), JournalError> {
        let _one_at_a_time = self.handing_over.lock().unwrap_or_else(PoisonError::into_inner);
        while self.index.meta().applied < end {
            self.check()?;
            self.reserve()?;
            let Some(handover) = self.overlay().hand_over(BATCH_MAX, Take::Oldest) else { return Ok(()) };
            self.ask_index(|index| index.write(&handover))?;
            self.overlay().handed_over(handover);
            self.room.notify_all();
        }
        Ok(())
    }

    /// Makes sure that sled can write what it is handed now.
    fn reserve(&self) -> Result<(), JournalError> {
        if self.space.reserve(&self.dir.join(start::INDEX)) {
            return Ok(());
        }
        self.room.notify_all();
        Err(JournalError::Full("the index cannot grow".to_owned()))
    }

    /// Lets the index do a slice of its own work; never beside a handover.
    fn tidy(&self) -> Result<(), JournalError> {
        let _one_at_a_time = self.handing_over.lock().unwrap_or_else(PoisonError::into_inner);
        self.ask_index(Index::tidy)
    }

    fn index_all(&self) -> Result<(), JournalError> {
        self.hand_over(true)
    }

    /// Entries of `low..high` in order, from overlay and index together.
    fn entries(
        &self,
        among: &Among,
        (low, high): (EventId, EventId),
        newest_first: bool,
    ) -> Result<impl Iterator<Item = Result<Entry, JournalError>> + use<'_>, JournalError> {
        // The overlay's ids are taken first: an entry that leaves it meanwhile is in the index by then.
        let mut held = match among {
            Among::Tag(tag) => self.overlay().tagged(*tag, low, high),
            _ => self.overlay().ids(low, high),
        };
        if newest_first {
            held.reverse();
        }
        let indexed = self.ask_index(|index| index.ids(among, low, high, newest_first))?;
        let indexed = self.guarded(indexed);
        let mut cursor = self.index.cursor(newest_first);
        Ok(merge(held.into_iter().map(Ok), indexed, newest_first).filter_map(move |id| match id {
            // The overlay first, as in `load`.
            Ok(id) => match self.overlay().held(id) {
                Some(held) => held.cloned().map(Ok),
                None => self.ask_index(|_| cursor.get(id)).transpose(),
            },
            Err(error) => Some(Err(error)),
        }))
    }

    /// Never-tried original deliveries to `endpoint` of the events after `after` among these.
    fn fresh(&self, among: &Among, endpoint: &Name, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        let low = EventId::from_u128(after.as_u128().saturating_add(1));
        let mut fresh = Fresh { deliveries: Vec::new(), scanned_to: after, end: true };
        for (looked_at, entry) in self.entries(among, (low, EventId::MAX), false)?.enumerate() {
            if fresh.deliveries.len() >= limit || looked_at == SCAN_MAX {
                fresh.end = false;
                break;
            }
            let entry = entry?;
            fresh.deliveries.extend(entry.actives(endpoint, Slot::is_fresh));
            fresh.scanned_to = entry.head.id;
        }
        Ok(fresh)
    }

    /// A run of answers of the index, each asked for as [`Inner::ask_index`] does.
    fn guarded<T>(
        &self,
        mut answers: impl Iterator<Item = Result<T, JournalError>>,
    ) -> impl Iterator<Item = Result<T, JournalError>> {
        std::iter::from_fn(move || self.ask_index(|_| answers.next().transpose()).transpose())
    }

    fn read(&self, place: Position) -> Result<Option<Record>, JournalError> {
        let bytes = self.log.read(place).map_err(|error| JournalError::Failed(format!("reading the log: {error}")))?;
        Ok(bytes.and_then(Record::decode))
    }
}

/// The narrowest run of events a filter's deliveries can be in.
fn among(filter: &Filter) -> Among {
    if !filter.picks.is_empty() {
        return Among::These(filter.picks.iter().map(|pick| pick.event()).collect());
    }
    match (filter.keys.as_slice(), &filter.endpoint) {
        ([key], _) => Among::Tag(KeyTag::of(key).0),
        (_, Some(endpoint)) if filter.only_exceptions() => Among::ExceptionsOf(endpoint.clone()),
        (_, None) if filter.only_exceptions() => Among::Exceptions,
        _ => Among::All,
    }
}

impl Journal for EmbeddedJournal {
    fn commit(&self, changes: &[Change]) -> Result<Vec<Receipt>, JournalError> {
        let inner = &*self.inner;
        let _one_at_a_time = inner.committing.lock().unwrap_or_else(PoisonError::into_inner);
        inner.check()?;
        inner.wait_for_room()?;
        // Not while somebody counts: an event must not be met as held and as gone.
        let retains = changes.iter().any(|change| matches!(change, Change::Retain(_)));
        let no_audit = retains.then(|| inner.auditing.try_lock().ok());
        let is_held_off = matches!(no_audit, Some(None));
        let mut stage = Stage::new(inner);
        let mut receipts = Vec::with_capacity(changes.len());
        let mut records = Vec::with_capacity(changes.len());
        for change in changes {
            let (receipt, record) = match change {
                Change::Retain(_) if is_held_off => (Receipt::Stale, None),
                change => stage.decide(change)?,
            };
            receipts.push(receipt);
            records.extend(record);
        }
        if !records.is_empty() {
            inner.space.measure();
            inner.append(&records, !retains || inner.is_all_done())?;
        }
        assert_eq!(receipts.len(), changes.len(), "one receipt per change");
        Ok(receipts)
    }

    fn is_full(&self) -> bool {
        self.inner.space.is_full()
    }

    fn check(&self) -> Result<(), JournalError> {
        self.inner.check()
    }

    fn fresh(&self, endpoint: &Name, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        self.inner.fresh(&Among::All, endpoint, after, limit)
    }

    fn fresh_of_key(&self, endpoint: &Name, key: KeyTag, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        let mut fresh = self.inner.fresh(&Among::Tag(key.0), endpoint, after, limit)?;
        // Fingerprints have tags of the same kind.
        fresh.deliveries.retain(|active| active.key == Some(key));
        Ok(fresh)
    }

    fn waiting(&self, endpoint: &Name, limit: usize) -> Result<(Vec<Active>, bool), JournalError> {
        let held = self.inner.overlay().waiting(endpoint, limit + 1);
        let mut found: BTreeSet<Active> = held.into_iter().collect();
        for waiting in self.inner.guarded(self.inner.index.waiting(endpoint)) {
            let (due, id) = waiting?;
            if found.len() > limit && found.last().is_some_and(|last| (last.due, last.id) < (due, id)) {
                break;
            }
            // The overlay's word on its entries is newer than the index's.
            let still = self.inner.load(id.event)?;
            found.extend(still.iter().flat_map(|entry| entry.actives(endpoint, Slot::is_waiting)));
        }
        let end = found.len() <= limit;
        Ok((found.into_iter().take(limit).collect(), end))
    }

    fn set_mark(&self, endpoint: &Name, mark: EventId) {
        self.inner.overlay().set_mark(endpoint, mark);
    }

    fn mark(&self, endpoint: &Name) -> EventId {
        self.inner.overlay().mark(endpoint)
    }

    fn standing(&self, endpoint: &Name) -> Standing {
        self.inner.overlay().standing(endpoint).cloned().unwrap_or_default()
    }

    fn standings(&self) -> Vec<(Name, Standing)> {
        let overlay = self.inner.overlay();
        overlay.standings().iter().map(|(endpoint, standing)| (endpoint.clone(), standing.clone())).collect()
    }

    fn entry(&self, id: EventId) -> Result<Option<EventView>, JournalError> {
        Ok(self.inner.load(id)?.map(|entry| entry.view()))
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, JournalError> {
        self.inner.event(id)
    }

    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, JournalError> {
        self.inner.attempts(id)
    }

    fn events(&self, query: &Query<EventId>) -> Result<Page<EventView, EventId>, JournalError> {
        let range = query::id_range(query, |id| *id);
        let entries = &mut self.inner.entries(&among(&query.filter), range, query.newest_first)?;
        query::page_of_events(query, entries)
    }

    fn deliveries(&self, query: &Query<DeliveryId>) -> Result<Page<(EventHead, Delivery), DeliveryId>, JournalError> {
        let range = query::id_range(query, |id| id.event);
        let entries = &mut self.inner.entries(&among(&query.filter), range, query.newest_first)?;
        query::page_of_deliveries(query, entries)
    }

    fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        Ok(self.inner.overlay().replays().rev().cloned().collect())
    }

    fn counters(&self) -> Counters {
        self.inner.overlay().counters()
    }

    fn audit(&self, span: Span) -> Result<Audit, JournalError> {
        audit::audit(&self.inner, span)
    }

    fn size(&self) -> Size {
        let Sizes { log_bytes, index_bytes, overlay_entries, end, .. } = self.sizes();
        Size { log_bytes, log_written_bytes: end.0, index_bytes, unindexed: overlay_entries }
    }

    fn last_id(&self) -> u128 {
        self.inner.overlay().last_id()
    }

    fn sweep(&self, retention: &Retention, now: Timestamp) -> Result<Sweep, JournalError> {
        self.inner.check()?;
        self.inner.sweep(retention, now)
    }

    fn close(&self) -> Result<(), JournalError> {
        let _last = self.inner.committing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        drop(self.indexer.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(error) = self.inner.failed.get() {
            return Err(error.clone());
        }
        match self.inner.index_all() {
            // The next start does it: the log has everything.
            Err(JournalError::Full(_)) => return Ok(()),
            indexed => indexed?,
        }
        start::mark_clean(&self.inner.dir, &self.inner.index)
    }
}

impl Drop for EmbeddedJournal {
    /// A journal that is dropped unclosed leaves what a killed process leaves; only the thread is ended.
    fn drop(&mut self) {
        drop(self.indexer.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{Dedup, Draft, Fingerprint};
    use crate::journal::entry::print_tag;

    /// An event whose fingerprint has the tag that is asked for, and whose key has not, is none of that key's.
    #[test]
    fn an_event_found_by_its_fingerprint_is_not_one_of_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1);
        let journal = EmbeddedJournal::open(&Settings::small(folder.path(), now), &|_| ()).unwrap();
        let (source, endpoint) = (Name::new("flyflow").unwrap(), Name::new("crm").unwrap());
        let fingerprint = Fingerprint([7; 16]);
        let event = |id, key: Option<&str>| {
            let draft = Draft {
                source: source.clone(),
                event_type: "call_ended".to_owned(),
                key: key.map(str::to_owned),
                occurred_at: None,
                headers: Vec::new(),
                body: bytes::Bytes::new(),
                dedup: Some(Dedup { fingerprint, window: Duration::ZERO }),
                endpoints: vec![endpoint.clone()],
            };
            Change::Accept(Arc::new(Event { id: EventId::from_u128(id), received_at: now, draft }))
        };
        journal.commit(&[event(1, None), event(2, Some("call-1"))]).unwrap();
        let found = |tag| journal.fresh_of_key(&endpoint, KeyTag(tag), EventId::MIN, 1).unwrap();
        for _ in 0..2 {
            let of_print = found(print_tag(&source, fingerprint));
            assert_eq!(
                (of_print.deliveries, of_print.scanned_to, of_print.end),
                (vec![], EventId::from_u128(1), false)
            );
            assert_eq!(found(KeyTag::of("call-1").0).deliveries.len(), 1);
            journal.settle_index().unwrap();
        }
    }
}
