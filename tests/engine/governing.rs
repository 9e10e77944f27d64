//! The terms of a replay: how fast, what first, what not at all, and when it stops by itself.

use std::time::Duration;

use backstop::core::delivery::Status;
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::event::Draft;
use backstop::core::filter::{Filter, Pick};
use backstop::core::id::{DeliveryId, EventId};
use backstop::core::rate::Rate;
use backstop::core::replay::{Hold, Replay, ReplayState, Request, Skipped, Terms};
use backstop::core::retry::RetryPolicy;
use backstop::engine::{Again, NotDone, ReplayOrder, Sending};
use backstop::journal::{Journal as _, Tally};

use super::world::{Process, Setup, World, answer, draft, endpoint, name, within};

const MINUTE: Duration = Duration::from_secs(60);
/// So many deliveries of replays are open at a time: a quarter of what is held for an endpoint here.
const OPEN_MAX: u64 = 250;

/// Two endpoints that give up after one failure; originals fail, and what is sent again waits for the test.
fn failing() -> Setup {
    let script = |sending: &Sending| (!sending.again).then(|| answer(500, None));
    let once = RetryPolicy { attempts_max: 1, ..RetryPolicy::default() };
    let endpoints = ["crm", "bill"].map(|text| Endpoint { retry: once.clone(), ..endpoint(text, 2000) }).to_vec();
    Setup { endpoints, script, ..Setup::default() }
}

/// As that, but what is sent again gets there.
fn recovered() -> Setup {
    let script = |sending: &Sending| Some(answer(if sending.again { 200 } else { 500 }, None));
    Setup { script, ..failing() }
}

fn of_failed(terms: Terms) -> ReplayOrder {
    ReplayOrder { filter: Filter::failed(), terms, ..ReplayOrder::default() }
}

async fn dead(world: &World, process: &Process, event_type: &str, count: usize) -> Vec<EventId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(process.accept(event_type).await);
    }
    for id in &ids {
        assert_eq!(process.ended(id.delivery(0)).await.status(), Status::Dead);
    }
    world.pass(Duration::from_millis(1));
    ids
}

async fn open(process: &Process, order: ReplayOrder) -> Replay {
    within(process.engine.open_replay(order)).await.unwrap().0
}

/// The replay once it stands so, with what its deliveries came to.
async fn until(process: &Process, of: &Replay, fits: impl Fn(&Replay, &Tally) -> bool) -> (Replay, Tally) {
    let find = || {
        let replay = process.disk.memory.replays().unwrap().into_iter().find(|replay| replay.id == of.id).unwrap();
        let tally = process.disk.memory.counters().replays.get(&of.id).copied().unwrap_or_default();
        (replay, tally)
    };
    let fits = |(replay, tally): (Replay, Tally)| fits(&replay, &tally);
    process.disk.until(|_| fits(find())).await;
    find()
}

fn targets(world: &World, ids: &[EventId]) -> Vec<Vec<String>> {
    let of = |id: &EventId| {
        let made = world.memory.entry(*id).unwrap().unwrap().deliveries.into_iter();
        made.filter(|delivery| delivery.replay.is_some()).map(|delivery| delivery.endpoint.to_string()).collect()
    };
    ids.iter().map(of).collect()
}

#[tokio::test]
async fn a_canary_goes_first_and_the_rest_when_it_has_got_there() {
    let world = World::new();
    let mut process = world.start(failing());
    dead(&world, &process, "crm", 20).await;
    let replay = open(&process, of_failed(Terms { canary: Some(3), ..Terms::default() })).await;
    for number in 1..=3 {
        let (seen, _) = until(&process, &replay, |_, tally| tally.replayed == 3).await;
        assert_eq!((seen.queued, seen.state, seen.canary_passed), (3, ReplayState::Running, false), "{number}");
        process.next().await.answer(200);
    }
    let (passed, _) = until(&process, &replay, |replay, _| replay.state == ReplayState::Completed).await;
    assert_eq!((passed.queued, passed.canary_passed), (20, true));
    process.deliver_all(&world, "none").await;
}

#[tokio::test]
async fn a_canary_that_does_not_get_there_pauses_the_replay() {
    let world = World::new();
    let mut process = world.start(failing());
    dead(&world, &process, "crm", 20).await;
    let replay = open(&process, of_failed(Terms { canary: Some(2), ..Terms::default() })).await;
    process.next().await.answer(200);
    process.next().await.answer(500);
    let (paused, tally) = until(&process, &replay, |replay, _| replay.state == ReplayState::Paused).await;
    assert_eq!((paused.hold, paused.queued, tally.delivered, tally.dead), (Some(Hold::Canary), 2, 1, 1));
    // An operator who has looked into it goes on without.
    within(process.engine.resume_replay(replay.id)).await.unwrap();
    let (done, _) = until(&process, &replay, |replay, _| replay.state == ReplayState::Completed).await;
    assert_eq!((done.queued, done.hold), (20, None));
}

#[tokio::test]
async fn it_pauses_itself_after_failures_and_goes_on_when_told() {
    let world = World::new();
    let mut process = world.start(failing());
    let many = usize::try_from(OPEN_MAX).unwrap() + 300;
    dead(&world, &process, "crm", many).await;
    let replay = open(&process, of_failed(Terms { stop_after_failures: Some(4), ..Terms::default() })).await;
    // No more are open at a time, so that there is something left to stop.
    until(&process, &replay, |_, tally| tally.scheduled == OPEN_MAX).await;
    for _ in 0..4 {
        process.next().await.answer(500);
    }
    let (paused, tally) = until(&process, &replay, |replay, _| replay.state == ReplayState::Paused).await;
    assert_eq!((paused.hold, tally.dead), (Some(Hold::Failures), 4));
    assert!(paused.queued < u64::try_from(many).unwrap());
    for _ in 0..30 {
        process.next().await.answer(200);
    }
    until(&process, &replay, |_, tally| tally.delivered == 30).await;
    let (still, _) = until(&process, &replay, |_, _| true).await;
    assert_eq!(still.queued, paused.queued, "it makes none while it is paused");
    within(process.engine.resume_replay(replay.id)).await.unwrap();
    let (running, _) = until(&process, &replay, |replay, _| replay.queued > paused.queued).await;
    assert_eq!((running.state, running.forgiven), (ReplayState::Running, 4));
    for _ in 0..4 {
        process.next().await.answer(500);
    }
    until(&process, &replay, |replay, _| replay.hold == Some(Hold::Failures)).await;
}

#[tokio::test]
async fn a_rate_paces_it_and_pause_holds_it_over_a_restart() {
    let world = World::new();
    let process = world.start(recovered());
    dead(&world, &process, "crm", 6).await;
    let rate = Some(Rate { count: 1, per: MINUTE, burst: 2 });
    let replay = open(&process, of_failed(Terms { rate, ..Terms::default() })).await;
    let (begun, _) = until(&process, &replay, |_, tally| tally.delivered == 2).await;
    assert_eq!(begun.queued, 2);
    world.pass(MINUTE);
    // Another one wakes the replayer, which sleeps by a clock of its own.
    open(&process, of_failed(Terms { max_ages: vec![("*".to_owned(), Duration::ZERO)], ..Terms::default() })).await;
    let (paced, _) = until(&process, &replay, |_, tally| tally.delivered == 3).await;
    assert_eq!(paced.queued, 3);
    within(process.engine.pause_replay(replay.id)).await.unwrap();
    assert_eq!(within(process.engine.pause_replay(replay.id)).await, Err(NotDone::Ended));
    drop(process);
    let process = world.start(recovered());
    let (held, _) = until(&process, &replay, |_, _| true).await;
    assert_eq!((held.state, held.hold, held.queued), (ReplayState::Paused, Some(Hold::Operator), 3));
    within(process.engine.resume_replay(replay.id)).await.unwrap();
    let (gone_on, _) = until(&process, &replay, |_, tally| tally.delivered == 5).await;
    assert_eq!(gone_on.queued, 5, "a new process begins with a full burst");
}

#[tokio::test]
async fn what_is_too_old_for_its_type_is_left_out_and_the_plan_says_so_before() {
    let world = World::new();
    let process = world.start(recovered());
    let stale = dead(&world, &process, "crm", 3).await;
    let ended = dead(&world, &process, "bill", 2).await;
    world.pass(10 * MINUTE);
    let fresh = dead(&world, &process, "crm", 4).await;
    let max_ages = vec![("crm".to_owned(), 5 * MINUTE), ("*".to_owned(), 100 * MINUTE)];
    let order = of_failed(Terms { max_ages, ..Terms::default() });
    let plan = within(process.engine.plan_replay(order.clone())).await.unwrap();
    assert_eq!((plan.selected, plan.would_make, plan.skipped.too_old), (9, 6, 3));
    assert_eq!(plan.by_endpoint.values().copied().collect::<Vec<u64>>(), [2, 4]);
    assert_eq!(world.memory.replays().unwrap(), [], "a plan begins nothing");
    let replay = open(&process, order).await;
    let (done, _) = until(&process, &replay, |replay, _| replay.state == ReplayState::Completed).await;
    assert_eq!((done.selected, done.queued, done.skipped), (9, 6, Skipped { too_old: 3, ..Skipped::default() }));
    assert_eq!(targets(&world, &stale), [[""; 0]; 3]);
    assert_eq!(targets(&world, &ended), [["bill"]; 2]);
    assert_eq!(targets(&world, &fresh), [["crm"]; 4]);
}

#[tokio::test]
async fn what_got_there_by_a_later_delivery_is_left_out_if_asked() {
    let world = World::new();
    let process = world.start(recovered());
    let ids = dead(&world, &process, "crm", 3).await;
    let again = within(process.engine.replay_event(ids[0], None, false)).await.unwrap();
    process.ended(again[0].0).await;
    world.pass(MINUTE);
    let filter = Filter { superseded: true, ..Filter::failed() };
    let terms = |skip| Terms { skip_if_delivered_later: skip, ..Terms::default() };
    let order = |skip| ReplayOrder { filter: filter.clone(), terms: terms(skip), ..ReplayOrder::default() };
    assert_eq!(within(process.engine.plan_replay(order(false))).await.unwrap().would_make, 3);
    let replay = open(&process, order(true)).await;
    let (done, _) = until(&process, &replay, |replay, _| replay.state == ReplayState::Completed).await;
    assert_eq!((done.queued, done.skipped), (2, Skipped { delivered_later: 1, ..Skipped::default() }));
    assert_eq!(targets(&world, &ids), [vec![], vec!["crm".to_owned()], vec!["crm".to_owned()]]);
}

#[tokio::test]
async fn events_that_went_nowhere_go_where_routes_send_them_now() {
    let world = World::new();
    let process = world.start(recovered());
    let nowhere = process.accept("later").await;
    let lost = process.accept("never").await;
    drop(process);
    // A route for them came with the next start.
    let process = world.start_with_only_route(recovered(), "later", &["crm", "bill"]);
    world.pass(MINUTE);
    let filter = Filter { unrouted: true, ..Filter::default() };
    let order = ReplayOrder { filter, ..ReplayOrder::default() };
    let plan = within(process.engine.plan_replay(order.clone())).await.unwrap();
    assert_eq!((plan.selected, plan.would_make, plan.skipped.nowhere), (3, 2, 1));
    let replay = open(&process, order).await;
    let (done, tally) =
        until(&process, &replay, |replay, tally| replay.state == ReplayState::Completed && tally.delivered == 2).await;
    assert_eq!((done.queued, done.skipped.nowhere, tally.replayed), (2, 1, 2));
    assert_eq!(targets(&world, &[nowhere, lost]), [vec!["crm".to_owned(), "bill".to_owned()], vec![]]);
}

#[tokio::test]
async fn the_newest_go_first_where_no_order_is_kept() {
    /// More than are looked at for one commit, and by far more than are on their way.
    const COUNT: usize = 50;
    let world = World::new();
    let setup = || Setup { endpoints: vec![endpoint("bill", 1)], ..failing() };
    let process = world.start(Setup {
        endpoints: vec![Endpoint { order: Order::Key, ..endpoint("crm", 1) }, endpoint("bill", 1)],
        ..failing()
    });
    let newest = || Terms { newest_first: true, ..Terms::default() };
    let refused = within(process.engine.open_replay(of_failed(newest()))).await;
    assert!(matches!(&refused, Err(NotDone::Invalid(why)) if why.contains("`crm` keeps an order")), "{refused:?}");
    let filter = Filter { endpoint: Some(name("bill")), ..Filter::failed() };
    let order = ReplayOrder { filter, terms: newest(), ..ReplayOrder::default() };
    within(process.engine.open_replay(order.clone())).await.unwrap();
    drop(process);

    let world = World::new();
    let mut process = world.start(Setup {
        endpoints: setup().endpoints.into_iter().map(|it| Endpoint { retry: one_try(), ..it }).collect(),
        ..failing()
    });
    let ids = dead(&world, &process, "bill", COUNT).await;
    let terms = Terms { canary: Some(2), ..newest() };
    let replay = open(&process, ReplayOrder { terms, ..order }).await;
    for made in 1..=2 {
        until(&process, &replay, |replay, _| replay.queued == made).await;
        world.pass(Duration::from_millis(1));
        process.next().await.answer(200);
    }
    // All are made before the first of them goes: nothing but when they are due tells what goes first.
    for made in 3..=COUNT as u64 {
        until(&process, &replay, |replay, _| replay.queued == made).await;
        world.pass(Duration::from_millis(1));
    }
    let (done, _) = until(&process, &replay, |replay, _| replay.state == ReplayState::Completed).await;
    assert_eq!((done.queued, done.selected), (COUNT as u64, COUNT as u64));
    for _ in 2..COUNT {
        process.next().await.answer(200);
    }
    let sent: Vec<EventId> = world.sent().into_iter().filter(|(id, _)| id.slot == 1).map(|(id, _)| id.event).collect();
    let newest_first: Vec<EventId> = ids.into_iter().rev().collect();
    assert_eq!(sent, newest_first);
}

fn one_try() -> RetryPolicy {
    RetryPolicy { attempts_max: 1, ..RetryPolicy::default() }
}

#[tokio::test]
async fn what_was_asked_for_under_one_key_is_begun_once() {
    let world = World::new();
    let process = world.start(recovered());
    dead(&world, &process, "crm", 3).await;
    let request = |digest| Some(Request { key: "monday".to_owned(), digest: [digest; 16] });
    let order = |digest| ReplayOrder { request: request(digest), ..of_failed(Terms::default()) };
    let both = async { tokio::join!(process.engine.open_replay(order(1)), process.engine.open_replay(order(1))) };
    let (one, other) = within(both).await;
    let ((one, one_is_new), (other, other_is_new)) = (one.unwrap(), other.unwrap());
    assert_eq!((one.id, one_is_new != other_is_new), (other.id, true));
    until(&process, &one, |replay, _| replay.state == ReplayState::Completed).await;
    drop(process);
    let process = world.start(recovered());
    let (again, is_new) = within(process.engine.open_replay(order(1))).await.unwrap();
    assert_eq!((again.id, again.queued, is_new), (one.id, 3, false));
    let other = within(process.engine.open_replay(order(2))).await;
    assert!(matches!(&other, Err(NotDone::Invalid(why)) if why.contains("another request")), "{other:?}");
}

#[tokio::test]
async fn what_a_replay_has_left_is_done_by_another() {
    let world = World::new();
    let mut process = world.start(failing());
    let ids = dead(&world, &process, "crm", 10).await;
    let first = open(&process, of_failed(Terms { canary: Some(4), ..Terms::default() })).await;
    until(&process, &first, |_, tally| tally.scheduled == 4).await;
    let rest = process.engine.replay_again(first.id, Again::Rest, None, None);
    assert!(matches!(within(rest).await, Err(NotDone::Invalid(_))), "it has not ended");
    within(process.engine.cancel_replay(first.id)).await.unwrap();
    for (id, status) in ids.iter().zip([200, 500, 200, 500]) {
        process.take(id.delivery(1)).await.answer(status);
        process.ended(id.delivery(1)).await;
    }
    world.pass(MINUTE);
    let (rest, _) = within(process.engine.replay_again(first.id, Again::Rest, None, None)).await.unwrap();
    assert_eq!((rest.terms.canary, rest.freeze), (Some(4), first.freeze));
    for id in &ids[4..8] {
        process.take(id.delivery(1)).await.answer(200);
    }
    let (done, _) = until(&process, &rest, |replay, _| replay.state == ReplayState::Completed).await;
    assert_eq!(done.queued, 6);
    let request = || Some(Request { key: "again".to_owned(), digest: [1; 16] });
    let again = || process.engine.replay_again(first.id, Again::Failed, request(), None);
    let (failed, _) = within(again()).await.unwrap();
    assert_eq!(within(again()).await.unwrap(), (failed.clone(), false), "asked twice, begun once");
    for id in [ids[1], ids[3]] {
        process.take(id.delivery(2)).await.answer(200);
    }
    let (done, _) = until(&process, &failed, |replay, tally| replay.queued == 2 && tally.delivered == 2).await;
    assert_eq!(done.selected, 2);
    assert!(ids.iter().all(|id| world.memory.entry(*id).unwrap().unwrap().deliveries.len() <= 3));
}

#[tokio::test]
async fn picked_ones_go_to_another_endpoint_as_a_backfill() {
    let world = World::new();
    let process = world.start(recovered());
    let ids = dead(&world, &process, "crm", 5).await;
    let picks = vec![Pick::Event(ids[1]), Pick::Delivery(ids[3].delivery(0)), Pick::Delivery(ids[4].delivery(7))];
    let filter = Filter { picks, ..Filter::default() };
    let order = ReplayOrder { filter, to: Some(name("bill")), ..ReplayOrder::default() };
    let replay = open(&process, order).await;
    let (done, _) = until(&process, &replay, |replay, _| replay.state == ReplayState::Completed).await;
    assert_eq!((done.selected, done.queued), (2, 2));
    let none: Vec<String> = vec![];
    let bill = vec!["bill".to_owned()];
    assert_eq!(targets(&world, &ids), [none.clone(), bill.clone(), none.clone(), bill, none]);
}

#[tokio::test]
async fn a_trial_sends_copies_elsewhere_and_changes_nothing() {
    let world = World::new();
    let script = |sending: &Sending| {
        let is_trial = sending.endpoint.url == "https://example.com/next";
        Some(answer(if is_trial { 202 } else { 500 }, None))
    };
    let process = world.start(Setup { script, ..failing() });
    let ids = dead(&world, &process, "crm", 5).await;
    let before = (world.memory.counters(), world.memory.last_id());
    let order = of_failed(Terms::default());
    let trial = within(process.engine.try_url(order, "https://example.com/next", 3, |_, _| false)).await.unwrap();
    let copies: Vec<DeliveryId> = trial.copies.iter().map(|copy| copy.delivery.id).collect();
    assert_eq!(copies, [ids[4].delivery(0), ids[3].delivery(0), ids[2].delivery(0)], "the newest first");
    for copy in &trial.copies {
        assert_eq!(copy.before.as_ref().and_then(|before| before.status()), Some(500));
        assert_eq!(copy.outcome.as_str(), "delivered");
    }
    assert_eq!((world.memory.counters(), world.memory.last_id()), before);
    assert!(ids.iter().all(|id| world.delivery(id.delivery(0)).attempts == 1));
}

/// While one replay has nowhere to go on, another does.
#[tokio::test]
async fn a_replay_that_waits_holds_up_no_other() {
    let world = World::new();
    let process = world.start(Setup {
        script: |sending| match (sending.again, sending.endpoint.name.as_str()) {
            (true, "crm") => None,
            (true, _) => Some(answer(200, None)),
            (false, _) => Some(answer(500, None)),
        },
        ..failing()
    });
    dead(&world, &process, "crm", 5).await;
    let bill = dead(&world, &process, "bill", 5).await;
    let stuck = open(&process, of_failed(Terms { canary: Some(1), ..Terms::default() })).await;
    until(&process, &stuck, |_, tally| tally.scheduled == 1).await;
    let filter = Filter { endpoint: Some(name("bill")), ..Filter::failed() };
    let other = open(&process, ReplayOrder { filter, ..ReplayOrder::default() }).await;
    let (done, _) =
        until(&process, &other, |replay, tally| replay.state == ReplayState::Completed && tally.delivered == 5).await;
    assert_eq!(done.queued, 5);
    assert_eq!(targets(&world, &bill), [["bill"]; 5]);
    assert_eq!(world.memory.counters().replays[&stuck.id].replayed, 1);
}

/// By the event's own time.
#[tokio::test]
async fn the_events_own_time_can_be_meant() {
    let world = World::new();
    let process = world.start(recovered());
    let happened = world.now();
    world.pass(10 * MINUTE);
    let late = Draft { occurred_at: Some(happened), ..draft("crm") };
    let late = within(process.engine.accept(late)).await.unwrap().id;
    let prompt = process.accept("crm").await;
    for id in [late, prompt] {
        process.ended(id.delivery(0)).await;
    }
    world.pass(MINUTE);
    let filter = Filter { occurred_until: Some(happened.after(MINUTE)), ..Filter::failed() };
    let replay = open(&process, ReplayOrder { filter, ..ReplayOrder::default() }).await;
    until(&process, &replay, |replay, _| replay.state == ReplayState::Completed).await;
    assert_eq!(targets(&world, &[late, prompt]), [vec!["crm".to_owned()], vec![]]);
}
