//! What one bad endpoint of a hundred does to the other ninety-nine.
//!
//! The real binary, over HTTP on loopback, at a steady load well below what it can take, each event for one of
//! the endpoints. Measured is the time from the post of an event to its arrival at a healthy endpoint: with
//! all healthy, and with one that hangs (reads, never answers), drips (a byte of an answer now and then), is
//! a black hole (a connection never comes to stand), or answers endlessly. The bad one has no breaker and
//! room for all that gets stuck, so that it does its worst for the whole time.
//!
//! The kinds take turns, each run on a gateway of its own; the medians over the runs count. The 99th percentile
//! may rise by less than [`RISE_MAX`], and memory by at most [`MEMORY_MAX_MIB`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use support::http::{Gateway, Sender};

const ENDPOINTS: usize = 100;
const SENDERS: usize = 64;
/// Events a second, over all senders.
const RATE: u32 = 500;
/// Before anything is measured: connections are made, windows open, the bad endpoint's attempts pile up.
const WARM_UP: Duration = Duration::from_secs(1);
const SPAN: Duration = Duration::from_secs(4);
const ROUNDS: usize = 5;
const RISE_MAX: f64 = 0.10;
const MEMORY_MAX_MIB: u64 = 16;
/// Between two bytes of an endpoint that drips.
const DRIP: Duration = Duration::from_millis(200);

/// What the bad endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Healthy,
    Hangs,
    Drips,
    BlackHole,
    Endless,
}

const KINDS: [Kind; 5] = [Kind::Healthy, Kind::Hangs, Kind::Drips, Kind::BlackHole, Kind::Endless];

/// When each event was posted, and how long those that were measured took to arrive.
struct Times {
    posted: Mutex<Vec<Instant>>,
    arrived: Mutex<Vec<Duration>>,
}

impl Times {
    /// Event `number` has arrived at a healthy endpoint.
    fn note(&self, number: usize) {
        let took = self.posted.lock().unwrap()[number].elapsed();
        self.arrived.lock().unwrap().push(took);
    }
}

/// An endpoint that answers every event as `kind` does.
async fn serve(listener: TcpListener, kind: Kind, times: Option<Arc<Times>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let times = times.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            while let Some(number) = read_event(&mut stream).await {
                if let Some(times) = &times {
                    times.note(number);
                }
                if answer(stream.get_mut(), kind).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// The number of the event that comes next; `None` at the connection's end.
async fn read_event(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut len = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            len = value.parse().expect("a length");
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.ok()?;
    let body: serde_json::Value = serde_json::from_slice(&body).expect("the body, byte for byte");
    usize::try_from(body["data"]["n"].as_u64().expect("a number")).ok()
}

async fn answer(stream: &mut TcpStream, kind: Kind) -> std::io::Result<()> {
    match kind {
        Kind::Healthy => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await,
        Kind::Hangs | Kind::BlackHole => std::future::pending().await,
        Kind::Drips => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(DRIP).await;
            }
        }
        Kind::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 16 * 1024]).await?;
            }
        }
    }
}

/// An address where no connection comes to stand: its queue is full and nobody takes any out.
async fn black_hole() -> (SocketAddr, Box<dyn Send>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(addr)).await {
        queued.push(connected.expect("connected"));
    }
    (addr, Box::new((listener, queued)))
}

/// What one run showed.
#[derive(Debug, Clone, Copy)]
struct Run {
    p50: f64,
    p99: f64,
    rss_mib: u64,
    grown_mib: u64,
}

async fn run(kind: Kind) -> Run {
    let count = (WARM_UP + SPAN).as_secs() as usize * RATE as usize;
    let times = Times { posted: Mutex::new(vec![support::now(); count]), arrived: Mutex::default() };
    let times = Arc::new(times);
    let (mut flow, mut tasks, mut held) = (String::new(), Vec::new(), None);
    for index in 0..ENDPOINTS {
        let is_bad = index == 0 && kind != Kind::Healthy;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut addr = listener.local_addr().expect("an address");
        if is_bad && kind == Kind::BlackHole {
            let (hole, holder) = black_hole().await;
            (addr, held) = (hole, Some(holder));
        } else {
            // The first one never counts, healthy or not: the same ninety-nine are compared.
            let times = (index > 0).then(|| Arc::clone(&times));
            tasks.push(tokio::spawn(serve(listener, if is_bad { kind } else { Kind::Healthy }, times)));
        }
        let worst = if is_bad { "breaker = \"off\"\nconcurrency = 64\n" } else { "" };
        flow += &format!(
            "[endpoints.e{index}]\nurl = \"http://{addr}/\"\n{worst}\
             [[routes]]\ntypes = [\"t{index}\"]\nendpoints = [\"e{index}\"]\n"
        );
    }
    let gateway = Gateway::start(&flow);
    let rss_before = load(gateway.addr, &gateway, &times, count).await;
    let (mut arrived, rss_mib) = (std::mem::take(&mut *times.arrived.lock().unwrap()), gateway.rss_mib());
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    drop((gateway, held));
    arrived.sort_unstable();
    let at = |share: f64| arrived[((arrived.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    Run { p50: at(0.5), p99: at(0.99), rss_mib, grown_mib: rss_mib.saturating_sub(rss_before) }
}

/// Posts events on time, whatever the gateway does, and waits until the healthy ones have their measured share.
/// The gateway's memory after the warm-up, in MiB.
async fn load(addr: SocketAddr, gateway: &Gateway, times: &Arc<Times>, count: usize) -> u64 {
    let (began, next) = (tokio::time::Instant::now(), Arc::new(AtomicUsize::new(0)));
    let due = move |number: usize| began + Duration::from_secs(1) * u32::try_from(number).expect("a count") / RATE;
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (times, next) = (Arc::clone(times), Arc::clone(&next));
            tokio::spawn(async move {
                let mut sender = Sender::connect(addr).await;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    tokio::time::sleep_until(due(number)).await;
                    let body = format!(
                        r#"{{"event_type":"t{}","call_id":"call-{number}","timestamp":"2026-01-01T00:00:00Z","data":{{"n":{number}}}}}"#,
                        number % ENDPOINTS
                    );
                    times.posted.lock().unwrap()[number] = support::now();
                    sender.post(body.as_bytes()).await;
                }
            })
        })
        .collect();
    tokio::time::sleep_until(began + WARM_UP).await;
    let rss_before = gateway.rss_mib();
    times.arrived.lock().unwrap().clear();
    for sender in senders {
        sender.await.expect("a sender");
    }
    assert!(began.elapsed() < (WARM_UP + SPAN).mul_f64(1.1), "the load is more than the gateway can take");
    // What was posted last arrives, or has not been isolated.
    let measured = SPAN.as_secs() as usize * RATE as usize * (ENDPOINTS - 1) / ENDPOINTS;
    while times.arrived.lock().unwrap().len() < measured {
        assert!(began.elapsed() < (WARM_UP + SPAN) * 2, "deliveries to healthy endpoints are late");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rss_before
}

fn median<T: Copy + PartialOrd>(runs: &[Run], figure: impl Fn(&Run) -> T) -> T {
    let mut figures: Vec<T> = runs.iter().map(figure).collect();
    figures.sort_unstable_by(|one, other| one.partial_cmp(other).expect("numbers"));
    figures[figures.len() / 2]
}

#[tokio::main]
async fn main() {
    println!(
        "{ENDPOINTS} endpoints, {RATE} events/s, from the post to the arrival at the healthy ones; {ROUNDS} rounds"
    );
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); KINDS.len()];
    for round in 0..ROUNDS {
        // None is always the one that comes after a certain other.
        for place in 0..KINDS.len() {
            let index = (place * (1 + round % (KINDS.len() - 1)) + round) % KINDS.len();
            runs[index].push(run(KINDS[index]).await);
        }
    }
    println!(
        "{:<10}  {:>8}  {:>8}  {:>6}  {:>20}  {:>8}  {:>7}",
        "one", "p50 ms", "p99 ms", "rise", "p99 of the runs", "RSS MiB", "grown"
    );
    let healthy = runs[0].clone();
    let mut worst = (f64::MIN, 0);
    for (kind, runs) in KINDS.iter().zip(&runs) {
        let (p50, p99) = (median(runs, |run| run.p50), median(runs, |run| run.p99));
        let rise = p99 / median(&healthy, |run| run.p99) - 1.0;
        let (rss, grown) = (median(runs, |run| run.rss_mib), median(runs, |run| run.grown_mib));
        let spread: Vec<String> = runs.iter().map(|run| format!("{:.1}", run.p99)).collect();
        println!(
            "{:<10}  {p50:>8.2}  {p99:>8.2}  {:>5.1}%  {:>20}  {rss:>8}  {grown:>7}",
            format!("{kind:?}"),
            rise * 100.0,
            spread.join(" ")
        );
        worst = (worst.0.max(rise), worst.1.max(rss.saturating_sub(median(&healthy, |run| run.rss_mib))));
    }
    let (rise, memory) = worst;
    println!("the worst: {:.1} % later, {memory} MiB more", rise * 100.0);
    assert!(memory <= MEMORY_MAX_MIB, "one bad endpoint costs {memory} MiB");
    assert!(rise < RISE_MAX, "one bad endpoint makes the others later by {:.1} %", rise * 100.0);
}
