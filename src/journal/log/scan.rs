//! Finding the whole records in a run of bytes, whatever has happened to the rest.
//!
//! Records stand at multiples of 8 and name their own position, so the next whole one after a damaged
//! stretch is found by looking.

use std::io;

use bytes::Bytes;

use super::PAYLOAD_MAX_BYTES;
use super::segment::RECORD_HEADER_BYTES;
use crate::core::sealing::KeyId;
use crate::journal::seal::{Keyring, Place, SEAL_BYTES, Unopened};

/// The bit of a record's length that says that its payload is sealed.
pub(super) const SEALED: u32 = 1 << 31;

/// What stands in a stretch of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole record.
    Record { position: u64, payload: Bytes },
    /// Bytes that are no record and not the free end.
    Gap { position: u64, len: u64 },
}

/// A whole record as it stands, sealed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) position: u64,
    pub(super) group: u64,
    pub(super) is_sealed: bool,
    pub(super) payload: Bytes,
}

/// A record's header, whose position fits the place it was read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Of the payload as it stands.
    pub(super) len: usize,
    group: u64,
    is_sealed: bool,
    crc: u32,
}

impl Frame {
    /// Where the next record may stand.
    pub(super) fn end(&self) -> u64 {
        self.position + (RECORD_HEADER_BYTES + self.payload.len()).next_multiple_of(8) as u64
    }

    /// What the record says.
    pub(super) fn opened(&self, keyring: &Keyring) -> Result<Bytes, Unopened> {
        if !self.is_sealed {
            return Ok(self.payload.clone());
        }
        keyring.open(&self.payload, place(self.position, self.group))
    }

    /// The same for whoever reads along the log: what does not open although its key is there is no record.
    pub(super) fn found(&self, keyring: &Keyring) -> io::Result<Found> {
        let position = self.position;
        match self.opened(keyring) {
            Ok(payload) => Ok(Found::Record { position, payload }),
            Err(Unopened::Forged) => Ok(Found::Gap { position, len: self.end() - position }),
            Err(Unopened::NoKey(key)) => Err(self.lacks(key)),
        }
    }

    /// That it cannot be opened without this key.
    pub(super) fn lacks(&self, key: KeyId) -> io::Error {
        let why = format!("the record at {} is sealed with the key {key}, which is not here", self.position);
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

/// What a header says of where its record stands: its position, then its group's.
pub(super) fn place(position: u64, group: u64) -> Place {
    (u128::from(position) | u128::from(group) << 64).to_le_bytes()
}

/// The checksum of a record. Of a sealed one it covers the length, too, for the bit that says that it is sealed.
pub(super) fn checksum(len_word: u32, place: &[u8], payload: &[u8]) -> u32 {
    let begun = if len_word & SEALED == 0 { 0 } else { crc32c::crc32c(&len_word.to_le_bytes()) };
    crc32c::crc32c_append(crc32c::crc32c_append(begun, place), payload)
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
    let word = u32_at(bytes, 0)?;
    let (len, is_sealed) = (usize::try_from(word & !SEALED).ok()?, word & SEALED != 0);
    let around = if is_sealed { SEAL_BYTES } else { 0 };
    let fits = (around + 1..=around + PAYLOAD_MAX_BYTES).contains(&len);
    fits.then_some(Header { len, group: u64_at(bytes, 16)?, is_sealed, crc: u32_at(bytes, 4)? })
}

impl Header {
    /// The record at `position` with this header, at the start of `bytes`, if it is whole.
    pub(super) fn frame(&self, bytes: &Bytes, position: u64) -> Option<Frame> {
        let checked = bytes.get(8..RECORD_HEADER_BYTES + self.len)?;
        let is_whole = checksum(u32_at(bytes, 0)?, checked, &[]) == self.crc;
        let payload = || bytes.slice(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.len);
        is_whole.then(|| Frame { position, group: self.group, is_sealed: self.is_sealed, payload: payload() })
    }
}

/// What stands in a run of bytes.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Whole records, in order.
    pub(super) frames: Vec<Frame>,
    /// Stretches that hold no record and are not the free end, as position and length.
    pub(super) gaps: Vec<(u64, u64)>,
}

/// Everything in `bytes`, which stand at position `start` (a multiple of 8).
pub(super) fn scan(bytes: &Bytes, start: u64) -> Scanned {
    let mut scanned = Scanned::default();
    let mut offset = 0;
    let mut gap_from = None;
    while offset < bytes.len() {
        let position = start + offset as u64;
        let Some(frame) = frame_at(bytes, offset, position) else {
            gap_from.get_or_insert(offset);
            offset += 8;
            continue;
        };
        if let Some(from) = gap_from.take() {
            scanned.gaps.push((start + from as u64, (offset - from) as u64));
        }
        offset += usize::try_from(frame.end() - position).unwrap_or(bytes.len());
        scanned.frames.push(frame);
    }
    scanned.gaps.extend(gap_from.and_then(|from| last_gap(bytes, start, from)));
    scanned
}

pub(super) fn frame_at(bytes: &Bytes, offset: usize, position: u64) -> Option<Frame> {
    let header = parse_header(bytes.get(offset..)?, position)?;
    header.frame(&bytes.slice(offset..), position)
}

/// The free end is zeros; a gap there reaches only to the last byte that is not.
fn last_gap(bytes: &[u8], start: u64, from: usize) -> Option<(u64, u64)> {
    let used = bytes.get(from..)?.iter().rposition(|byte| *byte != 0)?;
    Some((start + from as u64, (used as u64 + 1).next_multiple_of(8)))
}
