//! The whole gateway over HTTP: the real binary, a load generator and sinks, all on the same cores.
//!
//! Prints what senders and endpoints see, with the CPU and memory of the gateway's process, and the rate of
//! acknowledgements as a ratio to a bare hyper handler measured in the same run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SENDERS: usize = 64;
const SPAN: Duration = Duration::from_secs(6);
/// The longest that deliveries may take to end after the last acknowledgement.
const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A server that reads the body and answers; how often it did.
async fn serve(status: StatusCode) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&counted);
            let service = service_fn(move |request: Request<Incoming>| {
                let count = Arc::clone(&count);
                async move {
                    let _whole = request.into_body().collect().await.is_ok();
                    count.fetch_add(1, Ordering::Relaxed);
                    let mut response = Response::new(Full::new(Bytes::from_static(b"{\"ok\":true}")));
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(async move {
                let _nodelay = stream.set_nodelay(true).is_ok();
                let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ended = served.await.is_ok();
            });
        }
    });
    (addr, count)
}

/// What senders saw.
struct Load {
    acked: u64,
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// Posts from [`SENDERS`] connections, each waiting for one answer before the next post.
async fn load(addr: SocketAddr) -> Load {
    let began = support::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(addr).await.expect("connected");
                stream.set_nodelay(true).expect("a socket");
                let (mut latencies, mut answer) = (Vec::new(), vec![0; 4096]);
                while began.elapsed() < SPAN {
                    let body = support::draft(NUMBER.fetch_add(1, Ordering::Relaxed), &[]).body;
                    let head = format!(
                        "POST /in/flyflow HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    let mut request = head.into_bytes();
                    request.extend_from_slice(&body);
                    let sent = support::now();
                    stream.write_all(&request).await.expect("sent");
                    let mut read = 0;
                    // Answers here are short: header and body come together or nearly so.
                    while !is_whole(&answer[..read]) {
                        let more = stream.read(&mut answer[read..]).await.expect("answered");
                        assert!(more > 0, "the connection was closed");
                        read += more;
                    }
                    assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer[..read]));
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for sender in senders {
        latencies.extend(sender.await.expect("a sender"));
    }
    let per_second = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Load { acked: latencies.len() as u64, per_second, p50: at(0.5), p99: at(0.99) }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let len =
        head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + len.unwrap_or(0)
}

/// The real binary on a directory of its own; ended when dropped.
struct Gateway {
    child: Child,
    addr: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Gateway {
    fn start(sinks: &[SocketAddr]) -> Self {
        let folder = support::folder();
        let names: Vec<String> = (0..sinks.len()).map(|index| format!("\"e{index}\"")).collect();
        let mut config = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
                          [journal]\ndir = \"journal\"\n[sources.flyflow]\npreset = \"flyflow\"\n"
            .to_owned();
        for (index, sink) in sinks.iter().enumerate() {
            config += &format!(
                "[endpoints.e{index}]\nurl = \"http://{sink}/\"\nconcurrency = 64\n\
                 secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n"
            );
        }
        if !sinks.is_empty() {
            config += &format!("[[routes]]\nendpoints = [{}]\n", names.join(", "));
        }
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, config).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_backstop"))
            .args(["--config".as_ref(), path.as_os_str(), "serve".as_ref()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let addr = loop {
            let line = lines.next().expect("a line").expect("text");
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if let Some(addr) = value.get("ingest").and_then(|addr| addr.as_str()) {
                break addr.parse().expect("an address");
            }
        };
        // Logs are read and dropped, as a log collector would.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, addr, _folder: folder }
    }

    fn cpu(&self) -> Duration {
        support::cpu_of(&self.child.id().to_string())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _killed = self.child.kill().is_ok();
        let _ended = self.child.wait().is_ok();
    }
}

/// Loads a gateway that fans out to `fan_out` sinks, and waits until everything is delivered.
async fn measure(fan_out: usize, bare: f64) {
    let mut sinks = Vec::new();
    for _ in 0..fan_out {
        sinks.push(serve(StatusCode::OK).await);
    }
    let addrs: Vec<SocketAddr> = sinks.iter().map(|(addr, _)| *addr).collect();
    let gateway = Gateway::start(&addrs);
    let began = support::now();
    let cpu_before = gateway.cpu();
    let load = load(gateway.addr).await;
    let all_there = async {
        while sinks.iter().any(|(_, count)| count.load(Ordering::Relaxed) < load.acked) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_there).await.expect("everything is delivered in time");
    let took = began.elapsed();
    let cpu = (gateway.cpu() - cpu_before) / u32::try_from(load.acked).expect("a count");
    let delivered = load.acked as f64 * fan_out as f64 / took.as_secs_f64();
    println!(
        "{fan_out:>7}  {:>10.0}  {:>5.2}  {delivered:>11.0}  {:>8.2?}  {:>8.2?}  {:>9.0} µs  {:>7}",
        load.per_second,
        load.per_second / bare,
        load.p50,
        load.p99,
        cpu.as_secs_f64() * 1e6,
        support::rss_mib_of(&gateway.child.id().to_string())
    );
}

#[tokio::main]
async fn main() {
    let (addr, _) = serve(StatusCode::ACCEPTED).await;
    let bare = load(addr).await;
    println!("{SENDERS} senders, 1 KiB call events, signed deliveries, generator and sinks on the same cores");
    println!("a bare hyper handler: {:.0} requests/s, p50 {:.2?}, p99 {:.2?}", bare.per_second, bare.p50, bare.p99);
    println!("fan-out  accepted/s  ratio  delivered/s   ack p50   ack p99    CPU/event  RSS MiB");
    for fan_out in [0, 1, 3] {
        measure(fan_out, bare.per_second).await;
    }
}
