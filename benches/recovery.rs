//! Start time against history: 10 k, 100 k and 1 M events, after a clean stop, after a kill, and with the
//! index built again.
//!
//! After a clean stop it must be flat: at most [`FLAT_MAX`] times as long with a hundred times the history,
//! beyond what a start costs anyway.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstop::core::attempt::{Answer, Attempt, Outcome, Reply};
use backstop::core::delivery::{Reason, Step};
use backstop::core::event::Event;
use backstop::core::id::IdSource;
use backstop::core::name::Name;
use backstop::journal::embedded::EmbeddedJournal;
use backstop::journal::{Change, Journal, Settlement};

/// A start may take this many times as long after a hundred times the history.
const FLAT_MAX: f64 = 3.0;
/// What is within this is not measured apart: a start's fixed costs vary by as much.
const NOISE: Duration = Duration::from_millis(150);

/// Accepts and settles events until there are `count`.
fn fill(journal: &EmbeddedJournal, from: u64, count: u64) {
    let endpoint = [Name::new("crm").expect("a name")];
    let mut rng = fastrand::Rng::with_seed(from);
    let mut ids = IdSource::after(journal.last_id());
    let mut number = from;
    while number < count {
        let batch = (count - number).min(1000);
        let now = support::wall();
        let events: Vec<Arc<Event>> = (number..number + batch)
            .map(|number| {
                let draft = support::draft(number, &endpoint);
                Arc::new(Event { id: ids.event(now, &mut rng), received_at: now, draft })
            })
            .collect();
        let accept: Vec<Change> = events.iter().map(|event| Change::Accept(Arc::clone(event))).collect();
        journal.commit(&accept).expect("accepted");
        let settle: Vec<Change> = events
            .iter()
            .map(|event| {
                let answer =
                    Answer { status: 200, headers: vec![], body: "ok".into(), body_cut: false, retry_after: None };
                let reply = Reply::Answer(answer);
                let attempt = Attempt {
                    number: 1,
                    started_at: now,
                    took_ms: 3,
                    reply,
                    outcome: Outcome::Delivered,
                    probe: false,
                    out_of_order: false,
                };
                let (step, reason) = (Step::Succeed, Reason::Acknowledged);
                Change::Settle(Settlement { id: event.id.delivery(0), attempt, step, reason })
            })
            .collect();
        journal.commit(&settle).expect("settled");
        number += batch;
    }
}

fn open(folder: &Path) -> (EmbeddedJournal, Duration) {
    let began = support::now();
    let journal = EmbeddedJournal::open(&support::settings(folder), &|_| {}).expect("opened");
    (journal, began.elapsed())
}

fn main() {
    let folder = support::folder();
    let folder = folder.path();
    println!("time to open a journal of 1 KiB events, each delivered");
    println!(
        "{:>10}  {:>12}  {:>12}  {:>12}  {:>12}  {:>12}",
        "events", "clean stop", "kill", "rebuild", "log MiB", "index MiB"
    );
    let mut clean = Vec::new();
    let mut have = 0;
    for count in [10_000, 100_000, 1_000_000] {
        let (journal, _) = open(folder);
        fill(&journal, have, count);
        have = count;
        journal.close().expect("closed");
        drop(journal);
        let (journal, after_clean) = open(folder);
        let sizes = journal.sizes();
        // Some traffic, and then no close: what a kill leaves.
        fill(&journal, have, have + 2000);
        have += 2000;
        drop(journal);
        let (journal, after_kill) = open(folder);
        journal.close().expect("closed");
        drop(journal);
        EmbeddedJournal::distrust_index(&support::settings(folder)).expect("distrusted");
        let (journal, rebuilt) = open(folder);
        assert_eq!(journal.counters().accepted, have, "everything is back");
        journal.close().expect("closed");
        let mib = |bytes: u64| bytes >> 20;
        println!(
            "{count:>10}  {after_clean:>12.0?}  {after_kill:>12.0?}  {rebuilt:>12.1?}  {:>12}  {:>12}",
            mib(sizes.log_bytes),
            mib(sizes.index_bytes)
        );
        clean.push(after_clean);
    }
    let (least, most) = (clean[0].max(NOISE), clean[2]);
    let ratio = most.as_secs_f64() / least.as_secs_f64();
    println!("after a clean stop: {ratio:.1} times as long with 100 times the history");
    assert!(ratio <= FLAT_MAX, "a start after a clean stop is not flat: {ratio:.1} times");
}
