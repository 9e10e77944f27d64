//! The accept loop against real sockets: caps, deadlines, and a clean end.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod caps;
mod tls;

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use backstop::listener::{HEADER_LINES_MAX, HEADER_MAX_BYTES, Limits, Listener};
use backstop::upload::Upload;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Never reached: a test that hangs fails by it.
const LONG: Duration = Duration::from_secs(60);
const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n";

/// A listener whose service answers with the peer's address; `/wait` first says that it was begun, then
/// waits to be let go.
struct Served {
    address: SocketAddr,
    begun: Arc<Semaphore>,
    go: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

async fn serve(limits: Limits, drain: Duration) -> Served {
    serve_with(limits, drain, |listener| listener).await
}

async fn serve_with(limits: Limits, drain: Duration, with: impl FnOnce(Listener) -> Listener) -> Served {
    let listener = with(Listener::bind("127.0.0.1:0".parse().unwrap(), limits).await.unwrap());
    let address = listener.local_addr().unwrap();
    let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (stop, stopped) = watch::channel(false);
    let gates = (Arc::clone(&begun), Arc::clone(&go));
    let service = service_fn(move |request: Request<Upload>| {
        let (begun, go) = gates.clone();
        async move {
            if request.uri().path() == "/wait" {
                begun.add_permits(1);
                go.acquire().await.unwrap().forget();
            }
            let peer = request.extensions().get::<SocketAddr>().unwrap().to_string();
            let answer = match request.uri().path() {
                "/echo" => match request.into_body().collect().await {
                    Ok(body) => body.to_bytes(),
                    Err(error) => Bytes::from(error.to_string()),
                },
                "/large" => Bytes::from(vec![b'x'; 64 << 20]),
                _ => Bytes::from(peer),
            };
            Ok::<_, Infallible>(Response::new(Full::new(answer)))
        }
    });
    let served = tokio::spawn(listener.serve(service, stopped, drain));
    Served { address, begun, go, stop, served }
}

impl Served {
    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        BufReader::new(stream)
    }

    async fn has_begun(&self) {
        self.begun.acquire().await.unwrap().forget();
    }
}

fn ask(stream: &mut BufReader<TcpStream>, request: &str) {
    stream.get_mut().write_all(request.as_bytes()).unwrap();
}

/// The status and the body of one answer.
fn answer(stream: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "the connection ended within {head:?}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = String::new();
    stream.take(length).read_to_string(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

/// Waits for the end; a reset is one, too.
fn end(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => rest,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest,
        Err(error) => panic!("the connection did not end: {error}"),
    }
}

fn limits(connections_max: u32, header_timeout: Duration) -> Limits {
    let idle_timeout = header_timeout;
    Limits {
        connections_max,
        connections_max_per_address: connections_max,
        header_timeout,
        idle_timeout,
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_know_their_peer_and_connections_are_kept() {
    let server = serve(limits(8, LONG), LONG).await;
    let mut stream = server.connect();
    let own = stream.get_ref().local_addr().unwrap().to_string();
    for _ in 0..3 {
        ask(&mut stream, GET);
        assert_eq!(answer(&mut stream), (200, own.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_the_cap_waits_until_one_closes() {
    let server = serve(limits(2, LONG), LONG).await;
    let (mut one, mut two, mut three) = (server.connect(), server.connect(), server.connect());
    for stream in [&mut one, &mut two, &mut three] {
        ask(stream, WAIT);
    }
    server.has_begun().await;
    server.has_begun().await;
    // Both permits are out, so the third request cannot have begun, whatever happens meanwhile.
    assert_eq!(server.begun.available_permits(), 0);
    server.go.add_permits(1);
    // One of the first two is answered; as its connection closes, the third's turn comes.
    drop(two);
    drop(one);
    server.has_begun().await;
    server.go.add_permits(2);
    assert_eq!(answer(&mut three).0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_come_ends_the_connection() {
    let server = serve(limits(8, Duration::from_millis(50)), LONG).await;
    let (mut silent, mut slow, mut idle) = (server.connect(), server.connect(), server.connect());
    ask(&mut slow, "GET / HTTP/1.1\r\nhost:");
    ask(&mut idle, GET);
    assert_eq!(answer(&mut idle).0, 200);
    for stream in [&mut silent, &mut slow, &mut idle] {
        end(stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_bounded_in_size_and_number() {
    let server = serve(limits(8, LONG), LONG).await;
    let line = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes));
    let request = |lines: String| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    for (lines, status) in [
        (line(HEADER_MAX_BYTES - request(line(0)).len()), 200),
        (line(HEADER_MAX_BYTES + 1 - request(line(0)).len()), 431),
        (line(1).repeat(HEADER_LINES_MAX), 200),
        (line(1).repeat(HEADER_LINES_MAX + 1), 431),
    ] {
        let mut stream = server.connect();
        ask(&mut stream, &request(lines));
        assert_eq!(answer(&mut stream).0, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_under_way_and_begins_nothing() {
    let server = serve(limits(8, LONG), LONG).await;
    let (mut silent, mut idle, mut busy) = (server.connect(), server.connect(), server.connect());
    ask(&mut idle, GET);
    assert_eq!(answer(&mut idle).0, 200);
    ask(&mut busy, WAIT);
    server.has_begun().await;
    server.stop.send(true).unwrap();
    assert_eq!(end(&mut silent), b"");
    assert_eq!(end(&mut idle), b"");
    // What the kernel still queued ends without an answer; then connections are refused.
    while let Ok(late) = TcpStream::connect(server.address) {
        late.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(end(&mut BufReader::new(late)), b"");
    }
    assert!(!server.served.is_finished());
    server.go.add_permits(1);
    assert_eq!(answer(&mut busy).0, 200);
    assert_eq!(end(&mut busy), b"");
    server.served.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_cuts_what_is_left_at_the_deadline() {
    let server = serve(limits(8, LONG), Duration::from_millis(50)).await;
    let mut busy = server.connect();
    ask(&mut busy, WAIT);
    server.has_begun().await;
    server.stop.send(true).unwrap();
    server.served.await.unwrap();
    assert_eq!(end(&mut busy), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_heard_while_every_permit_is_out_and_when_its_sender_is_gone() {
    let server = serve(limits(1, LONG), LONG).await;
    let mut busy = server.connect();
    ask(&mut busy, WAIT);
    server.has_begun().await;
    drop(server.stop);
    server.go.add_permits(1);
    assert_eq!(answer(&mut busy).0, 200);
    server.served.await.unwrap();
}
