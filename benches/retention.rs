//! What a sweep costs those who wait for an answer: the time to an acknowledgement while a million events that
//! are past their time are let go of, against the same without a sweep.
//!
//! Both are measured in turns of the same engine, journal and producers. The 99th of 100 may be at most
//! [`SLOWER_MAX`] times as long. The number of events may be given as an argument.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backstop::core::attempt::{Answer, Attempt, Outcome, Reply};
use backstop::core::delivery::{Reason, Step};
use backstop::core::event::Event;
use backstop::core::id::IdSource;
use backstop::core::name::Name;
use backstop::core::retention::{Keep, Retention};
use backstop::core::route::RouteTable;
use backstop::core::scheduler::Limits;
use backstop::engine::{Engine, Parts, Sending, SystemClock, Transport};
use backstop::journal::embedded::EmbeddedJournal;
use backstop::journal::{Change, Journal, Settlement};

const EVENTS: u64 = 1_000_000;
/// Who post at a time, each the next once the one before is acknowledged, with a pause: a steady stream.
const PRODUCERS: u64 = 32;
const PAUSE: Duration = Duration::from_millis(5);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The 99th of 100 acknowledgements may take so many times as long during a sweep.
const SLOWER_MAX: f64 = 2.0;
/// How long it is measured without a sweep.
const QUIET: Duration = Duration::from_secs(15);

/// Nothing is routed, so nothing is sent.
struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, _: Sending) -> std::pin::Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(std::future::pending())
    }
}

/// Events that were delivered 100 days ago.
fn fill(journal: &EmbeddedJournal, count: u64) {
    let endpoint = [Name::new("crm").unwrap()];
    let (mut rng, mut ids) = (fastrand::Rng::with_seed(1), IdSource::default());
    let then = support::wall().shifted(-100 * 24 * 3600 * 1000);
    for from in (0..count).step_by(1000) {
        let events: Vec<Arc<Event>> = (from..count.min(from + 1000))
            .map(|number| {
                let draft = support::draft(number, &endpoint);
                Arc::new(Event { id: ids.event(then, &mut rng), received_at: then, draft })
            })
            .collect();
        let accept: Vec<Change> = events.iter().map(|event| Change::Accept(Arc::clone(event))).collect();
        journal.commit(&accept).unwrap();
        let settle = |event: &Arc<Event>| {
            let answer = Answer { status: 200, headers: vec![], body: "ok".into(), body_cut: false, retry_after: None };
            let attempt = Attempt {
                number: 1,
                started_at: then,
                took_ms: 3,
                reply: Reply::Answer(answer),
                outcome: Outcome::Delivered,
                probe: false,
                out_of_order: false,
            };
            let (id, reason) = (event.id.delivery(0), Reason::Acknowledged);
            Change::Settle(Settlement { id, attempt, step: Step::Succeed, reason })
        };
        journal.commit(&events.iter().map(settle).collect::<Vec<_>>()).unwrap();
    }
    journal.close().unwrap();
}

fn engine(folder: &Path, retention: Retention) -> (Engine, Arc<EmbeddedJournal>) {
    let journal = Arc::new(EmbeddedJournal::open(&support::settings(folder), &|_| {}).unwrap());
    let engine = Engine::start(Parts {
        journal: Arc::clone(&journal) as Arc<dyn Journal>,
        clock: Arc::new(SystemClock),
        transport: Arc::new(Nowhere),
        endpoints: vec![],
        routes: RouteTable::default(),
        lifecycles: vec![],
        retention,
        limits: Limits { active_max: 1000, ordered_max: 1000, in_flight_max: 256 },
        recent_max_bytes: 64 << 20,
        accept_queue_max: 4096,
        seed: 1,
    });
    (engine.unwrap(), journal)
}

/// Posts until `is_over`; how long each acknowledgement took, sorted, in microseconds.
async fn post(engine: &Engine, is_over: impl Fn() -> bool) -> Vec<u64> {
    let (stop, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1 << 40)));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|_| {
            let (engine, stop, number) = (engine.clone(), Arc::clone(&stop), Arc::clone(&number));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let draft = support::draft(number.fetch_add(1, Ordering::Relaxed), &[]);
                    let began = support::now();
                    engine.accept(draft).await.unwrap();
                    took.push(began.elapsed().as_micros() as u64);
                    tokio::time::sleep(PAUSE).await;
                }
                took
            })
        })
        .collect();
    while !is_over() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for producer in producers {
        all.extend(producer.await.unwrap());
    }
    all.sort_unstable();
    all
}

fn say(what: &str, took: &[u64]) -> f64 {
    let at = |part: usize| took[took.len() * part / 1000] as f64 / 1000.0;
    println!(
        "{what:<16} {:>8} acks  p50 {:>7.2} ms  p99 {:>7.2} ms  p99.9 {:>7.2} ms",
        took.len(),
        at(500),
        at(990),
        at(999)
    );
    at(990)
}

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(EVENTS);
    let folder = support::folder();
    fill(&EmbeddedJournal::open(&support::settings(folder.path()), &|_| {}).unwrap(), count);
    println!("{count} events of about 1 KiB, delivered 100 days ago; {PRODUCERS} producers");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let quiet = runtime.block_on(async {
        let (engine, _) = engine(folder.path(), Retention::default());
        let began = support::now();
        let took = post(&engine, || began.elapsed() >= QUIET).await;
        engine.stop(DAY).await.unwrap();
        say("without a sweep", &took)
    });
    let keep = Keep { payload: Some(30 * DAY), metadata: Some(90 * DAY), bytes_max: None };
    let swept = runtime.block_on(async {
        let (engine, journal) = engine(folder.path(), Retention { default: keep, ..Retention::default() });
        let began = support::now();
        let log_bytes = journal.sizes().log_bytes;
        let took = post(&engine, || journal.counters().dropped >= count).await;
        let (gone, freed_mib) = (journal.counters().dropped, engine.freed_bytes() >> 20);
        println!(
            "let go of {gone} events in {:.1} s; {freed_mib} of {} MiB given back",
            began.elapsed().as_secs_f64(),
            log_bytes >> 20
        );
        engine.stop(DAY).await.unwrap();
        say("during a sweep", &took)
    });
    let ratio = swept / quiet;
    println!("p99 during a sweep is {ratio:.2} times that without (at most {SLOWER_MAX})");
    assert!(ratio <= SLOWER_MAX, "a sweep slows acknowledgements down too much");
}
