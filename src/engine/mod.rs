//! The engine: takes events in, keeps deliveries going, does what operators ask.
//!
//! The parts by role: the scheduler (core) decides, the [`dispatcher`] has it done, the [`committer`] writes,
//! the [`Transport`] sends, the [`replayer`] works replays off, and the [`driver`] turns the crank. The engine
//! knows time only through [`Clock`] and the network only through [`Transport`]; dispatcher and committer run
//! without threads and runtime, too: `tests/sim` turns their crank by a seed.
//!
//! Invariants: nothing is acknowledged before its commit returned; the scheduler hears of a change only
//! after that; nobody but the committer commits.

pub mod alerts;
mod attempt;
pub mod calls;
pub mod committer;
pub mod dispatcher;
mod driver;
pub mod feed;
mod importing;
mod recent;
mod replayer;
mod replays;
mod rules;
mod sweeper;
mod trial;
pub mod walk;
mod watching;

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::core::attempt::Reply;
use crate::core::delivery::Delivery;
use crate::core::endpoint::Endpoint;
use crate::core::event::{Draft, Event, cut};
use crate::core::id::{DeliveryId, EventId, IdSource, ReplayId};
use crate::core::lifecycle::Lifecycle;
use crate::core::name::Name;
use crate::core::retention::Retention;
use crate::core::route::RouteTable;
use crate::core::scheduler::{LaneView, Limits, Wait};
use crate::core::standing::{NOTE_LEN_MAX, Pause, PauseCause};
use crate::core::timestamp::Timestamp;
use crate::journal::{Change, Journal, JournalError, Query, Receipt};
use crate::telemetry::measures::{Attempts, ByName, Commits};
use alerts::Herald;
use committer::Committer;
use dispatcher::Command;
use feed::{Feed, Follower};
use replayer::{Bell, Replayer};
pub use replays::{Again, ReplayOrder};
use rules::Current;
pub use rules::Rules;
use sweeper::Sweeper;
pub use trial::{COPIES_MAX, Trial, Tried};
use watching::Watching;

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;

    /// Time that passed since some beginning; unlike the wall clock it is never set.
    fn steady(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn steady(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
    }

    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
        let now = std::time::SystemTime::now();
        Timestamp::ZERO.after(now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
    }
}

/// One attempt to be made.
#[derive(Debug, Clone)]
pub struct Sending {
    /// Where to, and how, by the config of now.
    pub endpoint: Arc<Endpoint>,
    /// What.
    pub event: Arc<Event>,
    /// Which delivery of the event.
    pub delivery: DeliveryId,
    /// Which try, from 1.
    pub attempt: u32,
    /// The replay that made the delivery, if one did.
    pub replay: Option<ReplayId>,
    /// Whether the delivery repeats an earlier one, by a replay or by hand.
    pub again: bool,
    /// Now: what the signature's timestamp says.
    pub now: Timestamp,
}

/// Sends one attempt and reports what came back. Never fails: a failure is a [`Reply`].
pub trait Transport: Send + Sync + 'static {
    /// Sends; the future ends within the endpoint's timeout.
    fn send(&self, sending: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>>;
}

/// What the engine is built from.
pub struct Parts {
    /// Where everything is stored.
    pub journal: Arc<dyn Journal>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How attempts are sent.
    pub transport: Arc<dyn Transport>,
    /// Where deliveries can go.
    pub endpoints: Vec<Endpoint>,
    /// Which events go where.
    pub routes: RouteTable,
    /// How calls begin and end, by source, where somebody should watch over that.
    pub lifecycles: Vec<(Name, Lifecycle)>,
    /// How long events are kept.
    pub retention: Retention,
    /// Bounds of the scheduler.
    pub limits: Limits,
    /// Memory for events that were just accepted, in bytes.
    pub recent_max_bytes: u64,
    /// Accepted requests that may wait for the disk at a time.
    pub accept_queue_max: usize,
    /// Seed of ids and jitter.
    pub seed: u64,
}

/// A handle on the running engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    rules: Current,
    /// Held while the rules are changed.
    changing: tokio::sync::Mutex<()>,
    committer: Committer,
    watching: Watching,
    dispatcher: mpsc::UnboundedSender<Command>,
    replayer: Replayer,
    /// Held while a replay is begun.
    opening: tokio::sync::Mutex<()>,
    transport: Arc<dyn Transport>,
    sweeper: Sweeper,
    accept_slots: Arc<Semaphore>,
    feed: Feed,
    attempts: Arc<ByName<Attempts>>,
    health: watch::Sender<Health>,
}

/// Whether the engine can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It runs.
    Running,
    /// It is being stopped: no new events.
    Stopping,
    /// The journal failed, or a part panicked; the process must end and start again.
    Failed(String),
}

/// An accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id; for a duplicate the first one's.
    pub id: EventId,
    /// Of a duplicate, what was sent again; the id in it is nobody's.
    pub duplicate: Option<Arc<Event>>,
}

/// What became of a page of deliveries that were to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cancelled {
    /// Taken back.
    pub cancelled: u64,
    /// On their way, and left alone.
    pub in_flight: u64,
    /// Behind which the next page begins; `None` at the end.
    pub next: Option<DeliveryId>,
}

/// Why an event is not taken now. The sender should come again: nothing was lost, nothing acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAccepted {
    /// Too many requests wait for the disk.
    Busy,
    /// The disk is full.
    Full,
    /// The gateway is being stopped.
    Stopping,
    /// The journal failed.
    Failed(String),
}

/// Why an operator's request is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDone {
    /// There is no such event, delivery or replay.
    Missing,
    /// The config has no such endpoint.
    UnknownEndpoint(Name),
    /// An attempt is on its way; ask again when it has ended.
    InFlight,
    /// It has ended already.
    Ended,
    /// Retention has let go of the event's body: there is nothing to deliver.
    PayloadGone,
    /// A delivery of this event to this endpoint is waiting already.
    AlreadyScheduled,
    /// The request makes no sense, and why.
    Invalid(String),
    /// The journal failed.
    Journal(JournalError),
}

impl Engine {
    /// Starts the engine on the current runtime: what the journal holds unfinished goes on at once.
    pub fn start(parts: Parts) -> Result<Self, JournalError> {
        let rules = Current::new(Rules::of(&parts));
        let (health, _) = watch::channel(Health::Running);
        let (dispatcher, commands) = mpsc::unbounded_channel();
        let mut rng = fastrand::Rng::with_seed(parts.seed);
        let ids = IdSource::after(parts.journal.last_id());
        let committer = Committer::start(
            Arc::clone(&parts.journal),
            dispatcher.clone(),
            health.clone(),
            (ids, fastrand::Rng::with_seed(rng.u64(..))),
        )?;
        let bell = Arc::new(Bell::default());
        let replaying = replayer::Task::new(&parts, committer.clone(), dispatcher.clone(), rules.clone());
        let replayer = Replayer::start(replaying, Arc::clone(&bell), health.clone());
        let sweeper = Sweeper::start(&parts, &rules, &committer, &health);
        let health_of_dispatcher = health.clone();
        let accept_slots = Arc::new(Semaphore::new(parts.accept_queue_max));
        let herald = Herald {
            committer: committer.clone(),
            rules: rules.clone(),
            slots: Arc::clone(&accept_slots),
            clock: Arc::clone(&parts.clock),
        };
        let watching = Watching::start(&parts, &rules, &herald, &health);
        let (alerts, accepted) = (watching.alerts.clone(), watching.calls.listener());
        let feed = Feed::new();
        let attempts = Arc::<ByName<Attempts>>::default();
        let shared = Shared {
            journal: Arc::clone(&parts.journal),
            clock: Arc::clone(&parts.clock),
            rules: rules.clone(),
            changing: tokio::sync::Mutex::new(()),
            committer: committer.clone(),
            watching,
            dispatcher: dispatcher.clone(),
            replayer,
            opening: tokio::sync::Mutex::new(()),
            transport: Arc::clone(&parts.transport),
            sweeper,
            accept_slots,
            feed: feed.clone(),
            attempts: Arc::clone(&attempts),
            health,
        };
        driver::start(
            driver::Parts {
                journal: parts.journal,
                clock: parts.clock,
                transport: parts.transport,
                rules,
                limits: parts.limits,
                recent_max_bytes: parts.recent_max_bytes,
                committer,
                own_commands: dispatcher,
                alerts,
                accepted,
                feed,
                health: health_of_dispatcher,
                bell,
                measured: attempts,
                rng,
            },
            commands,
        );
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Routes and stores an event. On `Ok` it is durable.
    pub async fn accept(&self, draft: Draft) -> Result<Accepted, NotAccepted> {
        self.accept_by(&self.rules(), draft).await
    }

    /// The same by these rules, which may be those of a moment ago: by which the event's source was, too.
    pub async fn accept_by(&self, rules: &Rules, mut draft: Draft) -> Result<Accepted, NotAccepted> {
        draft.endpoints = rules.routes().fan_out(&draft.source, &draft.event_type);
        self.admit(draft).await
    }

    /// Stores an event of the gateway's own that goes to this endpoint only, so that somebody can see whether it gets there.
    pub async fn test(&self, endpoint: &Name) -> Result<EventId, NotAccepted> {
        let draft = alerts::test(endpoint, self.now()).map_err(|error| NotAccepted::Failed(error.to_string()))?;
        Ok(self.admit(draft).await?.id)
    }

    async fn admit(&self, draft: Draft) -> Result<Accepted, NotAccepted> {
        let shared = &self.shared;
        self.may_accept()?;
        let slot = Arc::clone(&shared.accept_slots).try_acquire_owned().map_err(|_| NotAccepted::Busy)?;
        self.store(draft, slot).await.unwrap_or(Err(JournalError::Closed)).map_err(NotAccepted::from)
    }

    fn may_accept(&self) -> Result<(), NotAccepted> {
        match &*self.shared.health.borrow() {
            Health::Running if self.shared.journal.is_full() => Err(NotAccepted::Full),
            Health::Running => Ok(()),
            Health::Stopping => Err(NotAccepted::Stopping),
            Health::Failed(why) => Err(NotAccepted::Failed(why.clone())),
        }
    }

    /// Hands an event, routed as it is to be, to the committer.
    fn store(&self, draft: Draft, slot: OwnedSemaphorePermit) -> oneshot::Receiver<Result<Accepted, JournalError>> {
        let (reply, answer) = oneshot::channel();
        self.shared.committer.accept(draft, self.shared.clock.now(), slot, reply);
        answer
    }

    /// Takes a scheduled delivery back.
    pub async fn cancel(&self, id: DeliveryId) -> Result<(), NotDone> {
        let view = self.read(move |journal| journal.entry(id.event)).await?.ok_or(NotDone::Missing)?;
        let delivery = view.deliveries.into_iter().find(|delivery| delivery.id == id).ok_or(NotDone::Missing)?;
        if delivery.state.is_terminal() {
            return Err(NotDone::Ended);
        }
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Cancel(id, delivery.endpoint, reply));
        match answer.await.unwrap_or(Err(NotDone::Journal(JournalError::Closed)))? {
            Receipt::Missing => Err(NotDone::Missing),
            Receipt::Stale => Err(NotDone::Ended),
            _ => Ok(()),
        }
    }

    /// Reads the journal on a thread that may block.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        read_blocking(Arc::clone(&self.shared.journal), read).await
    }

    /// Takes back every delivery of `query`'s page that is still scheduled; for more, ask again behind it.
    ///
    /// Deliveries on their way are left alone.
    pub async fn cancel_page(&self, query: Query<DeliveryId>) -> Result<Cancelled, NotDone> {
        let page = self.read(move |journal| journal.deliveries(&query)).await?;
        let mut cancelled = Cancelled { next: page.next, ..Cancelled::default() };
        let waiting = page.items.into_iter().map(|(_, delivery)| delivery).filter(|it| !it.state.is_terminal());
        let asked: Vec<_> = waiting
            .map(|Delivery { id, endpoint, .. }| {
                let (reply, answer) = oneshot::channel();
                self.tell(Command::Cancel(id, endpoint, reply));
                answer
            })
            .collect();
        for answer in asked {
            match answer.await.unwrap_or(Err(NotDone::Journal(JournalError::Closed))) {
                Ok(Receipt::Done) => cancelled.cancelled += 1,
                // It has ended meanwhile.
                Ok(_) => {}
                Err(NotDone::InFlight) => cancelled.in_flight += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(cancelled)
    }

    /// Sends nothing more to an endpoint until it is resumed; its deliveries wait and spend nothing. On `Ok` that
    /// is durable. What is on its way ends.
    pub async fn pause(&self, endpoint: &Name, note: &str) -> Result<(), NotDone> {
        let since = self.shared.clock.now();
        let pause = Pause { since, cause: PauseCause::Operator, note: cut(note, NOTE_LEN_MAX).to_owned() };
        self.stand(endpoint, |endpoint, reply| Command::Pause(endpoint, pause, reply)).await
    }

    /// Sends to a paused endpoint again, few at first. On `Ok` that is durable.
    pub async fn resume(&self, endpoint: &Name) -> Result<(), NotDone> {
        self.stand(endpoint, Command::Resume).await
    }

    async fn stand(
        &self,
        endpoint: &Name,
        command: impl FnOnce(Name, oneshot::Sender<Result<(), JournalError>>) -> Command,
    ) -> Result<(), NotDone> {
        if self.endpoint(endpoint).is_none() {
            return Err(NotDone::UnknownEndpoint(endpoint.clone()));
        }
        let (reply, answer) = oneshot::channel();
        self.tell(command(endpoint.clone(), reply));
        Ok(answer.await.unwrap_or(Err(JournalError::Closed))?)
    }

    /// What each of these deliveries waits for; `None` for one that has ended or whose endpoint the config does
    /// not name.
    pub async fn waits(&self, deliveries: Vec<Delivery>) -> Vec<Option<Wait>> {
        let count = deliveries.len();
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Waits(deliveries, reply));
        answer.await.unwrap_or_else(|_| vec![None; count])
    }

    /// How each endpoint's lane stands.
    pub async fn lanes(&self) -> Vec<LaneView> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Lanes(reply));
        answer.await.unwrap_or_default()
    }

    /// Follows what happens from now on; `None` if too many do already.
    #[must_use]
    pub fn follow(&self) -> Option<Follower> {
        self.shared.feed.follow()
    }

    /// Whether new events would be refused for lack of room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.journal.is_full()
    }

    /// Bytes that retention gave back since the start.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        self.shared.sweeper.freed_bytes()
    }

    /// How attempts went, by endpoint, since the start.
    #[must_use]
    pub fn attempts(&self) -> &ByName<Attempts> {
        &self.shared.attempts
    }

    /// What commits took since the start.
    #[must_use]
    pub fn commits(&self) -> &Arc<Commits> {
        self.shared.committer.measured()
    }

    /// Now, by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Follows the engine's health.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Takes no new events, lets attempts on their way end (at most for `deadline`), closes the journal.
    pub async fn stop(&self, deadline: Duration) -> Result<(), JournalError> {
        // What a failed journal cannot store is not worth waiting for: every second is one without intake.
        let failed = matches!(*self.shared.health.borrow(), Health::Failed(_));
        let deadline = if failed { Duration::ZERO } else { deadline };
        self.shared.health.send_if_modified(|health| {
            let running = *health == Health::Running;
            if running {
                *health = Health::Stopping;
            }
            running
        });
        self.shared.replayer.stop();
        self.shared.watching.stop();
        self.shared.sweeper.stop();
        let (reply, drained) = oneshot::channel();
        self.tell(Command::Stop(reply));
        if tokio::time::timeout(deadline, drained).await.is_err() {
            tracing::warn!("attempts are still on their way at the deadline; they will be made again");
        }
        self.shared.committer.stop().await;
        self.read(|journal| journal.close()).await
    }

    async fn commit(&self, change: Change) -> Result<Receipt, NotDone> {
        Ok(self.shared.committer.commit(change).await?)
    }

    fn tell(&self, command: Command) {
        // A dispatcher that is gone has stopped; whoever waits for an answer sees the channel close.
        let _told = self.shared.dispatcher.send(command).is_ok();
    }
}

/// Runs a task that must not end before the engine does: if it panics, the engine has failed and says so.
fn supervise(who: &'static str, health: watch::Sender<Health>, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            tracing::error!(who, "panicked; this is a bug in backstop");
            health.send_replace(Health::Failed(format!("{who} panicked")));
        }
    });
}

/// Reads the journal on a thread that may block.
async fn read_blocking<T: Send + 'static>(
    journal: Arc<dyn Journal>,
    read: impl FnOnce(&dyn Journal) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let reading = tokio::task::spawn_blocking(move || read(&*journal));
    reading.await.unwrap_or_else(|error| Err(JournalError::Failed(format!("reading panicked: {error}"))))
}

impl From<JournalError> for NotDone {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<JournalError> for NotAccepted {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Full(_) => Self::Full,
            JournalError::Closed => Self::Stopping,
            failed => Self::Failed(failed.to_string()),
        }
    }
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too many requests wait for the disk; send it again"),
            Self::Full => {
                f.write_str("the disk is nearly full; deliveries go on, new events are not taken until there is room")
            }
            Self::Stopping => f.write_str("the gateway is being stopped; send it again"),
            Self::Failed(_) => f.write_str("the journal failed; the gateway is ending"),
        }
    }
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such thing here"),
            Self::UnknownEndpoint(name) => write!(f, "the config has no endpoint `{name}`"),
            Self::InFlight => f.write_str("an attempt is on its way; ask again when it has ended"),
            Self::PayloadGone => {
                f.write_str("the event's body is no longer kept (retention): there is nothing to deliver")
            }
            Self::Ended => f.write_str("it has ended already"),
            Self::AlreadyScheduled => {
                f.write_str("a delivery of this event is waiting already; use force to make another")
            }
            Self::Invalid(why) => f.write_str(why),
            Self::Journal(error) => write!(f, "{error}"),
        }
    }
}
