//! Taking events in: acknowledged when durable, refused when they cannot be.

use backstop::engine::{Accepted, Health, NotAccepted, NotDone};
use backstop::journal::{Change, JournalError};
use futures_util::FutureExt as _;

use super::disk::{Note, Point};
use super::world::{Setup, World, draft, within};

#[tokio::test]
async fn nothing_is_acknowledged_or_sent_before_the_commit_returned() {
    for point in [Point::Before, Point::After] {
        let world = World::new();
        let mut process = world.start(Setup::default());
        process.disk.hold(point, |change| matches!(change, Change::Accept(_)));
        // A journal that has stored it may hand it out: only what the engine is told is looked at here.
        process.lane_until("crm", |lane| !lane.behind).await;
        let mut accept = Box::pin(process.engine.accept(draft("crm")));
        assert!(accept.as_mut().now_or_never().is_none());
        process.disk.held().await;
        let lane = process.lane("crm").await;
        assert_eq!((lane.in_flight, lane.fresh), (0, 0), "the scheduler does not know of it");
        assert!(accept.as_mut().now_or_never().is_none(), "it is not durable yet");
        assert_eq!(world.sent(), []);
        process.disk.release();
        let Accepted { id, duplicate } = within(accept).await.unwrap();
        assert_eq!(duplicate, None);
        process.next().await.answer(200);
        process.ended(id.delivery(0)).await;
        let first = id.delivery(0);
        assert_eq!(world.notes(), [Note::Accepted(id), Note::Sent(first, 1), Note::Settled(first, 1)]);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_events_and_keeps_outcomes_until_there_is_room() {
    let world = World::new();
    let mut process = world.start(Setup::one_by_one());
    let (first, second) = (process.accept("crm").await.delivery(0), process.accept("crm").await.delivery(0));
    let sent = process.next().await;
    process.disk.set_full(true);
    sent.answer(200);
    process.disk.until(|disk| disk.commits() > 2).await;
    assert_eq!(within(process.engine.accept(draft("crm"))).await, Err(NotAccepted::Full));
    assert_eq!(within(process.engine.accept(draft("crm"))).await, Err(NotAccepted::Full));
    // The slot is not free before the outcome is stored.
    process.lane_until("crm", |lane| (lane.in_flight, lane.fresh) == (1, 1)).await;
    assert_eq!(*process.engine.health().borrow(), Health::Running);

    process.disk.set_full(false);
    process.ended(first).await;
    let next = process.next().await;
    assert_eq!(next.id(), second);
    next.answer(200);
    process.ended(second).await;
    process.accept("crm").await;
    let order = [Note::Settled(first, 1), Note::Sent(second, 1)];
    assert!(world.notes().windows(2).any(|pair| pair == order));
    assert_eq!(world.delivered("crm"), (3, 2), "what was refused left nothing behind");
}

#[tokio::test]
async fn at_the_high_water_mark_events_are_refused_and_deliveries_go_on() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await.delivery(0);
    process.disk.set_high_water(true);
    assert!(process.engine.is_full());
    assert_eq!(within(process.engine.accept(draft("crm"))).await, Err(NotAccepted::Full));
    process.next().await.answer(200);
    process.ended(id).await;
}

#[tokio::test]
async fn a_failed_journal_tells_everyone_who_waits_and_takes_nothing_more() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await;
    let sent = process.next().await;
    process.disk.hold(Point::Before, |change| matches!(change, Change::Accept(_)));
    let mut caught = Box::pin(process.engine.accept(draft("crm")));
    assert!(caught.as_mut().now_or_never().is_none());
    process.disk.held().await;
    // These wait behind the commit that is going to fail.
    let mut queued = Box::pin(process.engine.accept(draft("crm")));
    assert!(queued.as_mut().now_or_never().is_none());
    let again = async { process.engine.replay_event(id, None, true).await };
    sent.answer(200);
    process.disk.fail(1);
    let (caught, queued, again, ()) =
        within(async { tokio::join!(caught, queued, again, async { process.disk.release() }) }).await;
    assert!(matches!(caught, Err(NotAccepted::Failed(_))), "{caught:?}");
    assert!(matches!(queued, Err(NotAccepted::Failed(_))), "{queued:?}");
    assert!(matches!(again, Err(NotDone::Journal(JournalError::Failed(_)))), "{again:?}");
    assert!(matches!(*process.engine.health().borrow(), Health::Failed(_)));
    let late = within(process.engine.accept(draft("crm"))).await;
    assert!(matches!(late, Err(NotAccepted::Failed(_))), "{late:?}");
    // What a failed write left behind is unknown: the next one must not be tried.
    let late = within(process.engine.replay_event(id, None, true)).await;
    assert!(matches!(late, Err(NotDone::Journal(_))), "{late:?}");
    assert_eq!(process.disk.commits(), 2, "the first event, and the one that failed");
    assert_eq!(world.notes(), [Note::Accepted(id), Note::Sent(id.delivery(0), 1)]);
}

#[tokio::test]
async fn a_full_accept_queue_is_busy_and_every_place_comes_back() {
    let world = World::new();
    let process = world.start(Setup { accept_queue_max: 2, ..Setup::default() });
    for (is_full, known) in [(false, 2), (true, 2), (false, 4)] {
        process.disk.hold(Point::Before, |change| matches!(change, Change::Accept(_)));
        let mut one = Box::pin(process.engine.accept(draft("crm")));
        let mut two = Box::pin(process.engine.accept(draft("crm")));
        assert!(one.as_mut().now_or_never().is_none());
        assert!(two.as_mut().now_or_never().is_none());
        process.disk.held().await;
        assert_eq!(process.engine.accept(draft("crm")).now_or_never(), Some(Err(NotAccepted::Busy)));
        process.disk.set_full(is_full);
        process.disk.release();
        let accepted = within(async { tokio::join!(one, two) }).await;
        let wanted = if is_full { Err(NotAccepted::Full) } else { Ok(()) };
        assert_eq!([accepted.0.map(drop), accepted.1.map(drop)], [wanted.clone(), wanted]);
        process.disk.set_full(false);
        // A place is given back when the dispatcher knows the event.
        process.lane_until("crm", |lane| lane.in_flight == known).await;
    }
    assert_eq!(world.delivered("crm").0, 4);
}
