//! What every batch of the index carries along, and the running totals: their bytes.

use crate::journal::codec::{Reader, Write};
use crate::journal::log::Position;
use crate::journal::{Counters, Tally};

/// How the index is laid out. One of another format is not read: it is built again from the log.
const FORMAT: u64 = 4;

/// What every batch carries along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) applied: Position,
    pub(crate) last_id: u128,
    pub(crate) counters: Counters,
}

pub(super) fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut value = Vec::new();
    value.number(FORMAT);
    value.number(meta.applied.0);
    value.raw(&meta.last_id.to_be_bytes());
    value.number(meta.counters.accepted);
    value.number(meta.counters.unrouted);
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
    Some(Meta { applied, last_id, counters })
}

pub(super) fn encode_tally(tally: &Tally) -> Vec<u8> {
    let mut value = Vec::new();
    for count in tally_fields(tally) {
        value.number(count);
    }
    value
}

pub(super) fn decode_tally(from: &mut Reader) -> Option<Tally> {
    let mut fields = [0; 10];
    for field in &mut fields {
        *field = from.number()?;
    }
    Some(tally_of(fields))
}

const fn tally_fields(tally: &Tally) -> [u64; 10] {
    let Tally { routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired } = *tally;
    [routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired]
}

const fn tally_of(fields: [u64; 10]) -> Tally {
    let [routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired] = fields;
    Tally { routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired }
}
