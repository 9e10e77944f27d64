//! What retention leaves of a part of the log, so that the part itself can go.
//!
//! The log is cut at its beginning, by whole segments. Before a segment goes, each event whose record stands in
//! it is either let go of, or carried: written again at the end of the log, whole or without its payload. Once
//! all are, the replays, standings and the like that were noted there are written again as well, with the counts of all
//! that was ever let go of. So reading the rest of the log still gives all that is kept; and reading a log whose
//! old part is still there, because a crash came between, gives the same: what is written later wins.

use bytes::Bytes;

use super::{Record, SETTLED_VERSION, decode_attempt, encode_attempt};
use crate::core::attempt::{Attempt, FailureClass, Reply};
use crate::core::delivery::{Reason, State};
use crate::core::event::{Dedup, Draft, Event, EventHead, Fingerprint, Header};
use crate::core::failure::FailureGroup;
use crate::core::id::{EventId, ReplayId};
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::journal::codec::{Reader, Write};
use crate::journal::entry::{Entry, Slot, print_tag};
use crate::journal::log::Position;
use crate::journal::{Counters, Tally};

use std::sync::Arc;

/// Retention let go of events, or wrote again what stood beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retained {
    /// Events of which nothing is kept.
    pub forgotten: Vec<EventId>,
    /// Events whose record now stands here.
    pub(crate) carried: Vec<Carried>,
    /// How far the log may be cut, and the counts of what is not in it any more. Of endpoints and replays only those
    /// are named that `forgotten` touches, unless this is the last record before a cut.
    pub(crate) remains: Remains,
    /// What else stood there and still counts, written again as it is now. Not of this kind.
    pub again: Vec<Record>,
    /// Replays of which nothing is kept.
    pub forgotten_replays: Vec<ReplayId>,
    /// The greatest id in use.
    pub last_id: u128,
}

/// An event that is carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Its entry; places in it mean nothing.
    pub(crate) entry: Entry,
    pub(crate) dedup: Option<Dedup>,
    /// Its payload, if that is still kept.
    pub(crate) payload: Option<Payload>,
}

/// What an event weighs most: what goes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The sender's headers.
    pub headers: Vec<Header>,
    /// The sender's bytes.
    pub body: Bytes,
    /// The attempts of each delivery, by slot.
    pub attempts: Vec<Vec<Attempt>>,
}

/// What is left of all that was ever let go of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Remains {
    /// What the events still count.
    pub(crate) counters: Counters,
    /// Nothing in the log before this is needed.
    pub(crate) up_to: Position,
}

/// About what an attempt or header takes besides what was answered, in bytes.
const FRAME_BYTES: usize = 64;

impl Payload {
    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let attempts = self.attempts.iter().flatten().map(attempt_bytes);
        self.body.len() + headers_bytes(&self.headers) + attempts.sum::<usize>()
    }

    /// Keeps the newest attempts of each delivery, so that those of all of them take `max` bytes at most.
    pub(crate) fn keep_newest_attempts(&mut self, max: usize) {
        let share = max / self.attempts.len().max(1);
        for attempts in &mut self.attempts {
            let mut bytes = 0;
            let newest = attempts.iter().rev().take_while(|attempt| {
                bytes += attempt_bytes(attempt);
                bytes <= share
            });
            let older = attempts.len() - newest.count();
            attempts.drain(..older);
        }
    }
}

fn headers_bytes(headers: &[Header]) -> usize {
    headers.iter().map(|header| FRAME_BYTES + header.name.len() + header.value.len()).sum()
}

fn attempt_bytes(attempt: &Attempt) -> usize {
    FRAME_BYTES
        + match &attempt.reply {
            Reply::Answer(answer) => headers_bytes(&answer.headers) + answer.body.len(),
            Reply::Failure(failure) => failure.detail.len(),
        }
}

/// The newest version. Version 1 forgets no replays, and has not met damage.
pub(super) const VERSION: u8 = 2;
/// Stands for the place of a record that is not written yet.
const SOMEWHERE: Position = Position(1);

impl Remains {
    /// Takes over a later word; doing it twice is the same as once.
    pub(crate) fn raise(&mut self, other: &Self) {
        self.counters.raise(&other.counters);
        self.up_to = self.up_to.max(other.up_to);
    }
}

impl Carried {
    /// An entry to be carried, with what of its payload is kept.
    pub(crate) fn new(entry: &Entry, dedup: Option<Dedup>, payload: Option<Payload>) -> Self {
        let mut carried = Self { entry: entry.clone(), dedup, payload };
        carried.entry = carried.entry_at(SOMEWHERE);
        carried.entry.has_payload = carried.payload.is_some();
        carried
    }

    /// The entry as it is once the record that carries it stands at `place`: all that its deliveries came by.
    pub(crate) fn entry_at(&self, place: Position) -> Entry {
        let mut entry = self.entry.clone();
        entry.place = place;
        let place_if = |has: bool| if has { place } else { Position::NONE };
        for slot in &mut entry.slots {
            slot.last_place = place_if(slot.attempts > 0);
            slot.made_by = place_if(slot.is_again());
            slot.ended_by = place_if(matches!(slot.state, State::Cancelled | State::Expired));
        }
        entry
    }

    /// The whole event, if its payload is here.
    pub(crate) fn event(&self) -> Option<Arc<Event>> {
        let Payload { headers, body, .. } = self.payload.as_ref()?;
        let head = &self.entry.head;
        let routed = self.entry.slots.iter().filter(|slot| !slot.is_again());
        let draft = Draft {
            source: head.source.clone(),
            event_type: head.event_type.clone(),
            key: head.key.clone(),
            occurred_at: head.occurred_at,
            headers: headers.clone(),
            body: body.clone(),
            dedup: self.dedup,
            endpoints: routed.map(|slot| slot.endpoint.clone()).collect(),
        };
        Some(Arc::new(Event { id: head.id, received_at: head.received_at, draft }))
    }

    /// The attempts of a delivery that are here, first to last.
    pub(crate) fn attempts(&self, slot: u16) -> &[Attempt] {
        let payload = self.payload.as_ref();
        payload.and_then(|payload| payload.attempts.get(usize::from(slot))).map_or(&[], Vec::as_slice)
    }
}

impl Retained {
    /// The version it is written as: the oldest that has a place for all of it.
    pub(super) const fn version(&self) -> u8 {
        let Counters { damaged, damaged_bytes, .. } = self.remains.counters;
        if self.forgotten_replays.is_empty() && damaged == 0 && damaged_bytes == 0 { 1 } else { VERSION }
    }

    /// What is carried here of an event.
    pub(crate) fn of(&self, id: EventId) -> Option<&Carried> {
        self.carried.iter().find(|carried| carried.entry.head.id == id)
    }
}

pub(super) fn encode(retained: &Retained, out: &mut Vec<u8>) {
    out.list(&retained.forgotten, |out, id| out.event(*id));
    out.list(&retained.carried, |out, carried| encode_carried(carried, out));
    let Remains { counters, up_to } = &retained.remains;
    for count in [counters.accepted, counters.unrouted, up_to.0] {
        out.number(count);
    }
    let endpoints: Vec<(&Name, &Tally)> = counters.endpoints.iter().collect();
    out.list(&endpoints, |out, (endpoint, tally)| {
        out.text(endpoint.as_str());
        encode_tally(tally, out);
    });
    let replays: Vec<(&ReplayId, &Tally)> = counters.replays.iter().collect();
    out.list(&replays, |out, (replay, tally)| {
        out.replay(**replay);
        encode_tally(tally, out);
    });
    out.list(&retained.again, |out, record| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        out.bytes(&bytes);
    });
    out.raw(&retained.last_id.to_be_bytes());
    if retained.version() == VERSION {
        out.list(&retained.forgotten_replays, |out, replay| out.replay(*replay));
        out.number(counters.damaged);
        out.number(counters.damaged_bytes);
    }
}

pub(super) fn decode(from: &mut Reader, version: u8) -> Option<Retained> {
    let forgotten = from.list(Reader::event)?;
    let carried = from.list(decode_carried)?;
    let (accepted, unrouted, up_to) = (from.number()?, from.number()?, Position(from.number()?));
    let endpoints = from.list(|from| Some((from.name()?, decode_tally(from)?)))?.into_iter().collect();
    let replays = from.list(|from| Some((from.replay()?, decode_tally(from)?)))?.into_iter().collect();
    let is_other = |record: &Record| !matches!(record, Record::Retained(_));
    let again = from.list(|from| Record::decode(from.bytes()?).filter(is_other))?;
    let last_id = u128::from_be_bytes(*from.take(16)?.first_chunk()?);
    let (forgotten_replays, damaged, damaged_bytes) = if version < VERSION {
        (Vec::new(), 0, 0)
    } else {
        (from.list(Reader::replay)?, from.number()?, from.number()?)
    };
    let dropped = accepted;
    let counted = Counters { accepted, unrouted, dropped, damaged, damaged_bytes, ..Counters::default() };
    let remains = Remains { counters: Counters { endpoints, replays, ..counted }, up_to };
    Some(Retained { forgotten, carried, remains, again, forgotten_replays, last_id })
}

fn encode_tally(tally: &Tally, out: &mut Vec<u8>) {
    tally.fields().into_iter().for_each(|count| out.number(count));
}

fn decode_tally(from: &mut Reader) -> Option<Tally> {
    let mut fields = [0; Tally::FIELDS];
    for field in &mut fields {
        *field = from.number()?;
    }
    Some(Tally::of_fields(fields))
}

fn encode_carried(carried: &Carried, out: &mut Vec<u8>) {
    let head = &carried.entry.head;
    out.event(head.id);
    out.time(head.received_at);
    out.text(head.source.as_str());
    out.text(&head.event_type);
    out.option(head.key.as_deref(), |out, key| out.text(key));
    out.option(head.occurred_at, |out, time| out.time(time));
    out.number(u64::from(head.body_bytes));
    out.option(carried.dedup, |out, dedup| {
        out.raw(&dedup.fingerprint.0);
        out.span(dedup.window);
    });
    out.list(&carried.entry.slots, |out, slot| encode_slot(slot, out));
    out.option(carried.payload.as_ref(), |out, payload| {
        out.headers(&payload.headers);
        out.bytes(&payload.body);
        out.byte(SETTLED_VERSION);
        out.list(&payload.attempts, |out, attempts| {
            out.list(attempts, |out, attempt| encode_attempt(attempt, out));
        });
    });
}

fn decode_carried(from: &mut Reader) -> Option<Carried> {
    let (id, received_at, source) = (from.event()?, from.time()?, from.name()?);
    let (event_type, key) = (from.text()?, from.option(Reader::text)?);
    let (occurred_at, body_bytes) = (from.option(Reader::time)?, from.small()?);
    let head = EventHead { id, received_at, source, event_type, key, occurred_at, body_bytes };
    let dedup = from.option(|from| {
        let fingerprint = Fingerprint(*from.take(16)?.first_chunk()?);
        Some(Dedup { fingerprint, window: from.span()? })
    })?;
    let slots = from.list(decode_slot)?;
    let payload = from.option(|from| {
        let (headers, body, version) = (from.headers()?, from.bytes()?, from.byte()?);
        let attempts = from.list(|from| from.list(|from| decode_attempt(from, version)))?;
        Some(Payload { headers, body, attempts })
    })?;
    let print_tag = dedup.map(|dedup| print_tag(&head.source, dedup.fingerprint));
    let has_payload = payload.is_some();
    let entry = Entry { head: Arc::new(head), place: SOMEWHERE, print_tag, has_payload, slots };
    Some(Carried::new(&entry, dedup, payload))
}

fn encode_slot(slot: &Slot, out: &mut Vec<u8>) {
    let (state, due) = match slot.state {
        State::Scheduled { due } => (0, due),
        // On its way is nowhere on disk: after a crash it is due.
        State::InFlight { .. } => (0, slot.changed_at),
        State::Delivered => (1, Timestamp::ZERO),
        State::Dead => (2, Timestamp::ZERO),
        State::Cancelled => (3, Timestamp::ZERO),
        State::Expired => (4, Timestamp::ZERO),
    };
    out.text(slot.endpoint.as_str());
    out.byte(state);
    out.time(due);
    out.byte(slot.reason as u8);
    out.time(slot.changed_at);
    out.time(slot.born_at);
    out.number(u64::from(slot.attempts));
    out.number(u64::from(slot.probes));
    out.option(slot.tried_at, |out, time| out.time(time));
    out.flag(slot.out_of_order);
    out.option(slot.last_status, |out, status| out.number(u64::from(status)));
    out.option(slot.last_failure, |out, class| out.byte(class as u8));
    out.option(slot.group, |out, group| out.raw(&group.as_u64().to_be_bytes()));
    out.option(slot.replay, |out, replay| out.replay(replay));
    out.flag(slot.is_again());
}

fn decode_slot(from: &mut Reader) -> Option<Slot> {
    let (endpoint, state, due) = (from.name()?, from.byte()?, from.time()?);
    let state = match state {
        0 => State::Scheduled { due },
        1 => State::Delivered,
        2 => State::Dead,
        3 => State::Cancelled,
        4 => State::Expired,
        _ => return None,
    };
    let mut slot = Slot {
        endpoint,
        state,
        reason: Reason::from_code(from.byte()?)?,
        changed_at: from.time()?,
        born_at: from.time()?,
        attempts: from.small()?,
        probes: from.small()?,
        tried_at: from.option(Reader::time)?,
        out_of_order: from.flag()?,
        last_status: from.option(Reader::small)?,
        last_failure: from.option(|from| FailureClass::from_code(from.byte()?))?,
        group: from.option(|from| Some(FailureGroup::from_u64(u64::from_be_bytes(*from.take(8)?.first_chunk()?))))?,
        replay: from.option(Reader::replay)?,
        made_by: Position::NONE,
        ended_by: Position::NONE,
        last_place: Position::NONE,
    };
    if from.flag()? {
        slot.made_by = SOMEWHERE;
    }
    Some(slot)
}

#[cfg(test)]
mod tests;
