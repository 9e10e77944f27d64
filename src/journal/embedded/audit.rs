//! The audit of the embedded journal: the index held against the log.
//!
//! It is of one moment: the position up to which records were applied when it began, its `end`. Two walks:
//! - along the log to `end`. Every record must have reached the entry it speaks of, and the last record of each
//!   kind must be what the entry says. What the log tells is added up.
//! - along the entries, each taken back to how it stood at `end`. They are added up too, and so are their claims:
//!   the records that they name. A claim is confirmed once, by the record it names; if any claim was not, a third
//!   walk looks every one of them up.
//!
//! What retention has carried counts from the record that carries it on; what stands of it before that is passed
//! over. An event that the index does not have is missing, unless a later record says that it was let go of.
//! Nothing is carried or let go of while an audit runs.
//!
//! What changes meanwhile has records behind `end`, and an entry names its records: that is how it can be taken
//! back. Memory is bounded by [`RECENT_MAX`] entries and the differences named, whatever the history.
//!
//! Absent: the tags by which keys and fingerprints are found, and how endpoints stand.

mod carried;
mod missing;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use super::Inner;
use crate::core::attempt::Attempt;
use crate::core::delivery::{Reason, State, Status, Step};
use crate::core::event::Event;
use crate::core::failure::FailureGroup;
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::journal::audit::{Audit, Span, Subject, What};
use crate::journal::entry::{Entry, Sign, Slot};
use crate::journal::log::{Found, Position};
use crate::journal::record::Record;
use crate::journal::record::retained::Remains;
use crate::journal::sled::Among;
use crate::journal::{Counters, JournalError, Settlement, Tally};
use missing::{Missing, Speaks};

/// Entries kept while walking along the log: most records speak of an event that the log spoke of just before.
const RECENT_MAX: usize = 4096;
/// How often it is asked whether the journal is still there.
const CHECK_EVERY: u64 = 1024;

pub(super) fn audit(inner: &Inner, span: Span) -> Result<Audit, JournalError> {
    audit_within(inner, span, missing::NOTES_MAX)
}

/// Remembers at most so many records of what seems to be missing at a time.
fn audit_within(inner: &Inner, span: Span, notes_max: usize) -> Result<Audit, JournalError> {
    let _one_at_a_time = inner.auditing.lock().unwrap_or_else(PoisonError::into_inner);
    let (moment, totals, dropped) = {
        // Whatever retention has just committed is part of it.
        let _no_commit = inner.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let overlay = inner.overlay();
        let moment = Moment { end: overlay.applied(), marks: overlay.marks().clone() };
        (moment, overlay.kept().clone(), overlay.remains().counters.clone())
    };
    let mut auditor = Auditor::new(inner, span, moment);
    auditor.missing = Missing::new(EventId::MIN, notes_max);
    auditor.walk_log()?;
    auditor.walk_entries()?;
    if auditor.claimed != auditor.confirmed {
        auditor.look_claims_up()?;
    }
    auditor.conclude(totals, &dropped)
}

/// What an audit is of.
#[derive(Clone)]
struct Moment {
    /// Records before this are in the audit.
    end: Position,
    /// Up to which event no endpoint has a first attempt before it.
    marks: BTreeMap<Name, EventId>,
}

struct Auditor<'a> {
    inner: &'a Inner,
    span: Span,
    bounds: (EventId, EventId),
    moment: Moment,
    audit: Audit,
    /// What the log tells.
    told: Counters,
    /// What it tells of the events that were let go of.
    remains_told: Remains,
    missing: Missing,
    claimed: Claims,
    confirmed: Claims,
    /// Stretches of the log that hold no record.
    gaps: Vec<(Position, u64)>,
    recent: Recent,
}

/// How many records entries name, by what for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claims {
    accepted: u64,
    made: u64,
    ended: u64,
    attempted: u64,
}

/// The entries that were asked for last.
#[derive(Default)]
struct Recent {
    entries: HashMap<EventId, Option<Arc<Entry>>>,
    order: VecDeque<EventId>,
}

impl<'a> Auditor<'a> {
    fn new(inner: &'a Inner, span: Span, moment: Moment) -> Self {
        Self {
            inner,
            span,
            bounds: span.id_bounds(),
            moment,
            audit: Audit::default(),
            told: Counters::default(),
            remains_told: Remains::default(),
            missing: Missing::new(EventId::MIN, missing::NOTES_MAX),
            claimed: Claims::default(),
            confirmed: Claims::default(),
            gaps: Vec::new(),
            recent: Recent::default(),
        }
    }
}

impl Auditor<'_> {
    fn walk_log(&mut self) -> Result<(), JournalError> {
        self.inner.log.walk(self.moment.end, |found| match found {
            Found::Gap { position, len } => {
                self.gaps.push((Position(position), len));
                Ok(())
            }
            Found::Record { position, payload, .. } => {
                self.audit.records += 1;
                if self.audit.records.is_multiple_of(CHECK_EVERY) {
                    self.inner.check()?;
                }
                match Record::decode(payload) {
                    Some(record) => self.record(Position(position), &record),
                    None => Err(JournalError::Failed(format!("the record at {position} is not readable"))),
                }
            }
        })
    }

    /// One record, and what must be known because of it.
    fn record(&mut self, place: Position, record: &Record) -> Result<(), JournalError> {
        match record {
            // Its process took these for writes that were cut off: nothing was ever there.
            Record::Opened(opened) => self.gaps.retain(|gap| !opened.torn.contains(gap)),
            Record::Accepted(event) => self.accepted(place, event)?,
            Record::Settled { settlement, previous } => self.settled(place, settlement, *previous)?,
            Record::Cancelled { id, .. } => self.cancelled(place, *id)?,
            Record::Redelivered { id, endpoint, .. } => self.made(place, *id, endpoint, None)?,
            Record::ReplayAdvanced(advanced) => {
                for (id, endpoint) in &advanced.made {
                    self.made(place, *id, endpoint, Some(advanced.id))?;
                }
            }
            Record::ReplayOpened(replay) => {
                if self.inner.overlay().replay(replay.id).is_none() {
                    self.note_missing_replay(replay.id, place);
                }
            }
            Record::Retained(retained) => self.retained(place, retained)?,
            // Of no event.
            Record::ReplayTurned { .. } | Record::ReplayCancelled { .. } | Record::Stood { .. } => {}
        }
        Ok(())
    }

    fn accepted(&mut self, place: Position, event: &Event) -> Result<(), JournalError> {
        if !self.span.admits(event.received_at) {
            return Ok(());
        }
        let entry = self.entry(event.id)?;
        let at = place.0;
        let Some(entry) = entry else {
            self.note_missing(event.id, None, place, Speaks::Accepts);
            return Ok(());
        };
        if self.is_superseded(&entry, place)? {
            return Ok(());
        }
        self.told.accepted += 1;
        self.told.unrouted += u64::from(event.draft.endpoints.is_empty());
        for endpoint in &event.draft.endpoints {
            count(&mut self.told, endpoint, None, |tally| {
                tally.routed += 1;
                tally.scheduled += 1;
            });
        }
        let (what, detail) = match entry {
            entry if entry.place != place => {
                (What::Astray, format!("its record is at {at}, the index says at {}", entry.place.0))
            }
            entry => {
                self.confirmed.accepted += 1;
                let routed = entry.slots.iter().filter(|slot| !slot.is_again()).map(|slot| &slot.endpoint);
                if routed.eq(&event.draft.endpoints) && *entry.head == event.head() {
                    return Ok(());
                }
                (What::Misrouted, format!("the index has it otherwise than its record at {at}"))
            }
        };
        self.audit.note(what, Some(Subject::Event(event.id)), None, detail);
        Ok(())
    }

    fn settled(&mut self, place: Position, settlement: &Settlement, previous: Position) -> Result<(), JournalError> {
        let (id, number) = (settlement.id, settlement.attempt.number);
        let Some(slot) = self.slot(place, id)? else { return Ok(()) };
        count(&mut self.told, &slot.endpoint, slot.replay, |tally| {
            tally.attempts += 1;
            shift(tally, number > 1, status_after(settlement.step));
        });
        // What is before the log's beginning is out of retention.
        if number > 1 && previous >= self.inner.log.begin() && !self.is_attempt(previous, id, number - 1)? {
            let detail = format!("the record of attempt {} is not at {}", number - 1, previous.0);
            self.audit.note(What::Lost, Some(Subject::Delivery(id)), Some(&slot.endpoint), detail);
        }
        let (what, detail) = if slot.last_place < place {
            (What::Behind, format!("attempt {number} is at {}, the index knows {}", place.0, slot.attempts))
        } else if slot.last_place > place {
            if slot.attempts > number {
                return Ok(());
            }
            (What::Astray, format!("attempt {number} is at {}, the index counts {}", place.0, slot.attempts))
        } else {
            self.confirmed.attempted += 1;
            if stands_as(&slot, settlement) {
                return Ok(());
            }
            (What::Astray, format!("it does not stand where the record of its last attempt at {} says", place.0))
        };
        self.audit.note(what, Some(Subject::Delivery(id)), Some(&slot.endpoint), detail);
        Ok(())
    }

    fn cancelled(&mut self, place: Position, id: DeliveryId) -> Result<(), JournalError> {
        let Some(slot) = self.slot(place, id)? else { return Ok(()) };
        count(&mut self.told, &slot.endpoint, slot.replay, |tally| {
            shift(tally, slot.attempts > 0, Status::Cancelled);
        });
        if slot.ended_by == place && slot.state == State::Cancelled {
            self.confirmed.ended += 1;
            return Ok(());
        }
        let detail = format!("the record at {} takes it back, the index has it otherwise", place.0);
        self.audit.note(What::Behind, Some(Subject::Delivery(id)), Some(&slot.endpoint), detail);
        Ok(())
    }

    fn made(
        &mut self,
        place: Position,
        id: DeliveryId,
        endpoint: &Name,
        replay: Option<ReplayId>,
    ) -> Result<(), JournalError> {
        let Some(slot) = self.slot(place, id)? else { return Ok(()) };
        count(&mut self.told, endpoint, replay, |tally| {
            tally.replayed += 1;
            tally.scheduled += 1;
        });
        if slot.made_by == place && slot.endpoint == *endpoint && slot.replay == replay {
            self.confirmed.made += 1;
            return Ok(());
        }
        let detail = format!("the record at {} made it, the index has it otherwise", place.0);
        self.audit.note(What::Astray, Some(Subject::Delivery(id)), Some(endpoint), detail);
        Ok(())
    }

    /// How a delivery that the record at `place` speaks of stood; nothing if it is of no event of the span.
    fn slot(&mut self, place: Position, id: DeliveryId) -> Result<Option<Slot>, JournalError> {
        if !(self.bounds.0..self.bounds.1).contains(&id.event) {
            return Ok(None);
        }
        let entry = self.entry(id.event)?;
        if entry.as_ref().is_some_and(|entry| !self.span.admits(entry.head.received_at)) {
            return Ok(None);
        }
        if let Some(entry) = &entry
            && self.is_superseded(entry, place)?
        {
            return Ok(None);
        }
        let slot = entry.and_then(|entry| entry.slot(id.slot).cloned());
        if slot.is_none() {
            self.note_missing(id.event, Some(id.slot), place, Speaks::Changes);
        }
        Ok(slot)
    }

    /// The entry as it stood at the end.
    fn entry(&mut self, id: EventId) -> Result<Option<Arc<Entry>>, JournalError> {
        if let Some(entry) = self.recent.entries.get(&id) {
            return Ok(entry.clone());
        }
        let entry = match self.inner.load(id)? {
            Some(entry) => Some(Arc::new(self.taken_back(entry)?)),
            None => None,
        };
        self.recent.keep(id, entry.clone());
        Ok(entry)
    }

    /// The entry without what has happened since the end.
    fn taken_back(&self, mut entry: Entry) -> Result<Entry, JournalError> {
        let end = self.moment.end;
        entry.slots.retain(|slot| slot.made_by < end);
        for (index, slot) in entry.slots.iter_mut().enumerate() {
            if slot.last_place < end && slot.ended_by < end {
                continue;
            }
            while slot.last_place >= end {
                let Some(Record::Settled { previous, .. }) = self.inner.read(slot.last_place)? else { break };
                slot.last_place = previous;
            }
            let last = if slot.last_place == Position::NONE { None } else { self.inner.read(slot.last_place)? };
            match last {
                Some(Record::Settled { settlement, .. }) => take_back(slot, Some(&settlement)),
                Some(Record::Retained(_)) => {
                    let id = entry.head.id.delivery(u16::try_from(index).unwrap_or(u16::MAX));
                    *slot = self.carried_slot(id, slot.last_place)?.unwrap_or_else(|| slot.clone());
                }
                _ => take_back(slot, None),
            }
        }
        Ok(entry)
    }

    fn walk_entries(&mut self) -> Result<(), JournalError> {
        for (looked_at, entry) in (1u64..).zip(self.inner.entries(&Among::All, self.bounds, false)?) {
            if looked_at.is_multiple_of(CHECK_EVERY) {
                self.inner.check()?;
            }
            let entry = entry?;
            if entry.place >= self.moment.end || !self.span.admits(entry.head.received_at) {
                continue;
            }
            self.find(&entry)?;
            let entry = self.taken_back(entry)?;
            self.audit.counters.add(&entry, Sign::Plus);
            self.claimed.accepted += 1;
            for (id, slot) in deliveries(&entry) {
                self.claimed.made += u64::from(slot.made_by != Position::NONE);
                self.claimed.ended += u64::from(slot.ended_by != Position::NONE);
                self.claimed.attempted += u64::from(slot.last_place != Position::NONE);
                if !hangs_together(slot) {
                    let detail = "where it stands does not go with the records it names".to_owned();
                    self.audit.note(What::Astray, Some(Subject::Delivery(id)), Some(&slot.endpoint), detail);
                }
            }
        }
        Ok(())
    }

    /// Whether what waits of an entry, as it is now, is where it is looked for.
    fn find(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let before_mark = |slot: &Slot| {
            slot.is_fresh() && self.moment.marks.get(&slot.endpoint).is_some_and(|mark| entry.head.id <= *mark)
        };
        let passed: Vec<DeliveryId> =
            deliveries(entry).filter(|(_, slot)| before_mark(slot)).map(|(id, _)| id).collect();
        for id in passed {
            let detail = "it was never tried, and its endpoint's mark is past it".to_owned();
            self.audit.note(What::Unfindable, Some(Subject::Delivery(id)), None, detail);
        }
        if entry.slots.iter().any(|slot| slot.is_waiting() || slot.is_exception()) && !self.has_keys(entry.head.id)? {
            let detail = "the index lacks a key by which its deliveries are looked for".to_owned();
            self.audit.note(What::Unfindable, Some(Subject::Event(entry.head.id)), None, detail);
        }
        Ok(())
    }

    /// Whether the index has the secondary keys of the entry it has. What the overlay holds is found there.
    fn has_keys(&self, id: EventId) -> Result<bool, JournalError> {
        let mut last = None;
        loop {
            if self.inner.overlay().held(id).is_some() {
                return Ok(true);
            }
            let found = self.inner.ask_index(|index| match index.get(id)? {
                Some(entry) => Ok((index.finds(&entry)?, Some(entry))),
                None => Ok((true, None)),
            });
            let (has, entry) = found?;
            // It may have been written anew between the one question and the other: then it is another entry.
            if has || entry == last {
                return Ok(has);
            }
            last = entry;
        }
    }

    /// Looks for the record of every claim, and names those without.
    fn look_claims_up(&mut self) -> Result<(), JournalError> {
        for entry in self.inner.entries(&Among::All, self.bounds, false)? {
            let entry = entry?;
            if entry.place >= self.moment.end || !self.span.admits(entry.head.received_at) {
                continue;
            }
            let id = entry.head.id;
            let is_its = |record| match record {
                Record::Accepted(event) => event.id == id,
                Record::Retained(retained) => retained.of(id).is_some(),
                _ => false,
            };
            if !self.inner.read(entry.place)?.is_some_and(is_its) {
                let detail = format!("its record is not at {}", entry.place.0);
                self.audit.note(What::Unfounded, Some(Subject::Event(id)), None, detail);
            }
            let entry = self.taken_back(entry)?;
            for (id, slot) in deliveries(&entry) {
                self.look_claims_of_slot_up(id, slot)?;
            }
        }
        Ok(())
    }

    fn look_claims_of_slot_up(&mut self, id: DeliveryId, slot: &Slot) -> Result<(), JournalError> {
        let makes = |record| match record {
            Record::Redelivered { id: made, endpoint, .. } => made == id && endpoint == slot.endpoint,
            Record::ReplayAdvanced(advanced) => advanced.made.contains(&(id, slot.endpoint.clone())),
            Record::Retained(retained) => retained.of(id.event).is_some(),
            _ => false,
        };
        let ends = |record| match record {
            Record::Cancelled { id: ended, .. } => ended == id,
            Record::Retained(retained) => retained.of(id.event).is_some(),
            _ => false,
        };
        let mut unfounded = |what: &str, place: Position| {
            let detail = format!("the record that {what} it is not at {}", place.0);
            self.audit.note(What::Unfounded, Some(Subject::Delivery(id)), Some(&slot.endpoint), detail);
        };
        if slot.made_by != Position::NONE && !self.inner.read(slot.made_by)?.is_some_and(makes) {
            unfounded("made", slot.made_by);
        }
        if slot.ended_by != Position::NONE && !self.inner.read(slot.ended_by)?.is_some_and(ends) {
            unfounded("ended", slot.ended_by);
        }
        if slot.last_place != Position::NONE && !self.is_attempt(slot.last_place, id, slot.attempts)? {
            let detail = format!("the record of attempt {} is not at {}", slot.attempts, slot.last_place.0);
            self.audit.note(What::Unfounded, Some(Subject::Delivery(id)), Some(&slot.endpoint), detail);
        }
        Ok(())
    }

    /// Whether the record at `place` is of this attempt.
    fn is_attempt(&self, place: Position, id: DeliveryId, number: u32) -> Result<bool, JournalError> {
        let is_it = |record| match record {
            Record::Settled {
                settlement: Settlement { id: of, attempt: Attempt { number: counted, .. }, .. }, ..
            } => of == id && counted == number,
            // Attempts go with the payload; that there were so many is kept.
            Record::Retained(retained) => {
                let carried = retained.of(id.event).and_then(|carried| carried.entry.slot(id.slot));
                carried.is_some_and(|slot| slot.attempts == number)
            }
            _ => false,
        };
        Ok(self.inner.read(place)?.is_some_and(is_it))
    }

    /// Holds the sums against each other.
    fn conclude(mut self, totals: Counters, dropped: &Counters) -> Result<Audit, JournalError> {
        self.conclude_missing()?;
        for (position, len) in std::mem::take(&mut self.gaps) {
            let detail = format!("{len} bytes at {} of the log are damaged: what stood there is lost", position.0);
            self.audit.note(What::Lost, None, None, detail);
        }
        // Whether a later delivery has taken the place of a dead one is not in any one record.
        let sums = &self.audit.counters;
        for (endpoint, tally) in &mut self.told.endpoints {
            tally.failed = sums.endpoints.get(endpoint).map_or(0, |sums| sums.failed);
        }
        for (replay, tally) in &mut self.told.replays {
            tally.failed = sums.replays.get(replay).map_or(0, |sums| sums.failed);
        }
        let mut told = std::mem::take(&mut self.told);
        if self.span.is_all() {
            self.audit.counters = std::mem::take(&mut self.audit.counters).plus(dropped);
            self.audit.compare(&totals.plus(dropped), "the running totals");
            told = told.plus(&self.remains_told.counters);
        }
        self.audit.compare(&told, "the log");
        Ok(self.audit)
    }
}

impl Recent {
    fn keep(&mut self, id: EventId, entry: Option<Arc<Entry>>) {
        if self.order.len() == RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        self.order.push_back(id);
        self.entries.insert(id, entry);
    }
}

/// Counts a delivery to `endpoint`, and where a replay made it, also there.
fn count(counters: &mut Counters, endpoint: &Name, replay: Option<ReplayId>, count: impl Fn(&mut Tally)) {
    match counters.endpoints.get_mut(endpoint) {
        Some(tally) => count(tally),
        None => count(counters.endpoints.entry(endpoint.clone()).or_default()),
    }
    if let Some(replay) = replay {
        count(counters.replays.entry(replay).or_default());
    }
}

/// Counts a delivery that waited, tried before or not, as one that stands at `to`.
fn shift(tally: &mut Tally, tried: bool, to: Status) {
    let from = tally.of_mut(if tried { Status::Retrying } else { Status::Scheduled });
    // It can be less than nothing only where a record is lost, and that is named.
    *from = from.saturating_sub(1);
    *tally.of_mut(to) += 1;
}

const fn status_after(step: Step) -> Status {
    match step {
        Step::Succeed => Status::Delivered,
        Step::GiveUp => Status::Dead,
        Step::Cancel => Status::Cancelled,
        Step::Expire => Status::Expired,
        Step::Retry { .. } | Step::Dispatch { .. } => Status::Retrying,
    }
}

/// Whether the delivery stands where its last attempt has brought it, or was ended after that.
fn stands_as(slot: &Slot, settlement: &Settlement) -> bool {
    let attempt = &settlement.attempt;
    let answered = (slot.last_status, slot.last_failure) == (attempt.status(), attempt.failure())
        && slot.group == FailureGroup::of(&slot.endpoint, attempt);
    let stands = match (slot.ended_by, settlement.step) {
        (Position::NONE, Step::Retry { due }) => slot.state == State::Scheduled { due },
        (Position::NONE, Step::Succeed) => slot.state == State::Delivered,
        (Position::NONE, Step::GiveUp) => slot.state == State::Dead,
        (_, Step::Retry { .. }) => return answered && slot.attempts == attempt.number,
        _ => false,
    };
    let since = (slot.reason, slot.changed_at) == (settlement.reason, attempt.ended_at());
    answered && stands && since && slot.attempts == attempt.number
}

/// Whether a delivery names the records that it must have come by to where it stands.
fn hangs_together(slot: &Slot) -> bool {
    let (ended, tried) = (slot.ended_by != Position::NONE, slot.last_place != Position::NONE);
    let stands = match slot.state {
        State::Scheduled { .. } | State::InFlight { .. } => !ended,
        State::Delivered | State::Dead => !ended && tried,
        State::Cancelled | State::Expired => ended,
    };
    stands && tried == (slot.attempts > 0)
}

/// Puts a delivery that was neither done nor ended then back to its last attempt, or to its beginning.
fn take_back(slot: &mut Slot, last: Option<&Settlement>) {
    let born = if slot.is_again() { Reason::Replayed } else { Reason::Received };
    let due = last.and_then(|last| if let Step::Retry { due } = last.step { Some(due) } else { None });
    slot.state = State::Scheduled { due: due.unwrap_or(slot.born_at) };
    slot.reason = last.map_or(born, |last| last.reason);
    slot.changed_at = last.map_or(slot.born_at, |last| last.attempt.ended_at());
    slot.attempts = last.map_or(0, |last| last.attempt.number);
    slot.last_status = last.and_then(|last| last.attempt.status());
    slot.last_failure = last.and_then(|last| last.attempt.failure());
    slot.group = last.and_then(|last| FailureGroup::of(&slot.endpoint, &last.attempt));
    slot.ended_by = Position::NONE;
}

fn deliveries(entry: &Entry) -> impl Iterator<Item = (DeliveryId, &Slot)> {
    (0u16..).zip(&entry.slots).map(|(index, slot)| (entry.head.id.delivery(index), slot))
}

#[cfg(test)]
mod tests;
