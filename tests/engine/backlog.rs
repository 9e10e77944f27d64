//! Backlogs: more than memory holds, and endpoints that are not in the config.

use std::time::Duration;

use backstop::core::delivery::Status;
use backstop::core::id::DeliveryId;
use backstop::engine::Sending;

use super::world::{Setup, World, answer, endpoint};

const MANY: usize = 3000;

#[tokio::test]
async fn a_backlog_far_beyond_memory_is_delivered_once_each_and_in_order() {
    let world = World::new();
    let crm_one_by_one = vec![endpoint("crm", 1), endpoint("bill", 4)];
    let script = |sending: &Sending| {
        let first = sending.event.draft.event_type == "both";
        (!first || sending.endpoint.name.as_str() == "bill").then(|| answer(200, None))
    };
    let setup = Setup { endpoints: crm_one_by_one, active_max: 4, script, ..Setup::default() };
    let mut process = world.start(setup);
    let mut wanted: Vec<(DeliveryId, u32)> = vec![(process.accept("both").await.delivery(0), 1)];
    let blocked = process.next().await;
    for _ in 0..MANY {
        wanted.push((process.accept("crm").await.delivery(0), 1));
    }
    let other = process.accept("bill").await.delivery(0);
    process.ended(other).await;
    let lane = process.lane("crm").await;
    assert!(lane.in_flight == 1 && lane.fresh <= 4 && lane.behind, "{lane:?}");

    blocked.answer(200);
    for (id, _) in &wanted {
        process.ended(*id).await;
    }
    let bill = [wanted[0].0.event.delivery(1), other];
    let to_crm: Vec<_> = world.sent().into_iter().filter(|(id, _)| !bill.contains(id)).collect();
    assert_eq!(to_crm, wanted);
}

#[tokio::test]
async fn a_restart_goes_on_with_the_backlog_where_it_stood() {
    let world = World::new();
    let setup = || Setup { active_max: 4, ..Setup::one_by_one() };
    let mut process = world.start(setup());
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(process.accept("crm").await.delivery(0));
    }
    for id in &ids[..7] {
        process.next().await.answer(200);
        process.ended(*id).await;
    }
    drop(process);
    let mut process = world.start(setup());
    for id in &ids[7..] {
        let sent = process.next().await;
        assert_eq!(sent.id(), *id);
        sent.answer(200);
        process.ended(*id).await;
    }
    assert_eq!(world.delivered("crm"), (20, 20));
}

#[tokio::test]
async fn deliveries_to_an_endpoint_that_is_not_configured_wait_until_it_is_back() {
    let world = World::new();
    let mut process = world.start(Setup::default());
    let (old, retried) = (process.accept("crm").await.delivery(0), process.accept("crm").await.delivery(0));
    process.take(retried).await.answer(500);
    process.tried(retried, 1).await;
    drop(process);
    world.pass(Duration::from_secs(60));

    let mut process = world.start(Setup { endpoints: vec![endpoint("bill", 4)], ..Setup::default() });
    let both = process.accept("both").await;
    let sent = process.next().await;
    assert_eq!(sent.id(), both.delivery(1));
    sent.answer(200);
    process.ended(both.delivery(1)).await;
    let waiting = [old, retried, both.delivery(0)].map(|id| world.delivery(id).status());
    assert_eq!(waiting, [Status::Scheduled, Status::Retrying, Status::Scheduled]);
    drop(process);

    let mut process = world.start(Setup::default());
    for _ in 0..3 {
        process.next().await.answer(200);
    }
    for (id, attempts) in [(old, 1), (retried, 2), (both.delivery(0), 1)] {
        let delivery = process.ended(id).await;
        assert_eq!((delivery.status(), delivery.attempts), (Status::Delivered, attempts));
    }
}
