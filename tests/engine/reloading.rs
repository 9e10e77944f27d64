//! Rules that change while the engine runs: nothing on its way is disturbed, nothing is lost, nothing goes twice.

use std::time::Duration;

use backstop::core::delivery::{Delivery, Status};
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::event::Draft;
use backstop::core::id::DeliveryId;
use backstop::core::lifecycle::Lifecycle;
use backstop::core::retention::{Keep, Retention};
use backstop::core::retry::RetryPolicy;
use backstop::core::route::{Route, RouteTable};
use backstop::core::scheduler::On;
use backstop::core::source::ALERTS;
use backstop::core::standing::PauseCause;
use backstop::core::window::Concurrency;
use backstop::engine::{NotDone, Rules};
use backstop::journal::Journal as _;

use super::alerting::told;
use super::world::{Process, Setup, World, draft, endpoint, name, routes, within};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The rules of [`Setup::default`], with these endpoints.
fn rules(endpoints: Vec<Endpoint>) -> Rules {
    let names: Vec<_> = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    let fits = |route: &Route| route.endpoints.iter().all(|to| names.contains(to));
    let table = routes().into_iter().filter(fits).collect();
    Rules::new(endpoints, RouteTable::new(table), vec![], Retention::default())
}

async fn change(process: &Process, rules: Rules) {
    within(process.engine.change_rules(rules)).await.unwrap();
}

async fn goes_well(process: &mut Process, id: DeliveryId) {
    let sent = process.take(id).await;
    sent.answer(200);
    process.ended(id).await;
}

/// After everything that was told to the dispatcher: what was sent so far.
async fn sent_by_now(world: &World, process: &Process) -> Vec<(DeliveryId, u32)> {
    within(process.engine.lanes()).await;
    within(process.engine.lanes()).await;
    world.sent()
}

#[tokio::test]
async fn deliveries_to_an_endpoint_that_is_gone_are_parked_and_go_when_it_is_back() {
    let world = World::new();
    let mut process =
        world.start(Setup { endpoints: vec![endpoint("crm", 1), endpoint("bill", 4)], ..Setup::default() });
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(process.accept("crm").await.delivery(0));
    }
    let sent = process.take(ids[0]).await;
    change(&process, rules(vec![endpoint("bill", 4)])).await;
    // What is on its way ends, and its outcome is stored.
    sent.answer(200);
    assert_eq!(process.ended(ids[0]).await.status(), Status::Delivered);
    assert_eq!(sent_by_now(&world, &process).await, [(ids[0], 1)]);
    assert_eq!(process.wait(ids[1]).await, None, "it waits for the config");
    assert!(within(process.engine.lanes()).await.iter().all(|lane| lane.endpoint != name("crm")));
    assert_eq!(process.engine.endpoint(&name("crm")), None);
    let missing = NotDone::UnknownEndpoint(name("crm"));
    assert_eq!(within(process.engine.pause(&name("crm"), "")).await, Err(missing));
    // By the new routes an event of this type goes nowhere; others go on.
    let unrouted = process.accept("crm").await;
    assert!(world.memory.entry(unrouted).unwrap().unwrap().deliveries.is_empty());
    let other = process.accept("bill").await.delivery(0);
    goes_well(&mut process, other).await;

    change(&process, rules(vec![endpoint("bill", 4), endpoint("crm", 1)])).await;
    goes_well(&mut process, ids[1]).await;
    goes_well(&mut process, ids[2]).await;
    let new = process.accept("crm").await.delivery(0);
    goes_well(&mut process, new).await;
    let times = |id: DeliveryId| world.sent().iter().filter(|(sent, _)| *sent == id).count();
    assert!(ids.iter().all(|id| times(*id) == 1), "{:?}", world.sent());
}

#[tokio::test]
async fn what_waits_for_a_retry_is_parked_with_its_attempts_and_does_not_age() {
    let world = World::new();
    let retry = RetryPolicy { attempts_max: 5, age_max: HOUR, ..RetryPolicy::default() };
    let crm = || Endpoint { retry: retry.clone(), ..endpoint("crm", 4) };
    let mut process = world.start(Setup { endpoints: vec![crm()], ..Setup::default() });
    let id = process.accept("crm").await.delivery(0);
    process.take(id).await.answer(500);
    process.tried(id, 1).await;
    change(&process, rules(vec![])).await;
    world.pass(3 * HOUR);
    assert_eq!(sent_by_now(&world, &process).await, [(id, 1)]);
    change(&process, rules(vec![crm()])).await;
    let sent = process.take(id).await;
    assert_eq!(sent.sending.attempt, 2);
    sent.answer(500);
    process.tried(id, 2).await;
    assert_eq!(world.delivery(id).status(), Status::Retrying, "it was not there to be old for");
}

#[tokio::test]
async fn an_endpoint_that_is_back_before_its_attempts_have_landed_sends_nothing_twice() {
    let world = World::new();
    let crm = || Endpoint { order: Order::Key, ..endpoint("crm", 4) };
    let mut process = world.start(Setup { endpoints: vec![crm()], ..Setup::default() });
    let first = process.accept_of("crm", "k").await;
    let second = process.accept_of("crm", "k").await;
    let sent = process.take(first).await;
    change(&process, rules(vec![])).await;
    change(&process, rules(vec![crm()])).await;
    let third = process.accept_of("crm", "k").await;
    assert_eq!(sent_by_now(&world, &process).await, [(first, 1)]);
    sent.answer(200);
    for id in [second, third] {
        goes_well(&mut process, id).await;
    }
    assert_eq!(world.sent(), [(first, 1), (second, 1), (third, 1)]);
}

#[tokio::test]
async fn the_order_per_key_is_kept_over_a_removal() {
    let world = World::new();
    let crm = || Endpoint { order: Order::Key, order_hold_max: HOUR, ..endpoint("crm", 4) };
    let mut process = world.start(Setup { endpoints: vec![crm()], ..Setup::default() });
    let line = [process.accept_of("crm", "k").await, process.accept_of("crm", "k").await];
    process.take(line[0]).await.answer(500);
    process.tried(line[0], 1).await;
    change(&process, rules(vec![])).await;
    change(&process, rules(vec![crm()])).await;
    let third = process.accept_of("crm", "k").await;
    process.lane_until("crm", |lane| lane.lines == 1).await;
    assert_eq!(sent_by_now(&world, &process).await, [(line[0], 1)], "they wait for the one that is being retried");
    world.pass(MINUTE);
    process.lane("crm").await;
    for id in [line[0], line[1], third] {
        goes_well(&mut process, id).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_begins_to_keep_an_order_first_lets_what_is_on_its_way_land() {
    let world = World::new();
    let mut process = world.start(Setup { endpoints: vec![endpoint("crm", 2)], ..Setup::default() });
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(process.accept_of("crm", "k").await);
    }
    let (one, two) = (process.take(ids[0]).await, process.take(ids[1]).await);
    let ordered = Endpoint { order: Order::Key, ..endpoint("crm", 4) };
    change(&process, rules(vec![ordered])).await;
    assert_eq!(process.wait(ids[2]).await.map(|wait| wait.on), Some(On::Journal));
    // The second of the line ends; the first must be tried again: it goes before the others.
    two.answer(200);
    process.ended(ids[1]).await;
    assert_eq!(sent_by_now(&world, &process).await.len(), 2);
    one.answer(500);
    process.tried(ids[0], 1).await;
    process.lane_until("crm", |lane| lane.in_flight == 0 && lane.lines == 1).await;
    assert_eq!(world.sent().len(), 2);
    world.pass(MINUTE);
    process.lane("crm").await;
    for id in [ids[0], ids[2], ids[3]] {
        let sent = process.next().await;
        assert_eq!(sent.id(), id);
        sent.answer(200);
        process.ended(id).await;
    }
}

#[tokio::test]
async fn the_next_attempt_goes_by_the_new_rules_and_what_was_learnt_stays() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let id = process.accept("crm").await.delivery(0);
    let sent = process.take(id).await;
    assert_eq!(sent.sending.endpoint.url, "https://example.com/crm");
    within(process.engine.pause(&name("crm"), "maintenance")).await.unwrap();
    let moved = Endpoint {
        url: "https://example.com/moved".to_owned(),
        concurrency: Concurrency { min: 9, max: 9 },
        ..endpoint("crm", 4)
    };
    change(&process, rules(vec![moved, endpoint("bill", 4)])).await;
    sent.answer(500);
    process.tried(id, 1).await;
    let lane = process.lane("crm").await;
    let pause = lane.standing.pause.unwrap();
    assert_eq!((lane.window, pause.cause, pause.note.as_str()), (9, PauseCause::Operator, "maintenance"));
    within(process.engine.resume(&name("crm"))).await.unwrap();
    world.pass(MINUTE);
    process.lane("crm").await;
    let again = process.take(id).await;
    assert_eq!((again.sending.endpoint.url.as_str(), again.sending.attempt), ("https://example.com/moved", 2));
}

#[tokio::test]
async fn a_pause_outlives_its_endpoints_absence() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    within(process.engine.pause(&name("crm"), "")).await.unwrap();
    let id = process.accept("crm").await.delivery(0);
    change(&process, rules(vec![endpoint("bill", 4)])).await;
    change(&process, rules(vec![endpoint("crm", 4), endpoint("bill", 4)])).await;
    process.lane_until("crm", |lane| lane.fresh == 1).await;
    assert_eq!(process.wait(id).await.map(|wait| wait.on), Some(On::Pause { cause: PauseCause::Operator }));
    within(process.engine.resume(&name("crm"))).await.unwrap();
    goes_well(&mut process, id).await;
}

#[tokio::test]
async fn what_was_routed_by_the_old_rules_is_parked_or_goes_and_never_elsewhere() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let old = process.engine.rules();
    change(&process, rules(vec![endpoint("bill", 4)])).await;
    let late = within(process.engine.accept_by(&old, draft("both"))).await.unwrap().id;
    let deliveries: Vec<Delivery> = world.memory.entry(late).unwrap().unwrap().deliveries;
    assert_eq!(deliveries.iter().map(|delivery| delivery.endpoint.as_str()).collect::<Vec<_>>(), ["crm", "bill"]);
    goes_well(&mut process, late.delivery(1)).await;
    assert_eq!(sent_by_now(&world, &process).await, [(late.delivery(1), 1)]);
    change(&process, rules(vec![endpoint("crm", 4), endpoint("bill", 4)])).await;
    goes_well(&mut process, late.delivery(0)).await;
}

#[tokio::test]
async fn alerts_calls_and_retention_begin_when_the_rules_ask_for_them() {
    let world = World::new();
    let process = world.start(Setup { script: |_| Some(super::world::answer(200, None)), ..Setup::default() });
    let done = process.accept("crm").await;
    process.ended(done.delivery(0)).await;
    let draft = Draft { key: Some("call-1".to_owned()), ..draft("call_started") };
    within(process.engine.accept(draft)).await.unwrap();
    world.pass(2 * HOUR);

    let lifecycle = Lifecycle { start: "call_started".into(), end: "call_ended".into(), timeout: HOUR };
    let keep = Keep { payload: Some(MINUTE), metadata: Some(24 * HOUR), bytes_max: None };
    let kept = [name("crm"), name("bill")].into();
    let retention = Retention { default: keep, endpoints: kept, ..Retention::default() };
    let mut table = routes();
    table.push(Route { source: Some(name(ALERTS)), types: vec![], endpoints: vec![name("bill")] });
    let endpoints = vec![endpoint("crm", 4), endpoint("bill", 4)];
    let watched = vec![(name("flyflow"), lifecycle)];
    change(&process, Rules::new(endpoints, RouteTable::new(table), watched, retention)).await;
    process.disk.until(|disk| disk.memory.entry(done).unwrap().is_some_and(|view| !view.has_payload)).await;
    process.disk.until(|disk| !told(&disk.memory).is_empty()).await;
    let (event, body) = told(&world.memory).remove(0);
    assert_eq!((body.event_type.as_str(), body.key.as_deref()), ("backstop.call.incomplete", Some("call-1")));
    assert_eq!(event.draft.endpoints, [name("bill")]);
    assert_eq!(process.engine.lifecycles().len(), 1);
    within(process.engine.pause(&name("crm"), "")).await.unwrap();
    process.disk.until(|disk| told(&disk.memory).len() == 2).await;

    change(&process, rules(vec![endpoint("crm", 4), endpoint("bill", 4)])).await;
    within(async {
        while !process.engine.call_counts().incomplete.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
