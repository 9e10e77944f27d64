//! The ledger: decides changes and applies records, for every store alike.
//!
//! [`decide`] looks at what is there and turns a change into the record to be written, or into a refusal.
//! [`apply`] brings a record into the entries, now or while a log is read again: the same code, so that
//! recovery cannot differ from life. Applying a record twice is the same as once.

use std::sync::Arc;

use super::entry::Entry;
use super::log::Position;
use super::record::retained::{Carried, Remains};
use super::record::{Record, ReplayAdvanced};
use super::{Advance, Change, Counters, Receipt, Redelivery, Settlement, retention};
use crate::core::event::{Event, FAN_OUT_MAX, KEY_LEN_MAX, TYPE_LEN_MAX, cut};
use crate::core::id::{EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::{Replay, ReplayState, Skipped};
use crate::core::standing::{NOTE_LEN_MAX, Pause, Standing};

/// What a decision looks up, the batch's own earlier changes included.
pub(crate) trait Lookup {
    type Error;
    fn entry(&mut self, id: EventId) -> Result<Option<&Entry>, Self::Error>;
    fn replay(&mut self, id: ReplayId) -> Result<Option<&Replay>, Self::Error>;
    /// The event accepted with the same fingerprint within the window before `event`.
    fn duplicate(&mut self, event: &Event) -> Result<Option<EventId>, Self::Error>;
    /// Whether the record at `place` was there before this batch.
    fn is_stored(&self, place: Position) -> bool;
    /// How an endpoint stands, if anything was ever said of it.
    fn standing(&mut self, endpoint: &Name) -> Option<Standing>;
    /// What the events that were let go of add to the counts.
    fn dropped(&mut self) -> Counters;
    /// The greatest id in use.
    fn last_id(&mut self) -> u128;
}

/// What a record is brought into. Changing what is not there does nothing.
pub(crate) trait Apply {
    type Error;
    fn contains(&mut self, id: EventId) -> Result<bool, Self::Error>;
    fn insert(&mut self, event: &Arc<Event>, entry: Entry);
    /// Changes the entry by a record at `place`.
    fn change(&mut self, id: EventId, place: Position, change: impl FnOnce(&mut Entry)) -> Result<(), Self::Error>;
    /// Inserts the replay unless it is there already.
    fn insert_replay(&mut self, replay: &Replay) -> Result<(), Self::Error>;
    fn change_replay(&mut self, id: ReplayId, change: impl FnOnce(&mut Replay)) -> Result<(), Self::Error>;
    /// Puts how an endpoint stands in place of what was known of it.
    fn stand(&mut self, endpoint: &Name, standing: &Standing);
    /// Puts the entry in place of what is known of the event; it need not be known.
    fn carry(&mut self, carried: &Carried, place: Position) -> Result<(), Self::Error>;
    /// Forgets an event, whose record of this is at `place`.
    fn forget(&mut self, id: EventId, place: Position) -> Result<(), Self::Error>;
    /// What is left of all that was let go of.
    fn remain(&mut self, remains: &Remains);
    /// Forgets a replay, and what its deliveries came to as far as they are gone.
    fn forget_replay(&mut self, id: ReplayId);
    /// This id was in use.
    fn note_id(&mut self, id: u128);
}

/// The record a change leads to, if any, and its receipt.
pub(crate) fn decide<L: Lookup>(change: &Change, look: &mut L) -> Result<(Receipt, Option<Record>), L::Error> {
    match change {
        Change::Accept(event) => {
            assert_indexable(event);
            Ok(match look.duplicate(event)? {
                Some(first) => (Receipt::Duplicate(first), None),
                None => (Receipt::Done, Some(Record::Accepted(event.clone()))),
            })
        }
        Change::Settle(settlement) => decide_settle(settlement, look),
        Change::Cancel { id, at } => {
            let Some(entry) = look.entry(id.event)? else { return Ok((Receipt::Missing, None)) };
            let Some(slot) = entry.slot(id.slot) else { return Ok((Receipt::Missing, None)) };
            Ok(match slot.state.is_terminal() {
                true => (Receipt::Stale, None),
                false => (Receipt::Done, Some(Record::Cancelled { id: *id, at: *at })),
            })
        }
        Change::Redeliver(redelivery) => decide_redelivery(redelivery, look),
        Change::OpenReplay(replay) => Ok(match look.replay(replay.id)? {
            Some(_) => (Receipt::Stale, None),
            None => (Receipt::Done, Some(Record::ReplayOpened(replay.clone()))),
        }),
        Change::AdvanceReplay(advance) => decide_advance(advance, look),
        Change::CancelReplay { id, at } => Ok(match look.replay(*id)? {
            None => (Receipt::Missing, None),
            Some(replay) if replay.state.has_ended() => (Receipt::Stale, None),
            Some(_) => (Receipt::Done, Some(Record::ReplayCancelled { id: *id, at: *at })),
        }),
        Change::TurnReplay { id, turn, at } => Ok(match look.replay(*id)? {
            None => (Receipt::Missing, None),
            Some(replay) if replay.turned(*turn).is_none() => (Receipt::Stale, None),
            Some(_) => (Receipt::Done, Some(Record::ReplayTurned { id: *id, turn: *turn, at: *at })),
        }),
        Change::Stand { endpoint, standing } => {
            let record = Record::Stood { endpoint: endpoint.clone(), standing: indexable(standing) };
            Ok((Receipt::Done, Some(record)))
        }
        Change::Retain(retain) => retention::decide(retain, look),
    }
}

/// The standing with its note cut to what is kept.
fn indexable(standing: &Standing) -> Standing {
    let pause = standing.pause.as_ref();
    let pause = pause.map(|pause| Pause { note: cut(&pause.note, NOTE_LEN_MAX).to_owned(), ..pause.clone() });
    Standing { pause, ..standing.clone() }
}

/// What an entry must keep to, or no index could take it: the core cuts types and keys, and bounds the fan-out.
fn assert_indexable(event: &Event) {
    let draft = &event.draft;
    assert!(draft.event_type.len() <= TYPE_LEN_MAX, "a type has at most {TYPE_LEN_MAX} bytes");
    let key_len = draft.key.as_ref().map_or(0, String::len);
    assert!(key_len <= KEY_LEN_MAX, "a key has at most {KEY_LEN_MAX} bytes");
    assert!(draft.endpoints.len() <= FAN_OUT_MAX, "an event goes to at most {FAN_OUT_MAX} endpoints");
}

pub(crate) type Decided<E> = Result<(Receipt, Option<Record>), E>;

fn decide_settle<L: Lookup>(settlement: &Settlement, look: &mut L) -> Decided<L::Error> {
    let id = settlement.id;
    let Some(entry) = look.entry(id.event)? else { return Ok((Receipt::Missing, None)) };
    let Some(slot) = entry.slot(id.slot) else { return Ok((Receipt::Missing, None)) };
    let previous = slot.last_place;
    let admits = entry.admits(id.slot, settlement.attempt.number, settlement.step);
    // An attempt begins when the one before it is stored: both in one batch is a mistake.
    if !admits || !look.is_stored(previous) {
        return Ok((Receipt::Stale, None));
    }
    Ok((Receipt::Done, Some(Record::Settled { settlement: settlement.clone(), previous })))
}

fn decide_redelivery<L: Lookup>(redelivery: &Redelivery, look: &mut L) -> Decided<L::Error> {
    let Some(entry) = look.entry(redelivery.event)? else { return Ok((Receipt::Missing, None)) };
    if !entry.has_payload {
        return Ok((Receipt::PayloadGone, None));
    }
    if entry.has_scheduled(&redelivery.endpoint) && !redelivery.force {
        return Ok((Receipt::Stale, None));
    }
    let Ok(slot) = u16::try_from(entry.slots.len()) else { return Ok((Receipt::Stale, None)) };
    let id = redelivery.event.delivery(slot);
    let endpoint = redelivery.endpoint.clone();
    let record = Record::Redelivered { id, endpoint: endpoint.clone(), at: redelivery.at };
    Ok((Receipt::Made(vec![(id, endpoint)]), Some(record)))
}

fn decide_advance<L: Lookup>(advance: &Advance, look: &mut L) -> Decided<L::Error> {
    let Some(replay) = look.replay(advance.id)? else { return Ok((Receipt::Missing, None)) };
    // A slice that does not move the cursor was done before; only the end may come by itself.
    let moves = replay.is_behind(advance.cursor);
    let is_empty = advance.items.is_empty() && advance.skipped == Skipped::default();
    let ends = advance.finished && advance.cursor == replay.cursor && is_empty;
    if replay.state != ReplayState::Running || !(moves || ends) {
        return Ok((Receipt::Stale, None));
    }
    let mut made: Vec<(crate::core::id::DeliveryId, Name)> = Vec::new();
    let mut body_gone = 0;
    for (event, endpoint) in &advance.items {
        let Some(entry) = look.entry(*event)?.filter(|entry| entry.has_payload) else {
            body_gone += 1;
            continue;
        };
        let made_here = made.iter().filter(|(id, _)| id.event == *event);
        let already = made_here.clone().any(|(_, made_to)| made_to == endpoint);
        if already || entry.has_scheduled(endpoint) {
            continue;
        }
        if let Ok(slot) = u16::try_from(entry.slots.len() + made_here.count()) {
            made.push((event.delivery(slot), endpoint.clone()));
        }
    }
    let items = advance.items.len() as u64;
    let waiting = items - made.len() as u64 - body_gone;
    let left = Skipped { waiting, body_gone, ..Skipped::default() };
    let record = ReplayAdvanced {
        id: advance.id,
        cursor: advance.cursor,
        selected: items + advance.skipped.total(),
        skipped: advance.skipped.plus(left),
        made: made.clone(),
        at: advance.at,
        finished: advance.finished,
    };
    Ok((Receipt::Made(made), Some(Record::ReplayAdvanced(record))))
}

/// Brings a record that stands at `place` into the entries.
pub(crate) fn apply<A: Apply>(record: &Record, place: Position, to: &mut A) -> Result<(), A::Error> {
    match record {
        Record::Opened(_) => Ok(()),
        Record::Accepted(event) => {
            if !to.contains(event.id)? {
                to.insert(event, Entry::accepted(event, place));
            }
            Ok(())
        }
        Record::Settled { settlement, .. } => {
            to.change(settlement.id.event, place, |entry| entry.settle(settlement, place))
        }
        Record::Cancelled { id, at } => to.change(id.event, place, |entry| entry.cancel(id.slot, *at, place)),
        Record::Redelivered { id, endpoint, at } => {
            to.change(id.event, place, |entry| entry.deliver_again(id.slot, endpoint, *at, None, place))
        }
        Record::ReplayOpened(replay) => to.insert_replay(replay),
        Record::ReplayAdvanced(advanced) => apply_advance(advanced, place, to),
        Record::ReplayCancelled { id, .. } => to.change_replay(*id, |replay| {
            replay.state = ReplayState::Cancelled;
            replay.hold = None;
        }),
        Record::ReplayTurned { id, turn, .. } => {
            to.change_replay(*id, |replay| *replay = replay.turned(*turn).unwrap_or_else(|| replay.clone()))
        }
        Record::Stood { endpoint, standing } => {
            to.stand(endpoint, standing);
            Ok(())
        }
        Record::Retained(retained) => retention::apply(retained, place, to),
    }
}

fn apply_advance<A: Apply>(advanced: &ReplayAdvanced, place: Position, to: &mut A) -> Result<(), A::Error> {
    for (id, endpoint) in &advanced.made {
        let (at, by) = (advanced.at, Some(advanced.id));
        to.change(id.event, place, |entry| entry.deliver_again(id.slot, endpoint, at, by, place))?;
    }
    to.change_replay(advanced.id, |replay| {
        let is_news = replay.is_behind(advanced.cursor) || (advanced.finished && replay.state == ReplayState::Running);
        if !is_news {
            return;
        }
        replay.cursor = advanced.cursor;
        replay.selected += advanced.selected;
        replay.skipped = replay.skipped.plus(advanced.skipped);
        replay.queued += advanced.made.len() as u64;
        if advanced.finished {
            replay.state = ReplayState::Completed;
        }
    })
}
