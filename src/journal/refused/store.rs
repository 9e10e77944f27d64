//! Where refused requests are kept: a few logs written in turn, the oldest given up for the newest.
//!
//! ```text
//! <dir>/00000000000000000001/   one log (see `log`) of one segment, the oldest
//! <dir>/00000000000000000002/   …
//! ```
//!
//! Nothing is synced: what a power cut takes was promised to nobody. What is damaged is skipped, and what is sealed
//! with a key that is not here is not listed while that is so. In memory are the heads, without headers and bodies,
//! bounded by their count.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::record::Record;
use super::{Kept, Limits, Wanted};
use crate::core::id::{EventId, IdSource, RefusalId};
use crate::core::refused::Refused;
use crate::core::sealing::SealingKey;
use crate::journal::disk::{Disk, DiskFile, Folder};
use crate::journal::log::{Log, LogError, Position, Seals};
use crate::journal::seal::Keyring;

/// How many logs there are at most.
const PARTS: u64 = 8;
/// Room in a log for what is not a record: more than its header needs.
const FRAME_BYTES: u64 = 4096;

pub(super) struct Store {
    dir: PathBuf,
    limits: Limits,
    keys: Vec<SealingKey>,
    /// Oldest first, each with the number it is named by.
    parts: VecDeque<(u64, Log)>,
    heads: BTreeMap<RefusalId, Head>,
    ids: IdSource,
    rng: fastrand::Rng,
}

/// What is known of a refused request without its headers and body, and where all of it is.
struct Head {
    kept: Kept,
    part: u64,
    place: Position,
}

impl Store {
    pub(super) fn open(dir: &Path, limits: Limits, keys: Vec<SealingKey>, seed: u64) -> io::Result<Self> {
        Folder::open(dir)?;
        let mut numbers: Vec<u64> =
            std::fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        let rng = fastrand::Rng::with_seed(seed);
        let (parts, heads, ids) = (VecDeque::new(), BTreeMap::new(), IdSource::default());
        let mut store = Self { dir: dir.to_owned(), limits, keys, parts, heads, ids, rng };
        for number in numbers {
            store.open_part(number)?;
        }
        while store.bytes() > limits.bytes_max && store.parts.len() > 1 {
            store.give_up_oldest();
        }
        let last = store.heads.last_key_value().map_or(0, |(id, _)| id.as_u128());
        store.ids = IdSource::after(last);
        Ok(store)
    }

    fn open_part(&mut self, number: u64) -> io::Result<()> {
        let folder: Arc<dyn Disk> = Arc::new(Unsynced(Folder::open(&self.folder(number))?));
        let keyring = Keyring::new(self.keys.clone(), "refused").passing_over();
        let part_bytes = self.part_bytes();
        let opened = Log::open::<io::Error>(folder, keyring, part_bytes, Position::NONE, |place, payload| {
            // What another version wrote is not understood, and is no loss.
            if let Some(record) = Record::decode(payload) {
                self.note(number, place, record);
            }
            Ok(())
        });
        self.parts.push_back((number, opened?.0));
        Ok(())
    }

    fn note(&mut self, part: u64, place: Position, record: Record) {
        match record {
            Record::Refused(id, refused) => {
                let (whole, kept_bytes) = (refused.is_whole(), refused.body.len());
                let head = Refused { headers: Vec::new(), body: Bytes::new(), ..refused };
                let kept = Kept { id, refused: head, kept_bytes, whole, became: None };
                self.heads.insert(id, Head { kept, part, place });
                while self.heads.len() > self.limits.count_max {
                    self.heads.pop_first();
                }
            }
            Record::TakenIn(id, event) => {
                if let Some(head) = self.heads.get_mut(&id) {
                    head.kept.became = Some(event);
                }
            }
        }
    }

    /// Keeps a refused request; the oldest are given up for it.
    pub(super) fn keep(&mut self, refused: Refused) -> Result<RefusalId, LogError> {
        let id = self.ids.refusal(refused.at, &mut self.rng);
        self.append(Record::Refused(id, refused))?;
        Ok(id)
    }

    /// Notes which event was made of it.
    pub(super) fn taken_in(&mut self, id: RefusalId, event: EventId) -> Result<(), LogError> {
        self.append(Record::TakenIn(id, event))
    }

    fn append(&mut self, record: Record) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let room = self.part_bytes();
        let fits = |(_, log): &(u64, Log)| log.keeps_key() && log.end().0 + bytes.len() as u64 + FRAME_BYTES <= room;
        if !self.parts.back().is_some_and(fits) {
            self.begin_part()?;
        }
        let Some((number, log)) = self.parts.back() else { return Ok(()) };
        let (number, appended) = (*number, log.append(&[bytes], |bytes, out| out.extend_from_slice(bytes)));
        match appended {
            Ok(places) => {
                if let Some(place) = places.first() {
                    self.note(number, *place, record);
                }
                Ok(())
            }
            // It takes nothing more; the next one may.
            Err(LogError::Failed(why)) => {
                self.begin_part()?;
                Err(LogError::Failed(why))
            }
            Err(full) => Err(full),
        }
    }

    fn begin_part(&mut self) -> Result<(), LogError> {
        while self.bytes() + self.part_bytes() > self.limits.bytes_max && !self.parts.is_empty() {
            self.give_up_oldest();
        }
        let next = self.parts.back().map_or(1, |(number, _)| number + 1);
        self.open_part(next).map_err(|error| LogError::Full(format!("refused requests cannot be kept: {error}")))
    }

    fn give_up_oldest(&mut self) {
        let Some((number, log)) = self.parts.pop_front() else { return };
        drop(log);
        self.heads.retain(|_, head| head.part != number);
        // If it cannot be removed it is tried again at the next start.
        let _removed = std::fs::remove_dir_all(self.folder(number)).is_ok();
    }

    /// The whole of it; `None` if it is not there, or was damaged.
    pub(super) fn get(&self, id: RefusalId) -> io::Result<Option<Kept>> {
        let Some(head) = self.heads.get(&id) else { return Ok(None) };
        let Some((_, log)) = self.parts.iter().find(|(number, _)| *number == head.part) else { return Ok(None) };
        Ok(match log.read(head.place)?.and_then(Record::decode) {
            Some(Record::Refused(_, refused)) => Some(Kept { refused, ..head.kept.clone() }),
            _ => None,
        })
    }

    /// Those that fit, without headers and bodies; and where the next page begins.
    pub(super) fn list(&self, wanted: &Wanted) -> (Vec<Kept>, Option<RefusalId>) {
        let fitting = |head: &&Head| wanted.fits(&head.kept);
        let mut heads: Box<dyn Iterator<Item = &Head>> =
            if wanted.newest_first { Box::new(self.heads.values().rev()) } else { Box::new(self.heads.values()) };
        let items: Vec<Kept> =
            heads.by_ref().filter(fitting).take(wanted.limit).map(|head| head.kept.clone()).collect();
        let more = heads.any(|head| wanted.fits(&head.kept));
        let next = items.last().map(|last| last.id).filter(|_| more);
        (items, next)
    }

    /// How much is sealed with which key, and how much with none.
    pub(super) fn seals(&self) -> Seals {
        let mut seals = Seals::new();
        for (key, extent) in self.parts.iter().flat_map(|(_, log)| log.seals()) {
            let sum = seals.entry(key).or_default();
            (sum.segments, sum.bytes) = (sum.segments + extent.segments, sum.bytes + extent.bytes);
        }
        seals
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, log)| log.bytes()).sum()
    }

    const fn part_bytes(&self) -> u64 {
        self.limits.bytes_max / PARTS
    }

    fn folder(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:020}"))
    }
}

/// A folder whose files are not synced as they are written.
struct Unsynced(Folder);

struct UnsyncedFile(Arc<dyn DiskFile>);

impl Disk for Unsynced {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(UnsyncedFile(self.0.create(name, len)?)))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(UnsyncedFile(self.0.open(name)?)))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

impl DiskFile for UnsyncedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read(buffer, offset)
    }
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
