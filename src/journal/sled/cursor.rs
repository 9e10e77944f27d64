//! A cursor: reads entries one after the other, in order, and each page of the index once.
//!
//! A look-up by itself goes down sled's tree and takes in a node of many values for one of them; entries that are read
//! in order stand beside each other. Where the next one is far off, it is looked up.
//!
//! What is held here is as old as it was read. The overlay lets go of an entry only after the index was written, so
//! who finds nothing there asks for the count of writes here: another one, and everything is read anew.

use std::sync::atomic::Ordering;

use ::sled::IVec;

use super::{
    Index, IndexResult, Pair, entries, entry_key, event_key, event_of, in_order, malformed, reader, sled_failed,
};
use crate::core::id::EventId;
use crate::journal::codec::Reader;
use crate::journal::entry::Entry;

/// So many values are passed over before the next one is looked up: about as many as sled has in a node.
const STEPS_MAX: usize = 16;

/// Reads entries in order.
pub(in crate::journal) struct Cursor<'a> {
    index: &'a Index,
    newest_first: bool,
    /// How often the index had been written when this was read.
    writes: u64,
    /// What was asked for last.
    asked: Option<EventId>,
    singles: Singles,
    pages: Pages,
}

/// Entries by themselves.
#[derive(Default)]
struct Singles {
    values: Option<Values>,
    /// The first chunk that was not passed over yet; none behind the last.
    next: Option<(EventId, IVec)>,
}

/// Entries on pages.
#[derive(Default)]
struct Pages {
    values: Option<Values>,
    /// The page that is at hand, by its first event: the one it was written with, which may be gone.
    page: Option<(EventId, IVec)>,
    /// From the oldest on: the page behind it.
    next: Option<(EventId, IVec)>,
    /// What is on the page at hand, once somebody has asked.
    read: Option<Vec<(EventId, Reader)>>,
}

type Values = Box<dyn Iterator<Item = Pair> + Send>;

impl Index {
    /// A cursor for entries that are asked for in this order.
    pub(in crate::journal) fn cursor(&self, newest_first: bool) -> Cursor<'_> {
        let (singles, pages) = (Singles::default(), Pages::default());
        Cursor { index: self, newest_first, writes: 0, asked: None, singles, pages }
    }
}

impl Cursor<'_> {
    /// The entry as the index has it now, as [`Index::get`] says.
    pub(in crate::journal) fn get(&mut self, id: EventId) -> IndexResult<Option<Entry>> {
        let writes = self.index.writes.load(Ordering::Acquire);
        let goes_on = self.asked.is_none_or(|asked| if self.newest_first { id < asked } else { id > asked });
        if writes != self.writes || !goes_on {
            (self.singles, self.pages) = (Singles::default(), Pages::default());
        }
        (self.writes, self.asked) = (writes, Some(id));
        match self.singles.get(self.index, id, self.newest_first)? {
            Some(entry) => Ok(Some(entry)),
            None => self.pages.get(self.index, id, self.newest_first),
        }
    }
}

impl Singles {
    fn get(&mut self, index: &Index, id: EventId, newest_first: bool) -> IndexResult<Option<Entry>> {
        let is_before = |other: EventId| if newest_first { other > id } else { other < id };
        let mut steps = 0;
        while self.values.is_none() || self.next.as_ref().is_some_and(|(next, _)| is_before(*next)) {
            if self.values.is_none() || steps == STEPS_MAX {
                let range = match newest_first {
                    true => index.db.range(entry_key(EventId::MIN, 0)..=entry_key(id, u16::MAX)),
                    false => index.db.range(entry_key(id, 0)..=entry_key(EventId::MAX, u16::MAX)),
                };
                self.values = Some(in_order(range, newest_first));
            }
            self.next = next_of(&mut self.values)?;
            steps += 1;
        }
        let mut chunks = Vec::new();
        while let Some((_, chunk)) = self.next.take_if(|(next, _)| *next == id) {
            chunks.push(chunk);
            self.next = next_of(&mut self.values)?;
        }
        if newest_first {
            chunks.reverse();
        }
        let mut chunks = chunks.iter().map(reader);
        let Some(mut first) = chunks.next() else { return Ok(None) };
        let (mut entry, slots_total) = entries::decode(id, &mut first, &index.names).ok_or_else(malformed)?;
        for mut chunk in chunks {
            entries::decode_slots(&mut entry, &mut chunk, &index.names).ok_or_else(malformed)?;
        }
        // Written while they were read: together they are read by themselves.
        if entry.slots.len() == slots_total { Ok(Some(entry)) } else { index.get(id) }
    }
}

impl Pages {
    fn get(&mut self, index: &Index, id: EventId, newest_first: bool) -> IndexResult<Option<Entry>> {
        self.turn_to(index, id, newest_first)?;
        let Some((_, page)) = self.page.as_ref().filter(|(first, _)| *first <= id) else { return Ok(None) };
        if self.read.is_none() {
            self.read = Some(entries::read_page(reader(page)).ok_or_else(malformed)?);
        }
        // Each is asked for once: what was passed over is not looked at again.
        let on_page = self.read.iter_mut().flatten().find(|(paged, _)| *paged == id);
        let Some((_, chunk)) = on_page else { return Ok(None) };
        let (entry, _) = entries::decode(id, chunk, &index.names).ok_or_else(malformed)?;
        Ok(Some(entry))
    }

    /// Has the page at hand that `id` is on if it is on one: the last that does not begin behind it.
    fn turn_to(&mut self, index: &Index, id: EventId, newest_first: bool) -> IndexResult<()> {
        let key = |id| event_key(b"b".to_vec(), id);
        let begins_behind = |page: &Option<(EventId, IVec)>| page.as_ref().is_some_and(|(first, _)| *first > id);
        let reaches = |page: &Option<(EventId, IVec)>| page.as_ref().is_some_and(|(first, _)| *first <= id);
        let mut steps = 0;
        while self.values.is_none() || if newest_first { begins_behind(&self.page) } else { reaches(&self.next) } {
            self.read = None;
            if self.values.is_none() || steps == STEPS_MAX {
                let up_to = index.db.range(key(EventId::MIN)..=key(id));
                if newest_first {
                    self.values = Some(in_order(up_to, true));
                } else {
                    let first = up_to.keys().next_back().transpose().map_err(sled_failed)?;
                    let from = first.map_or_else(|| key(id), |first| first.to_vec());
                    self.values = Some(in_order(index.db.range(from..=key(EventId::MAX)), false));
                    self.next = next_of(&mut self.values)?;
                }
            }
            let next = next_of(&mut self.values)?;
            self.page = if newest_first { next } else { std::mem::replace(&mut self.next, next) };
            steps += 1;
        }
        Ok(())
    }
}

/// The next value, by its event; `None` behind the last.
fn next_of(values: &mut Option<Values>) -> IndexResult<Option<(EventId, IVec)>> {
    let Some(pair) = values.as_mut().and_then(Iterator::next) else { return Ok(None) };
    let (key, value) = pair.map_err(sled_failed)?;
    let id = key.get(1..).and_then(event_of).ok_or_else(malformed)?;
    Ok(Some((id, value)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::core::event::{Draft, Event};
    use crate::core::name::Name;
    use crate::core::timestamp::Timestamp;
    use crate::journal::log::Position;
    use crate::journal::sled::{Handover, Update};

    /// A new event with so many deliveries: more than a chunk holds, or so few that it is paged.
    fn entry(id: u128, slots: usize) -> Entry {
        let draft = Draft {
            source: Name::new("flyflow").unwrap(),
            event_type: "call_ended".to_owned(),
            key: None,
            occurred_at: None,
            headers: Vec::new(),
            body: Bytes::new(),
            dedup: None,
            endpoints: (0..slots).map(|slot| Name::new(&format!("e{slot}")).unwrap()).collect(),
        };
        let event = Event { id: EventId::from_u128(id), received_at: Timestamp::from_millis(1), draft };
        Entry::accepted(&event, Position(1))
    }

    struct World<'a> {
        index: &'a Index,
        known: BTreeMap<EventId, Entry>,
        rng: fastrand::Rng,
    }

    impl World<'_> {
        fn write(&self, updates: Vec<Update>) {
            self.index.write(&Handover { updates, ..Handover::default() }).unwrap();
        }

        /// Events in order, with gaps, handed over a few at a time.
        fn fill(&mut self, count: u128) {
            let mut id = 0;
            while id < count {
                let mut updates = Vec::new();
                for _ in 0..self.rng.usize(1..60) {
                    id += self.rng.u128(1..4);
                    let slots = if self.rng.u8(..) < 20 { self.rng.usize(14..40) } else { self.rng.usize(0..3) };
                    let entry = entry(id, slots);
                    self.known.insert(entry.head.id, entry.clone());
                    updates.push(Update { id: entry.head.id, entry: Some(entry), before: None });
                }
                self.write(updates);
            }
        }

        /// One of those in `low..high` is cancelled, or is no more.
        fn change(&mut self, low: EventId, high: EventId) {
            let among: Vec<EventId> = self.known.range(low..high).map(|(id, _)| *id).collect();
            let Some(id) = self.rng.choice(among) else { return };
            let before = self.known.remove(&id);
            let mut entry = before.clone().filter(|_| self.rng.u8(..) < 200);
            if let Some(entry) = &mut entry {
                entry.cancel(0, Timestamp::from_millis(self.rng.u64(2..1000)), Position(self.rng.u64(2..1000)));
                self.known.insert(id, entry.clone());
            }
            self.write(vec![Update { id, entry, before }]);
        }
    }

    #[test]
    fn what_is_read_in_order_is_what_is_looked_up_whatever_is_written_meanwhile() {
        let mut found = 0;
        for seed in 0..8 {
            let folder = tempfile::tempdir().unwrap();
            let index = Index::open(folder.path(), 1 << 20).unwrap();
            let mut world = World { index: &index, known: BTreeMap::new(), rng: fastrand::Rng::with_seed(seed) };
            world.fill(2000);
            for _ in 0..world.rng.usize(0..300) {
                world.change(EventId::MIN, EventId::MAX);
            }
            for newest_first in [false, true] {
                // Every one of them, or few, far apart.
                let step = [1, 3, 400][usize::try_from(seed).unwrap() % 3];
                let mut ids: Vec<EventId> = (0..2100).step_by(step).map(EventId::from_u128).collect();
                if newest_first {
                    ids.reverse();
                }
                let mut cursor = index.cursor(newest_first);
                for id in ids {
                    if world.rng.u8(..) < 20 {
                        // Near enough to be held by the cursor already.
                        let near = id.as_u128().saturating_sub(20)..id.as_u128() + 20;
                        world.change(EventId::from_u128(near.start), EventId::from_u128(near.end));
                    }
                    let entry = cursor.get(id).unwrap();
                    assert_eq!(entry, world.known.get(&id).cloned(), "{seed} {id}");
                    assert_eq!(entry, index.get(id).unwrap(), "{seed} {id}");
                    found += usize::from(entry.is_some());
                }
            }
        }
        assert!(found > 5000);
    }
}
