//! A wall clock that is set: every wait takes as long as it would have.

use super::*;

const HOUR: i64 = 3_600_000;
const MINUTE: Duration = Duration::from_secs(60);

fn a() -> Name {
    Name::new("a").unwrap()
}

/// Waiting deliveries, one a minute, the last one ten minutes from now; all of them failed just now.
fn retries() -> Vec<Active> {
    let due = |nth: u32| NOW.after(MINUTE * (nth + 1));
    let retry = |(nth, id): (u32, EventId)| Active {
        due: due(nth),
        attempts: 1,
        tried_at: Some(NOW),
        ..Active::fresh(id.delivery(0), NOW, None)
    };
    (0..).zip(ids(10)).map(retry).collect()
}

/// Answers what is asked out of `waiting`; fails if the journal is asked without end.
fn feed(scheduler: &mut Scheduler, now: Timestamp, waiting: &[Active]) {
    let mut asked = 0;
    while let Some(refill) = scheduler.poll_refill() {
        asked += 1;
        assert!(asked < 50, "the journal is asked again and again");
        match refill {
            Refill::Waiting { endpoint, limit } => {
                let found = &waiting[..limit.min(waiting.len())];
                scheduler.handle_waiting(now, &endpoint, found, waiting.len() <= limit);
            }
            Refill::Fresh { endpoint, after, .. } => {
                scheduler.handle_fresh(&endpoint, Fresh { deliveries: vec![], scanned_to: after, end: true });
            }
            Refill::Line { .. } => panic!("no order is kept here"),
        }
    }
}

/// When each of the ten goes, in seconds that have really passed, if the clock is set by `by` after half a minute.
fn departures(active_max: usize, by: i64) -> Vec<u64> {
    let mut scheduler = Scheduler::new(limits(active_max), vec![lot(endpoint("a", 100))]);
    let mut waiting = retries();
    feed(&mut scheduler, NOW, &waiting);
    let mut departed = vec![];
    for second in 1..=1200 {
        let set = if second > 30 { by } else { 0 };
        let now = NOW.after(Duration::from_secs(second)).shifted(set);
        if second == 31 {
            scheduler.handle_clock_jump(by);
        }
        feed(&mut scheduler, now, &waiting);
        while let Some(sent) = scheduler.poll_dispatch(now) {
            scheduler.handle_outcome(now, sent.id, &answered(200, None), &mut fastrand::Rng::with_seed(1)).unwrap();
            waiting.retain(|active| active.id != sent.id);
            scheduler.handle_settled(sent.id);
            departed.push(second);
            feed(&mut scheduler, now, &waiting);
        }
    }
    assert!(waiting.is_empty(), "{active_max}, {by}: stalled with {waiting:?}");
    departed
}

#[test]
fn what_waits_in_memory_goes_when_its_span_has_passed() {
    let minutes: Vec<u64> = (1..=10).map(|minute| minute * 60).collect();
    for by in [0, HOUR, -HOUR] {
        assert_eq!(departures(100, by), minutes, "{by}");
    }
}

/// What stands in the journal only has the old clock's times.
#[test]
fn what_waits_in_the_journal_goes_when_its_span_has_passed() {
    let minutes: Vec<u64> = (1..=10).map(|minute| minute * 60).collect();
    for active_max in [1, 2, 4] {
        for by in [HOUR, -HOUR] {
            assert_eq!(departures(active_max, by), minutes, "{active_max}, {by}");
        }
    }
}

#[test]
fn an_outcome_that_was_decided_before_the_jump_is_waited_for_as_decided() {
    for by in [HOUR, -HOUR] {
        let mut scheduler = scheduler(4, vec![endpoint("a", 1)]);
        scheduler.handle_accepted(ids(1)[0].delivery(0), &a(), NOW, None);
        let sent = scheduler.poll_dispatch(NOW).unwrap();
        let failed = answered(503, Some(MINUTE));
        let failed = Attempt { outcome: Outcome::Retryable, ..failed };
        scheduler.handle_outcome(NOW, sent.id, &failed, &mut fastrand::Rng::with_seed(1)).unwrap();
        scheduler.handle_clock_jump(by);
        scheduler.handle_settled(sent.id);
        assert_eq!(scheduler.poll_dispatch(NOW.shifted(by).after(MINUTE - Duration::from_millis(1))), None, "{by}");
        assert!(scheduler.poll_dispatch(NOW.shifted(by).after(MINUTE)).is_some(), "{by}");
    }
}

/// Nobody saw the clock being set back between two processes: no wait is longer than any that is ever asked for.
#[test]
fn what_a_former_process_remembered_of_a_later_clock_keeps_nobody_waiting() {
    use crate::core::breaker::{BreakerPolicy, Circuit, Sign, TripCause};
    let day_ahead = NOW.after(Duration::from_secs(86_400));
    let circuit = Circuit::Open {
        since: day_ahead,
        cause: TripCause::ConsecutiveFailures,
        sign: Sign::Status(500),
        probe_at: day_ahead,
        probes: 3,
    };
    for standing in
        [Standing { held_until: day_ahead, ..Standing::default() }, Standing { circuit, ..Standing::default() }]
    {
        let endpoint = Endpoint { breaker: Some(BreakerPolicy::default()), ..endpoint("a", 1) };
        let lot = Lot { endpoint, mark: EventId::MIN, standing };
        let mut scheduler = Scheduler::new(limits(4), vec![lot]);
        feed_nothing(&mut scheduler);
        for (second, id) in (0..).zip(ids(3)) {
            let now = NOW.after(Duration::from_secs(second));
            scheduler.handle_accepted(id.delivery(0), &a(), now, None);
            let sent = scheduler.poll_dispatch(now).unwrap();
            scheduler.handle_outcome(now, sent.id, &answered(200, None), &mut fastrand::Rng::with_seed(1)).unwrap();
            scheduler.handle_settled(sent.id);
        }
        assert_eq!(scheduler.standing(&a()).unwrap().circuit, Circuit::Closed);
    }
}
