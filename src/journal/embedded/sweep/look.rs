//! Looking through the beginning of the log: whether letting go of it pays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Found, Sweeper, Work};
use crate::core::name::Name;
use crate::core::retention::{Kept, Retention};
use crate::core::timestamp::Timestamp;
use crate::journal::JournalError;
use crate::journal::embedded::Inner;
use crate::journal::log::{LogError, Position};
use crate::journal::record::Record;
use crate::journal::retention::Sweep;

/// A part of the log is swept if at least so many quarters of it may go; on a full disk one is enough.
const QUARTERS_MIN: u64 = 2;
/// Most segments that are looked through before it is given up.
const LOOK_SEGMENTS_MAX: u32 = 256;
/// How long a log that was not worth it is left alone, at least and at most.
const REST_MIN: Duration = Duration::from_secs(60);
const REST_MAX: Duration = Duration::from_secs(3600);

/// A look at the beginning of the log.
pub(super) struct Look {
    begin: Position,
    /// Where the segment ends that is being looked through, where it begins, and whether it is still written to.
    end: Position,
    last_begin: Position,
    is_last: bool,
    at: Position,
    segments: u32,
    weights: Weights,
}

/// What the events weigh, in bytes of their records.
#[derive(Default)]
struct Weights {
    all: u64,
    may_go: u64,
    /// Whether something has waited for too long, or has to go because its source takes up too much.
    is_pressing: bool,
    /// Of the rest, what may go from a minute on.
    later: BTreeMap<u64, u64>,
}

/// A log that was not worth it.
pub(super) struct Rest {
    begin: Position,
    until: Timestamp,
    /// What was known then: the disk was full, a source took up too much.
    was_full: bool,
    was_over: bool,
}

impl Look {
    pub(super) fn new(begin: Position, end: Position, is_last: bool) -> Self {
        let weights = Weights::default();
        Self { begin, end, last_begin: begin, is_last, at: begin, segments: 1, weights }
    }
}

impl Weights {
    /// Whether it is worth it. To begin a segment is, only if something goes.
    const fn pays(&self, is_full: bool, is_last: bool) -> bool {
        let quarters = if is_full { 1 } else { QUARTERS_MIN };
        let is_worth_it = self.may_go * 4 >= self.all * quarters && (self.may_go > 0 || !is_last);
        is_worth_it || self.is_pressing
    }

    /// When it may be worth it, by what is known now.
    fn pays_from(&self, now: Timestamp) -> Timestamp {
        let mut may_go = self.may_go;
        let enough = self.later.iter().find(|(_, bytes)| {
            may_go += **bytes;
            may_go * 4 >= self.all * QUARTERS_MIN
        });
        let due = enough.map_or(Timestamp::MAX, |(minute, _)| Timestamp::from_millis((minute + 1) * 60_000));
        due.clamp(now.after(REST_MIN), now.after(REST_MAX))
    }
}

impl Rest {
    /// Whether a log that begins there is still to be left alone, by what is known now.
    pub(super) fn holds(&self, begin: Position, is_full: bool, is_over: bool, now: Timestamp) -> bool {
        let is_news = (is_full && !self.was_full) || (is_over && !self.was_over);
        self.begin == begin && now < self.until && !is_news
    }
}

impl Inner {
    /// Goes on looking.
    pub(super) fn look_on(
        &self,
        mut look: Look,
        sweeper: &mut Sweeper,
        retention: &Retention,
        over: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<Sweep, JournalError> {
        self.weigh(&mut look, retention, over, now)?;
        let is_full = self.space.is_full();
        if look.at >= look.end {
            if look.weights.pays(is_full, look.is_last) {
                let goal = if look.is_last { self.turn(look.last_begin)? } else { look.end };
                if goal > look.begin {
                    sweeper.goal = goal;
                    return Ok(Sweep::Looked);
                }
            }
            let next = self.log.segment_end(look.end).filter(|_| look.segments < LOOK_SEGMENTS_MAX);
            let Some((end, is_last)) = next else {
                let (was_full, was_over, until) = (is_full, !over.is_empty(), look.weights.pays_from(now));
                sweeper.rest = Some(Rest { begin: look.begin, until, was_full, was_over });
                return Ok(Sweep::Idle);
            };
            look.segments += 1;
            (look.last_begin, look.end, look.is_last) = (look.end, end, is_last);
        }
        sweeper.work = Some(Work::Look(look));
        Ok(Sweep::Looked)
    }

    /// Has the log begin a new segment; how far it may be cut then, which is no further than `before` without room.
    fn turn(&self, before: Position) -> Result<Position, JournalError> {
        match self.log.turn() {
            Ok(end) => Ok(end),
            Err(LogError::Full(_)) => Ok(before),
            Err(LogError::Failed(why)) => Err(self.fail(JournalError::Failed(why))),
        }
    }

    /// Weighs some of the events.
    fn weigh(
        &self,
        look: &mut Look,
        retention: &Retention,
        over: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let part = self.log_part(look.at)?;
        look.at = part.next;
        let weights = &mut look.weights;
        for (place, payload) in part.records {
            let bytes = payload.len() as u64;
            let Some(record) = Record::decode(payload) else { continue };
            let events = record_events(&record);
            weights.all += if events > 0 { bytes } else { 0 };
            let here = self.found(place, &record)?;
            let share = bytes / events.max(1);
            weights.may_go += share * events.saturating_sub(here.len() as u64);
            for Found { entry, dedup, .. } in here {
                let view = entry.view();
                let until = retention.print_until(&view.head.source, view.head.received_at, dedup);
                let is_over = over.contains(&view.head.source);
                let verdict = retention.judge(&view.head, &view.deliveries, until, is_over, now);
                let (head, has_payload) = (&view.head, entry.has_payload);
                weights.is_pressing |= retention.is_long_due(head, &view.deliveries, until, has_payload, now);
                weights.is_pressing |= is_over && has_payload && verdict.kept != Kept::Whole && !look.is_last;
                let later = retention.payload_until(&view.head, &view.deliveries);
                match (verdict.kept, later.filter(|_| entry.is_settled())) {
                    (Kept::Nothing, _) => weights.may_go += share,
                    (Kept::Head, _) if has_payload => weights.may_go += share,
                    (Kept::Whole, Some(later)) => *weights.later.entry(later.millis() / 60_000).or_default() += share,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// How many events have their record there, or had.
fn record_events(record: &Record) -> u64 {
    match record {
        Record::Accepted(_) => 1,
        Record::Retained(retained) => retained.carried.len() as u64,
        _ => 0,
    }
}
