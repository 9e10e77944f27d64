//! A lane: what one endpoint has waiting, bounded.
//!
//! First-time deliveries come in the order of their events and are found again in the journal by a
//! cursor: everything up to `after` is held here, on its way, or done. Waiting ones (retries, replays)
//! are the earliest due; later ones may stand in the journal only.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Active, Fresh, LaneView, Refill};
use crate::core::delivery::Reason;
use crate::core::endpoint::Endpoint;
use crate::core::id::{DeliveryId, EventId};
use crate::core::timestamp::Timestamp;

/// How long a throttled endpoint that names no time is left alone.
const HOLD_DEFAULT: Duration = Duration::from_secs(1);

/// What a lane has to say when it is its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Send this.
    Send { active: Active, first_time: bool },
    /// Nothing before then.
    Wait { until: Timestamp },
    /// Nothing until something changes.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) endpoint: Endpoint,
    pub(super) in_turn: bool,
    pub(super) alarm: Option<Timestamp>,
    active_max: usize,
    fresh: VecDeque<Active>,
    /// Events up to this one are held, on their way, or done.
    after: EventId,
    /// Set while first-time deliveries after `after` may stand in the journal only: the newest known.
    behind: Option<EventId>,
    waiting: BTreeSet<Active>,
    /// Waiting deliveries due at or after this may stand in the journal only.
    horizon: Option<Timestamp>,
    /// The earliest one left to the journal while the journal was being asked.
    missed: Option<Timestamp>,
    /// While the journal is asked for first-time deliveries: what was cancelled since.
    refilling_fresh: Option<BTreeSet<DeliveryId>>,
    /// While the journal is asked for waiting ones: what was cancelled or settled since.
    refilling_waiting: Option<BTreeSet<DeliveryId>>,
    /// Taken out to be cancelled; until that is on disk they are neither sent nor passed by the mark.
    cancelling: BTreeSet<DeliveryId>,
    first_flights: BTreeSet<EventId>,
    in_flight: usize,
    held_until: Timestamp,
    waiting_goes_next: bool,
}

impl Lane {
    pub(super) fn new(endpoint: Endpoint, mark: EventId, active_max: usize) -> Self {
        assert!(endpoint.concurrency.min > 0, "an endpoint with no slot would wait for ever");
        Self {
            endpoint,
            in_turn: false,
            alarm: None,
            active_max,
            fresh: VecDeque::new(),
            after: mark,
            behind: Some(EventId::MIN),
            waiting: BTreeSet::new(),
            horizon: Some(Timestamp::ZERO),
            missed: None,
            refilling_fresh: None,
            refilling_waiting: None,
            cancelling: BTreeSet::new(),
            first_flights: BTreeSet::new(),
            in_flight: 0,
            held_until: Timestamp::ZERO,
            waiting_goes_next: false,
        }
    }

    pub(super) fn push_fresh(&mut self, active: Active) {
        let event = active.id.event;
        if event <= self.after {
            return; // a refill has already brought it
        }
        if self.behind.is_some() || self.fresh.len() >= self.active_max {
            self.behind = self.behind.max(Some(event));
        } else {
            self.after = event;
            if !self.cancelling.contains(&active.id) {
                self.fresh.push_back(active);
            }
        }
    }

    /// Holds a waiting delivery, or leaves it to the journal if earlier ones fill the lane.
    pub(super) fn push_waiting(&mut self, active: Active) {
        if self.horizon.is_some_and(|horizon| active.due >= horizon) {
            self.leave_to_journal(active.due);
        } else {
            self.insert_waiting(active);
        }
    }

    fn insert_waiting(&mut self, active: Active) {
        self.waiting.insert(active);
        if self.waiting.len() > self.active_max
            && let Some(last) = self.waiting.pop_last()
        {
            self.leave_to_journal(last.due);
        }
    }

    /// Something waits from `due` on that stands in the journal only.
    pub(super) fn leave_to_journal(&mut self, due: Timestamp) {
        self.horizon = earlier(self.horizon, due);
        if self.refilling_waiting.is_some() {
            self.missed = earlier(self.missed, due);
        }
    }

    pub(super) fn take(&mut self, now: Timestamp) -> Take {
        if self.in_flight >= self.endpoint.concurrency.max {
            return Take::Nothing;
        }
        if self.held_until > now {
            return Take::Wait { until: self.held_until };
        }
        let waiting_due = self.waiting.first().map(|first| first.due);
        let waiting_is_due = waiting_due.is_some_and(|due| due <= now);
        let waiting_first = waiting_is_due && self.waiting_goes_next;
        let first_time = !waiting_first && !self.fresh.is_empty();
        let taken = if first_time {
            self.fresh.pop_front()
        } else if waiting_is_due {
            self.waiting.pop_first()
        } else {
            None
        };
        match (taken, waiting_due) {
            (Some(active), _) => {
                self.depart(active, first_time);
                Take::Send { active, first_time }
            }
            (None, Some(until)) => Take::Wait { until },
            (None, None) => Take::Nothing,
        }
    }

    fn depart(&mut self, active: Active, first_time: bool) {
        self.waiting_goes_next = first_time;
        self.in_flight += 1;
        if first_time {
            self.first_flights.insert(active.id.event);
        }
    }

    /// A flight's outcome is on disk.
    pub(super) fn land(&mut self, active: Active, first_time: bool) {
        assert!(self.in_flight > 0, "what lands was on its way");
        self.in_flight -= 1;
        if first_time {
            self.first_flights.remove(&active.id.event);
        }
        if let Some(gone) = &mut self.refilling_waiting {
            gone.insert(active.id);
        }
    }

    pub(super) fn begin_cancel(&mut self, id: DeliveryId) {
        self.fresh.retain(|active| active.id != id);
        self.waiting.retain(|active| active.id != id);
        self.cancelling.insert(id);
    }

    /// Its cancellation is on disk. What the journal was asked before may still name it.
    pub(super) fn end_cancel(&mut self, id: DeliveryId) {
        self.cancelling.remove(&id);
        for gone in [&mut self.refilling_fresh, &mut self.refilling_waiting].into_iter().flatten() {
            gone.insert(id);
        }
    }

    pub(super) fn hold(&mut self, now: Timestamp, retry_after: Option<Duration>) {
        let span = retry_after.unwrap_or(HOLD_DEFAULT).min(self.endpoint.retry.retry_after_max);
        self.held_until = self.held_until.max(now.after(span));
    }

    /// Why a permanent outcome is permanent: 410 is the only status that no policy has to name.
    pub(super) const fn permanent_reason(status: Option<u16>) -> Reason {
        match status {
            Some(410) => Reason::Gone,
            Some(_) => Reason::Rejected,
            None => Reason::Lost,
        }
    }

    /// Whether a turn could be of use: there is something, and a slot for it.
    pub(super) fn may_send(&self) -> bool {
        self.in_flight < self.endpoint.concurrency.max && !(self.fresh.is_empty() && self.waiting.is_empty())
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.wants_fresh() || self.wants_waiting()
    }

    fn wants_fresh(&self) -> bool {
        self.behind.is_some() && self.refilling_fresh.is_none() && self.fresh.len() <= self.active_max / 2
    }

    fn wants_waiting(&self) -> bool {
        let Some(horizon) = self.horizon.filter(|_| self.refilling_waiting.is_none()) else { return false };
        let comes_first = self.waiting.first().is_none_or(|first| horizon < first.due);
        comes_first || self.waiting.len() <= self.active_max / 2
    }

    pub(super) fn next_refill(&mut self) -> Option<Refill> {
        let endpoint = self.endpoint.name.clone();
        if self.wants_fresh() {
            self.refilling_fresh = Some(BTreeSet::new());
            let limit = self.active_max - self.fresh.len();
            return Some(Refill::Fresh { endpoint, after: self.after, limit });
        }
        if self.wants_waiting() {
            self.refilling_waiting = Some(BTreeSet::new());
            // What is on its way may still stand in the journal's list: ask for that many more.
            return Some(Refill::Waiting { endpoint, limit: self.active_max + self.in_flight });
        }
        None
    }

    pub(super) fn refill_fresh(&mut self, fresh: Fresh) {
        let gone = self.refilling_fresh.take().unwrap_or_default();
        for active in fresh.deliveries {
            assert!(active.id.event > self.after, "the journal answers in order, after the cursor");
            self.after = active.id.event;
            if !gone.contains(&active.id) && !self.cancelling.contains(&active.id) {
                self.fresh.push_back(active);
            }
        }
        self.after = self.after.max(fresh.scanned_to);
        if fresh.end && self.behind.is_none_or(|newest| newest <= self.after) {
            self.behind = None;
        }
    }

    /// The answer is the earliest due; with `end`, all there were when the journal was asked.
    pub(super) fn refill_waiting(&mut self, answer: &[Active], end: bool, is_on_its_way: impl Fn(DeliveryId) -> bool) {
        let gone = self.refilling_waiting.take().unwrap_or_default();
        let not_in_answer = if end { None } else { answer.last().map(|last| last.due) };
        self.horizon = match self.missed.take() {
            Some(missed) => earlier(not_in_answer, missed),
            None => not_in_answer,
        };
        let held: BTreeSet<DeliveryId> = self.waiting.iter().map(|active| active.id).collect();
        for active in answer {
            let id = active.id;
            let taken = held.contains(&id) || gone.contains(&id) || self.cancelling.contains(&id) || is_on_its_way(id);
            if !taken {
                self.insert_waiting(*active);
            }
        }
    }

    pub(super) fn mark(&self) -> EventId {
        let oldest_cancelling = self.cancelling.first().map(|id| id.event);
        let oldest_held = self.fresh.front().map(|active| active.id.event);
        let oldest_flight = self.first_flights.first().copied();
        match oldest_held.into_iter().chain(oldest_flight).chain(oldest_cancelling).min() {
            Some(oldest) => EventId::from_u128(oldest.as_u128().saturating_sub(1)).min(self.after),
            None => self.after,
        }
    }

    pub(super) fn view(&self) -> LaneView {
        LaneView {
            endpoint: self.endpoint.name.clone(),
            in_flight: self.in_flight,
            fresh: self.fresh.len(),
            waiting: self.waiting.len(),
            behind: self.behind.is_some() || self.horizon.is_some(),
            held_until: Some(self.held_until).filter(|until| *until > Timestamp::ZERO),
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(one.map_or(other, |one| one.min(other)))
}
