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
    /// Set once nothing else stands in a part of the log that is to go.
    pub cut: Option<Cut>,
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
}

/// The last word before a part of the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Where the rest begins.
    pub up_to: Position,
    /// Replays that were noted in that part.
    pub replays: BTreeSet<ReplayId>,
    /// Endpoints whose standing was noted in that part.
    pub standings: BTreeSet<Name>,
}

/// Sources that take up more than they may, and have something at rest to let go of.
pub(crate) fn sources_over(retention: &Retention, counters: &Counters) -> BTreeSet<Name> {
    let over = counters.sources.iter().filter(|(source, held)| {
        let is_over = retention.of(source).bytes_max.is_some_and(|max| held.bytes > max);
        is_over && held.bytes > held.live_bytes
    });
    over.map(|(source, _)| source.clone()).collect()
}

/// When a fingerprint stops making others duplicates.
pub(crate) fn print_until(received_at: Timestamp, dedup: Option<Dedup>) -> Timestamp {
    dedup.map_or(Timestamp::ZERO, |dedup| received_at.after(dedup.window))
}

/// What the slice comes to now.
pub(crate) fn decide<L: Lookup>(retain: &Retain, look: &mut L) -> Decided<L::Error> {
    let mut retained = Retained::default();
    let mut dropped = look.dropped();
    let (mut endpoints, mut replays) = (BTreeSet::new(), BTreeSet::new());
    for item in &retain.items {
        let Some(entry) = look.entry(item.seen.head.id)? else { continue };
        if entry.view() != item.seen {
            continue;
        }
        match carried(item, entry) {
            Some(carried) => retained.carried.push(carried),
            None if entry.is_settled() => {
                dropped.add_dropped(entry);
                endpoints.extend(entry.slots.iter().map(|slot| slot.endpoint.clone()));
                replays.extend(entry.slots.iter().filter_map(|slot| slot.replay));
                retained.forgotten.push(entry.head.id);
            }
            None => {}
        }
    }
    let mut up_to = Position::NONE;
    if let Some(cut) = &retain.cut {
        up_to = cut.up_to;
        for replay in &cut.replays {
            retained.again.extend(look.replay(*replay)?.cloned().map(|replay| Record::ReplayOpened(replay.into())));
        }
        for endpoint in &cut.standings {
            let stood = |standing| Record::Stood { endpoint: endpoint.clone(), standing };
            retained.again.extend(look.standing(endpoint).map(stood));
        }
        retained.last_id = look.last_id();
    } else if retained.forgotten.is_empty() && retained.carried.is_empty() {
        return Ok((Receipt::Stale, None));
    } else {
        dropped.endpoints.retain(|endpoint, _| endpoints.contains(endpoint));
        dropped.replays.retain(|replay, _| replays.contains(replay));
    }
    retained.remains = Remains { counters: dropped, up_to };
    Ok((Receipt::Done, Some(Record::Retained(retained))))
}

/// The event as it is written again; `None` if nothing of it is kept.
fn carried(item: &RetainItem, entry: &Entry) -> Option<Carried> {
    let mut entry = entry.clone();
    item.verdict.expired.iter().for_each(|slot| entry.expire(*slot, item.at, Position::NONE));
    let must_be_whole = !entry.is_settled() && entry.has_payload;
    let kept = match item.verdict.kept {
        // A mistake of the proposal must not cost a delivery.
        Kept::Head | Kept::Nothing if must_be_whole => return None,
        kept => kept,
    };
    let payload = item.payload.clone().filter(|_| kept == Kept::Whole);
    (kept != Kept::Nothing).then(|| Carried::new(&entry, item.dedup, payload))
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
    Ok(())
}
