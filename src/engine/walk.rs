//! A replay's walk: what of the journal it comes to next, and what it would make of it.
//!
//! Plans and replays walk the same way, so that a plan tells what the replay does.

use std::collections::HashSet;

use crate::core::delivery::{Delivery, Status};
use crate::core::event::EventHead;
use crate::core::id::{DeliveryId, EventId};
use crate::core::name::Name;
use crate::core::replay::{Plan, Replay, Skip};
use crate::core::route::RouteTable;
use crate::core::timestamp::Timestamp;
use crate::journal::{EventView, Journal, JournalError, Query};

/// Where deliveries can go by the config of now.
pub(super) struct Map {
    pub(super) endpoints: HashSet<Name>,
    pub(super) routes: RouteTable,
}

/// A part of a walk.
pub(super) struct Stretch {
    pub(super) items: Vec<Item>,
    /// How far it has come; never back.
    pub(super) cursor: Option<DeliveryId>,
    pub(super) finished: bool,
}

/// Something that fits.
pub(super) struct Item {
    pub(super) head: EventHead,
    /// The delivery that fitted; `None` for an event that went nowhere.
    because: Option<(DeliveryId, Status)>,
    /// Where to, or why nowhere.
    pub(super) verdict: Result<Name, Skip>,
    /// Whether one of the event is waiting there already.
    is_waiting: bool,
}

impl Map {
    /// The next part of the walk behind the replay's cursor, of about `limit` items.
    pub(super) fn stretch(
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

    /// Everything, counted.
    pub(super) fn plan(&self, journal: &dyn Journal, mut replay: Replay, now: Timestamp) -> Result<Plan, JournalError> {
        /// Looked at in one go.
        const STRETCH: usize = 1000;
        let mut plan = Plan::default();
        loop {
            let stretch = self.stretch(journal, &replay, now, STRETCH)?;
            for Item { head, because, verdict, is_waiting } in stretch.items {
                match verdict {
                    Err(skip) => plan.skip(skip),
                    Ok(_) if is_waiting => plan.skip_waiting(),
                    Ok(to) => plan.make(now, &head, because, &to),
                }
            }
            replay.cursor = stretch.cursor;
            if stretch.finished {
                return Ok(plan);
            }
        }
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
        let last = page.next.or(page.items.last().map(|view| view.head.id));
        let behind = if newest_first { 0 } else { u16::MAX };
        let cursor = last.map(|id| id.delivery(behind)).or(replay.cursor);
        let mut items = Vec::new();
        for EventView { head, .. } in page.items.into_iter().filter(|view| is_older(view.head.id, replay)) {
            let routed = || self.routes.fan_out(&head.source, &head.event_type);
            let targets = replay.to.as_ref().map_or_else(routed, |to| vec![to.clone()]);
            let none = targets.is_empty().then_some(Err(Skip::Nowhere));
            for target in targets.into_iter().map(Ok).chain(none) {
                let verdict = target.and_then(|to| self.judge(replay, now, &head, to));
                items.push(Item { head: head.clone(), because: None, verdict, is_waiting: false });
            }
        }
        Ok(Stretch { items, cursor, finished: page.next.is_none() })
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
            // What was made since the replay began, by itself or by hand, is not what was asked for.
            let is_meant = delivery.born_at <= replay.created_at && delivery.replay != Some(replay.id);
            if !is_meant || !is_older(head.id, replay) {
                continue;
            }
            let to = replay.to.clone().unwrap_or_else(|| delivery.endpoint.clone());
            let fate = self.fate(journal, replay, &delivery, &to)?;
            let judged = self.judge(replay, now, &head, to);
            let verdict = if fate.is_delivered_later { judged.and(Err(Skip::DeliveredLater)) } else { judged };
            let because = Some((delivery.id, delivery.status()));
            items.push(Item { head, because, verdict, is_waiting: fate.is_waiting });
        }
        Ok(Stretch { items, cursor, finished: page.next.is_none() })
    }

    fn judge(&self, replay: &Replay, now: Timestamp, head: &EventHead, to: Name) -> Result<Name, Skip> {
        if replay.terms.is_too_old(now, head) {
            return Err(Skip::TooOld);
        }
        if self.endpoints.contains(&to) { Ok(to) } else { Err(Skip::Nowhere) }
    }

    /// What else became of the delivery's event at `to`.
    fn fate(
        &self,
        journal: &dyn Journal,
        replay: &Replay,
        delivery: &Delivery,
        to: &Name,
    ) -> Result<Fate, JournalError> {
        let is_elsewhere = *to != delivery.endpoint;
        // The last one to its endpoint has none after it: no need to look.
        if !delivery.superseded && !is_elsewhere {
            return Ok(Fate { is_waiting: !delivery.state.is_terminal(), is_delivered_later: false });
        }
        let view = journal.entry(delivery.id.event)?;
        let others = view.into_iter().flat_map(|view| view.deliveries).filter(|other| other.endpoint == *to);
        let others: Vec<Delivery> = others.collect();
        let is_later = |other: &Delivery| is_elsewhere || other.id > delivery.id;
        let is_there = others.iter().any(|other| is_later(other) && other.status() == Status::Delivered);
        Ok(Fate {
            is_waiting: others.iter().any(|other| !other.state.is_terminal()),
            is_delivered_later: replay.terms.skip_if_delivered_later && is_there,
        })
    }
}

struct Fate {
    is_waiting: bool,
    is_delivered_later: bool,
}

/// Whether an event was there when the replay was asked for. Both ids come from one source that only grows,
/// so this holds even where the clock stepped back.
const fn is_older(event: EventId, replay: &Replay) -> bool {
    event.as_u128() < replay.id.as_u128()
}
