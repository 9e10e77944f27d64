//! Every state of the circuit against every kind of news, and what an outage looks like from outside.

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const REFUSED: Sign = Sign::Failure(FailureClass::Refused);
const FAILURE: Verdict = Verdict::Failure(REFUSED);

fn breaker() -> Breaker {
    Breaker::new(Some(BreakerPolicy::default()), Circuit::Closed)
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

fn at(millis: u64) -> Timestamp {
    NOW.after(Duration::from_millis(millis))
}

/// One attempt from departure to landing; whether the circuit changed.
fn attempt(breaker: &mut Breaker, sent: u64, landed: u64, verdict: Verdict) -> bool {
    let is_probe = match breaker.admits(at(sent), 0) {
        Admission::Free => false,
        Admission::Probe => true,
        held => panic!("{held:?}"),
    };
    breaker.handle_sent(at(sent), is_probe);
    breaker.handle_result(at(landed), at(sent), is_probe, verdict, 4, &mut rng())
}

fn opened() -> Breaker {
    let mut breaker = breaker();
    let changed: Vec<bool> = (1..=5).map(|n| attempt(&mut breaker, n * 10, n * 10 + 5, FAILURE)).collect();
    assert_eq!(changed, [false, false, false, false, true]);
    breaker
}

fn half_open() -> Breaker {
    let mut breaker = opened();
    assert!(attempt(&mut breaker, 10_000, 10_010, Verdict::Success));
    breaker
}

fn word(breaker: &Breaker) -> String {
    match breaker.circuit() {
        Circuit::Closed => "closed".to_owned(),
        Circuit::Open { probes, .. } => format!("open {probes}"),
        Circuit::HalfOpen { allowed, .. } => format!("half {allowed}"),
    }
}

/// Every state, every kind of news from a probe and from what left before: the state after it.
#[test]
fn every_state_meets_every_kind_of_news() {
    let news = [Verdict::Success, FAILURE, Verdict::Throttled, Verdict::Neutral];
    let almost = || {
        let mut breaker = breaker();
        (1..=4).for_each(|n| {
            attempt(&mut breaker, n * 10, n * 10 + 5, FAILURE);
        });
        breaker
    };
    let failed_once = || {
        let mut breaker = half_open();
        attempt(&mut breaker, 10_020, 10_030, FAILURE);
        breaker
    };
    type State<'a> = (&'a dyn Fn() -> Breaker, [&'a str; 4], &'a str);
    let table: [State<'_>; 5] = [
        (&breaker, ["closed", "closed", "closed", "closed"], "closed"),
        (&almost, ["closed", "open 0", "closed", "closed"], "open 0"),
        (&opened, ["half 2", "open 1", "open 0", "open 0"], "open 0"),
        (&half_open, ["half 2", "half 2", "half 2", "half 2"], "half 2"),
        (&failed_once, ["half 2", "open 1", "half 2", "half 2"], "half 2"),
    ];
    for (state, (begin, expected, after_straggler)) in table.into_iter().enumerate() {
        for (verdict, expected) in news.into_iter().zip(expected) {
            let mut breaker = begin();
            attempt(&mut breaker, 20_000, 20_005, verdict);
            assert_eq!(word(&breaker), expected, "state {state}, {verdict:?}");
        }
        let mut breaker = begin();
        breaker.handle_result(at(20_005), at(46), false, FAILURE, 4, &mut rng());
        assert_eq!(word(&breaker), after_straggler, "state {state}, a failure of what left long ago");
    }
}

#[test]
fn probes_go_one_at_a_time_at_growing_intervals_up_to_the_cap() {
    let mut breaker = opened();
    let mut now = at(55);
    let mut waits = vec![];
    for _ in 0..9 {
        let Admission::Until(next) = breaker.admits(now, 0) else { panic!("a probe went too soon") };
        waits.push(next.since(now).as_millis());
        now = next;
        assert_eq!(breaker.admits(now, 0), Admission::Probe);
        breaker.handle_sent(now, true);
        assert_eq!(breaker.admits(now, 1), Admission::Busy);
        assert!(breaker.handle_result(now, now, true, FAILURE, 4, &mut rng()));
    }
    for (wait, seconds) in waits.iter().zip([5, 10, 20, 40, 80, 160, 300, 300, 300]) {
        assert!((seconds * 900..=seconds * 1100).contains(wait), "{waits:?}");
    }
    let Circuit::Open { since, cause, sign, probes, .. } = breaker.circuit() else { panic!() };
    assert_eq!((since, cause, sign, probes), (at(55), TripCause::ConsecutiveFailures, REFUSED, 9));
}

#[test]
fn the_ramp_doubles_until_the_window_is_reached() {
    let mut breaker = opened();
    breaker.handle_sent(at(8000), true);
    breaker.handle_result(at(9000), at(8000), true, Verdict::Success, 10, &mut rng());
    let mut seen = vec![word(&breaker)];
    for n in 0..20 {
        if breaker.is_closed() {
            break;
        }
        let sent = at(9001 + n);
        if breaker.handle_result(sent, sent, true, Verdict::Success, 10, &mut rng()) {
            seen.push(word(&breaker));
        }
    }
    assert_eq!(seen, ["half 2", "half 4", "half 8", "closed"]);
}

#[test]
fn failures_that_were_on_their_way_together_count_once() {
    let mut breaker = breaker();
    for _ in 0..16 {
        assert!(!breaker.handle_result(at(500), at(0), false, FAILURE, 16, &mut rng()));
    }
    assert_eq!((word(&breaker), breaker.in_row), ("closed".to_owned(), 1));
}

#[test]
fn the_failure_rate_opens_it_only_with_enough_samples_within_the_window() {
    let policy = BreakerPolicy { failures: 1000, ..BreakerPolicy::default() };
    let run = |every_ms: u64, count: u64| {
        let mut breaker = Breaker::new(Some(policy.clone()), Circuit::Closed);
        let verdict = |n: u64| if n.is_multiple_of(2) { Verdict::Success } else { FAILURE };
        (0..count).find(|n| attempt(&mut breaker, n * every_ms, n * every_ms + 1, verdict(*n)))
    };
    assert_eq!(run(1000, 40), Some(19), "with the twentieth sample");
    assert_eq!(run(1000, 19), None);
    assert_eq!(run(10_000, 1000), None, "never twenty within a minute");
    let mut rare = Breaker::new(Some(policy.clone()), Circuit::Closed);
    let verdict = |n: u64| if n.is_multiple_of(3) { FAILURE } else { Verdict::Success };
    assert!(!(0..1000).any(|n| attempt(&mut rare, n * 100, n * 100 + 1, verdict(n))), "a third is not half");
}

#[test]
fn one_that_opens_again_at_once_is_probed_less_and_less() {
    let mut breaker = opened();
    let mut now = 55;
    let mut waits = vec![];
    for _ in 0..5 {
        let Circuit::Open { probe_at, .. } = breaker.circuit() else { panic!("{}", word(&breaker)) };
        waits.push(probe_at.since(at(now)).as_secs());
        now = probe_at.since(NOW).as_millis() as u64;
        attempt(&mut breaker, now, now + 1, Verdict::Success);
        attempt(&mut breaker, now + 2, now + 3, FAILURE);
        attempt(&mut breaker, now + 4, now + 5, FAILURE);
        now += 5;
    }
    assert!(waits.is_sorted() && waits[4] > 60, "{waits:?}");
}

#[test]
fn without_a_policy_it_never_opens() {
    let open = opened().circuit();
    let mut breaker = Breaker::new(None, open);
    assert!(breaker.is_closed());
    assert!(!(0..1000).any(|n| attempt(&mut breaker, n, n + 1, FAILURE)));
    assert!(breaker.ramp(at(2000)));
    (0..10).for_each(|n| {
        attempt(&mut breaker, 3000 + n * 10, 3005 + n * 10, FAILURE);
    });
    assert_eq!(word(&breaker), "half 1");
}

#[test]
fn a_restart_goes_on_where_it_stood() {
    let open = opened().circuit();
    let Circuit::Open { probe_at, .. } = open else { panic!() };
    let again = Breaker::new(Some(BreakerPolicy::default()), open);
    assert_eq!(again.admits(at(60), 0), Admission::Until(probe_at));
    assert_eq!(again.admits(probe_at, 0), Admission::Probe);
    let set_back = Timestamp::from_millis(NOW.millis() - 86_400_000);
    assert_eq!(again.admits(set_back, 0), Admission::Probe, "a clock set back meanwhile keeps nobody waiting");
    let half = Breaker::new(Some(BreakerPolicy::default()), half_open().circuit());
    assert_eq!((half.admits(at(20_000), 1), half.admits(at(20_000), 2)), (Admission::Probe, Admission::Busy));
}

#[test]
fn a_clock_that_jumps_changes_no_wait() {
    for hour in [3_600_000_i64, -3_600_000] {
        let mut breaker = opened();
        let Admission::Until(before) = breaker.admits(at(60), 0) else { panic!() };
        breaker.shift(hour);
        let Admission::Until(after) = breaker.admits(at(60).shifted(hour), 0) else { panic!() };
        assert_eq!(after, before.shifted(hour));
    }
}

#[test]
fn a_lost_probe_gives_its_place_back_and_a_throttled_one_asks_again_soon() {
    let mut breaker = opened();
    breaker.handle_sent(at(10_000), true);
    breaker.handle_lost(at(10_000), true);
    assert_eq!(breaker.admits(at(10_000), 0), Admission::Probe);
    breaker.handle_sent(at(10_000), true);
    breaker.handle_result(at(10_001), at(10_000), true, Verdict::Throttled, 4, &mut rng());
    assert_eq!(breaker.admits(at(10_001), 0), Admission::Until(at(15_001)));
}

/// However the news come: while it is open one probe at most is on its way.
#[test]
fn never_two_probes_while_it_is_open() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut breaker = breaker();
        let mut flights: Vec<(Timestamp, bool)> = vec![];
        let mut now = NOW;
        for _ in 0..2000 {
            now = now.after(Duration::from_millis(rng.u64(1..3000)));
            let admitted = breaker.admits(now, flights.len());
            let is_open = matches!(breaker.circuit(), Circuit::Open { .. });
            if matches!(admitted, Admission::Free | Admission::Probe) && flights.len() < 8 {
                let is_probe = admitted == Admission::Probe;
                breaker.handle_sent(now, is_probe);
                flights.push((now, is_probe));
            }
            if is_open && let Circuit::Open { since, .. } = breaker.circuit() {
                assert!(flights.iter().filter(|(sent, probe)| *probe && *sent > since).count() <= 1, "seed {seed}");
            }
            if !flights.is_empty() && rng.bool() {
                let (sent, is_probe) = flights.swap_remove(rng.usize(0..flights.len()));
                let verdict =
                    [Verdict::Success, FAILURE, FAILURE, Verdict::Throttled, Verdict::Neutral][rng.usize(0..5)];
                breaker.handle_result(now, sent, is_probe, verdict, 8, &mut rng);
            }
        }
    }
}

/// Every circuit, verdict, kind of flight and time of departure: exactly the arrows that are drawn.
#[test]
fn exactly_the_drawn_arrows_are_taken() {
    let almost = || {
        let mut breaker = breaker();
        (1..=4).for_each(|n| {
            attempt(&mut breaker, n * 10, n * 10 + 5, FAILURE);
        });
        breaker
    };
    let probing = || {
        let mut breaker = opened();
        breaker.handle_sent(at(10_000), true);
        breaker
    };
    let through = || {
        let mut breaker = half_open();
        attempt(&mut breaker, 10_020, 10_030, Verdict::Success);
        breaker
    };
    let shaken = || {
        let mut breaker = half_open();
        attempt(&mut breaker, 10_020, 10_030, FAILURE);
        breaker
    };
    type State<'a> = (&'a str, &'a dyn Fn() -> Breaker);
    let states: [State<'_>; 6] = [
        ("closed", &breaker),
        ("failing", &almost),
        ("open", &probing),
        ("half open", &half_open),
        ("through", &through),
        ("shaken", &shaken),
    ];
    let verdicts = [Verdict::Success, FAILURE, Verdict::Overload(REFUSED), Verdict::Throttled, Verdict::Neutral];
    // A late one left before the last thing that happened.
    let flights = [("late probe", true, 1), ("probe", true, 20_000), ("late", false, 1), ("ordinary", false, 20_000)];
    let mut taken = vec![];
    for (state, begin) in states {
        for (verdict, (kind, is_probe, sent)) in
            verdicts.into_iter().flat_map(|verdict| flights.map(|it| (verdict, it)))
        {
            let mut breaker = begin();
            let before = word(&breaker);
            let told = breaker.handle_result(at(20_005), at(sent), is_probe, verdict, 4, &mut rng());
            let after = word(&breaker);
            assert!(told || before == after, "{state}, {verdict:?}: a change nobody is told of");
            if before != after {
                let verdict = format!("{verdict:?}");
                let verdict = verdict.split('(').next().unwrap();
                taken.push(format!("{state}, {kind} {verdict}: {after}"));
            }
        }
    }
    let drawn = [
        "failing, probe Failure: open 0",
        "failing, ordinary Failure: open 0",
        "open, probe Success: half 2",
        "open, probe Failure: open 1",
        "open, probe Overload: open 1",
        "through, late probe Success: closed",
        "through, probe Success: closed",
        "shaken, late probe Failure: open 1",
        "shaken, probe Failure: open 1",
        "shaken, late probe Overload: open 1",
        "shaken, probe Overload: open 1",
    ];
    assert_eq!(taken, drawn);
}

#[test]
fn a_probe_that_leaves_before_it_opened_by_a_clock_that_was_set_back_still_counts() {
    let mut breaker = Breaker::new(Some(BreakerPolicy::default()), opened().circuit());
    let mut set_back = Timestamp::from_millis(NOW.millis() - 86_400_000);
    for _ in 0..3 {
        set_back = set_back.after(BreakerPolicy::default().probe_initial);
        assert_eq!(breaker.admits(set_back, 0), Admission::Probe);
        breaker.handle_sent(set_back, true);
        assert!(breaker.handle_result(set_back, set_back, true, Verdict::Neutral, 4, &mut rng()));
    }
}

/// What is wrong here, before anything is sent, is not tried anew with every delivery that waits.
#[test]
fn a_probe_that_was_not_sent_is_made_again_after_a_while() {
    let mut breaker = opened();
    let Circuit::Open { probe_at, probes, .. } = breaker.circuit() else { panic!("it is open") };
    breaker.handle_sent(probe_at, true);
    breaker.handle_result(probe_at, probe_at, true, Verdict::Neutral, 4, &mut rng());
    let again_at = probe_at.after(BreakerPolicy::default().probe_initial);
    assert_eq!(breaker.admits(probe_at, 0), Admission::Until(again_at));
    assert_eq!(breaker.admits(again_at, 0), Admission::Probe);
    assert!(
        matches!(breaker.circuit(), Circuit::Open { probes: now, .. } if now == probes),
        "nothing was learnt of it"
    );
}
