//! Attempts: decided, committed, released; repeated after a crash; tried again, held, given up.

use std::time::Duration;

use backstop::core::attempt::{FailureClass, Outcome};
use backstop::core::delivery::{Reason, State, Status};
use backstop::core::endpoint::Endpoint;
use backstop::core::retry::RetryPolicy;
use backstop::core::timestamp::Timestamp;
use backstop::journal::{Change, Journal as _};

use super::disk::{Note, Point};
use super::world::{Setup, World, answer, endpoint};

const MINUTE: Duration = Duration::from_secs(60);

fn is_settle(change: &Change) -> bool {
    matches!(change, Change::Settle(_))
}

#[tokio::test]
async fn a_slot_is_free_only_when_the_outcome_is_stored() {
    for point in [Point::Before, Point::After] {
        let world = World::new();
        let mut process = world.start(Setup::one_by_one());
        let (first, second) = (process.accept("crm").await.delivery(0), process.accept("crm").await.delivery(0));
        process.disk.hold(point, is_settle);
        process.next().await.answer(200);
        process.disk.held().await;
        process.lane_until("crm", |lane| (lane.in_flight, lane.fresh) == (1, 1)).await;
        assert_eq!(world.sent(), [(first, 1)]);
        process.disk.release();
        process.next().await.answer(200);
        process.ended(second).await;
        let order = [Note::Sent(first, 1), Note::Settled(first, 1), Note::Sent(second, 1), Note::Settled(second, 1)];
        assert_eq!(world.attempts(), order);
    }
}

#[tokio::test]
async fn a_crash_before_the_outcome_is_stored_repeats_the_attempt() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await.delivery(0);
    process.disk.hold(Point::Before, is_settle);
    process.next().await.answer(200);
    process.disk.held().await;
    drop(process);

    let mut process = world.start(Setup::default());
    let again = process.next().await;
    assert_eq!((again.id(), again.sending.attempt, again.sending.again), (id, 1, false));
    again.answer(200);
    assert_eq!(process.ended(id).await.attempts, 1);
    assert_eq!(world.sent(), [(id, 1), (id, 1)]);
}

#[tokio::test]
async fn a_crash_after_the_outcome_is_stored_repeats_nothing() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await.delivery(0);
    process.disk.hold(Point::After, is_settle);
    process.next().await.answer(200);
    process.disk.held().await;
    drop(process);

    let process = world.start(Setup::default());
    process.lane_until("crm", |lane| !lane.behind).await;
    process.lane_until("crm", |lane| (lane.in_flight, lane.fresh, lane.waiting) == (0, 0, 0)).await;
    assert_eq!(world.delivery(id).status(), Status::Delivered);
    assert_eq!(world.sent(), [(id, 1)]);
}

#[tokio::test]
async fn a_retry_keeps_its_count_and_its_due_time_over_a_restart() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await.delivery(0);
    process.next().await.reply(answer(500, Some(MINUTE)));
    process.tried(id, 1).await;
    let due = world.delivery(id).state.due().unwrap();
    assert_eq!(due, world.now().after(MINUTE), "what was asked is longer than the first interval");
    drop(process);

    let mut process = world.start(Setup::default());
    process.lane_until("crm", |lane| lane.waiting == 1).await;
    world.set_clock(Timestamp::from_millis(due.millis() - 1));
    assert_eq!(process.lane("crm").await.in_flight, 0, "a millisecond early is early");
    world.set_clock(due);
    process.lane("crm").await;
    let second = process.next().await;
    assert_eq!((second.id(), second.sending.attempt), (id, 2));
    second.answer(200);
    let delivery = process.ended(id).await;
    assert_eq!((delivery.attempts, delivery.reason), (2, Reason::Acknowledged));
    let numbers: Vec<u32> = process.disk.attempts(id).unwrap().iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test]
async fn a_throttling_endpoint_is_left_alone_and_others_are_not() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let first = process.accept("crm").await.delivery(0);
    process.next().await.reply(answer(429, Some(MINUTE)));
    process.tried(first, 1).await;
    let second = process.accept("crm").await.delivery(0);
    let other = process.accept("bill").await.delivery(0);
    let sent = process.next().await;
    assert_eq!(sent.id(), other);
    sent.answer(200);
    process.ended(other).await;
    let lane = process.lane("crm").await;
    assert_eq!((lane.in_flight, lane.fresh, lane.waiting), (0, 1, 1));
    let until = world.now().after(MINUTE);
    assert_eq!(lane.held_until, Some(until));
    assert_eq!(world.delivery(first).reason, Reason::RetryAfter);

    world.set_clock(until);
    process.lane("crm").await;
    process.next().await.answer(200);
    process.next().await.answer(200);
    process.ended(first).await;
    process.ended(second).await;
}

#[tokio::test]
async fn gone_is_dead_at_once() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await.delivery(0);
    process.next().await.answer(410);
    let delivery = process.ended(id).await;
    assert_eq!((delivery.state, delivery.reason, delivery.attempts), (State::Dead, Reason::Gone, 1));
    process.lane_until("crm", |lane| lane.in_flight == 0).await;
    assert_eq!(process.lane("crm").await.waiting, 0);
}

#[tokio::test]
async fn when_the_attempts_are_used_up_it_is_dead() {
    let world = World::new();
    let retry = RetryPolicy { attempts_max: 3, ..RetryPolicy::default() };
    let endpoints = vec![Endpoint { retry, ..endpoint("crm", 4) }];
    let mut process = world.start(Setup { endpoints, ..Setup::default() });
    let id = process.accept("crm").await.delivery(0);
    for number in 1..=3 {
        // A first attempt, or a retry that waits for as long as it is looked at.
        let sent = process.next().await;
        assert_eq!((sent.id(), sent.sending.attempt), (id, number));
        sent.answer(500);
        process.tried(id, usize::try_from(number).unwrap()).await;
        process.lane_until("crm", |lane| lane.in_flight == 0).await;
        world.pass(MINUTE);
        process.lane("crm").await;
    }
    let delivery = world.delivery(id);
    assert_eq!((delivery.state, delivery.reason, delivery.attempts), (State::Dead, Reason::AttemptsExhausted, 3));
    assert_eq!(process.lane("crm").await.waiting, 0);
}

#[tokio::test]
async fn a_panic_in_the_transport_costs_an_attempt_and_not_the_slot() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let (first, second) = (process.accept("crm").await.delivery(0), process.accept("crm").await.delivery(0));
    process.next().await.panic();
    process.tried(first, 1).await;
    let attempt = process.disk.attempts(first).unwrap().remove(0);
    assert_eq!((attempt.failure(), attempt.outcome), (Some(FailureClass::NotSent), Outcome::Retryable));
    let next = process.next().await;
    assert_eq!(next.id(), second);
    next.answer(200);
    process.ended(second).await;
    world.pass(MINUTE);
    process.lane("crm").await;
    let again = process.next().await;
    assert_eq!((again.id(), again.sending.attempt), (first, 2));
}

#[tokio::test]
async fn an_event_whose_body_is_lost_is_dead_and_the_others_go_on() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(process.accept("crm").await.delivery(0));
    }
    drop(process.next().await);
    drop(process);

    let mut process = world.start(Setup::one_by_one());
    // The first is on its way while the second is found to be lost, or this would be a race.
    process.disk.lose(ids[1].event);
    process.next().await.answer(200);
    let lost = process.ended(ids[1]).await;
    assert_eq!((lost.state, lost.reason, lost.attempts), (State::Dead, Reason::Lost, 1));
    process.next().await.answer(200);
    for id in [ids[0], ids[2]] {
        assert_eq!(process.ended(id).await.status(), Status::Delivered);
    }
    assert!(!world.sent().contains(&(ids[1], 1)));
}
