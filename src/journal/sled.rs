//! The index: sled, holding what is looked up. It can always be built again from the log.
//!
//! sled alone does not survive a power cut, so nothing is promised here; every batch carries the log
//! position up to which all is indexed, and what comes after is applied again at the next start. Values
//! stay under [`VALUE_MAX_BYTES`], so that sled never spills one into its `blobs/` folder.
//!
//! ```text
//! e event(16) chunk(2)                 the entry: head and first 16 slots, then 16 slots a chunk
//! k hash of key(8) event(16)           events by key
//! d source(2) fingerprint(16)          the newest event with it
//! w endpoint(2) due(8) event(16) slot(2)   deliveries that wait: attempts, born
//! x event(16)                          events with an exception: a delivery not first-waiting and not delivered
//! y endpoint(2) event(16)              the same by endpoint
//! r replay(16)                         replays
//! n number(2)                          names, by the number that stands for them above
//! p endpoint(2)                        the scheduler's mark
//! t endpoint(2)                        counters of the endpoint
//! m                                    format, position applied, last id, counters of events
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::codec::{Reader, Write};
use super::entry::{Entry, Sign, Slot};
use super::log::Position;
use super::record::{decode_replay, encode_replay};
use super::{Counters, JournalError, Tally};
use crate::core::attempt::FailureClass;
use crate::core::delivery::{Reason, State};
use crate::core::event::{EventHead, Fingerprint};
use crate::core::id::{EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::Replay;
use crate::core::scheduler::Active;

/// No value is larger.
pub(super) const VALUE_MAX_BYTES: usize = 2048;
/// A head with 16 slots of at most 72 bytes each stays under [`VALUE_MAX_BYTES`].
const SLOTS_PER_CHUNK: usize = 16;
const FORMAT: u64 = 1;

/// The index.
pub(super) struct Index {
    db: ::sled::Db,
    names: Mutex<Names>,
    /// What the batches written so far add up to.
    state: Mutex<Meta>,
}

/// What every batch carries along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) applied: Position,
    pub(super) last_id: u128,
    pub(super) counters: Counters,
}

#[derive(Default)]
struct Names {
    by_name: HashMap<Name, u16>,
    by_number: Vec<Name>,
}

/// An entry to be written, and what the index holds of it now.
pub(super) struct Update {
    pub(super) entry: Entry,
    pub(super) before: Option<Entry>,
    pub(super) print: Option<Fingerprint>,
}

/// Which events a search looks through.
#[derive(Debug, Clone)]
pub(super) enum Among {
    All,
    Key(String),
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

impl Index {
    /// Opens or makes the index. sled panics on some damage: the caller catches that.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> IndexResult<Self> {
        let config = ::sled::Config::new().path(path).cache_capacity(cache_bytes);
        let db = config.open().map_err(sled_failed)?;
        let mut names = Names::default();
        for pair in db.scan_prefix(b"n") {
            let (key, value) = pair.map_err(sled_failed)?;
            let text = std::str::from_utf8(&value).map_err(|_| malformed())?;
            let number = names.add(Name::new(text).map_err(|_| malformed())?);
            if *key != *numbered(b'n', number) {
                return Err(malformed()); // one is missing: every later number would mean another name
            }
        }
        let mut meta = match db.get(b"m").map_err(sled_failed)? {
            None => Meta::default(),
            Some(value) => decode_meta(&mut Reader::new(Bytes::copy_from_slice(&value))).ok_or_else(malformed)?,
        };
        for pair in db.scan_prefix(b"t") {
            let (key, value) = pair.map_err(sled_failed)?;
            let tally = decode_tally(&mut Reader::new(Bytes::copy_from_slice(&value))).ok_or_else(malformed)?;
            meta.counters.endpoints.insert(names.of_key(&key).ok_or_else(malformed)?, tally);
        }
        Ok(Self { db, names: Mutex::new(names), state: Mutex::new(meta) })
    }

    pub(super) fn meta(&self) -> Meta {
        self.state().clone()
    }

    /// Writes updates and what goes with them as one batch. `applied`: all records before it are indexed then.
    pub(super) fn write(
        &self,
        updates: &[Update],
        replays: &[Replay],
        marks: &[(Name, EventId)],
        applied: Position,
    ) -> IndexResult<()> {
        let mut batch = ::sled::Batch::default();
        let mut meta = self.meta();
        for update in updates {
            self.put(update, &mut batch);
            if let Some(before) = &update.before {
                meta.counters.add(before, Sign::Minus);
            }
            meta.counters.add(&update.entry, Sign::Plus);
            meta.last_id = meta.last_id.max(update.entry.head.id.as_u128());
        }
        for replay in replays {
            let mut value = Vec::new();
            encode_replay(replay, &mut value);
            insert(&mut batch, replay_key(replay.id), value);
            meta.last_id = meta.last_id.max(replay.id.as_u128());
        }
        for (endpoint, mark) in marks {
            let key = numbered(b'p', self.number(endpoint, &mut batch));
            insert(&mut batch, key, mark.as_u128().to_be_bytes().to_vec());
        }
        meta.applied = meta.applied.max(applied);
        insert(&mut batch, b"m".to_vec(), encode_meta(&meta));
        self.put_tallies(&meta.counters, &mut batch);
        self.db.apply_batch(batch).map_err(sled_failed)?;
        *self.state() = meta;
        Ok(())
    }

    /// A record per endpoint that changed: one for all could outgrow a value.
    fn put_tallies(&self, counters: &Counters, batch: &mut ::sled::Batch) {
        let written = self.meta().counters.endpoints;
        for (endpoint, tally) in counters.endpoints.iter().filter(|(name, tally)| written.get(*name) != Some(tally)) {
            let key = numbered(b't', self.number(endpoint, batch));
            insert(batch, key, encode_tally(tally));
        }
    }

    fn put(&self, update: &Update, batch: &mut ::sled::Batch) {
        let (entry, id) = (&update.entry, update.entry.head.id);
        for (chunk, value) in self.encode_entry(entry, batch).into_iter().enumerate() {
            insert(batch, entry_key(id, u16::try_from(chunk).unwrap_or(u16::MAX)), value);
        }
        if update.before.is_none() {
            if let Some(key) = &entry.head.key {
                insert(batch, by_key(key, id), Vec::new());
            }
            if let Some(print) = update.print {
                let source = self.number(&entry.head.source, batch);
                insert(batch, print_key(source, print), id.as_u128().to_be_bytes().to_vec());
            }
        }
        let before = update.before.as_ref().map(|before| self.marks_of(before, batch)).unwrap_or_default();
        let after = self.marks_of(entry, batch);
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            batch.remove(key.as_slice());
        }
        for (key, value) in after.iter().filter(|(key, value)| before.get(*key) != Some(*value)) {
            insert(batch, key.clone(), value.clone());
        }
    }

    /// The secondary keys that an entry's deliveries call for.
    fn marks_of(&self, entry: &Entry, batch: &mut ::sled::Batch) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let id = entry.head.id;
        let mut keys = BTreeMap::new();
        for (index, slot) in entry.slots.iter().enumerate() {
            if slot.is_exception() {
                keys.insert(event_key(b"x".to_vec(), id), Vec::new());
                keys.insert(event_key(numbered(b'y', self.number(&slot.endpoint, batch)), id), Vec::new());
            }
            if let (Some(due), true) = (slot.state.due(), slot.is_waiting()) {
                let mut key = numbered(b'w', self.number(&slot.endpoint, batch));
                key.extend_from_slice(&due.millis().to_be_bytes());
                let mut key = event_key(key, id);
                key.extend_from_slice(&u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes());
                let mut value = Vec::new();
                value.number(u64::from(slot.attempts));
                value.time(slot.born_at);
                keys.insert(key, value);
            }
        }
        keys
    }

    pub(super) fn get(&self, id: EventId) -> IndexResult<Option<Entry>> {
        let Some(first) = self.db.get(entry_key(id, 0)).map_err(sled_failed)? else { return Ok(None) };
        let mut from = Reader::new(Bytes::copy_from_slice(&first));
        let (mut entry, slots_total) = self.decode_head(id, &mut from).ok_or_else(malformed)?;
        self.decode_slots(&mut entry, &mut from).ok_or_else(malformed)?;
        while entry.slots.len() < slots_total {
            let chunk = u16::try_from(entry.slots.len() / SLOTS_PER_CHUNK).map_err(|_| malformed())?;
            let value = self.db.get(entry_key(id, chunk)).map_err(sled_failed)?.ok_or_else(malformed)?;
            let had = entry.slots.len();
            self.decode_slots(&mut entry, &mut Reader::new(Bytes::copy_from_slice(&value))).ok_or_else(malformed)?;
            if entry.slots.len() == had {
                return Err(malformed());
            }
        }
        Ok(Some(entry))
    }

    /// The newest event of `source` with this fingerprint.
    pub(super) fn event_with(&self, source: &Name, print: Fingerprint) -> IndexResult<Option<EventId>> {
        let Some(source) = self.names().by_name.get(source).copied() else { return Ok(None) };
        let value = self.db.get(print_key(source, print)).map_err(sled_failed)?;
        value.map(|value| event_of(&value).ok_or_else(malformed)).transpose()
    }

    /// The ids of `low..high` in order, each once.
    pub(super) fn ids(
        &self,
        among: &Among,
        low: EventId,
        high: EventId,
        newest_first: bool,
    ) -> Box<dyn Iterator<Item = IndexResult<EventId>> + Send> {
        let prefix = match among {
            Among::All => b"e".to_vec(),
            Among::Key(key) => key_prefix(key),
            Among::Exceptions => b"x".to_vec(),
            Among::ExceptionsOf(endpoint) => match self.names().by_name.get(endpoint) {
                None => return Box::new(std::iter::empty()),
                Some(number) => numbered(b'y', *number),
            },
        };
        if low >= high {
            return Box::new(std::iter::empty());
        }
        let skip = prefix.len();
        let range = self.db.range(event_key(prefix.clone(), low)..event_key(prefix, high));
        let pairs: Box<dyn Iterator<Item = ::sled::Result<(::sled::IVec, ::sled::IVec)>> + Send> =
            if newest_first { Box::new(range.rev()) } else { Box::new(range) };
        let ids = pairs.map(move |pair| {
            let (key, _) = pair.map_err(sled_failed)?;
            key.get(skip..).and_then(event_of).ok_or_else(malformed)
        });
        let mut last = None;
        Box::new(ids.filter(move |id: &IndexResult<EventId>| match id {
            Ok(id) => last.replace(*id) != Some(*id),
            Err(_) => true,
        }))
    }

    /// Deliveries to `endpoint` that wait, earliest due first.
    pub(super) fn waiting(&self, endpoint: &Name) -> Box<dyn Iterator<Item = IndexResult<Active>> + Send> {
        let Some(number) = self.names().by_name.get(endpoint).copied() else { return Box::new(std::iter::empty()) };
        Box::new(self.db.scan_prefix(numbered(b'w', number)).map(|pair| {
            let (key, value) = pair.map_err(sled_failed)?;
            decode_waiting(&key, &value).ok_or_else(malformed)
        }))
    }

    pub(super) fn replays(&self) -> IndexResult<Vec<Replay>> {
        let read = |pair: ::sled::Result<(::sled::IVec, ::sled::IVec)>| {
            let (_, value) = pair.map_err(sled_failed)?;
            decode_replay(&mut Reader::new(Bytes::copy_from_slice(&value))).ok_or_else(malformed)
        };
        self.db.scan_prefix(b"r").map(read).collect()
    }

    pub(super) fn marks(&self) -> IndexResult<BTreeMap<Name, EventId>> {
        let mut marks = BTreeMap::new();
        for pair in self.db.scan_prefix(b"p") {
            let (key, value) = pair.map_err(sled_failed)?;
            let name = self.names().of_key(&key);
            marks.insert(name.ok_or_else(malformed)?, event_of(&value).ok_or_else(malformed)?);
        }
        Ok(marks)
    }

    /// Hands everything to the operating system.
    pub(super) fn flush(&self) -> IndexResult<()> {
        self.db.flush().map(drop).map_err(sled_failed)
    }

    fn number(&self, name: &Name, batch: &mut ::sled::Batch) -> u16 {
        let mut names = self.names();
        if let Some(number) = names.by_name.get(name) {
            return *number;
        }
        let number = names.add(name.clone());
        insert(batch, numbered(b'n', number), name.as_str().as_bytes().to_vec());
        number
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, Meta> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encode_entry(&self, entry: &Entry, batch: &mut ::sled::Batch) -> Vec<Vec<u8>> {
        let head = &entry.head;
        let mut first = Vec::with_capacity(128);
        first.number(entry.place.0);
        first.time(head.received_at);
        first.number(u64::from(self.number(&head.source, batch)));
        first.text(&head.event_type);
        first.option(head.key.as_deref(), |out, key| out.text(key));
        first.option(head.occurred_at, |out, time| out.time(time));
        first.number(u64::from(head.body_bytes));
        first.number(entry.slots.len() as u64);
        let mut chunks = vec![first];
        for (index, slots) in entry.slots.chunks(SLOTS_PER_CHUNK).enumerate() {
            if index > 0 {
                chunks.push(Vec::new());
            }
            let numbers: Vec<u16> = slots.iter().map(|slot| self.number(&slot.endpoint, batch)).collect();
            let Some(chunk) = chunks.last_mut() else { continue };
            chunk.number(slots.len() as u64);
            for (slot, number) in slots.iter().zip(numbers) {
                encode_slot(slot, number, entry, chunk);
            }
            assert!(chunk.len() <= VALUE_MAX_BYTES, "an index value has at most {VALUE_MAX_BYTES} bytes");
        }
        chunks
    }

    fn decode_head(&self, id: EventId, from: &mut Reader) -> Option<(Entry, usize)> {
        let place = Position(from.number()?);
        let received_at = from.time()?;
        let source = self.name_of(from.small()?)?;
        let head = EventHead {
            id,
            received_at,
            source,
            event_type: from.text()?,
            key: from.option(Reader::text)?,
            occurred_at: from.option(Reader::time)?,
            body_bytes: from.small()?,
        };
        let slots_total = from.small()?;
        Some((Entry { head: Arc::new(head), place, slots: Vec::new() }, slots_total))
    }

    fn decode_slots(&self, entry: &mut Entry, from: &mut Reader) -> Option<()> {
        if from.is_empty() {
            return Some(());
        }
        let slots = from.list(|from| {
            let endpoint = self.name_of(from.small()?)?;
            decode_slot(endpoint, entry, from)
        })?;
        entry.slots.extend(slots);
        Some(())
    }

    fn name_of(&self, number: u16) -> Option<Name> {
        self.names().by_number.get(usize::from(number)).cloned()
    }
}

impl Names {
    /// The name whose number stands behind a key's first byte.
    fn of_key(&self, key: &[u8]) -> Option<Name> {
        let number = u16::from_be_bytes(*key.get(1..)?.first_chunk()?);
        self.by_number.get(usize::from(number)).cloned()
    }

    fn add(&mut self, name: Name) -> u16 {
        assert!(self.by_number.len() < usize::from(u16::MAX), "a journal names at most 65 534 sources and endpoints");
        let number = u16::try_from(self.by_number.len()).unwrap_or(u16::MAX);
        self.by_number.push(name.clone());
        self.by_name.insert(name, number);
        number
    }
}

/// Times are kept as distances from the event's: most are small.
fn encode_slot(slot: &Slot, endpoint: u16, entry: &Entry, out: &mut Vec<u8>) {
    let received = entry.head.received_at.millis();
    let distance = |millis: u64| millis.wrapping_sub(received);
    let (state, due) = match slot.state {
        State::Scheduled { due } => (0, due),
        // On its way is nowhere on disk: after a crash it is due.
        State::InFlight { .. } => (0, slot.changed_at),
        State::Delivered => (1, slot.changed_at),
        State::Dead => (2, slot.changed_at),
        State::Cancelled => (3, slot.changed_at),
        State::Expired => (4, slot.changed_at),
    };
    out.number(u64::from(endpoint));
    out.byte(state);
    out.byte(slot.reason as u8);
    out.number(distance(due.millis()));
    out.number(distance(slot.changed_at.millis()));
    out.number(distance(slot.born_at.millis()));
    out.number(u64::from(slot.attempts));
    out.number(u64::from(slot.last_status.unwrap_or(0)));
    out.byte(slot.last_failure.map_or(0, |class| class as u8));
    out.option(slot.replay, |out, replay| out.replay(replay));
    out.flag(slot.again);
    out.number(slot.last_place.0);
}

fn decode_slot(endpoint: Name, entry: &Entry, from: &mut Reader) -> Option<Slot> {
    let received = entry.head.received_at.millis();
    let time = |from: &mut Reader| {
        let millis = from.number()?.wrapping_add(received);
        Some(crate::core::timestamp::Timestamp::from_millis(millis))
    };
    let state = from.byte()?;
    let reason = Reason::from_code(from.byte()?)?;
    let due = time(from)?;
    let state = match state {
        0 => State::Scheduled { due },
        1 => State::Delivered,
        2 => State::Dead,
        3 => State::Cancelled,
        4 => State::Expired,
        _ => return None,
    };
    Some(Slot {
        endpoint,
        state,
        reason,
        changed_at: time(from)?,
        born_at: time(from)?,
        attempts: from.small()?,
        last_status: Some(from.small()?).filter(|status| *status != 0),
        last_failure: match from.byte()? {
            0 => None,
            code => Some(FailureClass::from_code(code)?),
        },
        replay: from.option(Reader::replay)?,
        again: from.flag()?,
        last_place: Position(from.number()?),
    })
}

fn insert(batch: &mut ::sled::Batch, key: Vec<u8>, value: Vec<u8>) {
    batch.insert(key, value);
}

fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut value = Vec::new();
    value.number(FORMAT);
    value.number(meta.applied.0);
    value.raw(&meta.last_id.to_be_bytes());
    value.number(meta.counters.accepted);
    value.number(meta.counters.unrouted);
    value
}

fn decode_meta(from: &mut Reader) -> Option<Meta> {
    if from.number()? != FORMAT {
        return None;
    }
    let applied = Position(from.number()?);
    let last_id = u128::from_be_bytes(*from.take(16)?.first_chunk()?);
    let counters = Counters { accepted: from.number()?, unrouted: from.number()?, endpoints: BTreeMap::new() };
    Some(Meta { applied, last_id, counters })
}

fn encode_tally(tally: &Tally) -> Vec<u8> {
    let mut value = Vec::new();
    for count in tally_fields(tally) {
        value.number(count);
    }
    value
}

fn decode_tally(from: &mut Reader) -> Option<Tally> {
    let mut fields = [0; 10];
    for field in &mut fields {
        *field = from.number()?;
    }
    Some(tally_of(fields))
}

const fn tally_fields(tally: &Tally) -> [u64; 10] {
    let Tally { routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired } = *tally;
    [routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired]
}

const fn tally_of(fields: [u64; 10]) -> Tally {
    let [routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired] = fields;
    Tally { routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired }
}

fn decode_waiting(key: &[u8], value: &[u8]) -> Option<Active> {
    let due = crate::core::timestamp::Timestamp::from_millis(u64::from_be_bytes(*key.get(3..)?.first_chunk()?));
    let event = event_of(key.get(11..)?)?;
    let slot = u16::from_be_bytes(*key.get(27..)?.first_chunk()?);
    let mut from = Reader::new(Bytes::copy_from_slice(value));
    Some(Active { due, id: event.delivery(slot), attempts: from.small()?, born_at: from.time()? })
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

fn replay_key(id: ReplayId) -> Vec<u8> {
    let mut key = b"r".to_vec();
    key.extend_from_slice(&id.as_u128().to_be_bytes());
    key
}

fn print_key(source: u16, print: Fingerprint) -> Vec<u8> {
    let mut key = numbered(b'd', source);
    key.extend_from_slice(&print.0);
    key
}

/// Keys are hashed to a fixed width; what is found is checked against the entry's own key.
fn key_prefix(key: &str) -> Vec<u8> {
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let mut prefix = b"k".to_vec();
    prefix.extend(hash.into_iter().take(8));
    prefix
}

fn by_key(key: &str, id: EventId) -> Vec<u8> {
    event_key(key_prefix(key), id)
}
