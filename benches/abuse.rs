//! What an honest client notices while thousands of connections do nothing, slowly.
//!
//! The real binary, over HTTP on loopback. 10 000 connections that have posted once and now idle, and 5 000 that
//! send a header byte by byte and come again when they are cut, from several addresses (127.0.0.x), none of them
//! trusted. An honest client, from an address of its own, posts on a connection that is made anew for every tenth
//! event. Its acknowledgements must come within [`P99_MAX_MS`], and the gateway's memory must grow by no more than
//! [`MEMORY_MAX_MIB`]. At last one address alone asks for more than its share.
//!
//! The journal is in memory: syncs of a disk would hide what is measured here.
//!
//! With `slowhttptest` on the machine its three attacks (headers, bodies, answers that are not read) follow, by 127.0.0.1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use support::http::{Gateway, Sender};

const IDLE: usize = 10_000;
const SLOW: usize = 5_000;
/// Connections that an address may have.
const SHARE: usize = 1600;
/// Addresses that the slow and the idle ones come from.
const ADDRESSES: usize = 10;
const P99_MAX_MS: f64 = 50.0;
const MEMORY_MAX_MIB: u64 = 64;
/// How long each part is measured.
const SPAN: Duration = Duration::from_secs(15);
/// How long a gateway serves the honest client alone before its memory is looked at.
const WARM_UP: Duration = Duration::from_secs(3);
/// Between two events of the honest client.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two bytes of a slow header.
const DRIP: Duration = Duration::from_secs(1);

/// What `[server]` says besides; the share of an address is this.
fn limits(per_address: usize) -> String {
    format!(
        "connections_max = 16000\nconnections_max_per_address = {per_address}\ntrusted_proxies = []\n\
         idle_timeout = \"10m\"\n"
    )
}

fn body() -> String {
    format!(
        r#"{{"event_type":"call_ended","call_id":"c","timestamp":"2026-01-01T00:00:00Z","pad":"{}"}}"#,
        "x".repeat(900)
    )
}

async fn connect_from(address: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::from(address), 0)))?;
    socket.connect(to).await
}

/// The address of the number-th stranger.
fn stranger(number: usize) -> [u8; 4] {
    [127, 0, 1, u8::try_from(number % ADDRESSES + 1).expect("small")]
}

/// Connections that have posted once, and are kept.
async fn idlers(to: SocketAddr) -> Vec<Sender> {
    let mut kept = Vec::new();
    for number in 0..IDLE {
        let mut sender = Sender::over(connect_from(stranger(number), to).await.expect("connected"));
        sender.post(body().as_bytes()).await;
        kept.push(sender);
    }
    kept
}

/// A connection whose header never ends; when it is cut another takes its place.
async fn drip(number: usize, to: SocketAddr, open: Arc<AtomicUsize>, cut: Arc<AtomicUsize>) {
    loop {
        let Ok(mut stream) = connect_from(stranger(number), to).await else {
            tokio::time::sleep(DRIP).await;
            continue;
        };
        open.fetch_add(1, Ordering::Relaxed);
        let mut sent = stream.write_all(b"POST /in/flyflow HTTP/1.1\r\nhost: x\r\nx: ").await;
        while sent.is_ok() {
            let answered = tokio::time::timeout(DRIP, stream.read(&mut [0; 64])).await;
            if answered.is_ok() {
                break;
            }
            sent = stream.write_all(b"y").await;
        }
        open.fetch_sub(1, Ordering::Relaxed);
        cut.fetch_add(1, Ordering::Relaxed);
    }
}

/// Posts for a while; every tenth event on a new connection, whose making counts.
async fn honest(to: SocketAddr, span: Duration) -> Vec<Duration> {
    let (mut took, mut sender, began) = (Vec::new(), None, support::now());
    while began.elapsed() < span {
        let posted = support::now();
        if took.len() % 10 == 0 {
            sender = None;
        }
        let current = match &mut sender {
            Some(sender) => sender,
            none => none.insert(Sender::over(connect_from([127, 0, 9, 9], to).await.expect("let in"))),
        };
        current.post(body().as_bytes()).await;
        took.push(posted.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    took.sort_unstable();
    took
}

fn row(what: &str, took: &[Duration], gateway: &Gateway, before: u64) -> (f64, u64) {
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let grown = gateway.rss_mib().saturating_sub(before);
    println!(
        "{what:<34} {:>6} acks   p50 {:>6.2} ms   p99 {:>6.2} ms   max {:>6.2} ms   {grown:>3} MiB more",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    (at(0.99), grown)
}

/// Debian's slowhttptest, in the background; none where it is not installed.
fn slowhttptest(mode: &[&str], to: SocketAddr) -> Option<std::process::Child> {
    let length = (SPAN.as_secs() + 2).to_string();
    Command::new("slowhttptest")
        .args(mode)
        .args(["-c", &SLOW.to_string(), "-r", "1000", "-l", &length, "-i", "5", "-p", "2"])
        .args(["-u", &format!("http://{to}/in/flyflow")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

/// How many of an address's connections are let in, of more than its share.
async fn share(to: SocketAddr) -> usize {
    let mut streams = Vec::new();
    for _ in 0..2000 {
        streams.push(connect_from([127, 0, 7, 7], to).await.expect("connected"));
    }
    let mut silent = 0;
    for stream in &mut streams {
        // Those over it are told so, or cut; the others hear nothing.
        let told = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 1])).await;
        silent += usize::from(told.is_err());
    }
    silent
}

#[tokio::main]
async fn main() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit raised");
    assert!(maximum.is_none_or(|maximum| maximum >= 18_000), "this needs 18 000 open files (ulimit -Hn)");
    let mut worst: Vec<(f64, u64)> = Vec::new();
    {
        let gateway = Gateway::start_with(&limits(SHARE), "", support::folder_in_memory());
        let took = honest(gateway.addr, SPAN).await;
        let before = gateway.rss_mib();
        row("nobody else", &took, &gateway, before);
        let kept = idlers(gateway.addr).await;
        worst.push(row("10 000 idle after an event each", &honest(gateway.addr, SPAN).await, &gateway, before));
        let (open, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let slow: Vec<JoinHandle<()>> = (0..SLOW)
            .map(|number| tokio::spawn(drip(number, gateway.addr, Arc::clone(&open), Arc::clone(&cut))))
            .collect();
        while open.load(Ordering::Relaxed) < SLOW * 9 / 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        worst.push(row("... and 5 000 slow headers", &honest(gateway.addr, SPAN).await, &gateway, before));
        println!("{:<34} {} cut meanwhile, {} open", "", cut.load(Ordering::Relaxed), open.load(Ordering::Relaxed));
        slow.iter().for_each(JoinHandle::abort);
        drop(kept);
    }
    {
        let gateway = Gateway::start_with(&limits(SHARE), "", support::folder_in_memory());
        let taken = share(gateway.addr).await;
        println!("{:<34} {taken} of 2000 connections let in", "one address, whose share is 1600");
        assert!(taken <= SHARE, "an address has more than its share");
    }
    for (name, mode) in
        [("headers", &["-H"][..]), ("bodies", &["-B"]), ("answers not read", &["-X", "-w", "1", "-y", "1"])]
    {
        let gateway = Gateway::start_with(&limits(8000), "", support::folder_in_memory());
        honest(gateway.addr, WARM_UP).await;
        let before = gateway.rss_mib();
        let Some(mut attack) = slowhttptest(mode, gateway.addr) else {
            println!("slowhttptest is not installed: left out");
            break;
        };
        worst.push(row(
            &format!("slowhttptest, 5 000 slow {name}"),
            &honest(gateway.addr, SPAN).await,
            &gateway,
            before,
        ));
        let _ended = attack.kill().is_ok() && attack.wait().is_ok();
    }
    let is_well = |(p99, grown): &(f64, u64)| *p99 < P99_MAX_MS && *grown <= MEMORY_MAX_MIB;
    assert!(worst.iter().all(is_well), "an honest client noticed, or it cost too much memory");
}
