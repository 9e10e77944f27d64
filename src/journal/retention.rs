//! Letting go: the changes by which retention is carried out, for every store alike.
//!
//! A store looks at a stretch of itself and proposes a [`Retain`]: what [`crate::core::retention`] says of each
//! event there, and what has to be written again. The proposal is decided like any other change, at the moment
//! it is committed: an event that has changed since is left alone until the next sweep, and one with a delivery
//! still to be made is never let go of, whatever the proposal says.

use std::collections::BTreeSet;

use super::entry::Entry;
use super::ledger::{self, Apply, Decided, Lookup};
use super::log::Position;
use super::record::Record;
pub use super::record::retained::Payload;
use super::record::retained::{Carried, Remains, Retained};
use super::{Change, Counters, EventView, Receipt};
use crate::core::event::Dedup;
use crate::core::id::ReplayId;
use crate::core::mutant::{self, Mutant};
use crate::core::name::Name;
use crate::core::retention::{Kept, Retention, Verdict};
use crate::core::timestamp::Timestamp;

/// Events that one step looks at.
pub(crate) const STEP_EVENTS_MAX: usize = 256;
/// Payload bytes at which a step's change is closed: a record of it is not longer than this and one event.
pub(crate) const STEP_BYTES_MAX: usize = 64 << 10;
/// Bytes of attempts that one event carries, those of all its deliveries; what is older is let go of. With the
/// largest body it stays below what a record may have.
pub(crate) const ATTEMPTS_BYTES_MAX: usize = 16 << 20;

/// What a step of a sweep comes to.
#[derive(Debug, Clone)]
pub enum Sweep {
    /// This is to be committed.
    Change(Change),
    /// It has looked at something, and there is more to look at.
    Looked,
    /// These stretches of what is about to go are damaged: what the index still has of it is kept, without payloads.
    Damaged(Vec<(Position, u64)>),
    /// So many bytes of the log were given back.
    Freed(u64),
    /// Nothing is due, or nothing that pays.
    Idle,
}

/// A slice of retention's work.
#[derive(Debug, Clone, Default)]
pub struct Retain {
    /// What is to become of events.
    pub items: Vec<RetainItem>,
    /// What else stands in a part of the log that is to go.
    pub noted: Noted,
    /// Replays that have ended and are to be forgotten.
    pub replays: Vec<ReplayId>,
    /// Set once nothing else stands in a part of the log that is to go.
    pub cut: Option<Cut>,
}

/// What is no event and is written again as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// Replays.
    pub replays: BTreeSet<ReplayId>,
    /// Endpoints, by how they stand.
    pub standings: BTreeSet<Name>,
}

/// What is to become of one event.
#[derive(Debug, Clone)]
pub struct RetainItem {
    /// The event as it was judged; if it has changed since, it is left alone.
    pub seen: EventView,
    /// What was judged.
    pub verdict: Verdict,
    /// When.
    pub at: Timestamp,
    /// Its fingerprint.
    pub dedup: Option<Dedup>,
    /// Its payload, if that is kept and has to be written again.
    pub payload: Option<Payload>,
    /// Whether its record is damaged: its payload is lost, whatever was judged.
    pub is_damaged: bool,
}

/// The last word before a part of the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Where the rest begins.
    pub up_to: Position,
    /// Damaged stretches of that part.
    pub damaged: Vec<(Position, u64)>,
}

/// Of what a source may take up, this part may be at rest even if deliveries still to be made take up all of it:
/// what waits cannot go, and to look for little beside it would be to write all of it again and again.
const REST_PART: u64 = 8;

/// Sources that take up more than they may, and have enough at rest to let go of.
pub(crate) fn sources_over(retention: &Retention, counters: &Counters) -> BTreeSet<Name> {
    let over = counters.sources.iter().filter(|(source, held)| {
        let at_rest = held.bytes.saturating_sub(held.live_bytes);
        let may_rest = |max: u64| max.saturating_sub(held.live_bytes).max(max / REST_PART);
        retention.of(source).bytes_max.is_some_and(|max| at_rest > may_rest(max))
    });
    over.map(|(source, _)| source.clone()).collect()
}

/// What the slice comes to now.
pub(crate) fn decide<L: Lookup>(retain: &Retain, look: &mut L) -> Decided<L::Error> {
    let mut retained = Retained::default();
    let mut dropped = look.dropped();
    let (mut endpoints, mut replays) = (BTreeSet::new(), BTreeSet::new());
    for item in &retain.items {
        let Some(entry) = look.entry(item.seen.head.id)? else { continue };
        match fate(item, entry) {
            Fate::Left => {}
            Fate::Carried(carried) => retained.carried.push(*carried),
            Fate::Forgotten => {
                dropped.add_dropped(entry);
                endpoints.extend(entry.slots.iter().map(|slot| slot.endpoint.clone()));
                replays.extend(entry.slots.iter().filter_map(|slot| slot.replay));
                retained.forgotten.push(entry.head.id);
            }
        }
    }
    for replay in &retain.noted.replays {
        retained.again.extend(look.replay(*replay)?.cloned().map(|replay| Record::ReplayOpened(replay.into())));
    }
    for endpoint in &retain.noted.standings {
        let stood = |standing| Record::Stood { endpoint: endpoint.clone(), standing };
        retained.again.extend(look.standing(endpoint).map(stood));
    }
    for id in &retain.replays {
        retained.forgotten_replays.extend(look.replay(*id)?.filter(|it| it.state.has_ended()).map(|it| it.id));
    }
    let mut up_to = Position::NONE;
    if let Some(cut) = &retain.cut {
        up_to = cut.up_to;
        dropped.damaged += cut.damaged.len() as u64;
        dropped.damaged_bytes += cut.damaged.iter().map(|(_, len)| len).sum::<u64>();
        retained.last_id = look.last_id();
    } else if retained == Retained::default() {
        return Ok((Receipt::Stale, None));
    } else {
        dropped.endpoints.retain(|endpoint, _| endpoints.contains(endpoint));
        dropped.replays.retain(|replay, _| replays.contains(replay));
    }
    // A replay that is forgotten leaves no counts behind.
    for id in &replays {
        if retained.forgotten_replays.contains(id) || look.replay(*id)?.is_none() {
            dropped.replays.remove(id);
        }
    }
    retained.remains = Remains { counters: dropped, up_to };
    Ok((Receipt::Done, Some(Record::Retained(retained))))
}

/// What a proposal for one event comes to.
enum Fate {
    /// It stays as it is, where it is.
    Left,
    Forgotten,
    Carried(Box<Carried>),
}

fn fate(item: &RetainItem, entry: &Entry) -> Fate {
    if entry.view() != item.seen {
        return Fate::Left;
    }
    let has_payload = entry.has_payload && !item.is_damaged;
    let mut entry = entry.clone();
    item.verdict.expired.iter().for_each(|slot| entry.expire(*slot, item.at, Position::NONE));
    let kept = item.verdict.kept;
    // A mistake of the proposal must not cost a delivery, nor a payload that is to be kept.
    let is_mistaken = match kept {
        Kept::Whole => has_payload && item.payload.is_none(),
        Kept::Head => has_payload && !entry.is_settled(),
        Kept::Nothing => !entry.is_settled() || !item.verdict.expired.is_empty(),
    };
    match kept {
        _ if is_mistaken && !mutant::is(Mutant::LiveLetGo) => Fate::Left,
        Kept::Nothing => Fate::Forgotten,
        Kept::Head | Kept::Whole => {
            let payload = item.payload.clone().filter(|_| kept == Kept::Whole && has_payload);
            Fate::Carried(Box::new(Carried::new(&entry, item.dedup, payload)))
        }
    }
}

/// Brings a record of it in.
pub(crate) fn apply<A: Apply>(retained: &Retained, place: Position, to: &mut A) -> Result<(), A::Error> {
    for carried in &retained.carried {
        to.carry(carried, place)?;
    }
    for id in &retained.forgotten {
        to.forget(*id, place)?;
    }
    for record in &retained.again {
        ledger::apply(record, place, to)?;
    }
    to.note_id(retained.last_id);
    to.remain(&retained.remains);
    retained.forgotten_replays.iter().for_each(|id| to.forget_replay(*id));
    Ok(())
}
