//! Alerts: what has happened to endpoints, deliveries and the journal is told as events of the gateway's own.
//!
//! The driver notes facts once they are committed ([`Alerts`]), and a task tells them ([`Herald`]). Promises: an
//! alert never causes an alert, neither by its delivery nor by the circuit that this opens; an endpoint is not told
//! of itself; who was told that a circuit opened is told that it closed; of a kind and an endpoint a few a minute are told singly and the rest as one. How endpoints stand is
//! looked at again at every start. What a crash can lose: that a delivery died or a circuit closed just before it;
//! the list of failures and the standing have that all the same.
//!
//! While no route asks for alerts nothing is noted, and none of this is done.

mod body;
mod herald;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use self::body::Body;
pub(super) use self::herald::{Herald, test};
use super::rules::Current;
use super::{Clock, Health, read_blocking, supervise};
use crate::core::alert::{Alert, AlertKind, Damper, of_standing};
use crate::core::breaker::Circuit;
use crate::core::delivery::{Delivery, Step};
use crate::core::event::EventHead;
use crate::core::id::DeliveryId;
use crate::core::lifecycle::GapKind;
use crate::core::name::Name;
use crate::core::source::ALERTS;
use crate::core::standing::{PauseCause, Standing};
use crate::journal::{Change, Journal, JournalError};

/// Dead deliveries that may wait to be told; more are only counted.
const DEAD_WAITING_MAX: u64 = 4096;
/// Facts looked at together.
const FACTS_MAX: usize = 256;
/// The longest sleep: a clock that was set is noticed within this.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// Something that is committed.
#[derive(Debug)]
pub(super) enum Fact {
    /// A delivery gave up.
    Dead(DeliveryId),
    /// An endpoint stands like this; whether what came of an alert's delivery may have brought it about.
    Stood { endpoint: Name, standing: Standing, by_alert: bool },
    /// The journal has no room for new events.
    Full,
    /// The rules have changed: there may be endpoints that nobody has looked at.
    Changed,
}

/// Where facts are noted. Cheap to clone; noting never waits.
#[derive(Clone)]
pub(super) struct Alerts {
    facts: mpsc::UnboundedSender<Fact>,
    rules: Current,
    load: Arc<Load>,
}

/// How many dead deliveries wait to be told, and how many were counted only.
#[derive(Debug, Default)]
struct Load {
    waiting: AtomicU64,
    missed: AtomicU64,
}

/// What the task works with.
pub(super) struct Parts {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) herald: Herald,
    pub(super) rules: Current,
}

struct Task {
    parts: Parts,
    load: Arc<Load>,
    damper: Damper,
    known: BTreeMap<Name, Standing>,
    /// Endpoints of whose open circuit was told: only those are told of when it closes.
    opened: BTreeSet<Name>,
}

impl Alerts {
    /// Starts the task on the current runtime. It ends when `stopped` says so.
    pub(super) fn start(parts: Parts, health: watch::Sender<Health>, mut stopped: watch::Receiver<bool>) -> Self {
        let load = Arc::new(Load::default());
        let (facts, noted) = mpsc::unbounded_channel();
        let rules = parts.rules.clone();
        let (known, opened) = (BTreeMap::new(), BTreeSet::new());
        let task = Task { parts, load: Arc::clone(&load), damper: Damper::default(), known, opened };
        supervise("the alerts' task", health, async move {
            tokio::select! {
                () = task.run(noted) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        Self { facts, rules, load }
    }

    /// What a change will mean once it is committed; `by_alert` says whether an endpoint's last attempt was an alert's.
    pub(super) fn fact_of(&self, change: &Change, by_alert: impl FnOnce(&Name) -> bool) -> Option<Fact> {
        if !self.is_wanted() {
            return None;
        }
        match change {
            Change::Settle(settlement) if settlement.step == Step::GiveUp => Some(Fact::Dead(settlement.id)),
            Change::Stand { endpoint, standing } => Some(Fact::Stood {
                by_alert: by_alert(endpoint),
                endpoint: endpoint.clone(),
                standing: standing.clone(),
            }),
            _ => None,
        }
    }

    /// Whether anybody wants to know.
    fn is_wanted(&self) -> bool {
        self.rules.load().takes_alerts
    }

    /// The rules have changed.
    pub(super) fn look_again(&self) {
        self.note(Fact::Changed);
    }

    /// This is committed.
    pub(super) fn note(&self, fact: Fact) {
        if !self.is_wanted() {
            return;
        }
        if matches!(fact, Fact::Dead(_)) {
            if self.load.waiting.load(Ordering::Relaxed) >= DEAD_WAITING_MAX {
                self.load.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.load.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let _noted = self.facts.send(fact).is_ok();
    }
}

impl Task {
    async fn run(mut self, mut facts: mpsc::UnboundedReceiver<Fact>) {
        self.look().await;
        let mut batch = Vec::with_capacity(FACTS_MAX);
        loop {
            let now = self.parts.clock.now();
            while let Some(sum) = self.damper.poll_sum(now) {
                self.send(&sum).await;
            }
            let due = self.damper.poll_timeout().map_or(SLEEP_MAX, |due| due.since(now));
            tokio::select! {
                received = facts.recv_many(&mut batch, FACTS_MAX) => if received == 0 { return },
                () = tokio::time::sleep(due.clamp(Duration::from_millis(1), SLEEP_MAX)) => {}
            }
            self.work_off(&mut batch).await;
        }
    }

    /// Looks how endpoints stand that it has not heard of yet.
    ///
    /// What was not told before the last end is told now; the rest is told once only anyhow.
    async fn look(&mut self) {
        let rules = self.parts.rules.load();
        if !rules.takes_alerts {
            return;
        }
        let unheard: BTreeSet<&Name> =
            rules.endpoints.keys().filter(|endpoint| !self.known.contains_key(*endpoint)).collect();
        for endpoint in unheard {
            let standing = self.parts.journal.standing(endpoint);
            if matches!(standing.circuit, Circuit::HalfOpen { .. }) {
                self.opened.insert(endpoint.clone());
            }
            self.stood(endpoint.clone(), standing, false).await;
        }
    }

    async fn work_off(&mut self, batch: &mut Vec<Fact>) {
        let mut dead = Vec::new();
        for fact in batch.drain(..) {
            match fact {
                Fact::Dead(id) => dead.push(id),
                Fact::Stood { endpoint, standing, by_alert } => {
                    self.died(std::mem::take(&mut dead)).await;
                    self.stood(endpoint, standing, by_alert).await;
                }
                Fact::Changed => self.look().await,
                Fact::Full => {
                    let alert = Alert::new(AlertKind::HighWater, self.parts.clock.now(), "no_room");
                    self.tell(&alert).await;
                }
            }
        }
        self.died(dead).await;
        let missed = self.load.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let now = self.parts.clock.now();
            let alert = Alert::new(AlertKind::DeliveryDead, now, "many");
            self.tell(&Alert { count: missed, until: Some(now), ..alert }).await;
        }
    }

    async fn stood(&mut self, endpoint: Name, standing: Standing, by_alert: bool) {
        let now = self.parts.clock.now();
        let before = self.known.insert(endpoint.clone(), standing.clone()).unwrap_or_default();
        // What an operator wants came of no delivery.
        let by_operator = standing.pause.as_ref().is_some_and(|pause| pause.cause == PauseCause::Operator);
        for alert in of_standing(now, &endpoint, &before, &standing) {
            let is_meant = match alert.kind {
                AlertKind::CircuitClosed => self.opened.remove(&endpoint),
                AlertKind::Paused => !by_alert || by_operator,
                _ => !by_alert,
            };
            if is_meant && alert.kind == AlertKind::CircuitOpened {
                self.opened.insert(endpoint.clone());
            }
            if is_meant {
                self.tell(&alert).await;
            }
        }
    }

    /// Tells of deliveries that gave up, looked up together.
    async fn died(&mut self, ids: Vec<DeliveryId>) {
        if ids.is_empty() {
            return;
        }
        self.load.waiting.fetch_sub(ids.len() as u64, Ordering::Relaxed);
        let found = read_blocking(Arc::clone(&self.parts.journal), move |journal| {
            let find = |id: DeliveryId| -> Result<Option<(EventHead, Delivery)>, JournalError> {
                let Some(view) = journal.entry(id.event)? else { return Ok(None) };
                Ok(view.deliveries.into_iter().find(|delivery| delivery.id == id).map(|delivery| (view.head, delivery)))
            };
            ids.into_iter().filter_map(|id| find(id).transpose()).collect::<Result<Vec<_>, _>>()
        });
        let found = match found.await {
            Ok(found) => found,
            Err(error) => return tracing::error!(%error, "dead deliveries are not told of"),
        };
        for (head, delivery) in found.into_iter().filter(|(head, _)| head.source.as_str() != ALERTS) {
            let alert = Alert {
                endpoint: Some(delivery.endpoint),
                event: Some(head.id),
                source: Some(head.source),
                key: head.key,
                ..Alert::new(AlertKind::DeliveryDead, delivery.changed_at, delivery.reason.as_str())
            };
            self.tell(&Alert { delivery: Some(delivery.id), ..alert.clone() }).await;
            let rules = self.parts.rules.load();
            let is_of_call = rules.lifecycles.iter().any(|(source, _)| alert.source.as_ref() == Some(source));
            if is_of_call && alert.key.is_some() {
                let (kind, reason) = (AlertKind::CallIncomplete, GapKind::Undelivered.as_str());
                self.tell(&Alert { kind, reason, ..alert }).await;
            }
        }
    }

    /// Tells it now, or later with others.
    async fn tell(&mut self, alert: &Alert) {
        if self.damper.admits(self.parts.clock.now(), alert) {
            self.send(alert).await;
        }
    }

    async fn send(&self, alert: &Alert) {
        match self.parts.herald.tell(alert).await {
            Ok(()) | Err(JournalError::Closed) => {}
            Err(error) => tracing::warn!(%error, what = alert.kind.event_type(), "an alert could not be journaled"),
        }
    }
}
