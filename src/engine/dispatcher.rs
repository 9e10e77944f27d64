//! The dispatcher drives the scheduler: the only loop with `select!`.
//!
//! It performs what the scheduler decides (send this, ask the journal for more) and tells it what came of
//! it. It never waits for anything but the next command or the scheduler's next deadline.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::committer::Committer;
use super::recent::Recent;
use super::{Clock, Health, NotDone, Sending, Transport, read_blocking, supervise};
use crate::core::attempt::{Attempt, Failure, FailureClass, Outcome, Reply};
use crate::core::delivery::Delivery;
use crate::core::endpoint::Endpoint;
use crate::core::event::{Event, KeyTag};
use crate::core::id::{DeliveryId, ReplayId};
use crate::core::name::Name;
use crate::core::scheduler::{Active, Dispatch, Fresh, LaneView, Limits, Lot, Refill, Scheduler, Transition, Wait};
use crate::core::standing::Pause;
use crate::core::timestamp::{Timestamp, duration_millis};
use crate::journal::{Change, Journal, JournalError, Receipt, Settlement};
use crate::telemetry::{self, About};

/// Commands taken in one go before the scheduler is asked again.
const COMMANDS_MAX: usize = 256;
/// The longest sleep: a wall clock that was set is noticed within this.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How often the scheduler's marks are remembered.
const MARK_PERIOD: Duration = Duration::from_secs(1);
/// How long to wait before asking again a journal that could not be read.
const REFILL_PAUSE: Duration = Duration::from_secs(1);
/// A wall clock that parts from the steady one by more than this has been set.
const JUMP_MIN: Duration = Duration::from_millis(500);

/// What the dispatcher is told.
pub(super) enum Command {
    /// These events are durable. Each holds its place in the accept queue until it is known here.
    Accepted(Vec<(Arc<Event>, OwnedSemaphorePermit)>),
    /// These deliveries of old events are durable.
    Made(Vec<(DeliveryId, Name)>),
    /// An attempt has ended.
    Attempted(About, Attempt),
    /// An attempt's outcome is durable.
    Settled(DeliveryId),
    /// An attempt's outcome was not taken: the delivery has moved on without it.
    Dropped(DeliveryId),
    /// The journal's answers.
    Fresh(Name, Fresh),
    Waiting(Name, Vec<Active>, bool),
    Line(Name, KeyTag, Fresh),
    /// Take this delivery out and commit that, if it is not on its way.
    Cancel {
        id: DeliveryId,
        endpoint: Name,
        reply: oneshot::Sender<Result<Receipt, NotDone>>,
    },
    /// Send nothing to this endpoint, or send again; answer when that is durable.
    Pause(Name, Pause, oneshot::Sender<Result<(), JournalError>>),
    Resume(Name, oneshot::Sender<Result<(), JournalError>>),
    /// How do the lanes stand?
    Lanes(oneshot::Sender<Vec<LaneView>>),
    /// What do these deliveries wait for?
    Waits(Vec<Delivery>, oneshot::Sender<Vec<Option<Wait>>>),
    /// A cancellation is decided and on disk.
    Cancelled {
        id: DeliveryId,
        endpoint: Name,
    },
    /// Send nothing more; answer when nothing is on its way.
    Stop(oneshot::Sender<()>),
}

pub(super) struct Parts {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) endpoints: HashMap<Name, Arc<Endpoint>>,
    pub(super) limits: Limits,
    pub(super) recent_max_bytes: u64,
    pub(super) committer: Committer,
    pub(super) own_commands: mpsc::UnboundedSender<Command>,
    pub(super) rng: fastrand::Rng,
    pub(super) health: watch::Sender<Health>,
}

struct Dispatcher {
    parts: Parts,
    scheduler: Scheduler,
    recent: Recent,
    marked_at: Timestamp,
    /// The wall clock and the steady one, when they were last compared.
    clocks: (Timestamp, Duration),
    stopping: Option<oneshot::Sender<()>>,
}

/// Starts the loop on the current runtime. It ends after [`Command::Stop`].
pub(super) fn start(parts: Parts, commands: mpsc::UnboundedReceiver<Command>) {
    let journal = &parts.journal;
    let lot = |endpoint: &Arc<Endpoint>| {
        let (mark, standing) = (journal.mark(&endpoint.name), journal.standing(&endpoint.name));
        Lot { endpoint: (**endpoint).clone(), mark, standing }
    };
    let mut lots: Vec<Lot> = parts.endpoints.values().map(lot).collect();
    lots.sort_by(|one, other| one.endpoint.name.cmp(&other.endpoint.name));
    let scheduler = Scheduler::new(parts.limits, lots);
    let recent = Recent::new(parts.recent_max_bytes);
    let clocks = (parts.clock.now(), parts.clock.steady());
    let dispatcher = Dispatcher { parts, scheduler, recent, marked_at: Timestamp::ZERO, clocks, stopping: None };
    let health = dispatcher.parts.health.clone();
    supervise("the dispatcher", health, dispatcher.run(commands));
}

impl Dispatcher {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut batch = Vec::with_capacity(COMMANDS_MAX);
        loop {
            let now = self.parts.clock.now();
            self.compare_clocks(now);
            if self.stopping.is_none() {
                self.dispatch(now);
                self.refill();
            }
            self.remember_standings(None);
            self.mark(now);
            if self.scheduler.in_flight() == 0
                && let Some(stopped) = self.stopping.take()
            {
                self.remember_marks();
                let _heard = stopped.send(()).is_ok();
                return;
            }
            tokio::select! {
                _received = commands.recv_many(&mut batch, COMMANDS_MAX) => {}
                () = tokio::time::sleep(self.sleep(now)) => {}
            }
            for command in batch.drain(..) {
                self.handle(command);
            }
        }
    }

    fn sleep(&self, now: Timestamp) -> Duration {
        let due = self.scheduler.poll_timeout().filter(|_| self.stopping.is_none());
        due.map_or(SLEEP_MAX, |due| due.since(now)).clamp(Duration::from_millis(1), SLEEP_MAX)
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Accepted(events) => events.into_iter().for_each(|(event, _place)| self.handle_accepted(event)),
            Command::Made(deliveries) => {
                let now = self.parts.clock.now();
                deliveries.iter().for_each(|(_, endpoint)| self.scheduler.handle_replayed(endpoint, now));
            }
            Command::Attempted(about, attempt) => self.handle_attempted(&about, attempt),
            Command::Settled(id) => self.scheduler.handle_settled(id),
            Command::Dropped(id) => self.scheduler.handle_dropped(id),
            Command::Cancelled { id, endpoint } => self.scheduler.handle_cancelled(id, &endpoint),
            Command::Fresh(endpoint, fresh) => self.scheduler.handle_fresh(&endpoint, fresh),
            Command::Line(endpoint, key, fresh) => self.scheduler.handle_line(&endpoint, key, fresh),
            Command::Waiting(endpoint, waiting, end) => {
                self.scheduler.handle_waiting(self.parts.clock.now(), &endpoint, &waiting, end);
            }
            Command::Pause(endpoint, pause, reply) => {
                self.scheduler.handle_paused(&endpoint, pause);
                self.remember_standings(Some((endpoint, reply)));
            }
            Command::Resume(endpoint, reply) => {
                self.scheduler.handle_resumed(self.parts.clock.now(), &endpoint);
                self.remember_standings(Some((endpoint, reply)));
            }
            Command::Cancel { id, endpoint, reply } => self.handle_cancel(id, endpoint, reply),
            Command::Lanes(reply) => {
                let _heard = reply.send(self.scheduler.lanes(self.parts.clock.now()).collect()).is_ok();
            }
            Command::Waits(deliveries, reply) => {
                let now = self.parts.clock.now();
                let waits = deliveries.iter().map(|delivery| self.scheduler.wait(now, delivery)).collect();
                let _heard = reply.send(waits).is_ok();
            }
            Command::Stop(reply) => self.stopping = Some(reply),
        }
    }

    fn handle_accepted(&mut self, event: Arc<Event>) {
        for (slot, endpoint) in event.draft.endpoints.iter().enumerate() {
            let Ok(slot) = u16::try_from(slot) else { break };
            let key = event.draft.key.as_deref();
            self.scheduler.handle_accepted(event.id.delivery(slot), endpoint, event.received_at, key);
        }
        self.recent.add(event);
    }

    /// Decided here, committed by the committer, released when it says so.
    fn handle_attempted(&mut self, about: &About, attempt: Attempt) {
        let id = about.delivery;
        let now = self.parts.clock.now();
        let decided = self.scheduler.handle_outcome(now, id, &attempt, &mut self.parts.rng);
        let Some(Transition { id, step, reason }) = decided else { return };
        telemetry::attempt(about, &attempt, step, reason);
        let own = self.parts.own_commands.clone();
        let settle = Change::Settle(Settlement { id, attempt, step, reason });
        self.parts.committer.commit_then(settle, move |result| match result {
            Ok(receipt) => {
                let stored = receipt == Receipt::Done;
                let _told = own.send(if stored { Command::Settled(id) } else { Command::Dropped(id) }).is_ok();
            }
            // The journal has failed, and the process is ending: the attempt will be made again.
            Err(error) => tracing::error!(delivery = %id, %error, "an outcome could not be stored"),
        });
    }

    /// Taken out here, committed by the committer, forgotten when it says so. Who asked may have gone by then.
    fn handle_cancel(&mut self, id: DeliveryId, endpoint: Name, reply: oneshot::Sender<Result<Receipt, NotDone>>) {
        if self.scheduler.handle_cancel(id, &endpoint).is_err() {
            let _heard = reply.send(Err(NotDone::InFlight)).is_ok();
            return;
        }
        let own = self.parts.own_commands.clone();
        let cancel = Change::Cancel { id, at: self.parts.clock.now() };
        self.parts.committer.commit_then(cancel, move |result| {
            let _told = own.send(Command::Cancelled { id, endpoint }).is_ok();
            let _heard = reply.send(result.map_err(NotDone::Journal)).is_ok();
        });
    }

    fn dispatch(&mut self, now: Timestamp) {
        while let Some(dispatch) = self.scheduler.poll_dispatch(now) {
            let Some(endpoint) = self.parts.endpoints.get(&dispatch.endpoint).cloned() else { continue };
            let recent = if dispatch.attempt == 1 { self.recent.take(dispatch.id) } else { None };
            let try_it = Try {
                journal: Arc::clone(&self.parts.journal),
                clock: Arc::clone(&self.parts.clock),
                transport: Arc::clone(&self.parts.transport),
                endpoint,
                dispatch,
                recent,
            };
            let own = self.parts.own_commands.clone();
            tokio::spawn(async move {
                let (about, attempt) = try_it.run().await;
                let _told = own.send(Command::Attempted(about, attempt)).is_ok();
            });
        }
    }

    fn refill(&mut self) {
        while let Some(refill) = self.scheduler.poll_refill() {
            let journal = Arc::clone(&self.parts.journal);
            let own = self.parts.own_commands.clone();
            tokio::spawn(async move {
                let answer = loop {
                    match ask(Arc::clone(&journal), refill.clone()).await {
                        Ok(answer) => break answer,
                        Err(JournalError::Closed) => return,
                        Err(error) => {
                            tracing::error!(%error, "the backlog could not be read");
                            tokio::time::sleep(REFILL_PAUSE).await;
                        }
                    }
                };
                let _told = own.send(answer).is_ok();
            });
        }
    }

    /// Has changed standings written down; `reply` hears of its endpoint's.
    fn remember_standings(&mut self, mut reply: Option<(Name, oneshot::Sender<Result<(), JournalError>>)>) {
        while let Some((endpoint, standing)) = self.scheduler.poll_standing() {
            telemetry::standing(&endpoint, &standing);
            let reply = reply.take_if(|(asked, _)| *asked == endpoint);
            self.parts.committer.commit_then(Change::Stand { endpoint, standing }, move |result| match reply {
                Some((_, reply)) => {
                    let _heard = reply.send(result.map(|_| ())).is_ok();
                }
                // The journal has failed, and the process is ending: the next one learns it again.
                None => drop(result),
            });
        }
        // Nothing has changed: it stands on disk as asked.
        if let Some((_, reply)) = reply {
            let _heard = reply.send(Ok(())).is_ok();
        }
    }

    /// Has every wait move along when the wall clock was set: neither a storm nor a stall comes of it.
    fn compare_clocks(&mut self, now: Timestamp) {
        let steady = self.parts.clock.steady();
        let (wall_before, steady_before) = std::mem::replace(&mut self.clocks, (now, steady));
        let expected = wall_before.after(steady.saturating_sub(steady_before));
        let (ahead, back) = (now.since(expected), expected.since(now));
        if ahead.max(back) >= JUMP_MIN {
            let by = i64::try_from(duration_millis(ahead)).unwrap_or(i64::MAX)
                - i64::try_from(duration_millis(back)).unwrap_or(i64::MAX);
            tracing::warn!(by_ms = by, "the wall clock was set; waits go on as they were");
            self.scheduler.handle_clock_jump(by);
        }
    }

    fn mark(&mut self, now: Timestamp) {
        if now.since(self.marked_at) >= MARK_PERIOD || now < self.marked_at {
            self.marked_at = now;
            self.remember_marks();
            // On a quiet gateway no commit would tell.
            if let Err(error @ JournalError::Failed(_)) = self.parts.journal.check() {
                self.parts.health.send_replace(Health::Failed(error.to_string()));
            }
        }
    }

    fn remember_marks(&self) {
        for (endpoint, mark) in self.scheduler.marks() {
            self.parts.journal.set_mark(endpoint, mark);
        }
    }
}

async fn ask(journal: Arc<dyn Journal>, refill: Refill) -> Result<Command, JournalError> {
    read_blocking(journal, move |journal| {
        Ok(match refill {
            Refill::Fresh { endpoint, after, limit } => {
                let fresh = journal.fresh(&endpoint, after, limit)?;
                Command::Fresh(endpoint, fresh)
            }
            Refill::Line { endpoint, key, after, limit } => {
                let fresh = journal.fresh_of_key(&endpoint, key, after, limit)?;
                Command::Line(endpoint, key, fresh)
            }
            Refill::Waiting { endpoint, limit } => {
                let (waiting, end) = journal.waiting(&endpoint, limit)?;
                Command::Waiting(endpoint, waiting, end)
            }
        })
    })
    .await
}

/// One attempt, from finding the event to knowing what came back.
struct Try {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
    endpoint: Arc<Endpoint>,
    dispatch: Dispatch,
    recent: Option<Arc<Event>>,
}

/// An event that is to be sent, with what is known of its delivery.
struct Found {
    event: Arc<Event>,
    replay: Option<ReplayId>,
    again: bool,
}

impl Try {
    async fn run(self) -> (About, Attempt) {
        let (delivery, number) = (self.dispatch.id, self.dispatch.attempt);
        let mut about = About { delivery, endpoint: self.endpoint.name.clone(), event: None, body_bytes: 0 };
        let started_at = self.clock.now();
        let began = Instant::now();
        let (reply, lost) = match self.find().await {
            Ok(Some(found)) => {
                let draft = &found.event.draft;
                about.event = Some((draft.source.clone(), draft.event_type.clone(), draft.key.clone()));
                about.body_bytes = draft.body.len();
                // A bug in a transport must not take the slot with it for ever.
                let sent = AssertUnwindSafe(self.send(found, started_at)).catch_unwind().await;
                (sent.unwrap_or_else(|_| not_sent("sending panicked; this is a bug in backstop")), false)
            }
            Ok(None) => (not_sent("the event's record in the log is damaged: there is nothing to send"), true),
            Err(error) => (not_sent(&format!("the event could not be read: {error}")), false),
        };
        let took_ms = u32::try_from(duration_millis(began.elapsed())).unwrap_or(u32::MAX);
        let outcome = if lost { Outcome::Permanent } else { Outcome::classify(&reply, &self.endpoint.permanent) };
        let Dispatch { probe, out_of_order, .. } = self.dispatch;
        (about, Attempt { number, started_at, took_ms, reply, outcome, probe, out_of_order })
    }

    /// The event, from memory or from the journal. `None` if it is lost.
    async fn find(&self) -> Result<Option<Found>, JournalError> {
        if let Some(event) = &self.recent {
            return Ok(Some(Found { event: Arc::clone(event), replay: None, again: false }));
        }
        let delivery = self.dispatch.id;
        read_blocking(Arc::clone(&self.journal), move |journal| {
            let view = journal.entry(delivery.event)?;
            let known = view.and_then(|view| view.deliveries.into_iter().find(|known| known.id == delivery));
            let (Some(event), Some(known)) = (journal.event(delivery.event)?, known) else { return Ok(None) };
            let again = usize::from(delivery.slot) >= event.draft.endpoints.len();
            Ok(Some(Found { event, replay: known.replay, again }))
        })
        .await
    }

    async fn send(&self, found: Found, now: Timestamp) -> Reply {
        let Found { event, replay, again } = found;
        let (endpoint, delivery, attempt) = (Arc::clone(&self.endpoint), self.dispatch.id, self.dispatch.attempt);
        self.transport.send(Sending { endpoint, event, delivery, attempt, replay, again, now }).await
    }
}

fn not_sent(detail: &str) -> Reply {
    Reply::Failure(Failure { class: FailureClass::NotSent, detail: detail.to_owned() })
}
