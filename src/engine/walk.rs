//! A replay's walk: what of the journal it comes to next, and what it would make of it.
//!
//! Plans and replays walk the same way, so that a plan tells what the replay does.

use std::collections::HashSet;

use crate::core::delivery::{Delivery, Status};
use crate::core::event::EventHead;
use crate::core::id::{DeliveryId, EventId};
use crate::core::name::Name;
use crate::core::replay::{Fared, Plan, Replay, Skip, Skipped};
use crate::core::route::RouteTable;
use crate::core::timestamp::Timestamp;
use crate::journal::{Advance, EventView, Journal, JournalError, Query, Tally};

/// Where deliveries can go by the config of now.
#[derive(Debug)]
pub struct Map {
    /// The endpoints that there are.
    pub endpoints: HashSet<Name>,
    /// Where events go that went nowhere.
    pub routes: RouteTable,
}

/// A part of a walk.
struct Stretch {
    items: Vec<Item>,
    /// How far it has come; never back.
    cursor: Option<DeliveryId>,
    finished: bool,
}

/// Something that fits.
struct Item {
    head: EventHead,
    /// The delivery that fitted; `None` for an event that went nowhere.
    because: Option<(DeliveryId, Status)>,
    /// Where to, or why nowhere.
    verdict: Result<Name, Skip>,
}

/// How a replay's deliveries have fared, from their count.
#[must_use]
pub fn fared(tally: &Tally) -> Fared {
    Fared {
        open: tally.scheduled + tally.retrying,
        retrying: tally.retrying,
        delivered: tally.delivered,
        dead: tally.dead,
        withdrawn: tally.cancelled + tally.expired,
    }
}

impl Map {
    /// The next slice of a replay's work, of about `limit` deliveries, to be committed.
    ///
    /// Where the newest go first it makes deliveries of one event only: those of one commit are due at the same time,
    /// and then the oldest goes first.
    pub fn advance(
        &self,
        journal: &dyn Journal,
        replay: &Replay,
        now: Timestamp,
        limit: usize,
    ) -> Result<Advance, JournalError> {
        let Stretch { items: walked, mut cursor, mut finished } = self.stretch(journal, replay, now, limit)?;
        let (mut items, mut skipped) = (Vec::<(EventId, Name)>::new(), Skipped::default());
        for Item { head, verdict, .. } in walked {
            if replay.terms.newest_first
                && let Some((made, _)) = items.last()
                && *made != head.id
            {
                (cursor, finished) = (Some(made.delivery(0)), false);
                break;
            }
            match verdict {
                Ok(to) => items.push((head.id, to)),
                Err(skip) => skipped.count(skip),
            }
        }
        Ok(Advance { id: replay.id, cursor, items, skipped, at: now, finished })
    }

    /// The next part of the walk behind the replay's cursor, of about `limit` items.
    fn stretch(
        &self,
        journal: &dyn Journal,
        replay: &Replay,
        now: Timestamp,
        limit: usize,
    ) -> Result<Stretch, JournalError> {
        if replay.filter.unrouted {
            self.events(journal, replay, now, limit)
        } else {
            self.deliveries(journal, replay, now, limit)
        }
    }

    /// Counts the next part of the walk, and moves the replay on; whether that was the last one.
    pub(super) fn count(
        &self,
        journal: &dyn Journal,
        (replay, plan): (&mut Replay, &mut Plan),
        now: Timestamp,
    ) -> Result<bool, JournalError> {
        /// Looked at in one go.
        const STRETCH: usize = 1000;
        // What would have been made of an event: none is made twice.
        let mut made: (Option<EventId>, HashSet<Name>) = Default::default();
        let stretch = self.stretch(journal, replay, now, STRETCH)?;
        for Item { head, because, verdict } in stretch.items {
            if made.0 != Some(head.id) {
                made = (Some(head.id), HashSet::new());
            }
            match verdict {
                Err(skip) => plan.skip(skip),
                Ok(to) if !made.1.insert(to.clone()) => plan.skip(Skip::Waiting),
                Ok(to) => plan.make(now, &head, because, &to),
            }
        }
        replay.cursor = stretch.cursor;
        Ok(stretch.finished)
    }

    fn events(
        &self,
        journal: &dyn Journal,
        replay: &Replay,
        now: Timestamp,
        limit: usize,
    ) -> Result<Stretch, JournalError> {
        let newest_first = replay.terms.newest_first;
        let (filter, after) = (replay.filter.clone(), replay.cursor.map(|cursor| cursor.event));
        let page = journal.events(&Query { filter, after, newest_first, limit })?;
        let behind = if newest_first { 0 } else { u16::MAX };
        let mut items = Vec::new();
        let mut last = None;
        for EventView { head, has_payload, .. } in page.items {
            if items.len() >= limit {
                // One event goes to many: the others of the page come next.
                let cursor = last.map(|id: EventId| id.delivery(behind));
                return Ok(Stretch { items, cursor, finished: false });
            }
            last = Some(head.id);
            if head.id >= replay.freeze.before {
                continue;
            }
            let routed = || self.routes.fan_out(&head.source, &head.event_type);
            let targets = replay.to.as_ref().map_or_else(routed, |to| vec![to.clone()]);
            let none = targets.is_empty().then_some(Err(Skip::Nowhere));
            for target in targets.into_iter().map(Ok).chain(none) {
                let kept = if has_payload { target } else { Err(Skip::BodyGone) };
                let verdict = kept.and_then(|to| self.judge(replay, now, &head, to));
                items.push(Item { head: head.clone(), because: None, verdict });
            }
        }
        let cursor = page.next.or(last).map(|id| id.delivery(behind)).or(replay.cursor);
        let finished = page.next.is_none() || is_past(replay, cursor);
        Ok(Stretch { items, cursor, finished })
    }

    fn deliveries(
        &self,
        journal: &dyn Journal,
        replay: &Replay,
        now: Timestamp,
        limit: usize,
    ) -> Result<Stretch, JournalError> {
        let newest_first = replay.terms.newest_first;
        let filter = replay.filter.clone();
        let page = journal.deliveries(&Query { filter, after: replay.cursor, newest_first, limit })?;
        let cursor = page.next.or(page.items.last().map(|(_, delivery)| delivery.id)).or(replay.cursor);
        let mut items = Vec::new();
        for (head, delivery) in page.items {
            if !replay.freeze.admits(&head, &delivery) || delivery.replay == Some(replay.id) {
                continue;
            }
            let to = replay.to.clone().unwrap_or_else(|| delivery.endpoint.clone());
            let verdict = match self.judge(replay, now, &head, to) {
                _ if !delivery.has_payload => Err(Skip::BodyGone),
                Ok(to) => obstacle(journal, replay, &delivery, &to)?.map_or(Ok(to), Err),
                too_old_or_nowhere => too_old_or_nowhere,
            };
            items.push(Item { head, because: Some((delivery.id, delivery.status())), verdict });
        }
        let finished = page.next.is_none() || is_past(replay, cursor);
        Ok(Stretch { items, cursor, finished })
    }

    fn judge(&self, replay: &Replay, now: Timestamp, head: &EventHead, to: Name) -> Result<Name, Skip> {
        if replay.terms.is_too_old(now, head) {
            return Err(Skip::TooOld);
        }
        if self.endpoints.contains(&to) { Ok(to) } else { Err(Skip::Nowhere) }
    }
}

/// What else became of the delivery's event at `to` that leaves nothing to do.
fn obstacle(
    journal: &dyn Journal,
    replay: &Replay,
    delivery: &Delivery,
    to: &Name,
) -> Result<Option<Skip>, JournalError> {
    let is_elsewhere = *to != delivery.endpoint;
    // The last one to its endpoint has none after it: no need to look.
    if !delivery.superseded && !is_elsewhere {
        return Ok((!delivery.state.is_terminal()).then_some(Skip::Waiting));
    }
    let view = journal.entry(delivery.id.event)?;
    let others = view.into_iter().flat_map(|view| view.deliveries).filter(|other| other.endpoint == *to);
    let mut is_delivered_later = false;
    for other in others {
        if !other.state.is_terminal() || other.replay == Some(replay.id) {
            return Ok(Some(Skip::Waiting));
        }
        let is_later = is_elsewhere || other.id > delivery.id;
        is_delivered_later |= is_later && other.status() == Status::Delivered;
    }
    Ok((replay.terms.skip_if_delivered_later && is_delivered_later).then_some(Skip::DeliveredLater))
}

/// Whether a walk from the oldest on has come to what is behind the freeze.
fn is_past(replay: &Replay, cursor: Option<DeliveryId>) -> bool {
    !replay.terms.newest_first && cursor.is_some_and(|cursor| cursor.event >= replay.freeze.before)
}
