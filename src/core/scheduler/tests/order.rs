//! Lines under random traffic: a shelf stands in for the journal, its answers come late and in any order,
//! and the process may end at any step.

use super::*;
use crate::core::breaker::BreakerPolicy;
use crate::core::endpoint::Order;

/// A moment of a process's work.
#[derive(Debug, Clone, Copy)]
struct Settings {
    seed: u64,
    order: Order,
    /// How many of a hundred attempts fail.
    failures: u32,
    breaker: bool,
    /// Where fewer waiting deliveries are held than there are, the order is kept among those that are known.
    ordered_max: usize,
}

struct Flight {
    sent: Dispatch,
    /// Decided and not yet on the shelf, or on the shelf and not yet released.
    decided: Option<(Transition, bool)>,
    sent_at: Timestamp,
}

enum Answer {
    Fresh(Fresh),
    Line(KeyTag, Fresh),
    Waiting(Vec<Active>, bool),
}

/// A journal, as far as the scheduler sees it.
#[derive(Default)]
struct Shelf {
    /// Every event there ever was, with its key and how many deliveries it has.
    events: BTreeMap<EventId, (Option<KeyTag>, u16)>,
    scheduled: BTreeMap<DeliveryId, Active>,
}

impl Shelf {
    fn is_fresh(active: &Active) -> bool {
        active.attempts == 0 && active.id.slot == 0
    }

    fn fresh(&self, after: EventId, limit: usize, fits: impl Fn(Option<KeyTag>) -> bool) -> Fresh {
        let later = self.scheduled.values().filter(|it| it.id.event > after && Self::is_fresh(it) && fits(it.key));
        let mut deliveries: Vec<Active> = later.copied().collect();
        let end = deliveries.len() <= limit;
        deliveries.truncate(limit);
        let newest = self.events.iter().rev().find(|(_, (key, _))| fits(*key)).map(|(id, _)| *id);
        let last = if end { newest } else { deliveries.last().map(|last| last.id.event) };
        Fresh { deliveries, scanned_to: last.unwrap_or(after).max(after), end }
    }

    fn waiting(&self, limit: usize) -> (Vec<Active>, bool) {
        let mut waiting: Vec<Active> = self.scheduled.values().filter(|it| !Self::is_fresh(it)).copied().collect();
        waiting.sort();
        let end = waiting.len() <= limit;
        waiting.truncate(limit);
        (waiting, end)
    }

    fn answer(&self, refill: Refill) -> Answer {
        match refill {
            Refill::Fresh { after, limit, .. } => Answer::Fresh(self.fresh(after, limit, |_| true)),
            Refill::Line { key, after, limit, .. } => {
                Answer::Line(key, self.fresh(after, limit, |other| other == Some(key)))
            }
            Refill::Waiting { limit, .. } => {
                let (waiting, end) = self.waiting(limit);
                Answer::Waiting(waiting, end)
            }
        }
    }
}

struct Traffic {
    settings: Settings,
    scheduler: Scheduler,
    shelf: Shelf,
    ids: IdSource,
    rng: fastrand::Rng,
    now: Timestamp,
    flights: Vec<Flight>,
    answers: Vec<Answer>,
    cancelling: Vec<DeliveryId>,
    /// Remembered over the end of a process.
    mark: EventId,
    standing: Standing,
    /// Replays that no answer has named to this process yet.
    unknown: BTreeSet<DeliveryId>,
    released: usize,
}

const ACTIVE_MAX: usize = 4;
/// More than ever wait.
const ALL: usize = 10_000;
const HOLD_MAX: Duration = Duration::from_secs(120);

impl Traffic {
    fn new(settings: Settings) -> Self {
        let mut traffic = Self {
            settings,
            scheduler: scheduler(1, vec![]),
            shelf: Shelf::default(),
            ids: IdSource::default(),
            rng: fastrand::Rng::with_seed(settings.seed),
            now: NOW,
            flights: vec![],
            answers: vec![],
            cancelling: vec![],
            mark: EventId::MIN,
            standing: Standing::default(),
            unknown: BTreeSet::new(),
            released: 0,
        };
        traffic.restart();
        traffic
    }

    fn endpoint(&self) -> Endpoint {
        let breaker = self.settings.breaker.then(BreakerPolicy::default);
        Endpoint { order: self.settings.order, order_hold_max: HOLD_MAX, breaker, ..endpoint("a", 3) }
    }

    /// The process ends, and another begins with what is on the shelf.
    fn restart(&mut self) {
        let limits = Limits { active_max: ACTIVE_MAX, ordered_max: self.settings.ordered_max, in_flight_max: 100 };
        let lot = Lot { endpoint: self.endpoint(), mark: self.mark, standing: self.standing.clone() };
        self.scheduler = Scheduler::new(limits, vec![lot]);
        self.flights.clear();
        self.answers.clear();
        self.cancelling.clear();
        self.unknown.clear();
    }

    fn line(&self, active: &Active) -> Option<KeyTag> {
        match self.settings.order {
            Order::None => None,
            Order::Key => active.key,
            Order::Endpoint => Some(KeyTag(0)),
        }
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..20 => self.accept(),
            20..23 => self.replay(),
            23..40 => self.ask(),
            40..55 => self.hand_in(),
            55..72 => {
                self.dispatch();
            }
            72..90 => self.move_a_flight(),
            90..93 => self.cancel(),
            93..98 => self.now = self.now.after(Duration::from_millis(self.rng.u64(0..3000))),
            98 if self.rng.u32(0..10) == 0 => self.now = self.now.after(HOLD_MAX),
            99 if self.rng.u32(0..10) == 0 => self.restart(),
            _ => self.remember(),
        }
        self.check();
    }

    fn accept(&mut self) {
        let event = self.ids.event(self.now, &mut self.rng);
        let key = [None, Some("k"), Some("l"), Some("m")][self.rng.usize(0..4)];
        let active = Active::fresh(event.delivery(0), self.now, key.map(KeyTag::of));
        self.shelf.events.insert(event, (active.key, 1));
        self.shelf.scheduled.insert(active.id, active);
        self.scheduler.handle_accepted(active.id, &Name::new("a").unwrap(), self.now, key);
    }

    /// An event that has ended is delivered again.
    fn replay(&mut self) {
        let Some(index) = self.shelf.events.len().checked_sub(1) else { return };
        let nth = self.rng.usize(0..=index);
        let (event, (key, slots)) = self.shelf.events.iter_mut().nth(nth).unwrap();
        let id = event.delivery(*slots);
        *slots += 1;
        self.shelf.scheduled.insert(id, Active::fresh(id, self.now, *key));
        self.unknown.insert(id);
        self.scheduler.handle_replayed(&Name::new("a").unwrap(), self.now);
    }

    fn ask(&mut self) {
        if let Some(refill) = self.scheduler.poll_refill() {
            self.answers.push(self.shelf.answer(refill));
        }
    }

    fn hand_in(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let a = Name::new("a").unwrap();
        match self.answers.swap_remove(self.rng.usize(0..self.answers.len())) {
            Answer::Fresh(fresh) => self.scheduler.handle_fresh(&a, fresh),
            Answer::Line(key, fresh) => self.scheduler.handle_line(&a, key, fresh),
            Answer::Waiting(waiting, end) => {
                self.unknown.retain(|id| !waiting.iter().any(|active| active.id == *id));
                self.scheduler.handle_waiting(self.now, &a, &waiting, end);
            }
        }
    }

    fn dispatch(&mut self) -> bool {
        let Some(sent) = self.scheduler.poll_dispatch(self.now) else { return false };
        let seed = self.settings.seed;
        let active = *self.shelf.scheduled.get(&sent.id).expect("only what is scheduled is sent");
        assert_eq!(sent.attempt, active.attempts + 1, "seed {seed}");
        assert!(!self.cancelling.contains(&sent.id), "seed {seed}: it is being cancelled");
        assert!(active.due <= self.now, "seed {seed}: it goes too soon");
        if let Some(line) = self.line(&active) {
            self.check_line(line, &active, &sent);
        }
        self.flights.push(Flight { sent, decided: None, sent_at: self.now });
        true
    }

    /// Nothing of its line is on its way, and what it passes has failed for as long as a line is held.
    fn check_line(&mut self, line: KeyTag, active: &Active, sent: &Dispatch) {
        let of_line: Vec<Active> =
            self.shelf.scheduled.values().filter(|it| self.line(it) == Some(line)).copied().collect();
        let is_on_its_way = |id| self.flights.iter().any(|flight| flight.sent.id == id);
        assert!(!of_line.iter().any(|it| is_on_its_way(it.id)), "{:?}: two of a line: {sent:?}", self.settings);
        if self.settings.ordered_max < ALL {
            return;
        }
        let before = of_line.iter().filter(|it| it.id < active.id && !self.unknown.contains(&it.id));
        let mut passed = 0;
        for earlier in before.filter(|it| !self.cancelling.contains(&it.id)) {
            let since = earlier.tried_at.unwrap_or_else(|| panic!("{:?}: {sent:?} before {earlier:?}", self.settings));
            assert!(since.after(HOLD_MAX) <= self.now, "{:?}: {sent:?} passes {earlier:?} too soon", self.settings);
            passed += 1;
        }
        assert!(sent.out_of_order || passed == 0, "{:?}: {sent:?} passes others unmarked", self.settings);
        self.released += usize::from(sent.out_of_order);
    }

    /// Decide, commit, release: one of the three.
    fn move_a_flight(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.flights.len());
        let flight = &mut self.flights[index];
        let id = flight.sent.id;
        match &mut flight.decided {
            None => {
                let status = if self.rng.u32(0..100) < self.settings.failures { 500 } else { 200 };
                let attempt = answered(status, None);
                let transition = self.scheduler.handle_outcome(self.now, id, &attempt, &mut self.rng).unwrap();
                flight.decided = Some((transition, false));
            }
            Some((transition, stored @ false)) => {
                *stored = true;
                let active = self.shelf.scheduled.remove(&id).unwrap();
                if let Step::Retry { due } = transition.step {
                    let probes = active.probes + u32::from(transition.reason == Reason::ProbeFailed);
                    let tried_at = active.tried_at.or(Some(flight.sent_at));
                    let (attempts, since) = (active.attempts + 1, flight.sent_at);
                    self.shelf.scheduled.insert(id, Active { due, since, attempts, probes, tried_at, ..active });
                }
            }
            Some((_, true)) => {
                self.flights.remove(index);
                self.scheduler.handle_settled(id);
            }
        }
    }

    /// A cancellation begins, or one that has begun is committed and told.
    fn cancel(&mut self) {
        let a = Name::new("a").unwrap();
        if self.cancelling.is_empty() || self.rng.bool() {
            let count = self.shelf.scheduled.len();
            let Some(id) = (count > 0).then(|| self.rng.usize(0..count)) else { return };
            let id = *self.shelf.scheduled.keys().nth(id).unwrap();
            if !self.cancelling.contains(&id) && self.scheduler.handle_cancel(id, &a).is_ok() {
                self.cancelling.push(id);
            }
        } else {
            let id = self.cancelling.swap_remove(self.rng.usize(0..self.cancelling.len()));
            self.shelf.scheduled.remove(&id);
            self.scheduler.handle_cancelled(id, &a);
        }
    }

    fn remember(&mut self) {
        self.mark = self.scheduler.marks().next().unwrap().1;
        while let Some((_, standing)) = self.scheduler.poll_standing() {
            self.standing = standing;
        }
    }

    fn check(&self) {
        let view = self.scheduler.lanes(self.now).next().unwrap();
        // A line that was left to the journal brings one batch of it more.
        assert!(view.fresh <= 6 * ACTIVE_MAX && view.in_flight <= 3, "{:?}: {view:?}", self.settings);
        let mark = self.scheduler.marks().next().unwrap().1;
        let untried = self.shelf.scheduled.values().find(|it| Shelf::is_fresh(it)).map(|it| it.id.event);
        assert!(untried.is_none_or(|oldest| oldest > mark), "{:?}: the mark passes an untried one", self.settings);
    }

    /// From now on nothing fails, and nobody asks for anything: everything ends.
    fn drain(&mut self) {
        self.settings.failures = 0;
        let mut turns = 0;
        while !self.shelf.scheduled.is_empty() || !self.flights.is_empty() {
            turns += 1;
            let left: Vec<_> = self.shelf.scheduled.values().take(3).collect();
            let (settings, asked) = (self.settings, self.answers.len());
            assert!(turns < 5000, "{settings:?}: stuck at {} with {left:?}, {asked} answers", self.now);
            for _ in 0..3 {
                self.ask();
                self.hand_in();
            }
            if !self.dispatch() && self.flights.is_empty() && self.cancelling.is_empty() {
                let next = self.scheduler.poll_timeout().filter(|_| self.answers.is_empty());
                self.now = next.unwrap_or(self.now).max(self.now);
            }
            if let Some(id) = self.cancelling.pop() {
                self.shelf.scheduled.remove(&id);
                self.scheduler.handle_cancelled(id, &Name::new("a").unwrap());
            }
            (0..3).for_each(|_| self.move_a_flight());
            self.check();
        }
    }
}

/// Runs many seeds; how many deliveries passed one that had held them for too long.
fn run(order: Order, failures: u32, breaker: bool, ordered_max: usize) -> usize {
    let mut released = 0;
    for seed in 0..30 {
        let mut traffic = Traffic::new(Settings { seed, order, failures, breaker, ordered_max });
        (0..2000).for_each(|_| traffic.step());
        traffic.drain();
        let view = traffic.scheduler.lanes(traffic.now).next().unwrap();
        assert_eq!((view.in_flight, view.fresh, view.waiting, view.lines), (0, 0, 0, 0), "seed {seed}");
        released += traffic.released;
    }
    released
}

#[test]
fn in_a_line_nobody_goes_before_an_earlier_one_and_everything_ends() {
    assert_eq!(run(Order::Key, 0, true, ALL), 0);
    assert_eq!(run(Order::Endpoint, 0, true, ALL), 0);
    assert!(run(Order::Key, 50, false, ALL) > 0);
    assert!(run(Order::Endpoint, 50, false, ALL) > 0);
    assert_eq!(run(Order::None, 50, true, ALL), 0);
}

#[test]
fn lines_outlast_an_open_circuit() {
    run(Order::Key, 80, true, ALL);
    run(Order::Endpoint, 80, true, ALL);
}

#[test]
fn where_not_all_that_wait_are_known_everything_still_ends() {
    run(Order::Key, 50, false, 100);
    run(Order::Endpoint, 50, true, 100);
}
