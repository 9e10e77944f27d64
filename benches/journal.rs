//! Durable appends per second at 1, 64 and 512 waiting producers, as a ratio to the limit of the same run:
//! the same producers before a thread that does nothing but append their bytes and fdatasync.
//!
//! Fails if the ratio at 64 is below 0.6. With `BACKSTOP_BENCH_SEALED=1` the journal is sealed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use backstop::core::route::RouteTable;
use backstop::core::scheduler::Limits;
use backstop::engine::{Engine, Parts, Sending, SystemClock, Transport};
use backstop::journal::embedded::EmbeddedJournal;
use tokio::sync::oneshot;

const SPAN: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

/// The limit: append and fdatasync, grouped by who waits, nothing else.
struct Raw {
    requests: mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>,
}

impl Raw {
    fn start(folder: &std::path::Path) -> Self {
        let path = folder.join("raw");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).expect("a file");
        let (requests, received) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            let (mut offset, mut allocated) = (0u64, 0u64);
            let (mut buffer, mut waiting) = (Vec::new(), Vec::new());
            while let Ok(first) = received.recv() {
                let mut next = Some(first);
                while let Some((bytes, reply)) = next {
                    buffer.extend_from_slice(&bytes);
                    waiting.push(reply);
                    next = received.try_recv().ok();
                }
                if offset + buffer.len() as u64 > allocated {
                    backstop::journal::disk::allocate(&file, allocated + (64 << 20)).expect("room");
                    file.sync_all().expect("sync");
                    allocated += 64 << 20;
                }
                file.write_all_at(&buffer, offset).expect("write");
                file.sync_data().expect("sync");
                offset += buffer.len() as u64;
                buffer.clear();
                waiting.drain(..).for_each(|reply| assert!(reply.send(()).is_ok()));
            }
        });
        Self { requests }
    }
}

/// Nothing is routed, so nothing is sent.
struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, _: Sending) -> std::pin::Pin<Box<dyn Future<Output = backstop::core::attempt::Reply> + Send>> {
        Box::pin(std::future::pending())
    }
}

fn engine(folder: &std::path::Path) -> Engine {
    let journal = EmbeddedJournal::open(&support::settings(&folder.join("journal")), &|_| {}).expect("a journal");
    Engine::start(Parts {
        journal: Arc::new(journal),
        clock: Arc::new(SystemClock),
        transport: Arc::new(Nowhere),
        endpoints: vec![],
        routes: RouteTable::default(),
        lifecycles: vec![],
        retention: backstop::core::retention::Retention::default(),
        limits: Limits { active_max: 1000, ordered_max: 1000, in_flight_max: 256 },
        recent_max_bytes: 64 << 20,
        accept_queue_max: 4096,
        seed: 1,
    })
    .expect("an engine")
}

/// Runs `producers` tasks that each wait for one append before the next; appends per second, and CPU each.
async fn measure<F, O>(producers: usize, append: F) -> (f64, Duration)
where
    F: Fn(u64) -> O + Clone + Send + 'static,
    O: Future<Output = ()> + Send,
{
    let done = Arc::new(AtomicU64::new(0));
    let (began, cpu) = (support::now(), support::cpu());
    let tasks: Vec<_> = (0..producers)
        .map(|_| {
            let (append, done) = (append.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while began.elapsed() < SPAN {
                    append(NUMBER.fetch_add(1, Ordering::Relaxed)).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a producer");
    }
    let count = done.load(Ordering::Relaxed);
    let each = (support::cpu() - cpu) / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    (count as f64 / began.elapsed().as_secs_f64(), each)
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    println!("durable appends of 1 KiB events per second; median of {ROUNDS} rounds of {} s", SPAN.as_secs());
    println!("{:>9}  {:>10}  {:>10}  {:>6}  {:>9}", "producers", "raw", "backstop", "ratio", "CPU/event");
    let mut at_64 = 0.0;
    for producers in [1, 64, 512] {
        let (mut raws, mut ours, mut ratios, mut cpu) = (vec![], vec![], vec![], Duration::ZERO);
        for _ in 0..ROUNDS {
            let folder = support::folder();
            let raw = Raw::start(folder.path());
            let requests = raw.requests.clone();
            let (limit, _) = measure(producers, move |number| {
                let (reply, done) = oneshot::channel();
                let sent = requests.send((support::draft(number, &[]).body.to_vec(), reply)).is_ok();
                async move {
                    assert!(sent && done.await.is_ok());
                }
            })
            .await;
            let engine = engine(folder.path());
            let own = engine.clone();
            let (rate, each) = measure(producers, move |number| {
                let engine = own.clone();
                async move {
                    engine.accept(support::draft(number, &[])).await.expect("accepted");
                }
            })
            .await;
            engine.stop(Duration::from_secs(5)).await.expect("closed");
            raws.push(limit);
            ours.push(rate);
            ratios.push(rate / limit);
            cpu = each;
        }
        let (raw, our, ratio) = (median(raws), median(ours), median(ratios));
        println!("{producers:>9}  {raw:>10.0}  {our:>10.0}  {ratio:>6.2}  {:>6.1} µs", cpu.as_secs_f64() * 1e6);
        if producers == 64 {
            at_64 = ratio;
        }
    }
    assert!(
        at_64 >= 0.6,
        "at 64 producers the journal reaches {at_64:.2} of a raw append + fdatasync loop; 0.6 is asked"
    );
}
