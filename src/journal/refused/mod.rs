//! Refused requests, kept beside the journal: bounded by count and bytes, and never in the way of anything.
//!
//! What senders were promised is in the journal; this is what they were refused. It has files of its own, which
//! nothing waits for: a request's way ends at a bounded queue, and what does not fit there, or cannot be written, is
//! counted and forgotten. A thread files what comes. Readers wait for what was queued before they asked.

mod record;
mod store;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::JournalError;
use super::log::{LogError, Seals};
use crate::core::id::{EventId, RefusalId};
use crate::core::name::Name;
use crate::core::refused::{Refused, Why};
use crate::core::sealing::SealingKey;
use crate::core::timestamp::Timestamp;
use store::Store;

/// Refused requests that may wait to be filed.
const QUEUE_MAX: usize = 1024;
/// Bytes of bodies and headers that may wait to be filed.
const QUEUE_MAX_BYTES: usize = 16 << 20;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Refused requests; 0 keeps none.
    pub count_max: usize,
    /// Bytes on disk.
    pub bytes_max: u64,
}

/// A refused request that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is called by.
    pub id: RefusalId,
    /// What it is; in lists without headers and body.
    pub refused: Refused,
    /// How many bytes of its body were kept.
    pub kept_bytes: usize,
    /// Whether that is all of it.
    pub whole: bool,
    /// The event that was made of it after all, the last one if there are several.
    pub became: Option<EventId>,
}

/// Which refused requests are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// For this source.
    pub source: Option<Name>,
    /// For this reason.
    pub why: Option<Why>,
    /// At or after this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
    /// Behind this one in the order of the list.
    pub after: Option<RefusalId>,
    /// Newest first, or oldest first.
    pub newest_first: bool,
    /// At most this many.
    pub limit: usize,
}

/// The way to what is kept. Cheap to clone; without limits there is nothing behind it.
#[derive(Clone, Default)]
pub struct Refusals {
    desk: Option<Arc<Desk>>,
}

struct Desk {
    queue: SyncSender<Errand>,
    waiting_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    store: Arc<Mutex<Store>>,
}

enum Errand {
    File(Box<Refused>),
    /// Rings when all that was queued before it is filed.
    Ring(SyncSender<()>),
}

impl Wanted {
    fn fits(&self, kept: &Kept) -> bool {
        let Refused { at, source, why, .. } = &kept.refused;
        self.source.as_ref().is_none_or(|wanted| wanted == source)
            && self.why.is_none_or(|wanted| wanted == *why)
            && self.since.is_none_or(|since| *at >= since)
            && self.until.is_none_or(|until| *at < until)
            && self.after.is_none_or(|after| if self.newest_first { kept.id < after } else { kept.id > after })
    }
}

impl Refusals {
    /// Opens what is in `dir`, made if missing; with a count of 0 nothing is kept, and what is there is left alone.
    ///
    /// The first of `keys` seals, all open; what needs another is passed over.
    pub fn open(dir: &Path, limits: Limits, keys: Vec<SealingKey>, seed: u64) -> Result<Self, JournalError> {
        if limits.count_max == 0 {
            return Ok(Self::default());
        }
        let failed = |error| JournalError::Open(format!("{}: {error}", dir.display()));
        let store = Arc::new(Mutex::new(Store::open(dir, limits, keys, seed).map_err(failed)?));
        let (queue, errands) = sync_channel(QUEUE_MAX);
        let (waiting_bytes, lost) = (Arc::default(), Arc::default());
        let desk = Desk { queue, waiting_bytes, lost, store };
        let (store, waiting, lost) = (Arc::clone(&desk.store), Arc::clone(&desk.waiting_bytes), Arc::clone(&desk.lost));
        let run = move || file_all(&errands, &store, &waiting, &lost);
        std::thread::Builder::new().name("refusals".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { desk: Some(Arc::new(desk)) })
    }

    /// Whether anything is kept at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.desk.is_some()
    }

    /// Has it filed, if there is room in the queue; never waits.
    pub fn note(&self, refused: Refused) {
        let Some(desk) = &self.desk else { return };
        let bytes = weight(&refused);
        let before = desk.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        let fits = before + bytes <= QUEUE_MAX_BYTES;
        if !fits || desk.queue.try_send(Errand::File(Box::new(refused))).is_err() {
            desk.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            desk.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Refused requests that were not kept since the process began: too many at a time, or no room on the disk.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.desk.as_ref().map_or(0, |desk| desk.lost.load(Ordering::Relaxed))
    }

    /// How much is sealed with which key, and how much with none.
    #[must_use]
    pub fn seals(&self) -> Seals {
        self.desk.as_ref().map(|desk| desk.store().seals()).unwrap_or_default()
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.desk.as_ref().map_or(0, |desk| desk.store().len())
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that fit, without headers and bodies, and behind which the next page begins. May block.
    #[must_use]
    pub fn list(&self, wanted: &Wanted) -> (Vec<Kept>, Option<RefusalId>) {
        let Some(desk) = &self.desk else { return (Vec::new(), None) };
        desk.wait();
        desk.store().list(wanted)
    }

    /// The whole of it, if it is there. May block.
    pub fn get(&self, id: RefusalId) -> Result<Option<Kept>, JournalError> {
        let Some(desk) = &self.desk else { return Ok(None) };
        desk.wait();
        let kept = desk.store().get(id);
        kept.map_err(|error| JournalError::Failed(format!("reading a refused request: {error}")))
    }

    /// Notes that an event was made of it. May block.
    pub fn taken_in(&self, id: RefusalId, event: EventId) -> Result<(), JournalError> {
        let Some(desk) = &self.desk else { return Ok(()) };
        desk.store().taken_in(id, event).map_err(|error| match error {
            LogError::Full(why) => JournalError::Full(why),
            LogError::Failed(why) => JournalError::Failed(why),
        })
    }

    /// Waits until all that was noted is filed, at a stop. May block.
    pub fn settle(&self) {
        if let Some(desk) = &self.desk {
            desk.wait();
        }
    }
}

impl Desk {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let (ring, rung) = sync_channel(1);
        if self.queue.send(Errand::Ring(ring)).is_ok() {
            // It ends without a ring only if the thread has ended, and then nothing is waited for.
            let _rung = rung.recv().is_ok();
        }
    }
}

/// Files what comes until nobody is left who could bring anything.
fn file_all(errands: &Receiver<Errand>, store: &Mutex<Store>, waiting_bytes: &AtomicUsize, lost: &AtomicU64) {
    while let Ok(errand) = errands.recv() {
        match errand {
            Errand::Ring(ring) => {
                let _heard = ring.send(()).is_ok();
            }
            Errand::File(refused) => {
                let bytes = weight(&refused);
                let kept = store.lock().unwrap_or_else(PoisonError::into_inner).keep(*refused);
                if let Err(error) = kept {
                    lost.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, "a refused request is not kept");
                }
                waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            }
        }
    }
}

/// What it takes of memory, about.
fn weight(refused: &Refused) -> usize {
    let headers: usize = refused.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    refused.body.len() + refused.detail.len() + headers + 256
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
