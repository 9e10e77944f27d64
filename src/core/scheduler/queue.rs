//! A queue: what one endpoint has to send, bounded.
//!
//! First-time deliveries come in the order of their events and are found again in the journal by a
//! cursor: everything up to `after` is held here, on its way, set aside, or done. Waiting ones (retries,
//! replays) are the earliest due; later ones may stand in the journal only. Absent: when anything may go,
//! which is the lane's matter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::hash::OwnMap;
use super::{Active, Fresh};
use crate::core::id::{DeliveryId, EventId};
use crate::core::timestamp::Timestamp;

#[derive(Debug)]
pub(super) struct Queue {
    fresh_max: usize,
    waiting_max: usize,
    fresh: VecDeque<Active>,
    /// First-time ones that had to wait for another and may go now; earlier than all of `fresh`.
    ready: BTreeMap<DeliveryId, Active>,
    /// Events up to this one are held, on their way, set aside, or done.
    after: EventId,
    /// Set while first-time deliveries after `after` may stand in the journal only: the newest known.
    behind: Option<EventId>,
    waiting: BTreeSet<Active>,
    /// Waiting ones that go when no other is to go; empty where an order is kept.
    yielding: BTreeSet<Active>,
    may_yield: bool,
    /// The due time of each of `waiting` and `yielding`.
    dues: OwnMap<DeliveryId, Timestamp>,
    /// Waiting deliveries due at or after this may stand in the journal only.
    horizon: Option<Timestamp>,
    /// The earliest one left to the journal while the journal was being asked.
    missed: Option<Timestamp>,
    /// While the journal is asked for first-time deliveries: what was cancelled since.
    asking_fresh: Option<BTreeSet<DeliveryId>>,
    /// While the journal is asked for waiting ones: what was cancelled or settled since.
    asking_waiting: Option<BTreeSet<DeliveryId>>,
}

impl Queue {
    pub(super) fn new(mark: EventId, fresh_max: usize, waiting_max: usize, may_yield: bool) -> Self {
        Self {
            fresh_max,
            waiting_max,
            fresh: VecDeque::new(),
            ready: BTreeMap::new(),
            after: mark,
            behind: Some(EventId::MIN),
            waiting: BTreeSet::new(),
            yielding: BTreeSet::new(),
            may_yield,
            dues: OwnMap::default(),
            horizon: Some(Timestamp::ZERO),
            missed: None,
            asking_fresh: None,
            asking_waiting: None,
        }
    }

    /// A new event's delivery. `is_gone`: it is being cancelled. Whether it is held; otherwise it is not wanted, or
    /// stands in the journal only.
    pub(super) fn push_fresh(&mut self, active: Active, is_gone: bool) -> bool {
        let event = active.id.event;
        if event <= self.after {
            return true; // a refill has already brought it
        }
        if self.behind.is_some() || self.fresh.len() >= self.fresh_max {
            self.behind = self.behind.max(Some(event));
            return false;
        }
        self.after = event;
        if !is_gone {
            self.fresh.push_back(active);
        }
        !is_gone
    }

    /// A first-time delivery that was set aside may go.
    pub(super) fn push_ready(&mut self, active: Active) {
        self.ready.insert(active.id, active);
    }

    /// Whether a waiting delivery due then would be the latest held here, while earlier ones may stand in the journal.
    pub(super) fn is_beyond(&self, due: Timestamp) -> bool {
        let is_latest = self.last().is_none_or(|last| due >= last.due);
        is_latest && self.horizon.is_some_and(|horizon| due >= horizon)
    }

    /// Holds a waiting delivery. If there are too many, `others` held elsewhere, the latest is left to the journal: that
    /// one.
    pub(super) fn insert_waiting(&mut self, active: Active, others: usize) -> Option<Active> {
        if active.yields && self.may_yield {
            self.yielding.insert(active)
        } else {
            self.waiting.insert(active)
        };
        self.dues.insert(active.id, active.due);
        if self.waiting_len() + others <= self.waiting_max {
            return None;
        }
        let last = *self.last()?;
        self.take_waiting(&last);
        self.leave_to_journal(last.due);
        Some(last)
    }

    /// Something waits from `due` on that stands in the journal only.
    pub(super) fn leave_to_journal(&mut self, due: Timestamp) {
        self.horizon = earlier(self.horizon, due);
        if self.asking_waiting.is_some() {
            self.missed = earlier(self.missed, due);
        }
    }

    /// The earliest first-time delivery.
    pub(super) fn first_fresh(&self) -> Option<&Active> {
        self.ready.values().next().or_else(|| self.fresh.front())
    }

    pub(super) fn pop_fresh(&mut self) -> Option<Active> {
        self.ready.pop_first().map(|(_, active)| active).or_else(|| self.fresh.pop_front())
    }

    /// The waiting delivery that is due first.
    pub(super) fn first_waiting(&self) -> Option<&Active> {
        self.waiting.first()
    }

    pub(super) fn pop_waiting(&mut self) -> Option<Active> {
        let active = *self.waiting.first()?;
        self.take_waiting(&active)
    }

    /// The one of those that yield which is due first.
    pub(super) fn first_yielding(&self) -> Option<&Active> {
        self.yielding.first()
    }

    pub(super) fn pop_yielding(&mut self) -> Option<Active> {
        let active = *self.yielding.first()?;
        self.take_waiting(&active)
    }

    /// The latest due of all that wait here.
    fn last(&self) -> Option<&Active> {
        self.waiting.last().max(self.yielding.last())
    }

    fn take_waiting(&mut self, active: &Active) -> Option<Active> {
        self.dues.remove(&active.id);
        self.waiting.take(active).or_else(|| self.yielding.take(active))
    }

    /// Takes it out, wherever it is held.
    pub(super) fn remove(&mut self, id: DeliveryId) -> Option<Active> {
        if let Some(active) = self.ready.remove(&id) {
            return Some(active);
        }
        if let Ok(at) = self.fresh.binary_search_by_key(&id, |active| active.id) {
            return self.fresh.remove(at);
        }
        let active = self.find_waiting(id)?;
        self.take_waiting(&active)
    }

    /// It, if it is held here.
    pub(super) fn find(&self, id: DeliveryId) -> Option<Active> {
        let fresh = || self.fresh.binary_search_by_key(&id, |active| active.id).ok().and_then(|at| self.fresh.get(at));
        self.ready.get(&id).or_else(fresh).copied().or_else(|| self.find_waiting(id))
    }

    fn find_waiting(&self, id: DeliveryId) -> Option<Active> {
        let due = self.dues.get(&id).copied()?;
        let from = Active { due, since: Timestamp::ZERO, ..Active::fresh(id, Timestamp::ZERO, None) };
        let among = |set: &BTreeSet<Active>| set.range(from..).next().copied().filter(|active| active.id == id);
        among(&self.waiting).or_else(|| among(&self.yielding))
    }

    /// It was cancelled or its outcome is on disk: what the journal was asked before may still name it.
    pub(super) fn note_gone(&mut self, id: DeliveryId) {
        for gone in [&mut self.asking_fresh, &mut self.asking_waiting].into_iter().flatten() {
            gone.insert(id);
        }
    }

    /// Whether the journal is being asked for any.
    pub(super) const fn is_asking(&self) -> bool {
        self.asking_fresh.is_some() || self.asking_waiting.is_some()
    }

    /// Whether every waiting delivery there is, is known here or to the lines.
    pub(super) const fn knows_all_waiting(&self) -> bool {
        self.horizon.is_none()
    }

    /// No first-time delivery up to this event is still to come out of the queue.
    pub(super) fn looked_at(&self) -> EventId {
        match (self.fresh.front(), self.behind) {
            (Some(first), _) => EventId::from_u128(first.id.event.as_u128().saturating_sub(1)),
            (None, Some(_)) => self.after,
            (None, None) => EventId::MAX,
        }
    }

    /// How many more first-time deliveries the journal should be asked for, and after which event.
    pub(super) fn ask_fresh(&mut self) -> Option<(EventId, usize)> {
        if !self.wants_fresh() {
            return None;
        }
        self.asking_fresh = Some(BTreeSet::new());
        Some((self.after, self.fresh_max - self.fresh.len()))
    }

    /// How many of the waiting deliveries the journal should be asked for.
    pub(super) fn ask_waiting(&mut self, aside: usize, in_flight: usize) -> Option<usize> {
        if !self.wants_waiting(aside, in_flight) {
            return None;
        }
        self.asking_waiting = Some(BTreeSet::new());
        // What is held elsewhere may still stand in the journal's list: ask for that many more.
        Some(self.waiting_max + aside + in_flight)
    }

    pub(super) fn wants_fresh(&self) -> bool {
        self.behind.is_some() && self.asking_fresh.is_none() && self.fresh.len() <= self.fresh_max / 2
    }

    pub(super) fn wants_waiting(&self, aside: usize, in_flight: usize) -> bool {
        let Some(horizon) = self.horizon.filter(|_| self.asking_waiting.is_none()) else { return false };
        let first = self.waiting.first().into_iter().chain(self.yielding.first()).min();
        let comes_first = match first {
            Some(first) => horizon < first.due,
            None => self.has_room_beside(aside),
        };
        comes_first || self.waiting_len() + aside + in_flight <= self.waiting_max / 2
    }

    /// Whether any more waiting deliveries could be held where so many of them wait for others. Without room, what
    /// comes would only be left to the journal again.
    pub(super) const fn has_room_beside(&self, aside: usize) -> bool {
        aside < self.waiting_max
    }

    pub(super) fn refill_fresh(&mut self, fresh: Fresh, is_gone: impl Fn(DeliveryId) -> bool) {
        let gone = self.asking_fresh.take().unwrap_or_default();
        for active in fresh.deliveries {
            assert!(active.id.event > self.after, "the journal answers in order, after the cursor");
            self.after = active.id.event;
            if !gone.contains(&active.id) && !is_gone(active.id) {
                self.fresh.push_back(active);
            }
        }
        self.after = self.after.max(fresh.scanned_to);
        if fresh.end && self.behind.is_none_or(|newest| newest <= self.after) {
            self.behind = None;
        }
    }

    /// The answer is the earliest due; with `end`, all there were when the journal was asked. What of it is new.
    pub(super) fn refill_waiting(
        &mut self,
        answer: &[Active],
        end: bool,
        is_elsewhere: impl Fn(DeliveryId) -> bool,
    ) -> Vec<Active> {
        let gone = self.asking_waiting.take().unwrap_or_default();
        // After a jump of the clock the last one need not be the latest any more.
        let not_in_answer = if end { None } else { answer.iter().map(|active| active.due).max() };
        self.horizon = match self.missed.take() {
            Some(missed) => earlier(not_in_answer, missed),
            None => not_in_answer,
        };
        let is_new = |active: &&Active| {
            let id = active.id;
            !self.dues.contains_key(&id) && !gone.contains(&id) && !is_elsewhere(id)
        };
        answer.iter().filter(is_new).copied().collect()
    }

    /// The earliest event whose first-time delivery is held here.
    pub(super) fn oldest_fresh(&self) -> Option<EventId> {
        self.first_fresh().map(|active| active.id.event)
    }

    /// Events up to this one are held, on their way, set aside, or done.
    pub(super) const fn after(&self) -> EventId {
        self.after
    }

    /// The same, where every event up to `newest` was told.
    pub(super) fn known_to(&self, newest: EventId) -> EventId {
        if self.behind.is_none() { self.after.max(newest) } else { self.after }
    }

    pub(super) fn fresh_len(&self) -> usize {
        self.fresh.len() + self.ready.len()
    }

    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len() + self.yielding.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.ready.is_empty() && self.waiting_len() == 0
    }

    /// Whether more of either kind may stand in the journal only.
    pub(super) const fn is_behind(&self) -> bool {
        self.behind.is_some() || self.horizon.is_some()
    }

    /// The wall clock jumped. What stands in the journal has the old clock's times: it is asked for again.
    pub(super) fn shift(&mut self, by: i64) {
        for set in [&mut self.waiting, &mut self.yielding] {
            *set = std::mem::take(set).into_iter().map(|active| active.shifted(by)).collect();
        }
        self.dues = self.waiting.iter().chain(&self.yielding).map(|active| (active.id, active.due)).collect();
        self.fresh.iter_mut().chain(self.ready.values_mut()).for_each(|active| *active = active.shifted(by));
        if self.horizon.is_some() {
            self.leave_to_journal(Timestamp::ZERO);
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(one.map_or(other, |one| one.min(other)))
}
