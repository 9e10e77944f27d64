//! The sweep: cutting the log at its beginning, a few hundred events at a time.
//!
//! Only the beginning of the log is ever worked on. It is [looked through](look) first, a segment after the other
//! until half of what was looked at may go: then no more is written than is given back. A segment full of what must
//! be kept holds up those behind it only until they are worth writing it again. If that comes to the segment that is
//! still written to, the log is made to begin another. Three things make it go whatever must be carried: something
//! that is long due, a source that takes up more than it may, and, for a quarter instead of half, a full disk.
//!
//! Then its segments are worked off one by one. Sweeping proposes, for each event whose record still stands in the
//! segment, to let go of it or to carry it; what was proposed is looked at again afterwards, and proposed again if
//! it was not done. What else was noted there follows, and then the cut: once that is durable, and the index holds
//! all that stood there, the segment is removed. So a sweep never takes up more room than a segment and what goes
//! with it before it gives one back. [Damage](damage) in a segment does not go unsaid.
//!
//! Nothing of this is remembered over a restart: what was carried or let go of is passed over then.

mod damage;
mod look;

use std::collections::BTreeSet;
use std::sync::PoisonError;

use bytes::Bytes;

use super::{Inner, start};
use crate::core::event::{Dedup, Header};
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::retention::{Kept, Retention};
use crate::core::timestamp::Timestamp;
use crate::journal::entry::Entry;
use crate::journal::log::{Part, Position};
use crate::journal::record::Record;
use crate::journal::retention::{
    ATTEMPTS_BYTES_MAX, Cut, Noted, Payload, Retain, RetainItem, STEP_BYTES_MAX, STEP_EVENTS_MAX, Sweep, sources_over,
};
use crate::journal::{Change, JournalError};
use damage::Damage;
use look::{Look, Rest};

/// Bytes of the log that one step reads.
const STEP_READ_BYTES: u64 = 256 << 10;

/// The sweep under way, if one is.
#[derive(Default)]
pub(super) struct Sweeper {
    work: Option<Work>,
    /// What is before this is to go.
    goal: Position,
    /// Where the log began that was not worth it, and until when.
    rest: Option<Rest>,
}

enum Work {
    /// On the beginning of the log.
    Look(Look),
    /// On its oldest segment.
    Go(Go),
}

/// A segment on its way out.
struct Go {
    end: Position,
    stage: Stage,
    /// What was proposed last, and the stage to go back to if it was not done.
    proposed: Option<(Stage, Proposed)>,
    noted: Noted,
    damage: Damage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its records from here on.
    Records(Position),
    /// What the index has of damaged records: its entries from here on.
    Damaged(EventId),
    /// What is no event, and the cut.
    Last,
}

/// What was proposed.
enum Proposed {
    /// Of events, which stood there.
    Events(Vec<(EventId, Position)>),
    /// Of what is no event. There were so many records of retention then.
    Noted(Noted, u64),
}

/// An event whose record stands there.
struct Found {
    entry: Entry,
    dedup: Option<Dedup>,
    content: Option<(Vec<Header>, Bytes)>,
}

impl Go {
    fn new(begin: Position, end: Position) -> Self {
        let (noted, damage) = (Noted::default(), Damage::default());
        Self { end, stage: Stage::Records(begin), proposed: None, noted, damage }
    }
}

impl Inner {
    /// A step; see [`crate::journal::Journal::sweep`].
    pub(super) fn sweep(&self, retention: &Retention, now: Timestamp) -> Result<Sweep, JournalError> {
        // An audit may take a while, and nothing here is in a hurry.
        let Ok(_no_audit) = self.auditing.try_lock() else { return Ok(Sweep::Idle) };
        let mut sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner);
        let replays = retention.replays_due(self.overlay().replays(), now);
        if !replays.is_empty() {
            return Ok(retain(Retain { replays, ..Retain::default() }));
        }
        if retention.is_endless() {
            return Ok(Sweep::Idle);
        }
        let over = sources_over(retention, self.overlay().kept());
        let Some(work) = sweeper.work.take().or_else(|| self.next_work(&sweeper, !over.is_empty(), now)) else {
            return Ok(Sweep::Idle);
        };
        match work {
            Work::Look(look) => self.look_on(look, &mut sweeper, retention, &over, now),
            Work::Go(mut go) => {
                let step = self.go_on(&mut go, retention, &over, now);
                if !matches!(step, Ok(Sweep::Freed(_))) {
                    sweeper.work = Some(Work::Go(go));
                }
                step
            }
        }
    }

    /// Work on the oldest segment, unless it is at rest.
    fn next_work(&self, sweeper: &Sweeper, is_over: bool, now: Timestamp) -> Option<Work> {
        let begin = self.log.begin();
        let (end, is_last) = self.log.segment_end(begin)?;
        // A process that died may have had no time to remove it.
        if !is_last && (begin < sweeper.goal || self.overlay().remains().up_to >= end) {
            return Some(Work::Go(Go::new(begin, end)));
        }
        let rests = sweeper.rest.as_ref().is_some_and(|rest| rest.holds(begin, self.space.is_full(), is_over, now));
        (!rests).then(|| Work::Look(Look::new(begin, end, is_last)))
    }

    /// Goes on with a segment that is to go.
    fn go_on(
        &self,
        go: &mut Go,
        retention: &Retention,
        over: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<Sweep, JournalError> {
        if self.overlay().remains().up_to >= go.end {
            return self.cut(go.end).map(Sweep::Freed);
        }
        if !self.space.has_reserve(&self.dir.join(start::INDEX)) {
            return Err(JournalError::Full("the index cannot grow by what a sweep would write".to_owned()));
        }
        self.look_back(go)?;
        let began = go.stage;
        let items = match began {
            Stage::Records(at) if at >= go.end => return self.meet_damage(go),
            Stage::Records(at) => {
                let (items, next) = self.propose(at, go, retention, over, now)?;
                go.stage = Stage::Records(next);
                items
            }
            Stage::Damaged(from) => {
                let (items, next) = self.salvage(from, go.end, retention, now)?;
                go.stage = next.map_or(Stage::Last, Stage::Damaged);
                items
            }
            Stage::Last => return Ok(self.conclude(go)),
        };
        if items.is_empty() {
            return Ok(Sweep::Looked);
        }
        let events = items.iter().map(|(place, item)| (item.seen.head.id, *place)).collect();
        go.proposed = Some((began, Proposed::Events(events)));
        Ok(retain(Retain { items: items.into_iter().map(|(_, item)| item).collect(), ..Retain::default() }))
    }

    /// Goes back to what was proposed last if that was not done.
    fn look_back(&self, go: &mut Go) -> Result<(), JournalError> {
        match go.proposed.take() {
            None => {}
            Some((began, Proposed::Events(events))) => {
                for (id, place) in events {
                    if self.load(id)?.is_some_and(|entry| entry.place == place) {
                        go.stage = began;
                        break;
                    }
                }
            }
            Some((began, Proposed::Noted(noted, retained))) if self.overlay().retained() == retained => {
                go.stage = began;
                go.noted.replays.extend(noted.replays);
                go.noted.standings.extend(noted.standings);
            }
            Some((_, Proposed::Noted(..))) => {}
        }
        Ok(())
    }

    /// What is to become of the next events that stand in the segment, and how far that goes.
    #[allow(clippy::type_complexity, reason = "a pair of what is said right above")]
    fn propose(
        &self,
        at: Position,
        go: &mut Go,
        retention: &Retention,
        over: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<(Vec<(Position, RetainItem)>, Position), JournalError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let (mut entries, handovers) = (Vec::new(), self.overlay().handovers());
        let part = self.log_part(at)?;
        go.damage.note(&part);
        // What is in the log and not applied yet is known to nobody: its event seems gone, and is not.
        let applied = self.overlay().applied();
        let mut next = part.next;
        'records: for (place, payload) in part.records {
            if place >= applied {
                next = place;
                break;
            }
            let Some(record) = Record::decode(payload) else { continue };
            note_base(&record, &mut go.noted);
            for Found { entry, dedup, content } in self.found(place, &record)? {
                // What of a record is carried has moved, so that the next step finds the rest of it.
                if items.len() >= STEP_EVENTS_MAX || bytes >= STEP_BYTES_MAX {
                    next = place;
                    break 'records;
                }
                let seen = entry.view();
                let until = retention.print_until(&seen.head.source, seen.head.received_at, dedup);
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
                items.push((place, RetainItem { seen, verdict, at: now, dedup, payload, is_damaged: false }));
                entries.push(entry);
            }
        }
        // The commit asks for them twice, and whoever is committed with it waits for that.
        self.overlay().expect(entries, handovers);
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

    /// What is no event is written again, a slice at a time; then comes the last word.
    fn conclude(&self, go: &mut Go) -> Sweep {
        let (noted, retained) = self.next_noted(&mut go.noted);
        if noted == Noted::default() {
            let cut = Some(Cut { up_to: go.end, damaged: go.damage.found().to_vec() });
            return retain(Retain { cut, ..Retain::default() });
        }
        go.proposed = Some((Stage::Last, Proposed::Noted(noted.clone(), retained)));
        retain(Retain { noted, ..Retain::default() })
    }

    /// A slice of what was noted and is still there, of which a record is not longer than a step's may be; and how
    /// many records of retention there are.
    fn next_noted(&self, all: &mut Noted) -> (Noted, u64) {
        let overlay = self.overlay();
        let (mut noted, mut bytes) = (Noted::default(), 0);
        while bytes < STEP_BYTES_MAX
            && let Some(id) = all.replays.pop_first()
        {
            let Some(replay) = overlay.replay(id) else { continue };
            bytes += Record::ReplayOpened(Box::new(replay.clone())).encoded_len();
            noted.replays.insert(id);
        }
        while bytes < STEP_BYTES_MAX
            && let Some(endpoint) = all.standings.pop_first()
        {
            let Some(standing) = overlay.standing(&endpoint).cloned() else { continue };
            bytes += Record::Stood { endpoint: endpoint.clone(), standing }.encoded_len();
            noted.standings.insert(endpoint);
        }
        (noted, overlay.retained())
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

    fn log_part(&self, at: Position) -> Result<Part, JournalError> {
        let part = self.log.part(at, STEP_READ_BYTES);
        part.map_err(|error| JournalError::Failed(format!("reading the log: {error}")))
    }
}

fn retain(retain: Retain) -> Sweep {
    Sweep::Change(Change::Retain(Box::new(retain)))
}

/// Notes what else has to be written again when a record goes. What says a change only needs not: it is in the
/// state that is written again, or behind what it changes.
fn note_base(record: &Record, noted: &mut Noted) {
    match record {
        Record::ReplayOpened(replay) => {
            noted.replays.insert(replay.id);
        }
        Record::Stood { endpoint, .. } => {
            noted.standings.insert(endpoint.clone());
        }
        Record::Retained(retained) => retained.again.iter().for_each(|record| note_base(record, noted)),
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
