//! The overlay: what has changed since the index last took it over, in memory, bounded.
//!
//! Readers ask it first. An entry leaves when the index holds it as it stands here, so that an event on
//! the happy path is written to the index once, with the outcomes of all its deliveries.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
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
use crate::journal::record::retained::{Carried, Remains};
use crate::journal::sled::{Among, Handover, Index, Meta, Tag, Update};
use crate::journal::{Counters, JournalError};

/// Entries held at most; a commit waits for the index above it.
pub(super) const ENTRIES_MAX: usize = 65_536;
/// Tags gathered before they become a run of the index.
const TAGS_MAX: usize = 131_072;
/// An entry that has not settled after this many ticks is written as it stands.
const TICKS_UNSETTLED_MAX: u64 = 4;

/// Which entries the index is to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// Those that have settled, and those that have waited long.
    Due,
    /// The oldest, settled or not, so that the index knows of later records; if there are none, that it does.
    Oldest,
    /// Everything, tags too.
    All,
}

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
    /// Entries of the index that are about to be asked for, as they are there, so that nobody waits for that.
    expected: HashMap<EventId, Entry>,
    /// How often the index has taken entries over.
    handovers: u64,
    replays: BTreeMap<ReplayId, Replay>,
    replays_changed: BTreeSet<ReplayId>,
    replays_gone: BTreeSet<ReplayId>,
    marks: BTreeMap<Name, EventId>,
    marks_changed: BTreeSet<Name>,
    standings: BTreeMap<Name, Standing>,
    standings_changed: BTreeSet<Name>,
    /// Of the entries that are there.
    counters: Counters,
    remains: Remains,
    remains_changed: bool,
    /// How many records of retention were applied here.
    retained: u64,
    last_id: u128,
    /// Whether tags were gathered of events that are older than others whose tags the index has.
    has_old_tags: bool,
    /// Every record before this one is applied here.
    applied: Position,
    tick: u64,
}

struct Dirty {
    entry: Entry,
    /// Whether it was let go of: nothing is known of it any more.
    gone: bool,
    before: Option<Entry>,
    /// The first record the index does not hold.
    first: Position,
    born_tick: u64,
    /// While the index is taking it over: the first record applied since.
    writing: Option<Option<Position>>,
}

impl Overlay {
    pub(super) fn new(index: Arc<Index>) -> Result<Self, JournalError> {
        let Meta { applied, last_id, counters, remains } = index.meta();
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
            expected: HashMap::new(),
            handovers: 0,
            replays,
            replays_changed: BTreeSet::new(),
            replays_gone: BTreeSet::new(),
            marks,
            marks_changed: BTreeSet::new(),
            standings,
            standings_changed: BTreeSet::new(),
            counters,
            remains,
            remains_changed: false,
            retained: 0,
            last_id,
            has_old_tags: false,
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

    /// What is held here of an event: its entry, or that there is none any more. `None` if nothing is.
    pub(super) fn held(&self, id: EventId) -> Option<Option<&Entry>> {
        self.dirty.get(&id).map(Dirty::current)
    }

    /// The entry that the index has, if it is known here because it is expected to be asked for.
    pub(super) fn expected(&self, id: EventId) -> Option<&Entry> {
        self.expected.get(&id)
    }

    /// How often the index has taken entries over.
    pub(super) const fn handovers(&self) -> u64 {
        self.handovers
    }

    /// These entries, as they were looked up since there were so many handovers, are about to be asked for.
    pub(super) fn expect(&mut self, entries: Vec<Entry>, handovers: u64) {
        self.expected.clear();
        if handovers == self.handovers {
            let indexed = entries.into_iter().filter(|entry| !self.dirty.contains_key(&entry.head.id));
            self.expected = indexed.map(|entry| (entry.head.id, entry)).collect();
        }
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

    pub(super) fn replays(&self) -> impl DoubleEndedIterator<Item = &Replay> + ExactSizeIterator + Clone {
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

    /// Of all that ever was.
    pub(super) fn counters(&self) -> Counters {
        self.counters.clone().plus(&self.remains.counters)
    }

    /// Of the entries that are there.
    pub(super) const fn kept(&self) -> &Counters {
        &self.counters
    }

    /// What is left of what was let go of.
    pub(super) const fn remains(&self) -> &Remains {
        &self.remains
    }

    /// How many records of retention were applied here.
    pub(super) const fn retained(&self) -> u64 {
        self.retained
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

    /// Takes up to `max` entries for the index. `None` if there is nothing to write.
    pub(super) fn hand_over(&mut self, max: usize, take: Take) -> Option<Handover> {
        let mut chosen: Vec<EventId> = Vec::new();
        while take != Take::Oldest
            && chosen.len() < max
            && let Some(id) = self.settled.pop_front()
        {
            chosen.push(id);
        }
        let old = self.tick.saturating_sub(TICKS_UNSETTLED_MAX);
        // Oldest first; once one is young, so are the rest. Half full, young ones go as well.
        let hurry = take != Take::Due || self.dirty.len() > ENTRIES_MAX / 2;
        let is_due = |id: &EventId| hurry || self.dirty.get(id).is_some_and(|dirty| dirty.born_tick <= old);
        let waited = self.unindexed.iter().map(|(_, id)| *id).take_while(is_due);
        chosen.extend(waited.take(max.saturating_sub(chosen.len())));
        chosen.sort_unstable();
        chosen.dedup();
        let updates: Vec<Update> = chosen.into_iter().filter_map(|id| self.begin_writing(id)).collect();
        let replays = std::mem::take(&mut self.replays_changed);
        let replays: Vec<Replay> = replays.iter().filter_map(|id| self.replays.get(id).cloned()).collect();
        let replays_gone: Vec<ReplayId> = std::mem::take(&mut self.replays_gone).into_iter().collect();
        let marks = std::mem::take(&mut self.marks_changed);
        let marks: Vec<(Name, EventId)> = marks.into_iter().map(|name| (name.clone(), self.mark(&name))).collect();
        let standings = std::mem::take(&mut self.standings_changed);
        let standings: Vec<(Name, Standing)> =
            standings.into_iter().filter_map(|name| self.standings.get(&name).cloned().map(|it| (name, it))).collect();
        let applied = self.indexed_up_to();
        let tags = self.tags_due(take == Take::All);
        let nothing = updates.is_empty() && replays.is_empty() && marks.is_empty() && standings.is_empty();
        let has_news = !nothing || take == Take::Oldest || tags.is_some() || std::mem::take(&mut self.remains_changed);
        let remains = self.remains.clone();
        let oldest_held = self.dirty.iter().find(|(_, dirty)| !dirty.gone).map(|(id, _)| *id);
        let handover =
            Handover { updates, replays, replays_gone, marks, standings, remains, oldest_held, tags, applied };
        has_news.then_some(handover)
    }

    /// All tags gathered, if there are enough for a run.
    fn tags_due(&mut self, all: bool) -> Option<(Arc<Vec<Tag>>, EventId)> {
        let enough = self.tags.len() >= TAGS_MAX || ((all || self.has_old_tags) && !self.tags.is_empty());
        if !enough || self.tags_leaving.is_some() {
            return None;
        }
        let tags: Arc<Vec<Tag>> = Arc::new(std::mem::take(&mut self.tags).into_iter().collect());
        self.tags_leaving = Some(Arc::clone(&tags));
        self.has_old_tags = false;
        Some((tags, self.newest))
    }

    fn begin_writing(&mut self, id: EventId) -> Option<Update> {
        let dirty = self.dirty.get_mut(&id).filter(|dirty| dirty.writing.is_none())?;
        dirty.writing = Some(None);
        self.unindexed.remove(&(dirty.first, id));
        Some(Update { id, entry: dirty.current().cloned(), before: dirty.before.clone() })
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
        self.handovers += 1;
        for update in handover.updates {
            let id = update.id;
            self.expected.remove(&id);
            let Some(dirty) = self.dirty.get_mut(&id) else { continue };
            match dirty.writing.take().flatten() {
                Some(first) => {
                    dirty.first = first;
                    dirty.before = update.entry;
                    dirty.born_tick = self.tick;
                    if dirty.entry.is_settled() {
                        self.settled.push_back(id);
                    }
                }
                None => self.release(id),
            }
        }
    }

    fn release(&mut self, id: EventId) {
        let Some(dirty) = self.dirty.remove(&id) else { return };
        for slot in &dirty.entry.slots {
            for active in dirty.entry.actives(&slot.endpoint, Slot::is_waiting) {
                self.waiting.remove(&(slot.endpoint.clone(), active));
            }
        }
    }

    /// Makes sure the entry is held here, if it exists at all.
    fn hold(&mut self, id: EventId) -> Result<bool, JournalError> {
        if let Some(dirty) = self.dirty.get(&id) {
            return Ok(!dirty.gone);
        }
        let entry = match self.expected.remove(&id) {
            Some(entry) => entry,
            None => match self.index.get(id)? {
                Some(entry) => entry,
                None => return Ok(false),
            },
        };
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

    /// Takes a new entry in.
    fn add(&mut self, entry: Entry) {
        let (id, place) = (entry.head.id, entry.place);
        self.note_tags(&entry);
        self.counters.add(&entry, Sign::Plus);
        self.last_id = self.last_id.max(id.as_u128());
        self.dirty.insert(id, Dirty::new(entry, None, self.tick));
        self.note_change(id, place);
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
        if id.as_u128() > self.last_id {
            return Ok(false);
        }
        Ok(match self.held(id) {
            Some(held) => held.is_some(),
            None if self.expected.contains_key(&id) => true,
            None => self.index.get(id)?.is_some(),
        })
    }

    fn insert(&mut self, _: &Arc<Event>, entry: Entry) {
        self.add(entry);
    }

    fn change(&mut self, id: EventId, place: Position, change: impl FnOnce(&mut Entry)) -> Result<(), JournalError> {
        if !self.hold(id)? {
            return Ok(());
        }
        let Some(mut entry) = self.held(id).flatten().cloned() else { return Ok(()) };
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
        self.replays_gone.remove(&replay.id);
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

    fn carry(&mut self, carried: &Carried, place: Position) -> Result<(), JournalError> {
        let entry = carried.entry_at(place);
        let id = entry.head.id;
        if self.contains(id)? {
            return self.change(id, place, |known| *known = entry);
        }
        // Read from a log whose part with the event's first record is gone.
        self.has_old_tags = true;
        self.note_waiting(&entry, true);
        self.add(entry);
        Ok(())
    }

    fn forget(&mut self, id: EventId, place: Position) -> Result<(), JournalError> {
        if !self.hold(id)? {
            return Ok(());
        }
        if let Some(dirty) = self.dirty.get_mut(&id) {
            dirty.gone = true;
            let entry = dirty.entry.clone();
            self.counters.add(&entry, Sign::Minus);
            self.note_waiting(&entry, false);
        }
        self.note_change(id, place);
        Ok(())
    }

    fn remain(&mut self, remains: &Remains) {
        self.remains.raise(remains);
        self.remains_changed = true;
        self.retained += 1;
    }

    fn forget_replay(&mut self, id: ReplayId) {
        self.replays.remove(&id);
        self.replays_changed.remove(&id);
        self.replays_gone.insert(id);
        self.remains.counters.replays.remove(&id);
        self.remains_changed = true;
    }

    fn note_id(&mut self, id: u128) {
        self.last_id = self.last_id.max(id);
    }
}

impl Dirty {
    const fn new(entry: Entry, before: Option<Entry>, tick: u64) -> Self {
        Self { entry, gone: false, before, first: Position(u64::MAX), born_tick: tick, writing: None }
    }

    /// The entry, unless it was let go of.
    fn current(&self) -> Option<&Entry> {
        (!self.gone).then_some(&self.entry)
    }
}
