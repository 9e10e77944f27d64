//! The committer: the only one who writes to the journal.
//!
//! Its [`Writer`] takes whatever waits, commits it as one group, and answers everyone in it; a thread keeps
//! it at that. While the disk syncs one group the next gathers, so the cost of a sync is shared by all who
//! wait for it.
//!
//! When the disk is full, new events are refused and the rest (outcomes of attempts that were made,
//! operators' requests) waits and is tried again: an outcome must not be lost. When the journal fails,
//! everyone is told and the engine's health says so; nothing is committed any more.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::dispatcher::Command;
use super::{Accepted, Health};
use crate::core::event::{Draft, Event};
use crate::core::id::{EventId, IdSource, ReplayId};
use crate::core::mutant::{self, Mutant};
use crate::core::timestamp::Timestamp;
use crate::journal::{Change, Journal, JournalError, Receipt};
use crate::telemetry::measures::Commits;

/// Most requests in a group.
const GROUP_MAX: usize = 1024;
/// Body bytes at which a group is closed.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// A group smaller than this is written at once: there is no crowd to wait for.
const LINGER_MIN: usize = 4;
/// How often the thread gives way to those who prepare the next request of a group.
const LINGER_YIELDS: usize = 32;
/// How long retention waits for a group to ride with.
const RIDE_PAUSE: Duration = Duration::from_millis(5);
/// How long to wait before trying again on a full disk.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Who wants to hear that an event is durable.
pub type AcceptReply = oneshot::Sender<Result<Accepted, JournalError>>;
type CommitReply = Box<dyn FnOnce(Result<Receipt, JournalError>) + Send>;

/// A handle on the committer. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    requests: Sender<Request>,
    ids: Arc<Mutex<(IdSource, fastrand::Rng)>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    measured: Arc<Commits>,
}

enum Request {
    Accept { draft: Draft, received_at: Timestamp, reply: AcceptReply, _slot: OwnedSemaphorePermit },
    Commit { change: Change, reply: CommitReply },
    Stop,
}

/// Who waits for a change of the group at hand.
enum Waiting {
    Accept(Arc<Event>, AcceptReply, OwnedSemaphorePermit),
    Commit(CommitReply),
}

/// What the committer's thread does, a group at a time.
pub struct Writer {
    journal: Arc<dyn Journal>,
    requests: Receiver<Request>,
    dispatcher: mpsc::UnboundedSender<Command>,
    health: watch::Sender<Health>,
    ids: Arc<Mutex<(IdSource, fastrand::Rng)>>,
    measured: Arc<Commits>,
    changes: Vec<Change>,
    waiting: Vec<Waiting>,
    /// What retention wants. It rides with a group, one at a time, for a sync of its own would keep others waiting.
    retains: VecDeque<(Change, CommitReply)>,
    /// Why the journal failed, if it did: what it holds is unknown, and it is not asked again.
    failed: Option<JournalError>,
    /// How many the last group answered, and how many requests came since while the thread lingered.
    answered: usize,
    came_again: usize,
    lingers: bool,
    stopping: bool,
}

impl Committer {
    /// A committer and its writer, which somebody has to keep at work.
    #[must_use]
    pub fn with_writer(
        journal: Arc<dyn Journal>,
        dispatcher: mpsc::UnboundedSender<Command>,
        health: watch::Sender<Health>,
        ids: (IdSource, fastrand::Rng),
    ) -> (Self, Writer) {
        let (requests, received) = channel();
        let ids = Arc::new(Mutex::new(ids));
        let measured = Arc::new(Commits::default());
        let writer = Writer {
            journal,
            requests: received,
            dispatcher,
            health,
            ids: Arc::clone(&ids),
            measured: Arc::clone(&measured),
            changes: Vec::new(),
            waiting: Vec::new(),
            retains: VecDeque::new(),
            failed: None,
            answered: 0,
            came_again: 0,
            lingers: false,
            stopping: false,
        };
        (Self { requests, ids, thread: Arc::default(), measured }, writer)
    }

    /// A committer with a thread that keeps its writer at work.
    pub(super) fn start(
        journal: Arc<dyn Journal>,
        dispatcher: mpsc::UnboundedSender<Command>,
        health: watch::Sender<Health>,
        ids: (IdSource, fastrand::Rng),
    ) -> Result<Self, JournalError> {
        let (committer, mut writer) = Self::with_writer(journal, dispatcher, health, ids);
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                tracing::error!("the committer panicked; this is a bug in backstop, or a damaged index");
                writer.health.send_replace(Health::Failed("the committer panicked".to_owned()));
            }
        };
        let spawned = std::thread::Builder::new().name("committer".to_owned()).spawn(run);
        let thread = spawned.map_err(|error| JournalError::Open(format!("no thread for the committer: {error}")))?;
        *committer.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(committer)
    }

    /// Stores an event; `reply` hears of it once it is durable. Its id is given in commit order.
    pub fn accept(&self, draft: Draft, received_at: Timestamp, slot: OwnedSemaphorePermit, reply: AcceptReply) {
        self.send(Request::Accept { draft, received_at, reply, _slot: slot });
    }

    /// Stores a change and waits until it is durable.
    pub(super) async fn commit(&self, change: Change) -> Result<Receipt, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.commit_then(change, move |result| drop(reply.send(result)));
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Stores a change and calls `then` once it is durable, on the committer's thread.
    pub fn commit_then(&self, change: Change, then: impl FnOnce(Result<Receipt, JournalError>) + Send + 'static) {
        self.send(Request::Commit { change, reply: Box::new(then) });
    }

    pub(super) fn replay_id(&self, now: Timestamp) -> ReplayId {
        let (ids, rng) = &mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.replay(now, rng)
    }

    /// What commits took.
    pub(super) const fn measured(&self) -> &Arc<Commits> {
        &self.measured
    }

    /// Commits what was asked before, then ends.
    pub(super) async fn stop(&self) {
        self.send(Request::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok());
            if !joined.await.unwrap_or(false) {
                tracing::error!("the committer panicked");
            }
        }
    }

    fn send(&self, request: Request) {
        // A committer that has ended drops the request, and with it the reply: the caller sees that.
        let _sent = self.requests.send(request).is_ok();
    }
}

impl Writer {
    /// Takes what waits into the group at hand, until that has so many. Waits for nothing.
    pub fn take_waiting(&mut self, at_most: usize) {
        while self.gathered() < at_most
            && let Ok(request) = self.requests.try_recv()
        {
            self.add(request);
        }
    }

    /// How many changes the group at hand has: on a full disk some may be left over.
    #[must_use]
    pub fn gathered(&self) -> usize {
        self.changes.len() + self.retains.len()
    }

    fn run(&mut self) {
        while !self.stopping || self.gathered() > 0 {
            if !self.gather() {
                return;
            }
            self.commit();
        }
    }

    /// Collects a group: whatever waits. Left-over changes of a full disk wait only a moment for company.
    fn gather(&mut self) -> bool {
        let first = if self.changes.is_empty() {
            self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.requests.recv_timeout(FULL_PAUSE)
        };
        let mut next = match first {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let mut bytes = 0;
        while let Some(request) = next {
            bytes += self.add(request);
            let has_room = self.changes.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX;
            next = if has_room { self.next_of_group() } else { None };
            if next.is_none() && self.changes.is_empty() && !self.retains.is_empty() && !self.stopping {
                next = self.requests.recv_timeout(RIDE_PAUSE).ok();
            }
        }
        true
    }

    /// The next request that waits, or one that is about to come.
    ///
    /// Those who were answered just now mostly come again at once. Without waiting for them, half of all
    /// producers would always sit in the queue while the other half is synced, at twice the syncs.
    fn next_of_group(&mut self) -> Option<Request> {
        if let Ok(request) = self.requests.try_recv() {
            self.came_again += usize::from(self.lingers);
            return Some(request);
        }
        if self.stopping || self.changes.len() < LINGER_MIN || self.came_again >= self.answered {
            return None;
        }
        self.lingers = true;
        // Yielding, not sleeping: being woken for every single request would cost more than it gathers.
        for _ in 0..LINGER_YIELDS {
            std::thread::yield_now();
            if let Ok(request) = self.requests.try_recv() {
                self.came_again += 1;
                return Some(request);
            }
        }
        None
    }

    fn add(&mut self, request: Request) -> usize {
        match request {
            Request::Accept { draft, received_at, reply, _slot } => {
                let id = {
                    let (ids, rng) = &mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner);
                    ids.event(received_at, rng)
                };
                let bytes = draft.body.len();
                let event = Arc::new(Event { id, received_at, draft });
                let reply = if mutant::is(Mutant::AckBeforeCommit) { answer_early(id, reply) } else { reply };
                self.changes.push(Change::Accept(Arc::clone(&event)));
                self.waiting.push(Waiting::Accept(event, reply, _slot));
                bytes
            }
            Request::Commit { change: change @ Change::Retain(_), reply } => {
                self.retains.push_back((change, reply));
                0
            }
            Request::Commit { change, reply } => {
                self.changes.push(change);
                self.waiting.push(Waiting::Commit(reply));
                0
            }
            Request::Stop => {
                self.stopping = true;
                0
            }
        }
    }

    /// Commits the group at hand and answers everyone in it; then what retention wants, if anything.
    pub fn commit(&mut self) {
        let Some((change, reply)) = self.retains.pop_front() else { return self.commit_group() };
        if let Some(error) = self.failed.clone() {
            reply(Err(error));
            return self.commit_group();
        }
        self.changes.push(change);
        let mut committed = self.store(&self.changes);
        let retain = self.changes.pop();
        let is_apart = matches!(committed, Err(JournalError::Full(_))) && !self.changes.is_empty();
        if is_apart {
            // Room that is kept for outcomes is not spent on a group with retention in it: each by itself.
            self.commit_group();
            committed = self.store(retain.as_slice());
        }
        match committed {
            Ok(mut receipts) => {
                reply(receipts.pop().ok_or(JournalError::Closed));
                if !is_apart {
                    self.changes.clear();
                    self.answer(receipts);
                }
            }
            // Retention looks again.
            Err(error @ JournalError::Full(_)) => reply(Err(error)),
            Err(error) => {
                reply(Err(error.clone()));
                self.fail(error);
            }
        }
    }

    fn commit_group(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        assert_eq!(self.changes.len(), self.waiting.len(), "every change has someone who waits for it");
        if let Some(error) = self.failed.clone() {
            return self.refuse(&error);
        }
        match self.store(&self.changes) {
            Ok(receipts) => {
                self.changes.clear();
                self.answer(receipts);
            }
            Err(JournalError::Full(why)) => self.keep_what_must_not_be_lost(&why),
            Err(error) => self.fail(error),
        }
    }

    fn store(&self, changes: &[Change]) -> Result<Vec<Receipt>, JournalError> {
        let began = Instant::now();
        let committed = self.journal.commit(changes);
        if committed.is_ok() {
            self.measured.note(changes.len(), began.elapsed());
        }
        committed
    }

    /// Tells the dispatcher first: whoever has been answered can rely on its knowing.
    fn answer(&mut self, receipts: Vec<Receipt>) {
        self.answered = receipts.len();
        self.came_again = 0;
        self.lingers = false;
        let mut accepted = Vec::new();
        let mut replies: Vec<(AcceptReply, Accepted)> = Vec::new();
        for (waiting, receipt) in self.waiting.drain(..).zip(receipts) {
            match waiting {
                Waiting::Accept(event, reply, slot) => {
                    let id = event.id;
                    replies.push(match receipt {
                        // The place is free before the sender knows, here and below: it may come again at once.
                        Receipt::Duplicate(first) => (reply, Accepted { id: first, duplicate: Some(event) }),
                        _ => {
                            accepted.push((event, slot));
                            (reply, Accepted { id, duplicate: None })
                        }
                    });
                }
                Waiting::Commit(reply) => reply(Ok(receipt)),
            }
        }
        if !accepted.is_empty() {
            let _told = self.dispatcher.send(Command::Accepted(accepted)).is_ok();
        }
        for (reply, answer) in replies {
            // A sender that has gone will send again and be told that it is a duplicate.
            let _heard = reply.send(Ok(answer)).is_ok();
        }
    }

    /// The disk is full: new events are refused, everything else stays for the next group.
    fn keep_what_must_not_be_lost(&mut self, why: &str) {
        let changes = std::mem::take(&mut self.changes);
        let waiting = std::mem::take(&mut self.waiting);
        for (change, waiting) in changes.into_iter().zip(waiting) {
            match waiting {
                Waiting::Accept(_, reply, slot) => {
                    drop(slot);
                    let _heard = reply.send(Err(JournalError::Full(why.to_owned()))).is_ok();
                }
                // At the end nobody waits for room: what is not committed is done again after the restart.
                Waiting::Commit(reply) if self.stopping => reply(Err(JournalError::Full(why.to_owned()))),
                Waiting::Commit(reply) => {
                    self.changes.push(change);
                    self.waiting.push(Waiting::Commit(reply));
                }
            }
        }
    }

    fn fail(&mut self, error: JournalError) {
        tracing::error!(%error, "the journal failed; nothing is acknowledged any more");
        self.health.send_replace(Health::Failed(error.to_string()));
        self.refuse(&error);
        self.failed = Some(error);
    }

    fn refuse(&mut self, error: &JournalError) {
        self.changes.clear();
        for waiting in self.waiting.drain(..) {
            match waiting {
                Waiting::Accept(_, reply, slot) => {
                    drop(slot);
                    let _heard = reply.send(Err(error.clone())).is_ok();
                }
                Waiting::Commit(reply) => reply(Err(error.clone())),
            }
        }
    }
}

/// A mutant's doing: the sender is told, and somebody who is not there hears of the commit.
fn answer_early(id: EventId, reply: AcceptReply) -> AcceptReply {
    let _heard = reply.send(Ok(Accepted { id, duplicate: None })).is_ok();
    oneshot::channel().0
}
