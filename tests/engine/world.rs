//! The world around an engine under test: a clock by hand, endpoints that answer when a test says so, and
//! processes that can be killed. Each process has a runtime of its own; what it stored stays in the world.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop::core::attempt::{Answer, Reply};
use backstop::core::delivery::Delivery;
use backstop::core::endpoint::Endpoint;
use backstop::core::event::Draft;
use backstop::core::id::{DeliveryId, EventId};
use backstop::core::lifecycle::Lifecycle;
use backstop::core::name::Name;
use backstop::core::retention::Retention;
use backstop::core::route::{Route, RouteTable};
use backstop::core::scheduler::{LaneView, Limits, Wait};
use backstop::core::sign::{Secret, Signing};
use backstop::core::source::ALERTS;
use backstop::core::timestamp::Timestamp;
use backstop::core::window::Concurrency;
use backstop::engine::{Clock, Engine, Parts, Sending, Transport};
use backstop::journal::Journal;
use backstop::journal::memory::MemoryJournal;
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

use super::disk::{Diary, Disk, Note};

/// Never reached: what a test waits for comes, or the test fails.
pub(crate) const LONG: Duration = Duration::from_secs(60);
const START_MS: u64 = 1_790_000_000_000;

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.unwrap()
}

/// A clock that moves when it is told to, and can be set.
struct HandClock {
    steady: AtomicU64,
    set_by: AtomicI64,
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        let steady = Timestamp::from_millis(self.steady.load(Ordering::SeqCst));
        steady.shifted(self.set_by.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.steady.load(Ordering::SeqCst))
    }
}

/// What an endpoint does by itself; `None` leaves it to the test.
pub(crate) type Script = fn(&Sending) -> Option<Reply>;

struct Far {
    script: Script,
    diary: Diary,
    sent: mpsc::UnboundedSender<Sent>,
}

enum Say {
    Reply(Reply),
    Panic,
}

/// An attempt that waits for the test's answer; dropped, it waits for ever.
pub(crate) struct Sent {
    pub(crate) sending: Sending,
    say: oneshot::Sender<Say>,
}

impl Sent {
    pub(crate) fn id(&self) -> DeliveryId {
        self.sending.delivery
    }

    pub(crate) fn answer(self, status: u16) {
        self.reply(answer(status, None));
    }

    pub(crate) fn reply(self, reply: Reply) {
        let _heard = self.say.send(Say::Reply(reply)).is_ok();
    }

    pub(crate) fn panic(self) {
        let _heard = self.say.send(Say::Panic).is_ok();
    }
}

impl Transport for Far {
    fn send(&self, sending: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        self.diary.lock().unwrap().push(Note::Sent(sending.delivery, sending.attempt));
        if let Some(reply) = (self.script)(&sending) {
            return Box::pin(async { reply });
        }
        let (say, heard) = oneshot::channel();
        let _told = self.sent.send(Sent { sending, say }).is_ok();
        Box::pin(async move {
            match heard.await {
                Ok(Say::Reply(reply)) => reply,
                Ok(Say::Panic) => panic!("the transport has a bug"),
                Err(_) => std::future::pending().await,
            }
        })
    }
}

pub(crate) fn answer(status: u16, retry_after: Option<Duration>) -> Reply {
    Reply::Answer(Answer { status, headers: vec![], body: Bytes::new(), body_cut: false, retry_after })
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn endpoint(text: &str, concurrency_max: usize) -> Endpoint {
    Endpoint {
        signing: Signing::Standard(vec![Secret::standard("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()]),
        concurrency: Concurrency { min: concurrency_max, max: concurrency_max },
        breaker: None,
        ..Endpoint::new(name(text), format!("https://example.com/{text}"))
    }
}

/// An event of type `crm` or `bill` goes to the endpoint of that name, `both` to the two, any other nowhere.
pub(crate) fn draft(event_type: &str) -> Draft {
    Draft {
        source: name("flyflow"),
        event_type: event_type.to_owned(),
        key: None,
        occurred_at: None,
        headers: vec![],
        body: Bytes::from_static(b"{}"),
        dedup: None,
        endpoints: vec![],
    }
}

pub(crate) fn routes() -> Vec<Route> {
    let to = |endpoint: &str| Route {
        source: None,
        types: vec![endpoint.to_owned(), "both".to_owned()],
        endpoints: vec![name(endpoint)],
    };
    vec![to("crm"), to("bill")]
}

/// How a process is configured.
pub(crate) struct Setup {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) active_max: usize,
    pub(crate) accept_queue_max: usize,
    pub(crate) script: Script,
    /// Who gets alerts.
    pub(crate) alerts_to: Vec<Name>,
    pub(crate) lifecycles: Vec<(Name, Lifecycle)>,
    pub(crate) retention: Retention,
}

impl Default for Setup {
    fn default() -> Self {
        let endpoints = vec![endpoint("crm", 4), endpoint("bill", 4)];
        let (alerts_to, lifecycles, retention) = (vec![], vec![], Retention::default());
        let script: Script = |_| None;
        Self { endpoints, active_max: 1000, accept_queue_max: 1000, script, alerts_to, lifecycles, retention }
    }
}

impl Setup {
    /// Only `crm`, one attempt at a time.
    pub(crate) fn one_by_one() -> Self {
        Self { endpoints: vec![endpoint("crm", 1)], ..Self::default() }
    }
}

/// What outlives a process.
pub(crate) struct World {
    pub(crate) memory: Arc<MemoryJournal>,
    diary: Diary,
    clock: Arc<HandClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(HandClock { steady: AtomicU64::new(START_MS), set_by: AtomicI64::new(0) });
        Self { memory: Arc::default(), diary: Arc::new(Mutex::default()), clock }
    }

    pub(crate) fn start(&self, setup: Setup) -> Process {
        let mut routes = routes();
        if !setup.alerts_to.is_empty() {
            routes.push(Route { source: Some(name(ALERTS)), types: vec![], endpoints: setup.alerts_to.clone() });
        }
        self.start_routed(setup, RouteTable::new(routes))
    }

    /// As [`World::start`], with this route alone.
    pub(crate) fn start_with_only_route(&self, setup: Setup, event_type: &str, to: &[&str]) -> Process {
        let endpoints = to.iter().map(|endpoint| name(endpoint)).collect();
        let route = Route { source: None, types: vec![event_type.to_owned()], endpoints };
        self.start_routed(setup, RouteTable::new(vec![route]))
    }

    fn start_routed(&self, setup: Setup, routes: RouteTable) -> Process {
        let disk = Arc::new(Disk::new(Arc::clone(&self.memory), Arc::clone(&self.diary)));
        let (sent, received) = mpsc::unbounded_channel();
        let far = Far { script: setup.script, diary: Arc::clone(&self.diary), sent };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let engine = Engine::start(Parts {
            journal: Arc::clone(&disk) as Arc<dyn Journal>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            transport: Arc::new(far),
            endpoints: setup.endpoints,
            routes,
            lifecycles: setup.lifecycles,
            retention: setup.retention,
            limits: Limits { active_max: setup.active_max, ordered_max: 1000, in_flight_max: 100 },
            recent_max_bytes: 1 << 20,
            accept_queue_max: setup.accept_queue_max,
            seed: 7,
        })
        .unwrap();
        drop(entered);
        Process { engine, disk, sent: received, kept: VecDeque::new(), runtime: Some(runtime) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn set_clock(&self, now: Timestamp) {
        let steady = now.shifted(-self.clock.set_by.load(Ordering::SeqCst));
        self.clock.steady.store(steady.millis(), Ordering::SeqCst);
    }

    /// The wall clock is set: no time passes.
    pub(crate) fn set_wall(&self, by_ms: i64) {
        self.clock.set_by.fetch_add(by_ms, Ordering::SeqCst);
    }

    pub(crate) fn pass(&self, span: Duration) {
        self.set_clock(self.now().after(span));
    }

    pub(crate) fn notes(&self) -> Vec<Note> {
        self.diary.lock().unwrap().clone()
    }

    /// What happened besides accepting.
    pub(crate) fn attempts(&self) -> Vec<Note> {
        self.notes().into_iter().filter(|note| !matches!(note, Note::Accepted(_))).collect()
    }

    /// The attempts that were sent, in order.
    pub(crate) fn sent(&self) -> Vec<(DeliveryId, u32)> {
        let sent = |note| if let Note::Sent(id, number) = note { Some((id, number)) } else { None };
        self.notes().into_iter().filter_map(sent).collect()
    }

    pub(crate) fn delivery(&self, id: DeliveryId) -> Delivery {
        self.memory.entry(id.event).unwrap().unwrap().deliveries[usize::from(id.slot)].clone()
    }

    /// How many deliveries to `endpoint` there are in all, and how many of them were delivered.
    pub(crate) fn delivered(&self, endpoint: &str) -> (u64, u64) {
        let tally = self.memory.counters().endpoints.get(endpoint).copied().unwrap_or_default();
        assert!(tally.reconciles());
        (tally.routed + tally.replayed, tally.delivered)
    }
}

/// A running engine. Dropping it kills it: what is not committed by then never will be.
pub(crate) struct Process {
    pub(crate) engine: Engine,
    pub(crate) disk: Arc<Disk>,
    sent: mpsc::UnboundedReceiver<Sent>,
    /// Came, and was not asked for yet.
    kept: VecDeque<Sent>,
    runtime: Option<Runtime>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.disk.kill();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Process {
    pub(crate) async fn accept(&self, event_type: &str) -> EventId {
        within(self.engine.accept(draft(event_type))).await.unwrap().id
    }

    /// Accepts an event with a key; its only delivery.
    pub(crate) async fn accept_of(&self, event_type: &str, key: &str) -> DeliveryId {
        let draft = Draft { key: Some(key.to_owned()), ..draft(event_type) };
        within(self.engine.accept(draft)).await.unwrap().id.delivery(0)
    }

    /// What a delivery waits for.
    pub(crate) async fn wait(&self, id: DeliveryId) -> Option<Wait> {
        let delivery = self.disk.memory.entry(id.event).unwrap().unwrap().deliveries[usize::from(id.slot)].clone();
        within(self.engine.waits(vec![delivery])).await.remove(0)
    }

    /// Answers what comes with 200 until every delivery to `endpoint` there is was delivered.
    pub(crate) async fn deliver_all(&mut self, world: &World, endpoint: &str) {
        loop {
            let (all, delivered) = world.delivered(endpoint);
            if all == delivered {
                return;
            }
            let sent = self.next().await;
            let (id, number) = (sent.id(), sent.sending.attempt);
            sent.answer(200);
            self.tried(id, usize::try_from(number).unwrap()).await;
        }
    }

    /// The next attempt that the test has to answer.
    pub(crate) async fn next(&mut self) -> Sent {
        match self.kept.pop_front() {
            Some(kept) => kept,
            None => within(self.sent.recv()).await.unwrap(),
        }
    }

    /// The attempt of this delivery: attempts that begin at once come in any order.
    pub(crate) async fn take(&mut self, id: DeliveryId) -> Sent {
        if let Some(index) = self.kept.iter().position(|sent| sent.id() == id) {
            return self.kept.remove(index).unwrap();
        }
        loop {
            let sent = within(self.sent.recv()).await.unwrap();
            if sent.id() == id {
                return sent;
            }
            self.kept.push_back(sent);
        }
    }

    /// How the lane stands after everything that was told to the dispatcher, and what followed from it.
    pub(crate) async fn lane(&self, endpoint: &str) -> LaneView {
        within(self.engine.lanes()).await;
        let lanes = within(self.engine.lanes()).await;
        lanes.into_iter().find(|lane| lane.endpoint.as_str() == endpoint).unwrap()
    }

    /// Asks until the lane is as it should become.
    pub(crate) async fn lane_until(&self, endpoint: &str, fits: impl Fn(&LaneView) -> bool) {
        within(async { while !fits(&self.lane(endpoint).await) {} }).await;
    }

    /// Waits until a delivery has left `scheduled`.
    pub(crate) async fn ended(&self, id: DeliveryId) -> Delivery {
        let find = |disk: &Disk| disk.memory.entry(id.event).unwrap().unwrap().deliveries[usize::from(id.slot)].clone();
        self.disk.until(|disk| find(disk).state.is_terminal()).await;
        find(&self.disk)
    }

    /// Waits until a delivery has so many attempts behind it.
    pub(crate) async fn tried(&self, id: DeliveryId, attempts: usize) {
        self.disk.until(|disk| disk.memory.attempts(id).unwrap().len() == attempts).await;
    }
}
