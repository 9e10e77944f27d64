//! Delivering old events again: one by hand, or everything that fits a filter.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstop::core::attempt::StatusSet;
use backstop::core::delivery::Status;
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::event::Draft;
use backstop::core::filter::Filter;
use backstop::core::id::{DeliveryId, EventId};
use backstop::core::replay::{Replay, ReplayState};
use backstop::core::retry::RetryPolicy;
use backstop::core::timestamp::Timestamp;
use backstop::engine::{NotDone, ReplayOrder, Sending};
use backstop::journal::{Change, Journal as _};

use super::disk::Point;
use super::world::{Process, Setup, World, answer, draft, endpoint, name, within};

const TICK: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
/// More than two slices of a replay.
const MANY: u32 = 1000;

/// Originals are refused for good, what is sent again gets through.
fn second_time_lucky() -> Setup {
    let script = |sending: &Sending| Some(answer(if sending.again { 200 } else { 400 }, None));
    let refusing = |text| Endpoint { permanent: StatusSet::new(vec![(400, 400)]), ..endpoint(text, 4) };
    Setup { endpoints: vec![refusing("crm"), refusing("bill")], script, ..Setup::default() }
}

fn nth_advance(n: u32) -> impl Fn(&Change) -> bool {
    let seen = AtomicU32::new(0);
    move |change| matches!(change, Change::AdvanceReplay(_)) && seen.fetch_add(1, Ordering::SeqCst) + 1 == n
}

fn failed() -> ReplayOrder {
    ReplayOrder { filter: Filter::failed(), ..ReplayOrder::default() }
}

fn only_replay(world: &World) -> Replay {
    world.memory.replays().unwrap().pop().unwrap()
}

/// Accepts events to `crm` and waits until all of them are dead.
async fn dead_letters(world: &World, process: &Process, count: u32) -> Vec<EventId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(process.accept("crm").await);
    }
    for id in &ids {
        assert_eq!(process.ended(id.delivery(0)).await.status(), Status::Dead);
    }
    world.pass(TICK);
    ids
}

async fn finished(world: &World, process: &Process, state: ReplayState) -> Replay {
    process.disk.until(|_| only_replay(world).state == state).await;
    only_replay(world)
}

fn slots_to(world: &World, id: EventId, endpoint: &str) -> usize {
    let view = world.memory.entry(id).unwrap().unwrap();
    view.deliveries.iter().filter(|delivery| delivery.endpoint.as_str() == endpoint).count()
}

#[tokio::test]
async fn an_event_is_delivered_again_to_everywhere_it_went() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("both").await;
    for slot in [0, 1] {
        process.take(id.delivery(slot)).await.answer(200);
        process.ended(id.delivery(slot)).await;
    }
    let made = within(process.engine.replay_event(id, None, false)).await.unwrap();
    assert_eq!(made, [(id.delivery(2), name("crm")), (id.delivery(3), name("bill"))]);
    for (delivery, endpoint) in made {
        let sent = process.take(delivery).await;
        assert_eq!((sent.sending.attempt, sent.sending.again, sent.sending.replay), (1, true, None));
        assert_eq!((sent.sending.event.id, &sent.sending.endpoint.name), (id, &endpoint));
        sent.answer(200);
        process.ended(delivery).await;
    }
    let made = within(process.engine.replay_delivery(id.delivery(1), false)).await.unwrap();
    assert_eq!(made, [(id.delivery(4), name("bill"))]);
}

#[tokio::test]
async fn an_event_can_be_sent_where_it_never_went_but_not_where_nothing_is() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let crm = process.accept("crm").await;
    let unrouted = process.accept("nowhere").await;
    let missing = EventId::MIN;
    let to = |id, to: Option<&str>| process.engine.replay_event(id, to.map(name), false);
    assert_eq!(within(to(crm, Some("nobody"))).await, Err(NotDone::UnknownEndpoint(name("nobody"))));
    assert_eq!(within(to(missing, Some("crm"))).await, Err(NotDone::Missing));
    assert!(matches!(within(to(unrouted, None)).await, Err(NotDone::Invalid(_))));
    let made = [
        within(to(crm, Some("bill"))).await.unwrap().remove(0),
        within(to(unrouted, Some("bill"))).await.unwrap().remove(0),
    ];
    assert_eq!(made, [(crm.delivery(1), name("bill")), (unrouted.delivery(0), name("bill"))]);
    for (delivery, _) in made {
        process.take(delivery).await.answer(200);
        process.ended(delivery).await;
    }
}

#[tokio::test]
async fn what_waits_already_is_not_doubled_unless_forced() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("both").await;
    process.take(id.delivery(0)).await.answer(200);
    process.ended(id.delivery(0)).await;
    // The one to `bill` is on its way: only `crm` is made.
    let again = |force| process.engine.replay_event(id, None, force);
    assert_eq!(within(again(false)).await.unwrap(), [(id.delivery(2), name("crm"))]);
    assert_eq!(within(again(false)).await, Err(NotDone::AlreadyScheduled));
    let forced = within(again(true)).await.unwrap();
    assert_eq!(forced, [(id.delivery(3), name("crm")), (id.delivery(4), name("bill"))]);
    for slot in 1..=4 {
        process.take(id.delivery(slot)).await.answer(200);
        process.ended(id.delivery(slot)).await;
    }
    assert_eq!(world.sent().len(), 5);
}

#[tokio::test]
async fn a_replay_that_is_interrupted_makes_every_delivery_exactly_once() {
    for point in [Point::Before, Point::After] {
        let world = World::new();
        let setup = second_time_lucky;
        let process = world.start(setup());
        let ids = dead_letters(&world, &process, MANY).await;
        process.disk.hold(point, nth_advance(3));
        within(process.engine.open_replay(failed())).await.unwrap();
        process.disk.held().await;
        drop(process);
        let before = only_replay(&world);
        assert_eq!(before.state, ReplayState::Running);
        assert!(before.queued > 0 && before.queued < u64::from(MANY));

        let process = world.start(setup());
        let replay = finished(&world, &process, ReplayState::Completed).await;
        assert_eq!((replay.selected, replay.queued, replay.skipped.total()), (1000, 1000, 0));
        for id in &ids {
            assert_eq!(process.ended(id.delivery(1)).await.status(), Status::Delivered);
        }
        assert!(ids.iter().all(|id| slots_to(&world, *id, "crm") == 2));
        assert!(ids.iter().all(|id| world.delivery(id.delivery(1)).replay == Some(replay.id)));
    }
}

#[tokio::test]
async fn a_cancelled_replay_makes_nothing_more() {
    let world = World::new();
    let process = world.start(second_time_lucky());
    let ids = dead_letters(&world, &process, MANY).await;
    process.disk.hold(Point::Before, nth_advance(2));
    let (replay, _) = within(process.engine.open_replay(failed())).await.unwrap();
    process.disk.held().await;
    let made = only_replay(&world).queued;
    let cancel = process.engine.cancel_replay(replay.id);
    // The slice that is held was asked for before.
    let (cancelled, ()) = within(async { tokio::join!(cancel, async { process.disk.release() }) }).await;
    cancelled.unwrap();
    let queued = only_replay(&world).queued;
    assert!(queued > made && queued < u64::from(MANY), "{queued}");
    let made = usize::try_from(queued).unwrap();
    for id in &ids[..made] {
        process.ended(id.delivery(1)).await;
    }
    assert!(ids[made..].iter().all(|id| slots_to(&world, *id, "crm") == 1));
    assert_eq!(only_replay(&world).state, ReplayState::Cancelled);
    assert_eq!(within(process.engine.cancel_replay(replay.id)).await, Err(NotDone::Ended));
    // A second one takes up what the first left.
    within(process.engine.open_replay(failed())).await.unwrap();
    for id in &ids[made..] {
        process.disk.until(|_| slots_to(&world, *id, "crm") == 2).await;
        process.ended(id.delivery(1)).await;
    }
    let first = world.memory.replays().unwrap().pop().unwrap();
    assert_eq!((first.id, first.queued), (replay.id, queued));
}

/// Also if the clock steps back, and by its time the event came first.
#[tokio::test]
async fn what_is_accepted_after_a_replay_was_asked_for_is_not_in_it() {
    for steps_back in [false, true] {
        let world = World::new();
        let process = world.start(second_time_lucky());
        world.pass(MINUTE);
        dead_letters(&world, &process, 10).await;
        process.disk.hold(Point::Before, |change| matches!(change, Change::OpenReplay(_)));
        let open = process.engine.open_replay(failed());
        let late = async {
            process.disk.held().await;
            if steps_back {
                world.set_clock(Timestamp::from_millis(world.now().millis() - 60_000));
            } else {
                world.pass(TICK);
            }
            // They are committed with the opening or behind it, in any case before the first slice is looked up.
            let accept = process.engine.accept(draft("crm"));
            let (accepted, ()) = tokio::join!(accept, async { process.disk.release() });
            accepted.unwrap().id
        };
        let (opened, late) = within(async { tokio::join!(open, late) }).await;
        opened.unwrap();
        process.ended(late.delivery(0)).await;
        let replay = finished(&world, &process, ReplayState::Completed).await;
        assert_eq!((replay.selected, replay.queued), (10, 10));
        assert_eq!(slots_to(&world, late, "crm"), 1);
    }
}

/// The slices part between the two deliveries of one event: the second must not find what the first made.
#[tokio::test]
async fn a_replay_does_not_select_what_it_made_itself() {
    let world = World::new();
    let process = world.start(Setup { script: |_| Some(answer(200, None)), ..Setup::default() });
    let mut originals = vec![process.accept("crm").await.delivery(0)];
    for _ in 0..200 {
        let both = process.accept("both").await;
        originals.extend([both.delivery(0), both.delivery(1)]);
    }
    for id in originals {
        process.ended(id).await;
    }
    world.pass(TICK);
    within(process.engine.open_replay(ReplayOrder::default())).await.unwrap();
    let replay = finished(&world, &process, ReplayState::Completed).await;
    assert_eq!((replay.selected, replay.queued, replay.skipped.total()), (401, 401, 0));
}

/// Between the commit of a replayed delivery and the word of it, the journal may already hand it out.
#[tokio::test]
async fn a_replayed_delivery_that_the_journal_hands_out_first_is_sent_once() {
    let world = World::new();
    let short = RetryPolicy { initial: TICK, interval_max: TICK, ..RetryPolicy::default() };
    let endpoints = vec![Endpoint { retry: short, ..endpoint("crm", 100) }, endpoint("bill", 4)];
    let mut process = world.start(Setup { endpoints, active_max: 2, ..Setup::default() });
    let id = process.accept("both").await;
    for slot in [0, 1] {
        process.take(id.delivery(slot)).await.answer(200);
        process.ended(id.delivery(slot)).await;
    }
    // More retries than memory holds: the rest is asked for when these are sent.
    let mut retried: Vec<DeliveryId> = Vec::new();
    for wait in [MINUTE, 2 * MINUTE, 3 * MINUTE] {
        let retry = process.accept("crm").await.delivery(0);
        process.take(retry).await.reply(answer(500, Some(wait)));
        process.tried(retry, 1).await;
        retried.push(retry);
    }
    process.lane_until("crm", |lane| lane.waiting == 2 && lane.behind).await;
    let engine = process.engine.clone();
    process.disk.hold(
        Point::Before,
        |change| matches!(change, Change::Redeliver(redelivery) if redelivery.endpoint.as_str() == "bill"),
    );
    let mut again = Box::pin(engine.replay_event(id, None, false));
    within(async {
        tokio::select! {
            _ = &mut again => panic!("its second commit is held"),
            () = process.disk.held() => {}
        }
    })
    .await;
    world.pass(3 * MINUTE);
    process.lane("crm").await;
    let first = process.take(id.delivery(2)).await;
    process.disk.release();
    within(again).await.unwrap();
    process.lane_until("bill", |lane| lane.in_flight == 1).await;
    first.answer(200);
    process.ended(id.delivery(2)).await;
    for retry in retried {
        process.take(retry).await.answer(200);
        process.ended(retry).await;
    }
    process.lane_until("crm", |lane| lane.in_flight == 0 && lane.waiting == 0).await;
    let times = world.sent().into_iter().filter(|sent| *sent == (id.delivery(2), 1)).count();
    assert_eq!(times, 1);
    assert_eq!(world.delivery(id.delivery(2)).status(), Status::Delivered);
}

/// An ordered endpoint has to know all that waits before a new event goes; there are more than it can hold.
#[tokio::test]
async fn a_large_replay_to_an_ordered_endpoint_does_not_hold_up_new_events() {
    const OLD: usize = 1500;
    let world = World::new();
    let refuses = |sending: &Sending| (!sending.again && sending.event.draft.key.is_none()).then(|| answer(400, None));
    let crm = Endpoint { order: Order::Key, permanent: StatusSet::new(vec![(400, 400)]), ..endpoint("crm", 4) };
    let mut process =
        world.start(Setup { endpoints: vec![crm], accept_queue_max: 10, script: refuses, ..Setup::default() });
    for _ in 0..OLD {
        let id = process.accept("crm").await.delivery(0);
        process.ended(id).await;
    }
    world.pass(Duration::from_secs(1));
    within(process.engine.open_replay(failed())).await.unwrap();
    for _ in 0..OLD / 5 {
        process.next().await.answer(200);
    }
    let new = within(process.engine.accept(Draft { key: Some("new".to_owned()), ..draft("crm") })).await.unwrap().id;
    let mut before = 0;
    loop {
        let sent = process.next().await;
        let is_new = sent.id().event == new;
        sent.answer(200);
        if is_new {
            break;
        }
        before += 1;
    }
    assert!(before < 100, "{before} of an older replay went first");
}
