//! One process of the gateway: its dispatcher, its committer, and what it would forget if it were killed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use backstop::core::event::Draft;
use backstop::core::id::IdSource;
use backstop::core::scheduler::Limits;
use backstop::core::timestamp::Timestamp;
use backstop::engine::committer::{Committer, Writer};
use backstop::engine::dispatcher::{Command, Dispatcher, lots};
use backstop::engine::{Accepted, Health, NotDone};
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{Change, Journal, JournalError, Receipt};
use fastrand::Rng;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::far::Far;

/// Somebody outside who was promised an answer.
pub(crate) enum Asked {
    /// The sender of this post.
    Post(usize, oneshot::Receiver<Result<Accepted, JournalError>>),
    /// The operator who paused this endpoint.
    Pause(usize, oneshot::Receiver<Result<(), JournalError>>),
    /// The operator who resumed it.
    Resume(usize, oneshot::Receiver<Result<(), JournalError>>),
    Cancel(oneshot::Receiver<Result<Receipt, NotDone>>),
}

pub(crate) struct Process {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) writer: Writer,
    committer: Committer,
    commands: mpsc::UnboundedReceiver<Command>,
    tell: mpsc::UnboundedSender<Command>,
    slots: Arc<Semaphore>,
    pub(crate) asked: VecDeque<Asked>,
    /// Requests on their way to the writer.
    pub(crate) requests: usize,
    pub(crate) is_writing: bool,
    pub(crate) next_turn: Option<u64>,
    pub(crate) next_replay: Option<u64>,
    /// Whether what the replayer wanted is not committed yet.
    pub(crate) is_replaying: Arc<AtomicBool>,
    pub(crate) marked_at: u64,
}

impl Process {
    pub(crate) fn start(
        journal: &Arc<MemoryJournal>,
        far: &[Far],
        limits: Limits,
        clocks: (Timestamp, Duration),
        rng: &mut Rng,
    ) -> Self {
        let (tell, commands) = mpsc::unbounded_channel();
        let (health, _) = watch::channel(Health::Running);
        let store = Arc::clone(journal) as Arc<dyn Journal>;
        let ids = (IdSource::after(journal.last_id()), Rng::with_seed(rng.u64(..)));
        let (committer, writer) = Committer::with_writer(store, tell.clone(), health, ids);
        let lots = lots(&**journal, far.iter().map(|far| &far.endpoint));
        let dispatcher = Dispatcher::new(limits, lots, Rng::with_seed(rng.u64(..)), clocks);
        Self {
            dispatcher,
            writer,
            committer,
            commands,
            tell,
            slots: Arc::new(Semaphore::new(1000)),
            asked: VecDeque::new(),
            requests: 0,
            is_writing: false,
            next_turn: None,
            next_replay: None,
            is_replaying: Arc::default(),
            marked_at: 0,
        }
    }

    pub(crate) fn tell(&self, command: Command) {
        self.tell.send(command).unwrap();
    }

    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.try_recv().ok()
    }

    pub(crate) fn accept(&mut self, post: usize, draft: Draft, now: Timestamp) {
        let (reply, answer) = oneshot::channel();
        let slot = Arc::clone(&self.slots).try_acquire_owned().unwrap();
        self.committer.accept(draft, now, slot, reply);
        self.asked.push_back(Asked::Post(post, answer));
        self.requests += 1;
    }

    /// As the driver does: what came of it is told to the dispatcher.
    pub(crate) fn commit(
        &mut self,
        change: Change,
        told: impl FnOnce(Result<Receipt, JournalError>) -> Option<Command> + Send + 'static,
    ) {
        let tell = self.tell.clone();
        self.committer.commit_then(change, move |result| {
            if let Some(command) = told(result) {
                let _told = tell.send(command).is_ok();
            }
        });
        self.requests += 1;
    }
}
