//! Stopping: what is on its way may end, nothing new begins, the journal is closed last.

use std::time::Duration;

use backstop::core::delivery::Status;
use backstop::engine::{Health, NotAccepted};
use futures_util::FutureExt as _;

use super::disk::Note;
use super::world::{LONG, Setup, World, draft, within};

#[tokio::test]
async fn stopping_waits_for_the_attempt_on_its_way_and_begins_no_other() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let (first, second) = (process.accept("crm").await.delivery(0), process.accept("crm").await.delivery(0));
    let sent = process.next().await;
    let mut stop = Box::pin(process.engine.stop(LONG));
    assert!(stop.as_mut().now_or_never().is_none());
    assert_eq!(*process.engine.health().borrow(), Health::Stopping);
    assert_eq!(within(process.engine.accept(draft("crm"))).await, Err(NotAccepted::Stopping));
    process.lane("crm").await;
    assert!(stop.as_mut().now_or_never().is_none(), "an attempt is on its way");
    sent.answer(200);
    within(stop).await.unwrap();
    assert_eq!(world.attempts(), [Note::Sent(first, 1), Note::Settled(first, 1), Note::Closed]);
    assert_eq!(world.delivery(second).status(), Status::Scheduled);
    drop(process);

    let mut process = world.start(Setup::one_by_one());
    let sent = process.next().await;
    assert_eq!(sent.id(), second);
}

#[tokio::test]
async fn at_the_deadline_stopping_ends_and_the_attempt_is_made_again() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let id = process.accept("crm").await.delivery(0);
    let sent = process.next().await;
    within(process.engine.stop(Duration::ZERO)).await.unwrap();
    assert_eq!(world.notes().last(), Some(&Note::Closed));
    sent.answer(200);
    process.lane("crm").await;
    assert_eq!(world.delivery(id).status(), Status::Scheduled, "an outcome that came too late is not stored");
    drop(process);

    let mut process = world.start(Setup::one_by_one());
    let again = process.next().await;
    assert_eq!((again.id(), again.sending.attempt), (id, 1));
    again.answer(200);
    process.ended(id).await;
}
