//! Walking along the log while it is written: what stands between two positions, in order.
//!
//! It reads ahead by windows, so that its memory is bounded by them and by the largest record, whatever the
//! length of a segment. What it finds, and where it finds nothing, is what opening the log finds there.

use std::io;

use bytes::Bytes;

use super::scan::{Found, Frame, frame_at, parse_header};
use super::segment::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, Segment};
use super::{Log, Part, Position};
use crate::journal::seal::Keyring;

/// Most bytes read at a time.
const WINDOW_BYTES: u64 = 1 << 20;

impl Log {
    /// Hands everything that stands before `end` to `visit`, in order; all of it must have been appended.
    ///
    /// A segment that is removed meanwhile is read to its end.
    pub(crate) fn walk<E: From<io::Error>>(
        &self,
        end: Position,
        mut visit: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let segments = self.segments();
        let mut bases = segments.keys().skip(1);
        for segment in segments.values() {
            let held_to = segment.held_end().min(end.0);
            walk_segment(segment, &self.keyring, held_to, &mut visit)?;
            // What is missing of this segment, or between it and the next.
            let next = bases.next().copied().unwrap_or(segment.end()).min(end.0);
            if let Some(len) = next.checked_sub(held_to).filter(|len| *len > 0) {
                visit(Found::Gap { position: held_to, len })?;
            }
        }
        Ok(())
    }
}

/// What stands in a segment from `from` on, whose last record ends before `end`: at least `bytes` of it, if there
/// is so much, and whole records. `next_base` is where the next segment begins.
pub(super) fn part(
    segment: &Segment,
    keyring: &Keyring,
    from: u64,
    (end, bytes): (u64, u64),
    next_base: Option<u64>,
) -> io::Result<Part> {
    let mut part = Part::default();
    let mut position = from.max(segment.base + SEGMENT_HEADER_BYTES);
    let mut window = Window { bytes: Bytes::new(), start: position, ahead: bytes.min(WINDOW_BYTES) };
    let mut gap: Option<Blank> = None;
    let enough = position.saturating_add(bytes);
    while position < end && (position < enough || part.records.is_empty()) {
        match window.record(segment, position, end)? {
            None => {
                gap.get_or_insert(Blank::at(position)).reach(&window, position);
                position += 8;
            }
            Some(frame) => {
                part.gaps.extend(gap.take().map(|gap| gap.up_to(position)));
                match frame.found(keyring)? {
                    Found::Record { position, payload } => part.records.push((Position(position), payload)),
                    Found::Gap { position, len } => part.gaps.push((Position(position), len)),
                }
                position = frame.end();
            }
        }
    }
    if position < end {
        // A stretch that has no record yet is looked at again.
        part.next = Position(gap.map_or(position, |gap| gap.from));
        return Ok(part);
    }
    part.gaps.extend(gap.and_then(Blank::used));
    // What is missing of this segment, or between it and the next.
    if let Some(next) = next_base {
        let missing = next.checked_sub(segment.held_end()).filter(|missing| *missing > 0);
        part.gaps.extend(missing.map(|missing| (Position(segment.held_end()), missing)));
    }
    part.next = Position(next_base.unwrap_or_else(|| segment.end()));
    Ok(part)
}

/// A stretch in which no record was found.
struct Blank {
    from: u64,
    /// Behind its last byte that is not zero.
    used_to: u64,
}

impl Blank {
    const fn at(position: u64) -> Self {
        Self { from: position, used_to: position }
    }

    /// Goes on to the 8 bytes at `position`.
    fn reach(&mut self, window: &Window, position: u64) {
        if !window.is_blank(position) {
            self.used_to = position + 8;
        }
    }

    /// All of it: a record stands behind it.
    const fn up_to(&self, position: u64) -> (Position, u64) {
        (Position(self.from), position - self.from)
    }

    /// What was written of it, as nothing stands behind: the free end of a segment is zeros.
    fn used(self) -> Option<(Position, u64)> {
        (self.used_to > self.from).then(|| (Position(self.from), self.used_to - self.from))
    }
}

fn walk_segment<E: From<io::Error>>(
    segment: &Segment,
    keyring: &Keyring,
    end: u64,
    visit: &mut impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let mut position = segment.base + SEGMENT_HEADER_BYTES;
    let mut window = Window { bytes: Bytes::new(), start: position, ahead: WINDOW_BYTES };
    let mut gap: Option<Blank> = None;
    while position < end {
        let Some(frame) = window.record(segment, position, end)? else {
            gap.get_or_insert(Blank::at(position)).reach(&window, position);
            position += 8;
            continue;
        };
        if let Some((position, len)) = gap.take().map(|gap| gap.up_to(position)) {
            visit(Found::Gap { position: position.0, len })?;
        }
        visit(frame.found(keyring)?)?;
        position = frame.end();
    }
    match gap.and_then(Blank::used) {
        Some((position, len)) => visit(Found::Gap { position: position.0, len }),
        None => Ok(()),
    }
}

/// A part of a segment in memory.
struct Window {
    bytes: Bytes,
    start: u64,
    /// How much is read at a time.
    ahead: u64,
}

impl Window {
    /// The record at `position`, if a whole one stands there.
    fn record(&mut self, segment: &Segment, position: u64, end: u64) -> io::Result<Option<Frame>> {
        self.reach(segment, position, RECORD_HEADER_BYTES as u64, end)?;
        let Some(header) = self.bytes.get(self.offset(position)..).and_then(|bytes| parse_header(bytes, position))
        else {
            return Ok(None);
        };
        self.reach(segment, position, (RECORD_HEADER_BYTES + header.len) as u64, end)?;
        Ok(frame_at(&self.bytes, self.offset(position), position))
    }

    /// Makes sure that `len` bytes from `position` are here, as far as there are that many before `end`.
    fn reach(&mut self, segment: &Segment, position: u64, len: u64, end: u64) -> io::Result<()> {
        let here = self.start + self.bytes.len() as u64;
        if position + len > here && here < end {
            self.bytes = segment.read(position, (position + len.max(self.ahead)).min(end))?.into();
            self.start = position;
        }
        Ok(())
    }

    fn offset(&self, position: u64) -> usize {
        usize::try_from(position - self.start).unwrap_or(usize::MAX)
    }

    /// Whether the 8 bytes at `position` are zeros.
    fn is_blank(&self, position: u64) -> bool {
        let from = self.offset(position).min(self.bytes.len());
        let to = from.saturating_add(8).min(self.bytes.len());
        self.bytes.get(from..to).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
    }
}
