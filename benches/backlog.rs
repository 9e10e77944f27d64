//! A dead endpoint with a million waiting deliveries: what it costs, and how it drains.
//!
//! The engine over the embedded journal, with a transport that answers at once. Every event goes to a live
//! endpoint and to a dead one, which refuses every connection until it comes back; in another process the same events
//! go to the live one alone. The two take turns, so that whatever else the machine does falls on both. Printed for
//! both: how fast events are taken and delivered to the live one, and the memory of the whole process, with every
//! cache at the config's default. Then: how long a start takes with the backlog, how fast it drains, and whether
//! first attempts go oldest first.
//!
//! The backlog may add less than [`MEMORY_MAX_MIB`] to the process, and leave at least [`RATIO_MIN`] of both rates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::future::Future;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop::core::attempt::{Answer, Failure, FailureClass, Reply};
use backstop::core::breaker::BreakerPolicy;
use backstop::core::endpoint::Endpoint;
use backstop::core::event::Draft;
use backstop::core::id::EventId;
use backstop::core::name::Name;
use backstop::core::route::{Route, RouteTable};
use backstop::core::scheduler::Limits;
use backstop::core::window::Concurrency;
use backstop::engine::{Engine, Parts, Sending, SystemClock, Transport};
use backstop::journal::embedded::EmbeddedJournal;

const BACKLOG: u64 = 1_000_000;
const PRODUCERS: usize = 64;
/// Events over which the last rate is taken.
const SAMPLE: u64 = 100_000;
/// How much of the backlog is watched as it drains.
const DRAIN: u64 = 200_000;
const MEMORY_MAX_MIB: u64 = 64;
/// Of the rates without a backlog, at least so much remains.
const RATIO_MIN: f64 = 0.85;
const CONCURRENCY: usize = 64;
const ACTIVE_MAX: usize = 1000;

/// Two endpoints in one: the live one always answers, the dead one once it is up.
#[derive(Default)]
struct Sink {
    is_up: AtomicBool,
    live: AtomicU64,
    revived: AtomicU64,
    /// The events that the dead one got when it was up, as they came, without what had been tried before.
    order: Mutex<Vec<EventId>>,
}

struct Wire(Arc<Sink>);

impl Transport for Wire {
    fn send(&self, sending: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let sink = &self.0;
        let is_dead = sending.endpoint.name.as_str() == "dead";
        let is_refused = is_dead && !sink.is_up.load(Ordering::Relaxed);
        match (is_dead, is_refused) {
            (true, true) => {}
            (true, false) => {
                sink.revived.fetch_add(1, Ordering::Relaxed);
                if sending.attempt == 1 {
                    sink.order.lock().unwrap().push(sending.event.id);
                }
            }
            (false, _) => {
                sink.live.fetch_add(1, Ordering::Relaxed);
            }
        }
        let reply = if is_refused {
            Reply::Failure(Failure { class: FailureClass::Refused, detail: "nothing listens there".to_owned() })
        } else {
            let (headers, body) = (vec![], "ok".into());
            Reply::Answer(Answer { status: 200, headers, body, body_cut: false, retry_after: None })
        };
        Box::pin(async move { reply })
    }
}

fn endpoint(name: &str) -> Endpoint {
    let plain = Endpoint::new(Name::new(name).expect("a name"), "http://127.0.0.1:1/".to_owned());
    let fixed = Concurrency { min: CONCURRENCY, max: CONCURRENCY };
    // Probed often, so that the bench need not wait for the next probe.
    let second = Duration::from_secs(1);
    let breaker = BreakerPolicy { probe_initial: second, probe_max: second, ..BreakerPolicy::default() };
    Endpoint { concurrency: fixed, breaker: Some(breaker), ..plain }
}

struct Bench {
    engine: Engine,
    sink: Arc<Sink>,
    number: Arc<AtomicU64>,
}

/// What was seen while events were taken.
#[derive(Clone, Copy)]
struct Rates {
    accepted: f64,
    delivered: f64,
}

impl Bench {
    /// Opens the journal and starts; how long the opening took.
    fn start(folder: &Path, names: &[&str], sink: &Arc<Sink>, number: &Arc<AtomicU64>) -> (Self, Duration) {
        let began = support::now();
        let journal = EmbeddedJournal::open(&support::settings(folder), &|_| {}).expect("opened");
        let endpoints: Vec<Endpoint> = names.iter().map(|name| endpoint(name)).collect();
        let names = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
        let engine = Engine::start(Parts {
            journal: Arc::new(journal),
            clock: Arc::new(SystemClock),
            transport: Arc::new(Wire(Arc::clone(sink))),
            endpoints,
            routes: RouteTable::new(vec![Route { source: None, types: vec![], endpoints: names }]),
            lifecycles: vec![],
            retention: backstop::core::retention::Retention::default(),
            // As the config's defaults.
            limits: Limits { active_max: ACTIVE_MAX, ordered_max: 20_000, in_flight_max: 1024 },
            recent_max_bytes: 64 << 20,
            accept_queue_max: 4096,
            seed: 1,
        })
        .expect("started");
        let bench = Self { engine, sink: Arc::clone(sink), number: Arc::clone(number) };
        (bench, began.elapsed())
    }

    /// Takes events from many producers until there have been `until`.
    async fn accept(&self, until: u64) -> Rates {
        let (began, from) = (support::now(), self.number.load(Ordering::Relaxed));
        let live_before = self.sink.live.load(Ordering::Relaxed);
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|_| {
                let (engine, number) = (self.engine.clone(), Arc::clone(&self.number));
                tokio::spawn(async move {
                    while let Some(number) = take(&number, until) {
                        engine.accept(small(number)).await.expect("accepted");
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.await.expect("a producer");
        }
        let accepted = (until - from) as f64 / began.elapsed().as_secs_f64();
        while self.sink.live.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let delivered = (until - live_before) as f64 / began.elapsed().as_secs_f64();
        Rates { accepted, delivered }
    }

    async fn stop(self) {
        self.engine.stop(Duration::from_secs(30)).await.expect("stopped");
    }
}

/// The next number below `until`.
fn take(number: &AtomicU64, until: u64) -> Option<u64> {
    let taken = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| (next < until).then_some(next + 1));
    taken.ok()
}

fn small(number: u64) -> Draft {
    let body = format!(r#"{{"event_type":"call_ended","call_id":"call-{}","data":{{"n":{number}}}}}"#, number / 3);
    Draft { body: body.into(), ..support::draft(number, &[]) }
}

fn rss_mib() -> u64 {
    support::rss_mib_of("self")
}

/// Waits until the dead endpoint has got `count`; how long that took.
async fn drained(sink: &Sink, count: u64) -> Duration {
    let began = support::now();
    while sink.revived.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

/// How many places the event that came most out of order is away from its own.
fn displacement(order: &[EventId]) -> usize {
    let mut sorted: Vec<(EventId, usize)> = order.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    sorted.iter().enumerate().map(|(place, (_, came))| place.abs_diff(*came)).max().unwrap_or_default()
}

/// Takes [`SAMPLE`] events for these endpoints whenever told to by a line, and answers with a line: the rates and the
/// memory. At the end of the input it stops, and lets the dead endpoint come back if there is one.
async fn fill(names: &[&str]) {
    let folder = support::folder();
    let (sink, number) = (Arc::new(Sink::default()), Arc::new(AtomicU64::new(0)));
    let (bench, _) = Bench::start(folder.path(), names, &sink, &number);
    for until in (SAMPLE..).step_by(SAMPLE as usize).zip(std::io::stdin().lines()).map(|(until, _line)| until) {
        let rates = bench.accept(until).await;
        println!("{} {} {}", rates.accepted, rates.delivered, rss_mib());
    }
    bench.stop().await;
    if names.len() > 1 {
        recover(folder.path(), names, &sink, &number).await;
    }
}

/// Starts again with the backlog there, and lets the dead endpoint come back.
async fn recover(folder: &Path, names: &[&str], sink: &Arc<Sink>, number: &Arc<AtomicU64>) {
    let (bench, opened) = Bench::start(folder, names, sink, number);
    println!("a start with the backlog takes {opened:.0?}");
    sink.is_up.store(true, Ordering::Relaxed);
    let (first, rest) = (drained(sink, 1).await, drained(sink, DRAIN).await);
    let away = displacement(&sink.order.lock().unwrap());
    println!(
        "it comes back: after {first:.1?} the first is delivered, then {DRAIN} in {rest:.1?}, {:.0}/s; \
         first attempts are at most {away} places out of order",
        DRAIN as f64 / rest.as_secs_f64()
    );
    assert!(away <= ACTIVE_MAX, "the backlog did not drain oldest first");
    bench.stop().await;
}

/// This bench's [`fill`] in a process of its own.
struct Apart {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Apart {
    fn start(how: &str) -> Self {
        let program = std::env::current_exe().expect("a path");
        let piped = Command::new(program).arg(how).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = piped.expect("started");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, lines }
    }

    /// The rates of acceptance and delivery over another sample, and the memory in MiB.
    fn turn(&mut self) -> [f64; 3] {
        writeln!(self.child.stdin.as_mut().expect("stdin")).expect("told");
        let line = self.lines.next().expect("a line").expect("text");
        let figures: Vec<f64> = line.split(' ').map(|figure| figure.parse().expect("a number")).collect();
        figures.try_into().expect("three figures")
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        self.lines.by_ref().for_each(|line| println!("{}", line.expect("text")));
        assert!(self.child.wait().expect("ended").success());
    }
}

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    match how.as_str() {
        "alone" => return runtime().block_on(fill(&["live"])),
        "dead" => return runtime().block_on(fill(&["live", "dead"])),
        _ => {}
    }
    println!("{PRODUCERS} producers, bodies of about 70 bytes, to a live endpoint alone | to it and a dead one");
    println!("  backlog  {:>16}  {:>16}  {:>11}", "accepted/s", "delivered/s", "RSS MiB");
    let (mut alone, mut dead) = (Apart::start("alone"), Apart::start("dead"));
    let mut ratios: [Vec<f64>; 2] = Default::default();
    let mut added = 0.0;
    for until in (SAMPLE..=BACKLOG).step_by(SAMPLE as usize) {
        let (without, with) = (alone.turn(), dead.turn());
        let pair = |figure: usize| format!("{:.0} | {:.0}", without[figure], with[figure]);
        println!("{until:>9}  {:>16}  {:>16}  {:>11}", pair(0), pair(1), pair(2));
        ratios.iter_mut().zip(0..).for_each(|(ratios, figure)| ratios.push(with[figure] / without[figure]));
        added = with[2] - without[2];
    }
    alone.end();
    dead.end();
    let [accepted, delivered] = ratios.map(|mut ratios| {
        ratios.sort_unstable_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    });
    println!(
        "with a backlog: {accepted:.2} of the rate of acceptance, {delivered:.2} of that of delivery (medians); \
         {added} MiB more"
    );
    assert!(added < MEMORY_MAX_MIB as f64, "the backlog costs {added} MiB");
    assert!(accepted > RATIO_MIN && delivered > RATIO_MIN, "the backlog slows others: {accepted:.2}, {delivered:.2}");
}
