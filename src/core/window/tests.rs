//! The window's moves, and where it settles against endpoints of several kinds.
//!
//! The endpoints are simulated: a list of landings in order of time, a backlog without end, a seeded
//! generator. No real time passes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const MINUTE: u64 = 60_000;

fn at(millis: u64) -> Timestamp {
    NOW.after(Duration::from_millis(millis))
}

fn bounds(min: usize, max: usize) -> Concurrency {
    Concurrency { min, max }
}

/// How an endpoint bears more than `n` at once. At ease it answers after 45 to 55 ms.
#[derive(Debug, Clone, Copy)]
enum Model {
    /// All that are on their way fail, after 500 ms.
    Collapses { n: usize },
    /// Those over `n` are refused after 5 ms.
    Refuses { n: usize },
    /// Answers take longer by the square of the load.
    Slows { n: usize },
    /// It bears any number; this share fails whatever is done.
    Fails { share: f64 },
    /// It bears any number; each answer takes one of these, in turn.
    Mixed { took: [u64; 2] },
    /// It bears any number; answers take from 5 to 200 ms.
    Uniform,
    /// It bears any number; one of a hundred takes a second, the others 10 ms.
    Straggles,
}

#[derive(Debug)]
struct Flight {
    sent_at: u64,
    was_full: bool,
    lands_at: u64,
    succeeds: bool,
}

struct Simulation {
    window: Window,
    model: Model,
    rng: fastrand::Rng,
    now: u64,
    sent: u64,
    flights: BTreeMap<u64, Flight>,
    landings: BTreeSet<(u64, u64)>,
    succeeded: u64,
    /// The sum of the limit over milliseconds.
    limit_millis: u64,
    least: usize,
    most: usize,
}

/// What a stretch of time brought.
#[derive(Debug)]
struct Stretch {
    succeeded: u64,
    /// Of the limit, over time.
    average: f64,
    least: usize,
    most: usize,
}

impl Simulation {
    fn new(model: Model, bounds: Concurrency, seed: u64) -> Self {
        Self {
            window: Window::new(bounds),
            model,
            rng: fastrand::Rng::with_seed(seed),
            now: 0,
            sent: 0,
            flights: BTreeMap::new(),
            landings: BTreeSet::new(),
            succeeded: 0,
            limit_millis: 0,
            least: usize::MAX,
            most: 0,
        }
    }

    fn run(&mut self, millis: u64) -> Stretch {
        let until = self.now + millis;
        (self.succeeded, self.limit_millis) = (0, 0);
        (self.least, self.most) = (self.window.limit(), self.window.limit());
        self.fill();
        while let Some(&(next, id)) = self.landings.first()
            && next <= until
        {
            self.limit_millis += (next - self.now) * self.window.limit() as u64;
            self.now = next;
            self.land(id);
            self.fill();
            (self.least, self.most) = (self.least.min(self.window.limit()), self.most.max(self.window.limit()));
        }
        self.limit_millis += (until - self.now) * self.window.limit() as u64;
        self.now = until;
        let average = self.limit_millis as f64 / millis as f64;
        Stretch { succeeded: self.succeeded, average, least: self.least, most: self.most }
    }

    fn fill(&mut self) {
        while self.flights.len() < self.window.limit() {
            self.sent += 1;
            let in_flight = self.flights.len() + 1;
            let (took, succeeds) = self.answer(in_flight);
            let lands_at = self.now + took;
            let was_full = in_flight >= self.window.limit();
            self.flights.insert(self.sent, Flight { sent_at: self.now, was_full, lands_at, succeeds });
            self.landings.insert((lands_at, self.sent));
            if matches!(self.model, Model::Collapses { n } if in_flight > n) {
                self.collapse();
            }
        }
    }

    /// How long the endpoint takes, and whether it answers well.
    fn answer(&mut self, in_flight: usize) -> (u64, bool) {
        let ease = 45 + self.rng.u64(0..=10);
        match self.model {
            Model::Collapses { .. } => (ease, true),
            Model::Refuses { n } if in_flight > n => (5, false),
            Model::Refuses { .. } => (ease, true),
            Model::Slows { n } => {
                let load = (in_flight as f64 / n as f64).max(1.0);
                ((ease as f64 * load * load) as u64, true)
            }
            Model::Fails { share } => (ease, self.rng.f64() >= share),
            Model::Mixed { took: [odd, even] } => (if self.sent % 2 == 1 { odd } else { even }, true),
            Model::Uniform => (self.rng.u64(5..=200), true),
            Model::Straggles => (if self.rng.u64(0..100) == 0 { 1000 } else { 10 }, true),
        }
    }

    /// All on their way that would have gone well fail half a second from now.
    fn collapse(&mut self) {
        let lands_at = self.now + 500;
        for (id, flight) in self.flights.iter_mut().filter(|(_, flight)| flight.succeeds) {
            self.landings.remove(&(flight.lands_at, *id));
            self.landings.insert((lands_at, *id));
            (flight.lands_at, flight.succeeds) = (lands_at, false);
        }
    }

    fn land(&mut self, id: u64) {
        self.landings.pop_first();
        let flight = self.flights.remove(&id).unwrap();
        if flight.succeeds {
            self.succeeded += 1;
            self.window.handle_success(at(self.now), at(flight.sent_at), flight.was_full);
        } else {
            self.window.handle_overload(at(self.now), at(flight.sent_at));
        }
    }
}

/// Within 70 to 105 % of what the endpoint bears.
fn assert_near(n: usize, stretch: &Stretch) {
    let share = stretch.average / n as f64;
    assert!((0.7..=1.05).contains(&share), "{n}: {stretch:?}");
}

#[test]
fn it_settles_near_what_an_endpoint_bears_and_delivers_nearly_as_much() {
    for model in [Model::Collapses { n: 20 }, Model::Refuses { n: 20 }] {
        for seed in 0..3 {
            let learnt = Simulation::new(model, bounds(1, 200), seed).run(10 * MINUTE);
            let known = Simulation::new(model, bounds(20, 20), seed).run(10 * MINUTE);
            assert_near(20, &learnt);
            assert!(learnt.succeeded * 100 >= known.succeeded * 80, "{model:?} {learnt:?} {known:?}");
        }
    }
}

#[test]
fn it_does_not_fill_the_queue_of_an_endpoint_that_slows() {
    for (n, seed) in [5, 20, 60].into_iter().flat_map(|n| (0..3).map(move |seed| (n, seed))) {
        let mut simulation = Simulation::new(Model::Slows { n }, bounds(1, 200), seed);
        let start = simulation.run(10_000);
        assert!(start.most <= 3 * n, "slow start goes past the mark by what departs before it shows: {n} {start:?}");
        let stretch = simulation.run(10 * MINUTE);
        // The one step more is the slack's, which is much where few are on their way.
        assert!(stretch.most <= 2 * n + 1, "{n} {stretch:?}");
        assert!((1.0..1.9).contains(&(stretch.average / n as f64)), "{n} {stretch:?}");
    }
}

#[test]
fn it_follows_an_endpoint_that_comes_to_bear_more_or_less() {
    let makes: [fn(usize) -> Model; 2] = [|n| Model::Collapses { n }, |n| Model::Refuses { n }];
    for make in makes {
        for (before, after) in [(10, 40), (40, 10)] {
            let mut simulation = Simulation::new(make(before), bounds(1, 200), 1);
            simulation.run(5 * MINUTE);
            simulation.model = make(after);
            simulation.run(15_000); // 300 round trips
            assert_near(after, &simulation.run(MINUTE));
        }
    }
}

#[test]
fn answers_of_mixed_latency_do_not_shrink_it() {
    for model in [Model::Mixed { took: [5, 50] }, Model::Uniform, Model::Straggles] {
        for max in [16, 100] {
            let mut simulation = Simulation::new(model, bounds(1, max), 1);
            simulation.run(20_000);
            let stretch = simulation.run(2 * MINUTE);
            assert_eq!((stretch.least, stretch.most), (max, max), "{model:?}");
        }
    }
}

#[test]
fn an_endpoint_that_became_slower_for_good_is_at_ease_again() {
    let mut simulation = Simulation::new(Model::Mixed { took: [50, 50] }, bounds(1, 50), 1);
    simulation.run(MINUTE);
    simulation.model = Model::Mixed { took: [200, 200] };
    assert!(simulation.run(MINUTE).least < 5, "slow answers are doubted first");
    simulation.run(MINUTE);
    assert_eq!(simulation.run(MINUTE).least, 50);
}

#[test]
fn deliveries_that_always_fail_do_not_pin_it_down() {
    let average = |share| {
        let mut simulation = Simulation::new(Model::Fails { share }, bounds(1, 16), 1);
        simulation.run(10 * MINUTE).average
    };
    assert!(average(0.01) > 10.0);
    assert!(average(0.05) > 4.0);
    assert!(average(1.0) < 1.1);
}

#[test]
fn equal_bounds_fix_it() {
    for model in [Model::Fails { share: 0.5 }, Model::Slows { n: 1 }, Model::Uniform] {
        let stretch = Simulation::new(model, bounds(7, 7), 1).run(MINUTE);
        assert_eq!((stretch.least, stretch.most), (7, 7), "{model:?}");
    }
}

/// Feeds successes of 10 ms, each departing when the one before landed.
fn succeed(window: &mut Window, from: u64, count: u64) -> u64 {
    for number in 0..count {
        let sent_at = from + number * 10;
        window.handle_success(at(sent_at + 10), at(sent_at), true);
    }
    from + count * 10
}

#[test]
fn it_begins_at_four_within_its_bounds() {
    for (min, max, limit) in [(1, 16, 4), (1, 2, 2), (9, 16, 9), (3, 3, 3)] {
        assert_eq!(Window::new(bounds(min, max)).limit(), limit);
    }
    assert_eq!(Concurrency::default(), bounds(1, 16));
}

/// The phases a window of 1 to 64 can be in, each at second 100 with its last cut, if any, at second 50.
fn phases() -> [(&'static str, Window); 4] {
    let slow_start = Window { limit: 20, ..Window::new(bounds(1, 64)) };
    let cut = |limit, ceiling| Window {
        limit,
        ceiling,
        slow_start: false,
        patience: 16,
        cut_at: Some(at(50_000)),
        ..Window::new(bounds(1, 64))
    };
    [
        ("slow start", slow_start),
        ("no ceiling", cut(20, None)),
        ("below the ceiling", cut(19, Some(20))),
        ("past the ceiling", cut(20, Some(20))),
    ]
}

#[test]
fn every_phase_meets_every_event() {
    // After one success, one that left the window unfilled, an overload, an overload of the epoch
    // before, and a restart: the limit, and the patience after the overload.
    let expected = [
        ("slow start", [21, 20, 16, 16, 4], PATIENCE_MIN),
        ("no ceiling", [20, 20, 16, 20, 4], PATIENCE_MIN),
        ("below the ceiling", [19, 19, 15, 19, 4], 8),
        ("past the ceiling", [20, 20, 16, 20, 4], 32),
    ];
    for ((name, limits, patience), (phase, _)) in expected.into_iter().zip(phases()) {
        assert_eq!(name, phase);
        let after = |event: &dyn Fn(&mut Window)| {
            let (_, mut window) = phases().into_iter().find(|(other, _)| *other == name).unwrap();
            event(&mut window);
            window
        };
        let windows = [
            after(&|window| window.handle_success(at(100_010), at(100_000), true)),
            after(&|window| window.handle_success(at(100_010), at(100_000), false)),
            after(&|window| window.handle_overload(at(100_010), at(100_000))),
            after(&|window| window.handle_overload(at(100_010), at(49_000))),
            after(&Window::restart),
        ];
        assert_eq!(windows.each_ref().map(Window::limit), limits, "{name}");
        assert_eq!(windows[2].patience, patience, "{name}");
        assert!(!windows[2].slow_start && windows[2].ceiling.is_some(), "{name}");
        assert!(windows[4].slow_start && windows[4].ceiling.is_none(), "{name}");
    }
}

/// Every place within the bounds, every kind of answer, of this epoch and of the one before: the limit after it.
#[test]
fn every_limit_meets_every_answer_of_either_epoch() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Event {
        Full,
        NotFull,
        Overload,
    }
    const MIN: usize = 2;
    const MAX: usize = 20;
    for slow_start in [true, false] {
        for limit in [MIN, MIN + 1, 10, MAX - 1, MAX] {
            for (event, is_new) in [Event::Full, Event::NotFull, Event::Overload]
                .into_iter()
                .flat_map(|event| [(event, true), (event, false)])
            {
                let mut window =
                    Window { limit, slow_start, cut_at: Some(at(50_000)), ..Window::new(bounds(MIN, MAX)) };
                let sent_at = at(if is_new { 100_000 } else { 50_000 });
                match event {
                    Event::Full => window.handle_success(at(100_010), sent_at, true),
                    Event::NotFull => window.handle_success(at(100_010), sent_at, false),
                    Event::Overload => window.handle_overload(at(100_010), sent_at),
                }
                let expected = match (event, is_new) {
                    (Event::Full, true) if slow_start => (limit + 1).min(MAX),
                    (Event::Overload, true) => (limit * 4 / 5).max(MIN),
                    _ => limit,
                };
                assert_eq!(window.limit(), expected, "{limit}, {event:?}, new: {is_new}, slow start: {slow_start}");
                let is_cut = event == Event::Overload && is_new;
                assert_eq!(window.has_answered(at(100_005)), is_cut && expected > MIN, "{limit}, {event:?}");
            }
        }
    }
}

#[test]
fn growth_costs_a_round_trip_and_near_the_ceiling_many() {
    let steps = |limit: usize, ceiling, patience| {
        let mut window = Window { limit, ceiling, patience, slow_start: false, ..Window::new(bounds(1, 64)) };
        let mut successes = 0;
        while window.limit() == limit {
            succeed(&mut window, successes * 10, 1);
            successes += 1;
        }
        successes / limit as u64
    };
    assert_eq!(steps(10, None, 64), 1);
    let around: Vec<u64> = (16..24).map(|limit| steps(limit, Some(20), 64)).collect();
    assert_eq!(around, [1, 4, 16, 64, 16, 4, 1, 1]);
}

#[test]
fn a_ceiling_that_was_passed_well_is_forgotten() {
    let mut window = Window::new(bounds(1, 64));
    window.handle_overload(at(1), at(0));
    assert_eq!((window.limit(), window.ceiling), (3, Some(4)));
    succeed(&mut window, 10, 200);
    assert_eq!(window.ceiling, None);
    assert!(window.limit() > 6);
}

#[test]
fn one_epoch_is_cut_once() {
    let mut window = Window { limit: 50, ..Window::new(bounds(1, 64)) };
    for _ in 0..50 {
        window.handle_overload(at(100), at(0));
    }
    assert_eq!(window.limit(), 40);
    window.handle_overload(at(200), at(101));
    assert_eq!(window.limit(), 32);
}

#[test]
fn a_jump_of_the_clock_keeps_the_epoch() {
    for by in [3_600_000_i64, -3_600_000] {
        let jumped = |millis| Timestamp::from_millis(at(millis).millis().saturating_add_signed(by));
        let mut window = Window { limit: 50, ..Window::new(bounds(1, 64)) };
        window.handle_overload(at(100), at(0));
        window.shift(by);
        window.handle_overload(jumped(101), jumped(99));
        assert_eq!(window.limit(), 40, "{by}");
        window.handle_overload(jumped(102), jumped(101));
        assert_eq!(window.limit(), 32, "{by}");
    }
}

#[test]
fn a_restart_keeps_what_is_known_of_the_latency() {
    let mut window = Window::new(bounds(1, 64));
    let then = succeed(&mut window, 0, 100);
    window.restart();
    assert_eq!(window.limit(), 4);
    for number in 0..100 {
        let sent_at = then + number * 200;
        window.handle_success(at(sent_at + 200), at(sent_at), false);
    }
    assert_eq!(window.limit(), 1, "200 ms are slow where 10 were usual");
}

proptest! {
    #[test]
    fn it_stays_within_its_bounds_whatever_happens(
        min in 1_usize..20,
        more in 0_usize..200,
        events in prop::collection::vec((0_u64..300, 0_u64..1000, 0_u8..8), 0..2000),
    ) {
        let bounds = bounds(min, min + more);
        let mut window = Window::new(bounds);
        let mut now = NOW.millis();
        for (passes, took, kind) in events {
            now += passes;
            let (at, sent_at) = (Timestamp::from_millis(now), Timestamp::from_millis(now - took));
            match kind {
                0 => window.handle_overload(at, sent_at),
                1 if took < 20 => window.restart(),
                2 => window.shift(i64::try_from(took).unwrap() - 500),
                _ => window.handle_success(at, sent_at, kind > 3),
            }
            prop_assert!((bounds.min..=bounds.max).contains(&window.limit()));
        }
    }
}
