//! A lane: one endpoint, and everything that decides whether a delivery to it may go now.
//!
//! Asked in this order: is it paused; did it ask for silence; what does its circuit admit; is the window
//! full; does the rate allow it; and then which delivery: first-time and due ones alternate, none before
//! an earlier one of its line. What there is to send is the [`Queue`]'s matter, who waits for whom the
//! [`Lines`]'.
//!
//! A delivery sent while the circuit is not closed is a probe: if it fails it spends none of its attempts.
//! No delivery ages while its endpoint cannot take it: age counts from when the endpoint last came back.

mod change;
mod choice;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

pub(super) use self::change::Fate;
use super::away::Away;
use super::jumps::Jumps;
use super::lines::Lines;
use super::queue::Queue;
use super::{Active, Fresh, Limits, Lot, Refill};
use crate::core::attempt::{Attempt, FailureClass, Outcome, Reply};
use crate::core::breaker::{Admission, Breaker, Circuit, Sign, Verdict};
use crate::core::delivery::{Reason, Step};
use crate::core::event::KeyTag;
use crate::core::id::{DeliveryId, EventId};
use crate::core::mutant::{self, Mutant};
use crate::core::name::Name;
use crate::core::rate::{Bucket, Rate};
use crate::core::retry::{Failed, RetryPolicy};
use crate::core::standing::{Pause, PauseCause, Standing};
use crate::core::timestamp::Timestamp;
use crate::core::window::Window;

/// How long a throttled endpoint that names no time is left alone.
const HOLD_DEFAULT: Duration = Duration::from_secs(1);
/// A silence shorter than this is over before a restart is: it is not worth remembering on disk.
const HOLD_REMEMBERED_MIN: Duration = Duration::from_secs(5);

/// What a lane has to say when it is its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Send this.
    Send(Flight),
    /// Nothing before then.
    Wait { until: Timestamp },
    /// Nothing until something changes.
    Nothing,
}

/// Why nothing may go now, whatever there is to send.
enum Shut {
    /// Nothing before then.
    Until(Timestamp),
    /// Nothing until something changes.
    Closed,
}

/// A delivery on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) active: Active,
    pub(super) first_time: bool,
    /// Whether its circuit was not closed.
    pub(super) is_probe: bool,
    /// Whether it spends nothing if it fails.
    pub(super) is_spared: bool,
    pub(super) out_of_order: bool,
    pub(super) sent_at: Timestamp,
    /// Whether the window was full with it.
    pub(super) was_full: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: Name,
    pub(super) in_turn: bool,
    /// Whether it stands among those who had more than their share.
    pub(super) is_deferred: bool,
    pub(super) alarm: Option<Timestamp>,
    /// How it stands has changed since that was last asked for.
    pub(super) has_news: bool,
    queue: Queue,
    lines: Lines,
    /// Waiting deliveries of later events than the queue has come to: an earlier one of their line may still come.
    early: BTreeMap<DeliveryId, Active>,
    /// Taken out to be cancelled; until that is on disk they are neither sent nor passed by the mark.
    cancelling: BTreeMap<DeliveryId, Option<KeyTag>>,
    pub(super) fate: Fate,
    in_flight: usize,
    waiting_goes_next: bool,
    retry: Box<RetryPolicy>,
    breaker: Breaker,
    window: Window,
    concurrency_max: usize,
    rate: Option<Rate>,
    bucket: Option<Box<Bucket>>,
    pause: Option<Box<Pause>>,
    held_since: Timestamp,
    held_until: Timestamp,
    away: Away,
    /// The last probe that left.
    probed: Option<DeliveryId>,
    jumps: Jumps,
}

impl Lane {
    pub(super) fn new(lot: Lot, limits: Limits) -> Self {
        let Lot { endpoint, mark, standing } = lot;
        let circuit = if mutant::is(Mutant::CircuitForgotten) { Circuit::Closed } else { standing.circuit };
        let lines = Lines::new(endpoint.order, endpoint.order_hold_max, limits.active_max);
        let pause = standing.pause.filter(|_| !mutant::is(Mutant::PauseForgotten));
        let breaker = Breaker::new(endpoint.breaker, circuit);
        let away_from = pause.iter().map(|pause| pause.since).chain(breaker.away_since()).min();
        Self {
            name: endpoint.name,
            in_turn: false,
            is_deferred: false,
            alarm: None,
            has_news: false,
            queue: Self::queue_behind(mark, limits, &lines),
            lines,
            early: BTreeMap::new(),
            cancelling: BTreeMap::new(),
            fate: Fate::Stays,
            in_flight: 0,
            waiting_goes_next: false,
            retry: Box::new(endpoint.retry),
            breaker,
            window: Window::new(endpoint.concurrency),
            concurrency_max: endpoint.concurrency.max,
            rate: endpoint.rate,
            bucket: endpoint.rate.filter(|_| !mutant::is(Mutant::RateIgnored)).map(|rate| Box::new(Bucket::new(rate))),
            pause: pause.map(Box::new),
            held_since: standing.available_since,
            held_until: standing.held_until,
            away: Away::new(standing.available_since, away_from),
            probed: None,
            jumps: Jumps::default(),
        }
    }

    fn queue_behind(mark: EventId, limits: Limits, lines: &Lines) -> Queue {
        let waiting_max = if lines.are_kept() { limits.ordered_max } else { limits.active_max };
        Queue::new(mark, limits.active_max, waiting_max, !lines.are_kept())
    }

    /// A new event's delivery; its key only matters where an order is kept by it. Whether it may go soon.
    pub(super) fn accept(&mut self, id: DeliveryId, received_at: Timestamp, key: Option<&str>) -> bool {
        let key = key.filter(|_| self.lines.are_by_key()).map(KeyTag::of);
        let active = Active::fresh(id, received_at, key);
        let is_held = self.queue.push_fresh(active, self.cancelling.contains_key(&active.id));
        is_held || (self.pause.is_none() && self.breaker.is_closed())
    }

    /// Holds a waiting delivery, or leaves it to the journal if earlier ones fill the lane.
    fn push_waiting(&mut self, active: Active) {
        if self.queue.is_beyond(active.due) && !self.lines.are_kept() {
            self.queue.leave_to_journal(active.due);
        } else {
            self.hold_waiting(active);
        }
    }

    fn hold_waiting(&mut self, active: Active) {
        if !mutant::is(Mutant::RetryHoldsNobody) {
            self.lines.note_waiting(&active, &self.away);
        }
        if let Some(left) = self.queue.insert_waiting(active, self.aside()) {
            self.lines.note_left(&left);
        }
    }

    /// A replay made something, due now, that stands in the journal only.
    pub(super) fn leave_to_journal(&mut self, due: Timestamp) {
        self.queue.leave_to_journal(due);
    }

    pub(super) fn take(&mut self, now: Timestamp) -> Take {
        let probe = match self.gate(now) {
            Ok(probe) => probe,
            Err(Shut::Until(until)) => return Take::Wait { until },
            Err(Shut::Closed) => return Take::Nothing,
        };
        let chosen = if probe { self.choose_probe(now) } else { self.choose_freely(now) };
        match chosen {
            Some((active, first_time)) => Take::Send(self.depart(now, active, first_time, probe)),
            None => {
                let waiting = self.queue.first_waiting().into_iter().chain(self.queue.first_yielding());
                let waiting_due = waiting.map(|first| first.due).filter(|due| *due > now).min();
                let expiry = self.lines.next_expiry().filter(|at| *at > now);
                let next = waiting_due.into_iter().chain(expiry).min();
                next.map_or(Take::Nothing, |until| Take::Wait { until })
            }
        }
    }

    /// Whether anything may go now, and if so whether as a probe.
    fn gate(&self, now: Timestamp) -> Result<bool, Shut> {
        if self.pause.is_some() || !self.is_active() {
            return Err(Shut::Closed);
        }
        if let Some(until) = self.silence(now) {
            return Err(Shut::Until(until));
        }
        let probe = match self.breaker.admits(now, self.in_flight) {
            Admission::Free => false,
            Admission::Probe => true,
            Admission::Until(until) => return Err(Shut::Until(until)),
            Admission::Busy => return Err(Shut::Closed),
        };
        // While it is open, what was on its way before may still fill the window: the probe does not wait for that.
        let is_ignored = mutant::is(Mutant::WindowIgnored);
        if !self.breaker.is_open() && self.in_flight >= self.window.limit() && !is_ignored {
            return Err(Shut::Closed);
        }
        match self.bucket.as_ref().and_then(|bucket| bucket.next_at(now)) {
            Some(until) => Err(Shut::Until(until)),
            None => Ok(probe),
        }
    }

    fn depart(&mut self, now: Timestamp, active: Active, first_time: bool, probe: bool) -> Flight {
        self.waiting_goes_next = first_time;
        self.in_flight += 1;
        let mut out_of_order = false;
        if let Some(tag) = self.lines.tag(&active) {
            out_of_order = self.lines.passes(tag, active.id);
            self.lines.depart(tag, active.id);
        }
        self.breaker.handle_sent(now, probe);
        if probe {
            self.probed = Some(active.id);
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now);
        }
        let was_full = self.in_flight >= self.window.limit();
        // Without a breaker an endpoint that was resumed gets few at first, but they spend their attempts.
        let is_spared = probe && self.breaker.opens();
        Flight { active, first_time, is_probe: probe, is_spared, out_of_order, sent_at: now, was_full }
    }

    /// What an attempt says about its delivery, and about the endpoint.
    pub(super) fn decide(
        &mut self,
        now: Timestamp,
        flight: &Flight,
        attempt: &Attempt,
        rng: &mut fastrand::Rng,
    ) -> (Step, Reason) {
        let retry_after = match &attempt.reply {
            Reply::Answer(answer) => answer.retry_after,
            Reply::Failure(_) => None,
        };
        self.learn(now, flight, attempt, rng);
        match attempt.outcome {
            Outcome::Delivered => (Step::Succeed, Reason::Acknowledged),
            Outcome::Permanent => (Step::GiveUp, Self::permanent_reason(attempt.status())),
            Outcome::Throttled | Outcome::Retryable | Outcome::MaybeDelivered => {
                if attempt.outcome == Outcome::Throttled {
                    self.hold(now, retry_after);
                }
                let failed = self.failed(&flight.active, retry_after);
                match flight.is_spared && !mutant::is(Mutant::ProbeSpendsAttempt) {
                    true => self.retry.after_probe(now, failed, rng),
                    false => self.retry.after_failure(now, failed, rng),
                }
            }
        }
    }

    /// A failed attempt, as the retry policy sees it.
    fn failed(&self, active: &Active, retry_after: Option<Duration>) -> Failed {
        // A clock that was set between two processes can leave more probes than attempts to nobody's harm.
        let unspent = if mutant::is(Mutant::ProbeSpendsAttempt) { 0 } else { active.probes };
        let spent = active.attempts.saturating_sub(unspent);
        Failed { attempt: spent + 1, born_at: active.born_at.max(self.away.back_at()), retry_after }
    }

    /// What an attempt says about the endpoint: to its circuit and its window.
    fn learn(&mut self, now: Timestamp, flight: &Flight, attempt: &Attempt, rng: &mut fastrand::Rng) {
        let sign = match &attempt.reply {
            Reply::Answer(answer) => Sign::Status(answer.status),
            Reply::Failure(failure) => Sign::Failure(failure.class),
        };
        let verdict = match (attempt.outcome, sign) {
            // Nothing was sent: that is our fault, not the endpoint's.
            (_, Sign::Failure(FailureClass::NotSent)) => Verdict::Neutral,
            (Outcome::Permanent, Sign::Status(410)) => {
                self.pause_as_gone(now);
                Verdict::Neutral
            }
            // It refused this delivery as its policy expects: it is there.
            (Outcome::Delivered | Outcome::Permanent, _) => Verdict::Success,
            // 503 with Retry-After is an outage that says how long it takes.
            (Outcome::Throttled, sign) if sign.status() != Some(503) => Verdict::Throttled,
            (_, sign) if self.window.has_answered(flight.sent_at) => Verdict::Overload(sign),
            (_, sign) => Verdict::Failure(sign),
        };
        match (verdict, sign) {
            (Verdict::Success, _) => self.window.handle_success(now, flight.sent_at, flight.was_full),
            (Verdict::Throttled, _) | (Verdict::Failure(_), Sign::Failure(_) | Sign::Status(408 | 425 | 500..)) => {
                self.window.handle_overload(now, flight.sent_at);
            }
            _ => {}
        }
        let was_closed = self.breaker.is_closed();
        let limit = self.window.limit();
        if self.breaker.handle_result(now, flight.sent_at, flight.is_probe, verdict, limit, rng) {
            self.has_news = true;
            match (was_closed, self.breaker.is_closed()) {
                (true, false) => {
                    self.window.restart();
                    self.away.begin(now);
                }
                (false, true) if self.pause.is_none() => self.away.end(now),
                _ => {}
            }
        }
    }

    /// A flight's outcome is on disk (`decided`), or was not taken (`None`).
    pub(super) fn land(&mut self, now: Timestamp, flight: &Flight, decided: Option<Step>) {
        assert!(self.in_flight > 0, "what lands was on its way");
        let active = flight.active;
        self.in_flight -= 1;
        self.queue.note_gone(active.id);
        let again = match decided {
            Some(Step::Retry { due }) => Some(due),
            _ => None,
        };
        if mutant::is(Mutant::RetryForgotten) {
            return;
        }
        if let Some(due) = again {
            let probes = active.probes + u32::from(flight.is_spared);
            let tried_at = active.tried_at.or(Some(flight.sent_at));
            let (attempts, since) = (active.attempts + 1, flight.sent_at);
            self.push_waiting(Active { due, since, attempts, probes, tried_at, yields: false, ..active });
        }
        if let Some(tag) = self.lines.tag(&active) {
            let freed = self.lines.land(now, tag, active.id, again.is_none());
            self.take_back(freed);
        }
    }

    /// It landed without an outcome that could be judged.
    pub(super) fn lose(&mut self, flight: &Flight) {
        self.breaker.handle_lost(flight.sent_at, flight.is_probe);
    }

    pub(super) fn begin_cancel(&mut self, id: DeliveryId) {
        let held = self.queue.remove(id).or_else(|| self.early.remove(&id)).or_else(|| self.lines.take_aside(id));
        let tag = held.map_or_else(|| self.lines.tag_of_left(id), |active| self.lines.tag(&active));
        self.cancelling.insert(id, tag);
    }

    /// Its cancellation is on disk. What the journal was asked before may still name it.
    pub(super) fn end_cancel(&mut self, now: Timestamp, id: DeliveryId) {
        let tag = self.cancelling.remove(&id).flatten();
        self.queue.note_gone(id);
        self.lines.note_gone(id);
        if let Some(tag) = tag {
            let freed = self.lines.forget(now, tag, id);
            self.take_back(freed);
        }
    }

    fn hold(&mut self, now: Timestamp, retry_after: Option<Duration>) {
        if mutant::is(Mutant::SilenceIgnored) {
            return;
        }
        let span = retry_after.unwrap_or(HOLD_DEFAULT).min(self.retry.retry_after_max);
        let before = self.silence(now);
        if before.is_none() {
            self.held_since = now;
        }
        self.held_until = before.unwrap_or_default().max(now.after(span));
        self.has_news |= span >= HOLD_REMEMBERED_MIN;
    }

    /// Until when it is to be left alone. Further away than anybody may ask for: a clock that was set back while
    /// nobody ran.
    fn silence(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.held_until).filter(|until| *until > now && *until <= now.after(self.retry.retry_after_max))
    }

    fn pause_as_gone(&mut self, now: Timestamp) {
        if self.pause.is_none() {
            let note = "it answered 410 Gone".to_owned();
            self.pause(Pause { since: now, cause: PauseCause::Gone, note });
        }
    }

    pub(super) fn pause(&mut self, pause: Pause) {
        self.away.begin(pause.since);
        self.pause = Some(Box::new(pause));
        self.has_news = true;
    }

    /// Deliveries go again, few at first: what has gathered must not fall on it at once.
    pub(super) fn resume(&mut self, now: Timestamp) {
        if self.pause.take().is_some() {
            self.away.end(now);
            self.window.restart();
            self.breaker.ramp(now);
            if !self.breaker.is_closed() {
                self.away.begin(now);
            }
            self.has_news = true;
        }
    }

    /// Why a permanent outcome is permanent: 410 is the only status that no policy has to name.
    const fn permanent_reason(status: Option<u16>) -> Reason {
        match status {
            Some(410) => Reason::Gone,
            Some(_) => Reason::Rejected,
            None => Reason::Lost,
        }
    }

    /// Whether a turn could be of use: there is something, and a slot for it.
    pub(super) fn may_send(&self) -> bool {
        let has_some = !self.queue.is_empty() || !self.early.is_empty() || self.lines.next_expiry().is_some();
        has_some && self.is_active() && self.pause.is_none() && self.in_flight < self.concurrency_max
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Waiting deliveries that wait for others.
    fn aside(&self) -> usize {
        self.early.len() + self.lines.waiting()
    }

    pub(super) fn is_hungry(&self) -> bool {
        let waiting = self.queue.wants_waiting(self.aside(), self.in_flight);
        self.is_active() && (self.queue.wants_fresh() || waiting || self.lines.is_hungry())
    }

    pub(super) fn next_refill(&mut self) -> Option<Refill> {
        if !self.is_active() {
            return None;
        }
        let endpoint = self.name.clone();
        if let Some((key, after, limit)) = self.lines.next_refill() {
            return Some(Refill::Line { endpoint, key, after, limit });
        }
        if let Some((after, limit)) = self.queue.ask_fresh() {
            return Some(Refill::Fresh { endpoint, after, limit });
        }
        let limit = self.queue.ask_waiting(self.aside(), self.in_flight)?;
        Some(Refill::Waiting { endpoint, limit })
    }

    pub(super) fn refill_fresh(&mut self, fresh: Fresh) {
        self.queue.refill_fresh(fresh, |id| self.cancelling.contains_key(&id));
    }

    pub(super) fn refill_line(&mut self, key: KeyTag, fresh: Fresh) {
        let freed = self.lines.refill(key, fresh, |id| self.cancelling.contains_key(&id));
        self.take_back(freed);
    }

    pub(super) fn refill_waiting(
        &mut self,
        now: Timestamp,
        answer: &[Active],
        end: bool,
        is_on_its_way: impl Fn(DeliveryId) -> bool,
    ) {
        let is_aside = |id| self.early.contains_key(&id) || self.lines.find_aside(id).is_some();
        let is_elsewhere = |id| self.cancelling.contains_key(&id) || is_on_its_way(id) || is_aside(id);
        let answer: Vec<Active> = answer.iter().map(|active| self.jumps.bounded(now, *active)).collect();
        for active in self.queue.refill_waiting(&answer, end, is_elsewhere) {
            self.hold_waiting(active);
        }
    }

    /// Every first attempt of events up to this one is journaled. `newest`: every event up to that was told;
    /// `oldest_flight`: the earliest event of a first attempt that is on its way.
    pub(super) fn mark(&self, newest: EventId, oldest_flight: Option<EventId>) -> EventId {
        if mutant::is(Mutant::MarkPastFlights) {
            return self.queue.after();
        }
        let oldest_cancelling = self.cancelling.first_key_value().map(|(id, _)| id.event);
        let aside = self.lines.oldest_untried();
        let oldest = self.queue.oldest_fresh().into_iter().chain(oldest_flight).chain(oldest_cancelling).chain(aside);
        // Others' events move the mark of an endpoint that gets none: a restart must not walk them all.
        let known = self.queue.known_to(newest);
        match oldest.min() {
            Some(oldest) => EventId::from_u128(oldest.as_u128().saturating_sub(1)).min(known),
            None => known,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            pause: self.pause.as_deref().cloned(),
            circuit: self.breaker.circuit(),
            held_until: self.held_until,
            available_since: self.away.back_at(),
        }
    }

    /// The wall clock jumped by so many milliseconds: no wait becomes longer or shorter by it.
    ///
    /// `seen_at`: when the clock was last looked at before that.
    pub(super) fn shift(&mut self, seen_at: Timestamp, by: i64) {
        self.alarm = None;
        self.jumps.push(seen_at, by);
        self.queue.shift(by);
        self.lines.shift(by);
        self.early.values_mut().for_each(|active| *active = active.shifted(by));
        self.breaker.shift(by);
        self.window.shift(by);
        if let Some(bucket) = &mut self.bucket {
            bucket.shift(by);
        }
        if let Some(pause) = &mut self.pause {
            pause.since = pause.since.shifted(by);
        }
        for time in [&mut self.held_since, &mut self.held_until] {
            *time = time.shifted(by);
        }
        self.away.shift(by);
        self.has_news = true;
    }
}
