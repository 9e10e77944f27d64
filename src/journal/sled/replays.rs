//! Replays in the index: each in pieces that stay under what a value may hold, and what its deliveries came to.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::meta::{decode_tally, encode_tally};
use super::{IndexResult, VALUE_MAX_BYTES, malformed, reader, sled_failed};
use crate::core::id::ReplayId;
use crate::core::replay::Replay;
use crate::journal::codec::Reader;
use crate::journal::record::{REPLAY_VERSION, decode_replay, encode_replay};
use crate::journal::{Counters, Tally};

/// Puts a replay as it stands in place of what was there: its length only grows while it stands.
pub(super) fn put(replay: &Replay, batch: &mut ::sled::Batch) {
    let mut value = Vec::new();
    encode_replay(replay, &mut value);
    for (piece, bytes) in (0_u16..).zip(value.chunks(VALUE_MAX_BYTES)) {
        batch.insert(key(b'r', replay.id, &piece.to_be_bytes()), bytes);
    }
    // One that has become shorter by a piece has none of its former last one left.
    let pieces = u16::try_from(value.chunks(VALUE_MAX_BYTES).len()).unwrap_or(u16::MAX);
    batch.remove(key(b'r', replay.id, &pieces.to_be_bytes()));
}

/// Removes a replay, in as many pieces as it has.
pub(super) fn remove(id: ReplayId, db: &::sled::Db, batch: &mut ::sled::Batch) -> IndexResult<()> {
    for piece in db.scan_prefix(key(b'r', id, &[])).keys() {
        batch.remove(piece.map_err(sled_failed)?);
    }
    Ok(())
}

/// All replays, oldest first.
pub(super) fn read(db: &::sled::Db) -> IndexResult<Vec<Replay>> {
    let mut values: BTreeMap<ReplayId, Vec<u8>> = BTreeMap::new();
    for pair in db.scan_prefix(b"r") {
        let (key, piece) = pair.map_err(sled_failed)?;
        values.entry(id_of(&key).ok_or_else(malformed)?).or_default().extend_from_slice(&piece);
    }
    let whole = |value| decode_replay(&mut Reader::new(Bytes::from(value)), REPLAY_VERSION).ok_or_else(malformed);
    values.into_values().map(whole).collect()
}

/// Puts what the deliveries of replays came to under this prefix, where that has changed.
pub(super) fn put_tallies(kind: u8, counters: &Counters, written: &Counters, batch: &mut ::sled::Batch) {
    let changed = counters.replays.iter().filter(|(id, tally)| written.replays.get(*id) != Some(*tally));
    for (id, tally) in changed {
        batch.insert(key(kind, *id, &[]), encode_tally(tally));
    }
    for id in written.replays.keys().filter(|id| !counters.replays.contains_key(*id)) {
        batch.remove(key(kind, *id, &[]));
    }
}

/// What the deliveries of each replay came to, by what was put under this prefix.
pub(super) fn read_tallies(db: &::sled::Db, kind: u8) -> IndexResult<BTreeMap<ReplayId, Tally>> {
    let read = |pair: ::sled::Result<(::sled::IVec, ::sled::IVec)>| {
        let (key, value) = pair.map_err(sled_failed)?;
        let id = id_of(&key).ok_or_else(malformed)?;
        Ok((id, decode_tally(&mut reader(&value)).ok_or_else(malformed)?))
    };
    db.scan_prefix([kind]).map(read).collect()
}

fn key(kind: u8, id: ReplayId, end: &[u8]) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&id.as_u128().to_be_bytes());
    key.extend_from_slice(end);
    key
}

fn id_of(key: &[u8]) -> Option<ReplayId> {
    Some(ReplayId::from_u128(u128::from_be_bytes(*key.get(1..17)?.first_chunk()?)))
}
