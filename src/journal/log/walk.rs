//! Walking along the log while it is written: what stands between two positions, in order.
//!
//! It reads ahead by windows, so that its memory is bounded by them and by the largest record, whatever the
//! length of a segment. What it finds, and where it finds nothing, is what opening the log finds there.

use std::io;

use bytes::Bytes;

use super::scan::{Found, after, parse_header, record_at};
use super::segment::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, Segment};
use super::{Log, Position};

/// Bytes read at a time.
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
            walk_segment(segment, held_to, &mut visit)?;
            // What is missing of this segment, or between it and the next.
            let next = bases.next().copied().unwrap_or(segment.end()).min(end.0);
            if let Some(len) = next.checked_sub(held_to).filter(|len| *len > 0) {
                visit(Found::Gap { position: held_to, len })?;
            }
        }
        Ok(())
    }
}

fn walk_segment<E: From<io::Error>>(
    segment: &Segment,
    end: u64,
    visit: &mut impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let mut position = segment.base + SEGMENT_HEADER_BYTES;
    let mut window = Window { bytes: Bytes::new(), start: position };
    // Where a stretch that holds no record begins, and where its last byte that is not zero is behind.
    let mut gap: Option<(u64, u64)> = None;
    while position < end {
        let Some((group, payload)) = window.record(segment, position, end)? else {
            let (_, used_to) = gap.get_or_insert((position, position));
            if !window.is_blank(position) {
                *used_to = position + 8;
            }
            position += 8;
            continue;
        };
        if let Some((from, _)) = gap.take() {
            visit(Found::Gap { position: from, len: position - from })?;
        }
        let next = after(position, payload.len());
        visit(Found::Record { position, group, payload })?;
        position = next;
    }
    match gap {
        // The free end of a segment is zeros.
        Some((from, used_to)) if used_to > from => visit(Found::Gap { position: from, len: used_to - from }),
        _ => Ok(()),
    }
}

/// A part of a segment in memory.
struct Window {
    bytes: Bytes,
    start: u64,
}

impl Window {
    /// The record at `position`, if a whole one stands there.
    fn record(&mut self, segment: &Segment, position: u64, end: u64) -> io::Result<Option<(u64, Bytes)>> {
        self.reach(segment, position, RECORD_HEADER_BYTES as u64, end)?;
        let Some(header) = self.bytes.get(self.offset(position)..).and_then(|bytes| parse_header(bytes, position))
        else {
            return Ok(None);
        };
        self.reach(segment, position, (RECORD_HEADER_BYTES + header.len) as u64, end)?;
        Ok(record_at(&self.bytes, self.offset(position), position))
    }

    /// Makes sure that `len` bytes from `position` are here, as far as there are that many before `end`.
    fn reach(&mut self, segment: &Segment, position: u64, len: u64, end: u64) -> io::Result<()> {
        let here = self.start + self.bytes.len() as u64;
        if position + len > here && here < end {
            self.bytes = segment.read(position, (position + len.max(WINDOW_BYTES)).min(end))?.into();
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
