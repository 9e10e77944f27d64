//! What is measured where it happens: how long things take and how they end, since the process began.
//!
//! All else that the metrics tell is read where it stands when somebody asks. What has names has those of the config
//! only, so there are as many measures as the config has names, whatever comes; a name that a reload takes away keeps
//! its own. Measuring costs a lock that nobody holds for longer than it takes to add two numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::About;
use crate::core::attempt::{Attempt, Outcome};
use crate::core::name::Name;

/// Ends of buckets, in seconds: of a commit, most of which is a sync of the disk.
const COMMIT_S: [f64; 12] = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// From a request's head to its yes. What comes over the network is in it, and one or two commits.
const ACCEPT_S: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// An attempt: up to the longest timeouts.
const ATTEMPT_S: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];
/// From acceptance to delivery: from at once, over a few retries, to the outage of a day.
const DELIVERY_S: [f64; 16] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0];

/// Something measured for each name.
#[derive(Debug)]
pub struct ByName<T>(RwLock<BTreeMap<Name, Arc<T>>>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T: Default> ByName<T> {
    /// What is measured for this name, from now on if it was not before.
    pub fn of(&self, name: &Name) -> Arc<T> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(name.clone()).or_default())
    }

    /// All of it.
    #[must_use]
    pub fn all(&self) -> BTreeMap<Name, Arc<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a source's requests came to.
#[derive(Debug)]
pub struct Taken {
    /// Seconds from each one's head to its yes, duplicates included.
    pub seconds: Histogram,
    bytes: AtomicU64,
}

impl Default for Taken {
    fn default() -> Self {
        Self { seconds: Histogram::new(ACCEPT_S), bytes: AtomicU64::new(0) }
    }
}

impl Taken {
    /// One was taken in.
    pub fn note(&self, body_bytes: usize, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        self.bytes.fetch_add(u64::try_from(body_bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Bytes of their bodies.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// How attempts at an endpoint went.
#[derive(Debug)]
pub struct Attempts {
    /// Seconds that each took.
    pub seconds: Histogram,
    /// Seconds from acceptance to delivery, of deliveries that routing made and that got there.
    pub delivery_seconds: Histogram,
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

impl Default for Attempts {
    fn default() -> Self {
        let (seconds, delivery_seconds) = (Histogram::new(ATTEMPT_S), Histogram::new(DELIVERY_S));
        Self { seconds, delivery_seconds, outcomes: Default::default() }
    }
}

impl Attempts {
    /// One has ended. What an operator has had delivered again was accepted whenever: how long that took says nothing.
    pub fn note(&self, about: &About, attempt: &Attempt) {
        self.seconds.observe(f64::from(attempt.took_ms) / 1000.0);
        if attempt.outcome == Outcome::Delivered && !about.again {
            self.delivery_seconds.observe(attempt.ended_at().since(about.delivery.event.time()).as_secs_f64());
        }
        let counts = Outcome::ALL.iter().zip(&self.outcomes);
        for (_, count) in counts.filter(|(outcome, _)| **outcome == attempt.outcome) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many ended how.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL.into_iter().zip(&self.outcomes).map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }
}

/// How groups of changes were made durable.
#[derive(Debug)]
pub struct Commits {
    /// Seconds that each took.
    pub seconds: Histogram,
    changes: AtomicU64,
}

impl Default for Commits {
    fn default() -> Self {
        Self { seconds: Histogram::new(COMMIT_S), changes: AtomicU64::new(0) }
    }
}

impl Commits {
    /// So many changes were made durable in one go.
    pub fn note(&self, changes: usize, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        self.changes.fetch_add(u64::try_from(changes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Changes in all of them.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}
