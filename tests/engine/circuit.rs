//! The circuit: an endpoint that is down costs its deliveries nothing but time, and comes back to few at first.

use std::time::Duration;

use backstop::core::breaker::{BreakerPolicy, Circuit, Sign, TripCause};
use backstop::core::delivery::{Reason, State, Status};
use backstop::core::endpoint::Endpoint;
use backstop::core::id::DeliveryId;
use backstop::core::retry::RetryPolicy;
use backstop::core::scheduler::On;
use backstop::core::standing::PauseCause;
use backstop::core::timestamp::Timestamp;
use backstop::journal::Journal as _;

use super::world::{Process, Setup, World, answer, endpoint, name, within};

const TICK: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const FAILURES: u32 = 3;

/// Up to eight at a time; opens after three failures in a row; four attempts at most.
fn fragile() -> Setup {
    let policy = BreakerPolicy {
        failures: FAILURES,
        samples_min: 1000,
        probe_initial: Duration::from_secs(10),
        probe_max: Duration::from_secs(40),
        ..BreakerPolicy::default()
    };
    let retry = RetryPolicy { attempts_max: 4, ..RetryPolicy::default() };
    Setup { endpoints: vec![Endpoint { breaker: Some(policy), retry, ..endpoint("crm", 8) }], ..Setup::default() }
}

/// Fails one delivery after the other; each failure is known before the next one leaves.
async fn fail(world: &World, process: &mut Process, count: u32) -> Vec<DeliveryId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        world.pass(TICK);
        let id = process.accept("crm").await.delivery(0);
        // No retry comes in between.
        process.take(id).await.reply(answer(500, Some(MINUTE)));
        process.tried(id, 1).await;
        process.lane_until("crm", |lane| lane.in_flight == 0).await;
        ids.push(id);
    }
    ids
}

async fn circuit(process: &Process) -> Circuit {
    process.lane("crm").await.standing.circuit
}

async fn probe_at(process: &Process) -> Timestamp {
    let Circuit::Open { probe_at, .. } = circuit(process).await else { panic!("it is open") };
    probe_at
}

/// The next probe leaves when it is due, alone, and meets this.
async fn probe(world: &World, process: &mut Process, status: u16) -> DeliveryId {
    let due = probe_at(process).await;
    world.set_clock(due.shifted(-1));
    assert_eq!(process.lane("crm").await.in_flight, 0, "a millisecond early is early");
    world.set_clock(due);
    process.lane_until("crm", |lane| lane.in_flight == 1).await;
    let sent = process.next().await;
    world.pass(TICK);
    assert_eq!(process.lane("crm").await.in_flight, 1, "one probe at a time");
    let (id, number) = (sent.id(), usize::try_from(sent.sending.attempt).unwrap());
    sent.answer(status);
    process.tried(id, number).await;
    process.lane_until("crm", |lane| lane.in_flight == 0 || status == 200).await;
    id
}

/// What has changed last is on disk.
async fn remembered(process: &Process) {
    let standing = process.lane("crm").await.standing;
    process.disk.until(|disk| disk.memory.standing(&name("crm")) == standing).await;
}

#[tokio::test]
async fn failures_in_a_row_open_it_and_what_comes_is_held() {
    let world = World::new();
    let mut process = world.start(fragile());
    fail(&world, &mut process, FAILURES - 1).await;
    world.pass(TICK);
    let good = process.accept("crm").await.delivery(0);
    process.take(good).await.answer(200);
    process.ended(good).await;
    fail(&world, &mut process, FAILURES - 1).await;
    assert_eq!(circuit(&process).await, Circuit::Closed, "one that went well ends the row");
    let last = fail(&world, &mut process, 1).await.remove(0);
    let Circuit::Open { since, cause, sign, probe_at, probes } = circuit(&process).await else { panic!("it is open") };
    assert_eq!((cause, sign, probes), (TripCause::ConsecutiveFailures, Sign::Status(500), 0));
    assert_eq!((since, world.delivery(last).reason), (world.now(), Reason::RetryAfter));

    world.pass(TICK);
    let held = process.accept("crm").await.delivery(0);
    let wait = process.wait(held).await.unwrap();
    assert_eq!((wait.on, wait.since), (On::Circuit { cause, probe_at }, world.now()));
    let wait = process.wait(last).await.unwrap();
    assert_eq!(wait.on, On::Circuit { cause, probe_at });
    assert_eq!(process.lane("crm").await.in_flight, 0);
    assert_eq!(world.sent().iter().filter(|(id, _)| *id == held).count(), 0);
}

#[tokio::test]
async fn an_outage_spends_no_attempt_and_the_backlog_drains_by_a_ramp() {
    let world = World::new();
    let mut process = world.start(fragile());
    fail(&world, &mut process, FAILURES).await;
    for _ in 0..30 {
        process.accept("crm").await;
    }
    let mut waits = Vec::new();
    for _ in 0..12 {
        waits.push(probe_at(&process).await.since(world.now()));
        let id = probe(&world, &mut process, 500).await;
        let delivery = world.delivery(id);
        assert_eq!((delivery.reason, delivery.state.due().is_some()), (Reason::ProbeFailed, true));
    }
    for (wait, seconds) in waits.iter().zip([10, 20, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40]) {
        let seconds = Duration::from_secs(seconds);
        assert!((seconds.mul_f64(0.9)..=seconds.mul_f64(1.1)).contains(wait), "{waits:?}");
    }
    let spent = |world: &World| world.sent().len();
    assert_eq!(spent(&world), 12 + 3);

    probe(&world, &mut process, 200).await;
    for allowed in [2, 4, 8] {
        process.lane_until("crm", |lane| lane.in_flight == allowed).await;
        let is_half_open = matches!(circuit(&process).await, Circuit::HalfOpen { .. });
        assert_eq!(is_half_open, allowed < 8);
        let mut flying = Vec::new();
        for _ in 0..allowed {
            flying.push(process.next().await);
        }
        assert_eq!(process.lane("crm").await.in_flight, allowed, "no more than that");
        for sent in flying {
            let id = sent.id();
            sent.answer(200);
            process.ended(id).await;
        }
    }
    world.pass(MINUTE);
    process.lane("crm").await;
    process.deliver_all(&world, "crm").await;
    assert_eq!(world.delivered("crm"), (33, 33));
    assert_eq!(circuit(&process).await, Circuit::Closed);
}

/// As many attempts as there may be, all but one of them probes of the same delivery.
#[tokio::test]
async fn a_delivery_that_is_every_probe_still_has_its_attempts() {
    let world = World::new();
    let mut setup = fragile();
    setup.endpoints[0].breaker.as_mut().unwrap().failures = 1;
    let mut process = world.start(setup);
    let id = fail(&world, &mut process, 1).await.remove(0);
    world.pass(MINUTE);
    for _ in 0..10 {
        world.set_clock(world.now().after(MINUTE));
        process.lane("crm").await;
        let sent = process.next().await;
        world.pass(TICK);
        let number = usize::try_from(sent.sending.attempt).unwrap();
        sent.answer(500);
        process.tried(id, number).await;
    }
    let delivery = world.delivery(id);
    assert_eq!((delivery.attempts, delivery.probes, delivery.status()), (11, 10, Status::Retrying));
    world.pass(MINUTE);
    process.lane("crm").await;
    process.deliver_all(&world, "crm").await;
}

#[tokio::test]
async fn how_the_circuit_stands_outlasts_a_kill() {
    let world = World::new();
    let mut process = world.start(fragile());
    fail(&world, &mut process, FAILURES).await;
    for _ in 0..10 {
        process.accept("crm").await;
    }
    probe(&world, &mut process, 503).await;
    probe(&world, &mut process, 502).await;
    let open = circuit(&process).await;
    assert!(matches!(open, Circuit::Open { probes: 2, sign: Sign::Status(502), .. }), "{open:?}");
    remembered(&process).await;
    drop(process);

    let mut process = world.start(fragile());
    assert_eq!(circuit(&process).await, open);
    process.lane_until("crm", |lane| lane.fresh > 0).await;
    probe(&world, &mut process, 200).await;
    process.lane_until("crm", |lane| lane.in_flight == 2).await;
    remembered(&process).await;
    drop(process);

    let mut process = world.start(fragile());
    assert!(matches!(circuit(&process).await, Circuit::HalfOpen { allowed: 2, .. }));
    process.lane_until("crm", |lane| lane.in_flight == 2).await;
    assert_eq!(process.lane("crm").await.in_flight, 2);
    world.pass(MINUTE);
    process.lane("crm").await;
    process.deliver_all(&world, "crm").await;
}

#[tokio::test]
async fn nothing_ages_while_it_is_open() {
    let world = World::new();
    let mut setup = fragile();
    setup.endpoints[0].retry.age_max = 10 * MINUTE;
    let mut process = world.start(setup);
    fail(&world, &mut process, FAILURES).await;
    for _ in 0..20 {
        process.accept("crm").await;
    }
    world.pass(100 * MINUTE);
    // The probe that was due long ago.
    process.lane_until("crm", |lane| lane.in_flight == 1).await;
    process.next().await.answer(500);
    process.lane_until("crm", |lane| lane.in_flight == 0).await;
    world.pass(100 * MINUTE);
    process.lane("crm").await;
    while circuit(&process).await != Circuit::Closed {
        let sent = process.next().await;
        let id = sent.id();
        sent.answer(200);
        process.ended(id).await;
    }
    // What left before it closed, and as many more.
    for _ in 0..8 {
        let sent = process.next().await;
        let id = sent.id();
        sent.answer(200);
        process.ended(id).await;
    }
    // It has come back just now: from now on age counts.
    let sent = process.next().await;
    let id = sent.id();
    sent.reply(answer(500, Some(9 * MINUTE)));
    process.disk.until(|_| world.delivery(id).last_status == Some(500)).await;
    assert_eq!(world.delivery(id).reason, Reason::RetryAfter);
    world.pass(9 * MINUTE);
    process.lane("crm").await;
    process.deliver_all(&world, "crm").await;
    assert_eq!(world.delivered("crm"), (23, 23));
}

#[tokio::test]
async fn a_large_part_of_failures_opens_it_once_there_are_enough_samples() {
    let world = World::new();
    let mut setup = fragile();
    let policy = setup.endpoints[0].breaker.as_mut().unwrap();
    (policy.failures, policy.failure_rate, policy.samples_min) = (1000, 0.5, 6);
    let mut process = world.start(setup);
    for _ in 0..2 {
        let good = process.accept("crm").await.delivery(0);
        process.take(good).await.answer(200);
        process.ended(good).await;
    }
    fail(&world, &mut process, 3).await;
    assert_eq!(circuit(&process).await, Circuit::Closed, "five say nothing");
    fail(&world, &mut process, 1).await;
    let open = circuit(&process).await;
    assert!(matches!(open, Circuit::Open { cause: TripCause::FailureRate, .. }), "{open:?}");
}

#[tokio::test]
async fn gone_pauses_the_endpoint_until_it_is_resumed() {
    let world = World::new();
    let mut process = world.start(fragile());
    let gone = process.accept("crm").await.delivery(0);
    process.next().await.answer(410);
    assert_eq!(process.ended(gone).await.state, State::Dead);
    let held = process.accept("crm").await.delivery(0);
    let wait = process.wait(held).await.unwrap();
    assert_eq!(wait.on, On::Pause { cause: PauseCause::Gone });
    let pause = process.lane("crm").await.standing.pause.unwrap();
    assert_eq!(
        (pause.cause, pause.since, pause.note.as_str()),
        (PauseCause::Gone, world.now(), "it answered 410 Gone")
    );
    remembered(&process).await;
    drop(process);

    let mut process = world.start(fragile());
    process.lane_until("crm", |lane| lane.fresh == 1).await;
    let lane = process.lane("crm").await;
    assert_eq!((lane.in_flight, lane.standing.pause), (0, Some(pause)));
    within(process.engine.resume(&name("crm"))).await.unwrap();
    assert_eq!(process.next().await.id(), held);
    assert_eq!(world.memory.standing(&name("crm")).pause, None);
}
