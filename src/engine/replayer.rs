//! The replayer works replays off, oldest first, a slice at a time.
//!
//! Each slice's deliveries and the replay's cursor are one commit: after a crash it goes on exactly behind
//! the last one. Pace, canary and per-type age come later; [`slice()`] is their place.
//!
//! An endpoint that keeps an order must know all that waits before a new event may go, and memory has bounds: so
//! nothing is made for one that has many waiting. Events that come in are not held up by a replay.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::committer::Committer;
use super::dispatcher::Command;
use super::{Clock, Health, read_blocking, supervise};
use crate::core::delivery::Delivery;
use crate::core::id::{DeliveryId, EventId};
use crate::core::name::Name;
use crate::core::replay::{Replay, ReplayState};
use crate::journal::{Advance, Change, Journal, JournalError, Query, Receipt};

/// Deliveries made in one commit.
const SLICE_MAX: usize = 256;
/// How long to wait before looking again whether an ordered endpoint has got on with what waits.
const CROWDED_PAUSE: Duration = Duration::from_millis(200);
/// How long to wait before going on after the journal could not be read.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// A handle on the replayer.
pub(super) struct Replayer {
    woken: Arc<Notify>,
    stop: watch::Sender<bool>,
}

/// What the task works with.
pub(super) struct Task {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) committer: Committer,
    pub(super) dispatcher: mpsc::UnboundedSender<Command>,
    /// Endpoints that keep an order, and how many deliveries may wait for one of them.
    pub(super) ordered: HashSet<Name>,
    pub(super) waiting_max: usize,
}

/// What a slice of a replay came to.
struct Slice {
    items: Vec<(EventId, Name)>,
    cursor: Option<DeliveryId>,
    finished: bool,
}

impl Replayer {
    /// Starts the task on the current runtime; replays that a former process left go on.
    pub(super) fn start(task: Task, health: watch::Sender<Health>) -> Self {
        let woken = Arc::new(Notify::new());
        woken.notify_one();
        let (stop, mut stopped) = watch::channel(false);
        let wake = Arc::clone(&woken);
        supervise("the replayer", health, async move {
            let forever = async {
                loop {
                    wake.notified().await;
                    task.work_off().await;
                }
            };
            tokio::select! {
                () = forever => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        Self { woken, stop }
    }

    /// There is something new to do.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Task {
    /// Works until no replay is running.
    async fn work_off(&self) {
        loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) | Err(JournalError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "a replay could not go on");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    /// One slice of the oldest running replay; whether there was one.
    async fn step(&self) -> Result<bool, JournalError> {
        let next = read_blocking(Arc::clone(&self.journal), |journal| {
            let replays = journal.replays()?;
            let running = replays.into_iter().rev().find(|replay| replay.state == ReplayState::Running);
            running.map(|replay| Ok((replay.id, slice(journal, &replay)?))).transpose()
        });
        let Some((id, Slice { items, cursor, finished })) = next.await? else { return Ok(false) };
        if self.is_crowded(&items).await {
            tokio::time::sleep(CROWDED_PAUSE).await;
            return Ok(true);
        }
        let advance = Advance { id, cursor, items, at: self.clock.now(), finished };
        if let Receipt::Made(made) = self.committer.commit(Change::AdvanceReplay(advance)).await? {
            let _told = self.dispatcher.send(Command::Made(made)).is_ok();
        }
        Ok(true)
    }

    /// Whether an endpoint that keeps an order, and that a slice is for, has many waiting.
    async fn is_crowded(&self, items: &[(EventId, Name)]) -> bool {
        let targets: HashSet<&Name> = items.iter().map(|(_, to)| to).filter(|to| self.ordered.contains(*to)).collect();
        if targets.is_empty() {
            return false;
        }
        let (reply, lanes) = oneshot::channel();
        let _told = self.dispatcher.send(Command::Lanes(reply)).is_ok();
        let lanes = lanes.await.unwrap_or_default();
        lanes.iter().any(|lane| lane.waiting >= self.waiting_max && targets.contains(&lane.endpoint))
    }
}

/// The next fitting deliveries behind the replay's cursor.
fn slice(journal: &dyn Journal, replay: &Replay) -> Result<Slice, JournalError> {
    let filter = replay.filter.clone();
    if filter.unrouted {
        let after = replay.cursor.map(|cursor| cursor.event);
        let page = journal.events(&Query { filter, after, newest_first: false, limit: SLICE_MAX })?;
        let to = replay.to.iter();
        let meant = page.items.iter().filter(|view| is_older(view.head.id, replay));
        let items = meant.flat_map(|view| to.clone().map(|to| (view.head.id, to.clone()))).collect();
        let last = page.next.or(page.items.last().map(|view| view.head.id));
        let cursor = last.map(|id| id.delivery(u16::MAX)).or(replay.cursor);
        return Ok(Slice { items, cursor, finished: page.next.is_none() });
    }
    let page = journal.deliveries(&Query { filter, after: replay.cursor, newest_first: false, limit: SLICE_MAX })?;
    let target = |endpoint: &Name| replay.to.clone().unwrap_or_else(|| endpoint.clone());
    // What was made since the replay began, by itself or by hand, is not what was asked for.
    let is_meant = |delivery: &Delivery| delivery.born_at <= replay.created_at && delivery.replay != Some(replay.id);
    let meant = page.items.iter().filter(|(head, delivery)| is_older(head.id, replay) && is_meant(delivery));
    let items = meant.map(|(head, delivery)| (head.id, target(&delivery.endpoint))).collect();
    let cursor = page.next.or(page.items.last().map(|(_, delivery)| delivery.id)).or(replay.cursor);
    Ok(Slice { items, cursor, finished: page.next.is_none() })
}

/// Whether an event was there when the replay was asked for. Both ids come from one source that only grows,
/// so this holds even where the clock stepped back.
const fn is_older(event: EventId, replay: &Replay) -> bool {
    event.as_u128() < replay.id.as_u128()
}
