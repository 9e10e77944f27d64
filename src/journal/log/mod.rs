//! The log: append-only segment files, the truth of the embedded journal.
//!
//! A segment is named after the position of its first byte, `00000000000000000000.log`. Positions count
//! on from segment to segment and are never reused. Everything is little-endian.
//!
//! ```text
//! segment   0  8 bytes  "BACKSTOP"
//!           8  u32      format version: 1, or 2 if its records are sealed
//!          12  u32      length of the segment, in units of 8 bytes
//!          16  u64      position of byte 0
//!          24  4 bytes  the id of the key that seals its records, or 0
//!          28  u32      CRC32C of bytes 0..28
//!          32  records, then zeros to the end
//!
//! record    0  u32      length of the payload, at least 1; the highest bit says that it is sealed (see `seal`)
//!           4  u32      CRC32C of bytes 8..24 and the payload; of a sealed record of bytes 0..4 before them
//!           8  u64      the record's position: a stale or misplaced record cannot pass for one
//!          16  u64      position of the first record of its group
//!          24  payload, then zeros to a multiple of 8
//! ```
//!
//! A group is what one append writes and one fdatasync makes durable; a group begins only after the one
//! before it is durable. So bytes that are no record are a write that was cut off if they lie in the last
//! group or behind it, and damage if they lie before it. Either way every whole record is kept: a record
//! is lost only if its own bytes are. Segments follow each other without a hole: what is missing of one, or
//! between two, is damage too.
//!
//! With another key than before, or with one for the first time, writing goes on in a new segment: so a log's keys
//! are known by its headers, and one that lacks a key is not opened. A record that is whole and does not open with
//! its key is damage, and stays where it is.
//!
//! Opening writes the last group again, zeros over what a cut-off write left behind it, and syncs: whole
//! records may have been seen in memory only, by a process that died before its sync or whose sync failed.
//!
//! Promises: after `append` returns `Ok`, its records survive a power cut. A failed write or sync is never
//! retried: the log refuses everything from then on. A log may begin at any segment: [`Log::cut`] removes
//! whole ones from the beginning. Absent: any knowledge of what a payload means.

mod scan;
mod segment;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use super::disk::{Disk, DiskFile};
use super::seal::{CannotSeal, Keyring, Unopened, key_of};
use crate::core::sealing::KeyId;
pub(crate) use scan::Found;
use scan::{Frame, Scanned};
use segment::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, Segment};

/// A place in the log, in bytes since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// Longest segment, in bytes, unless one group needs more.
pub const SEGMENT_MAX_BYTES: u64 = 16 << 30;
/// Largest payload, in bytes.
pub const PAYLOAD_MAX_BYTES: usize = 256 << 20;

/// The log, open for appending.
pub struct Log {
    disk: Arc<dyn Disk>,
    keyring: Keyring,
    segment_bytes: u64,
    segments: RwLock<BTreeMap<u64, Segment>>,
    writer: Mutex<Writer>,
}

struct Writer {
    /// The segment being written, if there is one yet.
    current: Option<Segment>,
    /// Where the next record goes.
    end: u64,
    buffer: Vec<u8>,
    failed: Option<String>,
}

/// A part of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Part {
    /// Whole records, in order.
    pub(crate) records: Vec<(Position, Bytes)>,
    /// Stretches that hold no record and are not the free end; at the segment's end, what is missing of it.
    pub(crate) gaps: Vec<(Position, u64)>,
    /// Where to go on: the segment's end after its last record.
    pub(crate) next: Position,
}

/// Why the log did not take a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogError {
    /// No new segment could be allocated; nothing was written, a later call may succeed.
    Full(String),
    /// A write or sync failed, now or before; the log takes nothing any more.
    Failed(String),
}

/// What opening found besides whole records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Whole records read.
    pub records: u64,
    /// Bytes in the last group, or behind it, that are no record: a write that was cut off, never acknowledged.
    pub torn: Vec<(Position, u64)>,
    /// Bytes elsewhere that are no record: damage. What stood there is lost.
    pub damaged: Vec<(Position, u64)>,
    /// How many of the records are sealed, by key.
    pub sealed: BTreeMap<KeyId, u64>,
}

/// How much of a log is sealed with which key, and how much with none.
pub type Seals = BTreeMap<Option<KeyId>, Extent>;

/// A part of a log by the segments it takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Segments.
    pub segments: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}

impl Position {
    /// Before everything: no record stands here.
    pub const NONE: Self = Self(0);
}

impl Log {
    /// Opens the log and hands every whole record from `from` on to `visit`, in order.
    ///
    /// A log that needs a key which `keyring` has not is not opened, unless that passes over what it cannot open.
    /// `from` must be the position of a record or the end of one, as seen before; [`Position::NONE`] is the beginning.
    /// If [`Log::end`] is less afterwards, the log has lost what stood before `from`.
    pub fn open<E: From<io::Error>>(
        disk: Arc<dyn Disk>,
        keyring: Keyring,
        segment_bytes: u64,
        from: Position,
        mut visit: impl FnMut(Position, Bytes) -> Result<(), E>,
    ) -> Result<(Self, Findings), E> {
        let mut segments = open_segments(&*disk)?;
        check(&segments, &keyring)?;
        let mut findings = Findings::default();
        let (mut last_group, mut end) = (0, 0);
        let mut gaps = Vec::new();
        // The segment that `from` lies in is read whole: what stands before tells where the log ends.
        let first = segments.range(..from.0).next_back().map_or(0, |(base, _)| *base);
        for segment in segments.range(first..).map(|(_, segment)| segment) {
            let Scanned { frames, gaps: found } = segment.scan()?;
            gaps.extend(found.into_iter().map(|(position, len)| (Position(position), len)));
            for frame in frames {
                (last_group, end) = (frame.group, frame.end());
                if frame.position >= from.0
                    && let Some(payload) = findings.take(&frame, &keyring)?
                {
                    visit(Position(frame.position), payload)?;
                }
            }
        }
        let used_end = gaps.last().map_or(0, |(position, len)| position.0 + len);
        gaps.retain(|(position, len)| position.0 + len > from.0);
        let current = Self::last_segment(&mut segments, &*disk)?;
        let (torn, damaged): (Vec<_>, Vec<_>) = gaps.into_iter().partition(|(position, _)| position.0 >= last_group);
        findings.torn = torn;
        findings.damaged.extend(damaged.into_iter().chain(holes(&segments, last_group)));
        findings.damaged.sort_unstable();
        let end = current.as_ref().map_or(0, |segment| end.max(segment.base + SEGMENT_HEADER_BYTES));
        if let Some(segment) = &current {
            segment.secure(last_group, end, used_end)?;
        }
        let segment_bytes = segment_bytes.min(SEGMENT_MAX_BYTES);
        let writer = Writer { current, end, buffer: Vec::new(), failed: None };
        let (segments, writer) = (RwLock::new(segments), Mutex::new(writer));
        Ok((Self { disk, keyring, segment_bytes, segments, writer }, findings))
    }

    /// The segment to go on writing in. One whose creation a crash cut short holds nothing and is removed.
    fn last_segment(segments: &mut BTreeMap<u64, Segment>, disk: &dyn Disk) -> io::Result<Option<Segment>> {
        while let Some((base, segment)) = segments.last_key_value() {
            let (base, segment) = (*base, segment.clone());
            if !segment.is_blank()? {
                return Ok(Some(segment));
            }
            disk.remove(&segment::name_of_base(base))?;
            segments.remove(&base);
        }
        Ok(None)
    }

    /// Where the next record will go: everything before it has been appended.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.writer().end)
    }

    /// Where the oldest segment that is still there begins.
    #[must_use]
    pub fn begin(&self) -> Position {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        Position(segments.first_key_value().map_or(0, |(base, _)| *base))
    }

    /// Appends `items` as one group and returns, once it is durable, where each record stands.
    pub fn append<T>(&self, items: &[T], encode: impl Fn(&T, &mut Vec<u8>)) -> Result<Vec<Position>, LogError> {
        let mut writer = self.writer();
        if let Some(why) = &writer.failed {
            return Err(LogError::Failed(why.clone()));
        }
        let mut payloads = std::mem::take(&mut writer.buffer);
        payloads.clear();
        let cannot_seal = |CannotSeal| LogError::Failed("a group cannot be sealed".to_owned());
        let mut group = segment::GroupBuffer::new(payloads, self.keyring.group().map_err(cannot_seal)?);
        for item in items {
            group.push(|out| encode(item, out));
        }
        let segment = self.segment_for(&mut writer, group.len())?;
        let places = group.place_at(writer.end).map_err(cannot_seal)?;
        let offset = writer.end - segment.base;
        let written = segment.file.write(group.bytes(), offset).and_then(|()| segment.file.sync());
        if let Err(error) = written {
            let why = format!("writing segment {} failed: {error}", segment::name_of_base(segment.base));
            writer.failed = Some(why.clone());
            return Err(LogError::Failed(why));
        }
        writer.end += group.len();
        writer.buffer = group.into_buffer();
        Ok(places)
    }

    /// The segment that has room for `len` bytes at the writer's end, sealed as they are; made if need be.
    fn segment_for(&self, writer: &mut Writer, len: u64) -> Result<Segment, LogError> {
        let sealing = self.keyring.sealing();
        let is_fit = |current: &&Segment| writer.end + len <= current.held_end() && current.key == sealing;
        if let Some(current) = writer.current.as_ref().filter(is_fit) {
            return Ok(current.clone());
        }
        self.begin_segment(writer, len)
    }

    /// A new segment with room for `len` bytes, to be written to from now on.
    fn begin_segment(&self, writer: &mut Writer, len: u64) -> Result<Segment, LogError> {
        let base = writer.current.as_ref().map_or(0, Segment::end);
        let room = self.segment_bytes.max(len + SEGMENT_HEADER_BYTES);
        let made = Segment::create(&*self.disk, base, room.next_multiple_of(8), self.keyring.sealing());
        let segment = made.map_err(|error| {
            let why = format!("no room for segment {}: {error}", segment::name_of_base(base));
            if error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded {
                return LogError::Full(why);
            }
            writer.failed = Some(why.clone());
            LogError::Failed(why)
        })?;
        self.segments.write().unwrap_or_else(PoisonError::into_inner).insert(base, segment.clone());
        writer.end = base + SEGMENT_HEADER_BYTES;
        writer.current = Some(segment.clone());
        Ok(segment)
    }

    /// The payload of the record at `position`; `None` if there is no whole record there.
    pub fn read(&self, position: Position) -> io::Result<Option<Bytes>> {
        let segment = {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            segments.range(..=position.0).next_back().map(|(_, segment)| segment.clone())
        };
        let frame = match segment {
            Some(segment) if position.0.saturating_add(RECORD_HEADER_BYTES as u64) <= segment.held_end() => {
                segment.read_record(position.0)?
            }
            _ => None,
        };
        Ok(match frame.map(|frame| frame.found(&self.keyring)).transpose()? {
            Some(Found::Record { payload, .. }) => Some(payload),
            Some(Found::Gap { .. }) | None => None,
        })
    }

    /// How much of the log is sealed with which key, and how much with none.
    #[must_use]
    pub fn seals(&self) -> Seals {
        seals(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the next record may stand in the segment of the last one, as far as keys go.
    #[must_use]
    pub fn keeps_key(&self) -> bool {
        self.writer().current.as_ref().is_none_or(|current| current.key == self.keyring.sealing())
    }

    /// Where the segment that holds `at` ends and the next begins, or how far it has come if it is still written to;
    /// and whether it is. `None` behind the last record.
    #[must_use]
    pub fn segment_end(&self, at: Position) -> Option<(Position, bool)> {
        let end = self.end();
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let (base, _) = segments.range(..=at.0).next_back()?;
        let next = segments.range(base + 1..).next();
        let segment_end = next.map_or(end, |(next, _)| Position(*next));
        let is_last = next.is_none();
        (at < segment_end).then_some((segment_end, is_last))
    }

    /// Begins a new segment, so that the one written to is done with; where that ends.
    ///
    /// If the new one cannot be allocated everything stays as it is.
    pub fn turn(&self) -> Result<Position, LogError> {
        let mut writer = self.writer();
        if let Some(why) = &writer.failed {
            return Err(LogError::Failed(why.clone()));
        }
        let end = writer.current.as_ref().map_or(0, Segment::end);
        self.begin_segment(&mut writer, 0)?;
        Ok(Position(end))
    }

    /// What stands from `from` on, about `bytes` of it but one record at least, up to the end of its segment.
    pub(crate) fn part(&self, from: Position, bytes: u64) -> io::Result<Part> {
        let (segment, next_base) = {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            let segment = segments.range(..=from.0).next_back().map(|(_, segment)| segment.clone());
            (segment, segments.range(from.0 + 1..).next().map(|(base, _)| *base))
        };
        let Some(segment) = segment else { return Ok(Part { next: from, ..Part::default() }) };
        // Nothing stands behind the last group of the segment that is written to.
        let end = self.end().0.clamp(segment.base, segment.held_end());
        walk::part(&segment, &self.keyring, from.0, (end, bytes), next_base)
    }

    /// Removes the segments that end at or before `to`, oldest first, but never the last; the bytes given back.
    ///
    /// Whoever is reading in one meanwhile can go on.
    pub fn cut(&self, to: Position) -> io::Result<u64> {
        let mut freed = 0;
        loop {
            let base = self.begin();
            if self.segment_end(base).is_none_or(|(end, is_last)| is_last || end > to) {
                break;
            }
            self.disk.remove(&segment::name_of_base(base.0))?;
            let gone = self.segments.write().unwrap_or_else(PoisonError::into_inner).remove(&base.0);
            freed += gone.map_or(0, |segment| segment.held);
        }
        Ok(freed)
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).values().map(|segment| segment.held).sum()
    }

    /// The segments as they are now.
    fn segments(&self) -> BTreeMap<u64, Segment> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Findings {
    /// What a record says, noted as read; `None` if it does not open.
    fn take(&mut self, frame: &Frame, keyring: &Keyring) -> io::Result<Option<Bytes>> {
        let opened = match frame.opened(keyring) {
            Ok(payload) => Some(payload),
            Err(Unopened::NoKey(_)) if keyring.passes_over() => None,
            Err(Unopened::NoKey(key)) => return Err(frame.lacks(key)),
            Err(Unopened::Forged) => {
                self.damaged.push((Position(frame.position), frame.end() - frame.position));
                return Ok(None);
            }
        };
        self.records += 1;
        if let Some(key) = key_of(&frame.payload).filter(|_| frame.is_sealed) {
            *self.sealed.entry(key).or_default() += 1;
        }
        Ok(opened)
    }
}

fn open_segments(disk: &dyn Disk) -> io::Result<BTreeMap<u64, Segment>> {
    let bases = disk.list()?.into_iter().filter_map(|name| segment::base_of_name(&name));
    bases.map(|base| Ok((base, Segment::open(disk, base)?))).collect()
}

/// Refuses a log that needs a key which is not there, before anything of it is read or written.
pub(crate) fn check_keys(disk: &dyn Disk, keyring: &Keyring) -> io::Result<()> {
    check(&open_segments(disk)?, keyring)
}

fn check(segments: &BTreeMap<u64, Segment>, keyring: &Keyring) -> io::Result<()> {
    let lacks = |segment: &&Segment| segment.key.is_some_and(|key| !keyring.has(key));
    let Some(first) = segments.values().find(lacks).filter(|_| !keyring.passes_over()) else { return Ok(()) };
    let count = segments.values().filter(|segment| segment.key == first.key).count();
    let (total, name) = (segments.len(), segment::name_of_base(first.base));
    let key = first.key.map(|key| key.to_string()).unwrap_or_default();
    let why = format!(
        "it needs the key {key}, which is not here (segments sealed with it: {count} of {total}, the first is {name}); \
         add the key to `encryption.keys` under [journal], behind the one that is to seal"
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

fn seals(segments: &BTreeMap<u64, Segment>) -> Seals {
    let mut seals = Seals::new();
    for segment in segments.values() {
        let extent = seals.entry(segment.key).or_default();
        (extent.segments, extent.bytes) = (extent.segments + 1, extent.bytes + segment.held);
    }
    seals
}

/// Where the oldest of the segments with these names begins.
pub(crate) fn begin_of(names: &[String]) -> Position {
    Position(names.iter().filter_map(|name| segment::base_of_name(name)).min().unwrap_or_default())
}

/// What is missing of segments and between them, and headers that are not whole.
fn holes(segments: &BTreeMap<u64, Segment>, last_group: u64) -> Vec<(Position, u64)> {
    let mut holes = Vec::new();
    let mut next_bases = segments.keys().skip(1);
    for segment in segments.values() {
        let end = next_bases.next().copied().unwrap_or(segment.end());
        if let Some(missing) = end.checked_sub(segment.held_end()).filter(|missing| *missing > 0) {
            holes.push((Position(segment.held_end()), missing));
        }
        // A header is durable with its segment's first group, not before.
        let first_group = segment.base + SEGMENT_HEADER_BYTES;
        if !segment.has_header && first_group < last_group {
            holes.push((Position(segment.base), SEGMENT_HEADER_BYTES.min(segment.held)));
        }
    }
    holes
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("end", &self.end()).finish_non_exhaustive()
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LogError {}

fn file_error(file: &dyn DiskFile) -> impl Fn(io::Error) -> io::Error {
    let len = file.len().unwrap_or_default();
    move |error| io::Error::new(error.kind(), format!("{error} (the file has {len} bytes)"))
}

#[cfg(test)]
mod tests;
