//! What one bad endpoint of a hundred does to the other ninety-nine.
//!
//! The real binary, over HTTP on loopback, at a steady load well below what it can take, each event for one of
//! the endpoints. Measured is the time from the post of an event to its arrival at a healthy endpoint: with
//! all healthy, and with one that hangs (reads, never answers), drips (a byte of an answer now and then), is
//! a black hole (a connection never comes to stand), or answers endlessly. The bad one has no breaker and
//! room for all that gets stuck, so that it does its worst for the whole time.
//!
//! The journals are in memory: syncs of a disk take a fraction of a millisecond and now and then ten, which would hide
//! what is measured here.
//!
//! Each kind is compared with a healthy gateway beside it: the two get the load in turns, a second each, so that
//! whatever else the machine does falls on both. What counts is the median of the seconds' 99th percentiles. It
//! may be higher by less than [`RISE_MAX`], beyond what two healthy gateways differ by in the same run, and memory
//! may be more by at most [`MEMORY_MAX_MIB`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use support::http::{Gateway, Sender};

const ENDPOINTS: usize = 100;
const SENDERS: usize = 32;
/// Events a second, over all senders.
const RATE: usize = 500;
/// Seconds each gateway of a pair has the load, after one to warm up: connections are made, windows open, the bad
/// endpoint's attempts pile up.
const TURNS: usize = 15;
const RISE_MAX: f64 = 0.10;
const MEMORY_MAX_MIB: u64 = 16;
/// The longest that what was posted in a second may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
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

/// A gateway with its endpoints, and the senders that load it.
struct Side {
    gateway: Gateway,
    senders: Vec<Sender>,
    times: Arc<Times>,
    next: usize,
    /// Of each second: the median and the 99th percentile.
    seconds: Vec<(f64, f64)>,
    endpoints: Vec<JoinHandle<()>>,
    _hole: Option<Box<dyn Send>>,
}

impl Side {
    async fn start(kind: Kind) -> Self {
        let count = (1 + TURNS) * RATE;
        let times = Times { posted: Mutex::new(vec![support::now(); count]), arrived: Mutex::default() };
        let times = Arc::new(times);
        let (mut flow, mut endpoints, mut hole) = (String::new(), Vec::new(), None);
        for index in 0..ENDPOINTS {
            let is_bad = index == 0 && kind != Kind::Healthy;
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let mut addr = listener.local_addr().expect("an address");
            if is_bad && kind == Kind::BlackHole {
                let (black, holder) = black_hole().await;
                (addr, hole) = (black, Some(holder));
            } else {
                // The first one never counts, healthy or not: the same ninety-nine are compared.
                let times = (index > 0).then(|| Arc::clone(&times));
                endpoints.push(tokio::spawn(serve(listener, if is_bad { kind } else { Kind::Healthy }, times)));
            }
            let worst = if is_bad { "breaker = \"off\"\nconcurrency = 64\n" } else { "" };
            flow += &format!(
                "[endpoints.e{index}]\nurl = \"http://{addr}/\"\n{worst}\
                 [[routes]]\ntypes = [\"t{index}\"]\nendpoints = [\"e{index}\"]\n"
            );
        }
        let gateway = Gateway::start(&flow, support::folder_in_memory());
        let mut senders = Vec::new();
        for _ in 0..SENDERS {
            senders.push(Sender::connect(gateway.addr).await);
        }
        Self { gateway, senders, times, next: 0, seconds: Vec::new(), endpoints, _hole: hole }
    }

    /// A second of load: events are posted on time, and all for healthy endpoints arrive.
    async fn turn(&mut self) {
        let (first, began) = (self.next, tokio::time::Instant::now());
        self.next += RATE;
        let senders: Vec<_> = self
            .senders
            .drain(..)
            .enumerate()
            .map(|(place, mut sender)| {
                let times = Arc::clone(&self.times);
                tokio::spawn(async move {
                    for number in (place..RATE).step_by(SENDERS) {
                        let due = Duration::from_secs(1) * u32::try_from(number).expect("small") / RATE as u32;
                        tokio::time::sleep_until(began + due).await;
                        times.posted.lock().unwrap()[first + number] = support::now();
                        sender.post(event(first + number).as_bytes()).await;
                    }
                    sender
                })
            })
            .collect();
        for sender in senders {
            self.senders.push(sender.await.expect("a sender"));
        }
        let all = (first..self.next).filter(|number| number % ENDPOINTS > 0).count();
        while self.times.arrived.lock().unwrap().len() < all {
            assert!(began.elapsed() < PATIENCE, "deliveries to healthy endpoints do not arrive");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut arrived = std::mem::take(&mut *self.times.arrived.lock().unwrap());
        arrived.sort_unstable();
        let at = |share: f64| arrived[((arrived.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        self.seconds.push((at(0.5), at(0.99)));
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.endpoints.iter().for_each(JoinHandle::abort);
    }
}

fn event(number: usize) -> String {
    format!(
        r#"{{"event_type":"t{}","call_id":"call-{number}","timestamp":"2026-01-01T00:00:00Z","data":{{"n":{number}}}}}"#,
        number % ENDPOINTS
    )
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// How much later the 99th percentile is with that kind than with all healthy, and how much more memory it takes.
async fn compare(kind: Kind) -> (f64, u64) {
    let mut sides = [Side::start(Kind::Healthy).await, Side::start(kind).await];
    for side in &mut sides {
        side.turn().await;
        side.seconds.clear();
    }
    let before = sides[1].gateway.rss_mib();
    for turn in 0..TURNS {
        for place in 0..2 {
            sides[(turn + place) % 2].turn().await;
        }
    }
    let [healthy, bad] = &sides;
    let p50 = |side: &Side| median(side.seconds.iter().map(|(p50, _)| *p50));
    let p99 = |side: &Side| median(side.seconds.iter().map(|(_, p99)| *p99));
    let (rise, rss) = (p99(bad) / p99(healthy) - 1.0, [healthy.gateway.rss_mib(), bad.gateway.rss_mib()]);
    println!(
        "{:<10}  {:>7.2} {:>7.2}  {:>7.2} {:>7.2}  {:>6.1}%  {:>7} {:>7} {:>7}",
        format!("{kind:?}"),
        p50(healthy),
        p50(bad),
        p99(healthy),
        p99(bad),
        rise * 100.0,
        rss[0],
        before,
        rss[1]
    );
    (rise, rss[1].saturating_sub(rss[0]))
}

#[tokio::main]
async fn main() {
    println!("{ENDPOINTS} endpoints, {RATE} events/s, from the post to the arrival at the healthy ones");
    println!("{:<10}  {:>15}  {:>15}  {:>7}  {:>23}", "", "p50 ms", "p99 ms", "", "RSS MiB");
    println!("one ...     healthy      so  healthy      so     rise  healthy  before   after");
    let (control, _) = compare(Kind::Healthy).await;
    for kind in [Kind::Hangs, Kind::Drips, Kind::BlackHole, Kind::Endless] {
        let (rise, memory) = compare(kind).await;
        assert!(memory <= MEMORY_MAX_MIB, "one bad endpoint costs {memory} MiB");
        let beyond = rise - control.abs();
        assert!(beyond < RISE_MAX, "one bad endpoint makes the others later by {:.1} %", rise * 100.0);
    }
}
