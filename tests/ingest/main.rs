//! The front door against real sockets: every status at its edge, what is stored byte for byte, what is
//! counted. The engine is the real one, over the journal's model with faults that a test can switch on.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod traced;
mod verify;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use backstop::core::attempt::{Attempt, Reply};
use backstop::core::delivery::Delivery;
use backstop::core::event::{Event, EventHead, KeyTag};
use backstop::core::filter::Filter;
use backstop::core::id::{DeliveryId, EventId};
use backstop::core::name::Name;
use backstop::core::replay::Replay;
use backstop::core::route::RouteTable;
use backstop::core::scheduler::{Active, Fresh, Limits};
use backstop::core::source::{Ack, DedupRule, Place, Source};
use backstop::core::standing::Standing;
use backstop::core::verify::Verification;
use backstop::engine::{Engine, Parts, Sending, SystemClock, Transport};
use backstop::ingest::{self, HEADERS_KEPT_MAX_BYTES};
use backstop::journal::audit::{Audit, Span};
use backstop::journal::memory::MemoryJournal;
use backstop::journal::refused::Refusals;
use backstop::journal::{Change, Counters, EventView, Journal, JournalError, Page, Query, Receipt};
use backstop::listener::{self, Listener};
use backstop::telemetry::Intake;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::sync::watch;

/// Never reached: a test that hangs fails by it.
const LONG: Duration = Duration::from_secs(60);
const CAP: usize = 1000;
const CALL: &str = r#"{"event_type":"call_ended","call_id":"abc123","timestamp":"2023-06-08T10:30:00Z","data":{}}"#;

/// The model, with faults.
#[derive(Default)]
struct Faulty {
    model: MemoryJournal,
    full: AtomicBool,
    failed: AtomicBool,
    /// Taken by the next commit: it says that it has begun and waits.
    gate: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

type EventPage = Page<EventView, EventId>;
type DeliveryPage = Page<(EventHead, Delivery), DeliveryId>;

impl Journal for Faulty {
    fn commit(&self, changes: &[Change]) -> Result<Vec<Receipt>, JournalError> {
        if let Some((begun, go)) = self.gate.lock().unwrap().take() {
            begun.send(()).unwrap();
            go.recv().unwrap();
        }
        if self.failed.load(Ordering::SeqCst) {
            return Err(JournalError::Failed("the test says so".to_owned()));
        }
        self.model.commit(changes)
    }
    fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }
    fn fresh(&self, endpoint: &Name, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        self.model.fresh(endpoint, after, limit)
    }
    fn fresh_of_key(&self, endpoint: &Name, key: KeyTag, after: EventId, limit: usize) -> Result<Fresh, JournalError> {
        self.model.fresh_of_key(endpoint, key, after, limit)
    }
    fn standing(&self, endpoint: &Name) -> Standing {
        self.model.standing(endpoint)
    }
    fn standings(&self) -> Vec<(Name, Standing)> {
        self.model.standings()
    }
    fn waiting(&self, endpoint: &Name, limit: usize) -> Result<(Vec<Active>, bool), JournalError> {
        self.model.waiting(endpoint, limit)
    }
    fn set_mark(&self, endpoint: &Name, mark: EventId) {
        self.model.set_mark(endpoint, mark);
    }
    fn mark(&self, endpoint: &Name) -> EventId {
        self.model.mark(endpoint)
    }
    fn entry(&self, id: EventId) -> Result<Option<EventView>, JournalError> {
        self.model.entry(id)
    }
    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, JournalError> {
        self.model.event(id)
    }
    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, JournalError> {
        self.model.attempts(id)
    }
    fn events(&self, query: &Query<EventId>) -> Result<EventPage, JournalError> {
        self.model.events(query)
    }
    fn deliveries(&self, query: &Query<DeliveryId>) -> Result<DeliveryPage, JournalError> {
        self.model.deliveries(query)
    }
    fn replays(&self) -> Result<Vec<Replay>, JournalError> {
        self.model.replays()
    }
    fn counters(&self) -> Counters {
        self.model.counters()
    }
    fn audit(&self, span: Span) -> Result<Audit, JournalError> {
        self.model.audit(span)
    }
    fn last_id(&self) -> u128 {
        self.model.last_id()
    }
    fn close(&self) -> Result<(), JournalError> {
        self.model.close()
    }
}

/// There are no endpoints, so nothing is ever sent.
struct NoTransport;

impl Transport for NoTransport {
    fn send(&self, _: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(std::future::pending())
    }
}

/// A door that stands open until it is dropped.
struct Door {
    address: SocketAddr,
    journal: Arc<Faulty>,
    engine: Engine,
    intake: Arc<Intake>,
    _stop: watch::Sender<bool>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The problem that the body must be.
    fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.head);
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }

    fn id(&self) -> EventId {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["id"].as_str().unwrap().parse().unwrap()
    }
}

fn plain(name: &str) -> Source {
    Source {
        name: Name::new(name).unwrap(),
        verification: Verification::default(),
        type_at: vec![],
        key_at: vec![],
        time_at: vec![],
        strict: false,
        dedup: DedupRule::Off,
        dedup_window: LONG,
        body_max_bytes: CAP,
        body_timeout: LONG,
        rate: None,
        lifecycle: None,
        ack: Ack { status: 202, body: None, content_type: "application/json".to_owned() },
    }
}

fn flyflow() -> Source {
    Source {
        type_at: vec![Place::Pointer("/event_type".to_owned())],
        key_at: vec![Place::Pointer("/call_id".to_owned())],
        time_at: vec![Place::Pointer("/timestamp".to_owned())],
        dedup: DedupRule::Fields { pointers: vec!["/event_type".to_owned(), "/call_id".to_owned()], body: true },
        ..plain("flyflow")
    }
}

async fn open(sources: Vec<Source>) -> Door {
    open_with(sources, 64, 64).await
}

async fn open_with(sources: Vec<Source>, accept_queue_max: usize, connections_max: u32) -> Door {
    open_keeping(sources, accept_queue_max, connections_max, Refusals::default()).await
}

async fn open_keeping(sources: Vec<Source>, accept_queue_max: usize, connections_max: u32, refusals: Refusals) -> Door {
    let journal = Arc::new(Faulty::default());
    let engine = Engine::start(Parts {
        journal: Arc::clone(&journal) as Arc<dyn Journal>,
        clock: Arc::new(SystemClock),
        transport: Arc::new(NoTransport),
        endpoints: vec![],
        routes: RouteTable::default(),
        lifecycles: vec![],
        retention: backstop::core::retention::Retention::default(),
        limits: Limits { active_max: 10, ordered_max: 1000, in_flight_max: 10 },
        recent_max_bytes: 1 << 20,
        accept_queue_max,
        seed: 1,
    })
    .unwrap();
    let intake = Arc::new(Intake::default());
    let filter = ingest::filter(ingest::Door::new(sources, None, engine.clone(), Arc::clone(&intake), refusals));
    let limits = listener::Limits { connections_max, header_timeout: LONG, ..listener::Limits::default() };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(listener.serve(TowerToHyperService::new(warp::service(filter)), stopped, LONG));
    Door { address, journal, engine, intake, _stop: stop }
}

impl Door {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Sends raw bytes and reads the one answer.
    fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).unwrap();
        answer(&mut BufReader::new(stream))
    }

    fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n");
        self.raw([head.as_bytes(), body].concat())
    }

    fn post(&self, source: &str, body: &[u8]) -> Answer {
        self.request("POST", &format!("/in/{source}"), "", body)
    }

    fn event(&self, id: EventId) -> Arc<Event> {
        self.journal.event(id).unwrap().unwrap()
    }

    fn stored(&self) -> usize {
        let query = Query { filter: Filter::default(), after: None, newest_first: false, limit: 1000 };
        self.journal.events(&query).unwrap().items.len()
    }

    fn turned(&self, reason: &str) -> u64 {
        self.intake.counts()[reason]
    }
}

/// Reads one answer, by its Content-Length.
fn answer(stream: &mut BufReader<TcpStream>) -> Answer {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "the connection ended within {head:?}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new() };
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    stream.take(length).read_to_string(&mut answer.body).unwrap();
    answer
}

fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut request = b"POST /in/plain HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(chunk_bytes) {
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

fn at_end(mut stream: BufReader<TcpStream>) -> bool {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    rest.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_event_is_stored_as_it_was_read() {
    let door = open(vec![flyflow()]).await;
    let answer = door.post("flyflow", CALL.as_bytes());
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("backstop-duplicate"), None);
    let event = door.event(answer.id());
    assert_eq!(event.draft.body, CALL);
    assert_eq!((event.draft.event_type.as_str(), event.draft.key.as_deref()), ("call_ended", Some("abc123")));
    assert!(event.draft.occurred_at.is_some());
    assert!(door.intake.counts().values().all(|count| *count == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn scalars_are_read_as_text_and_nothing_else_is() {
    let door = open(vec![flyflow()]).await;
    let deep = format!("{}{}", "[".repeat(400), "]".repeat(400));
    for (body, event_type) in [
        (r#"{"event_type":7}"#, "7"),
        (r#"{"event_type":-1.5}"#, "-1.5"),
        (r#"{"event_type":true}"#, "true"),
        (r#"{"event_type":"a","event_type":"b"}"#, "b"),
        (r#"{"event_type":null}"#, "unknown"),
        (r#"{"event_type":["a"]}"#, "unknown"),
        (r#"{"event_type":{"a":1}}"#, "unknown"),
        (r#"{"event_type":""}"#, "unknown"),
        (r#""event_type""#, "unknown"),
        (deep.as_str(), "unknown"),
    ] {
        let answer = door.post("flyflow", body.as_bytes());
        assert_eq!(door.event(answer.id()).draft.event_type, event_type, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_is_kept_byte_for_byte() {
    let door = open(vec![flyflow(), plain("plain")]).await;
    let all: Vec<u8> = (0..=255).collect();
    for body in [&b""[..], b"\xff\x00 not json", b"{\"event_type\":", &all] {
        for source in ["flyflow", "plain"] {
            let answer = door.post(source, body);
            assert_eq!(answer.status, 202);
            let event = door.event(answer.id());
            assert_eq!(&event.draft.body[..], body);
            assert_eq!(event.draft.event_type, "unknown");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_read_as_a_small_one_is() {
    let door = open(vec![Source { body_max_bytes: 4 << 20, ..flyflow() }]).await;
    let body = format!(r#"{{"event_type":"big","pad":"{}"}}"#, "x".repeat(3 << 20));
    let event = door.event(door.post("flyflow", body.as_bytes()).id());
    assert_eq!(event.draft.event_type, "big");
    assert!(event.draft.body == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cap_is_exact_however_the_body_comes() {
    let door = open(vec![plain("plain")]).await;
    let (fits, over) = (vec![b'x'; CAP], vec![b'x'; CAP + 1]);
    for chunk_bytes in [1, 7, CAP, CAP + 1] {
        let answer = door.raw(chunked(&fits, chunk_bytes));
        assert_eq!(&door.event(answer.id()).draft.body[..], fits);
        assert_eq!(door.raw(chunked(&over, chunk_bytes)).status, 413);
    }
    assert_eq!(door.post("plain", &fits).status, 202);
    let answer = door.post("plain", &over);
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert_eq!(answer.problem()["body_max_bytes"], CAP);
    assert_eq!((door.stored(), door.turned("too_large")), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_declared_too_large_is_refused_unread_and_its_sender_hears_of_it() {
    let door = open(vec![plain("plain")]).await;
    // Nothing of the body is sent: the answer does not wait for it.
    let answer = door.raw("POST /in/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n");
    assert_eq!(answer.status, 413);
    // Nor is a sender asked for it who asks first.
    let answer = door.raw("POST /in/plain HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n");
    assert_eq!(answer.status, 413);
    // One who writes first and reads then sees the answer, not a reset.
    for path in ["/in/plain", "/in/nobody"] {
        let answer = door.request("POST", path, "", &vec![b'x'; 8 << 20]);
        assert_eq!(answer.status, if path == "/in/plain" { 413 } else { 404 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_given_up_and_the_connection_closed() {
    let door = open(vec![Source { body_timeout: Duration::from_millis(50), ..plain("plain") }]).await;
    let mut stream = BufReader::new(door.connect());
    stream.get_mut().write_all(b"POST /in/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345").unwrap();
    let answer = answer(&mut stream);
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    answer.problem();
    assert!(at_end(stream));
    assert_eq!((door.stored(), door.turned("slow")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn path_comes_before_method() {
    let door = open(vec![plain("plain")]).await;
    for (method, path, status, allow) in [
        ("GET", "/in/plain", 405, Some("POST")),
        ("PUT", "/in/plain", 405, Some("POST")),
        ("OPTIONS", "/in/plain", 405, Some("POST")),
        ("GET", "/in/nobody", 404, None),
        ("POST", "/in/nobody", 404, None),
        ("POST", "/in/PLAIN", 404, None),
        ("POST", "/in/", 404, None),
        ("POST", "/in/plain/more", 404, None),
        ("POST", "/", 404, None),
        ("POST", "/livez", 405, Some("GET, HEAD")),
    ] {
        let answer = door.request(method, path, "", b"");
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {path}");
        answer.problem();
    }
    assert_eq!((door.turned("method"), door.turned("unknown_source"), door.stored()), (3, 6, 0));
    assert_eq!(door.request("POST", "/in/plain?token=1", "", b"").status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_source_names_what_is_missing() {
    let door = open(vec![Source { strict: true, ..flyflow() }]).await;
    assert_eq!(door.post("flyflow", CALL.as_bytes()).status, 202);
    for (body, field) in [
        (CALL.replace("call_id", "id"), Some("/call_id")),
        (CALL.replace("2023-06", "yesterday"), Some("/timestamp")),
        ("{}".to_owned(), Some("/event_type")),
        ("nope".to_owned(), None),
        (String::new(), None),
    ] {
        let answer = door.post("flyflow", body.as_bytes());
        assert_eq!(answer.status, 422, "{body}");
        let problem = answer.problem();
        assert_eq!(problem.get("field").and_then(Value::as_str), field);
        assert!(field.is_none_or(|field| problem["detail"].as_str().unwrap().contains(field)));
    }
    assert_eq!((door.stored(), door.turned("unreadable")), (1, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_answered_as_the_first_was() {
    let door = open(vec![flyflow()]).await;
    let first = door.post("flyflow", CALL.as_bytes());
    let second = door.post("flyflow", CALL.as_bytes());
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert_eq!((first.header("backstop-duplicate"), second.header("backstop-duplicate")), (None, Some("true")));
    assert_ne!(door.post("flyflow", CALL.replace("{}", "[]").as_bytes()).id(), first.id());
    assert_eq!((door.stored(), door.turned("duplicate")), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_source_acknowledges_in_its_own_form() {
    let ack = |name: &str, status, body: Option<&str>, content_type: &str| Source {
        ack: Ack { status, body: body.map(str::to_owned), content_type: content_type.to_owned() },
        ..plain(name)
    };
    let door = open(vec![
        ack("text", 200, Some("ok"), "text/plain"),
        ack("none", 204, Some(""), "text/plain"),
        ack("id", 201, Some("<id>{id}</id>"), "text/xml"),
        ack("empty", 200, Some(""), "text/plain"),
    ])
    .await;
    let answer = door.post("text", b"1");
    assert_eq!((answer.status, &*answer.body, answer.header("content-type")), (200, "ok", Some("text/plain")));
    let answer = door.post("none", b"1");
    assert_eq!((answer.status, answer.header("content-type"), answer.header("content-length")), (204, None, None));
    let answer = door.post("id", b"1");
    assert_eq!((answer.status, answer.header("content-type")), (201, Some("text/xml")));
    let id = answer.body.strip_prefix("<id>").and_then(|rest| rest.strip_suffix("</id>")).unwrap();
    assert_eq!(&door.event(id.parse().unwrap()).draft.body[..], b"1");
    let answer = door.post("empty", b"1");
    assert_eq!((answer.status, &*answer.body, answer.header("content-type")), (200, "", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_senders_headers_are_kept_but_not_the_connections() {
    let door = open(vec![plain("plain")]).await;
    let request = b"POST /in/plain HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-Many: one\r\nX-Latin: caf\xe9\r\n\
        X-Many: two\r\nContent-Type: a/b; c=d\r\nX-Empty:\r\nTE: trailers\r\nKeep-Alive: 5\r\nX-Hop: 1\r\n\
        Proxy-Authorization: Basic x\r\nConnection: keep-alive, X-HOP\r\nUpgrade: h2c\r\n\r\n";
    let event = door.event(door.raw(request).id());
    let mut kept: Vec<(&str, &[u8])> =
        event.draft.headers.iter().map(|header| (header.name.as_str(), &header.value[..])).collect();
    kept.sort_by_key(|(name, _)| *name);
    let expected: [(&str, &[u8]); 5] = [
        ("content-type", b"a/b; c=d"),
        ("x-empty", b""),
        ("x-latin", b"caf\xe9"),
        ("x-many", b"one"),
        ("x-many", b"two"),
    ];
    assert_eq!(kept, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_headers_to_keep_are_bounded() {
    let door = open(vec![plain("plain")]).await;
    let with = |bytes: usize| door.request("POST", "/in/plain", &format!("x: {}\r\n", "y".repeat(bytes)), b"");
    assert_eq!(with(HEADERS_KEPT_MAX_BYTES - 1).status, 202);
    let answer = with(HEADERS_KEPT_MAX_BYTES);
    assert_eq!(answer.status, 431);
    answer.problem();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_now_is_never_acknowledged() {
    let door = open(vec![plain("plain")]).await;
    let refused = |retry_after: &str| {
        let answer = door.post("plain", b"1");
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some(retry_after)));
        answer.problem();
    };
    let probe = |path: &str| door.request("GET", path, "", b"").status;
    assert_eq!((probe("/livez"), probe("/readyz")), (200, 200));
    door.journal.full.store(true, Ordering::SeqCst);
    refused("30");
    assert_eq!((probe("/livez"), probe("/readyz")), (200, 503));
    door.journal.full.store(false, Ordering::SeqCst);
    assert_eq!(door.post("plain", b"1").status, 202);
    door.journal.failed.store(true, Ordering::SeqCst);
    refused("5");
    refused("5");
    assert_eq!((probe("/livez"), probe("/readyz")), (503, 503));
    assert_eq!((door.stored(), door.turned("unavailable")), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_being_stopped_the_gateway_lives_but_takes_nothing() {
    let door = open(vec![plain("plain")]).await;
    door.engine.stop(LONG).await.unwrap();
    let answer = door.post("plain", b"1");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(door.request("GET", "/livez", "", b"").status, 200);
    let answer = door.request("GET", "/readyz", "", b"");
    assert!(answer.problem()["detail"].as_str().unwrap().contains("stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_too_many_for_the_disk_is_told_to_come_again() {
    let door = open_with(vec![plain("plain")], 1, 64).await;
    let (begun, has_begun) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    *door.journal.gate.lock().unwrap() = Some((begun, may_go));
    let mut waiting = BufReader::new(door.connect());
    waiting.get_mut().write_all(b"POST /in/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").unwrap();
    has_begun.recv().unwrap();
    let refused = door.post("plain", b"1");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    go.send(()).unwrap();
    assert_eq!(answer(&mut waiting).status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_goes_away_within_its_body_leaves_nothing_but_a_count() {
    let door = open_with(vec![plain("plain")], 64, 1).await;
    let mut stream = door.connect();
    stream.write_all(b"POST /in/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345").unwrap();
    drop(stream);
    // There is one permit: that this is answered proves that the other connection has ended.
    assert_eq!(door.post("plain", b"1").status, 202);
    assert_eq!((door.stored(), door.turned("slow")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ways_http_1_has_of_sending_a_request_all_work() {
    let door = open(vec![plain("plain")]).await;
    // Asking first.
    let mut stream = BufReader::new(door.connect());
    let head = b"POST /in/plain HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    stream.get_mut().write_all(head).unwrap();
    assert_eq!(answer(&mut stream).status, 100);
    stream.get_mut().write_all(b"ab").unwrap();
    let asked = answer(&mut stream);
    assert_eq!(&door.event(asked.id()).draft.body[..], b"ab");
    // Many at once, on the same connection.
    let one = b"POST /in/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n";
    let pipelined: Vec<u8> = (b'0'..=b'9').flat_map(|body| one.iter().copied().chain([body])).collect();
    stream.get_mut().write_all(&pipelined).unwrap();
    for body in b'0'..=b'9' {
        assert_eq!(&door.event(answer(&mut stream).id()).draft.body[..], [body]);
    }
    // By the old version, which ends with the connection.
    let mut stream = BufReader::new(door.connect());
    stream.get_mut().write_all(b"POST /in/plain HTTP/1.0\r\ncontent-length: 1\r\n\r\nz").unwrap();
    assert_eq!(&door.event(answer(&mut stream).id()).draft.body[..], b"z");
    assert!(at_end(stream));
}
