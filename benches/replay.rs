//! A replay of 1 M missed deliveries among 5 M events: how soon it begins, how fast it goes, what memory it takes.
//!
//! The engine over the embedded journal, with a transport that answers at once. Every fifth event was given up by its
//! endpoint, the others went nowhere. From asking for the replay to its first delivery at the transport may take
//! [`FIRST_MAX`], counting what failed by groups [`GROUPED_MAX`], and while it goes on the process may grow by at most
//! [`MEMORY_MAX_MIB`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstop::core::attempt::{Answer, Attempt, Outcome, Reply};
use backstop::core::delivery::{Reason, Status, Step};
use backstop::core::endpoint::Endpoint;
use backstop::core::event::{Draft, Event};
use backstop::core::failure::FailureGroup;
use backstop::core::filter::Filter;
use backstop::core::id::IdSource;
use backstop::core::name::Name;
use backstop::core::retention::Retention;
use backstop::core::route::RouteTable;
use backstop::core::scheduler::Limits;
use backstop::core::window::Concurrency;
use backstop::engine::{Engine, Parts, ReplayOrder, Sending, SystemClock, Transport};
use backstop::journal::embedded::EmbeddedJournal;
use backstop::journal::{Change, Journal, Query, Settlement};
use tokio::sync::Notify;

const EVENTS: u64 = 5_000_000;
/// One in so many was missed.
const MISSED: u64 = 5;
const BATCH: u64 = 1000;
const FIRST_MAX: Duration = Duration::from_secs(1);
/// What is left of it is sled's iteration over the exceptions.
const GROUPED_MAX: Duration = Duration::from_secs(15);
/// Caches and the overlay fill as deliveries settle, whatever was selected.
const MEMORY_MAX_MIB: u64 = 192;

#[derive(Default)]
struct Sink {
    got: AtomicU64,
    first: Notify,
    all: Notify,
}

struct Wire(Arc<Sink>);

fn answer(status: u16) -> Reply {
    Reply::Answer(Answer { status, headers: vec![], body: "ok".into(), body_cut: false, retry_after: None })
}

impl Transport for Wire {
    fn send(&self, _: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let before = self.0.got.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.0.first.notify_one();
        }
        if before + 1 == EVENTS / MISSED {
            self.0.all.notify_one();
        }
        Box::pin(std::future::ready(answer(200)))
    }
}

/// A small event, so that five million of them fit on a disk.
fn draft(number: u64, is_missed: bool) -> Draft {
    let endpoints = if is_missed { vec![Name::new("crm").unwrap()] } else { vec![] };
    let body = format!(r#"{{"event_type":"call_ended","n":{number}}}"#).into();
    Draft { endpoints, body, dedup: None, ..support::draft(number, &[]) }
}

fn fill(journal: &EmbeddedJournal) {
    let (mut ids, mut rng) = (IdSource::default(), fastrand::Rng::with_seed(1));
    for first in (0..EVENTS).step_by(BATCH as usize) {
        let now = support::wall();
        let (mut accepted, mut given_up) = (Vec::new(), Vec::new());
        for number in first..first + BATCH {
            let (id, is_missed) = (ids.event(now, &mut rng), number % MISSED == 0);
            accepted.push(Change::Accept(Arc::new(Event { id, received_at: now, draft: draft(number, is_missed) })));
            if is_missed {
                let (reply, outcome) = (answer(500), Outcome::Retryable);
                let (started_at, took_ms, probe, out_of_order) = (now, 1, false, false);
                let attempt = Attempt { number: 1, started_at, took_ms, reply, outcome, probe, out_of_order };
                let (id, step, reason) = (id.delivery(0), Step::GiveUp, Reason::AttemptsExhausted);
                given_up.push(Change::Settle(Settlement { id, attempt, step, reason }));
            }
        }
        journal.commit(&accepted).expect("accepted");
        journal.commit(&given_up).expect("settled");
    }
    journal.settle_index().expect("indexed");
}

fn engine(journal: &Arc<EmbeddedJournal>, sink: &Arc<Sink>) -> Engine {
    let concurrency = Concurrency { min: 64, max: 64 };
    let crm = Endpoint { concurrency, ..Endpoint::new(Name::new("crm").unwrap(), "http://127.0.0.1:1/".to_owned()) };
    Engine::start(Parts {
        journal: Arc::clone(journal) as Arc<dyn Journal>,
        clock: Arc::new(SystemClock),
        transport: Arc::new(Wire(Arc::clone(sink))),
        endpoints: vec![crm],
        routes: RouteTable::default(),
        lifecycles: vec![],
        retention: Retention::default(),
        limits: Limits { active_max: 1000, ordered_max: 20_000, in_flight_max: 1024 },
        recent_max_bytes: 32 << 20,
        accept_queue_max: 1000,
        seed: 1,
    })
    .expect("an engine")
}

/// What `GET /api/v1/failures` walks: all that failed, newest first, counted by what failed alike.
fn group(journal: &EmbeddedJournal) {
    let statuses = vec![Status::Dead, Status::Retrying];
    let filter = Filter { statuses, ..Filter::default() };
    let mut query = Query { filter, after: None, newest_first: true, limit: 1000 };
    let mut groups: HashMap<FailureGroup, u64> = HashMap::new();
    let began = support::now();
    loop {
        let page = journal.deliveries(&query).expect("a page");
        for group in page.items.into_iter().filter_map(|(_, delivery)| delivery.group) {
            *groups.entry(group).or_default() += 1;
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let (took, count) = (began.elapsed(), groups.values().sum::<u64>());
    println!("{count} failures in {} group are counted in {took:.2?}", groups.len());
    assert_eq!((count, groups.len()), (EVENTS / MISSED, 1));
    assert!(took <= GROUPED_MAX, "that takes {took:?}");
}

#[tokio::main]
async fn main() {
    let folder = support::folder();
    let journal = Arc::new(EmbeddedJournal::open(&support::settings(folder.path()), &|_| {}).expect("opened"));
    let began = support::now();
    fill(&journal);
    println!("{EVENTS} events, one in {MISSED} missed; made in {:.0?}", began.elapsed());
    group(&journal);
    let sink = Arc::new(Sink::default());
    let engine = engine(&journal, &sink);
    let filter = Filter { types: vec!["call_*".to_owned()], statuses: vec![Status::Dead], ..Filter::default() };
    let before = support::rss_mib_of("self");

    let asked = support::now();
    let order = ReplayOrder { filter, ..ReplayOrder::default() };
    engine.open_replay(order).await.expect("begun");
    sink.first.notified().await;
    let first = asked.elapsed();
    sink.all.notified().await;
    let took = asked.elapsed();
    let grown = support::rss_mib_of("self").saturating_sub(before);
    let count = EVENTS / MISSED;
    let rate = count as f64 / took.as_secs_f64();
    println!("a replay of {count}: the first is sent after {first:.1?}, all after {took:.1?} ({rate:.0}/s)");
    println!("memory: {before} MiB before, {grown} MiB more at the end");
    engine.stop(Duration::from_secs(10)).await.expect("stopped");
    assert!(first <= FIRST_MAX, "it begins only after {first:?}");
    assert!(grown <= MEMORY_MAX_MIB, "it takes {grown} MiB");
}
