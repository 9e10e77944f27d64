//! The transport against real sockets: what goes out byte for byte, what is kept of what comes back, and
//! every failure class from its real cause. The far ends are threads over `std::net`, so that each test
//! says in a line what its endpoint does.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod egress;
mod proxy;
mod tls;

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use backstop::core::attempt::{Answer, FailureClass, RESPONSE_HEADERS_KEPT_MAX_BYTES, RESPONSE_KEPT_MAX_BYTES, Reply};
use backstop::core::endpoint::Endpoint;
use backstop::core::event::{Draft, Event, Header};
use backstop::core::id::{EventId, ReplayId};
use backstop::core::name::Name;
use backstop::core::sign::{Secret, Signing};
use backstop::core::timestamp::Timestamp;
use backstop::deliver::HttpTransport;
use backstop::egress::Guard;
use backstop::engine::{Sending, Transport as _};
use bytes::Bytes;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A self-signed certificate for localhost and 127.0.0.1, good for this test and nothing else, until 2100.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBbDCCARKgAwIBAgIBATAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1iYWNrc3Rv
cCB0ZXN0MCAXDTAwMDEwMTAwMDAwMFoYDzIxMDAwMTAxMDAwMDAwWjAYMRYwFAYD
VQQDDA1iYWNrc3RvcCB0ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8O5+
W7ZuXvL0rt6WHF4EmaTnM657GFRWFVDtQnkQczcjdaaNRf88VMbyPrqBgTPoWeD4
D0533VLMpJe52vDnUaNLMEkwDAYDVR0TAQH/BAIwADAaBgNVHREEEzARgglsb2Nh
bGhvc3SHBH8AAAEwHQYDVR0OBBYEFI0vhdnofGyHONohWx9W5GluH8qkMAoGCCqG
SM49BAMCA0gAMEUCIQDGYYb4WonOqykUeYdc46zBnSy6BqxBERbDx5/DdWWlPQIg
JXBq30KWij4Ajmq08Sd6xphr1eXIrxnd/yQYVo2zP8g=
-----END CERTIFICATE-----";
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglDW5L1bC16vVXHIl
aia4o7UfYFWl1hJIw1rSmNRd1/+hRANCAATw7n5btm5e8vSu3pYcXgSZpOczrnsY
VFYVUO1CeRBzNyN1po1F/zxUxvI+uoGBM+hZ4PgPTnfdUsykl7na8OdR
-----END PRIVATE KEY-----";

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// More than two kernels' socket buffers hold, so that it cannot be sent while nobody reads.
const BIG_BODY_BYTES: usize = 64 * 1024 * 1024;
/// For tests in which the timeout is the thing under test.
const SHORT: Duration = Duration::from_millis(250);
/// For all others: never reached.
const LONG: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A request as it came off the wire.
struct Request {
    line: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// Every value of header `name`, in order.
    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// The value of header `name`, which must stand once, as text.
    fn one(&self, name: &str) -> &str {
        let values = self.all(name);
        assert_eq!(values.len(), 1, "{name}");
        std::str::from_utf8(values[0]).unwrap()
    }
}

/// Reads one whole request; `None` if the connection ends before one begins.
fn read_request(stream: &mut impl BufRead) -> Option<Request> {
    let line = |stream: &mut dyn BufRead| {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).unwrap_or(0);
        line.strip_suffix(b"\r\n").map(<[u8]>::to_vec)
    };
    let first = String::from_utf8(line(stream)?).unwrap();
    let mut headers = Vec::new();
    while let Some(header) = line(stream).filter(|header| !header.is_empty()) {
        let colon = header.iter().position(|byte| *byte == b':').unwrap();
        let name = String::from_utf8(header[..colon].to_vec()).unwrap();
        headers.push((name, header[colon + 1..].trim_ascii().to_vec()));
    }
    let mut request = Request { line: first, headers, body: Vec::new() };
    let length: usize = request.one("content-length").parse().unwrap();
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).unwrap();
    Some(request)
}

/// An endpoint that does `script` with each connection it gets, one after the other.
fn endpoint(mut script: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(|stream| script(stream.unwrap())));
    address
}

/// An endpoint that gives each request on each connection the same answer, and reports what it was asked
/// together with the number of the connection.
fn answering(answer: impl Into<Vec<u8>>) -> (SocketAddr, mpsc::Receiver<(usize, Request)>) {
    let (seen, requests) = mpsc::channel();
    let (answer, mut connection) = (answer.into(), 0);
    let address = endpoint(move |stream| {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            seen.send((connection, request)).ok();
            reader.get_mut().write_all(&answer).ok();
        }
        connection += 1;
    });
    (address, requests)
}

fn header(name: &str, value: &'static [u8]) -> Header {
    Header { name: name.to_owned(), value: Bytes::from_static(value) }
}

fn target(url: impl ToString) -> Endpoint {
    Endpoint { connect_timeout: LONG, timeout: LONG, ..Endpoint::new(Name::new("crm").unwrap(), url.to_string()) }
}

fn draft(headers: Vec<Header>, body: impl Into<Bytes>) -> Draft {
    Draft {
        source: Name::new("flyflow").unwrap(),
        event_type: "call_ended".to_owned(),
        key: Some("abc123".to_owned()),
        occurred_at: None,
        headers,
        body: body.into(),
        dedup: None,
        endpoints: vec![],
    }
}

fn sending(endpoint: Endpoint, draft: Draft) -> Sending {
    let id = EventId::floor(NOW);
    let event = Arc::new(Event { id, received_at: NOW, draft });
    let endpoint = Arc::new(endpoint);
    Sending { endpoint, event, delivery: id.delivery(3), attempt: 2, replay: None, again: false, now: NOW }
}

fn transport() -> HttpTransport {
    HttpTransport::new(RootCertStore::empty(), Guard::default())
}

/// What comes back from `endpoint` for a small body.
async fn reply(endpoint: Endpoint) -> Reply {
    transport().send(sending(endpoint, draft(vec![], "{}"))).await
}

/// The failure's class; its text must be there and hold nothing of the URL's query.
fn class(reply: Reply) -> FailureClass {
    let Reply::Failure(failure) = reply else { panic!("{reply:?}") };
    assert!(!failure.detail.is_empty() && !failure.detail.contains("hunter2"), "{failure:?}");
    failure.class
}

fn answer(reply: Reply) -> Answer {
    let Reply::Answer(answer) = reply else { panic!("{reply:?}") };
    answer
}

#[tokio::test]
async fn body_and_headers_go_out_byte_for_byte() {
    let (address, requests) = answering(OK);
    let body: Vec<u8> = (0..100_000u32).map(|index| (index % 251) as u8).collect();
    let sent = vec![
        header("content-type", b"application/x-thing; charset=latin-1"),
        header("x-many", b"one"),
        header("x-other", b"caf\xe9 \xff"),
        header("x-many", b"two"),
        header("x-empty", b""),
        header("x-hub-signature-256", b"sha256=from-the-sender"),
    ];
    let reply = transport().send(sending(target(format!("http://{address}/a/b?c=%20d")), draft(sent, body.clone())));
    assert_eq!(answer(reply.await).body, "ok");
    let (_, request) = requests.recv().unwrap();
    assert_eq!(request.line, "POST /a/b?c=%20d HTTP/1.1");
    assert_eq!(request.one("content-type"), "application/x-thing; charset=latin-1");
    assert_eq!(request.all("x-many"), [b"one", b"two"]);
    assert_eq!(request.all("x-other"), [b"caf\xe9 \xff"]);
    assert_eq!(request.all("x-empty"), [b""]);
    assert_eq!(request.one("x-hub-signature-256"), "sha256=from-the-sender");
    assert_eq!(request.one("host"), address.to_string());
    assert!(request.body == body);
}

#[tokio::test]
async fn what_was_meant_for_us_stays_with_us() {
    let (address, requests) = answering(OK);
    let denied = [
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "accept-encoding",
        "authorization",
        "cookie",
        "webhook-signature",
        "webhook-anything",
        "backstop-replay",
        "x-nominated",
        "connection",
    ];
    let mut sent: Vec<Header> = denied.iter().map(|name| header(name, b"X-Nominated, keep-alive")).collect();
    sent.push(header("host", b"the-gateway"));
    sent.push(header("content-length", b"999"));
    sent.push(header("user-agent", b"flyflow"));
    let reply = transport().send(sending(target(format!("http://{address}/")), draft(sent, "{}"))).await;
    assert_eq!(answer(reply).status, 200);
    let (_, request) = requests.recv().unwrap();
    for name in denied {
        assert!(request.all(name).is_empty(), "{name}");
    }
    assert_eq!(request.one("host"), address.to_string());
    assert_eq!(request.one("content-length"), "2");
    assert_eq!(request.one("user-agent"), concat!("backstop/", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn the_endpoints_headers_win_over_the_senders_and_ours_over_both() {
    let (address, requests) = answering(OK);
    let signing = Signing::Standard(vec![Secret::standard("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()]);
    let mut endpoint = target(format!("http://{address}/"));
    endpoint.signing = signing.clone();
    endpoint.headers = vec![
        header("x-team", b"ours"),
        header("authorization", b"Bearer t0ken"),
        header("webhook-id", b"forged"),
        header("content-length", b"7"),
    ];
    let sent = vec![header("x-team", b"theirs"), header("x-team", b"theirs too")];
    let mut sending = sending(endpoint, draft(sent, "{}"));
    sending.replay = Some(ReplayId::from_u128(7));
    let id = sending.event.id.to_string();
    assert_eq!(answer(transport().send(sending.clone()).await).status, 200);
    let (_, request) = requests.recv().unwrap();
    assert_eq!(request.one("x-team"), "ours");
    assert_eq!(request.one("authorization"), "Bearer t0ken");
    assert_eq!(request.one("content-length"), "2");
    for (name, value) in signing.headers(&id, NOW, b"{}") {
        assert_eq!(request.one(name), value);
    }
    assert_eq!(request.one("backstop-delivery"), sending.delivery.to_string());
    assert_eq!(request.one("backstop-attempt"), "2");
    assert_eq!(request.one("backstop-received-at"), "2023-11-14T22:13:20.000Z");
    assert_eq!(request.one("backstop-event-type"), "call_ended");
    assert_eq!(request.one("backstop-key"), "abc123");
    assert_eq!(request.one("backstop-replay"), ReplayId::from_u128(7).to_string());
}

#[tokio::test]
async fn a_trace_context_passes_as_it_came_or_not_at_all() {
    const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (address, requests) = answering(OK);
    let url = format!("http://{address}/");
    let transport = transport();
    let sent = async |endpoint: Endpoint, headers: Vec<Header>| {
        assert_eq!(answer(transport.send(sending(endpoint, draft(headers, "{}"))).await).status, 200);
        let request = requests.recv().unwrap().1;
        ["traceparent", "tracestate"].map(|name| request.all(name).concat())
    };
    let state = || header("tracestate", b"congo=t61rcWkgMzE");
    let whole = || vec![header("traceparent", PARENT), state()];
    assert_eq!(sent(target(&url), whole()).await, [PARENT, b"congo=t61rcWkgMzE"]);
    // What was stored before it was looked at.
    assert_eq!(sent(target(&url), vec![header("traceparent", b"00-nonsense"), state()]).await, [b"", b""]);
    assert_eq!(sent(target(&url), vec![state()]).await, [b"", b""]);
    let own = Endpoint { headers: vec![header("traceparent", b"of its own")], ..target(&url) };
    assert_eq!(sent(own, whole()).await, [&b"of its own"[..], b""]);
}

#[tokio::test]
async fn an_empty_body_and_an_odd_key_arrive_too() {
    let (address, requests) = answering(OK);
    let odd = Draft { key: Some("ключ 1\r\n%".to_owned()), ..draft(vec![], "") };
    let by_hand = Sending { again: true, ..sending(target(format!("http://{address}/")), odd) };
    assert_eq!(answer(transport().send(by_hand).await).status, 200);
    let (_, request) = requests.recv().unwrap();
    assert_eq!(request.one("content-length"), "0");
    assert_eq!(request.one("backstop-key"), "%D0%BA%D0%BB%D1%8E%D1%87%201%0D%0A%25");
    assert_eq!(request.one("backstop-replay"), "manual");
    assert!(request.all("content-type").is_empty());
}

#[tokio::test]
async fn connections_are_kept_and_shared_by_endpoints_with_equal_connect_timeouts() {
    let (address, requests) = answering(OK);
    let transport = transport();
    for path in ["a", "b", "c"] {
        let sending = sending(target(format!("http://{address}/{path}")), draft(vec![], "{}"));
        assert_eq!(answer(transport.send(sending).await).body, "ok");
        assert_eq!(requests.recv().unwrap().0, 0);
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (address, requests) = answering("HTTP/1.1 307 No\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
    let transport = transport();
    for path in ["/one", "/two"] {
        let got = answer(transport.send(sending(target(format!("http://{address}{path}")), draft(vec![], ""))).await);
        assert_eq!((got.status, got.headers[0].clone()), (307, header("location", b"/elsewhere")));
        assert_eq!(requests.recv().unwrap().1.line, format!("POST {path} HTTP/1.1"));
    }
}

#[tokio::test]
async fn retry_after_is_a_span_from_the_end() {
    let with = |value| format!("HTTP/1.1 503 Busy\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
    let (address, _requests) = answering(with("120"));
    let got = answer(reply(target(format!("http://{address}/"))).await);
    assert_eq!((got.status, got.retry_after), (503, Some(Duration::from_secs(120))));
    let (address, _requests) = answering(with("Tue, 14 Nov 2023 23:13:20 GMT"));
    let until = answer(reply(target(format!("http://{address}/"))).await).retry_after.unwrap();
    assert!(until <= Duration::from_secs(3600) && until > Duration::from_secs(3540), "{until:?}");
    let (address, _requests) = answering(with("soon"));
    assert_eq!(answer(reply(target(format!("http://{address}/"))).await).retry_after, None);
}

// The connection is dropped by a task, which needs a thread while this one waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endless_answer_is_cut_and_its_connection_dropped() {
    let (gave_up, dropped) = mpsc::channel();
    let address = endpoint(move |stream| {
        let mut reader = BufReader::new(stream);
        read_request(&mut reader).unwrap();
        let mut stream = reader.into_inner();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(b"5\r\nAgain\r\n").is_ok() {}
        gave_up.send(()).unwrap();
    });
    let got = answer(reply(target(format!("http://{address}/"))).await);
    assert_eq!((got.status, got.body.len(), got.body_cut), (200, RESPONSE_KEPT_MAX_BYTES, true));
    assert!(got.body.starts_with(b"AgainAgain"));
    dropped.recv_timeout(LONG).unwrap();
}

#[tokio::test]
async fn an_answer_as_long_as_the_cap_is_whole() {
    for (length, cut) in [(RESPONSE_KEPT_MAX_BYTES, false), (RESPONSE_KEPT_MAX_BYTES + 1, true)] {
        let body = "x".repeat(length);
        let (address, _requests) = answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"));
        let got = answer(reply(target(format!("http://{address}/"))).await);
        assert_eq!((got.body.len(), got.body_cut), (RESPONSE_KEPT_MAX_BYTES, cut));
    }
}

#[tokio::test]
async fn answer_headers_are_kept_up_to_their_cap() {
    let long = "y".repeat(RESPONSE_HEADERS_KEPT_MAX_BYTES);
    let (address, _requests) =
        answering(format!("HTTP/1.1 200 OK\r\nx-a: 1\r\nx-long: {long}\r\nx-b: 2\r\ncontent-length: 0\r\n\r\n"));
    let kept = answer(reply(target(format!("http://{address}/"))).await).headers;
    assert_eq!(kept, [header("x-a", b"1"), header("x-b", b"2"), header("content-length", b"0")]);
}

#[tokio::test]
async fn an_answer_that_stalls_or_breaks_off_still_counts_by_its_status() {
    let partial = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst";
    let (address, _requests) = answering(partial);
    let stalled = answer(reply(Endpoint { timeout: SHORT, ..target(format!("http://{address}/")) }).await);
    let address = endpoint(|stream| {
        let mut reader = BufReader::new(stream);
        read_request(&mut reader).unwrap();
        reader.get_mut().write_all(partial).unwrap();
    });
    let broken = answer(reply(target(format!("http://{address}/"))).await);
    for got in [stalled, broken] {
        assert_eq!((got.status, &got.body[..], got.body_cut), (200, &b"first"[..], true));
    }
}

#[tokio::test]
async fn a_name_without_address_is_dns() {
    assert_eq!(class(reply(target("http://nothing.invalid/?token=hunter2")).await), FailureClass::Dns);
}

#[tokio::test]
async fn a_port_without_listener_is_refused() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(class(reply(target(format!("http://{address}/?token=hunter2"))).await), FailureClass::Refused);
    assert_eq!(class(reply(target(format!("https://{address}/?token=hunter2"))).await), FailureClass::Refused);
}

#[tokio::test]
async fn a_host_that_does_not_take_the_connection_is_unreachable() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connection) = tokio::time::timeout(SHORT, tokio::net::TcpStream::connect(address)).await {
        waiting.push(connection.unwrap());
    }
    let endpoint = Endpoint { connect_timeout: SHORT, ..target(format!("http://{address}/?token=hunter2")) };
    assert_eq!(class(reply(endpoint).await), FailureClass::Unreachable);
    let endpoint = Endpoint { timeout: SHORT, ..target(format!("http://{address}/?token=hunter2")) };
    assert_eq!(class(reply(endpoint).await), FailureClass::TimeoutBeforeSent);
}

#[tokio::test]
async fn silence_is_a_timeout_before_or_after_the_body_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for (body, expected) in [
        (vec![], FailureClass::TimeoutAfterSent),
        (vec![1; 1000], FailureClass::TimeoutAfterSent),
        (vec![1; BIG_BODY_BYTES], FailureClass::TimeoutBeforeSent),
    ] {
        let endpoint = Endpoint { timeout: SHORT, ..target(format!("http://{address}/?token=hunter2")) };
        assert_eq!(class(transport().send(sending(endpoint, draft(vec![], body))).await), expected);
    }
}

#[tokio::test]
async fn a_hang_up_is_a_reset_before_or_after_the_body_was_sent() {
    let halfway = endpoint(|mut stream| stream.read_exact(&mut [0; 4096]).unwrap()); // unread bytes make the close a RST
    let big = sending(target(format!("http://{halfway}/?token=hunter2")), draft(vec![], vec![1; BIG_BODY_BYTES]));
    assert_eq!(class(transport().send(big).await), FailureClass::ResetBeforeSent);

    for part in ["", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let at_the_end = endpoint(move |stream| {
            let mut reader = BufReader::new(stream);
            read_request(&mut reader).unwrap();
            reader.get_mut().write_all(part.as_bytes()).unwrap();
        });
        let endpoint = target(format!("http://{at_the_end}/?token=hunter2"));
        assert_eq!(class(reply(endpoint).await), FailureClass::ResetAfterSent, "{part}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_a_protocol_failure() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: 1\r\n".repeat(10_000));
    for garbage in ["SSH-2.0-OpenSSH_9.9\r\n\r\n", "HTTP/1.1 two hundred\r\n\r\n", &many] {
        let (address, _requests) = answering(garbage);
        let endpoint = target(format!("http://{address}/?token=hunter2"));
        assert_eq!(class(reply(endpoint).await), FailureClass::Protocol);
    }
}

#[tokio::test]
async fn tls_to_a_plain_port_or_a_hang_up_in_the_handshake_is_tls() {
    let plain = endpoint(|mut stream| {
        stream.read_exact(&mut [0; 64]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    assert_eq!(class(reply(target(format!("https://{plain}/?token=hunter2"))).await), FailureClass::Tls);
    let closing = endpoint(drop);
    assert_eq!(class(reply(target(format!("https://{closing}/?token=hunter2"))).await), FailureClass::Tls);
}

#[tokio::test]
async fn tls_delivers_to_a_trusted_certificate_and_to_no_other() {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(PRIVATE_KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let address = endpoint(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut reader = BufReader::new(StreamOwned::new(connection, stream));
        if read_request(&mut reader).is_some() {
            reader.get_mut().write_all(OK).unwrap();
        }
    });
    let endpoint = target(format!("https://localhost:{}/?token=hunter2", address.port()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let trusting = HttpTransport::new(roots, Guard::default());
    let sending = sending(endpoint, draft(vec![], "{}"));
    assert_eq!(answer(trusting.send(sending.clone()).await).body, "ok");
    assert_eq!(class(transport().send(sending).await), FailureClass::Tls);
}

#[tokio::test]
async fn what_cannot_be_built_is_not_sent_and_says_why_without_the_value() {
    for url in ["", "hunter2", "ftp://host/?token=hunter2", "http://[::hunter2]/"] {
        assert_eq!(class(reply(target(url)).await), FailureClass::NotSent, "{url}");
    }
    for bad in [header("x-token", b"hunter2\n"), header("no name hunter2", b"")] {
        let endpoint = Endpoint { headers: vec![bad], ..target("http://127.0.0.1:1/") };
        assert_eq!(class(reply(endpoint).await), FailureClass::NotSent);
    }
}
