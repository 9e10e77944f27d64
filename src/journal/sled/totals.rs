//! The running totals in the index: a record for each name, as one for all could outgrow a value.

use std::collections::BTreeMap;

use super::meta::{Meta, decode_held, decode_tally, encode_held, encode_tally};
use super::names::Names;
use super::{IndexResult, malformed, numbered, reader, replays, sled_failed};
use crate::core::name::Name;
use crate::journal::codec::Reader;

/// Of endpoints.
const ENDPOINT: u8 = b't';
/// Of endpoints, as far as retention let their events go.
const GONE: u8 = b'd';
/// Of sources.
const SOURCE: u8 = b'k';
/// Of replays.
const REPLAY: u8 = b'u';
/// Of replays, as far as retention let the events go.
const REPLAY_GONE: u8 = b'v';

/// Reads what [`put`] has written.
pub(super) fn read(db: &::sled::Db, names: &Names, meta: &mut Meta) -> IndexResult<()> {
    meta.counters.endpoints = read_kind(db, names, ENDPOINT, decode_tally)?;
    meta.remains.counters.endpoints = read_kind(db, names, GONE, decode_tally)?;
    meta.counters.replays = replays::read_tallies(db, REPLAY)?;
    meta.remains.counters.replays = replays::read_tallies(db, REPLAY_GONE)?;
    meta.counters.sources = read_kind(db, names, SOURCE, decode_held)?;
    Ok(())
}

fn read_kind<T>(
    db: &::sled::Db,
    names: &Names,
    kind: u8,
    decode: impl Fn(&mut Reader) -> Option<T>,
) -> IndexResult<BTreeMap<Name, T>> {
    let mut found = BTreeMap::new();
    for pair in db.scan_prefix([kind]) {
        let (key, value) = pair.map_err(sled_failed)?;
        let total = decode(&mut reader(&value)).ok_or_else(malformed)?;
        found.insert(names.of_key(&key).ok_or_else(malformed)?, total);
    }
    Ok(found)
}

/// Writes what has changed.
pub(super) fn put(written: &Meta, now: &Meta, names: &Names, batch: &mut ::sled::Batch) {
    let (now_gone, written_gone) = (&now.remains.counters, &written.remains.counters);
    put_kind(&written.counters.endpoints, &now.counters.endpoints, ENDPOINT, encode_tally, names, batch);
    put_kind(&written_gone.endpoints, &now_gone.endpoints, GONE, encode_tally, names, batch);
    put_kind(&written.counters.sources, &now.counters.sources, SOURCE, encode_held, names, batch);
    replays::put_tallies(REPLAY, &now.counters, &written.counters, batch);
    replays::put_tallies(REPLAY_GONE, now_gone, written_gone, batch);
}

fn put_kind<T: PartialEq>(
    written: &BTreeMap<Name, T>,
    now: &BTreeMap<Name, T>,
    kind: u8,
    encode: impl Fn(&T) -> Vec<u8>,
    names: &Names,
    batch: &mut ::sled::Batch,
) {
    for (name, total) in now.iter().filter(|(name, total)| written.get(*name) != Some(*total)) {
        let key = numbered(kind, names.number(name, batch));
        batch.insert(key, encode(total));
    }
    for name in written.keys().filter(|name| !now.contains_key(*name)) {
        let key = numbered(kind, names.number(name, batch));
        batch.remove(key);
    }
}
