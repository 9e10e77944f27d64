//! The model: the journal's contract with no disk under it.
//!
//! What it promises is what every journal promises, except that it forgets everything when dropped. The
//! other stores are held against it, so it is written to be obviously right, not to be fast.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::audit::{Audit, Span};
use super::entry::{Entry, Sign, Slot};
use super::ledger::{self, Apply, Lookup};
use super::log::Position;
use super::record::Record;
use super::record::retained::{Carried, Remains};
use super::retention::{Payload, Retain, RetainItem, STEP_EVENTS_MAX, Sweep, sources_over};
use super::{Change, Counters, EventView, Journal, JournalError, Page, Query, Receipt, query};
use crate::core::attempt::Attempt;
use crate::core::delivery::Delivery;
use crate::core::event::{Dedup, Draft, Event, EventHead, Fingerprint, KeyTag};
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::Replay;
use crate::core::retention::{Kept, Retention};
use crate::core::scheduler::{Active, Fresh};
use crate::core::standing::Standing;
use crate::core::timestamp::Timestamp;

/// A journal in memory.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<EventId, Entry>,
    events: BTreeMap<EventId, Arc<Event>>,
    attempts: BTreeMap<DeliveryId, Vec<Attempt>>,
    prints: BTreeMap<(Name, Fingerprint), EventId>,
    dedups: BTreeMap<EventId, Dedup>,
    replays: BTreeMap<ReplayId, Replay>,
    marks: BTreeMap<Name, EventId>,
    standings: BTreeMap<Name, Standing>,
    remains: Remains,
    last_id: u128,
    records: u64,
    /// Records there were before the batch at hand.
    stored: u64,
    closed: bool,
}

impl MemoryJournal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookup for State {
    type Error = JournalError;

    fn entry(&mut self, id: EventId) -> Result<Option<&Entry>, JournalError> {
        Ok(self.entries.get(&id))
    }
    fn replay(&mut self, id: ReplayId) -> Result<Option<&Replay>, JournalError> {
        Ok(self.replays.get(&id))
    }
    fn duplicate(&mut self, event: &Event) -> Result<Option<EventId>, JournalError> {
        let Some(dedup) = event.draft.dedup else { return Ok(None) };
        let first = self.prints.get(&(event.draft.source.clone(), dedup.fingerprint)).copied();
        let received = |id: &EventId| self.entries.get(id).map(|entry| entry.head.received_at);
        Ok(first.filter(|id| received(id).is_some_and(|first| event.received_at < first.after(dedup.window))))
    }
    fn is_stored(&self, place: Position) -> bool {
        place.0 <= self.stored
    }
    fn standing(&mut self, endpoint: &Name) -> Option<Standing> {
        self.standings.get(endpoint).cloned()
    }
    fn dropped(&mut self) -> Counters {
        self.remains.counters.clone()
    }
    fn last_id(&mut self) -> u128 {
        self.last_id
    }
}

impl Apply for State {
    type Error = JournalError;

    fn contains(&mut self, id: EventId) -> Result<bool, JournalError> {
        Ok(self.entries.contains_key(&id))
    }
    fn insert(&mut self, event: &Arc<Event>, entry: Entry) {
        if let Some(dedup) = event.draft.dedup {
            self.prints.insert((event.draft.source.clone(), dedup.fingerprint), event.id);
            self.dedups.insert(event.id, dedup);
        }
        self.note_id(event.id.as_u128());
        self.events.insert(event.id, Arc::clone(event));
        self.entries.insert(event.id, entry);
    }
    fn change(&mut self, id: EventId, _: Position, change: impl FnOnce(&mut Entry)) -> Result<(), JournalError> {
        self.entries.get_mut(&id).map(change);
        Ok(())
    }
    fn insert_replay(&mut self, replay: &Replay) -> Result<(), JournalError> {
        self.note_id(replay.id.as_u128());
        self.replays.entry(replay.id).or_insert_with(|| replay.clone());
        Ok(())
    }
    fn change_replay(&mut self, id: ReplayId, change: impl FnOnce(&mut Replay)) -> Result<(), JournalError> {
        self.replays.get_mut(&id).map(change);
        Ok(())
    }
    fn stand(&mut self, endpoint: &Name, standing: &Standing) {
        self.standings.insert(endpoint.clone(), standing.clone());
    }
    fn carry(&mut self, carried: &Carried, place: Position) -> Result<(), JournalError> {
        let entry = carried.entry_at(place);
        let id = entry.head.id;
        if !entry.has_payload {
            self.events.remove(&id);
            self.attempts.retain(|delivery, _| delivery.event != id);
        }
        self.entries.insert(id, entry);
        Ok(())
    }
    fn forget(&mut self, id: EventId, _: Position) -> Result<(), JournalError> {
        self.entries.remove(&id);
        self.dedups.remove(&id);
        self.events.remove(&id);
        self.attempts.retain(|delivery, _| delivery.event != id);
        Ok(())
    }
    fn remain(&mut self, remains: &Remains) {
        self.remains.raise(remains);
    }
    fn forget_replay(&mut self, id: ReplayId) {
        self.replays.remove(&id);
        self.remains.counters.replays.remove(&id);
    }
    fn note_id(&mut self, id: u128) {
        self.last_id = self.last_id.max(id);
    }
}

impl Journal for MemoryJournal {
    fn commit(&self, changes: &[Change]) -> Result<Vec<Receipt>, JournalError> {
        let mut state = self.state();
        if state.closed {
            return Err(JournalError::Closed);
        }
        state.stored = state.records;
        let mut receipts = Vec::with_capacity(changes.len());
        for change in changes {
            let (receipt, record) = ledger::decide(change, &mut *state)?;
            if let Some(record) = record {
                state.records += 1;
                let place = Position(state.records);
                ledger::apply(&record, place, &mut *state)?;
                if let Record::Settled { settlement, .. } = record {
                    state.attempts.entry(settlement.id).or_default().push(settlement.attempt);
                }
            }
            receipts.push(receipt);
        }
        Ok(receipts)
    }

    fn is_full(&self) -> bool {
        false
    }

    fn fresh(&self, endpoint: &Name, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        Ok(self.state().fresh(endpoint, after, limit, |_| true))
    }

    fn fresh_of_key(&self, endpoint: &Name, key: KeyTag, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        Ok(self.state().fresh(endpoint, after, limit, |entry| entry.key() == Some(key)))
    }

    fn waiting(&self, endpoint: &Name, limit: usize) -> Result<(Vec<Active>, bool), JournalError> {
        let state = self.state();
        let entries = state.entries.values();
        let mut waiting: Vec<Active> = entries.flat_map(|entry| entry.actives(endpoint, Slot::is_waiting)).collect();
        waiting.sort();
        let end = waiting.len() <= limit;
        waiting.truncate(limit);
        Ok((waiting, end))
    }

    fn set_mark(&self, endpoint: &Name, mark: EventId) {
        self.state().marks.insert(endpoint.clone(), mark);
    }

    fn mark(&self, endpoint: &Name) -> EventId {
        self.state().marks.get(endpoint).copied().unwrap_or(EventId::MIN)
    }

    fn standing(&self, endpoint: &Name) -> Standing {
        self.state().standings.get(endpoint).cloned().unwrap_or_default()
    }

    fn standings(&self) -> Vec<(Name, Standing)> {
        self.state().standings.iter().map(|(endpoint, standing)| (endpoint.clone(), standing.clone())).collect()
    }

    fn entry(&self, id: EventId) -> Result<Option<EventView>, JournalError> {
        Ok(self.state().entries.get(&id).map(Entry::view))
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, JournalError> {
        Ok(self.state().events.get(&id).cloned())
    }

    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, JournalError> {
        Ok(self.state().attempts.get(&id).cloned().unwrap_or_default())
    }

    fn events(&self, query: &Query<EventId>) -> Result<Page<EventView, EventId>, JournalError> {
        let state = self.state();
        let (low, high) = query::id_range(query, |id| *id);
        query::page_of_events(query, &mut state.in_order(low, high, query.newest_first))
    }

    fn deliveries(&self, query: &Query<DeliveryId>) -> Result<Page<(EventHead, Delivery), DeliveryId>, JournalError> {
        let state = self.state();
        let (low, high) = query::id_range(query, |id| id.event);
        query::page_of_deliveries(query, &mut state.in_order(low, high, query.newest_first))
    }

    fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        Ok(self.state().replays.values().rev().cloned().collect())
    }

    fn counters(&self) -> Counters {
        let state = self.state();
        let mut counters = Counters::default();
        state.entries.values().for_each(|entry| counters.add(entry, Sign::Plus));
        counters.plus(&state.remains.counters)
    }

    /// What it knows is all there is: there is nothing to hold it against.
    fn audit(&self, span: Span) -> Result<Audit, JournalError> {
        let mut audit = Audit::default();
        let state = self.state();
        let entries = state.entries.values().filter(|entry| span.admits(entry.head.received_at));
        entries.for_each(|entry| audit.counters.add(entry, Sign::Plus));
        if span.is_all() {
            audit.counters = audit.counters.plus(&state.remains.counters);
        }
        Ok(audit)
    }

    fn last_id(&self) -> u128 {
        self.state().last_id
    }

    fn sweep(&self, retention: &Retention, now: Timestamp) -> Result<Sweep, JournalError> {
        let state = self.state();
        let replays = retention.replays_due(state.replays.values(), now);
        if !replays.is_empty() {
            return Ok(Sweep::Change(Change::Retain(Box::new(Retain { replays, ..Retain::default() }))));
        }
        let mut counters = Counters::default();
        state.entries.values().for_each(|entry| counters.add(entry, Sign::Plus));
        let over = sources_over(retention, &counters);
        let judged = state.entries.values().filter_map(|entry| {
            let (id, seen) = (entry.head.id, entry.view());
            let dedup = state.dedups.get(&id).copied();
            let until = retention.print_until(&entry.head.source, entry.head.received_at, dedup);
            let is_over = over.contains(&entry.head.source);
            let verdict = retention.judge(&seen.head, &seen.deliveries, until, is_over, now);
            let nothing_to_do = match verdict.kept {
                Kept::Whole => verdict.expired.is_empty(),
                Kept::Head => !entry.has_payload && verdict.expired.is_empty(),
                Kept::Nothing => false,
            };
            let payload = if verdict.kept == Kept::Whole { state.payload(id, seen.deliveries.len()) } else { None };
            (!nothing_to_do).then_some(RetainItem { seen, verdict, at: now, dedup, payload, is_damaged: false })
        });
        // One at a time where a source has too much: the next may fit.
        let items: Vec<RetainItem> = judged.take(if over.is_empty() { STEP_EVENTS_MAX } else { 1 }).collect();
        if items.is_empty() {
            return Ok(Sweep::Idle);
        }
        Ok(Sweep::Change(Change::Retain(Box::new(Retain { items, ..Retain::default() }))))
    }

    fn close(&self) -> Result<(), JournalError> {
        self.state().closed = true;
        Ok(())
    }
}

impl State {
    fn payload(&self, id: EventId, slots: usize) -> Option<Payload> {
        let Draft { headers, body, .. } = self.events.get(&id)?.draft.clone();
        let attempts = |slot| u16::try_from(slot).ok().and_then(|slot| self.attempts.get(&id.delivery(slot)).cloned());
        Some(Payload { headers, body, attempts: (0..slots).map(|slot| attempts(slot).unwrap_or_default()).collect() })
    }

    /// Never-tried original deliveries to `endpoint` among the events after `after` that fit.
    fn fresh(&self, endpoint: &Name, after: EventId, limit: usize, fits: impl Fn(&Entry) -> bool) -> Fresh {
        let later = self.entries.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let fitting = later.map(|(_, entry)| entry).filter(|entry| fits(entry));
        let mut found = fitting.clone().flat_map(|entry| entry.actives(endpoint, Slot::is_fresh));
        let deliveries: Vec<Active> = found.by_ref().take(limit).collect();
        let end = found.next().is_none();
        let last = if end { fitting.last().map(|entry| entry.head.id) } else { None };
        let scanned_to = last.or(deliveries.last().map(|last| last.id.event)).unwrap_or(after);
        Fresh { deliveries, scanned_to, end }
    }

    fn in_order(
        &self,
        low: EventId,
        high: EventId,
        newest_first: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, JournalError>> + '_> {
        if low >= high {
            return Box::new(std::iter::empty());
        }
        let entries = self.entries.range(low..high).map(|(_, entry)| Ok(entry.clone()));
        if newest_first { Box::new(entries.rev()) } else { Box::new(entries) }
    }
}
