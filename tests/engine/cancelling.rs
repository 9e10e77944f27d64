//! Taking deliveries back: what is cancelled is never sent.

use std::time::Duration;

use backstop::core::delivery::{Reason, State};
use backstop::engine::NotDone;
use backstop::journal::Change;

use super::disk::Point;
use super::world::{Setup, World, answer, endpoint, within};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_cancelled_delivery_is_never_sent() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(process.accept("crm").await.delivery(0));
    }
    let first = process.next().await;
    within(process.engine.cancel(ids[1])).await.unwrap();
    let cancelled = world.delivery(ids[1]);
    assert_eq!((cancelled.state, cancelled.reason), (State::Cancelled, Reason::Operator));
    first.answer(200);
    process.next().await.answer(200);
    process.ended(ids[2]).await;
    assert_eq!(world.sent(), [(ids[0], 1), (ids[2], 1)]);
}

#[tokio::test]
async fn a_cancelled_retry_is_never_sent_again() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await.delivery(0);
    process.next().await.answer(500);
    process.lane_until("crm", |lane| lane.waiting == 1).await;
    within(process.engine.cancel(id)).await.unwrap();
    world.pass(MINUTE);
    process.lane_until("crm", |lane| (lane.in_flight, lane.waiting) == (0, 0)).await;
    assert_eq!(world.sent(), [(id, 1)]);
}

#[tokio::test]
async fn what_is_on_its_way_ended_or_unknown_cannot_be_cancelled() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await.delivery(0);
    let sent = process.next().await;
    assert_eq!(within(process.engine.cancel(id)).await, Err(NotDone::InFlight));
    sent.answer(200);
    process.ended(id).await;
    assert_eq!(within(process.engine.cancel(id)).await, Err(NotDone::Ended));
    assert_eq!(within(process.engine.cancel(id.event.delivery(1))).await, Err(NotDone::Missing));
    let unknown = backstop::core::id::EventId::MIN.delivery(0);
    assert_eq!(within(process.engine.cancel(unknown)).await, Err(NotDone::Missing));
}

#[tokio::test]
async fn what_is_parked_in_the_journal_can_be_cancelled() {
    let world = World::new();
    let mut process = world.start(Setup { active_max: 2, ..Setup::one_by_one() });
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(process.accept("crm").await.delivery(0));
    }
    let mut sent = process.next().await;
    assert!(process.lane("crm").await.fresh <= 2);
    within(process.engine.cancel(ids[8])).await.unwrap();
    for id in [0, 1, 2, 3, 4, 5, 6, 7, 9].map(|index| ids[index]) {
        assert_eq!(sent.id(), id);
        sent.answer(200);
        process.ended(id).await;
        if id == ids[9] {
            break;
        }
        sent = process.next().await;
    }
    process.lane_until("crm", |lane| (lane.in_flight, lane.fresh) == (0, 0)).await;
    assert_eq!(world.delivery(ids[8]).state, State::Cancelled);
}

/// While the cancellation is on its way to the disk the journal still has the delivery, and is asked for more.
#[tokio::test]
async fn what_the_journal_hands_out_while_it_is_being_cancelled_is_not_sent() {
    let world = World::new();
    let endpoints = vec![endpoint("crm", 100)];
    let mut process = world.start(Setup { endpoints, active_max: 2, ..Setup::default() });
    let throttled = process.accept("crm").await.delivery(0);
    process.next().await.reply(answer(429, Some(MINUTE)));
    process.tried(throttled, 1).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(process.accept("crm").await.delivery(0));
    }
    process.lane_until("crm", |lane| lane.fresh == 2).await;

    let engine = process.engine.clone();
    process.disk.hold(Point::Before, |change| matches!(change, Change::Cancel { .. }));
    let mut cancel = Box::pin(engine.cancel(ids[6]));
    within(async {
        tokio::select! {
            _ = &mut cancel => panic!("its commit is held"),
            () = process.disk.held() => {}
        }
    })
    .await;
    world.pass(MINUTE);
    process.lane("crm").await;
    // The endpoint takes everything at once, none of which can be settled.
    process.take(ids[7]).await.answer(200);
    process.disk.release();
    within(cancel).await.unwrap();
    process.ended(ids[7]).await;
    process.lane_until("crm", |lane| lane.fresh == 0 && !lane.behind).await;
    assert!(!world.sent().contains(&(ids[6], 1)), "it was cancelled");
    assert_eq!(world.delivery(ids[6]).state, State::Cancelled);
}

/// An operator who goes away has still asked.
#[tokio::test]
async fn a_cancellation_nobody_waits_for_is_stored_all_the_same() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let (first, second) = (process.accept("crm").await.delivery(0), process.accept("crm").await.delivery(0));
    let sent = process.next().await;
    process.lane_until("crm", |lane| lane.fresh == 1).await;
    let engine = process.engine.clone();
    process.disk.hold(Point::Before, |change| matches!(change, Change::Cancel { .. }));
    let mut cancel = Box::pin(engine.cancel(second));
    within(async {
        tokio::select! {
            _ = &mut cancel => panic!("its commit is held"),
            () = process.disk.held() => {}
        }
    })
    .await;
    drop(cancel);
    process.disk.release();
    assert_eq!(process.ended(second).await.state, State::Cancelled);
    sent.answer(200);
    process.ended(first).await;
    assert_eq!(world.sent(), [(first, 1)]);
}
