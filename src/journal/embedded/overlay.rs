//! The overlay: what has changed since the index last took it over, in memory, bounded.
//!
//! Readers ask it first. An entry leaves when the index holds it as it stands here, so that an event on
//! the happy path is written to the index once, with the outcomes of all its deliveries.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::core::event::{Event, Fingerprint};
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::Replay;
use crate::core::scheduler::Active;
use crate::core::timestamp::Timestamp;
use crate::journal::entry::{Entry, Sign, Slot};
use crate::journal::ledger::Apply;
use crate::journal::log::Position;
use crate::journal::sled::{Index, Meta, Update};
use crate::journal::{Counters, JournalError};

/// Entries held at most; a commit waits for the index above it.
pub(super) const ENTRIES_MAX: usize = 65_536;
/// An entry that has not settled after this many ticks is written as it stands.
const TICKS_UNSETTLED_MAX: u64 = 4;

pub(super) struct Overlay {
    index: Arc<Index>,
    dirty: BTreeMap<EventId, Dirty>,
    prints: HashMap<(Name, Fingerprint), EventId>,
    /// Waiting deliveries of the entries held here.
    waiting: BTreeSet<(Name, Active)>,
    /// The first record of each entry that the index does not hold yet.
    unindexed: BTreeSet<(Position, EventId)>,
    settled: VecDeque<EventId>,
    replays: BTreeMap<ReplayId, Replay>,
    replays_changed: BTreeSet<ReplayId>,
    marks: BTreeMap<Name, EventId>,
    marks_changed: BTreeSet<Name>,
    counters: Counters,
    last_id: u128,
    /// Every record before this one is applied here.
    applied: Position,
    tick: u64,
}

struct Dirty {
    entry: Entry,
    before: Option<Entry>,
    print: Option<(Name, Fingerprint)>,
    /// The first record the index does not hold.
    first: Position,
    born_tick: u64,
    /// While the index is taking it over: the first record applied since.
    writing: Option<Option<Position>>,
}

/// What the index is to take over in one batch.
pub(super) struct Handover {
    pub(super) updates: Vec<Update>,
    pub(super) replays: Vec<Replay>,
    pub(super) marks: Vec<(Name, EventId)>,
    pub(super) applied: Position,
}

impl Overlay {
    pub(super) fn new(index: Arc<Index>) -> Result<Self, JournalError> {
        let Meta { applied, last_id, counters } = index.meta();
        let replays = index.replays()?.into_iter().map(|replay| (replay.id, replay)).collect();
        let marks = index.marks()?;
        Ok(Self {
            index,
            dirty: BTreeMap::new(),
            prints: HashMap::new(),
            waiting: BTreeSet::new(),
            unindexed: BTreeSet::new(),
            settled: VecDeque::new(),
            replays,
            replays_changed: BTreeSet::new(),
            marks,
            marks_changed: BTreeSet::new(),
            counters,
            last_id,
            applied,
            tick: 0,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.dirty.len()
    }

    /// The entry if it is held here.
    pub(super) fn held(&self, id: EventId) -> Option<&Entry> {
        self.dirty.get(&id).map(|dirty| &dirty.entry)
    }

    /// The ids held here in `low..high`.
    pub(super) fn ids(&self, low: EventId, high: EventId) -> Vec<EventId> {
        if low < high { self.dirty.range(low..high).map(|(id, _)| *id).collect() } else { Vec::new() }
    }

    pub(super) fn event_with(&self, source: &Name, print: Fingerprint) -> Option<EventId> {
        self.prints.get(&(source.clone(), print)).copied()
    }

    /// Waiting deliveries to `endpoint` among the entries held here, earliest first, at most `limit`.
    pub(super) fn waiting(&self, endpoint: &Name, limit: usize) -> Vec<Active> {
        let nothing = Active {
            due: Timestamp::ZERO,
            id: DeliveryId { event: EventId::MIN, slot: 0 },
            attempts: 0,
            born_at: Timestamp::ZERO,
        };
        let from = (endpoint.clone(), nothing);
        let of_endpoint = self.waiting.range(from..).take_while(|(name, _)| name == endpoint);
        of_endpoint.map(|(_, active)| *active).take(limit).collect()
    }

    pub(super) fn replays(&self) -> impl DoubleEndedIterator<Item = &Replay> {
        self.replays.values()
    }

    pub(super) fn replay(&self, id: ReplayId) -> Option<&Replay> {
        self.replays.get(&id)
    }

    pub(super) fn mark(&self, endpoint: &Name) -> EventId {
        self.marks.get(endpoint).copied().unwrap_or(EventId::MIN)
    }

    pub(super) fn set_mark(&mut self, endpoint: &Name, mark: EventId) {
        if self.mark(endpoint) < mark {
            self.marks.insert(endpoint.clone(), mark);
            self.marks_changed.insert(endpoint.clone());
        }
    }

    pub(super) const fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) const fn last_id(&self) -> u128 {
        self.last_id
    }

    /// All records before `end` are applied.
    pub(super) fn set_applied(&mut self, end: Position) {
        self.applied = self.applied.max(end);
    }

    /// Time has passed, about half a second of it.
    pub(super) const fn tick(&mut self) {
        self.tick += 1;
    }

    /// Takes up to `max` entries for the index: those that have settled, those that have waited long, or `all`.
    ///
    /// `None` if there is nothing to write.
    pub(super) fn hand_over(&mut self, max: usize, all: bool) -> Option<Handover> {
        let mut chosen: Vec<EventId> = Vec::new();
        while chosen.len() < max
            && let Some(id) = self.settled.pop_front()
        {
            chosen.push(id);
        }
        let old = self.tick.saturating_sub(TICKS_UNSETTLED_MAX);
        // Oldest first; once one is young, so are the rest.
        let is_due = |id: &EventId| all || self.dirty.get(id).is_some_and(|dirty| dirty.born_tick <= old);
        let waited = self.unindexed.iter().map(|(_, id)| *id).take_while(is_due);
        chosen.extend(waited.take(max.saturating_sub(chosen.len())));
        chosen.sort_unstable();
        chosen.dedup();
        let updates: Vec<Update> = chosen.into_iter().filter_map(|id| self.begin_writing(id)).collect();
        let replays = std::mem::take(&mut self.replays_changed);
        let replays: Vec<Replay> = replays.iter().filter_map(|id| self.replays.get(id).cloned()).collect();
        let marks = std::mem::take(&mut self.marks_changed);
        let marks: Vec<(Name, EventId)> = marks.into_iter().map(|name| (name.clone(), self.mark(&name))).collect();
        let applied = self.indexed_up_to();
        let is_news = !updates.is_empty() || !replays.is_empty() || !marks.is_empty();
        is_news.then_some(Handover { updates, replays, marks, applied })
    }

    fn begin_writing(&mut self, id: EventId) -> Option<Update> {
        let dirty = self.dirty.get_mut(&id).filter(|dirty| dirty.writing.is_none())?;
        dirty.writing = Some(None);
        self.unindexed.remove(&(dirty.first, id));
        // Only the newest event with a print may leave it in the index.
        let newest = dirty.print.as_ref().filter(|print| self.prints.get(*print) == Some(&id));
        let print = newest.map(|(_, print)| *print);
        Some(Update { entry: dirty.entry.clone(), before: dirty.before.clone(), print })
    }

    /// Where the next start has to begin reading, once what is being written is written.
    fn indexed_up_to(&self) -> Position {
        self.unindexed.first().map_or(self.applied, |(position, _)| (*position).min(self.applied))
    }

    /// The index holds these now.
    pub(super) fn handed_over(&mut self, updates: Vec<Update>) {
        for update in updates {
            let id = update.entry.head.id;
            let Some(dirty) = self.dirty.get_mut(&id) else { continue };
            match dirty.writing.take().flatten() {
                Some(first) => {
                    dirty.first = first;
                    dirty.before = Some(update.entry);
                    dirty.born_tick = self.tick;
                    if dirty.entry.is_settled() {
                        self.settled.push_back(id);
                    }
                }
                None => self.forget(id),
            }
        }
    }

    fn forget(&mut self, id: EventId) {
        let Some(dirty) = self.dirty.remove(&id) else { return };
        if let Some(print) = dirty.print
            && self.prints.get(&print) == Some(&id)
        {
            self.prints.remove(&print);
        }
        for slot in &dirty.entry.slots {
            for active in dirty.entry.actives(&slot.endpoint, Slot::is_waiting) {
                self.waiting.remove(&(slot.endpoint.clone(), active));
            }
        }
    }

    /// Makes sure the entry is held here, if it exists at all.
    fn hold(&mut self, id: EventId) -> Result<bool, JournalError> {
        if self.dirty.contains_key(&id) {
            return Ok(true);
        }
        let Some(entry) = self.index.get(id)? else { return Ok(false) };
        let before = Some(entry.clone());
        self.note_waiting(&entry, true);
        self.dirty.insert(id, Dirty::new(entry, before, None, self.tick));
        Ok(true)
    }

    fn note_waiting(&mut self, entry: &Entry, there: bool) {
        for slot in &entry.slots {
            for active in entry.actives(&slot.endpoint, Slot::is_waiting) {
                let key = (slot.endpoint.clone(), active);
                if there {
                    self.waiting.insert(key);
                } else {
                    self.waiting.remove(&key);
                }
            }
        }
    }

    /// Remembers that the record at `place` has changed the entry.
    fn note_change(&mut self, id: EventId, place: Position) {
        let Some(dirty) = self.dirty.get_mut(&id) else { return };
        match &mut dirty.writing {
            Some(Some(_)) => {}
            Some(since) => {
                *since = Some(place);
                self.unindexed.insert((place, id));
            }
            None if dirty.first > place => {
                self.unindexed.remove(&(dirty.first, id));
                dirty.first = place;
                self.unindexed.insert((place, id));
            }
            None => {}
        }
        if dirty.entry.is_settled() && dirty.writing.is_none() {
            self.settled.push_back(id);
        }
    }
}

impl Apply for Overlay {
    type Error = JournalError;

    fn contains(&mut self, id: EventId) -> Result<bool, JournalError> {
        // A new event is greater than every known one: no need to ask the index.
        Ok(id.as_u128() <= self.last_id && (self.dirty.contains_key(&id) || self.index.get(id)?.is_some()))
    }

    fn insert(&mut self, event: &Arc<Event>, entry: Entry) -> Result<(), JournalError> {
        let id = event.id;
        let mut print = event.draft.dedup.map(|dedup| (event.draft.source.clone(), dedup.fingerprint));
        // While the log is read again, a newer event with the same print may be in the index already.
        if let Some((source, fingerprint)) = &print
            && id.as_u128() <= self.last_id
            && self.index.event_with(source, *fingerprint)?.is_some_and(|newer| newer > id)
        {
            print = None;
        }
        if let Some(print) = &print {
            self.prints.insert(print.clone(), id);
        }
        self.counters.add(&entry, Sign::Plus);
        self.last_id = self.last_id.max(id.as_u128());
        let place = entry.place;
        self.dirty.insert(id, Dirty::new(entry, None, print, self.tick));
        self.note_change(id, place);
        Ok(())
    }

    fn change(&mut self, id: EventId, place: Position, change: impl FnOnce(&mut Entry)) -> Result<(), JournalError> {
        if !self.hold(id)? {
            return Ok(());
        }
        let Some(mut entry) = self.held(id).cloned() else { return Ok(()) };
        self.counters.add(&entry, Sign::Minus);
        self.note_waiting(&entry, false);
        change(&mut entry);
        self.counters.add(&entry, Sign::Plus);
        self.note_waiting(&entry, true);
        if let Some(dirty) = self.dirty.get_mut(&id) {
            dirty.entry = entry;
        }
        self.note_change(id, place);
        Ok(())
    }

    fn insert_replay(&mut self, replay: &Replay) -> Result<(), JournalError> {
        self.last_id = self.last_id.max(replay.id.as_u128());
        self.replays_changed.insert(replay.id);
        self.replays.entry(replay.id).or_insert_with(|| replay.clone());
        Ok(())
    }

    fn change_replay(&mut self, id: ReplayId, change: impl FnOnce(&mut Replay)) -> Result<(), JournalError> {
        if let Some(replay) = self.replays.get_mut(&id) {
            self.replays_changed.insert(id);
            change(replay);
        }
        Ok(())
    }
}

impl Dirty {
    const fn new(entry: Entry, before: Option<Entry>, print: Option<(Name, Fingerprint)>, tick: u64) -> Self {
        Self { entry, before, print, first: Position(u64::MAX), born_tick: tick, writing: None }
    }
}
