//! Order: the deliveries of a key go one at a time in the order of their events, whatever happens.

use std::time::Duration;

use backstop::core::delivery::{Reason, Status};
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::id::DeliveryId;
use backstop::core::scheduler::On;
use backstop::journal::{Change, Journal as _};

use super::disk::Point;
use super::world::{Process, Setup, World, answer, endpoint, within};

const TICK: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOLD_MAX: Duration = Duration::from_secs(600);

fn ordered(order: Order) -> Setup {
    let crm = Endpoint { order, order_hold_max: HOLD_MAX, ..endpoint("crm", 4) };
    Setup { endpoints: vec![crm], ..Setup::default() }
}

async fn accept_many(process: &Process, key: &str, count: usize) -> Vec<DeliveryId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(process.accept_of("crm", key).await);
    }
    ids
}

/// The next attempt is this one, and it goes well.
async fn goes_well(process: &mut Process, id: DeliveryId) {
    let sent = process.next().await;
    assert_eq!(sent.id(), id);
    sent.answer(200);
    process.ended(id).await;
}

async fn fails_for(process: &mut Process, id: DeliveryId, span: Duration) {
    let sent = process.take(id).await;
    let number = usize::try_from(sent.sending.attempt).unwrap();
    sent.reply(answer(500, Some(span)));
    process.tried(id, number).await;
}

#[tokio::test]
async fn a_key_waits_for_its_retry_and_other_keys_do_not() {
    let world = World::new();
    let mut process = world.start(ordered(Order::Key));
    let line = accept_many(&process, "k", 3).await;
    fails_for(&mut process, line[0], MINUTE).await;
    let other = process.accept_of("crm", "l").await;
    goes_well(&mut process, other).await;
    let free = process.accept("crm").await.delivery(0);
    goes_well(&mut process, free).await;
    process.lane_until("crm", |lane| (lane.in_flight, lane.lines) == (0, 1)).await;
    let wait = process.wait(line[1]).await.unwrap();
    assert_eq!(wait.on, On::Line { behind: line[0], until: Some(world.now().after(HOLD_MAX)) });
    world.pass(MINUTE);
    process.lane("crm").await;
    for id in &line {
        goes_well(&mut process, *id).await;
    }
    assert!(line.iter().all(|id| !world.delivery(*id).out_of_order));
}

/// However many attempts could go at once, and even those without a key.
#[tokio::test]
async fn an_endpoint_in_order_gets_one_after_the_other() {
    let world = World::new();
    let mut process = world.start(ordered(Order::Endpoint));
    let mut ids = Vec::new();
    for key in [Some("k"), None, Some("l"), None] {
        ids.push(match key {
            Some(key) => process.accept_of("crm", key).await,
            None => process.accept("crm").await.delivery(0),
        });
    }
    fails_for(&mut process, ids[0], MINUTE).await;
    process.lane_until("crm", |lane| (lane.in_flight, lane.fresh) == (0, 3)).await;
    let wait = process.wait(ids[3]).await.unwrap();
    assert!(matches!(wait.on, On::Line { behind, .. } if behind == ids[0]), "{wait:?}");
    world.pass(MINUTE);
    process.lane("crm").await;
    for id in &ids {
        process.lane_until("crm", |lane| lane.in_flight == 1).await;
        goes_well(&mut process, *id).await;
    }
}

/// Killed before or after the first one's outcome is stored, be it a success or a failure.
#[tokio::test]
async fn a_kill_at_any_point_keeps_the_order() {
    for (point, status) in [(Point::Before, 200), (Point::Before, 500), (Point::After, 200), (Point::After, 500)] {
        let world = World::new();
        let mut process = world.start(ordered(Order::Key));
        let line = accept_many(&process, "k", 3).await;
        process.disk.hold(point, |change| matches!(change, Change::Settle(_)));
        process.next().await.reply(answer(status, Some(MINUTE)));
        process.disk.held().await;
        assert_eq!(process.lane("crm").await.in_flight, 1);
        drop(process);

        let mut process = world.start(ordered(Order::Key));
        let other = process.accept_of("crm", "l").await;
        process.take(other).await.answer(200);
        process.ended(other).await;
        let is_done = (point, status) == (Point::After, 200);
        if (point, status) == (Point::After, 500) {
            // Its retry is not due.
            process.lane_until("crm", |lane| lane.in_flight == 0).await;
            world.pass(MINUTE);
            process.lane("crm").await;
        }
        for id in &line[usize::from(is_done)..] {
            process.take(*id).await.answer(200);
            process.ended(*id).await;
            process.lane_until("crm", |lane| lane.in_flight <= 1).await;
        }
        let sent: Vec<DeliveryId> = world.sent().into_iter().map(|(id, _)| id).filter(|id| *id != other).collect();
        assert!(sent.is_sorted(), "{point:?} {status}");
        assert!(line.iter().all(|id| !world.delivery(*id).out_of_order));
    }
}

/// Far more than memory holds, most of it behind one that fails; killed in the middle.
#[tokio::test]
async fn a_backlog_beyond_memory_keeps_the_order_of_every_key() {
    let world = World::new();
    let setup = || Setup { active_max: 4, ..ordered(Order::Key) };
    let mut process = world.start(setup());
    let first = process.accept_of("crm", "stuck").await;
    fails_for(&mut process, first, 5 * MINUTE).await;
    let mut stuck = vec![first];
    let mut others = Vec::new();
    for nth in 0..60 {
        stuck.push(process.accept_of("crm", "stuck").await);
        stuck.push(process.accept_of("crm", "stuck").await);
        others.push(process.accept_of("crm", if nth % 2 == 0 { "k" } else { "l" }).await);
    }
    for id in &others[..20] {
        process.take(*id).await.answer(200);
        process.ended(*id).await;
    }
    let lane = process.lane("crm").await;
    // Of each of the three keys some are brought, though memory is full of the one that is stuck.
    assert!(lane.fresh <= 24, "{lane:?}");
    drop(process);

    let mut process = world.start(setup());
    for id in &others[20..] {
        process.take(*id).await.answer(200);
        process.ended(*id).await;
    }
    assert!(stuck[1..].iter().all(|id| world.delivery(*id).attempts == 0), "they wait for the first");
    world.pass(5 * MINUTE);
    process.lane("crm").await;
    for id in &stuck {
        goes_well(&mut process, *id).await;
    }
    assert_eq!(world.delivered("crm"), (181, 181));
}

#[tokio::test]
async fn a_line_that_is_held_for_too_long_is_released_and_marked() {
    let world = World::new();
    let mut process = world.start(ordered(Order::Key));
    let line = accept_many(&process, "k", 3).await;
    fails_for(&mut process, line[0], MINUTE).await;
    let until = world.now().after(HOLD_MAX);
    world.pass(MINUTE);
    process.lane("crm").await;
    fails_for(&mut process, line[0], 30 * MINUTE).await;
    drop(process);

    // Since when it fails outlasts the process.
    let mut process = world.start(ordered(Order::Key));
    process.lane_until("crm", |lane| lane.fresh == 2 && lane.waiting == 1).await;
    world.set_clock(until.shifted(-1));
    assert_eq!(process.lane("crm").await.in_flight, 0);
    world.set_clock(until);
    process.lane("crm").await;
    for id in &line[1..] {
        goes_well(&mut process, *id).await;
        assert!(world.delivery(*id).out_of_order);
        let attempts = world.memory.attempts(*id).unwrap();
        assert!(attempts.iter().all(|attempt| attempt.out_of_order));
    }
    let late = world.delivery(line[0]);
    assert_eq!((late.status(), late.out_of_order), (Status::Retrying, false));
    world.pass(30 * MINUTE);
    process.lane("crm").await;
    goes_well(&mut process, line[0]).await;
    assert!(!world.delivery(line[0]).out_of_order, "nobody was before it");
}

/// The order is that of the events: a replayed old one goes before what is newer and waits, not before what is on
/// its way.
#[tokio::test]
async fn a_replay_stands_in_line_where_its_event_does() {
    let world = World::new();
    let mut process = world.start(ordered(Order::Key));
    let line = accept_many(&process, "k", 3).await;
    goes_well(&mut process, line[0]).await;
    let on_its_way = process.next().await;
    let made = within(process.engine.replay_delivery(line[0], false)).await.unwrap();
    let again = made[0].0;
    process.lane_until("crm", |lane| lane.waiting == 1).await;
    assert_eq!(process.lane("crm").await.in_flight, 1, "one at a time");
    on_its_way.answer(200);
    goes_well(&mut process, again).await;
    goes_well(&mut process, line[2]).await;
    let order = [line[0], line[1], again, line[2]].map(|id| (id, 1));
    assert_eq!(world.sent(), order);
}

/// An outage may last for longer than a line is held: afterwards all goes in order.
#[tokio::test]
async fn an_outage_longer_than_the_hold_releases_no_line() {
    use backstop::core::breaker::{BreakerPolicy, Circuit};
    let world = World::new();
    let mut setup = ordered(Order::Key);
    setup.endpoints[0].breaker = Some(BreakerPolicy { failures: 4, ..BreakerPolicy::default() });
    let mut process = world.start(setup);
    let keys = ["k", "l", "m", "n"];
    let mut lines = Vec::new();
    for key in keys {
        world.pass(TICK);
        let line = accept_many(&process, key, 3).await;
        world.pass(TICK);
        fails_for(&mut process, line[0], MINUTE).await;
        lines.push(line);
    }
    for _ in 0..20 {
        let Circuit::Open { probe_at, .. } = process.lane("crm").await.standing.circuit else { panic!("it is open") };
        world.set_clock(probe_at.max(world.now().after(MINUTE)));
        process.lane("crm").await;
        let sent = process.next().await;
        let (id, number) = (sent.id(), usize::try_from(sent.sending.attempt).unwrap());
        world.pass(TICK);
        sent.answer(503);
        process.tried(id, number).await;
    }
    assert!(world.now().since(world.delivery(lines[0][0]).born_at) > 2 * HOLD_MAX);
    let delivered = |world: &World| usize::try_from(world.delivered("crm").1).unwrap();
    for _ in 0..12 {
        world.pass(5 * MINUTE + MINUTE);
        process.lane("crm").await;
        while world.delivered("crm").1 < 12 && process.lane("crm").await.in_flight > 0 {
            let sent = process.next().await;
            let (id, number) = (sent.id(), usize::try_from(sent.sending.attempt).unwrap());
            sent.answer(200);
            process.tried(id, number).await;
            // Its slot is free, or what is counted next would be it.
            process
                .lane_until("crm", |lane| lane.in_flight + lane.fresh + lane.waiting == 12 - delivered(&world))
                .await;
        }
    }
    assert_eq!(world.delivered("crm"), (12, 12));
    let places = |line: &[DeliveryId]| -> Vec<usize> {
        line.iter().map(|id| world.sent().iter().rposition(|(sent, _)| sent == id).unwrap()).collect()
    };
    for line in &lines {
        assert!(places(line).is_sorted(), "{:?}", world.sent());
        assert!(line.iter().all(|id| !world.delivery(*id).out_of_order));
    }
}

/// One that always fails opens the circuit by itself where nothing else can go: then those behind it show that
/// the endpoint is there.
#[tokio::test]
async fn a_line_whose_head_alone_keeps_the_circuit_open_is_released() {
    use backstop::core::breaker::{BreakerPolicy, Circuit};
    let world = World::new();
    let mut setup = ordered(Order::Endpoint);
    setup.endpoints[0].breaker = Some(BreakerPolicy { failures: 1, ..BreakerPolicy::default() });
    let mut process = world.start(setup);
    let line = accept_many(&process, "k", 3).await;
    fails_for(&mut process, line[0], MINUTE).await;
    let first_tried_at = world.now();
    let released = loop {
        process.lane_until("crm", |lane| lane.in_flight == 0).await;
        world.pass(MINUTE);
        process.lane("crm").await;
        if process.lane("crm").await.in_flight == 0 {
            continue;
        }
        let sent = process.next().await;
        if sent.id() != line[0] {
            break sent;
        }
        let number = usize::try_from(sent.sending.attempt).unwrap();
        sent.answer(500);
        process.tried(line[0], number).await;
    };
    assert!(world.now().since(first_tried_at) >= HOLD_MAX);
    assert_eq!(released.id(), line[1]);
    released.answer(200);
    assert!(process.ended(line[1]).await.out_of_order);
    assert_eq!(world.delivery(line[0]).reason, Reason::ProbeFailed);
    process.lane_until("crm", |lane| !matches!(lane.standing.circuit, Circuit::Open { .. })).await;
}

#[tokio::test]
async fn a_cancelled_head_lets_its_line_go_on() {
    let world = World::new();
    let mut process = world.start(ordered(Order::Key));
    let line = accept_many(&process, "k", 3).await;
    fails_for(&mut process, line[0], 5 * MINUTE).await;
    process.lane_until("crm", |lane| lane.in_flight == 0).await;
    within(process.engine.cancel(line[0])).await.unwrap();
    goes_well(&mut process, line[1]).await;
    goes_well(&mut process, line[2]).await;
    assert_eq!(world.delivery(line[0]).status(), Status::Cancelled);
}
