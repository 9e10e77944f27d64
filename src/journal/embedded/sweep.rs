//! The sweep: cutting the log at its beginning, a few hundred events at a time.
//!
//! Only the beginning of the log is ever worked on. It is looked through first, a segment after the other until
//! half of what was looked at may go: then no more is written than is given back. A segment full of what must be
//! kept holds up those behind it only until they are worth writing it again. If that comes to the segment that is
//! still written to, the log is made to begin another. Three things make it go whatever must be carried: something
//! that is long due, a source that takes up more than it may, and, for a quarter instead of half, a full disk.
//!
//! Sweeping proposes, for each event whose record still stands there, to let go of it or to carry it; what was
//! proposed is looked at again afterwards, and proposed again if it was not done. After the last one comes the
//! cut: once that is durable, and the index holds all that stood there, the segments are removed.
//!
//! Nothing of this is remembered over a restart: what was carried or let go of is passed over then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::Inner;
use crate::core::event::{Dedup, Header};
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::retention::{Kept, Retention};
use crate::core::timestamp::Timestamp;
use crate::journal::entry::Entry;
use crate::journal::log::Position;
use crate::journal::record::Record;
use crate::journal::retention::{
    ATTEMPTS_BYTES_MAX, Cut, Payload, Retain, RetainItem, STEP_BYTES_MAX, STEP_EVENTS_MAX, Sweep, print_until,
    sources_over,
};
use crate::journal::{Change, JournalError};

/// Bytes of the log that one step reads.
const STEP_READ_BYTES: u64 = 256 << 10;
/// A part of the log is swept if at least so many quarters of it may go; on a full disk one is enough.
const QUARTERS_MIN: u64 = 2;
/// Most segments that are looked through before it is given up.
const LOOK_SEGMENTS_MAX: u32 = 64;
/// How long a log that was not worth it is left alone, at least and at most.
const REST_MIN: Duration = Duration::from_secs(60);
const REST_MAX: Duration = Duration::from_secs(3600);

/// The sweep under way, if one is.
#[derive(Default)]
pub(super) struct Sweeper {
    work: Option<Work>,
    /// Where the log began that was not worth it, and until when.
    rest: Option<(Position, Timestamp)>,
}

/// Work on the beginning of the log.
struct Work {
    begin: Position,
    end: Position,
    /// How far it has come.
    at: Position,
    /// Whether it comes to the segment that is still written to.
    is_last: bool,
    segments: u32,
    phase: Phase,
}

enum Phase {
    Look(Weights),
    Go {
        /// Where the last proposal began, and what it was about.
        proposed: Option<(Position, Vec<(EventId, Position)>)>,
        cut: Cut,
    },
}

/// What the events weigh, in bytes of their records.
struct Weights {
    all: u64,
    may_go: u64,
    /// Whether something has waited for too long.
    is_long_due: bool,
    /// Of the rest, what may go from a minute on.
    later: BTreeMap<u64, u64>,
}

/// An event whose record stands there.
struct Found {
    entry: Entry,
    dedup: Option<Dedup>,
    content: Option<(Vec<Header>, Bytes)>,
}

impl Work {
    const fn new(begin: Position, end: Position, is_last: bool) -> Self {
        let weights = Weights { all: 0, may_go: 0, is_long_due: false, later: BTreeMap::new() };
        Self { begin, end, at: begin, is_last, segments: 1, phase: Phase::Look(weights) }
    }

    fn go(&mut self, end: Position) {
        (self.at, self.end) = (self.begin, end);
        let cut = Cut { up_to: end, replays: BTreeSet::new(), standings: BTreeSet::new() };
        self.phase = Phase::Go { proposed: None, cut };
    }
}

impl Weights {
    /// Whether it is worth it. To begin a segment is, only if something goes.
    const fn pays(&self, is_full: bool, is_last: bool) -> bool {
        let quarters = if is_full { 1 } else { QUARTERS_MIN };
        let is_worth_it = self.may_go * 4 >= self.all * quarters && (self.may_go > 0 || !is_last);
        is_worth_it || self.is_long_due
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

impl Inner {
    /// A step; see [`crate::journal::Journal::sweep`].
    pub(super) fn sweep(&self, retention: &Retention, now: Timestamp) -> Result<Sweep, JournalError> {
        // An audit may take a while, and nothing here is in a hurry.
        let Ok(_no_audit) = self.auditing.try_lock() else { return Ok(Sweep::Idle) };
        let mut sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner);
        let over = sources_over(retention, self.overlay().kept());
        if sweeper.work.is_none() {
            sweeper.work = self.next_work(retention, now, sweeper.rest, !over.is_empty());
        }
        let Some(work) = &mut sweeper.work else { return Ok(Sweep::Idle) };
        match &mut work.phase {
            Phase::Look(weights) => {
                work.at = self.weigh(work.at, weights, retention, now)?;
                if work.at < work.end {
                    return Ok(Sweep::Looked);
                }
                if weights.pays(self.space.is_full(), work.is_last) {
                    let end = if work.is_last { self.log.turn() } else { None };
                    work.go(end.unwrap_or(work.end));
                    return Ok(Sweep::Looked);
                }
                let next = self.log.segment_end(work.end).filter(|_| work.segments < LOOK_SEGMENTS_MAX);
                if let Some((end, is_last)) = next {
                    work.segments += 1;
                    (work.end, work.is_last) = (end, is_last);
                    return Ok(Sweep::Looked);
                }
                sweeper.rest = Some((work.begin, weights.pays_from(now)));
                sweeper.work = None;
                Ok(Sweep::Idle)
            }
            Phase::Go { .. } => {
                let step = self.go_on(work, retention, &over, now)?;
                if matches!(step, Sweep::Freed(_)) {
                    *sweeper = Sweeper::default();
                }
                Ok(step)
            }
        }
    }

    /// Work on the oldest segment, unless it is at rest.
    fn next_work(
        &self,
        retention: &Retention,
        now: Timestamp,
        rest: Option<(Position, Timestamp)>,
        is_over: bool,
    ) -> Option<Work> {
        let begin = self.log.begin();
        let (end, is_last) = self.log.segment_end(begin).filter(|_| !retention.is_endless())?;
        let mut work = Work::new(begin, end, is_last);
        if is_over && !is_last {
            work.go(end);
            return Some(work);
        }
        let rests = rest.is_some_and(|(resting, until)| resting == begin && now < until);
        (!rests || self.space.is_full()).then_some(work)
    }

    /// Weighs some of the segment's events; how far it came.
    fn weigh(
        &self,
        at: Position,
        weights: &mut Weights,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Position, JournalError> {
        let (records, next) = self.log_part(at)?;
        for (place, payload) in records {
            let bytes = payload.len() as u64;
            let Some(record) = Record::decode(payload) else { continue };
            let events = record_events(&record);
            weights.all += if events > 0 { bytes } else { 0 };
            let here = self.found(place, &record)?;
            let share = bytes / events.max(1);
            weights.may_go += share * events.saturating_sub(here.len() as u64);
            for Found { entry, dedup, .. } in here {
                let view = entry.view();
                let until = print_until(view.head.received_at, dedup);
                let verdict = retention.judge(&view.head, &view.deliveries, until, false, now);
                let (head, has_payload) = (&view.head, entry.has_payload);
                weights.is_long_due |= retention.is_long_due(head, &view.deliveries, until, has_payload, now);
                let later = retention.payload_until(&view.head, &view.deliveries);
                match (verdict.kept, later.filter(|_| entry.is_settled())) {
                    (Kept::Nothing, _) => weights.may_go += share,
                    (Kept::Head, _) if has_payload => weights.may_go += share,
                    (Kept::Whole, Some(later)) => *weights.later.entry(later.millis() / 60_000).or_default() += share,
                    _ => {}
                }
            }
        }
        Ok(next)
    }

    /// Goes on with the sweep of a segment that is to go.
    fn go_on(
        &self,
        work: &mut Work,
        retention: &Retention,
        over: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<Sweep, JournalError> {
        let Phase::Go { proposed, cut } = &mut work.phase else { return Ok(Sweep::Looked) };
        if let Some((began, events)) = proposed.take() {
            for (id, place) in events {
                if self.load(id)?.is_some_and(|entry| entry.place == place) {
                    work.at = began;
                    break;
                }
            }
        }
        if work.at >= work.end {
            let is_durable = self.overlay().remains().up_to >= work.end;
            if is_durable {
                return self.cut(work.end).map(Sweep::Freed);
            }
            let retain = Retain { items: Vec::new(), cut: Some(cut.clone()) };
            return Ok(Sweep::Change(Change::Retain(Box::new(retain))));
        }
        let began = work.at;
        let (items, next) = self.propose(began, cut, retention, over, now)?;
        work.at = next;
        if items.is_empty() {
            return Ok(Sweep::Looked);
        }
        *proposed = Some((began, items.iter().map(|(place, item)| (item.seen.head.id, *place)).collect()));
        let items = items.into_iter().map(|(_, item)| item).collect();
        Ok(Sweep::Change(Change::Retain(Box::new(Retain { items, cut: None }))))
    }

    /// What is to become of the next events that stand in the segment, and how far that goes.
    #[allow(clippy::type_complexity, reason = "a pair of what is said right above")]
    fn propose(
        &self,
        at: Position,
        cut: &mut Cut,
        retention: &Retention,
        over: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<(Vec<(Position, RetainItem)>, Position), JournalError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let (records, next) = self.log_part(at)?;
        // What is in the log and not applied yet is known to nobody: its event seems gone, and is not.
        let applied = self.overlay().applied();
        for (place, payload) in records {
            if place >= applied {
                return Ok((items, place));
            }
            let Some(record) = Record::decode(payload) else { continue };
            note_base(&record, cut);
            for Found { entry, dedup, content } in self.found(place, &record)? {
                // What of a record is carried has moved, so that the next step finds the rest of it.
                if items.len() >= STEP_EVENTS_MAX || bytes >= STEP_BYTES_MAX {
                    return Ok((items, place));
                }
                let seen = entry.view();
                let until = print_until(seen.head.received_at, dedup);
                let is_over = over.contains(&seen.head.source);
                let verdict = retention.judge(&seen.head, &seen.deliveries, until, is_over, now);
                let mut payload = None;
                if let (Kept::Whole, Some((headers, body))) = (verdict.kept, content) {
                    let of_slots = seen.deliveries.iter().map(|delivery| self.attempts(delivery.id));
                    let mut carried = Payload { headers, body, attempts: of_slots.collect::<Result<_, _>>()? };
                    carried.keep_newest_attempts(ATTEMPTS_BYTES_MAX);
                    bytes += carried.bytes();
                    payload = Some(carried);
                }
                items.push((place, RetainItem { seen, verdict, at: now, dedup, payload }));
            }
        }
        Ok((items, next))
    }

    /// The events of a record whose place it still is.
    fn found(&self, place: Position, record: &Record) -> Result<Vec<Found>, JournalError> {
        let mut found = Vec::new();
        let mut note = |id: EventId, dedup, content| -> Result<(), JournalError> {
            if let Some(entry) = self.load(id)?.filter(|entry| entry.place == place) {
                found.push(Found { entry, dedup, content });
            }
            Ok(())
        };
        match record {
            Record::Accepted(event) => {
                let draft = &event.draft;
                note(event.id, draft.dedup, Some((draft.headers.clone(), draft.body.clone())))?;
            }
            Record::Retained(retained) => {
                for carried in &retained.carried {
                    let payload = carried.payload.as_ref();
                    let content = payload.map(|payload| (payload.headers.clone(), payload.body.clone()));
                    note(carried.entry.head.id, carried.dedup, content)?;
                }
            }
            _ => {}
        }
        Ok(found)
    }

    /// Removes the part of the log before `end`, once the index holds all that stood there: an index that does
    /// not, as a killed process may leave it, could not learn it any more.
    fn cut(&self, end: Position) -> Result<u64, JournalError> {
        self.index_up_to(end)?;
        self.ask_index(super::Index::flush)?;
        let freed = self
            .log
            .cut(end)
            .map_err(|error| self.fail(JournalError::Failed(format!("removing a segment of the log: {error}"))))?;
        self.space.measure();
        Ok(freed)
    }

    fn log_part(&self, at: Position) -> Result<(Vec<(Position, Bytes)>, Position), JournalError> {
        let part = self.log.part(at, STEP_READ_BYTES);
        part.map_err(|error| JournalError::Failed(format!("reading the log: {error}")))
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

/// Notes what else has to be written again when a record goes. What says a change only needs not: it is in the
/// state that is written again, or behind what it changes.
fn note_base(record: &Record, cut: &mut Cut) {
    match record {
        Record::ReplayOpened(replay) => {
            cut.replays.insert(replay.id);
        }
        Record::Stood { endpoint, .. } => {
            cut.standings.insert(endpoint.clone());
        }
        Record::Retained(retained) => retained.again.iter().for_each(|record| note_base(record, cut)),
        Record::Opened(_)
        | Record::Accepted(_)
        | Record::Settled { .. }
        | Record::Cancelled { .. }
        | Record::Redelivered { .. }
        | Record::ReplayAdvanced(_)
        | Record::ReplayTurned { .. }
        | Record::ReplayCancelled { .. } => {}
    }
}

#[cfg(test)]
mod tests;
