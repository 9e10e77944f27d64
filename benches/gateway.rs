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
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use support::http::{Gateway, Sender};

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
                let mut sender = Sender::connect(addr).await;
                let mut latencies = Vec::new();
                while began.elapsed() < SPAN {
                    let body = support::draft(NUMBER.fetch_add(1, Ordering::Relaxed), &[]).body;
                    let sent = support::now();
                    sender.post(&body).await;
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

/// Endpoints at these sinks, all of which get every event.
fn flow(sinks: &[SocketAddr]) -> String {
    let names: Vec<String> = (0..sinks.len()).map(|index| format!("\"e{index}\"")).collect();
    let mut flow = String::new();
    for (index, sink) in sinks.iter().enumerate() {
        flow += &format!(
            "[endpoints.e{index}]\nurl = \"http://{sink}/\"\nconcurrency = 64\n\
             secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n"
        );
    }
    if !sinks.is_empty() {
        flow += &format!("[[routes]]\nendpoints = [{}]\n", names.join(", "));
    }
    flow
}

/// Loads a gateway that fans out to `fan_out` sinks, and waits until everything is delivered.
async fn measure(fan_out: usize, bare: f64) {
    let mut sinks = Vec::new();
    for _ in 0..fan_out {
        sinks.push(serve(StatusCode::OK).await);
    }
    let addrs: Vec<SocketAddr> = sinks.iter().map(|(addr, _)| *addr).collect();
    let gateway = Gateway::start(&flow(&addrs), support::folder());
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
        gateway.rss_mib()
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
