//! Pausing: an endpoint that an operator has paused gets nothing, loses nothing, and comes back to few at first.
//! And what each delivery is said to wait for.

use std::time::Duration;

use backstop::core::breaker::{BreakerPolicy, Circuit};
use backstop::core::delivery::Status;
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::filter::Filter;
use backstop::core::id::DeliveryId;
use backstop::core::rate::Rate;
use backstop::core::scheduler::{On, Wait};
use backstop::core::standing::PauseCause;
use backstop::engine::{Cancelled, NotDone};
use backstop::journal::{Change, Journal as _, Query};

use super::disk::Point;
use super::world::{Process, Setup, World, answer, endpoint, name, within};

const TICK: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

async fn pause(process: &Process, note: &str) {
    within(process.engine.pause(&name("crm"), note)).await.unwrap();
}

async fn resume(process: &Process) {
    within(process.engine.resume(&name("crm"))).await.unwrap();
}

/// Everything that still waits for `endpoint`, a page at a time.
async fn cancel_all(process: &Process, endpoint: &str, limit: usize) -> (u64, u64) {
    let filter = Filter {
        endpoint: Some(name(endpoint)),
        statuses: vec![Status::Scheduled, Status::Retrying],
        ..Filter::default()
    };
    let (mut done, mut busy, mut after) = (0, 0, None);
    loop {
        let query = Query { filter: filter.clone(), after, newest_first: true, limit };
        let Cancelled { cancelled, in_flight, next } = within(process.engine.cancel_page(query)).await.unwrap();
        (done, busy, after) = (done + cancelled, busy + in_flight, next);
        if after.is_none() {
            return (done, busy);
        }
    }
}

#[tokio::test]
async fn a_pause_is_told_of_only_when_it_is_durable() {
    let world = World::new();
    let process = world.start(Setup::default());
    process.disk.hold(Point::Before, |change| matches!(change, Change::Stand { .. }));
    let engine = process.engine.clone();
    let crm = name("crm");
    let mut pausing = Box::pin(engine.pause(&crm, "maintenance"));
    within(async {
        tokio::select! {
            _ = &mut pausing => panic!("its commit is held"),
            () = process.disk.held() => {}
        }
    })
    .await;
    assert_eq!(world.memory.standing(&crm).pause, None);
    process.disk.release();
    within(pausing).await.unwrap();
    let pause = world.memory.standing(&crm).pause.unwrap();
    assert_eq!((pause.cause, pause.note.as_str(), pause.since), (PauseCause::Operator, "maintenance", world.now()));
    assert_eq!(within(process.engine.pause(&name("nobody"), "")).await, Err(NotDone::UnknownEndpoint(name("nobody"))));
    assert_eq!(within(process.engine.resume(&name("nobody"))).await, Err(NotDone::UnknownEndpoint(name("nobody"))));
}

#[tokio::test]
async fn a_paused_endpoint_stays_paused_over_a_kill_and_spends_nothing() {
    let world = World::new();
    let setup = || Setup { active_max: 4, ..Setup::default() };
    let mut process = world.start(setup());
    let retried = process.accept("crm").await.delivery(0);
    process.take(retried).await.answer(500);
    process.tried(retried, 1).await;
    let flying = process.accept("crm").await.delivery(0);
    let sent = process.take(flying).await;
    pause(&process, "").await;
    sent.answer(200);
    process.ended(flying).await;
    for _ in 0..20 {
        process.accept("crm").await;
    }
    let other = process.accept("bill").await.delivery(0);
    process.take(other).await.answer(200);
    process.ended(other).await;
    world.pass(30 * MINUTE);
    // What is on its way ends, nothing else begins.
    process.lane_until("crm", |lane| lane.in_flight == 0).await;
    drop(process);

    let process = world.start(setup());
    process.lane_until("crm", |lane| lane.fresh > 0 && lane.waiting > 0).await;
    world.pass(30 * MINUTE);
    let lane = process.lane("crm").await;
    assert_eq!((lane.in_flight, lane.standing.pause.is_some()), (0, true));
    assert_eq!(world.sent().len(), 3);
    assert_eq!(world.delivery(retried).attempts, 1);
}

#[tokio::test]
async fn what_has_gathered_goes_by_a_ramp_and_has_not_aged() {
    let world = World::new();
    let mut crm = endpoint("crm", 8);
    crm.retry.age_max = 10 * MINUTE;
    let mut process = world.start(Setup { endpoints: vec![crm], active_max: 4, ..Setup::default() });
    pause(&process, "").await;
    for _ in 0..40 {
        process.accept("crm").await;
    }
    world.pass(100 * MINUTE);
    resume(&process).await;
    for allowed in [1, 2, 4, 8] {
        process.lane_until("crm", |lane| lane.in_flight == allowed).await;
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
    let late = process.next().await;
    let id = late.id();
    late.reply(answer(500, Some(9 * MINUTE)));
    process.tried(id, 1).await;
    assert_eq!(world.delivery(id).status(), Status::Retrying, "it was not there to be too old for");
    world.pass(9 * MINUTE);
    process.lane("crm").await;
    process.deliver_all(&world, "crm").await;
    assert_eq!(world.delivered("crm"), (40, 40));
}

/// Without a breaker nobody probes: what fails after a pause spends its attempts, or it would go for ever.
#[tokio::test]
async fn after_a_pause_an_endpoint_without_a_breaker_still_uses_attempts_up() {
    let world = World::new();
    let mut crm = endpoint("crm", 4);
    crm.retry.attempts_max = 3;
    let mut process = world.start(Setup { endpoints: vec![crm], ..Setup::default() });
    pause(&process, "").await;
    let id = process.accept("crm").await.delivery(0);
    resume(&process).await;
    for number in 1..=3 {
        let sent = process.next().await;
        assert_eq!(sent.sending.attempt, number);
        sent.answer(500);
        process.tried(id, usize::try_from(number).unwrap()).await;
        process.lane_until("crm", |lane| lane.in_flight == 0).await;
        world.pass(MINUTE);
        process.lane("crm").await;
    }
    assert_eq!(world.delivery(id).status(), Status::Dead);
}

#[tokio::test]
async fn a_pause_while_a_probe_is_on_its_way_and_its_end_lose_nothing() {
    for status in [200, 500] {
        let world = World::new();
        let policy = BreakerPolicy { failures: 1, ..BreakerPolicy::default() };
        let crm = Endpoint { breaker: Some(policy), ..endpoint("crm", 4) };
        let mut process = world.start(Setup { endpoints: vec![crm], ..Setup::default() });
        for _ in 0..6 {
            process.accept("crm").await;
        }
        let mut sent = Vec::new();
        for _ in 0..4 {
            sent.push(process.next().await);
        }
        world.pass(TICK);
        for sent in sent {
            sent.answer(500);
        }
        process.lane_until("crm", |lane| lane.in_flight == 0).await;
        world.pass(MINUTE);
        process.lane("crm").await;
        let probe = process.next().await;
        pause(&process, "").await;
        world.pass(TICK);
        probe.answer(status);
        process.lane_until("crm", |lane| lane.in_flight == 0).await;
        world.pass(10 * MINUTE);
        assert_eq!(process.lane("crm").await.in_flight, 0);
        resume(&process).await;
        process.lane_until("crm", |lane| lane.in_flight == 1).await;
        world.pass(TICK);
        while process.lane("crm").await.standing.circuit != Circuit::Closed {
            let sent = process.next().await;
            let id = sent.id();
            sent.answer(200);
            process.ended(id).await;
        }
        world.pass(10 * MINUTE);
        process.lane("crm").await;
        process.deliver_all(&world, "crm").await;
        assert_eq!(world.delivered("crm"), (6, 6), "{status}");
    }
}

#[tokio::test]
async fn all_that_waits_can_be_cancelled_where_it_stands() {
    let world = World::new();
    let mut process = world.start(Setup { active_max: 4, ..Setup::one_by_one() });
    let retried = process.accept("crm").await.delivery(0);
    process.take(retried).await.reply(answer(500, Some(MINUTE)));
    process.tried(retried, 1).await;
    let mut ids: Vec<DeliveryId> = Vec::new();
    for _ in 0..30 {
        ids.push(process.accept("crm").await.delivery(0));
    }
    let flying = process.next().await;
    assert_eq!(flying.id(), ids[0]);
    assert_eq!(cancel_all(&process, "crm", 7).await, (30, 1));
    let statuses: Vec<Status> = ids[1..].iter().map(|id| world.delivery(*id).status()).collect();
    assert_eq!(statuses, [Status::Cancelled; 29]);
    assert_eq!(world.delivery(retried).status(), Status::Cancelled);
    flying.answer(200);
    process.ended(ids[0]).await;
    let last = process.accept("crm").await.delivery(0);
    let sent = process.next().await;
    assert_eq!(sent.id(), last);
    sent.answer(200);
    process.ended(last).await;
    world.pass(30 * MINUTE);
    process.lane_until("crm", |lane| (lane.in_flight, lane.fresh, lane.waiting, lane.behind) == (0, 0, 0, false)).await;
    assert_eq!(world.sent(), [(retried, 1), (ids[0], 1), (last, 1)]);
}

#[tokio::test]
async fn a_paused_backlog_can_be_cancelled() {
    let world = World::new();
    let process = world.start(Setup { active_max: 4, ..Setup::default() });
    pause(&process, "it is gone for good").await;
    for _ in 0..30 {
        process.accept("crm").await;
    }
    assert_eq!(cancel_all(&process, "crm", 10).await, (30, 0));
    resume(&process).await;
    process.lane_until("crm", |lane| (lane.in_flight, lane.fresh, lane.behind) == (0, 0, false)).await;
    assert_eq!(world.sent(), []);
}

/// Every kind of waiting, and since when.
#[tokio::test]
async fn what_a_delivery_waits_for_is_told_with_since_when() {
    let world = World::new();
    let start = world.now();
    let crm = Endpoint { order: Order::Key, ..endpoint("crm", 2) };
    let bill = Endpoint { rate: Some(Rate { count: 1, per: MINUTE, burst: 1 }), ..endpoint("bill", 4) };
    let mut process = world.start(Setup { endpoints: vec![crm, bill], active_max: 4, ..Setup::default() });
    let first = process.accept_of("crm", "k").await;
    let sent = process.take(first).await;
    assert_eq!(process.wait(first).await, Some(Wait { on: On::Attempt, since: start }));
    world.pass(TICK);
    let second = process.accept_of("crm", "k").await;
    let behind_flight = On::Line { behind: first, until: None };
    assert_eq!(process.wait(second).await, Some(Wait { on: behind_flight, since: world.now() }));
    let flying = process.accept("crm").await.delivery(0);
    let sent_too = process.take(flying).await;
    let full = process.accept("crm").await.delivery(0);
    assert_eq!(process.wait(full).await, Some(Wait { on: On::Window { limit: 2 }, since: world.now() }));
    let next = process.accept("crm").await.delivery(0);
    for _ in 0..5 {
        process.accept("crm").await;
    }
    let beyond = process.accept("crm").await.delivery(0);
    assert_eq!(process.wait(beyond).await, Some(Wait { on: On::Journal, since: world.now() }));

    sent.reply(answer(500, Some(MINUTE)));
    process.lane_until("crm", |lane| lane.waiting == 1).await;
    let due = world.now().after(MINUTE);
    let wait = process.wait(first).await.unwrap();
    // An attempt takes real time, which the clock does not show.
    let since = world.delivery(first).changed_at.min(world.now());
    assert_eq!((wait.on, wait.since), (On::Due { at: due }, since));
    let wait = process.wait(second).await.unwrap();
    assert!(matches!(wait.on, On::Line { behind, until: Some(_) } if behind == first), "{wait:?}");

    sent_too.reply(answer(429, Some(MINUTE)));
    process.lane_until("crm", |lane| lane.waiting == 2).await;
    let told = Wait { on: On::Silence { until: due }, since: world.now() };
    assert_eq!(process.wait(beyond).await, Some(told));

    let now = process.accept("bill").await.delivery(0);
    process.take(now).await.answer(200);
    process.ended(now).await;
    assert_eq!(process.wait(now).await, None);
    let limited = process.accept("bill").await.delivery(0);
    let next_at = world.now().after(MINUTE);
    assert_eq!(process.wait(limited).await, Some(Wait { on: On::Rate { next_at }, since: world.now() }));

    world.pass(TICK);
    pause(&process, "").await;
    let wait = Wait { on: On::Pause { cause: PauseCause::Operator }, since: world.now() };
    assert_eq!(process.wait(beyond).await, Some(wait));
    resume(&process).await;
    world.pass(2 * MINUTE);
    process.lane_until("crm", |lane| lane.in_flight == 1).await;
    let wait = process.wait(beyond).await.unwrap();
    assert_eq!(wait.on, On::Journal);
    let wait = process.wait(next).await.unwrap();
    assert_eq!((wait.on, process.wait(full).await.unwrap().on), (On::Ramp { allowed: 1 }, On::Attempt));
}
