//! The replayer works replays off, taking turns, a slice at a time.
//!
//! Each slice's deliveries and the replay's cursor are one commit: after a crash it goes on exactly behind
//! the last one. How much a slice may hold is [`Replay::next`]'s to say; what is in it, the [`walk`](super::walk)'s.
//! A replay that waits for its deliveries to end is woken by those.
//!
//! An endpoint that keeps an order must know all that waits before a new event may go, and memory has bounds: so
//! nothing is made for one that has many waiting, and other replays go on. Events that come in are not held up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::committer::Committer;
use super::dispatcher::Command;
use super::rules::Current;
use super::walk::fared;
use super::{Clock, Health, Parts, read_blocking, supervise};
use crate::core::endpoint::Order;
use crate::core::id::{EventId, ReplayId};
use crate::core::name::Name;
use crate::core::rate::Bucket;
use crate::core::replay::{Fared, Next, OPEN_MAX, Replay, ReplayState, Turn};
use crate::core::timestamp::Timestamp;
use crate::journal::{Change, Journal, JournalError, Receipt};

/// Deliveries made in one commit.
const SLICE_MAX: u64 = 256;
/// Looked at for one commit where the newest go first, which makes deliveries of the first event that fits.
const SLICE_NEWEST_MAX: u64 = 8;
/// What is due at the same time goes oldest first: so much lies between commits where the newest go first.
const NEWEST_APART: Duration = Duration::from_millis(1);
/// How long to wait before looking again whether an ordered endpoint has got on with what waits.
const CROWDED_PAUSE: Duration = Duration::from_millis(200);
/// Deliveries that end within so much time are taken notice of together.
const LANDING_PAUSE: Duration = Duration::from_millis(2);
/// How long to wait before going on after the journal could not be read or written.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait before looking again whether the disk has room for more than outcomes.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// The longest sleep where deliveries are waited for: retention ends some without a word.
const LANDING_MAX: Duration = Duration::from_secs(10);
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// A handle on the replayer.
pub(super) struct Replayer {
    bell: Arc<Bell>,
    stop: watch::Sender<bool>,
}

/// Wakes the replayer.
#[derive(Default)]
pub(super) struct Bell {
    woken: Notify,
    /// Whether a replay waits for deliveries to end.
    is_awaited: AtomicBool,
}

impl Bell {
    /// A delivery has ended, or was tried: for whoever waits for that.
    pub(super) fn landed(&self) {
        if self.is_awaited.load(Ordering::Relaxed) {
            self.woken.notify_one();
        }
    }
}

/// What the task works with.
pub(super) struct Task {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    committer: Committer,
    dispatcher: mpsc::UnboundedSender<Command>,
    rules: Current,
    /// How many deliveries may wait for an endpoint that keeps an order.
    waiting_max: usize,
    /// So many deliveries of replays may be open at a time.
    open_max: u64,
    /// Of each running replay, so many failures are forgiven: no more than there are.
    forgiven: HashMap<ReplayId, u64>,
    /// What the rates of running replays still allow, by the steady clock.
    buckets: HashMap<ReplayId, Bucket>,
    /// When running replays that begin with the newest made the last ones.
    newest_at: HashMap<ReplayId, Timestamp>,
}

/// What came of a look at one replay.
enum Step {
    /// It got on: there may be more to do at once.
    Moved,
    /// Nothing before so much time has passed.
    Wait(Duration),
    /// Nothing until some of its deliveries have ended.
    Landing,
}

impl Replayer {
    /// Starts the task on the current runtime; replays that a former process left go on.
    pub(super) fn start(task: Task, bell: Arc<Bell>, health: watch::Sender<Health>) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let woken = Arc::clone(&bell);
        supervise("the replayer", health, async move {
            tokio::select! {
                () = task.run(&woken) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        Self { bell, stop }
    }

    /// There is something new to do.
    pub(super) fn wake(&self) {
        self.bell.woken.notify_one();
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Task {
    pub(super) fn new(
        parts: &Parts,
        committer: Committer,
        dispatcher: mpsc::UnboundedSender<Command>,
        rules: Current,
    ) -> Self {
        Self {
            journal: Arc::clone(&parts.journal),
            clock: Arc::clone(&parts.clock),
            committer,
            dispatcher,
            rules,
            waiting_max: parts.limits.ordered_max / 4,
            open_max: (parts.limits.active_max as u64 / 4).clamp(1, OPEN_MAX),
            buckets: HashMap::new(),
            forgiven: HashMap::new(),
            newest_at: HashMap::new(),
        }
    }

    async fn run(mut self, bell: &Bell) {
        loop {
            let pause = match self.round(bell).await {
                Ok(pause) => pause,
                Err(JournalError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "a replay could not go on");
                    ERROR_PAUSE
                }
            };
            if pause > Duration::ZERO && tokio::time::timeout(pause, bell.woken.notified()).await.is_ok() {
                tokio::time::sleep(LANDING_PAUSE).await;
            }
        }
    }

    /// A slice of each running replay, oldest first; how long nothing is to be done then.
    async fn round(&mut self, bell: &Bell) -> Result<Duration, JournalError> {
        // Set before anything is looked at: what ends meanwhile rings.
        bell.is_awaited.store(true, Ordering::Relaxed);
        let (replays, tallies) =
            read_blocking(Arc::clone(&self.journal), |journal| Ok((journal.replays()?, journal.counters().replays)))
                .await?;
        let running: Vec<Replay> =
            replays.into_iter().rev().filter(|replay| replay.state == ReplayState::Running).collect();
        self.buckets.retain(|id, _| running.iter().any(|replay| replay.id == *id));
        self.forgiven.retain(|id, _| running.iter().any(|replay| replay.id == *id));
        self.newest_at.retain(|id, _| running.iter().any(|replay| replay.id == *id));
        // What others have open, also those that are paused or over, is room that is taken: each gets a share of it.
        let fared_all = tallies.iter().map(|(id, tally)| (id, fared(tally)));
        let others = fared_all.filter(|(id, fared)| fared.open > 0 && running.iter().all(|replay| replay.id != **id));
        let share = (self.open_max / (running.len() + others.count()).max(1) as u64).max(1);
        let (mut pause, mut is_landing) = (SLEEP_MAX, false);
        for replay in running {
            let fared = tallies.get(&replay.id).map(fared).unwrap_or_default();
            match self.step(replay, fared, share).await? {
                Step::Moved => pause = Duration::ZERO,
                Step::Wait(span) => pause = pause.min(span),
                Step::Landing => (is_landing, pause) = (true, pause.min(LANDING_MAX)),
            }
        }
        bell.is_awaited.store(is_landing, Ordering::Relaxed);
        Ok(pause)
    }

    async fn step(&mut self, mut replay: Replay, fared: Fared, share: u64) -> Result<Step, JournalError> {
        let now = Timestamp::ZERO.after(self.clock.steady());
        if let Some(rate) = replay.terms.rate {
            self.buckets.entry(replay.id).or_insert_with(|| Bucket::new(rate));
        }
        // What was retried and has got there since is no failure any more, and the next one is a new one.
        let forgiven = self.forgiven.entry(replay.id).or_insert(replay.forgiven);
        *forgiven = (*forgiven).min(fared.failures());
        replay.forgiven = *forgiven;
        let slice_max = if replay.terms.newest_first { SLICE_NEWEST_MAX } else { SLICE_MAX };
        match replay.next(fared, now, self.buckets.get(&replay.id), share) {
            Next::Make(_) if self.journal.is_full() => Ok(Step::Wait(FULL_PAUSE)),
            Next::Make(most) => self.make(replay, most.min(slice_max), now).await,
            Next::Wait(until) => Ok(Step::Wait(until.since(now))),
            Next::Landing => Ok(Step::Landing),
            Next::Turn(turn) => self.turn(&replay, turn).await,
            Next::Nothing => Ok(Step::Wait(SLEEP_MAX)),
        }
    }

    async fn turn(&self, replay: &Replay, turn: Turn) -> Result<Step, JournalError> {
        if let Turn::Pause(hold) = turn {
            tracing::warn!(replay = %replay.id, why = hold.as_str(), "a replay has paused itself");
        }
        let at = self.clock.now();
        self.committer.commit(Change::TurnReplay { id: replay.id, turn, at }).await?;
        Ok(Step::Moved)
    }

    async fn make(&mut self, replay: Replay, most: u64, steady: Timestamp) -> Result<Step, JournalError> {
        let (map, now, id) = (Arc::clone(&self.rules.load().map), self.clock.now(), replay.id);
        let newest_first = replay.terms.newest_first;
        if newest_first && self.newest_at.get(&id) == Some(&now) {
            return Ok(Step::Wait(NEWEST_APART));
        }
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        let slice = read_blocking(Arc::clone(&self.journal), move |journal| map.advance(journal, &replay, now, limit));
        let advance = slice.await?;
        let items = &advance.items;
        if self.is_crowded(items).await {
            return Ok(Step::Wait(CROWDED_PAUSE));
        }
        if let Some(bucket) = self.buckets.get_mut(&id) {
            items.iter().for_each(|_| bucket.take(steady));
        }
        if newest_first && !items.is_empty() {
            self.newest_at.insert(id, now);
        }
        if let Receipt::Made(made) = self.committer.commit(Change::AdvanceReplay(advance)).await? {
            let _told = self.dispatcher.send(Command::Made(made)).is_ok();
        }
        Ok(Step::Moved)
    }

    /// Whether an endpoint that keeps an order, and that a slice is for, has many waiting.
    async fn is_crowded(&self, items: &[(EventId, Name)]) -> bool {
        let rules = self.rules.load();
        let is_ordered = |to: &&Name| rules.endpoints.get(*to).is_some_and(|endpoint| endpoint.order != Order::None);
        let targets: HashSet<&Name> = items.iter().map(|(_, to)| to).filter(is_ordered).collect();
        if targets.is_empty() {
            return false;
        }
        let (reply, lanes) = oneshot::channel();
        let _told = self.dispatcher.send(Command::Lanes(reply)).is_ok();
        let lanes = lanes.await.unwrap_or_default();
        lanes.iter().any(|lane| lane.waiting >= self.waiting_max && targets.contains(&lane.endpoint))
    }
}
