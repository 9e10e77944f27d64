//! Retention in a running engine: what is at rest goes, what is not stays, and nobody can replay what is gone.

use std::sync::Arc;
use std::time::Duration;

use backstop::core::delivery::Status;
use backstop::core::filter::Filter;
use backstop::core::id::IdSource;
use backstop::core::name::Name;
use backstop::core::replay::{ReplayState, Skipped, Terms};
use backstop::core::retention::{Keep, Retention};
use backstop::core::timestamp::Timestamp;
use backstop::engine::committer::Committer;
use backstop::engine::{Health, NotDone, ReplayOrder};
use backstop::journal::{Change, Journal, JournalError, Receipt};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::disk::{Diary, Disk};
use super::world::{Setup, World, draft, within};

const HOUR: Duration = Duration::from_secs(3600);

/// An hour of payload, a day of metadata.
fn retention() -> Retention {
    let default = Keep { payload: Some(HOUR), metadata: Some(24 * HOUR), bytes_max: None };
    let endpoints = ["crm", "bill"].map(|endpoint| Name::new(endpoint).unwrap()).into();
    Retention { default, endpoints, ..Retention::default() }
}

#[tokio::test]
async fn what_is_at_rest_goes_and_what_waits_is_still_delivered() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let done = process.accept("crm").await;
    process.next().await.answer(200);
    process.ended(done.delivery(0)).await;
    let waits = process.accept("crm").await;
    drop(process);

    world.pass(2 * HOUR);
    let mut process = world.start(Setup { retention: retention(), ..Setup::one_by_one() });
    process.disk.until(|disk| disk.memory.entry(done).unwrap().is_some_and(|view| !view.has_payload)).await;
    assert_eq!(within(process.engine.replay_event(done, None, true)).await, Err(NotDone::PayloadGone));
    let sent = process.next().await;
    assert_eq!(sent.id(), waits.delivery(0));
    sent.answer(200);
    process.ended(waits.delivery(0)).await;
    drop(process);

    world.pass(25 * HOUR);
    let process = world.start(Setup { retention: retention(), ..Setup::one_by_one() });
    process.disk.until(|disk| disk.memory.counters().dropped == 2).await;
    assert_eq!(within(process.engine.replay_event(done, None, true)).await, Err(NotDone::Missing));
    assert_eq!(world.delivered("crm"), (2, 2), "what is gone is still counted");
}

#[tokio::test]
async fn a_parked_delivery_expires() {
    let world = World::new();
    let process = world.start(Setup::default());
    let parked = process.accept("crm").await.delivery(0);
    drop(process);

    world.pass(25 * HOUR);
    let without_crm = Retention { endpoints: [Name::new("bill").unwrap()].into(), ..retention() };
    let endpoints = Setup::default().endpoints.into_iter().filter(|it| it.name.as_str() == "bill").collect();
    let process = world.start(Setup { retention: without_crm, endpoints, ..Setup::default() });
    assert_eq!(process.ended(parked).await.status().as_str(), "expired");
}

/// Retention rides with a group; where there is no room for it, nobody else in the group is turned away for it.
#[tokio::test]
async fn a_group_is_stored_although_there_is_no_room_for_the_retention_that_rides_with_it() {
    let disk = Arc::new(Disk::new(Arc::default(), Diary::default()));
    let (tell, _told) = mpsc::unbounded_channel();
    let (health, _) = watch::channel(Health::Running);
    let ids = (IdSource::default(), fastrand::Rng::with_seed(1));
    let journal = Arc::clone(&disk) as Arc<dyn Journal>;
    let (committer, mut writer) = Committer::with_writer(journal, tell, health, ids);
    let slots = Arc::new(Semaphore::new(2));
    for (has_room, retained) in [(true, Ok(Receipt::Stale)), (false, Err(JournalError::Full("no room".to_owned())))] {
        if !has_room {
            disk.refuse_retains();
        }
        let (commits, (accept, mut accepted), (retain, mut answer)) =
            (disk.commits(), oneshot::channel(), oneshot::channel());
        committer.commit_then(Change::Retain(Box::default()), |result| drop(retain.send(result)));
        let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
        committer.accept(draft("crm"), Timestamp::from_millis(1), slot, accept);
        writer.take_waiting(9);
        writer.commit();
        assert_eq!(answer.try_recv().unwrap(), retained);
        assert!(accepted.try_recv().unwrap().is_ok());
        assert_eq!(disk.commits() - commits, if has_room { 1 } else { 3 });
    }
    assert_eq!((disk.memory.counters().accepted, writer.gathered()), (2, 0));
}

/// A plan says of bodies that are gone what the replay then says.
#[tokio::test]
async fn a_plan_counts_what_has_no_body_any_more_as_the_replay_does() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let mut done = Vec::new();
    for _ in 0..3 {
        done.push(process.accept("crm").await);
        process.next().await.answer(200);
        process.ended(done.last().unwrap().delivery(0)).await;
    }
    drop(process);
    world.pass(2 * HOUR);
    let mut process = world.start(Setup { retention: retention(), ..Setup::one_by_one() });
    let is_gone = |view: backstop::journal::EventView| !view.has_payload;
    process.disk.until(|disk| done.iter().all(|id| disk.memory.entry(*id).unwrap().is_some_and(is_gone))).await;
    let kept = process.accept("crm").await;
    process.next().await.answer(200);
    process.ended(kept.delivery(0)).await;
    // What could not be sent anyway is not called too old.
    let terms = Terms { max_ages: vec![("*".to_owned(), HOUR)], ..Terms::default() };
    let filter = Filter { statuses: vec![Status::Delivered], ..Filter::default() };
    let order = ReplayOrder { filter, terms, ..ReplayOrder::default() };
    let plan = within(process.engine.plan_replay(order.clone())).await.unwrap();
    let body_gone = Skipped { body_gone: 3, ..Skipped::default() };
    assert_eq!((plan.selected, plan.would_make, plan.skipped), (4, 1, body_gone));

    let replay = within(process.engine.open_replay(order)).await.unwrap().0;
    process.next().await.answer(200);
    process.ended(kept.delivery(1)).await;
    let find = || {
        let replays = process.disk.memory.replays().unwrap();
        replays.into_iter().find(|it| it.id == replay.id).unwrap()
    };
    process.disk.until(|_| find().state == ReplayState::Completed).await;
    let replay = find();
    assert_eq!((replay.selected, replay.queued, replay.skipped), (plan.selected, plan.would_make, plan.skipped));
}
