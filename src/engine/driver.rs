//! The driver turns the dispatcher's crank: the only loop with `select!`.
//!
//! It performs what the dispatcher wants done, each piece as a task or a commit of its own, and tells it what
//! came of it. It never waits for anything but the next command or the next deadline.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use super::alerts::{Alerts, Fact};
use super::attempt::Try;
use super::committer::Committer;
use super::dispatcher::{self, Command, Dispatcher, Work};
use super::feed::{Ended, Feed};
use super::recent::Recent;
use super::replayer::Bell;
use super::rules::Current;
use super::{Clock, Health, Transport, read_blocking, supervise};
use crate::core::endpoint::Endpoint;
use crate::core::name::Name;
use crate::core::scheduler::{Dispatch, Limits, Refill};
use crate::core::source::ALERTS;
use crate::core::timestamp::Timestamp;
use crate::journal::{Journal, JournalError, Receipt};
use crate::telemetry::About;
use crate::telemetry::measures::{Attempts, ByName};

/// Commands taken in one go before the dispatcher is asked again.
const COMMANDS_MAX: usize = 256;
/// The longest sleep: a wall clock that was set is noticed within this.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How often the dispatcher's marks are remembered.
const MARK_PERIOD: Duration = Duration::from_secs(1);
/// How long to wait before asking again a journal that could not be read.
const LOAD_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Parts {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) rules: Current,
    pub(super) limits: Limits,
    pub(super) recent_max_bytes: u64,
    pub(super) committer: Committer,
    pub(super) own_commands: mpsc::UnboundedSender<Command>,
    pub(super) alerts: Alerts,
    pub(super) feed: Feed,
    /// Wants to know that events were accepted.
    pub(super) accepted: Arc<Notify>,
    pub(super) rng: fastrand::Rng,
    pub(super) health: watch::Sender<Health>,
    /// Rung when a delivery has moved on.
    pub(super) bell: Arc<Bell>,
    pub(super) measured: Arc<ByName<Attempts>>,
}

struct Driver {
    parts: Parts,
    dispatcher: Dispatcher,
    /// What the dispatcher's lanes are of.
    endpoints: HashMap<Name, Arc<Endpoint>>,
    recent: Recent,
    marked_at: Timestamp,
    /// What whoever follows will be told of attempts that have ended.
    ended: Ended,
    /// Endpoints whose last attempt was an alert's.
    alerted: HashSet<Name>,
    full: bool,
}

/// Starts the loop on the current runtime. It ends after [`Command::Stop`].
pub(super) fn start(parts: Parts, commands: mpsc::UnboundedReceiver<Command>) {
    let endpoints = parts.rules.load().endpoints.clone();
    let lots = dispatcher::lots(&*parts.journal, endpoints.values().map(|endpoint| &**endpoint));
    let clocks = (parts.clock.now(), parts.clock.steady());
    let dispatcher = Dispatcher::new(parts.limits, lots, parts.rng.clone(), clocks);
    let recent = Recent::new(parts.recent_max_bytes);
    let driver = Driver {
        parts,
        dispatcher,
        endpoints,
        recent,
        marked_at: Timestamp::ZERO,
        ended: Ended::default(),
        alerted: HashSet::new(),
        full: false,
    };
    supervise("the dispatcher", driver.parts.health.clone(), driver.run(commands));
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut batch = Vec::with_capacity(COMMANDS_MAX);
        loop {
            let now = self.now();
            while let Some(work) = self.dispatcher.poll_work(now) {
                self.perform(now, work);
            }
            self.ended.clear();
            self.mark(now);
            if let Some(stopped) = self.dispatcher.poll_stopped() {
                self.remember_marks();
                let _heard = stopped.send(()).is_ok();
                return;
            }
            tokio::select! {
                _received = commands.recv_many(&mut batch, COMMANDS_MAX) => {}
                () = tokio::time::sleep(self.sleep(now)) => {}
            }
            let now = self.now();
            batch.drain(..).for_each(|command| self.tell(now, command));
        }
    }

    fn tell(&mut self, now: Timestamp, command: Command) {
        match &command {
            Command::Committed(..) => self.parts.bell.landed(),
            Command::Attempted(about, _) => {
                self.note_alerted(about);
                if self.parts.feed.is_followed() {
                    self.ended.note(about);
                }
            }
            Command::Endpoints(lots, _) => {
                let named = lots.iter().map(|lot| (lot.endpoint.name.clone(), Arc::new(lot.endpoint.clone())));
                self.endpoints = named.collect();
            }
            _ => {}
        }
        let Command::Accepted(events) = command else { return self.dispatcher.handle(now, command) };
        if !self.parts.rules.load().lifecycles.is_empty() {
            self.parts.accepted.notify_one();
        }
        for (event, _place) in events {
            self.parts.feed.accepted(&event);
            let takers = self.dispatcher.handle_accepted(&event);
            self.recent.add(event, takers);
        }
    }

    fn note_alerted(&mut self, about: &About) {
        let is_alert = about.event.as_ref().is_some_and(|(source, ..)| source.as_str() == ALERTS);
        if is_alert {
            self.alerted.insert(about.endpoint.clone());
        } else if !self.alerted.is_empty() {
            self.alerted.remove(&about.endpoint);
        }
    }

    /// Now, by a wall clock that the dispatcher knows of: before anything is decided by it, waits have moved along.
    fn now(&mut self) -> Timestamp {
        let now = self.parts.clock.now();
        self.dispatcher.handle_clocks(now, self.parts.clock.steady());
        now
    }

    fn sleep(&self, now: Timestamp) -> Duration {
        let due = self.dispatcher.poll_timeout();
        due.map_or(SLEEP_MAX, |due| due.since(now)).clamp(Duration::from_millis(1), SLEEP_MAX)
    }

    fn perform(&mut self, now: Timestamp, work: Work) {
        match work {
            Work::Send(dispatch) => self.send(dispatch),
            Work::Load(refill) => self.load(refill),
            Work::Commit(change, then) => {
                let own = self.parts.own_commands.clone();
                let fact = self.parts.alerts.fact_of(&change, |endpoint| self.alerted.contains(endpoint));
                let alerts = fact.map(|fact| (self.parts.alerts.clone(), fact));
                let feed = &self.parts.feed;
                let happening = if feed.is_followed() { self.ended.happening(&change, now) } else { None };
                let happening = happening.map(|happened| (feed.clone(), happened));
                self.parts.committer.commit_then(change, move |result| {
                    if let (Some((alerts, fact)), Ok(Receipt::Done)) = (alerts, &result) {
                        alerts.note(fact);
                    }
                    if let (Some((feed, happened)), Ok(Receipt::Done)) = (happening, &result) {
                        feed.tell(happened);
                    }
                    let _told = own.send(Command::Committed(then, result)).is_ok();
                });
            }
        }
    }

    fn send(&mut self, dispatch: Dispatch) {
        let Some(endpoint) = self.endpoints.get(&dispatch.endpoint).cloned() else { return };
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
        let measured = Arc::clone(&self.parts.measured);
        tokio::spawn(async move {
            let (about, attempt) = try_it.run().await;
            measured.of(&about.endpoint).note(&about, &attempt);
            let _told = own.send(Command::Attempted(about, attempt)).is_ok();
        });
    }

    fn load(&self, refill: Refill) {
        let journal = Arc::clone(&self.parts.journal);
        let own = self.parts.own_commands.clone();
        tokio::spawn(async move {
            let answer = loop {
                let refill = refill.clone();
                match read_blocking(Arc::clone(&journal), move |journal| dispatcher::load(journal, &refill)).await {
                    Ok(answer) => break answer,
                    Err(JournalError::Closed) => return,
                    Err(error) => {
                        tracing::error!(%error, "the backlog could not be read");
                        tokio::time::sleep(LOAD_PAUSE).await;
                    }
                }
            };
            let _told = own.send(answer).is_ok();
        });
    }

    fn mark(&mut self, now: Timestamp) {
        if now.since(self.marked_at) >= MARK_PERIOD || now < self.marked_at {
            self.marked_at = now;
            self.remember_marks();
            let full = self.parts.journal.is_full();
            if !std::mem::replace(&mut self.full, full) && full {
                self.parts.alerts.note(Fact::Full);
            }
            // On a quiet gateway no commit would tell.
            if let Err(error @ JournalError::Failed(_)) = self.parts.journal.check() {
                self.parts.health.send_replace(Health::Failed(error.to_string()));
            }
        }
    }

    fn remember_marks(&self) {
        for (endpoint, mark) in self.dispatcher.marks() {
            self.parts.journal.set_mark(endpoint, mark);
        }
    }
}
