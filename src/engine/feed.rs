//! The feed: what has just been committed, told to whoever follows.
//!
//! Events that were accepted, attempts with what became of their deliveries, and changes of how endpoints stand. Promises:
//! nothing is told before it is durable; nobody is waited for, who falls behind misses the oldest and learns how many;
//! memory is bounded, for bodies are not in it; and while nobody follows it costs a look at a counter. Absent: what was
//! before, which lists have, and filters, which are the follower's.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::core::attempt::{Attempt, Failure, Outcome, Reply};
use crate::core::delivery::{Reason, Status, Step};
use crate::core::event::{Event, EventHead};
use crate::core::id::DeliveryId;
use crate::core::name::Name;
use crate::core::standing::Standing;
use crate::core::timestamp::Timestamp;
use crate::journal::{Change, Settlement};
use crate::telemetry::About;

/// Most who follow at a time.
pub const FOLLOWERS_MAX: usize = 32;
/// What one who follows may be behind.
const BEHIND_MAX: usize = 2048;

/// Something that is durable now.
#[derive(Debug, Clone)]
pub enum Happened {
    /// An event was accepted, for these endpoints.
    Accepted(EventHead, Vec<Name>),
    /// An attempt was made.
    Attempted(Box<Attempted>),
    /// An endpoint stands otherwise.
    Stood {
        /// Since when.
        at: Timestamp,
        /// Which.
        endpoint: Name,
        /// How.
        standing: Standing,
    },
}

/// An attempt without what was sent and what was answered in full.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// What was tried.
    pub about: About,
    /// Which try, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
    /// What it means.
    pub outcome: Outcome,
    /// The answer's status, or why there was none.
    pub came_back: Result<u16, Failure>,
    /// Whether it was sent to see if the endpoint is back.
    pub probe: bool,
    /// What happens to the delivery.
    pub step: Step,
    /// Why.
    pub reason: Reason,
}

/// Where it is told. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    told: broadcast::Sender<Arc<Happened>>,
    places: Arc<Semaphore>,
}

/// One who follows; gives its place back in the end.
#[derive(Debug)]
pub struct Follower {
    told: broadcast::Receiver<Arc<Happened>>,
    _place: OwnedSemaphorePermit,
}

/// What one who follows is told next.
#[derive(Debug, Clone)]
pub enum Told {
    /// This happened.
    Happened(Arc<Happened>),
    /// So much happened that it was not told in time.
    Missed(u64),
    /// Nothing will happen any more.
    End,
}

/// Attempts whose outcomes are being committed, with what they were about.
#[derive(Debug, Default)]
pub(super) struct Ended(BTreeMap<DeliveryId, About>);

impl Feed {
    pub(super) fn new() -> Self {
        Self { told: broadcast::channel(BEHIND_MAX).0, places: Arc::new(Semaphore::new(FOLLOWERS_MAX)) }
    }

    /// A place to follow from; `None` if all are taken.
    pub(super) fn follow(&self) -> Option<Follower> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Follower { told: self.told.subscribe(), _place: place })
    }

    pub(super) fn is_followed(&self) -> bool {
        self.told.receiver_count() > 0
    }

    /// This is durable.
    pub(super) fn tell(&self, happened: Happened) {
        // Nobody following is no error.
        let _told = self.told.send(Arc::new(happened)).is_ok();
    }

    /// This event is durable.
    pub(super) fn accepted(&self, event: &Event) {
        if self.is_followed() {
            self.tell(Happened::Accepted(event.head(), event.draft.endpoints.clone()));
        }
    }
}

impl Follower {
    /// Waits for what happens next.
    pub async fn next(&mut self) -> Told {
        match self.told.recv().await {
            Ok(happened) => Told::Happened(happened),
            Err(RecvError::Lagged(count)) => Told::Missed(count),
            Err(RecvError::Closed) => Told::End,
        }
    }
}

impl Ended {
    /// An attempt has ended, and its outcome is about to be decided.
    pub(super) fn note(&mut self, about: &About) {
        self.0.insert(about.delivery, about.clone());
    }

    /// Whatever is decided was taken.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What will have happened once `change` is durable.
    pub(super) fn happening(&mut self, change: &Change, now: Timestamp) -> Option<Happened> {
        match change {
            Change::Settle(Settlement { id, attempt, step, reason }) => {
                let about = self.0.remove(id)?;
                Some(Happened::Attempted(Box::new(Attempted::of(about, attempt, *step, *reason))))
            }
            Change::Stand { endpoint, standing } => {
                Some(Happened::Stood { at: now, endpoint: endpoint.clone(), standing: standing.clone() })
            }
            _ => None,
        }
    }
}

impl Attempted {
    fn of(about: About, attempt: &Attempt, step: Step, reason: Reason) -> Self {
        let Attempt { number, started_at, took_ms, outcome, probe, .. } = *attempt;
        let came_back = match &attempt.reply {
            Reply::Answer(answer) => Ok(answer.status),
            Reply::Failure(failure) => Err(failure.clone()),
        };
        Self { about, number, started_at, took_ms, outcome, came_back, probe, step, reason }
    }

    /// Where the delivery stands now.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self.step {
            Step::Succeed => Status::Delivered,
            Step::Retry { .. } | Step::Dispatch { .. } => Status::Retrying,
            Step::GiveUp => Status::Dead,
            Step::Cancel => Status::Cancelled,
            Step::Expire => Status::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stood(at: u64) -> Happened {
        let endpoint = Name::new("crm").unwrap();
        Happened::Stood { at: Timestamp::from_millis(at), endpoint, standing: Standing::default() }
    }

    #[tokio::test]
    async fn who_falls_behind_learns_how_much_was_missed_and_goes_on() {
        let feed = Feed::new();
        assert!(!feed.is_followed());
        let mut follower = feed.follow().unwrap();
        let more = 5;
        (0..BEHIND_MAX as u64 + more).for_each(|at| feed.tell(stood(at)));
        assert!(matches!(follower.next().await, Told::Missed(count) if count == more));
        let Told::Happened(first) = follower.next().await else { panic!("there is more") };
        assert!(matches!(&*first, Happened::Stood { at, .. } if at.millis() == more));
        drop(feed);
        while let Told::Happened(_) = follower.next().await {}
        assert!(matches!(follower.next().await, Told::End));
    }

    #[test]
    fn places_are_given_back() {
        let feed = Feed::new();
        let followers: Vec<Follower> = (0..FOLLOWERS_MAX).map(|_| feed.follow().unwrap()).collect();
        assert!(feed.follow().is_none() && feed.is_followed());
        drop(followers);
        assert!(!feed.is_followed() && feed.follow().is_some());
    }
}
