//! The dispatcher stands between the scheduler, which decides, and those who do the work.
//!
//! A state machine like the scheduler: it is told what happened ([`Dispatcher::handle`]) and asked what is to
//! be done ([`Dispatcher::poll_work`]); it sends, reads and writes nothing itself. It keeps the one rule
//! everything hangs on: **decide, commit, release**. What an attempt means is decided, goes to the
//! journal, and frees its place only when the journal's receipt is here. What an operator asks is answered
//! then, too.
//!
//! Absent: the loop, the sockets, the threads (the driver's), so that a simulation can turn the crank.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::NotDone;
use crate::core::attempt::Attempt;
use crate::core::delivery::Delivery;
use crate::core::endpoint::Endpoint;
use crate::core::event::{Event, KeyTag};
use crate::core::id::{DeliveryId, EventId};
use crate::core::mutant::{self, Mutant};
use crate::core::name::Name;
use crate::core::scheduler::{Active, Dispatch, Fresh, LaneView, Limits, Lot, Refill, Scheduler, Transition, Wait};
use crate::core::standing::Pause;
use crate::core::timestamp::{Timestamp, duration_millis};
use crate::journal::{Change, Journal, JournalError, Receipt, Settlement};
use crate::telemetry::{self, About};

/// A wall clock that parts from the steady one by more than this has been set.
const JUMP_MIN: Duration = Duration::from_millis(500);

/// Who waits for a change of a standing to be durable.
type StoodReply = oneshot::Sender<Result<(), JournalError>>;

/// What the dispatcher is told.
#[derive(Debug)]
pub enum Command {
    /// These events are durable. Each holds its place in the accept queue until it is known here.
    Accepted(Vec<(Arc<Event>, OwnedSemaphorePermit)>),
    /// These deliveries of old events are durable.
    Made(Vec<(DeliveryId, Name)>),
    /// An attempt has ended.
    Attempted(About, Attempt),
    /// What was to be committed was, or was not.
    Committed(Then, Result<Receipt, JournalError>),
    /// The journal's answer to [`Refill::Fresh`].
    Fresh(Name, Fresh),
    /// The journal's answer to [`Refill::Waiting`]; whether that was all.
    Waiting(Name, Vec<Active>, bool),
    /// The journal's answer to [`Refill::Line`].
    Line(Name, KeyTag, Fresh),
    /// Take this delivery out and commit that, if it is not on its way.
    Cancel(DeliveryId, Name, oneshot::Sender<Result<Receipt, NotDone>>),
    /// Send nothing to this endpoint; answer when that is durable.
    Pause(Name, Pause, StoodReply),
    /// Send to this endpoint again; answer when that is durable.
    Resume(Name, StoodReply),
    /// These are the endpoints now; answer when that is so.
    Endpoints(Vec<Lot>, oneshot::Sender<()>),
    /// How do the lanes stand?
    Lanes(oneshot::Sender<Vec<LaneView>>),
    /// What do these deliveries wait for?
    Waits(Vec<Delivery>, oneshot::Sender<Vec<Option<Wait>>>),
    /// Send nothing more; answer when nothing is on its way.
    Stop(oneshot::Sender<()>),
}

/// What the dispatcher wants done.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "each is made, handed on and taken apart at once")]
pub enum Work {
    /// Make this attempt, and tell of it with [`Command::Attempted`].
    Send(Dispatch),
    /// [`load`] this, and tell the answer.
    Load(Refill),
    /// Commit this, and tell of it with [`Command::Committed`].
    Commit(Change, Then),
}

/// What follows when a change is durable.
#[derive(Debug)]
pub enum Then {
    /// The place of an attempt is free.
    Settled(DeliveryId),
    /// A delivery is taken back for good; who asked for that hears of it.
    Cancelled(DeliveryId, Name, oneshot::Sender<Result<Receipt, NotDone>>),
    /// An endpoint's standing is remembered; who asked for the change, if anybody did, hears of it.
    Stood(Option<StoodReply>),
}

/// The state machine. See the module's text.
#[derive(Debug)]
pub struct Dispatcher {
    scheduler: Scheduler,
    rng: fastrand::Rng,
    /// To be done before the scheduler is asked for more.
    work: VecDeque<Work>,
    /// The wall clock and the steady one, when they were last compared.
    clocks: (Timestamp, Duration),
    stopping: Option<oneshot::Sender<()>>,
}

/// What lanes begin with, by what the journal knows of these endpoints.
pub fn lots<'a>(journal: &dyn Journal, endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<Lot> {
    // In this order: what is committed in between is behind this id, or its endpoint is known.
    let last = EventId::from_u128(journal.last_id());
    let known = journal.counters().endpoints;
    let lot = |endpoint: &Endpoint| {
        // No event was ever for an endpoint that has no count: there is no need to look for one.
        let never = if known.contains_key(&endpoint.name) { EventId::MIN } else { last };
        let (mark, standing) = (journal.mark(&endpoint.name).max(never), journal.standing(&endpoint.name));
        Lot { endpoint: endpoint.clone(), mark, standing }
    };
    let mut lots: Vec<Lot> = endpoints.map(lot).collect();
    lots.sort_by(|one, other| one.endpoint.name.cmp(&other.endpoint.name));
    lots
}

/// The journal's answer to what the dispatcher wants loaded. Blocks on disk.
pub fn load(journal: &dyn Journal, refill: &Refill) -> Result<Command, JournalError> {
    Ok(match refill.clone() {
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
}

impl Dispatcher {
    /// A dispatcher at its beginning; `clocks` are the wall clock and the steady one, now.
    #[must_use]
    pub fn new(limits: Limits, lots: Vec<Lot>, rng: fastrand::Rng, clocks: (Timestamp, Duration)) -> Self {
        let scheduler = Scheduler::new(limits, lots);
        Self { scheduler, rng, work: VecDeque::new(), clocks, stopping: None }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Timestamp, command: Command) {
        let scheduler = &mut self.scheduler;
        match command {
            Command::Accepted(events) => events.iter().for_each(|(event, _place)| {
                self.handle_accepted(event);
            }),
            Command::Made(deliveries) => {
                deliveries.iter().for_each(|(_, endpoint)| scheduler.handle_replayed(endpoint, now));
            }
            Command::Attempted(about, attempt) => self.handle_attempted(now, &about, attempt),
            Command::Committed(then, result) => self.handle_committed(then, result),
            Command::Fresh(endpoint, fresh) => scheduler.handle_fresh(&endpoint, fresh),
            Command::Line(endpoint, key, fresh) => scheduler.handle_line(&endpoint, key, fresh),
            Command::Waiting(endpoint, waiting, end) => scheduler.handle_waiting(now, &endpoint, &waiting, end),
            Command::Pause(endpoint, pause, reply) => {
                scheduler.handle_paused(&endpoint, pause);
                self.remember_standings(Some((endpoint, reply)));
            }
            Command::Resume(endpoint, reply) => {
                scheduler.handle_resumed(now, &endpoint);
                self.remember_standings(Some((endpoint, reply)));
            }
            Command::Endpoints(lots, reply) => {
                scheduler.handle_endpoints(now, lots);
                let _heard = reply.send(()).is_ok();
            }
            Command::Cancel(id, endpoint, reply) => self.handle_cancel(now, id, endpoint, reply),
            Command::Lanes(reply) => {
                let _heard = reply.send(scheduler.lanes(now).collect()).is_ok();
            }
            Command::Waits(deliveries, reply) => {
                let waits = deliveries.iter().map(|delivery| scheduler.wait(now, delivery)).collect();
                let _heard = reply.send(waits).is_ok();
            }
            Command::Stop(reply) => self.stopping = Some(reply),
        }
    }

    /// An event is durable: for [`Command::Accepted`], by itself. How many of its deliveries may go soon; for the
    /// others it need not be kept in memory.
    pub fn handle_accepted(&mut self, event: &Event) -> usize {
        let key = event.draft.key.as_deref();
        let mut soon = 0;
        for (slot, endpoint) in (0_u16..).zip(&event.draft.endpoints) {
            let id = event.id.delivery(slot);
            soon += usize::from(self.scheduler.handle_accepted(id, endpoint, event.received_at, key));
        }
        soon
    }

    /// Compares the wall clock with the steady one; to be called often. When the wall clock was set, every wait
    /// moves along: neither a storm nor a stall comes of it.
    pub fn handle_clocks(&mut self, now: Timestamp, steady: Duration) {
        let (wall_before, steady_before) = std::mem::replace(&mut self.clocks, (now, steady));
        let expected = wall_before.after(steady.saturating_sub(steady_before));
        let (ahead, back) = (now.since(expected), expected.since(now));
        if ahead.max(back) >= JUMP_MIN {
            let millis = |span| i64::try_from(duration_millis(span)).unwrap_or(i64::MAX);
            let by = millis(ahead) - millis(back);
            tracing::warn!(by_ms = by, "the wall clock was set; waits go on as they were");
            self.scheduler.handle_clock_jump(by);
        }
    }

    /// What is to be done next, if anything. Call until `None`.
    pub fn poll_work(&mut self, now: Timestamp) -> Option<Work> {
        if let Some(work) = self.work.pop_front() {
            return Some(work);
        }
        if self.stopping.is_none() {
            if let Some(dispatch) = self.scheduler.poll_dispatch(now) {
                return Some(Work::Send(dispatch));
            }
            if let Some(refill) = self.scheduler.poll_refill() {
                return Some(Work::Load(refill));
            }
        }
        self.remember_standings(None);
        self.work.pop_front()
    }

    /// When to call [`Dispatcher::poll_work`] again even if nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.scheduler.poll_timeout().filter(|_| self.stopping.is_none())
    }

    /// Who wants to hear that nothing is on its way, once that is so after [`Command::Stop`].
    pub fn poll_stopped(&mut self) -> Option<oneshot::Sender<()>> {
        if self.scheduler.in_flight() == 0 { self.stopping.take() } else { None }
    }

    /// For each endpoint, the event up to which every first attempt is journaled: where a restart begins.
    pub fn marks(&self) -> impl Iterator<Item = (&Name, EventId)> {
        self.scheduler.marks()
    }

    /// How an endpoint's lane stands; `None` if the config does not name it.
    #[must_use]
    pub fn lane(&self, now: Timestamp, endpoint: &Name) -> Option<LaneView> {
        self.scheduler.lane(now, endpoint)
    }

    /// Decided here. Released when the decision is on disk.
    fn handle_attempted(&mut self, now: Timestamp, about: &About, mut attempt: Attempt) {
        let id = about.delivery;
        let Some(transition) = self.scheduler.handle_outcome(now, id, &attempt, &mut self.rng) else { return };
        let Transition { step, reason, sent_at, .. } = transition;
        if sent_at.since(attempt.started_at).max(attempt.started_at.since(sent_at)) >= JUMP_MIN {
            // The clock was set meanwhile: what is stored is by one clock, or its wait would be reckoned wrongly.
            attempt.started_at = sent_at;
        }
        telemetry::attempt(about, &attempt, step, reason);
        let settle = Change::Settle(Settlement { id, attempt, step, reason });
        self.work.push_back(Work::Commit(settle, Then::Settled(id)));
        if mutant::is(Mutant::ReleaseBeforeCommit) {
            self.scheduler.handle_settled(id);
        }
    }

    fn handle_committed(&mut self, then: Then, result: Result<Receipt, JournalError>) {
        match (then, result) {
            (Then::Settled(id), Ok(Receipt::Done)) => self.scheduler.handle_settled(id),
            // The delivery has moved on without this attempt.
            (Then::Settled(id), Ok(_)) => self.scheduler.handle_dropped(id),
            // The journal has failed, and the process is ending: the attempt will be made again.
            (Then::Settled(id), Err(error)) => {
                tracing::error!(delivery = %id, %error, "an outcome could not be stored");
            }
            (Then::Cancelled(id, endpoint, reply), result) => {
                self.scheduler.handle_cancelled(id, &endpoint);
                let _heard = reply.send(result.map_err(NotDone::Journal)).is_ok();
            }
            (Then::Stood(Some(reply)), result) => {
                let _heard = reply.send(result.map(|_| ())).is_ok();
            }
            // Where the journal has failed, the next process learns it again.
            (Then::Stood(None), _) => {}
        }
    }

    /// Taken out here; forgotten when that is on disk. Who asked may have gone by then.
    fn handle_cancel(
        &mut self,
        now: Timestamp,
        id: DeliveryId,
        endpoint: Name,
        reply: oneshot::Sender<Result<Receipt, NotDone>>,
    ) {
        if self.scheduler.handle_cancel(id, &endpoint).is_err() {
            let _heard = reply.send(Err(NotDone::InFlight)).is_ok();
            return;
        }
        let cancel = Change::Cancel { id, at: now };
        self.work.push_back(Work::Commit(cancel, Then::Cancelled(id, endpoint, reply)));
    }

    /// Has changed standings written down; `reply` hears of its endpoint's.
    fn remember_standings(&mut self, mut reply: Option<(Name, StoodReply)>) {
        while let Some((endpoint, standing)) = self.scheduler.poll_standing() {
            telemetry::standing(&endpoint, &standing);
            let reply = reply.take_if(|(asked, _)| *asked == endpoint).map(|(_, reply)| reply);
            let stand = Change::Stand { endpoint, standing };
            self.work.push_back(Work::Commit(stand, Then::Stood(reply)));
        }
        // Nothing has changed, but what it was changed to before may still be on its way to the disk.
        if let Some((endpoint, reply)) = reply
            && let Some(standing) = self.scheduler.standing(&endpoint)
        {
            self.work.push_back(Work::Commit(Change::Stand { endpoint, standing }, Then::Stood(Some(reply))));
        }
    }
}
