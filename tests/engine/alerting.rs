//! Alerts: what happens to endpoints, deliveries and the journal is an event, and never of itself.

use std::time::Duration;

use backstop::core::attempt::Reply;
use backstop::core::breaker::BreakerPolicy;
use backstop::core::endpoint::Endpoint;
use backstop::core::event::Event;
use backstop::core::filter::Filter;
use backstop::core::id::DeliveryId;
use backstop::core::lifecycle::Lifecycle;
use backstop::core::name::Name;
use backstop::core::retry::RetryPolicy;
use backstop::core::source::ALERTS;
use backstop::engine::alerts::Body;
use backstop::engine::{NotAccepted, Sending};
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{Journal as _, Query};
use std::sync::Arc;

use super::world::{Process, Setup, World, answer, draft, endpoint, name, within};

/// Everything that was told so far, oldest first.
pub(super) fn told(memory: &MemoryJournal) -> Vec<(Arc<Event>, Body)> {
    let filter = Filter { source: Some(name(ALERTS)), ..Filter::default() };
    let page = memory.events(&Query { filter, after: None, newest_first: false, limit: 1000 }).unwrap();
    let event = |id| memory.event(id).unwrap().unwrap();
    let read = |event: Arc<Event>| (Arc::clone(&event), serde_json::from_slice(&event.draft.body).unwrap());
    page.items.iter().map(|view| read(event(view.head.id))).collect()
}

/// Of each alert what it is and whom it is about.
fn brief(memory: &MemoryJournal) -> Vec<(String, Option<String>, u64)> {
    told(memory).into_iter().map(|(_, body)| (body.event_type, body.endpoint, body.count)).collect()
}

fn brief_of(what: &str, endpoint: &str) -> (String, Option<String>, u64) {
    (format!("backstop.{what}"), Some(endpoint.to_owned()), 1)
}

async fn until_told(process: &Process, count: usize) {
    process.disk.until(|disk| told(&disk.memory).len() >= count).await;
}

/// What fails once is dead; alerts go to these.
fn fatal(alerts_to: &[&str]) -> Setup {
    let retry = RetryPolicy { attempts_max: 1, ..RetryPolicy::default() };
    let fatal = |name: &str| Endpoint { retry: retry.clone(), ..endpoint(name, 4) };
    let endpoints = ["crm", "bill", "ops"].map(fatal).into();
    Setup { endpoints, alerts_to: alerts_to.iter().map(|to| name(to)).collect(), ..Setup::default() }
}

/// Alerts' deliveries go well, others fail.
fn only_alerts_arrive(sending: &Sending) -> Option<Reply> {
    Some(answer(if sending.event.draft.source.as_str() == ALERTS { 200 } else { 500 }, None))
}

async fn dies(process: &Process, event_type: &str) -> DeliveryId {
    let id = process.accept(event_type).await.delivery(0);
    process.ended(id).await;
    id
}

#[tokio::test]
async fn a_dead_delivery_is_told_to_everybody_but_its_endpoint() {
    let world = World::new();
    let mut process = world.start(fatal(&["crm", "bill"]));
    let id = process.accept_of("crm", "call/1").await;
    process.take(id).await.answer(500);
    until_told(&process, 1).await;
    let (event, body) = told(&world.memory).remove(0);
    assert_eq!(event.draft.endpoints, [name("bill")]);
    assert_eq!(
        (event.draft.event_type.as_str(), event.draft.key.as_deref()),
        ("backstop.delivery.dead", Some("backstop.delivery.dead"))
    );
    let expected = Body {
        event_type: "backstop.delivery.dead".into(),
        at: world.delivery(id).changed_at.to_string(),
        endpoint: Some("crm".into()),
        delivery: Some(id.to_string()),
        event: Some(id.event.to_string()),
        source: Some("flyflow".into()),
        key: Some("call/1".into()),
        reason: "attempts_exhausted".into(),
        count: 1,
        until: None,
        path: format!("/api/v1/deliveries/{id}"),
    };
    assert_eq!(body, expected);
    let sent = process.take(event.id.delivery(0)).await;
    assert_eq!((sent.sending.endpoint.name.as_str(), &sent.sending.event.draft.body), ("bill", &event.draft.body));
    sent.answer(200);
    process.ended(event.id.delivery(0)).await;
}

#[tokio::test]
async fn where_nobody_asks_nothing_is_journaled() {
    let world = World::new();
    let process = world.start(Setup { script: only_alerts_arrive, ..fatal(&[]) });
    dies(&process, "crm").await;
    // It would have been told before the next one is.
    dies(&process, "bill").await;
    within(process.engine.stop(Duration::from_secs(1))).await.unwrap();
    assert_eq!(told(&world.memory).len(), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_told_of_once_and_not_again_after_a_restart() {
    let world = World::new();
    let mut process = world.start(fatal(&["bill"]));
    let id = process.accept("crm").await.delivery(0);
    process.take(id).await.answer(410);
    until_told(&process, 2).await;
    let mut found = brief(&world.memory);
    found.sort();
    assert_eq!(found, [brief_of("delivery.dead", "crm"), brief_of("endpoint.paused", "crm")]);
    let paused = told(&world.memory).into_iter().find(|(_, body)| body.event_type.ends_with("paused")).unwrap().1;
    assert_eq!((paused.reason.as_str(), paused.path.as_str()), ("gone", "/api/v1/endpoints/crm"));
    drop(process);

    let process = world.start(fatal(&["bill"]));
    within(process.engine.pause(&name("ops"), "moving")).await.unwrap();
    until_told(&process, 3).await;
    assert_eq!(brief(&world.memory)[2..], [brief_of("endpoint.paused", "ops")]);
}

#[tokio::test]
async fn a_standing_that_was_not_told_is_told_at_the_next_start() {
    let world = World::new();
    let process = world.start(fatal(&[]));
    within(process.engine.pause(&name("crm"), "moving")).await.unwrap();
    drop(process);
    let process = world.start(fatal(&["bill"]));
    until_told(&process, 1).await;
    assert_eq!(brief(&world.memory), [brief_of("endpoint.paused", "crm")]);
}

#[tokio::test]
async fn a_circuit_that_opens_and_closes_is_told() {
    let world = World::new();
    let policy = BreakerPolicy { failures: 1, probe_initial: Duration::from_secs(10), ..BreakerPolicy::default() };
    let crm = Endpoint { breaker: Some(policy), ..endpoint("crm", 1) };
    let endpoints = vec![crm, endpoint("bill", 4)];
    let mut process = world.start(Setup { endpoints, alerts_to: vec![name("bill")], ..Setup::default() });
    let id = process.accept("crm").await.delivery(0);
    process.take(id).await.answer(500);
    until_told(&process, 1).await;
    assert_eq!(brief(&world.memory), [brief_of("endpoint.circuit_opened", "crm")]);
    assert_eq!(told(&world.memory)[0].1.reason, "consecutive_failures");
    world.pass(Duration::from_secs(3600));
    process.lane_until("crm", |lane| lane.in_flight == 1).await;
    process.take(id).await.answer(200);
    until_told(&process, 2).await;
    assert_eq!(brief(&world.memory)[1..], [brief_of("endpoint.circuit_closed", "crm")]);
}

#[tokio::test]
async fn who_heard_of_an_open_circuit_hears_of_its_end_though_an_alert_was_the_probe() {
    let world = World::new();
    let mut setup = fatal(&["crm", "bill"]);
    let breaker = Some(BreakerPolicy { failures: 1, ..BreakerPolicy::default() });
    // With one at a time there is no ramp to climb.
    setup.endpoints[0] = Endpoint { breaker, retry: setup.endpoints[0].retry.clone(), ..endpoint("crm", 1) };
    let mut process = world.start(setup);
    let id = process.accept("crm").await.delivery(0);
    process.take(id).await.answer(500);
    until_told(&process, 2).await;
    within(process.engine.pause(&name("ops"), "")).await.unwrap();
    until_told(&process, 3).await;
    let (paused, _) = told(&world.memory).remove(2);
    assert_eq!(paused.draft.endpoints, [name("crm"), name("bill")]);
    world.pass(Duration::from_secs(3600));
    process.lane_until("crm", |lane| lane.in_flight == 1).await;
    process.take(paused.id.delivery(0)).await.answer(200);
    until_told(&process, 4).await;
    assert_eq!(brief(&world.memory)[3..], [brief_of("endpoint.circuit_closed", "crm")]);
}

/// Neither the death of an alert's delivery nor the circuit that it opens is told, though somebody would hear it.
#[tokio::test]
async fn alerts_cause_no_alerts() {
    fn bill_is_down(sending: &Sending) -> Option<Reply> {
        Some(answer(if sending.endpoint.name.as_str() == "ops" { 200 } else { 500 }, None))
    }
    let world = World::new();
    let mut setup = Setup { script: bill_is_down, ..fatal(&["bill", "ops"]) };
    let policy = BreakerPolicy { failures: 2, ..BreakerPolicy::default() };
    setup.endpoints[1].breaker = Some(policy);
    let process = world.start(setup);
    for count in 1..=4 {
        world.pass(Duration::from_millis(1));
        dies(&process, "crm").await;
        until_told(&process, count).await;
        let died = |memory: &MemoryJournal| memory.counters().endpoints.get("bill").map_or(0, |tally| tally.dead);
        // Two are enough to open the circuit; the others wait behind it.
        process.disk.until(|disk| usize::try_from(died(&disk.memory)).unwrap() == count.min(2)).await;
    }
    process.lane_until("bill", |lane| lane.standing.circuit != backstop::core::breaker::Circuit::Closed).await;
    let standing = process.lane("bill").await.standing;
    process.disk.until(|disk| disk.memory.standing(&name("bill")) == standing).await;
    // Told in order: what was to be told of the alerts would stand before this.
    within(process.engine.pause(&name("crm"), "")).await.unwrap();
    until_told(&process, 5).await;
    assert!(brief(&world.memory).iter().all(|(_, endpoint, _)| endpoint.as_deref() == Some("crm")));
    assert_eq!(told(&world.memory).len(), 5);
}

#[tokio::test]
async fn many_alike_are_told_as_one() {
    let world = World::new();
    let process = world.start(Setup { script: only_alerts_arrive, ..fatal(&["bill"]) });
    for _ in 0..30 {
        dies(&process, "crm").await;
    }
    // Told in order: all of them are known by then.
    within(process.engine.pause(&name("ops"), "")).await.unwrap();
    process.disk.until(|disk| brief(&disk.memory).contains(&brief_of("endpoint.paused", "ops"))).await;
    world.pass(Duration::from_secs(61));
    dies(&process, "crm").await;
    let of_crm = |memory: &MemoryJournal| {
        let told = told(memory).into_iter().filter(|(_, body)| body.endpoint.as_deref() == Some("crm"));
        told.collect::<Vec<_>>()
    };
    process.disk.until(|disk| of_crm(&disk.memory).iter().map(|(_, body)| body.count).sum::<u64>() == 31).await;
    let found = of_crm(&world.memory);
    let sum = &found.iter().find(|(_, body)| body.reason == "many").unwrap().1;
    assert_eq!((sum.endpoint.as_deref(), sum.path.as_str()), (Some("crm"), "/api/v1/failures?endpoint=crm"));
    assert!(sum.until.is_some());
    let singly = found.iter().filter(|(_, body)| body.count == 1).count() as u64;
    assert_eq!((found.len() as u64 - singly, singly + sum.count), (1, 31));
    assert!(singly <= 11, "{singly}");
}

#[tokio::test]
async fn a_full_disk_is_told_although_no_event_is_taken() {
    let world = World::new();
    let process = world.start(fatal(&["bill"]));
    process.disk.set_high_water(true);
    world.pass(Duration::from_secs(2));
    process.lane("crm").await;
    until_told(&process, 1).await;
    let (event, body) = told(&world.memory).remove(0);
    assert_eq!(
        (body.event_type.as_str(), event.draft.endpoints.as_slice()),
        ("backstop.journal.high_water", [name("bill")].as_slice())
    );
    assert_eq!(within(process.engine.accept(draft("crm"))).await, Err(NotAccepted::Full));
}

#[tokio::test]
async fn an_undelivered_call_is_told_once_for_each_endpoint() {
    let world = World::new();
    let (start, end) = ("call_started".to_owned(), "call_ended".to_owned());
    let lifecycle = Lifecycle { start, end, timeout: Duration::from_secs(60) };
    let lifecycles: Vec<(Name, Lifecycle)> = vec![(name("flyflow"), lifecycle)];
    let process = world.start(Setup { script: only_alerts_arrive, lifecycles, ..fatal(&["ops"]) });
    for event_type in ["crm", "crm", "bill"] {
        let id = process.accept_of(event_type, "call-1").await;
        process.ended(id).await;
    }
    process
        .disk
        .until(|disk| brief(&disk.memory).iter().filter(|(kind, ..)| kind.ends_with("dead")).count() == 3)
        .await;
    // Each dead delivery is told of before the call it makes incomplete.
    within(process.engine.pause(&name("crm"), "")).await.unwrap();
    process.disk.until(|disk| brief(&disk.memory).contains(&brief_of("endpoint.paused", "crm"))).await;
    let calls: Vec<_> = told(&world.memory).into_iter().filter(|(_, body)| body.reason == "undelivered").collect();
    let of_calls: Vec<_> = calls.iter().map(|(_, body)| (body.endpoint.as_deref(), body.key.as_deref())).collect();
    assert_eq!(of_calls, [(Some("crm"), Some("call-1")), (Some("bill"), Some("call-1"))]);
    assert_eq!(calls[0].1.path, "/api/v1/keys/call-1");
}
