//! Finding the whole records in a run of bytes, whatever has happened to the rest.
//!
//! Records stand at multiples of 8 and name their own position, so the next whole one after a damaged
//! stretch is found by looking.

use bytes::Bytes;

use super::PAYLOAD_MAX_BYTES;
use super::segment::RECORD_HEADER_BYTES;

/// What stands in a stretch of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole record.
    Record { position: u64, group: u64, payload: Bytes },
    /// Bytes that are no record and not the free end.
    Gap { position: u64, len: u64 },
}

/// A record's header, whose position fits the place it was read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) group: u64,
    crc: u32,
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The header at the start of `bytes`, if it says that it stands at `position`.
pub(super) fn parse_header(bytes: &[u8], position: u64) -> Option<Header> {
    if u64_at(bytes, 8)? != position {
        return None;
    }
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let fits = (1..=PAYLOAD_MAX_BYTES).contains(&len);
    fits.then_some(Header { len, group: u64_at(bytes, 16)?, crc: u32_at(bytes, 4)? })
}

impl Header {
    /// The payload behind the header at the start of `record`, if it is whole.
    pub(super) fn payload(&self, record: &Bytes) -> Option<Bytes> {
        let checked = record.get(8..RECORD_HEADER_BYTES + self.len)?;
        (crc32c::crc32c(checked) == self.crc).then(|| record.slice(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.len))
    }
}

/// The position after a record.
pub(super) fn after(position: u64, payload_len: usize) -> u64 {
    position + (RECORD_HEADER_BYTES + payload_len).next_multiple_of(8) as u64
}

/// Everything in `bytes`, which stand at position `start` (a multiple of 8).
pub(super) fn scan(bytes: Bytes, start: u64) -> Vec<Found> {
    let mut found = Vec::new();
    let mut offset = 0;
    let mut gap_from = None;
    while offset < bytes.len() {
        let position = start + offset as u64;
        let Some((group, payload)) = record_at(&bytes, offset, position) else {
            gap_from.get_or_insert(offset);
            offset += 8;
            continue;
        };
        if let Some(from) = gap_from.take() {
            found.push(Found::Gap { position: start + from as u64, len: (offset - from) as u64 });
        }
        offset += usize::try_from(after(position, payload.len()) - position).unwrap_or(bytes.len());
        found.push(Found::Record { position, group, payload });
    }
    found.extend(gap_from.and_then(|from| last_gap(&bytes, start, from)));
    found
}

pub(super) fn record_at(bytes: &Bytes, offset: usize, position: u64) -> Option<(u64, Bytes)> {
    let header = parse_header(bytes.get(offset..)?, position)?;
    Some((header.group, header.payload(&bytes.slice(offset..))?))
}

/// The free end is zeros; a gap there reaches only to the last byte that is not.
fn last_gap(bytes: &[u8], start: u64, from: usize) -> Option<Found> {
    let used = bytes.get(from..)?.iter().rposition(|byte| *byte != 0)?;
    Some(Found::Gap { position: start + from as u64, len: (used as u64 + 1).next_multiple_of(8) })
}
