//! The scheduler decides which delivery goes next. It performs nothing.
//!
//! Every endpoint has a [`Lane`](lane): a bounded active set of deliveries, the first-time ones in the
//! order received and the waiting ones by due time. What does not fit stays in the journal and is asked
//! for again as the set drains ([`Scheduler::poll_refill`]), so a backlog of millions costs no memory.
//! Lanes that may have something to send take turns; one that has nothing costs nothing.
//!
//! Decide, commit, release: [`Scheduler::handle_outcome`] decides what an attempt's outcome means, the
//! caller commits that, and only [`Scheduler::handle_settled`] frees the slot. A crash in between repeats
//! the attempt; it never loses a retry.
//!
//! Promises: no lane exceeds its endpoint's concurrency; no lane starves another (round robin); due
//! retries and first-time deliveries alternate. Absent, with their place kept: the circuit and the
//! window are asked in [`lane`]'s `admit`, key order in its `take`.

pub mod lane;

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::core::attempt::{Attempt, Outcome, Reply};
use crate::core::delivery::{Reason, Step};
use crate::core::endpoint::Endpoint;
use crate::core::event::KeyTag;
use crate::core::id::{DeliveryId, EventId};
use crate::core::name::Name;
use crate::core::retry::Failed;
use crate::core::timestamp::Timestamp;
use lane::{Lane, Take};

/// Bounds on what the scheduler holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most first-time and most waiting deliveries held per endpoint.
    pub active_max: usize,
    /// Most attempts on their way over all endpoints.
    pub in_flight_max: usize,
}

/// A delivery that the scheduler holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Active {
    /// Not before this.
    pub due: Timestamp,
    /// Which one.
    pub id: DeliveryId,
    /// Since when it waits for that.
    pub since: Timestamp,
    /// Attempts made.
    pub attempts: u32,
    /// Of those, probes that failed: they spent nothing.
    pub probes: u32,
    /// When it came to be.
    pub born_at: Timestamp,
    /// When it was first tried, once it was.
    pub tried_at: Option<Timestamp>,
    /// Its event's key.
    pub key: Option<KeyTag>,
}

impl Active {
    /// A first-time delivery of an event received just now.
    #[must_use]
    pub const fn fresh(id: DeliveryId, received_at: Timestamp, key: Option<KeyTag>) -> Self {
        let (due, since, born_at) = (received_at, received_at, received_at);
        Self { due, id, since, attempts: 0, probes: 0, born_at, tried_at: None, key }
    }
}

/// "Send this now."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// What.
    pub id: DeliveryId,
    /// Where to.
    pub endpoint: Name,
    /// Which try this is, from 1.
    pub attempt: u32,
}

/// "Commit this": what an attempt's outcome means for its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Which delivery.
    pub id: DeliveryId,
    /// What happens to it.
    pub step: Step,
    /// Why.
    pub reason: Reason,
}

/// "Ask the journal for more."
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refill {
    /// First-time deliveries to `endpoint` of events after `after`, oldest first.
    Fresh {
        /// Whose.
        endpoint: Name,
        /// Exclusive.
        after: EventId,
        /// At most this many.
        limit: usize,
    },
    /// Deliveries to `endpoint` that wait for a due time, earliest first.
    Waiting {
        /// Whose.
        endpoint: Name,
        /// At most this many.
        limit: usize,
    },
}

/// The journal's answer to [`Refill::Fresh`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// In order of events.
    pub deliveries: Vec<Active>,
    /// Every event up to and including this one was looked at.
    pub scanned_to: EventId,
    /// Whether there was nothing more to look at.
    pub end: bool,
}

/// Why a delivery cannot be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// How a lane stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneView {
    /// Whose lane.
    pub endpoint: Name,
    /// Attempts on their way.
    pub in_flight: usize,
    /// First-time deliveries held in memory.
    pub fresh: usize,
    /// Waiting deliveries held in memory.
    pub waiting: usize,
    /// Whether more of either stands in the journal only.
    pub behind: bool,
    /// The endpoint asked for silence until then.
    pub held_until: Option<Timestamp>,
}

#[derive(Debug)]
struct Flight {
    lane: usize,
    active: Active,
    first_time: bool,
    decided: Option<Step>,
}

/// The state machine. See the module's text.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    lanes: Vec<Lane>,
    by_name: HashMap<Name, usize>,
    /// Lanes that may have something to send, each at most once, next in turn first.
    turn: VecDeque<usize>,
    /// When to look at a lane again, at most one per lane.
    alarms: BTreeSet<(Timestamp, usize)>,
    flights: HashMap<DeliveryId, Flight>,
    /// Lanes that want more from the journal.
    hungry: VecDeque<usize>,
}

impl Scheduler {
    /// A scheduler for these endpoints. Each begins behind its mark: everything after it is asked for.
    #[must_use]
    pub fn new(limits: Limits, endpoints: Vec<(Endpoint, EventId)>) -> Self {
        assert!(limits.active_max > 0 && limits.in_flight_max > 0, "a limit of 0 would stop everything");
        let by_name =
            endpoints.iter().enumerate().map(|(index, (endpoint, _))| (endpoint.name.clone(), index)).collect();
        let lanes: Vec<Lane> =
            endpoints.into_iter().map(|(endpoint, mark)| Lane::new(endpoint, mark, limits.active_max)).collect();
        let hungry = (0..lanes.len()).collect();
        Self { limits, lanes, by_name, turn: VecDeque::new(), alarms: BTreeSet::new(), flights: HashMap::new(), hungry }
    }

    /// An event was committed with a delivery to `endpoint`.
    pub fn handle_accepted(&mut self, id: DeliveryId, endpoint: &Name, received_at: Timestamp) {
        let active = Active::fresh(id, received_at, None);
        self.with_lane(endpoint, |lane| lane.push_fresh(active));
    }

    /// A replay made a delivery of an old event to `endpoint`, due at once.
    ///
    /// It is fetched from the journal: a refill may have brought it already, and nothing goes twice.
    pub fn handle_replayed(&mut self, endpoint: &Name, now: Timestamp) {
        self.with_lane(endpoint, |lane| lane.leave_to_journal(now));
    }

    /// The next delivery to send, if any is due and admitted. Call until `None`.
    pub fn poll_dispatch(&mut self, now: Timestamp) -> Option<Dispatch> {
        self.ring_alarms(now);
        if self.flights.len() >= self.limits.in_flight_max {
            return None;
        }
        while let Some(index) = self.turn.pop_front() {
            let lane = self.lanes.get_mut(index)?;
            lane.in_turn = false;
            match lane.take(now) {
                Take::Send { active, first_time } => {
                    let dispatch =
                        Dispatch { id: active.id, endpoint: lane.endpoint.name.clone(), attempt: active.attempts + 1 };
                    let flight = Flight { lane: index, active, first_time, decided: None };
                    let before = self.flights.insert(active.id, flight);
                    assert!(before.is_none(), "a delivery is on its way at most once");
                    self.look_at(index);
                    return Some(dispatch);
                }
                Take::Wait { until } => self.set_alarm(index, until),
                Take::Nothing => {}
            }
        }
        None
    }

    /// When to call [`Scheduler::poll_dispatch`] again even if nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(due, _)| *due)
    }

    /// What the journal should be asked for next, if anything.
    pub fn poll_refill(&mut self) -> Option<Refill> {
        while let Some(index) = self.hungry.pop_front() {
            if let Some(refill) = self.lanes.get_mut(index).and_then(Lane::next_refill) {
                self.hungry.push_front(index);
                return Some(refill);
            }
        }
        None
    }

    /// The journal's answer to a [`Refill::Fresh`].
    pub fn handle_fresh(&mut self, endpoint: &Name, fresh: Fresh) {
        self.with_lane(endpoint, |lane| lane.refill_fresh(fresh));
    }

    /// The journal's answer to a [`Refill::Waiting`]; `end` if there was nothing more.
    pub fn handle_waiting(&mut self, endpoint: &Name, waiting: &[Active], end: bool) {
        let Some(index) = self.by_name.get(endpoint).copied() else { return };
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.refill_waiting(waiting, end, |id| self.flights.contains_key(&id));
        }
        self.look_at(index);
    }

    /// What an attempt's outcome means for its delivery. Commit it, then call [`Scheduler::handle_settled`].
    ///
    /// `None` if the delivery is not on its way (nothing to commit).
    pub fn handle_outcome(
        &mut self,
        now: Timestamp,
        id: DeliveryId,
        attempt: &Attempt,
        rng: &mut fastrand::Rng,
    ) -> Option<Transition> {
        let flight = self.flights.get_mut(&id).filter(|flight| flight.decided.is_none())?;
        let lane = self.lanes.get_mut(flight.lane)?;
        let retry_after = match &attempt.reply {
            Reply::Answer(answer) => answer.retry_after,
            Reply::Failure(_) => None,
        };
        let failed = Failed { attempt: flight.active.attempts + 1, born_at: flight.active.born_at, retry_after };
        let (step, reason) = match attempt.outcome {
            Outcome::Delivered => (Step::Succeed, Reason::Acknowledged),
            Outcome::Permanent => (Step::GiveUp, Lane::permanent_reason(attempt.status())),
            Outcome::Throttled | Outcome::Retryable | Outcome::MaybeDelivered => {
                lane.endpoint.retry.after_failure(now, failed, rng)
            }
        };
        if attempt.outcome == Outcome::Throttled {
            lane.hold(now, retry_after);
        }
        flight.decided = Some(step);
        Some(Transition { id, step, reason })
    }

    /// The transition of `id` is on disk: its slot is free.
    pub fn handle_settled(&mut self, id: DeliveryId) {
        self.land(id, |lane, active, decided| {
            if let Some(Step::Retry { due }) = decided {
                lane.push_waiting(Active { due, attempts: active.attempts + 1, ..active });
            }
        });
    }

    /// The journal did not take the transition of `id`: it is no longer ours, and its slot is free.
    pub fn handle_dropped(&mut self, id: DeliveryId) {
        self.land(id, |_, _, _| {});
    }

    fn land(&mut self, id: DeliveryId, then: impl FnOnce(&mut Lane, Active, Option<Step>)) {
        let Some(flight) = self.flights.remove(&id) else { return };
        if let Some(lane) = self.lanes.get_mut(flight.lane) {
            lane.land(flight.active, flight.first_time);
            then(lane, flight.active, flight.decided);
        }
        self.look_at(flight.lane);
    }

    /// Takes a waiting delivery out, so that its cancellation can be committed; then call
    /// [`Scheduler::handle_cancelled`]. In between it is not sent, and no mark passes it.
    pub fn handle_cancel(&mut self, id: DeliveryId, endpoint: &Name) -> Result<(), Busy> {
        if self.flights.contains_key(&id) {
            return Err(Busy);
        }
        self.with_lane(endpoint, |lane| lane.begin_cancel(id));
        Ok(())
    }

    /// The cancellation of `id` is decided, and on disk if there was anything to cancel.
    pub fn handle_cancelled(&mut self, id: DeliveryId, endpoint: &Name) {
        self.with_lane(endpoint, |lane| lane.end_cancel(id));
    }

    /// Attempts on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// For each endpoint, the event up to which every first attempt is journaled: where a restart begins.
    pub fn marks(&self) -> impl Iterator<Item = (&Name, EventId)> {
        self.lanes.iter().map(|lane| (&lane.endpoint.name, lane.mark()))
    }

    /// How each lane stands.
    pub fn lanes(&self) -> impl Iterator<Item = LaneView> {
        self.lanes.iter().map(Lane::view)
    }

    fn with_lane(&mut self, endpoint: &Name, change: impl FnOnce(&mut Lane)) {
        // An endpoint that the config no longer names has no lane: its deliveries stay parked in the journal.
        let Some(index) = self.by_name.get(endpoint).copied() else { return };
        if let Some(lane) = self.lanes.get_mut(index) {
            change(lane);
        }
        self.look_at(index);
    }

    /// Something about the lane changed: give it a turn, and let it ask for more.
    fn look_at(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if !lane.in_turn && lane.may_send() {
            lane.in_turn = true;
            self.turn.push_back(index);
        }
        if lane.is_hungry() && !self.hungry.contains(&index) {
            self.hungry.push_back(index);
        }
    }

    fn set_alarm(&mut self, index: usize, due: Timestamp) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if let Some(before) = lane.alarm.replace(due) {
            self.alarms.remove(&(before, index));
        }
        self.alarms.insert((due, index));
    }

    fn ring_alarms(&mut self, now: Timestamp) {
        while let Some((due, index)) = self.alarms.first().copied().filter(|(due, _)| *due <= now) {
            self.alarms.remove(&(due, index));
            if let Some(lane) = self.lanes.get_mut(index) {
                lane.alarm = None;
            }
            self.look_at(index);
        }
    }
}

#[cfg(test)]
mod tests;
