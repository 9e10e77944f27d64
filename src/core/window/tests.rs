//! The window in closed loops with simulated endpoints: no real time, every run from its seed.

use super::*;
use std::collections::BinaryHeap;

const START: u64 = 1_700_000_000_000;

/// What an endpoint does with a request that arrives as one of `in_flight`: how long it takes, whether it fails.
type Behaviour<'a> = dyn FnMut(u64, usize) -> (u64, bool) + 'a;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Landing {
    at: std::cmp::Reverse<u64>,
    sent: u64,
    was_full: bool,
    fails: bool,
}

struct Report {
    succeeded: u64,
    mean_limit: f64,
    last_limit: usize,
}

/// An endless backlog against an endpoint for so many simulated milliseconds.
fn run(window: &mut Window, millis: u64, behaviour: &mut Behaviour<'_>) -> Report {
    let mut flights: BinaryHeap<Landing> = BinaryHeap::new();
    let (mut now, mut succeeded, mut area) = (START, 0, 0.0);
    while now < START + millis {
        while flights.len() < window.limit() {
            let (took, fails) = behaviour(now - START, flights.len() + 1);
            let was_full = flights.len() + 1 >= window.limit();
            flights.push(Landing { at: std::cmp::Reverse(now + took.max(1)), sent: now, was_full, fails });
        }
        let landing = flights.pop().unwrap();
        area += (landing.at.0 - now) as f64 * window.limit() as f64;
        now = landing.at.0;
        let (at, sent) = (Timestamp::from_millis(now), Timestamp::from_millis(landing.sent));
        if landing.fails {
            window.handle_overload(at, sent);
        } else {
            succeeded += 1;
            window.handle_success(at, sent, landing.was_full);
        }
        let Concurrency { min, max } = window.bounds;
        assert!((min..=max).contains(&window.limit()));
    }
    Report { succeeded, mean_limit: area / (now - START) as f64, last_limit: window.limit() }
}

const TEN_MINUTES: u64 = 600_000;
const WIDE: Concurrency = Concurrency { min: 1, max: 200 };

/// Above `max` requests at once everything that arrives fails for half a second, and slowly.
fn collapses(max: impl Fn(u64) -> usize) -> impl FnMut(u64, usize) -> (u64, bool) {
    let mut down_until = 0;
    move |now, in_flight| {
        if in_flight > max(now) {
            down_until = now + 500;
        }
        if now < down_until { (500, true) } else { (50, false) }
    }
}

fn fixed(count: usize, behaviour: &mut Behaviour<'_>) -> Report {
    run(&mut Window::new(Concurrency { min: count, max: count }), TEN_MINUTES, behaviour)
}

#[test]
fn it_converges_near_the_point_of_collapse_and_loses_little() {
    let best = fixed(20, &mut collapses(|_| 20));
    let found = run(&mut Window::new(WIDE), TEN_MINUTES, &mut collapses(|_| 20));
    let part = found.succeeded as f64 / best.succeeded as f64;
    assert!(part > 0.8, "{part} of what a hand-tuned window reaches");
    assert!((14.0..=21.0).contains(&found.mean_limit), "{}", found.mean_limit);
}

#[test]
fn an_endpoint_that_sheds_what_is_too_much_is_kept_busy() {
    let mut sheds = |_: u64, in_flight: usize| if in_flight > 20 { (2, true) } else { (50, false) };
    let best = fixed(20, &mut sheds);
    let found = run(&mut Window::new(WIDE), TEN_MINUTES, &mut sheds);
    let part = found.succeeded as f64 / best.succeeded as f64;
    assert!(part > 0.8, "{part}");
    assert!((14.0..=22.0).contains(&found.mean_limit), "{}", found.mean_limit);
}

#[test]
fn slowness_alone_keeps_it_small() {
    let mut slows = |_: u64, in_flight: usize| {
        let load = in_flight as u64;
        (if load <= 20 { 50 } else { 50 * load * load / 400 }, false)
    };
    let found = run(&mut Window::new(WIDE), TEN_MINUTES, &mut slows);
    assert!((15.0..=40.0).contains(&found.mean_limit), "{}", found.mean_limit);
}

#[test]
fn it_follows_an_endpoint_that_grows_and_one_that_shrinks() {
    for (before, after) in [(10, 40), (40, 10)] {
        let switch = move |now: u64| if now < TEN_MINUTES / 2 { before } else { after };
        let found = run(&mut Window::new(WIDE), TEN_MINUTES, &mut collapses(switch));
        assert!((after * 7 / 10..=after + 1).contains(&found.last_limit), "{before} {after}: {}", found.last_limit);
    }
}

#[test]
fn answers_of_mixed_length_are_no_trouble() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut turn = 0;
    let mut alternating = move |_: u64, _: usize| {
        turn += 1;
        (if turn % 2 == 0 { 5 } else { 50 }, false)
    };
    assert!(run(&mut Window::new(WIDE), 60_000, &mut alternating).last_limit == 200);
    let mut uniform = |_: u64, _: usize| (rng.u64(5..200), false);
    assert!(run(&mut Window::new(WIDE), 60_000, &mut uniform).last_limit == 200);
    let mut rng = fastrand::Rng::with_seed(6);
    let mut straggling = |_: u64, _: usize| (if rng.u32(0..200) == 0 { 3000 } else { 10 }, false);
    assert!(run(&mut Window::new(WIDE), 60_000, &mut straggling).mean_limit > 100.0);
}

#[test]
fn a_burst_of_failures_cuts_once() {
    let mut window = Window::new(Concurrency { min: 1, max: 16 });
    let at = |millis: u64| Timestamp::from_millis(START + millis);
    (0..100).for_each(|_| window.handle_success(at(1), at(0), true));
    assert_eq!(window.limit(), 16);
    (0..16).for_each(|_| window.handle_overload(at(50), at(2)));
    assert_eq!(window.limit(), 13, "0.8 of 16.99, once");
    window.handle_overload(at(90), at(60));
    assert_eq!(window.limit(), 10);
}

/// Every kind of news in every phase: what becomes of the limit.
#[test]
fn every_kind_of_news_in_every_phase() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let at = |millis: u64| Timestamp::from_millis(START + millis);
    let doubling = || Window::new(WIDE);
    let cut = || {
        let mut window = Window::new(WIDE);
        (0..96).for_each(|_| window.handle_success(at(1), at(0), true));
        window.handle_overload(at(10), at(5));
        window
    };
    type Phase<'a> = (&'a dyn Fn() -> Window, [std::cmp::Ordering; 5]);
    // Success full, success not full, an old success, an error, an old error.
    let table: [Phase<'_>; 2] =
        [(&doubling, [Greater, Equal, Greater, Less, Less]), (&cut, [Greater, Equal, Equal, Less, Equal])];
    for (phase, (begin, expected)) in table.into_iter().enumerate() {
        for (news, expected) in expected.into_iter().enumerate() {
            let mut window = begin();
            let before = window.limit;
            match news {
                0 => window.handle_success(at(21), at(20), true),
                1 => window.handle_success(at(21), at(20), false),
                2 => window.handle_success(at(21), at(4), true),
                3 => window.handle_overload(at(21), at(20)),
                _ => window.handle_overload(at(21), at(4)),
            }
            assert_eq!(window.limit.partial_cmp(&before), Some(expected), "phase {phase}, news {news}");
        }
    }
}

#[test]
fn equal_bounds_are_fixed_and_a_restart_begins_small() {
    let mut rng = fastrand::Rng::with_seed(9);
    let mut window = Window::new(Concurrency { min: 7, max: 7 });
    let mut free = Window::new(WIDE);
    for step in 0..10_000 {
        let now = Timestamp::from_millis(START + step * 10);
        let sent = Timestamp::from_millis(START + step * 10 - rng.u64(0..500));
        for window in [&mut window, &mut free] {
            match rng.u32(0..4) {
                0 => window.handle_overload(now, sent),
                1 if step % 100 == 0 => window.restart(),
                _ => window.handle_success(now, sent, rng.bool()),
            }
        }
        assert_eq!(window.limit(), 7);
        assert!((1..=200).contains(&free.limit()));
    }
    free.restart();
    assert_eq!(free.limit(), 4);
}
