//! The overlay: what has changed since the index last took it over, in memory, bounded.
//!
//! Readers ask it first. An entry leaves when the index holds it as it stands here, so that an event on
//! the happy path is written to the index once, with the outcomes of all its deliveries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::core::event::Event;
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::Replay;
use crate::core::scheduler::Active;
use crate::core::standing::Standing;
use crate::core::timestamp::Timestamp;
use crate::journal::entry::{Entry, Sign, Slot};
use crate::journal::ledger::Apply;
use crate::journal::log::Position;
use crate::journal::sled::{Among, Handover, Index, Meta, Tag, Update};
use crate::journal::{Counters, JournalError};

/// Entries held at most; a commit waits for the index above it.
pub(super) const ENTRIES_MAX: usize = 65_536;
/// Tags gathered before they become a run of the index.
const TAGS_MAX: usize = 131_072;
/// An entry that has not settled after this many ticks is written as it stands.
const TICKS_UNSETTLED_MAX: u64 = 4;

pub(super) struct Overlay {
    index: Arc<Index>,
    dirty: BTreeMap<EventId, Dirty>,
    /// Tags of events that the index does not have yet, and those it is taking over.
    tags: BTreeSet<Tag>,
    tags_leaving: Option<Arc<Vec<Tag>>>,
    newest: EventId,
    /// Waiting deliveries of the entries held here.
    waiting: BTreeSet<(Name, Active)>,
    /// The first record of each entry that the index does not hold yet.
    unindexed: BTreeSet<(Position, EventId)>,
    settled: VecDeque<EventId>,
    replays: BTreeMap<ReplayId, Replay>,
    replays_changed: BTreeSet<ReplayId>,
    marks: BTreeMap<Name, EventId>,
    marks_changed: BTreeSet<Name>,
    standings: BTreeMap<Name, Standing>,
    standings_changed: BTreeSet<Name>,
    counters: Counters,
    last_id: u128,
    /// Every record before this one is applied here.
    applied: Position,
    tick: u64,
}

struct Dirty {
    entry: Entry,
    before: Option<Entry>,
    /// The first record the index does not hold.
    first: Position,
    born_tick: u64,
    /// While the index is taking it over: the first record applied since.
    writing: Option<Option<Position>>,
}

impl Overlay {
    pub(super) fn new(index: Arc<Index>) -> Result<Self, JournalError> {
        let Meta { applied, last_id, counters } = index.meta();
        let replays = index.replays()?.into_iter().map(|replay| (replay.id, replay)).collect();
        let (marks, standings) = (index.marks()?, index.standings()?);
        let mut overlay = Self {
            index,
            dirty: BTreeMap::new(),
            tags: BTreeSet::new(),
            tags_leaving: None,
            newest: EventId::MIN,
            waiting: BTreeSet::new(),
            unindexed: BTreeSet::new(),
            settled: VecDeque::new(),
            replays,
            replays_changed: BTreeSet::new(),
            marks,
            marks_changed: BTreeSet::new(),
            standings,
            standings_changed: BTreeSet::new(),
            counters,
            last_id,
            applied,
            tick: 0,
        };
        overlay.gather_tags()?;
        Ok(overlay)
    }

    /// The tags of indexed events that are in no run yet: what a killed process had gathered.
    fn gather_tags(&mut self) -> Result<(), JournalError> {
        let index = Arc::clone(&self.index);
        let after = EventId::from_u128(index.tagged_to().as_u128().saturating_add(1));
        for id in index.ids(&Among::All, after, EventId::MAX, false)? {
            if let Some(entry) = index.get(id?)? {
                self.note_tags(&entry);
            }
        }
        Ok(())
    }

    fn note_tags(&mut self, entry: &Entry) {
        let id = entry.head.id;
        self.tags.extend(entry.tags().map(|tag| (tag, id)));
        self.newest = self.newest.max(id);
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

    /// The events held here with `tag` in `low..high`, oldest first.
    pub(super) fn tagged(&self, tag: u64, low: EventId, high: EventId) -> Vec<EventId> {
        if low >= high {
            return Vec::new();
        }
        let mut found: Vec<EventId> = self.tags.range((tag, low)..(tag, high)).map(|(_, id)| *id).collect();
        if let Some(leaving) = &self.tags_leaving {
            let from = leaving.partition_point(|found| *found < (tag, low));
            let rest = leaving.get(from..).unwrap_or_default();
            found.extend(rest.iter().take_while(|found| **found < (tag, high)).map(|(_, id)| *id));
        }
        found.sort_unstable();
        found
    }

    /// Waiting deliveries to `endpoint` among the entries held here, earliest first, at most `limit`.
    pub(super) fn waiting(&self, endpoint: &Name, limit: usize) -> Vec<Active> {
        let nothing = Active::fresh(DeliveryId { event: EventId::MIN, slot: 0 }, Timestamp::ZERO, None);
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

    pub(super) fn standing(&self, endpoint: &Name) -> Option<&Standing> {
        self.standings.get(endpoint)
    }

    pub(super) const fn standings(&self) -> &BTreeMap<Name, Standing> {
        &self.standings
    }

    pub(super) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Every record before this one is applied here.
    pub(super) const fn applied(&self) -> Position {
        self.applied
    }

    pub(super) const fn marks(&self) -> &BTreeMap<Name, EventId> {
        &self.marks
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
        // Oldest first; once one is young, so are the rest. Half full, young ones go as well.
        let hurry = all || self.dirty.len() > ENTRIES_MAX / 2;
        let is_due = |id: &EventId| hurry || self.dirty.get(id).is_some_and(|dirty| dirty.born_tick <= old);
        let waited = self.unindexed.iter().map(|(_, id)| *id).take_while(is_due);
        chosen.extend(waited.take(max.saturating_sub(chosen.len())));
        chosen.sort_unstable();
        chosen.dedup();
        let updates: Vec<Update> = chosen.into_iter().filter_map(|id| self.begin_writing(id)).collect();
        let replays = std::mem::take(&mut self.replays_changed);
        let replays: Vec<Replay> = replays.iter().filter_map(|id| self.replays.get(id).cloned()).collect();
        let marks = std::mem::take(&mut self.marks_changed);
        let marks: Vec<(Name, EventId)> = marks.into_iter().map(|name| (name.clone(), self.mark(&name))).collect();
        let standings = std::mem::take(&mut self.standings_changed);
        let standings: Vec<(Name, Standing)> =
            standings.into_iter().filter_map(|name| self.standings.get(&name).cloned().map(|it| (name, it))).collect();
        let applied = self.indexed_up_to();
        let tags = self.tags_due(all);
        let nothing = updates.is_empty() && replays.is_empty() && marks.is_empty() && standings.is_empty();
        (!nothing || tags.is_some()).then_some(Handover { updates, replays, marks, standings, tags, applied })
    }

    /// All tags gathered, if there are enough for a run.
    fn tags_due(&mut self, all: bool) -> Option<(Arc<Vec<Tag>>, EventId)> {
        let enough = self.tags.len() >= TAGS_MAX || (all && !self.tags.is_empty());
        if !enough || self.tags_leaving.is_some() {
            return None;
        }
        let tags: Arc<Vec<Tag>> = Arc::new(std::mem::take(&mut self.tags).into_iter().collect());
        self.tags_leaving = Some(Arc::clone(&tags));
        Some((tags, self.newest))
    }

    fn begin_writing(&mut self, id: EventId) -> Option<Update> {
        let dirty = self.dirty.get_mut(&id).filter(|dirty| dirty.writing.is_none())?;
        dirty.writing = Some(None);
        self.unindexed.remove(&(dirty.first, id));
        Some(Update { entry: dirty.entry.clone(), before: dirty.before.clone() })
    }

    /// Where the next start has to begin reading, once what is being written is written.
    fn indexed_up_to(&self) -> Position {
        self.unindexed.first().map_or(self.applied, |(position, _)| (*position).min(self.applied))
    }

    /// The index holds these now.
    pub(super) fn handed_over(&mut self, handover: Handover) {
        if handover.tags.is_some() {
            self.tags_leaving = None;
        }
        for update in handover.updates {
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
        self.dirty.insert(id, Dirty::new(entry, before, self.tick));
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

    fn insert(&mut self, event: &Arc<Event>, entry: Entry) {
        let id = event.id;
        self.note_tags(&entry);
        self.counters.add(&entry, Sign::Plus);
        self.last_id = self.last_id.max(id.as_u128());
        let place = entry.place;
        self.dirty.insert(id, Dirty::new(entry, None, self.tick));
        self.note_change(id, place);
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

    fn stand(&mut self, endpoint: &Name, standing: &Standing) {
        self.standings.insert(endpoint.clone(), standing.clone());
        self.standings_changed.insert(endpoint.clone());
    }
}

impl Dirty {
    const fn new(entry: Entry, before: Option<Entry>, tick: u64) -> Self {
        Self { entry, before, first: Position(u64::MAX), born_tick: tick, writing: None }
    }
}
