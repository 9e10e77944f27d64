//! What every batch of the index carries along, and the running totals: their bytes.

use crate::journal::codec::{Reader, Write};
use crate::journal::log::Position;
use crate::journal::record::retained::Remains;
use crate::journal::{Counters, Held, Tally};

/// How the index is laid out. One of another format is not read: it is built again from the log.
const FORMAT: u64 = 7;

/// What every batch carries along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) applied: Position,
    pub(crate) last_id: u128,
    /// Of the entries that are there.
    pub(crate) counters: Counters,
    /// What is left of those that retention let go of.
    pub(crate) remains: Remains,
}

pub(super) fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut value = Vec::new();
    value.number(FORMAT);
    value.number(meta.applied.0);
    value.raw(&meta.last_id.to_be_bytes());
    let Remains { counters: dropped, up_to } = &meta.remains;
    for count in [meta.counters.accepted, meta.counters.unrouted, dropped.accepted, dropped.unrouted, up_to.0] {
        value.number(count);
    }
    value.number(dropped.damaged);
    value.number(dropped.damaged_bytes);
    value
}

/// `None` if it is none, or of an index of another format.
pub(super) fn decode_meta(from: &mut Reader) -> Option<Meta> {
    if from.number()? != FORMAT {
        return None;
    }
    let applied = Position(from.number()?);
    let last_id = u128::from_be_bytes(*from.take(16)?.first_chunk()?);
    let counters = Counters { accepted: from.number()?, unrouted: from.number()?, ..Counters::default() };
    let (accepted, unrouted) = (from.number()?, from.number()?);
    let up_to = Position(from.number()?);
    let (damaged, damaged_bytes) = (from.number()?, from.number()?);
    let dropped = Counters { accepted, unrouted, dropped: accepted, damaged, damaged_bytes, ..Counters::default() };
    let remains = Remains { counters: dropped, up_to };
    Some(Meta { applied, last_id, counters, remains })
}

pub(super) fn encode_tally(tally: &Tally) -> Vec<u8> {
    let mut value = Vec::new();
    for count in tally.fields() {
        value.number(count);
    }
    value
}

pub(super) fn decode_tally(from: &mut Reader) -> Option<Tally> {
    let mut fields = [0; Tally::FIELDS];
    for field in &mut fields {
        *field = from.number()?;
    }
    Some(Tally::of_fields(fields))
}

pub(super) fn encode_held(held: &Held) -> Vec<u8> {
    let mut value = Vec::new();
    for count in [held.events, held.bytes, held.live_bytes] {
        value.number(count);
    }
    value
}

pub(super) fn decode_held(from: &mut Reader) -> Option<Held> {
    Some(Held { events: from.number()?, bytes: from.number()?, live_bytes: from.number()? })
}
