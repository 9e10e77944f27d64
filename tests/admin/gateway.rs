//! The gateway's inside under test: the real engine and admin routes, with everything around them by hand.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use backstop::admin::AdminState;
use backstop::admin::auth::Token;
use backstop::admin::gate;
use backstop::admin::holders::Holders;
use backstop::admin::hosts::Hosts;
use backstop::admin::pulse::Pulse;
use backstop::admin::refusals::Readmission;
use backstop::admin::register::Register;
use backstop::admin::reload::{Last, NotReloaded, Reload, Reloaded};
use backstop::admin::sessions::Sessions;
use backstop::admin::settings::Settings;
use backstop::admin::site::Site;
use backstop::core::attempt::{Answer, Failure, FailureClass, Reply, StatusSet};
use backstop::core::breaker::BreakerPolicy;
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::event::{Draft, Header};
use backstop::core::id::EventId;
use backstop::core::lifecycle::Lifecycle;
use backstop::core::name::Name;
use backstop::core::rate::Rate;
use backstop::core::retry::RetryPolicy;
use backstop::core::route::{Route, RouteTable};
use backstop::core::scheduler::Limits;
use backstop::core::sign::{Secret, Signing};
use backstop::core::source::{Ack, DedupRule, Place, Source};
use backstop::core::timestamp::Timestamp;
use backstop::core::verify::Verification;
use backstop::core::window::Concurrency;
use backstop::engine::{Clock, Engine, Parts, Sending, Transport};
use backstop::ingest::{importer, reader};
use backstop::journal::memory::MemoryJournal;
use backstop::journal::operations::{self, Operations};
use backstop::journal::refused::{self, Refusals};
use backstop::listener::{self, Listener};
use backstop::telemetry::Intake;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

pub(crate) const TOKEN: &str = "bst_0123456789abcdef0123456789abcdef";
pub(crate) const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const NOW: u64 = 1_700_000_000_000;
/// Never reached: what a test waits for comes, or the test fails.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A config that comes to what a test says, when it is read again.
pub(crate) struct TheConfig(pub(crate) Mutex<Result<Reloaded, NotReloaded>>);

impl Reload for TheConfig {
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Reloaded, NotReloaded>> + Send + '_>> {
        let outcome = self.0.lock().unwrap().clone();
        Box::pin(async { outcome })
    }

    fn last(&self) -> Last {
        Last { succeeded: self.0.lock().unwrap().is_ok(), success_at: self.now() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(NOW)
    }
}

/// A clock that moves when it is told to.
#[derive(Debug)]
pub(crate) struct HandClock(pub(crate) AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Endpoints by name: `healthy` answers 200, `picky` 400 with bytes (which is permanent), `gone` 410, `flaky`
/// cannot be reached, `slow`, `serial` and `tiny` answer 200 when they get a permit (but `serial` breaks on `bad`
/// bodies), `down` answers 200 if there is a permit and cannot be reached if not, `busy` asks for a minute.
pub(crate) struct Endpoints {
    pub(crate) slow: Arc<Semaphore>,
}

impl Transport for Endpoints {
    fn send(&self, sending: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let slow = Arc::clone(&self.slow);
        Box::pin(async move {
            let refused =
                || Reply::Failure(Failure { class: FailureClass::Refused, detail: "nobody listens".to_owned() });
            match sending.endpoint.name.as_str() {
                "picky" => answer(400, b"\xff\x00no"),
                "gone" => answer(410, b""),
                "flaky" => refused(),
                "down" => slow.try_acquire().map_or_else(
                    |_| refused(),
                    |permit| {
                        permit.forget();
                        answer(200, b"up")
                    },
                ),
                "busy" => asking_for_a_minute(),
                "serial" if sending.event.draft.body == "bad" => answer(500, b"broken"),
                "slow" | "serial" | "tiny" => {
                    slow.acquire().await.unwrap().forget();
                    answer(200, b"late")
                }
                _ => answer(200, b"ok"),
            }
        })
    }
}

pub(crate) fn answer(status: u16, body: &'static [u8]) -> Reply {
    let headers = vec![Header { name: "x-from".to_owned(), value: Bytes::from_static(b"\xe9t\xe9") }];
    Reply::Answer(Answer { status, headers, body: Bytes::from_static(body), body_cut: false, retry_after: None })
}

fn asking_for_a_minute() -> Reply {
    let retry_after = Some(Duration::from_secs(60));
    Reply::Answer(Answer { status: 429, headers: vec![], body: Bytes::new(), body_cut: false, retry_after })
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn endpoint(text: &str) -> Endpoint {
    Endpoint {
        signing: Signing::Standard(vec![Secret::standard(SIGNING_SECRET).unwrap()]),
        retry: RetryPolicy { initial: Duration::from_secs(600), ..RetryPolicy::default() },
        permanent: StatusSet::new(vec![(400, 400)]),
        concurrency: Concurrency { min: 1, max: 4 },
        headers: vec![Header { name: "authorization".to_owned(), value: Bytes::from_static(b"headersecret") }],
        ..Endpoint::new(name(text), format!("https://example.com/{text}?key=querysecret"))
    }
}

/// The source `flyflow` as it is now: strict about the type, an equal body is a duplicate.
fn strict() -> Source {
    Source {
        name: name("flyflow"),
        verification: Verification::default(),
        type_at: vec![Place::Pointer("/event_type".to_owned())],
        key_at: vec![],
        time_at: vec![],
        strict: true,
        dedup: DedupRule::Fields { pointers: vec![], body: true },
        dedup_window: LONG,
        body_max_bytes: 1000,
        body_timeout: LONG,
        rate: None,
        lifecycle: None,
        ack: Ack { status: 202, body: None, content_type: "application/json".to_owned() },
    }
}

/// What the config says of it all.
fn settings() -> Settings {
    Settings {
        read: Box::new(reader(&[strict()])),
        import: Box::new(importer(&[strict()])),
        sources: vec![strict()],
        hosts: Hosts::new(SocketAddr::from(([127, 0, 0, 1], 0)), vec!["admin.example".to_owned()]),
        effective: "[server]\nlisten = \"127.0.0.1:1\"\n".to_owned(),
    }
}

/// An endpoint whose flow is limited in the way of its name.
fn fragile(text: &str) -> Endpoint {
    let plain = endpoint(text);
    let fixed = |count| Concurrency { min: count, max: count };
    match text {
        "serial" => Endpoint { order: Order::Key, order_hold_max: Duration::from_secs(60), ..plain },
        "rated" => Endpoint { rate: Some(Rate { count: 1, per: Duration::from_secs(60), burst: 1 }), ..plain },
        "down" => Endpoint { breaker: Some(BreakerPolicy { failures: 1, ..BreakerPolicy::default() }), ..plain },
        "tiny" => Endpoint { concurrency: fixed(1), ..plain },
        _ => Endpoint { concurrency: fixed(4), ..plain },
    }
}

pub(crate) fn draft(event_type: &str, key: &str, body: impl Into<Bytes>) -> Draft {
    let header = |name: &str, value: &'static [u8]| Header { name: name.to_owned(), value: Bytes::from_static(value) };
    Draft {
        source: name("flyflow"),
        event_type: event_type.to_owned(),
        key: Some(key.to_owned()),
        occurred_at: Some(Timestamp::from_millis(NOW - 1000)),
        headers: vec![header("content-type", b"application/x-call"), header("x-odd", b"\xff")],
        body: body.into(),
        dedup: None,
        endpoints: vec![],
    }
}

/// A gateway's inside with its admin listener.
pub(crate) struct Gateway {
    pub(crate) engine: Engine,
    pub(crate) intake: Arc<Intake>,
    pub(crate) refusals: Refusals,
    state: AdminState,
    pub(crate) config: Arc<TheConfig>,
    _folder: tempfile::TempDir,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) slow: Arc<Semaphore>,
    pub(crate) address: SocketAddr,
}

/// An answer off the wire.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Asserts that this is a sound problem, and gives its detail.
    pub(crate) fn problem(&self, status: u16) -> String {
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)));
        assert!(!problem["title"].as_str().unwrap().is_empty());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Gateway {
    /// One in which event type `x` goes to endpoint `x`, `fan` to three, and any other type nowhere.
    pub(crate) async fn start() -> Self {
        Self::over(MemoryJournal::default()).await
    }

    pub(crate) async fn over(journal: MemoryJournal) -> Self {
        let limits = Limits { active_max: 100, ordered_max: 1000, in_flight_max: 100 };
        let all = ["healthy", "picky", "gone", "flaky", "slow"];
        Self::of(journal, limits, all.map(endpoint).into(), vec![]).await
    }

    /// One that cannot note who has what done.
    pub(crate) async fn without_register() -> Self {
        let mut gateway = Self::start().await;
        let register = Register::new(Err("the disk is gone".to_owned()));
        gateway.state.register = Arc::new(register);
        gateway.address = serve(gateway.state.clone()).await;
        gateway
    }

    /// One in which the calls of the source are watched.
    pub(crate) async fn watching(journal: MemoryJournal) -> Self {
        let limits = Limits { active_max: 100, ordered_max: 1000, in_flight_max: 100 };
        let (start, end, timeout) = ("call_started".to_owned(), "call_ended".to_owned(), Duration::from_secs(3600));
        let lifecycles = vec![(name("flyflow"), Lifecycle { start, end, timeout })];
        let all = ["healthy", "picky", "flaky"];
        Self::of(journal, limits, all.map(endpoint).into(), lifecycles).await
    }

    /// One with endpoints that are limited in the ways of their names.
    pub(crate) async fn fragile(active_max: usize, in_flight_max: usize) -> Self {
        let all = ["healthy", "gone", "flaky", "slow", "tiny", "serial", "rated", "down", "busy"];
        let limits = Limits { active_max, ordered_max: 1000, in_flight_max };
        Self::of(MemoryJournal::default(), limits, all.map(fragile).into(), vec![]).await
    }

    async fn of(
        journal: MemoryJournal,
        limits: Limits,
        endpoints: Vec<Endpoint>,
        lifecycles: Vec<(Name, Lifecycle)>,
    ) -> Self {
        let route = |event_type: &str, to: &[&str]| Route {
            source: None,
            types: vec![event_type.to_owned()],
            endpoints: to.iter().map(|to| name(to)).collect(),
        };
        let names = endpoints.iter().map(|endpoint| endpoint.name.as_str());
        let mut table: Vec<Route> = names.map(|name| route(name, &[name])).collect();
        table.push(route("fan", &["healthy", "picky", "flaky"]));
        let clock = Arc::new(HandClock(AtomicU64::new(NOW)));
        let slow = Arc::new(Semaphore::new(0));
        let engine = Engine::start(Parts {
            journal: Arc::new(journal),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            transport: Arc::new(Endpoints { slow: Arc::clone(&slow) }),
            endpoints,
            routes: RouteTable::new(table),
            lifecycles,
            retention: backstop::core::retention::Retention::default(),
            limits,
            recent_max_bytes: 1 << 20,
            accept_queue_max: 1000,
            seed: 7,
        })
        .unwrap();
        let intake = Arc::new(Intake::default());
        let folder = tempfile::tempdir().unwrap();
        let kept = refused::Limits { count_max: 100, bytes_max: 8 << 20 };
        let refusals = Refusals::open(&folder.path().join("refused"), kept, Vec::new(), 7).unwrap();
        let limits = operations::Limits { bytes_max: 8 << 20, age_max: None };
        let noted = Operations::open(&folder.path().join("operations"), limits, Timestamp::from_millis(NOW));
        let operations = noted.unwrap().0;
        let holders = Holders::open(&folder.path().join("tokens.json"), &Token::new(TOKEN).unwrap()).unwrap();
        let config = Arc::new(TheConfig(Mutex::new(Err(NotReloaded::NoFile))));
        let state = AdminState {
            engine: engine.clone(),
            intake: Arc::clone(&intake),
            refused: Arc::new(Readmission::new(refusals.clone())),
            settings: Arc::new(ArcSwap::from_pointee(settings())),
            reload: Arc::clone(&config) as Arc<dyn Reload>,
            holders: Arc::new(holders),
            sessions: Arc::new(Sessions::new(1, false)),
            pulse: Pulse::start(&engine, &intake),
            site: Arc::new(Site {
                journal: folder.path().to_owned(),
                disk_free_min_bytes: 7,
                ingest: SocketAddr::from(([127, 0, 0, 1], 8080)),
            }),
            register: Arc::new(Register::new(Ok(operations))),
            knocks: Arc::default(),
            started_at: Timestamp::from_millis(NOW),
        };
        let address = serve(state.clone()).await;
        Self { engine, intake, clock, slow, refusals, state, config, _folder: folder, address }
    }

    pub(crate) fn register(&self) -> &Arc<Register> {
        &self.state.register
    }

    pub(crate) async fn accept(&self, event_type: &str, key: &str) -> String {
        self.engine.accept(draft(event_type, key, "{}")).await.unwrap().id.to_string()
    }

    /// Accepts an event and waits until each of its deliveries was tried.
    pub(crate) async fn tried(&self, event_type: &str, key: &str) -> String {
        let id = self.accept(event_type, key).await;
        self.until(&format!("/api/v1/events/{id}"), |event| {
            let deliveries = event["deliveries"].as_array().unwrap();
            deliveries.iter().all(|delivery| delivery["attempts_made"] != 0)
        })
        .await;
        id
    }

    /// Waits until the event's first delivery waits for this; what the API says of that wait.
    pub(crate) async fn until_waits(&self, event: &str, on: &str) -> Value {
        let path = format!("/api/v1/deliveries/{}", delivery(event, 0));
        self.until(&path, |delivery| delivery["waits_for"]["on"] == on).await["waits_for"].clone()
    }

    /// Waits until `endpoint` has this many deliveries standing there.
    pub(crate) async fn until_count(&self, endpoint: &str, status: &str, count: usize) {
        self.until("/api/v1/counters", |counters| counters["endpoints"][endpoint][status] == count).await;
    }

    /// Moves the clock on.
    pub(crate) fn pass(&self, span: Duration) {
        self.clock.0.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Asks until the answer is as it should become.
    pub(crate) async fn until(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let got = self.get(path).await.json();
                if fits(&got) {
                    break got;
                }
            }
        };
        tokio::time::timeout(LONG, asking).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Got {
        self.ask("POST", path, body.to_string().as_bytes()).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Got {
        self.ask_with(method, path, &format!("authorization: Bearer {TOKEN}\r\n"), body).await
    }

    pub(crate) async fn ask_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Got {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.exchange(Ipv4Addr::LOCALHOST, head.as_bytes(), body).await
    }

    /// Sends these bytes, from 127.0.0.1.
    pub(crate) async fn send(&self, request: &str) -> Got {
        self.exchange(Ipv4Addr::LOCALHOST, request.as_bytes(), b"").await
    }

    /// The same, from another address.
    pub(crate) async fn send_from(&self, address: Ipv4Addr, request: &str) -> Got {
        self.exchange(address, request.as_bytes(), b"").await
    }

    async fn exchange(&self, from: Ipv4Addr, head: &[u8], body: &[u8]) -> Got {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        stream.write_all(head).await.unwrap();
        // An answer may come before a body that is too large was read.
        let _sent = stream.write_all(body).await.is_ok();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        let end = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(got[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Got { status, head, body: got[end + 4..].to_vec() }
    }
}

pub(crate) async fn serve(state: AdminState) -> SocketAddr {
    let limits = listener::Limits { header_timeout: LONG, idle_timeout: LONG, ..listener::Limits::default() };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = gate::service(&state);
    tokio::spawn(async move {
        // Never told to stop: it ends with the test.
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        listener.serve(service, stopped, LONG).await;
    });
    address
}

/// The ids of a list's items.
pub(crate) fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// The id of an event's delivery in `slot`.
pub(crate) fn delivery(event: &str, slot: u16) -> String {
    event.parse::<EventId>().unwrap().delivery(slot).to_string()
}
