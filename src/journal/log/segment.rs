//! One segment file, and the buffer in which a group is made ready for it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::scan::{self, Frame, SEALED, Scanned, parse_header};
use super::{PAYLOAD_MAX_BYTES, Position, file_error};
use crate::core::sealing::KeyId;
use crate::journal::disk::{Disk, DiskFile};
use crate::journal::seal::{self, CannotSeal, GroupSeal};

pub(super) const SEGMENT_HEADER_BYTES: u64 = 32;
pub(super) const RECORD_HEADER_BYTES: usize = 24;
const MAGIC: &[u8; 8] = b"BACKSTOP";
/// Of a segment whose records are as they were written, and of one whose records are sealed.
const PLAIN_VERSION: u32 = 1;
const SEALED_VERSION: u32 = 2;
const NAME_DIGITS: usize = 20;
/// How much of a record the first read takes: most records need no second.
const FIRST_READ_BYTES: u64 = 4096;

/// One segment file. Cheap to clone.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) base: u64,
    /// Its length as it was made; without a header, what the file has.
    pub(super) len: u64,
    /// What the file has of it: less if it was cut.
    pub(super) held: u64,
    /// Whether its header is there and whole.
    pub(super) has_header: bool,
    /// The key that its records are sealed with, if they are; without a header, the first record's.
    pub(super) key: Option<KeyId>,
    pub(super) file: Arc<dyn DiskFile>,
}

pub(super) fn name_of_base(base: u64) -> String {
    format!("{base:0NAME_DIGITS$}.log")
}

pub(super) fn base_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == NAME_DIGITS)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn header(base: u64, len: u64, key: Option<KeyId>) -> Vec<u8> {
    let mut header = Vec::with_capacity(32);
    header.extend_from_slice(MAGIC);
    let version = if key.is_some() { SEALED_VERSION } else { PLAIN_VERSION };
    header.extend_from_slice(&version.to_le_bytes());
    header.extend_from_slice(&u32::try_from(len / 8).unwrap_or(0).to_le_bytes());
    header.extend_from_slice(&base.to_le_bytes());
    header.extend_from_slice(&key.unwrap_or(KeyId([0; 4])).0);
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header
}

/// The segment's length and key by its header; `None` if these bytes are not the header of a segment at `base`.
fn parse_segment_header(bytes: &[u8], base: u64) -> io::Result<Option<(u64, Option<KeyId>)>> {
    let word = |at: usize| bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map(|word| u32::from_le_bytes(*word));
    let crc = bytes.get(..28).map(crc32c::crc32c);
    let (Some(version), Some(units)) = (word(8), word(12)) else { return Ok(None) };
    if !bytes.starts_with(MAGIC) || crc != word(28) {
        return Ok(None);
    }
    if !(PLAIN_VERSION..=SEALED_VERSION).contains(&version) {
        let why = format!("segment {} has format {version}: a newer version wrote it", name_of_base(base));
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let len = u64::from(units) * 8;
    let id = bytes.get(24..).and_then(|bytes| bytes.first_chunk()).copied().map(KeyId);
    let key = id.filter(|_| version == SEALED_VERSION);
    Ok((len >= SEGMENT_HEADER_BYTES && bytes == header(base, len, key)).then_some((len, key)))
}

impl Segment {
    /// Makes a segment of `len` bytes. Its header becomes durable with its first group.
    pub(super) fn create(disk: &dyn Disk, base: u64, len: u64, key: Option<KeyId>) -> io::Result<Self> {
        let file = disk.create(&name_of_base(base), len)?;
        if let Err(error) = file.write(&header(base, len, key), 0) {
            // The next try makes the file anew.
            disk.remove(&name_of_base(base))?;
            return Err(error);
        }
        Ok(Self { base, len, held: len, has_header: true, key, file })
    }

    pub(super) fn open(disk: &dyn Disk, base: u64) -> io::Result<Self> {
        let file = disk.open(&name_of_base(base))?;
        let held = file.len()?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        let made = if held < SEGMENT_HEADER_BYTES {
            None
        } else {
            file.read(&mut bytes, 0)?;
            parse_segment_header(&bytes, base)?
        };
        let (len, key) = made.unwrap_or((held.next_multiple_of(8), None));
        let mut segment = Self { base, len, held: held.min(len), has_header: made.is_some(), key, file };
        if !segment.has_header {
            let frames = segment.scan()?.frames;
            segment.key = frames.iter().find(|frame| frame.is_sealed).and_then(|frame| seal::key_of(&frame.payload));
        }
        Ok(segment)
    }

    /// The position after its last byte.
    pub(super) const fn end(&self) -> u64 {
        self.base + self.len
    }

    /// The position after the last byte that the file has.
    pub(super) const fn held_end(&self) -> u64 {
        self.base + self.held
    }

    /// Whether no record was ever written to it.
    pub(super) fn is_blank(&self) -> io::Result<bool> {
        Ok(!self.has_header && self.scan()?.frames.is_empty())
    }

    /// What stands in it.
    pub(super) fn scan(&self) -> io::Result<Scanned> {
        let start = self.base + SEGMENT_HEADER_BYTES;
        if start >= self.held_end() {
            return Ok(Scanned::default());
        }
        Ok(scan::scan(&self.read(start, self.held_end())?.into(), start))
    }

    /// The bytes of `from..to`.
    pub(super) fn read(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).map_err(io::Error::other)?];
        self.file.read(&mut bytes, from - self.base).map_err(file_error(&*self.file))?;
        Ok(bytes)
    }

    /// Makes durable what was found in the last segment: the group that begins at `group` and ends at `end`,
    /// and zeros from there to `used_end`, where a write that was cut off has left its bytes.
    pub(super) fn secure(&self, group: u64, end: u64, used_end: u64) -> io::Result<()> {
        let group = group.max(self.base + SEGMENT_HEADER_BYTES).min(end);
        let mut bytes = self.read(group, end.min(self.held_end()))?;
        // The last record's padding may be missing of a cut file.
        let len = end.max(used_end.min(self.held_end())) - group;
        bytes.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        if !self.has_header {
            self.file.write(&header(self.base, self.len, self.key), 0)?;
        }
        self.file.write(&bytes, group - self.base)?;
        self.file.sync()
    }

    pub(super) fn read_record(&self, position: u64) -> io::Result<Option<Frame>> {
        let offset = position - self.base;
        let read = |len: u64| -> io::Result<Vec<u8>> {
            let len = len.min(self.held - offset);
            self.read(position, position + len)
        };
        let first = read(FIRST_READ_BYTES)?;
        let Some(header) = parse_header(&first, position) else { return Ok(None) };
        let whole = (RECORD_HEADER_BYTES + header.len) as u64;
        let bytes = if whole <= first.len() as u64 { first } else { read(whole)? };
        Ok(header.frame(&Bytes::from(bytes), position))
    }
}

/// A group being made ready: records without positions, which [`GroupBuffer::place_at`] fills in.
pub(super) struct GroupBuffer {
    bytes: Vec<u8>,
    starts: Vec<(usize, usize)>,
    seal: Option<GroupSeal>,
}

impl GroupBuffer {
    pub(super) const fn new(bytes: Vec<u8>, seal: Option<GroupSeal>) -> Self {
        Self { bytes, starts: Vec::new(), seal }
    }

    pub(super) fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        if self.seal.is_some() {
            GroupSeal::begin(&mut self.bytes);
        }
        let begin = self.bytes.len();
        encode(&mut self.bytes);
        let len = self.bytes.len() - begin;
        assert!((1..=PAYLOAD_MAX_BYTES).contains(&len), "a payload has 1 byte to 256 MiB, not {len}");
        if self.seal.is_some() {
            GroupSeal::end(&mut self.bytes);
        }
        self.starts.push((start, self.bytes.len() - start - RECORD_HEADER_BYTES));
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    pub(super) const fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Seals the records, if that is asked for, and writes their headers, for a group that begins at position
    /// `begin`; where each will stand. After an error nothing of it may be written anywhere.
    pub(super) fn place_at(&mut self, begin: u64) -> Result<Vec<Position>, CannotSeal> {
        let mut places = Vec::with_capacity(self.starts.len());
        for (start, len) in &self.starts {
            let position = begin + *start as u64;
            let place = scan::place(position, begin);
            let record = self.bytes.get_mut(*start..*start + RECORD_HEADER_BYTES + *len);
            let (header, payload) =
                record.and_then(|record| record.split_at_mut_checked(RECORD_HEADER_BYTES)).ok_or(CannotSeal)?;
            let mut word = u32::try_from(*len).map_err(|_| CannotSeal)?;
            if let Some(seal) = &self.seal {
                seal.seal(payload, place)?;
                word |= SEALED;
            }
            let crc = scan::checksum(word, &place, payload);
            let fields = word.to_le_bytes().into_iter().chain(crc.to_le_bytes()).chain(place);
            for (to, from) in header.iter_mut().zip(fields) {
                *to = from;
            }
            places.push(Position(position));
        }
        Ok(places)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}
