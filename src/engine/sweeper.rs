//! The sweeper has the journal let go of what retention no longer keeps, a little at a time.
//!
//! Each step is small, is committed with whatever else the committer has, and is followed by a pause of some
//! times its own length: accepting and delivering go first. Nothing is decided here: the journal proposes by
//! [`Retention`], and decides again when the proposal is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::committer::Committer;
use super::rules::Current;
use super::{Clock, Health, Parts, read_blocking, supervise};
use crate::core::retention::Retention;
use crate::journal::retention::Sweep;
use crate::journal::{Journal, JournalError};

/// How long to wait before looking again when nothing was to be done.
const IDLE_PAUSE: Duration = Duration::from_secs(60);
/// How long to wait after the journal could not take a step.
const ERROR_PAUSE: Duration = Duration::from_secs(5);
/// A step's pause in lengths of the step: at most a fifth of one core is taken.
const PAUSE_FACTOR: u32 = 4;
/// The shortest pause after a step.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// A handle on the sweeper.
pub(super) struct Sweeper {
    woken: Arc<Notify>,
    stop: watch::Sender<bool>,
    freed_bytes: Arc<AtomicU64>,
}

/// What the task works with.
struct Task {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    committer: Committer,
    rules: Current,
}

impl Sweeper {
    /// Starts the task on the current runtime.
    pub(super) fn start(parts: &Parts, rules: &Current, committer: &Committer, health: &watch::Sender<Health>) -> Self {
        let task = Task {
            journal: Arc::clone(&parts.journal),
            clock: Arc::clone(&parts.clock),
            committer: committer.clone(),
            rules: rules.clone(),
        };
        let (stop, mut stopped) = watch::channel(false);
        let freed_bytes = Arc::new(AtomicU64::new(0));
        let woken = Arc::new(Notify::new());
        let (freed, wakes) = (Arc::clone(&freed_bytes), Arc::clone(&woken));
        supervise("the sweeper", health.clone(), async move {
            tokio::select! {
                () = task.run(&freed, &wakes) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        Self { woken, stop, freed_bytes }
    }

    /// The rules have changed: there may be something to do.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Bytes of the log that were given back since the start.
    pub(super) fn freed_bytes(&self) -> u64 {
        self.freed_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Task {
    /// Works until the journal is closed.
    async fn run(&self, freed_bytes: &AtomicU64, woken: &Notify) {
        loop {
            let began = Instant::now();
            let pause = match self.step(Arc::clone(&self.rules.load().retention), freed_bytes).await {
                Ok(true) => (began.elapsed() * PAUSE_FACTOR).max(PAUSE_MIN),
                Ok(false) => {
                    // Whoever wakes it or the time: either is a reason to look again.
                    let _woken = tokio::time::timeout(IDLE_PAUSE, woken.notified()).await.is_ok();
                    continue;
                }
                Err(JournalError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "retention could not go on");
                    ERROR_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One step; whether there may be another.
    async fn step(&self, retention: Arc<Retention>, freed_bytes: &AtomicU64) -> Result<bool, JournalError> {
        if retention.is_endless() {
            return Ok(false);
        }
        let now = self.clock.now();
        let sweep = read_blocking(Arc::clone(&self.journal), move |journal| journal.sweep(&retention, now)).await?;
        match sweep {
            Sweep::Change(change) => drop(self.committer.commit(change).await?),
            Sweep::Looked => {}
            Sweep::Damaged(stretches) => {
                let bytes: u64 = stretches.iter().map(|(_, len)| len).sum();
                let at: Vec<u64> = stretches.iter().map(|(at, _)| at.0).collect();
                tracing::warn!(
                    bytes,
                    ?at,
                    "a part of the log that retention is about to remove is damaged: what the index has of the events \
                     there is kept without their bodies, the rest is lost; `backstop journal stats` counts it"
                );
            }
            Sweep::Freed(bytes) => {
                freed_bytes.fetch_add(bytes, Ordering::Relaxed);
                tracing::info!(bytes, "retention has given back a part of the log");
            }
            Sweep::Idle => return Ok(false),
        }
        Ok(true)
    }
}
