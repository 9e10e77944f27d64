//! A wall clock that is set by an hour: nothing goes early, and nothing waits for longer than it would have.
//!
//! Half of every wait passes, the clock is set, all but a millisecond of the other half passes.

use std::time::Duration;

use backstop::core::breaker::{BreakerPolicy, Circuit};
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::id::DeliveryId;
use backstop::core::rate::Rate;
use backstop::core::timestamp::Timestamp;

use super::world::{Process, Setup, World, answer, endpoint};

const HOUR_MS: i64 = 3_600_000;
const JUMPS: [i64; 2] = [HOUR_MS, -HOUR_MS];
const TICK: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A millisecond before `until` is reached, the clock having been set on the way, with so many on their way; by the
/// new clock.
async fn almost(world: &World, process: &Process, until: Timestamp, by: i64, in_flight: usize) -> Timestamp {
    process.lane_until("crm", |lane| lane.in_flight == in_flight).await;
    world.pass(until.since(world.now()) / 2);
    process.lane("crm").await;
    world.set_wall(by);
    process.lane("crm").await;
    let until = until.shifted(by);
    world.set_clock(until.shifted(-1));
    assert_eq!(process.lane("crm").await.in_flight, in_flight, "{by}: a millisecond early is early");
    until
}

fn only(endpoint: Endpoint, active_max: usize) -> Setup {
    Setup { endpoints: vec![endpoint], active_max, ..Setup::default() }
}

async fn fail_for_a_minute(process: &mut Process, id: DeliveryId) {
    process.take(id).await.reply(answer(500, Some(MINUTE)));
    process.tried(id, 1).await;
}

#[tokio::test]
async fn retries_wait_for_as_long_as_was_decided_in_memory_and_in_the_journal() {
    for (by, active_max) in JUMPS.into_iter().flat_map(|by| [(by, 1000), (by, 2)]) {
        let world = World::new();
        let mut process = world.start(only(endpoint("crm", 10), active_max));
        let until = world.now().after(MINUTE);
        let mut ids = Vec::new();
        for _ in 0..7 {
            let id = process.accept("crm").await.delivery(0);
            fail_for_a_minute(&mut process, id).await;
            ids.push(id);
        }
        process.lane_until("crm", |lane| lane.in_flight == 0 && lane.waiting == 7.min(active_max)).await;
        let until = almost(&world, &process, until, by, 0).await;
        world.set_clock(until);
        process.lane("crm").await;
        process.deliver_all(&world, "crm").await;
        assert!(ids.iter().all(|id| world.delivery(*id).attempts == 2), "{by}: nothing went twice");
    }
}

#[tokio::test]
async fn a_silence_lasts_as_long_as_was_asked_for() {
    for by in JUMPS {
        let world = World::new();
        let mut process = world.start(Setup::default());
        let first = process.accept("crm").await.delivery(0);
        process.next().await.reply(answer(429, Some(MINUTE)));
        process.tried(first, 1).await;
        process.accept("crm").await;
        let until = process.lane("crm").await.held_until.unwrap();
        let until = almost(&world, &process, until, by, 0).await;
        assert_eq!(process.lane("crm").await.held_until, Some(until));
        world.set_clock(until);
        process.lane("crm").await;
        process.deliver_all(&world, "crm").await;
    }
}

#[tokio::test]
async fn a_probe_goes_when_it_was_to_go() {
    for by in JUMPS {
        let world = World::new();
        let policy = BreakerPolicy { failures: 1, ..BreakerPolicy::default() };
        let mut process = world.start(only(Endpoint { breaker: Some(policy), ..endpoint("crm", 4) }, 1000));
        let id = process.accept("crm").await.delivery(0);
        process.next().await.answer(500);
        process.tried(id, 1).await;
        let other = process.accept("crm").await.delivery(0);
        let Circuit::Open { probe_at, .. } = process.lane("crm").await.standing.circuit else { panic!("it is open") };
        let until = almost(&world, &process, probe_at, by, 0).await;
        world.set_clock(until);
        process.lane("crm").await;
        let probe = process.next().await;
        assert!([id, other].contains(&probe.id()));
    }
}

#[tokio::test]
async fn a_rate_gives_the_next_one_when_it_was_to_give_it() {
    for by in JUMPS {
        let world = World::new();
        let rate = Rate { count: 1, per: MINUTE, burst: 1 };
        let mut process = world.start(only(Endpoint { rate: Some(rate), ..endpoint("crm", 4) }, 1000));
        process.accept("crm").await;
        let second = process.accept("crm").await.delivery(0);
        let first = process.next().await;
        let until = process.lane("crm").await.rate_next_at.unwrap();
        let until = almost(&world, &process, until, by, 1).await;
        world.set_clock(until);
        process.lane("crm").await;
        assert_eq!(process.next().await.id(), second);
        first.answer(200);
    }
}

#[tokio::test]
async fn a_line_is_held_for_as_long_as_it_may_be() {
    for by in JUMPS {
        let world = World::new();
        let ordered = Endpoint { order: Order::Key, order_hold_max: MINUTE, ..endpoint("crm", 4) };
        let mut process = world.start(only(ordered, 1000));
        let until = world.now().after(MINUTE);
        let (first, second) = (process.accept_of("crm", "k").await, process.accept_of("crm", "k").await);
        process.take(first).await.reply(answer(500, Some(10 * MINUTE)));
        process.tried(first, 1).await;
        let until = almost(&world, &process, until, by, 0).await;
        world.set_clock(until);
        process.lane("crm").await;
        process.take(second).await.answer(200);
        assert!(process.ended(second).await.out_of_order);
        process.lane_until("crm", |lane| lane.in_flight == 0).await;
        world.pass(9 * MINUTE - TICK);
        assert_eq!(process.lane("crm").await.in_flight, 0);
        world.pass(TICK);
        process.lane("crm").await;
        process.take(first).await.answer(200);
        process.ended(first).await;
    }
}

/// What the new clock wrote is not taken for the old clock's, nor the other way round. Set back, what the old clock
/// wrote stands last in the journal's list, and comes later where memory cannot hold all.
#[tokio::test]
async fn retries_from_before_and_after_the_jump_wait_alike() {
    for (by, active_max) in [(HOUR_MS, 1), (HOUR_MS, 1000), (-HOUR_MS, 1000)] {
        let world = World::new();
        let mut process = world.start(only(endpoint("crm", 10), active_max));
        let mut ids = Vec::new();
        for jump in [0, by] {
            process.lane("crm").await;
            world.set_wall(jump);
            process.lane("crm").await;
            for _ in 0..3 {
                let id = process.accept("crm").await.delivery(0);
                fail_for_a_minute(&mut process, id).await;
                ids.push(id);
            }
            process.lane_until("crm", |lane| lane.in_flight == 0).await;
            world.pass(MINUTE / 2 - TICK);
            process.lane("crm").await;
            world.pass(if jump == 0 { TICK } else { Duration::ZERO });
        }
        assert_eq!(process.lane("crm").await.in_flight, 0, "{by}: too early");
        world.pass(TICK);
        process.lane("crm").await;
        for _ in 0..3 {
            let sent = process.next().await;
            assert!(ids[..3].contains(&sent.id()), "{by}: the first to fail go first");
            sent.answer(200);
        }
        process.lane_until("crm", |lane| lane.in_flight == 0).await;
        world.pass(MINUTE / 2);
        process.lane("crm").await;
        process.deliver_all(&world, "crm").await;
    }
}
