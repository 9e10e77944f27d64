//! Retention in a running engine: what is at rest goes, what is not stays, and nobody can replay what is gone.

use std::time::Duration;

use backstop::core::name::Name;
use backstop::core::retention::{Keep, Retention};
use backstop::engine::NotDone;
use backstop::journal::Journal as _;

use super::world::{Setup, World, within};

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
