//! What waited for an endpoint that is no more for longer than anything is kept: expired, and listed as that.

use std::sync::Arc;
use std::time::Duration;

use backstop::core::event::Event;
use backstop::core::id::EventId;
use backstop::core::retention::{Keep, Retention};
use backstop::core::timestamp::Timestamp;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::retention::Sweep;
use backstop::journal::{Change, Journal as _};
use serde_json::{Value, json};

use crate::gateway::{Gateway, NOW, delivery, draft, ids, name};

const HOUR: Duration = Duration::from_secs(3600);

/// A journal that retention has gone over: one event waited for `former`, which the config has not.
fn swept() -> (MemoryJournal, EventId) {
    let (journal, received_at) = (MemoryJournal::default(), Timestamp::from_millis(NOW - 100 * 3_600_000));
    let mut old = draft("call_ended", "call-1", "{}");
    old.endpoints = vec![name("former")];
    let id = EventId::floor(received_at);
    journal.commit(&[Change::Accept(Arc::new(Event { id, received_at, draft: old }))]).unwrap();
    let default = Keep { payload: Some(HOUR), metadata: Some(24 * HOUR), bytes_max: None };
    let retention = Retention { default, endpoints: [name("healthy")].into(), ..Retention::default() };
    while let Sweep::Change(change) = journal.sweep(&retention, Timestamp::from_millis(NOW)).unwrap() {
        journal.commit(&[change]).unwrap();
    }
    (journal, id)
}

#[tokio::test]
async fn what_has_expired_is_listed_with_the_reason_and_not_as_failed() {
    let (journal, id) = swept();
    let gateway = Gateway::over(journal).await;
    gateway.tried("picky", "call-1").await;
    gateway.tried("healthy", "call-1").await;
    let expired = delivery(&id.to_string(), 0);
    for query in [
        "status=expired",
        "status=expired&endpoint=former",
        "reason=retention&status=expired",
        "status=expired&key=call-1&type=call_*&source=flyflow",
        "status=expired&order=oldest&limit=1",
    ] {
        let listed = gateway.get(&format!("/api/v1/deliveries?{query}")).await.json();
        assert_eq!(ids(&listed), [expired.as_str()], "{query}");
        let item = &listed["items"][0];
        assert_eq!((&item["status"], &item["reason"]), (&json!("expired"), &json!("retention")), "{query}");
        assert_eq!((&item["waits_for"], &item["due_at"]), (&Value::Null, &Value::Null), "it waits for nothing more");
        assert_eq!(item["changed_at"], "2023-11-14T22:13:20.000Z", "since when it stands so");
    }
    for query in ["", "?endpoint=former", "?parked=true", "?status=expired&endpoint=healthy", "?status=scheduled"] {
        let listed = gateway.get(&format!("/api/v1/deliveries{query}")).await.json();
        assert!(!ids(&listed).contains(&expired), "{query}: {listed}");
    }
    let events = gateway.get("/api/v1/events?status=expired").await.json();
    assert_eq!(ids(&events), [id.to_string()]);
    assert_eq!(events["items"][0]["payload_kept"], json!(false));
    let counters = gateway.get("/api/v1/counters").await.json();
    assert_eq!(counters["endpoints"]["former"]["expired"], 1);
}

/// A plan says beforehand that there is nothing to send any more.
#[tokio::test]
async fn a_plan_counts_a_body_that_is_gone() {
    let (journal, _) = swept();
    let gateway = Gateway::over(journal).await;
    let asked = json!({ "filter": { "status": ["expired"] }, "to": "healthy", "dry_run": true });
    let plan = gateway.post("/api/v1/replays", &asked).await.json();
    assert_eq!((&plan["selected"], &plan["would_make"]), (&json!(1), &json!(0)), "{plan}");
    assert_eq!(plan["skipped_by"]["body_gone"], 1, "{plan}");
}
