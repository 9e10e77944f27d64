//! The scheduler's behaviour, against a shelf that stands in for the journal.

mod clock;
mod collapse;
mod fairness;
mod holds;
mod order;

use std::collections::BTreeMap;

use super::*;
use crate::core::attempt::{Answer, Outcome, Reply, StatusSet};
use crate::core::id::IdSource;
use crate::core::window::Concurrency;
use bytes::Bytes;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn endpoint(name: &str, concurrency_max: usize) -> Endpoint {
    let fixed = Concurrency { min: concurrency_max, max: concurrency_max };
    let plain = Endpoint::new(Name::new(name).unwrap(), "http://127.0.0.1:1/".into());
    Endpoint { concurrency: fixed, breaker: None, ..plain }
}

fn answered(status: u16, retry_after: Option<Duration>) -> Attempt {
    let reply = Reply::Answer(Answer { status, headers: vec![], body: Bytes::new(), body_cut: false, retry_after });
    let outcome = Outcome::classify(&reply, &StatusSet::default());
    Attempt { number: 1, started_at: NOW, took_ms: 1, reply, outcome, probe: false, out_of_order: false }
}

/// Answers every refill as an empty journal does.
fn feed_nothing(scheduler: &mut Scheduler) {
    while let Some(refill) = scheduler.poll_refill() {
        match refill {
            Refill::Fresh { endpoint, after, .. } => {
                scheduler.handle_fresh(&endpoint, Fresh { deliveries: vec![], scanned_to: after, end: true });
            }
            Refill::Waiting { endpoint, .. } => scheduler.handle_waiting(NOW, &endpoint, &[], true),
            Refill::Line { endpoint, key, after, .. } => {
                scheduler.handle_line(&endpoint, key, Fresh { deliveries: vec![], scanned_to: after, end: true });
            }
        }
    }
}

fn limits(active_max: usize) -> Limits {
    Limits { active_max, ordered_max: active_max, in_flight_max: 1000 }
}

fn lot(endpoint: Endpoint) -> Lot {
    Lot { endpoint, mark: EventId::MIN, standing: Standing::default() }
}

fn scheduler(active_max: usize, endpoints: Vec<Endpoint>) -> Scheduler {
    let mut scheduler = Scheduler::new(limits(active_max), endpoints.into_iter().map(lot).collect());
    feed_nothing(&mut scheduler);
    scheduler
}

fn ids(count: usize) -> Vec<EventId> {
    let (mut source, mut rng) = (IdSource::default(), fastrand::Rng::with_seed(1));
    (0..count).map(|_| source.event(NOW, &mut rng)).collect()
}

#[test]
fn endpoints_take_turns_and_none_exceeds_its_concurrency() {
    let mut scheduler = scheduler(100, vec![endpoint("a", 2), endpoint("b", 3)]);
    let (a, b) = (Name::new("a").unwrap(), Name::new("b").unwrap());
    for id in ids(10) {
        scheduler.handle_accepted(id.delivery(0), &a, NOW, None);
        scheduler.handle_accepted(id.delivery(1), &b, NOW, None);
    }
    let sent: Vec<String> =
        std::iter::from_fn(|| scheduler.poll_dispatch(NOW)).map(|sent| sent.endpoint.to_string()).collect();
    assert_eq!(sent, ["a", "b", "a", "b", "b"]);
    assert_eq!(scheduler.in_flight(), 5);
}

#[test]
fn a_slot_is_free_only_after_the_outcome_is_on_disk() {
    let mut scheduler = scheduler(100, vec![endpoint("a", 1)]);
    let a = Name::new("a").unwrap();
    let ids = ids(2);
    for id in &ids {
        scheduler.handle_accepted(id.delivery(0), &a, NOW, None);
    }
    let first = scheduler.poll_dispatch(NOW).unwrap();
    let rng = &mut fastrand::Rng::with_seed(1);
    let transition = scheduler.handle_outcome(NOW, first.id, &answered(200, None), rng).unwrap();
    assert_eq!((transition.step, transition.reason), (Step::Succeed, Reason::Acknowledged));
    assert_eq!(scheduler.handle_outcome(NOW, first.id, &answered(200, None), rng), None, "decided once");
    assert_eq!(scheduler.poll_dispatch(NOW), None);
    scheduler.handle_settled(first.id);
    assert_eq!(scheduler.poll_dispatch(NOW).unwrap().id, ids[1].delivery(0));
}

#[test]
fn a_failed_delivery_comes_back_when_due_and_counts_its_attempts() {
    let mut scheduler = scheduler(100, vec![endpoint("a", 1)]);
    let a = Name::new("a").unwrap();
    scheduler.handle_accepted(ids(1)[0].delivery(0), &a, NOW, None);
    let mut now = NOW;
    let rng = &mut fastrand::Rng::with_seed(3);
    for attempt in 1..=4 {
        let sent = scheduler.poll_dispatch(now).unwrap();
        assert_eq!(sent.attempt, attempt);
        let transition = scheduler.handle_outcome(now, sent.id, &answered(500, None), rng).unwrap();
        let Step::Retry { due } = transition.step else { panic!("{transition:?}") };
        scheduler.handle_settled(sent.id);
        if due > now {
            assert_eq!(scheduler.poll_dispatch(now), None);
            assert_eq!(scheduler.poll_timeout(), Some(due));
        }
        now = due;
    }
}

#[test]
fn gone_and_policy_end_a_delivery_with_their_reasons() {
    let mut strict = endpoint("a", 10);
    strict.retry.attempts_max = 1;
    let mut scheduler = scheduler(100, vec![strict]);
    let a = Name::new("a").unwrap();
    let rng = &mut fastrand::Rng::with_seed(3);
    let mut outcome = |event: EventId, attempt: Attempt| {
        scheduler.handle_accepted(event.delivery(0), &a, NOW, None);
        let sent = scheduler.poll_dispatch(NOW).unwrap();
        let transition = scheduler.handle_outcome(NOW, sent.id, &attempt, rng).unwrap();
        scheduler.handle_settled(sent.id);
        (transition.step, transition.reason)
    };
    let ids = ids(3);
    assert_eq!(
        outcome(ids[0], Attempt { outcome: Outcome::Permanent, ..answered(404, None) }),
        (Step::GiveUp, Reason::Rejected)
    );
    assert_eq!(outcome(ids[1], answered(500, None)), (Step::GiveUp, Reason::AttemptsExhausted));
    assert_eq!(outcome(ids[2], answered(410, None)), (Step::GiveUp, Reason::Gone));
}

#[test]
fn a_throttle_holds_the_whole_endpoint() {
    let mut scheduler = scheduler(100, vec![endpoint("a", 2), endpoint("b", 2)]);
    let (a, b) = (Name::new("a").unwrap(), Name::new("b").unwrap());
    let ids = ids(3);
    scheduler.handle_accepted(ids[0].delivery(0), &a, NOW, None);
    let sent = scheduler.poll_dispatch(NOW).unwrap();
    let ten = Some(Duration::from_secs(10));
    scheduler.handle_outcome(NOW, sent.id, &answered(429, ten), &mut fastrand::Rng::with_seed(1)).unwrap();
    scheduler.handle_settled(sent.id);
    scheduler.handle_accepted(ids[1].delivery(0), &a, NOW, None);
    scheduler.handle_accepted(ids[2].delivery(1), &b, NOW, None);
    assert_eq!(scheduler.poll_dispatch(NOW).unwrap().endpoint, b);
    assert_eq!(scheduler.poll_dispatch(NOW), None);
    let later = NOW.after(Duration::from_secs(10));
    assert_eq!(scheduler.poll_timeout(), Some(later));
    assert_eq!(scheduler.poll_dispatch(later).unwrap().endpoint, a);
}

#[test]
fn what_is_on_its_way_cannot_be_cancelled_and_what_waits_can() {
    let mut scheduler = scheduler(100, vec![endpoint("a", 1)]);
    let a = Name::new("a").unwrap();
    let ids = ids(2);
    for id in &ids {
        scheduler.handle_accepted(id.delivery(0), &a, NOW, None);
    }
    let sent = scheduler.poll_dispatch(NOW).unwrap();
    assert_eq!(scheduler.handle_cancel(sent.id, &a), Err(Busy));
    assert_eq!(scheduler.handle_cancel(ids[1].delivery(0), &a), Ok(()));
    scheduler.handle_settled(sent.id);
    assert_eq!(scheduler.poll_dispatch(NOW), None);
}

#[test]
fn what_is_being_cancelled_is_not_brought_back_and_holds_the_mark() {
    let mut scheduler = scheduler(100, vec![endpoint("a", 1)]);
    let a = Name::new("a").unwrap();
    let ids = ids(2);
    for id in &ids {
        scheduler.handle_accepted(id.delivery(0), &a, NOW, None);
    }
    let cancelled = ids[0].delivery(0);
    assert_eq!(scheduler.handle_cancel(cancelled, &a), Ok(()));
    scheduler.handle_replayed(&a, NOW);
    let Some(Refill::Waiting { .. }) = scheduler.poll_refill() else { panic!("the journal is asked") };
    scheduler.handle_waiting(NOW, &a, &[Active::fresh(cancelled, NOW, None)], true);
    assert_eq!(scheduler.poll_dispatch(NOW).unwrap().id.event, ids[1]);
    assert!(scheduler.marks().next().unwrap().1 < ids[0], "nothing is passed before its cancellation is on disk");
    scheduler.handle_cancelled(cancelled, &a);
    assert!(scheduler.marks().next().unwrap().1 >= ids[0]);
}

#[test]
fn an_outcome_that_was_not_stored_frees_the_slot_and_is_not_retried() {
    let mut scheduler = scheduler(100, vec![endpoint("a", 1)]);
    let a = Name::new("a").unwrap();
    scheduler.handle_accepted(ids(1)[0].delivery(0), &a, NOW, None);
    let sent = scheduler.poll_dispatch(NOW).unwrap();
    scheduler.handle_outcome(NOW, sent.id, &answered(500, None), &mut fastrand::Rng::with_seed(1)).unwrap();
    scheduler.handle_dropped(sent.id);
    assert_eq!((scheduler.in_flight(), scheduler.poll_timeout()), (0, None));
    assert_eq!(scheduler.poll_dispatch(Timestamp::MAX), None);
}

/// The journal knows of a replayed delivery before the scheduler is told: a refill may bring it first.
#[test]
fn a_replayed_delivery_that_a_refill_brought_first_is_sent_once() {
    let mut scheduler = scheduler(4, vec![endpoint("a", 3)]);
    let a = Name::new("a").unwrap();
    let ids = ids(2);
    let replayed = |id: EventId, due| Active::fresh(id.delivery(1), due, None);
    scheduler.handle_replayed(&a, NOW);
    assert!(matches!(scheduler.poll_refill(), Some(Refill::Waiting { .. })));
    scheduler.handle_waiting(NOW, &a, &[replayed(ids[0], NOW), replayed(ids[1], NOW)], true);
    scheduler.handle_replayed(&a, NOW.after(Duration::from_millis(1)));
    let later = NOW.after(Duration::from_secs(1));
    let sent: Vec<DeliveryId> = std::iter::from_fn(|| scheduler.poll_dispatch(later)).map(|sent| sent.id).collect();
    assert_eq!(sent, [ids[0].delivery(1), ids[1].delivery(1)]);
}

/// Far more waits for later than a lane loads: what is due sooner, and known to the journal only, is asked for.
#[test]
fn what_is_due_before_all_that_is_held_is_asked_for() {
    let mut scheduler = Scheduler::new(limits(4), vec![lot(endpoint("a", 3))]);
    let a = Name::new("a").unwrap();
    let mut refills = vec![];
    while let Some(refill) = scheduler.poll_refill() {
        refills.push(refill);
    }
    let hour = NOW.after(Duration::from_secs(3600));
    let held =
        ids(4).into_iter().map(|id| Active { due: hour, attempts: 1, ..Active::fresh(id.delivery(0), NOW, None) });
    // Made while the journal was being asked: not in its answer.
    scheduler.handle_replayed(&a, NOW);
    scheduler.handle_waiting(NOW, &a, &held.collect::<Vec<_>>(), true);
    assert!(matches!(scheduler.poll_refill(), Some(Refill::Waiting { .. })));
}

/// A journal of one endpoint's deliveries, as far as the scheduler sees it.
#[derive(Default)]
struct Shelf {
    never_tried: BTreeSet<Active>,
    waiting: BTreeSet<Active>,
}

impl Shelf {
    fn answer(&self, scheduler: &mut Scheduler, refill: Refill) {
        match refill {
            Refill::Fresh { endpoint, after, limit } => {
                let mut found: Vec<Active> =
                    self.never_tried.iter().filter(|active| active.id.event > after).copied().collect();
                found.sort_by_key(|active| active.id);
                let end = found.len() <= limit;
                found.truncate(limit);
                let scanned_to = found.last().map_or(after, |last| last.id.event);
                scheduler.handle_fresh(&endpoint, Fresh { deliveries: found, scanned_to, end });
            }
            Refill::Waiting { endpoint, limit } => {
                let found: Vec<Active> = self.waiting.iter().take(limit).copied().collect();
                scheduler.handle_waiting(NOW, &endpoint, &found, self.waiting.len() <= limit);
            }
            Refill::Line { .. } => panic!("no order is kept here"),
        }
    }
}

/// A lane of four under random traffic, over a shelf that holds everything.
struct Traffic {
    scheduler: Scheduler,
    shelf: Shelf,
    ids: IdSource,
    rng: fastrand::Rng,
    now: Timestamp,
    on_its_way: Vec<(Dispatch, Active)>,
    asked: Vec<Refill>,
    accepted: usize,
    delivered: BTreeSet<DeliveryId>,
    last_first: EventId,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        Self {
            scheduler: scheduler(4, vec![endpoint("a", 3)]),
            shelf: Shelf::default(),
            ids: IdSource::default(),
            rng: fastrand::Rng::with_seed(seed),
            now: NOW,
            on_its_way: vec![],
            asked: vec![],
            accepted: 0,
            delivered: BTreeSet::new(),
            last_first: EventId::MIN,
        }
    }

    fn step(&mut self, may_accept: bool) {
        match self.rng.u32(0..6) {
            0 | 1 if may_accept => self.accept(),
            2 => self.asked.extend(self.scheduler.poll_refill()),
            3 => {
                if let Some(refill) = self.asked.pop() {
                    self.shelf.answer(&mut self.scheduler, refill);
                }
            }
            4 => self.dispatch(),
            5 if !self.on_its_way.is_empty() => {
                let (sent, active) = self.on_its_way.swap_remove(self.rng.usize(0..self.on_its_way.len()));
                let status = if self.rng.u32(0..3) == 0 { 500 } else { 200 };
                self.settle(&sent, active, status);
            }
            _ => self.now = self.now.after(Duration::from_millis(self.rng.u64(0..500))),
        }
        let view = self.scheduler.lanes(NOW).next().unwrap();
        assert!(view.fresh <= 4 && view.waiting <= 4 && view.in_flight <= 3, "{view:?}");
        let mark = self.scheduler.marks().next().unwrap().1;
        assert!(self.shelf.never_tried.iter().all(|active| active.id.event > mark), "the mark passes nothing untried");
    }

    fn accept(&mut self) {
        let id = self.ids.event(self.now, &mut self.rng).delivery(0);
        self.shelf.never_tried.insert(Active::fresh(id, self.now, None));
        self.scheduler.handle_accepted(id, &Name::new("a").unwrap(), self.now, None);
        self.accepted += 1;
    }

    fn dispatch(&mut self) {
        let Some(sent) = self.scheduler.poll_dispatch(self.now) else { return };
        let on_shelf = self.shelf.never_tried.iter().chain(&self.shelf.waiting).find(|active| active.id == sent.id);
        let active = *on_shelf.expect("only what waits is sent");
        assert_eq!(sent.attempt, active.attempts + 1);
        if sent.attempt == 1 {
            assert!(sent.id.event > self.last_first, "first attempts go in order");
            self.last_first = sent.id.event;
        }
        self.on_its_way.push((sent, active));
    }

    fn settle(&mut self, sent: &Dispatch, active: Active, status: u16) {
        let attempt = answered(status, None);
        let transition = self.scheduler.handle_outcome(self.now, sent.id, &attempt, &mut self.rng).unwrap();
        self.shelf.never_tried.remove(&active);
        self.shelf.waiting.remove(&active);
        match transition.step {
            Step::Retry { due } => {
                self.shelf.waiting.insert(Active { due, attempts: sent.attempt, ..active });
            }
            _ => assert!(self.delivered.insert(sent.id), "delivered once"),
        }
        self.scheduler.handle_settled(sent.id);
    }

    /// A minute later: whatever is asked for is answered, whatever is sent succeeds.
    fn drain(&mut self) {
        self.now = self.now.after(Duration::from_secs(60));
        while let Some(refill) = self.asked.pop().or_else(|| self.scheduler.poll_refill()) {
            self.shelf.answer(&mut self.scheduler, refill);
        }
        loop {
            let before = self.on_its_way.len();
            self.dispatch();
            if self.on_its_way.len() == before {
                break;
            }
        }
        for (sent, active) in std::mem::take(&mut self.on_its_way) {
            self.settle(&sent, active, 200);
        }
    }
}

/// Random traffic over a lane far smaller than the backlog: every delivery ends delivered exactly once,
/// first attempts go in order, memory stays bounded, and the mark never passes an untried delivery.
#[test]
fn a_backlog_larger_than_the_lane_drains_in_order_and_loses_nothing() {
    for seed in 0..50 {
        let mut traffic = Traffic::new(seed);
        (0..6000).for_each(|step| traffic.step(step < 2000));
        let mut turns = 0;
        while traffic.delivered.len() < traffic.accepted {
            turns += 1;
            assert!(turns < 10_000, "seed {seed}: stuck at {} of {}", traffic.delivered.len(), traffic.accepted);
            traffic.drain();
        }
        assert_eq!(traffic.scheduler.in_flight(), 0);
        assert!(traffic.shelf.never_tried.is_empty() && traffic.shelf.waiting.is_empty());
    }
}
