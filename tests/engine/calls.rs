//! Calls: those that do not end, or never began, are found, told, and remembered until their other end comes.

use std::time::Duration;

use backstop::core::event::Draft;
use backstop::core::id::EventId;
use backstop::core::lifecycle::{GapKind, Lifecycle};

use super::alerting::told;
use super::world::{Process, Setup, World, draft, name, within};

const TIMEOUT: Duration = Duration::from_secs(7200);
const MINUTE: Duration = Duration::from_secs(60);

fn watching() -> Setup {
    let lifecycle = Lifecycle { start: "call_started".into(), end: "call_ended".into(), timeout: TIMEOUT };
    Setup { lifecycles: vec![(name("flyflow"), lifecycle)], ..Setup::default() }
}

async fn accept(process: &Process, event_type: &str, key: &str) -> EventId {
    let draft = Draft { key: Some(key.to_owned()), ..draft(event_type) };
    within(process.engine.accept(draft)).await.unwrap().id
}

/// Waits until there are so many calls of each kind.
async fn until_counted(process: &Process, never_ended: u64, ended_without_start: u64) {
    let expected = [(GapKind::NeverEnded, never_ended), (GapKind::EndedWithoutStart, ended_without_start)];
    within(async {
        loop {
            let counts = process.engine.call_counts().incomplete;
            let fits = |(kind, count): &(GapKind, u64)| counts.contains(&(name("flyflow"), *kind, *count));
            if expected.iter().all(fits) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Some event that wakes whoever follows.
async fn wake(process: &Process) {
    accept(process, "tool_call", "any").await;
}

#[tokio::test]
async fn a_call_that_does_not_end_is_a_gap_until_it_does() {
    let world = World::new();
    let process = world.start(watching());
    let started = accept(&process, "call_started", "call-1").await;
    accept(&process, "call_started", "call-2").await;
    accept(&process, "call_ended", "call-2").await;
    let due = world.now().after(TIMEOUT);
    world.pass(TIMEOUT);
    wake(&process).await;
    until_counted(&process, 1, 0).await;
    let (event, body) = told(&world.memory).remove(0);
    assert_eq!((body.event_type.as_str(), body.reason.as_str()), ("backstop.call.incomplete", "never_ended"));
    assert_eq!(
        (body.key.as_deref(), body.event, body.at),
        (Some("call-1"), Some(started.to_string()), due.to_string())
    );
    assert!(event.draft.endpoints.is_empty(), "no route asks, but the list needs it");
    accept(&process, "call_ended", "call-1").await;
    until_counted(&process, 0, 0).await;
    assert_eq!(told(&world.memory).len(), 1);
}

#[tokio::test]
async fn an_end_without_a_beginning_is_a_gap_unless_the_beginning_comes_soon() {
    let world = World::new();
    let process = world.start(watching());
    accept(&process, "call_ended", "late").await;
    accept(&process, "call_ended", "lost").await;
    world.pass(MINUTE / 2);
    accept(&process, "call_started", "late").await;
    world.pass(MINUTE);
    wake(&process).await;
    until_counted(&process, 0, 1).await;
    let alerts = told(&world.memory);
    assert_eq!((alerts.len(), alerts[0].1.key.as_deref()), (1, Some("lost")));
    assert_eq!(alerts[0].1.reason, "ended_without_start");
    accept(&process, "call_started", "lost").await;
    until_counted(&process, 0, 0).await;
}

#[tokio::test]
async fn an_end_that_is_repeated_has_its_beginning_in_the_journal() {
    let world = World::new();
    let process = world.start(watching());
    for event_type in ["call_started", "call_ended", "call_ended"] {
        accept(&process, event_type, "call-1").await;
    }
    accept(&process, "call_ended", "lost").await;
    world.pass(2 * MINUTE);
    wake(&process).await;
    until_counted(&process, 0, 1).await;
    assert_eq!(told(&world.memory).len(), 1, "only of the one that was lost");
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was_and_tells_nothing_twice() {
    let world = World::new();
    let process = world.start(watching());
    accept(&process, "call_started", "before").await;
    world.pass(TIMEOUT);
    wake(&process).await;
    until_counted(&process, 1, 0).await;
    accept(&process, "call_started", "during").await;
    drop(process);

    // Nobody was there when its time was over.
    world.pass(TIMEOUT * 3);
    let process = world.start(watching());
    until_counted(&process, 2, 0).await;
    let keys = |world: &World| told(&world.memory).into_iter().filter_map(|(_, body)| body.key).collect::<Vec<_>>();
    assert_eq!(keys(&world), ["before", "during"]);
    accept(&process, "call_ended", "before").await;
    until_counted(&process, 1, 0).await;
    drop(process);

    let process = world.start(watching());
    until_counted(&process, 1, 0).await;
    accept(&process, "call_ended", "during").await;
    until_counted(&process, 0, 0).await;
    assert_eq!(keys(&world), ["before", "during"]);
}

#[tokio::test]
async fn a_gap_waits_for_room_and_is_not_lost() {
    let world = World::new();
    let process = world.start(watching());
    accept(&process, "call_started", "call-1").await;
    world.pass(TIMEOUT);
    process.disk.set_full(true);
    assert!(within(process.engine.accept(draft("tool_call"))).await.is_err());
    process.disk.set_full(false);
    wake(&process).await;
    until_counted(&process, 1, 0).await;
    assert_eq!(told(&world.memory).len(), 1);
}
