//! Entries as bytes: singly, in chunks of slots, or many to a page.
//!
//! ```text
//! entry     place, received, source, type, key?, occurred?, body bytes, print tag?, payload kept, slot total, slots
//! page      count, then per entry: event(16), length, entry
//! ```

use std::sync::Arc;

use super::VALUE_MAX_BYTES;
use super::names::Names;
use crate::core::attempt::FailureClass;
use crate::core::delivery::{Reason, State};
use crate::core::event::{EventHead, KEY_LEN_MAX, TYPE_LEN_MAX};
use crate::core::failure::FailureGroup;
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::journal::codec::{Reader, Write};
use crate::journal::entry::{Entry, Slot};
use crate::journal::log::Position;

/// Slots in a chunk.
pub(super) const SLOTS_PER_CHUNK: usize = 13;
/// The longest head of an entry, the number of slots behind it included: every number as long as its type allows.
const HEAD_MAX_BYTES: usize = 58 + TYPE_LEN_MAX + KEY_LEN_MAX;
/// The longest slot.
const SLOT_MAX_BYTES: usize = 117;
const _: () = assert!(HEAD_MAX_BYTES + SLOTS_PER_CHUNK * SLOT_MAX_BYTES <= VALUE_MAX_BYTES);

/// The entry's chunks: the first with its head, each with at most [`SLOTS_PER_CHUNK`] slots.
pub(super) fn encode(entry: &Entry, names: &Names, batch: &mut ::sled::Batch) -> Vec<Vec<u8>> {
    let head = &entry.head;
    let mut first = Vec::with_capacity(192);
    first.number(entry.place.0);
    first.time(head.received_at);
    first.number(u64::from(names.number(&head.source, batch)));
    first.text(&head.event_type);
    first.option(head.key.as_deref(), |out, key| out.text(key));
    first.option(head.occurred_at, |out, time| out.time(time));
    first.number(u64::from(head.body_bytes));
    first.option(entry.print_tag, |out, tag| out.raw(&tag.to_be_bytes()));
    first.flag(entry.has_payload);
    first.number(entry.slots.len() as u64);
    let mut chunks = vec![first];
    for (index, slots) in entry.slots.chunks(SLOTS_PER_CHUNK).enumerate() {
        if index > 0 {
            chunks.push(Vec::new());
        }
        let Some(chunk) = chunks.last_mut() else { continue };
        chunk.number(slots.len() as u64);
        for slot in slots {
            encode_slot(slot, names.number(&slot.endpoint, batch), entry, chunk);
        }
        assert!(chunk.len() <= VALUE_MAX_BYTES, "an index value has at most {VALUE_MAX_BYTES} bytes");
    }
    chunks
}

/// The entry in its first chunk, and how many slots it has in all.
pub(super) fn decode(id: EventId, from: &mut Reader, names: &Names) -> Option<(Entry, usize)> {
    let place = Position(from.number()?);
    let received_at = from.time()?;
    let source = names.name(from.small()?)?;
    let head = EventHead {
        id,
        received_at,
        source,
        event_type: from.text()?,
        key: from.option(Reader::text)?,
        occurred_at: from.option(Reader::time)?,
        body_bytes: from.small()?,
    };
    let print_tag = from.option(|from| Some(u64::from_be_bytes(*from.take(8)?.first_chunk()?)))?;
    let has_payload = from.flag()?;
    let slots_total = from.small()?;
    let mut entry = Entry { head: Arc::new(head), place, print_tag, has_payload, slots: Vec::new() };
    if slots_total > 0 {
        decode_slots(&mut entry, from, names)?;
    }
    Some((entry, slots_total))
}

/// Adds the slots of one chunk.
pub(super) fn decode_slots(entry: &mut Entry, from: &mut Reader, names: &Names) -> Option<()> {
    let received = entry.head.received_at;
    let slots = from.list(|from| {
        let endpoint = names.name(from.small()?)?;
        decode_slot(endpoint, received, from)
    })?;
    entry.slots.extend(slots);
    Some(())
}

/// A page being filled.
#[derive(Default)]
pub(super) struct Page {
    pub(super) first: Option<EventId>,
    pub(super) last: Option<EventId>,
    count: u64,
    body: Vec<u8>,
}

impl Page {
    /// Room for the count before the entries.
    const COUNT_BYTES: usize = 2;

    /// Adds an entry's only chunk, if there is room.
    pub(super) fn add(&mut self, id: EventId, chunk: &[u8]) -> bool {
        let len = 16 + 2 + chunk.len();
        if Self::COUNT_BYTES + self.body.len() + len > VALUE_MAX_BYTES {
            return false;
        }
        self.body.event(id);
        self.body.bytes(chunk);
        self.count += 1;
        self.first.get_or_insert(id);
        self.last = Some(id);
        true
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.body.len() + Self::COUNT_BYTES);
        value.number(self.count);
        value.raw(&self.body);
        value
    }
}

/// Each event of a page with its chunk.
pub(super) fn read_page(mut from: Reader) -> Option<Vec<(EventId, Reader)>> {
    from.list(|from| Some((from.event()?, Reader::new(from.bytes()?))))
}

/// Times are kept as distances from the event's: most are small.
fn encode_slot(slot: &Slot, endpoint: u16, entry: &Entry, out: &mut Vec<u8>) {
    let received = entry.head.received_at.millis();
    let distance = |millis: u64| millis.wrapping_sub(received);
    let (state, due) = match slot.state {
        State::Scheduled { due } => (0, due),
        // On its way is nowhere on disk: after a crash it is due.
        State::InFlight { .. } => (0, slot.changed_at),
        State::Delivered => (1, slot.changed_at),
        State::Dead => (2, slot.changed_at),
        State::Cancelled => (3, slot.changed_at),
        State::Expired => (4, slot.changed_at),
    };
    out.number(u64::from(endpoint));
    out.byte(state);
    out.byte(slot.reason as u8);
    out.number(distance(due.millis()));
    out.number(distance(slot.changed_at.millis()));
    out.number(distance(slot.born_at.millis()));
    out.number(u64::from(slot.attempts));
    out.number(u64::from(slot.probes));
    out.option(slot.tried_at, |out, time| out.number(distance(time.millis())));
    out.flag(slot.out_of_order);
    out.number(u64::from(slot.last_status.unwrap_or(0)));
    out.byte(slot.last_failure.map_or(0, |class| class as u8));
    out.option(slot.group, |out, group| out.raw(&group.as_u64().to_be_bytes()));
    out.option(slot.replay, |out, replay| out.replay(replay));
    out.number(slot.made_by.0);
    out.number(slot.ended_by.0);
    out.number(slot.last_place.0);
}

fn decode_slot(endpoint: Name, received: Timestamp, from: &mut Reader) -> Option<Slot> {
    let received = received.millis();
    let time = |from: &mut Reader| {
        let millis = from.number()?.wrapping_add(received);
        Some(Timestamp::from_millis(millis))
    };
    let state = from.byte()?;
    let reason = Reason::from_code(from.byte()?)?;
    let due = time(from)?;
    let state = match state {
        0 => State::Scheduled { due },
        1 => State::Delivered,
        2 => State::Dead,
        3 => State::Cancelled,
        4 => State::Expired,
        _ => return None,
    };
    Some(Slot {
        endpoint,
        state,
        reason,
        changed_at: time(from)?,
        born_at: time(from)?,
        attempts: from.small()?,
        probes: from.small()?,
        tried_at: from.option(time)?,
        out_of_order: from.flag()?,
        last_status: Some(from.small()?).filter(|status| *status != 0),
        last_failure: match from.byte()? {
            0 => None,
            code => Some(FailureClass::from_code(code)?),
        },
        group: from.option(|from| Some(FailureGroup::from_u64(u64::from_be_bytes(*from.take(8)?.first_chunk()?))))?,
        replay: from.option(Reader::replay)?,
        made_by: Position(from.number()?),
        ended_by: Position(from.number()?),
        last_place: Position(from.number()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::ReplayId;

    /// Every number as long as its type allows.
    fn longest(names: &Names, batch: &mut ::sled::Batch, slots: usize) -> Entry {
        let far: Vec<Name> = (0..20_000).map(|n| Name::new(&format!("n{n}")).unwrap()).collect();
        for name in &far {
            names.number(name, batch);
        }
        let far = far.last().unwrap();
        // A time before the event's is kept as a distance that wraps.
        let (received_at, other) = (Timestamp::MAX, Timestamp::from_millis(u64::MAX / 2 + 1));
        let slot = Slot {
            endpoint: far.clone(),
            state: State::Scheduled { due: other },
            reason: Reason::ProbeFailed,
            changed_at: other,
            born_at: other,
            attempts: u32::MAX,
            probes: u32::MAX,
            tried_at: Some(other),
            out_of_order: true,
            last_status: Some(u16::MAX),
            last_failure: Some(FailureClass::NotSent),
            group: Some(FailureGroup::from_u64(u64::MAX)),
            replay: Some(ReplayId::from_u128(u128::MAX)),
            made_by: Position(u64::MAX),
            ended_by: Position(u64::MAX),
            last_place: Position(u64::MAX),
        };
        let head = EventHead {
            id: EventId::MAX,
            received_at,
            source: far.clone(),
            event_type: "t".repeat(TYPE_LEN_MAX),
            key: Some("k".repeat(KEY_LEN_MAX)),
            occurred_at: Some(Timestamp::MAX),
            body_bytes: u32::MAX,
        };
        let place = Position(u64::MAX);
        let (print_tag, slots) = (Some(u64::MAX), vec![slot; slots]);
        Entry { head: Arc::new(head), place, print_tag, has_payload: true, slots }
    }

    #[test]
    fn the_longest_entry_has_the_lengths_that_are_reckoned_with_and_reads_back() {
        let (names, mut batch) = (Names::default(), ::sled::Batch::default());
        // So many slots that their number is as long as it gets.
        let entry = longest(&names, &mut batch, 1 << 14);
        let chunks = encode(&entry, &names, &mut batch);
        let lens: Vec<usize> = chunks.iter().map(Vec::len).collect();
        assert_eq!(lens[0], HEAD_MAX_BYTES + SLOTS_PER_CHUNK * SLOT_MAX_BYTES);
        assert_eq!(lens[1], 1 + SLOTS_PER_CHUNK * SLOT_MAX_BYTES);
        let mut parts = chunks.into_iter().map(|chunk| Reader::new(chunk.into()));
        let (mut read, total) = decode(EventId::MAX, &mut parts.next().unwrap(), &names).unwrap();
        parts.for_each(|mut part| decode_slots(&mut read, &mut part, &names).unwrap());
        assert_eq!((read.slots.len(), total), (1 << 14, 1 << 14));
        assert_eq!(read, entry);
    }
}
