//! The index: sled, holding what is looked up. It can always be built again from the log.
//!
//! sled alone does not survive a power cut, so nothing is promised here; every batch carries the log
//! position up to which all is indexed, and what comes after is applied again at the next start. Values
//! stay under [`VALUE_MAX_BYTES`], so that sled never spills one into its `blobs/` folder.
//!
//! sled costs per insert, not per byte: events that come in order are written many to a page, and tags in
//! sorted runs (see [`tags`]). An event that changes after it was paged gets a record of its own, which wins.
//!
//! ```text
//! b event(16)                          a page of entries, the first of them named
//! e event(16) chunk(2)                 an entry by itself: head and first 13 slots, then 13 slots a chunk
//! h, g                                 tags
//! w endpoint(2) due(8) event(16) slot(2)   deliveries that wait
//! x event(16)                          events with an exception: a delivery not first-waiting and not delivered
//! y endpoint(2) event(16)              the same by endpoint
//! r replay(16) piece(2)                replays, each in pieces
//! u replay(16)                         counters of the deliveries it made
//! n number(2)                          names, by the number that stands for them above
//! p endpoint(2)                        the scheduler's mark
//! s endpoint(2)                        how the endpoint stands
//! t endpoint(2)                        counters of the endpoint
//! d endpoint(2), v replay(16)          the same of events that retention let go of
//! k source(2)                          what is held of the source
//! m                                    format, position applied, last id, counters of events
//! ```

mod cursor;
mod entries;
mod filter;
mod meta;
mod names;
mod removal;
mod replays;
mod tags;
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use super::JournalError;
use super::codec::Reader;
use super::entry::{Entry, Sign};
use super::log::Position;
use super::query::SCAN_MAX;
use super::record::retained::Remains;
use super::record::{decode_standing, encode_standing};
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::Replay;
use crate::core::standing::Standing;
use crate::core::timestamp::Timestamp;
use entries::{Page, SLOTS_PER_CHUNK};
pub(super) use meta::Meta;
use meta::{decode_meta, encode_meta};
use names::Names;
pub(super) use tags::Tag;
use tags::{Manifest, Merge};

/// No value is larger.
pub(super) const VALUE_MAX_BYTES: usize = 2048;

/// The index.
pub(super) struct Index {
    db: ::sled::Db,
    names: Names,
    /// What the batches written so far add up to.
    meta: Mutex<Meta>,
    /// Read while runs are read, written when runs come and go.
    tags: RwLock<Manifest>,
    /// The newest event on a page: only later ones may be paged.
    paged_to: Mutex<EventId>,
    /// No event before this one is there, nor will be taken over.
    oldest: Mutex<EventId>,
    merge: Mutex<Option<Merge>>,
    /// How often entries were written: see [`cursor`].
    writes: AtomicU64,
}

/// What the index takes over in one batch.
#[derive(Default)]
pub(super) struct Handover {
    pub(super) updates: Vec<Update>,
    pub(super) replays: Vec<Replay>,
    /// Replays to be removed.
    pub(super) replays_gone: Vec<ReplayId>,
    pub(super) marks: Vec<(Name, EventId)>,
    pub(super) standings: Vec<(Name, Standing)>,
    /// What is left of all that retention let go of.
    pub(super) remains: Remains,
    /// The oldest event among those that are still to be taken over, these included.
    pub(super) oldest_held: Option<EventId>,
    /// Sorted tags of all events up to the one named, if it is time for them.
    pub(super) tags: Option<(std::sync::Arc<Vec<Tag>>, EventId)>,
    /// All records before this are in the index then.
    pub(super) applied: Position,
}

/// An entry to be written, or to be removed, and what the index holds of it now.
pub(super) struct Update {
    pub(super) id: EventId,
    pub(super) entry: Option<Entry>,
    pub(super) before: Option<Entry>,
}

/// Which events a search looks through.
#[derive(Debug, Clone)]
pub(super) enum Among {
    All,
    Tag(u64),
    /// These, whether they exist or not.
    These(Vec<EventId>),
    Exceptions,
    ExceptionsOf(Name),
}

type IndexResult<T> = Result<T, JournalError>;

fn sled_failed(error: ::sled::Error) -> JournalError {
    JournalError::Failed(format!("the index: {error}"))
}

fn malformed() -> JournalError {
    JournalError::Failed("the index holds a value that is none; `backstop journal rebuild` builds it again".to_owned())
}

fn other_format() -> JournalError {
    JournalError::Failed("the index is of another version's format".to_owned())
}

impl Index {
    /// Opens or makes the index. sled panics on some damage: the caller catches that.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> IndexResult<Self> {
        let db = open_db(&::sled::Config::new().path(path).cache_capacity(cache_bytes))?;
        let names = Names::read(&db)?;
        let mut meta = match db.get(b"m").map_err(sled_failed)? {
            None => Meta::default(),
            Some(value) => decode_meta(&mut reader(&value)).ok_or_else(other_format)?,
        };
        totals::read(&db, &names, &mut meta)?;
        let tags = Manifest::read(&db)?;
        for stray in tags.strays(&db)? {
            tags::remove_run(&db, stray)?;
        }
        let last_page = db.scan_prefix(b"b").next_back().transpose().map_err(sled_failed)?;
        let paged_to = match last_page {
            None => EventId::MIN,
            Some((_, page)) => {
                let entries = entries::read_page(reader(&page)).ok_or_else(malformed)?;
                entries.last().map_or(EventId::MIN, |(id, _)| *id)
            }
        };
        Ok(Self {
            db,
            names,
            meta: Mutex::new(meta),
            tags: RwLock::new(tags),
            paged_to: Mutex::new(paged_to),
            oldest: Mutex::new(EventId::MIN),
            merge: Mutex::new(None),
            writes: AtomicU64::new(0),
        })
    }

    pub(super) fn meta(&self) -> Meta {
        self.lock_meta().clone()
    }

    /// Writes a handover as one batch.
    pub(super) fn write(&self, handover: &Handover) -> IndexResult<()> {
        let mut batch = ::sled::Batch::default();
        let mut meta = self.meta();
        let mut pages = Pages { paged_to: *self.lock_paged_to(), page: Page::default() };
        for update in &handover.updates {
            self.put(update, &mut pages, &mut batch);
            if let Some(before) = &update.before {
                meta.counters.add(before, Sign::Minus);
            }
            if let Some(entry) = &update.entry {
                meta.counters.add(entry, Sign::Plus);
            }
            meta.last_id = meta.last_id.max(update.id.as_u128());
        }
        pages.close(&mut batch);
        let is_removal = |update: &&Update| update.entry.is_none() && update.before.is_some();
        let removed = handover.updates.iter().filter(is_removal);
        self.remove_paged(removed.map(|update| update.id), &mut batch)?;
        for replay in &handover.replays {
            replays::put(replay, &mut batch);
            meta.last_id = meta.last_id.max(replay.id.as_u128());
        }
        for (endpoint, mark) in &handover.marks {
            let key = numbered(b'p', self.names.number(endpoint, &mut batch));
            batch.insert(key, &mark.as_u128().to_be_bytes());
        }
        for (endpoint, standing) in &handover.standings {
            let mut value = Vec::new();
            encode_standing(standing, &mut value);
            let key = numbered(b's', self.names.number(endpoint, &mut batch));
            batch.insert(key, value);
        }
        meta.applied = meta.applied.max(handover.applied);
        meta.remains.raise(&handover.remains);
        for id in &handover.replays_gone {
            replays::remove(*id, &self.db, &mut batch)?;
            meta.remains.counters.replays.remove(id);
        }
        batch.insert(b"m", encode_meta(&meta));
        totals::put(&self.meta(), &meta, &self.names, &mut batch);
        // Written first and published then: look-ups need not wait for the writing of a whole run.
        let manifest = handover.tags.as_ref().map(|(tags, up_to)| {
            let mut manifest = self.manifest();
            manifest.add_run(tags, *up_to, &mut batch);
            manifest
        });
        self.db.apply_batch(batch).map_err(sled_failed)?;
        self.writes.fetch_add(1, Ordering::Release);
        if let Some(manifest) = manifest {
            self.publish(manifest);
        }
        self.note_oldest(handover.updates.iter().any(|update| is_removal(&update)), handover.oldest_held);
        *self.lock_meta() = meta;
        *self.lock_paged_to() = pages.paged_to;
        Ok(())
    }

    /// Does a slice of merging, if any is due.
    pub(super) fn tidy(&self) -> IndexResult<()> {
        let mut merging = self.merge.lock().unwrap_or_else(PoisonError::into_inner);
        if merging.is_none() {
            self.forget_tags()?;
            let mut manifest = self.manifest();
            *merging = manifest.merge_due(&self.db, *self.lock_oldest())?;
            self.publish(manifest);
        }
        let Some(merge) = merging.as_mut() else { return Ok(()) };
        let mut batch = ::sled::Batch::default();
        let finished = merge.step(&mut batch)?;
        self.db.apply_batch(batch).map_err(sled_failed)?;
        let Some(merge) = merging.take_if(|_| finished) else { return Ok(()) };
        let mut batch = ::sled::Batch::default();
        let mut manifest = self.manifest();
        let replaced = manifest.finish_merge(merge, &mut batch);
        self.db.apply_batch(batch).map_err(sled_failed)?;
        self.publish(manifest);
        replaced.into_iter().try_for_each(|run| tags::remove_run(&self.db, run))
    }

    fn manifest(&self) -> Manifest {
        self.tags.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a manifest in force; whoever still reads runs by the old one has ended then. One thread at a time does.
    fn publish(&self, manifest: Manifest) {
        *self.tags.write().unwrap_or_else(PoisonError::into_inner) = manifest;
    }

    /// Events up to this one have their tags in the index.
    pub(super) fn tagged_to(&self) -> EventId {
        self.tags.read().unwrap_or_else(PoisonError::into_inner).through
    }

    fn put(&self, update: &Update, pages: &mut Pages, batch: &mut ::sled::Batch) {
        let id = update.id;
        let before = update.before.as_ref();
        let before =
            before.map(|it| marks_of(it, &mut |name: &Name| self.names.number(name, batch))).unwrap_or_default();
        let Some(entry) = &update.entry else {
            before.iter().for_each(|key| batch.remove(key.as_slice()));
            return;
        };
        let chunks = entries::encode(entry, &self.names, batch);
        let may_be_paged = update.before.is_none() && id > pages.paged_to;
        match chunks.as_slice() {
            [only] if may_be_paged => pages.add(id, only, batch),
            _ => {
                for (chunk, value) in chunks.into_iter().enumerate() {
                    batch.insert(entry_key(id, u16::try_from(chunk).unwrap_or(u16::MAX)), value);
                }
            }
        }
        let after = marks_of(entry, &mut |name: &Name| self.names.number(name, batch));
        for key in before.difference(&after) {
            batch.remove(key.as_slice());
        }
        for key in after.difference(&before) {
            batch.insert(key.as_slice(), &[]);
        }
    }

    /// Whether this entry, as it was read from here, has every secondary key that its deliveries call for.
    pub(super) fn finds(&self, entry: &Entry) -> IndexResult<bool> {
        for key in marks_of(entry, |name| self.names.known(name).unwrap_or(u16::MAX)) {
            if !self.db.contains_key(key).map_err(sled_failed)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn get(&self, id: EventId) -> IndexResult<Option<Entry>> {
        let Some(first) = self.db.get(entry_key(id, 0)).map_err(sled_failed)? else { return self.get_paged(id) };
        let (mut entry, slots_total) = entries::decode(id, &mut reader(&first), &self.names).ok_or_else(malformed)?;
        while entry.slots.len() < slots_total {
            let chunk = u16::try_from(entry.slots.len() / SLOTS_PER_CHUNK).map_err(|_| malformed())?;
            let value = self.db.get(entry_key(id, chunk)).map_err(sled_failed)?.ok_or_else(malformed)?;
            let had = entry.slots.len();
            entries::decode_slots(&mut entry, &mut reader(&value), &self.names).ok_or_else(malformed)?;
            if entry.slots.len() == had {
                return Err(malformed());
            }
        }
        Ok(Some(entry))
    }

    fn get_paged(&self, id: EventId) -> IndexResult<Option<Entry>> {
        let up_to = event_key(b"b".to_vec(), EventId::MIN)..=event_key(b"b".to_vec(), id);
        let Some(pair) = self.db.range(up_to).next_back() else { return Ok(None) };
        let (_, page) = pair.map_err(sled_failed)?;
        let entries = entries::read_page(reader(&page)).ok_or_else(malformed)?;
        let Some((_, mut chunk)) = entries.into_iter().find(|(paged, _)| *paged == id) else { return Ok(None) };
        let (entry, _) = entries::decode(id, &mut chunk, &self.names).ok_or_else(malformed)?;
        Ok(Some(entry))
    }

    /// The ids of `low..high` in order, each once.
    pub(super) fn ids(
        &self,
        among: &Among,
        low: EventId,
        high: EventId,
        newest_first: bool,
    ) -> IndexResult<Box<dyn Iterator<Item = IndexResult<EventId>> + Send>> {
        if low >= high {
            return Ok(Box::new(std::iter::empty()));
        }
        Ok(match among {
            Among::All => {
                let single = self.keys(b"e".to_vec(), low, high, newest_first);
                let paged = self.paged(low, high, newest_first);
                Box::new(merge(single, paged, newest_first))
            }
            Among::Tag(tag) => {
                let manifest = self.tags.read().unwrap_or_else(PoisonError::into_inner);
                let found = manifest.events(&self.db, *tag, (low, high), newest_first, TAGGED_MAX)?;
                Box::new(found.into_iter().map(Ok))
            }
            Among::These(ids) => {
                let mut ids: Vec<EventId> = ids.iter().copied().filter(|id| (low..high).contains(id)).collect();
                ids.sort_unstable();
                ids.dedup();
                if newest_first {
                    ids.reverse();
                }
                Box::new(ids.into_iter().map(Ok))
            }
            Among::Exceptions => self.keys(b"x".to_vec(), low, high, newest_first),
            Among::ExceptionsOf(endpoint) => match self.names.known(endpoint) {
                None => Box::new(std::iter::empty()),
                Some(number) => self.keys(numbered(b'y', number), low, high, newest_first),
            },
        })
    }

    /// The events named behind a prefix in `low..high`.
    fn keys(&self, prefix: Vec<u8>, low: EventId, high: EventId, newest_first: bool) -> Ids {
        let skip = prefix.len();
        let range = self.db.range(event_key(prefix.clone(), low)..event_key(prefix, high));
        let ids = in_order(range, newest_first).map(move |pair| {
            let (key, _) = pair.map_err(sled_failed)?;
            key.get(skip..).and_then(event_of).ok_or_else(malformed)
        });
        let mut last = None;
        Box::new(ids.filter(move |id| match id {
            Ok(id) => last.replace(*id) != Some(*id),
            Err(_) => true,
        }))
    }

    /// The events on pages in `low..high`.
    fn paged(&self, low: EventId, high: EventId, newest_first: bool) -> Ids {
        let key = |id| event_key(b"b".to_vec(), id);
        // The page that holds `low` may begin before it.
        let first = self.db.range(key(EventId::MIN)..=key(low)).keys().next_back();
        let start = match first {
            Some(Ok(start)) => start.to_vec(),
            Some(Err(error)) => return Box::new(std::iter::once(Err(sled_failed(error)))),
            None => key(low),
        };
        let pages = in_order(self.db.range(start..key(high)), newest_first);
        Box::new(pages.flat_map(move |pair| {
            let page =
                pair.map_err(sled_failed).and_then(|(_, page)| entries::read_page(reader(&page)).ok_or_else(malformed));
            match page {
                Err(error) => vec![Err(error)],
                Ok(page) => {
                    let ids = page.into_iter().map(|(id, _)| id).filter(|id| (low..high).contains(id)).map(Ok);
                    if newest_first { ids.rev().collect() } else { ids.collect::<Vec<_>>() }
                }
            }
        }))
    }

    /// Deliveries to `endpoint` that wait, earliest due first. How they stand is in their entries.
    pub(super) fn waiting(
        &self,
        endpoint: &Name,
    ) -> Box<dyn Iterator<Item = IndexResult<(Timestamp, DeliveryId)>> + Send> {
        let Some(number) = self.names.known(endpoint) else { return Box::new(std::iter::empty()) };
        let keys = self.db.scan_prefix(numbered(b'w', number)).keys();
        Box::new(keys.map(|key| waiting_of(&key.map_err(sled_failed)?).ok_or_else(malformed)))
    }

    pub(super) fn replays(&self) -> IndexResult<Vec<Replay>> {
        replays::read(&self.db)
    }

    pub(super) fn marks(&self) -> IndexResult<BTreeMap<Name, EventId>> {
        let mut marks = BTreeMap::new();
        for pair in self.db.scan_prefix(b"p") {
            let (key, value) = pair.map_err(sled_failed)?;
            let name = self.names.of_key(&key);
            marks.insert(name.ok_or_else(malformed)?, event_of(&value).ok_or_else(malformed)?);
        }
        Ok(marks)
    }

    pub(super) fn standings(&self) -> IndexResult<BTreeMap<Name, Standing>> {
        let mut standings = BTreeMap::new();
        for pair in self.db.scan_prefix(b"s") {
            let (key, value) = pair.map_err(sled_failed)?;
            let standing = decode_standing(&mut reader(&value)).ok_or_else(malformed)?;
            standings.insert(self.names.of_key(&key).ok_or_else(malformed)?, standing);
        }
        Ok(standings)
    }

    /// What it is kept in, for tests that damage it.
    #[cfg(test)]
    pub(super) const fn db(&self) -> &::sled::Db {
        &self.db
    }

    /// Hands everything to the operating system.
    pub(super) fn flush(&self) -> IndexResult<()> {
        self.db.flush().map(drop).map_err(sled_failed)
    }

    fn lock_meta(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_oldest(&self) -> MutexGuard<'_, EventId> {
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_paged_to(&self) -> MutexGuard<'_, EventId> {
        self.paged_to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secondary keys that an entry's deliveries call for; `number` gives what stands for a name.
fn marks_of(entry: &Entry, mut number: impl FnMut(&Name) -> u16) -> BTreeSet<Vec<u8>> {
    let id = entry.head.id;
    let mut keys = BTreeSet::new();
    for (index, slot) in entry.slots.iter().enumerate() {
        if slot.is_exception() {
            keys.insert(event_key(b"x".to_vec(), id));
            keys.insert(event_key(numbered(b'y', number(&slot.endpoint)), id));
        }
        if let (Some(due), true) = (slot.state.due(), slot.is_waiting()) {
            let mut key = numbered(b'w', number(&slot.endpoint));
            key.extend_from_slice(&due.millis().to_be_bytes());
            let mut key = event_key(key, id);
            key.extend_from_slice(&u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes());
            keys.insert(key);
        }
    }
    keys
}

/// Opens sled, waiting for a former instance in this process to let go of its file.
///
/// sled's own threads hold the file for a moment after the last handle is dropped, and nothing tells when
/// they are done. Another process cannot be meant: the journal's lock is ours.
fn open_db(config: &::sled::Config) -> IndexResult<::sled::Db> {
    let mut tries_left = LOCK_TRIES_MAX;
    loop {
        match config.open() {
            Err(::sled::Error::Io(error)) if tries_left > 0 && error.to_string().contains("could not acquire lock") => {
                tries_left -= 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened.map_err(sled_failed),
        }
    }
}

/// How often, and how long apart, sled is asked for its file: five seconds in all.
const LOCK_TRIES_MAX: u32 = 500;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

type Ids = Box<dyn Iterator<Item = IndexResult<EventId>> + Send>;
type Pair = ::sled::Result<(::sled::IVec, ::sled::IVec)>;

/// Most events that one look-up by tag gives: one more than a search looks at, so that it sees that it is not at the end.
const TAGGED_MAX: usize = SCAN_MAX + 1;

fn in_order(range: ::sled::Iter, newest_first: bool) -> Box<dyn Iterator<Item = Pair> + Send> {
    if newest_first { Box::new(range.rev()) } else { Box::new(range) }
}

/// Two runs of ids in the same order as one, each id once.
pub(super) fn merge(
    one: impl Iterator<Item = IndexResult<EventId>>,
    other: impl Iterator<Item = IndexResult<EventId>>,
    newest_first: bool,
) -> impl Iterator<Item = IndexResult<EventId>> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(Ok(first)), Some(Ok(second))) if first == second => {
            other.next();
            one.next()
        }
        (Some(Ok(first)), Some(Ok(second))) if (second < first) != newest_first => other.next(),
        (None, _) => other.next(),
        _ => one.next(),
    })
}

/// The page being filled while a batch is made.
struct Pages {
    paged_to: EventId,
    page: Page,
}

impl Pages {
    fn add(&mut self, id: EventId, chunk: &[u8], batch: &mut ::sled::Batch) {
        if !self.page.add(id, chunk) {
            self.close(batch);
            if !self.page.add(id, chunk) {
                // Larger than a page can hold beside its frame: it stands by itself.
                batch.insert(entry_key(id, 0), chunk);
            }
        }
    }

    fn close(&mut self, batch: &mut ::sled::Batch) {
        let page = std::mem::take(&mut self.page);
        if let (Some(first), Some(last)) = (page.first, page.last) {
            batch.insert(event_key(b"b".to_vec(), first), page.bytes());
            self.paged_to = last;
        }
    }
}

fn reader(value: &::sled::IVec) -> Reader {
    Reader::new(Bytes::copy_from_slice(value))
}

fn waiting_of(key: &[u8]) -> Option<(Timestamp, DeliveryId)> {
    let due = Timestamp::from_millis(u64::from_be_bytes(*key.get(3..)?.first_chunk()?));
    let event = event_of(key.get(11..)?)?;
    let slot = u16::from_be_bytes(*key.get(27..)?.first_chunk()?);
    Some((due, event.delivery(slot)))
}

fn event_of(bytes: &[u8]) -> Option<EventId> {
    bytes.first_chunk().map(|bytes| EventId::from_u128(u128::from_be_bytes(*bytes)))
}

fn event_key(mut prefix: Vec<u8>, id: EventId) -> Vec<u8> {
    prefix.extend_from_slice(&id.as_u128().to_be_bytes());
    prefix
}

fn entry_key(id: EventId, chunk: u16) -> Vec<u8> {
    let mut key = event_key(b"e".to_vec(), id);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

fn numbered(kind: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![kind, high, low]
}
