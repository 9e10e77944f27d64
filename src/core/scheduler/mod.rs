//! The scheduler decides which delivery goes next. It performs nothing.
//!
//! Every endpoint has a [`Lane`](lane): a bounded active set of deliveries, the first-time ones in the
//! order received and the waiting ones by due time. What does not fit stays in the journal and is asked
//! for again as the set drains ([`Scheduler::poll_refill`]), so a backlog of millions costs no memory.
//! Lanes that may have something to send take turns; one that has nothing costs nothing.
//!
//! Decide, commit, release: [`Scheduler::handle_outcome`] decides what an attempt's outcome means, the
//! caller commits that, and only [`Scheduler::handle_settled`] frees the slot. A crash in between repeats
//! the attempt; it never loses a retry and never lets a later delivery of its line pass.
//!
//! Promises: no lane exceeds its window, its rate, or what its circuit admits; no lane starves another
//! (round robin, and a fair share of the slots once half of them are taken); due retries and first-time
//! deliveries alternate, and what replays made goes after them, but where an endpoint keeps an order: there it
//! may be what others wait for. In a line nobody goes before an earlier one (see [`lines`]). All times are the
//! wall clock's, because due times outlive the process; when that clock jumps, every wait moves along
//! ([`Scheduler::handle_clock_jump`]).

mod away;
mod change;
mod hash;
mod jumps;
mod lane;
mod lines;
mod queue;
mod view;

use std::collections::{BTreeSet, VecDeque};

use crate::core::attempt::Attempt;
use crate::core::delivery::{Delivery, Reason, Step};
use crate::core::endpoint::Endpoint;
use crate::core::event::KeyTag;
use crate::core::id::{DeliveryId, EventId};
use crate::core::mutant::{self, Mutant};
use crate::core::name::Name;
use crate::core::standing::{Pause, Standing};
use crate::core::timestamp::Timestamp;
use hash::OwnMap;
use lane::{Flight, Lane, Take};
pub use view::{LaneView, On, Wait};

/// Bounds on what the scheduler holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most first-time and most waiting deliveries held per endpoint.
    pub active_max: usize,
    /// Most waiting deliveries held of an endpoint that keeps an order: all of them must be known before a
    /// first-time one may go, so above this those wait. Where as many wait for others, there is no room to learn of
    /// more: then the order is kept among those that are known.
    pub ordered_max: usize,
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
    /// Whether a replay made it, and it was never tried: it goes when nothing else is to go.
    pub yields: bool,
}

impl Active {
    /// A first-time delivery of an event received just now.
    #[must_use]
    pub const fn fresh(id: DeliveryId, received_at: Timestamp, key: Option<KeyTag>) -> Self {
        let (due, since, born_at) = (received_at, received_at, received_at);
        Self { due, id, since, attempts: 0, probes: 0, born_at, tried_at: None, key, yields: false }
    }

    /// It, after the wall clock jumped by so many milliseconds.
    pub(super) fn shifted(self, by: i64) -> Self {
        Self {
            due: self.due.shifted(by),
            since: self.since.shifted(by),
            born_at: self.born_at.shifted(by),
            tried_at: self.tried_at.map(|time| time.shifted(by)),
            ..self
        }
    }
}

/// What a lane begins with.
#[derive(Debug, Clone)]
pub struct Lot {
    /// Where to, and how.
    pub endpoint: Endpoint,
    /// Every first attempt of events up to this one is journaled.
    pub mark: EventId,
    /// How the endpoint stood last.
    pub standing: Standing,
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
    /// Whether it goes to see if the endpoint is back.
    pub probe: bool,
    /// Whether it passes an earlier delivery of its line that has held it for too long.
    pub out_of_order: bool,
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
    /// When the attempt left, by the clock as it is set now.
    pub sent_at: Timestamp,
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
    /// First-time deliveries to `endpoint` of events with this key after `after`, oldest first.
    Line {
        /// Whose.
        endpoint: Name,
        /// The key's tag.
        key: KeyTag,
        /// Exclusive.
        after: EventId,
        /// At most this many.
        limit: usize,
    },
}

/// The journal's answer to [`Refill::Fresh`] and [`Refill::Line`].
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

#[derive(Debug)]
struct Departed {
    lane: usize,
    flight: Flight,
    decided: Option<Step>,
}

/// The state machine. See the module's text.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    lanes: Vec<Lane>,
    by_name: OwnMap<Name, usize>,
    /// Lanes that may have something to send, each at most once, next in turn first.
    turn: VecDeque<usize>,
    /// Lanes that had more than their share of the slots when it was their turn.
    deferred: VecDeque<usize>,
    /// When to look at a lane again, at most one per lane.
    alarms: BTreeSet<(Timestamp, usize)>,
    flights: OwnMap<DeliveryId, Departed>,
    /// Lanes with something on its way.
    busy: usize,
    /// Lanes that want more from the journal.
    hungry: BTreeSet<usize>,
    /// Lanes whose standing is to be remembered.
    changed: BTreeSet<usize>,
    /// The last time that was told.
    seen_at: Timestamp,
    /// The newest event that was told: none before it is still to be told.
    newest: EventId,
}

impl Scheduler {
    /// A scheduler for these endpoints. Each begins behind its mark: everything after it is asked for.
    #[must_use]
    pub fn new(limits: Limits, lots: Vec<Lot>) -> Self {
        let Limits { active_max, ordered_max, in_flight_max } = limits;
        assert!(active_max > 0 && ordered_max > 0 && in_flight_max > 0, "a limit of 0 would stop everything");
        let by_name = lots.iter().enumerate().map(|(index, lot)| (lot.endpoint.name.clone(), index)).collect();
        let lanes: Vec<Lane> = lots.into_iter().map(|lot| Lane::new(lot, limits)).collect();
        let hungry = (0..lanes.len()).collect();
        Self {
            limits,
            lanes,
            by_name,
            turn: VecDeque::new(),
            deferred: VecDeque::new(),
            alarms: BTreeSet::new(),
            flights: OwnMap::default(),
            busy: 0,
            hungry,
            changed: BTreeSet::new(),
            seen_at: Timestamp::ZERO,
            newest: EventId::MIN,
        }
    }

    /// An event was committed with a delivery to `endpoint`. Whether it may go soon; otherwise it is left to the
    /// journal behind others of an endpoint that takes nothing, and its event need not be kept in memory for it.
    pub fn handle_accepted(
        &mut self,
        id: DeliveryId,
        endpoint: &Name,
        received_at: Timestamp,
        key: Option<&str>,
    ) -> bool {
        self.newest = self.newest.max(id.event);
        self.with_lane(endpoint, |lane| lane.accept(id, received_at, key)).unwrap_or(false)
    }

    /// A replay made a delivery of an old event to `endpoint`, due at once.
    ///
    /// It is fetched from the journal: a refill may have brought it already, and nothing goes twice.
    pub fn handle_replayed(&mut self, endpoint: &Name, now: Timestamp) {
        self.with_lane(endpoint, |lane| lane.leave_to_journal(now));
    }

    /// The next delivery to send, if any is due and admitted. Call until `None`.
    pub fn poll_dispatch(&mut self, now: Timestamp) -> Option<Dispatch> {
        self.seen_at = now;
        self.ring_alarms(now);
        if self.flights.len() >= self.limits.in_flight_max {
            return None;
        }
        while let Some(index) = self.turn.pop_front() {
            let lane = self.lanes.get_mut(index)?;
            // With half of the slots taken nobody gets more than a fair share of them: one endpoint that hangs
            // must not hold them all.
            let crowded = self.flights.len() >= self.limits.in_flight_max / 2;
            lane.in_turn = false;
            // One share is always left for whoever has nothing on its way yet.
            if crowded && lane.in_flight() >= (self.limits.in_flight_max / (self.busy + 1)).max(1) {
                if !std::mem::replace(&mut lane.is_deferred, true) {
                    self.deferred.push_back(index);
                }
                continue;
            }
            match lane.take(now) {
                Take::Send(flight) => {
                    self.busy += usize::from(lane.in_flight() == 1);
                    let endpoint = lane.name.clone();
                    return Some(self.send(index, endpoint, flight));
                }
                Take::Wait { until } => self.set_alarm(index, until),
                Take::Nothing => {}
            }
            self.note_hungry(index);
        }
        None
    }

    fn send(&mut self, index: usize, endpoint: Name, flight: Flight) -> Dispatch {
        let Flight { active, is_spared: probe, out_of_order, .. } = flight;
        let before = self.flights.insert(active.id, Departed { lane: index, flight, decided: None });
        assert!(before.is_none(), "a delivery is on its way at most once");
        self.look_at(index);
        Dispatch { id: active.id, endpoint, attempt: active.attempts + 1, probe, out_of_order }
    }

    /// When to call [`Scheduler::poll_dispatch`] again even if nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(due, _)| *due)
    }

    /// What the journal should be asked for next, if anything.
    pub fn poll_refill(&mut self) -> Option<Refill> {
        while let Some(index) = self.hungry.first().copied() {
            if let Some(refill) = self.lanes.get_mut(index).and_then(Lane::next_refill) {
                return Some(refill);
            }
            self.hungry.remove(&index);
        }
        None
    }

    /// An endpoint whose standing has changed, to be remembered on disk. Call until `None`.
    ///
    /// Not waited for: what a crash loses of it is learned again.
    pub fn poll_standing(&mut self) -> Option<(Name, Standing)> {
        let lane = self.lanes.get_mut(self.changed.pop_first()?)?;
        lane.has_news = false;
        Some((lane.name.clone(), lane.standing()))
    }

    /// The journal's answer to a [`Refill::Fresh`].
    pub fn handle_fresh(&mut self, endpoint: &Name, fresh: Fresh) {
        self.with_lane(endpoint, |lane| lane.refill_fresh(fresh));
    }

    /// The journal's answer to a [`Refill::Line`].
    pub fn handle_line(&mut self, endpoint: &Name, key: KeyTag, fresh: Fresh) {
        self.with_lane(endpoint, |lane| lane.refill_line(key, fresh));
    }

    /// The journal's answer to a [`Refill::Waiting`]; `end` if there was nothing more.
    pub fn handle_waiting(&mut self, now: Timestamp, endpoint: &Name, waiting: &[Active], end: bool) {
        let Some(index) = self.by_name.get(endpoint).copied() else { return };
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.refill_waiting(now, waiting, end, |id| self.flights.contains_key(&id));
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
        let departed = self.flights.get_mut(&id).filter(|departed| departed.decided.is_none())?;
        let index = departed.lane;
        let lane = self.lanes.get_mut(index)?;
        let (step, reason) = lane.decide(now, &departed.flight, attempt, rng);
        departed.decided = Some(step);
        let sent_at = departed.flight.sent_at;
        // The circuit may admit others now, though this one's slot is not free yet.
        self.look_at(index);
        Some(Transition { id, step, reason, sent_at })
    }

    /// The transition of `id` is on disk: its slot is free.
    pub fn handle_settled(&mut self, id: DeliveryId) {
        if let Some(departed) = self.flights.remove(&id) {
            self.land(&departed, departed.decided);
        }
    }

    /// The journal did not take the transition of `id`: it is no longer ours, and its slot is free.
    pub fn handle_dropped(&mut self, id: DeliveryId) {
        if let Some(departed) = self.flights.remove(&id) {
            self.land(&departed, None);
        }
    }

    fn land(&mut self, departed: &Departed, decided: Option<Step>) {
        if let Some(lane) = self.lanes.get_mut(departed.lane) {
            if departed.decided.is_none() {
                lane.lose(&departed.flight);
            }
            lane.land(self.seen_at, &departed.flight, decided);
            self.busy -= usize::from(lane.in_flight() == 0);
        }
        // Whose attempt has landed is below its share again, wherever it stands among those who were deferred: they
        // may all be waiting for endpoints that hang.
        self.look_at(departed.lane);
        let crowded = self.flights.len() >= self.limits.in_flight_max / 2;
        let back = if crowded { 1 } else { self.deferred.len() };
        for _ in 0..back {
            let Some(index) = self.deferred.pop_front() else { break };
            if let Some(lane) = self.lanes.get_mut(index) {
                lane.is_deferred = false;
            }
            self.look_at(index);
        }
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
        let now = self.seen_at;
        self.with_lane(endpoint, |lane| lane.end_cancel(now, id));
    }

    /// Nothing more is sent to `endpoint`. It is to be told once [`Scheduler::poll_standing`]'s word of it is on disk.
    pub fn handle_paused(&mut self, endpoint: &Name, pause: Pause) {
        self.with_lane(endpoint, |lane| lane.pause(pause));
    }

    /// The pause of `endpoint` ends, if it is paused: what waits goes, few at first.
    pub fn handle_resumed(&mut self, now: Timestamp, endpoint: &Name) {
        self.with_lane(endpoint, |lane| lane.resume(now));
    }

    /// The wall clock jumped by so many milliseconds: every wait takes as long as it would have.
    pub fn handle_clock_jump(&mut self, by: i64) {
        if mutant::is(Mutant::ClockJumpIgnored) {
            return;
        }
        self.alarms.clear();
        for departed in self.flights.values_mut() {
            departed.flight.sent_at = departed.flight.sent_at.shifted(by);
            departed.flight.active = departed.flight.active.shifted(by);
            if let Some(Step::Retry { due }) = &mut departed.decided {
                *due = due.shifted(by);
            }
        }
        for index in 0..self.lanes.len() {
            if let Some(lane) = self.lanes.get_mut(index) {
                lane.shift(self.seen_at, by);
            }
            self.look_at(index);
        }
        self.seen_at = self.seen_at.shifted(by);
    }

    /// Attempts on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// For each endpoint, the event up to which every first attempt is journaled: where a restart begins.
    pub fn marks(&self) -> impl Iterator<Item = (&Name, EventId)> {
        let mut oldest: Vec<Option<EventId>> = vec![None; self.lanes.len()];
        for Departed { lane, flight, .. } in self.flights.values().filter(|departed| departed.flight.first_time) {
            let event = flight.active.id.event;
            if let Some(oldest) = oldest.get_mut(*lane) {
                *oldest = Some(oldest.map_or(event, |oldest| oldest.min(event)));
            }
        }
        self.lanes.iter().zip(oldest).map(|(lane, oldest)| (&lane.name, lane.mark(self.newest, oldest)))
    }

    /// How each lane stands.
    pub fn lanes(&self, now: Timestamp) -> impl Iterator<Item = LaneView> {
        self.lanes.iter().filter(|lane| lane.is_configured()).map(move |lane| lane.view(now))
    }

    /// How a lane stands; `None` if the config does not have the endpoint.
    #[must_use]
    pub fn lane(&self, now: Timestamp, endpoint: &Name) -> Option<LaneView> {
        let index = self.by_name.get(endpoint).copied()?;
        self.lanes.get(index).filter(|lane| lane.is_configured()).map(|lane| lane.view(now))
    }

    /// How an endpoint stands; `None` if it has no lane.
    #[must_use]
    pub fn standing(&self, endpoint: &Name) -> Option<Standing> {
        let index = self.by_name.get(endpoint).copied()?;
        self.lanes.get(index).map(Lane::standing)
    }

    /// What a delivery that has not ended waits for; `None` if it has ended, or its endpoint has no lane.
    #[must_use]
    pub fn wait(&self, now: Timestamp, delivery: &Delivery) -> Option<Wait> {
        let due = delivery.state.due()?;
        let lane = self.lanes.get(self.by_name.get(&delivery.endpoint).copied()?)?;
        if let Some(departed) = self.flights.get(&delivery.id) {
            return Some(Wait { on: On::Attempt, since: departed.flight.sent_at });
        }
        if !lane.is_configured() {
            return None;
        }
        let (own, free_since) = lane.waits(now, delivery.id, due);
        // While few go at a time, who would not go anyway waits for what holds it back.
        let is_ramp_first = !matches!(own, On::Due { .. } | On::Line { .. } | On::Journal);
        let blocked = lane.blocked(now).filter(|(on, _)| is_ramp_first || !matches!(on, On::Ramp { .. }));
        if let Some((on, since)) = blocked {
            return Some(Wait { on, since: since.max(delivery.changed_at) });
        }
        let limit = self.limits.in_flight_max;
        let on = match own {
            On::Turn { .. } if self.flights.len() >= limit || lane.is_deferred => On::Gateway { limit },
            on => on,
        };
        Some(Wait { on, since: free_since.max(delivery.changed_at).min(now) })
    }

    fn with_lane<T>(&mut self, endpoint: &Name, change: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        // An endpoint that the config no longer names has no lane: its deliveries stay parked in the journal.
        let index = self.by_name.get(endpoint).copied()?;
        let said = self.lanes.get_mut(index).map(change);
        self.look_at(index);
        said
    }

    /// Something about the lane changed: give it a turn, let it ask for more, have its standing remembered.
    fn look_at(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if !lane.in_turn && lane.may_send() {
            lane.in_turn = true;
            self.turn.push_back(index);
        }
        if lane.has_news {
            self.changed.insert(index);
        }
        if !lane.is_active() {
            self.fulfil(index);
        }
        self.note_hungry(index);
    }

    fn note_hungry(&mut self, index: usize) {
        if self.lanes.get(index).is_some_and(Lane::is_hungry) {
            self.hungry.insert(index);
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
