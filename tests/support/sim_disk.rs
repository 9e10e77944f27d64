//! A disk that forgets: what was not synced may be lost, torn or kept, sector by sector, from a seed.
//!
//! Files have two faces: what a process reads (the cache) and what a power cut leaves (the platter). A write
//! reaches the cache; each of its 512-byte sectors may or may not reach the platter, in any order, until a
//! sync has returned. A failed sync leaves the sectors clean and possibly not written, as Linux does. The
//! process can be made to die at any operation, with that operation half done.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use backstop::journal::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// The disk; clones are the same one.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: fastrand::Rng,
    files: BTreeMap<String, Bytes>,
    /// Operations that change something, so far.
    operations: u64,
    /// The operation in which the process dies.
    dies_at: Option<u64>,
    dead: bool,
    /// Fails the operation with this number, with this error.
    fails_at: Option<(u64, io::ErrorKind)>,
    /// Bytes that files may have together.
    room: u64,
}

#[derive(Default)]
struct Bytes {
    cache: Vec<u8>,
    platter: Vec<u8>,
    /// What each sector has been since the last sync, oldest first.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
}

struct SimFile {
    disk: SimDisk,
    name: String,
}

/// What becomes of an operation.
enum Fate {
    Done,
    /// The process dies with it half done.
    Dies,
}

impl Bytes {
    fn zeros(len: usize) -> Self {
        Self { cache: vec![0; len], platter: vec![0; len], dirty: BTreeMap::new() }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            for sector in offset / SECTOR..=(end - 1) / SECTOR {
                let till = self.cache.len().min((sector + 1) * SECTOR);
                let now = self.cache[sector * SECTOR..till].to_vec();
                self.dirty.entry(sector).or_default().push(now);
            }
        }
    }

    /// Every dirty sector is on the platter. One that a failed sync has left clean is not dirty.
    fn settle(&mut self) {
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            self.put(sector, versions.last().unwrap());
        }
    }

    fn put(&mut self, sector: usize, bytes: &[u8]) {
        let (offset, end) = (sector * SECTOR, sector * SECTOR + bytes.len());
        if self.platter.len() < end {
            self.platter.resize(end, 0);
        }
        self.platter[offset..end].copy_from_slice(bytes);
    }

    /// Every dirty sector becomes one of the things it has been, or stays what it was before.
    fn settle_at_random(&mut self, rng: &mut fastrand::Rng) {
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if let Some(version) = versions.get(rng.usize(..=versions.len())) {
                self.put(sector, version);
            }
        }
    }
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        let (rng, files) = (fastrand::Rng::with_seed(seed), BTreeMap::new());
        let state = State { rng, files, operations: 0, dies_at: None, dead: false, fails_at: None, room: u64::MAX };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The process dies in the operation after `more` others.
    pub fn die_after(&self, more: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + more);
    }

    /// The operation after `more` others fails.
    pub fn fail_after(&self, more: u64, kind: io::ErrorKind) {
        let mut state = self.state();
        state.fails_at = Some((state.operations + more, kind));
    }

    pub fn set_room(&self, bytes: u64) {
        self.state().room = bytes;
    }

    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The process is gone, and a new one comes. The machine has stayed up.
    pub fn restart_process(&self) {
        let mut state = self.state();
        (state.dead, state.dies_at, state.fails_at) = (false, None, None);
    }

    /// The power goes, and comes back.
    pub fn cut_power(&self) {
        let mut state = self.state();
        let State { rng, files, .. } = &mut *state;
        for file in files.values_mut() {
            file.settle_at_random(rng);
            file.cache.clone_from(&file.platter);
        }
        drop(state);
        self.restart_process();
    }

    /// The names and what a process reads.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.state().files.iter().map(|(name, file)| (name.clone(), file.cache.clone())).collect()
    }

    /// Puts `bytes` in the place of a file's, on the platter too.
    pub fn replace(&self, name: &str, bytes: Vec<u8>) {
        let file = Bytes { cache: bytes.clone(), platter: bytes, dirty: BTreeMap::new() };
        self.state().files.insert(name.to_owned(), file);
    }

    pub fn lose(&self, name: &str) {
        self.state().files.remove(name).unwrap();
    }

    /// Counts an operation and says what becomes of it.
    fn begin(state: &mut State) -> io::Result<Fate> {
        if state.dead {
            return Err(io::Error::other("the process is dead"));
        }
        let number = state.operations;
        state.operations += 1;
        if let Some((_, kind)) = state.fails_at.filter(|(at, _)| *at == number) {
            return Err(kind.into());
        }
        state.dead = state.dies_at == Some(number);
        Ok(if state.dead { Fate::Dies } else { Fate::Done })
    }
}

fn died<T>() -> io::Result<T> {
    Err(io::Error::other("the process dies"))
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.dead {
            return died();
        }
        Ok(state.files.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        assert!(state.dead || !state.files.contains_key(name), "{name} is created once");
        if len > state.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).unwrap();
        match Self::begin(&mut state)? {
            Fate::Done => drop(state.files.insert(name.to_owned(), Bytes::zeros(len))),
            Fate::Dies => {
                // The name may be there or not, and the file may have any part of its length.
                if state.rng.bool() {
                    let len = if state.rng.bool() { len } else { state.rng.usize(..=len) };
                    state.files.insert(name.to_owned(), Bytes::zeros(len));
                }
                return died();
            }
        }
        drop(state);
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        if state.dead {
            return died();
        }
        if !state.files.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::new(SimFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        match Self::begin(&mut state)? {
            Fate::Dies if state.rng.bool() => died(),
            fate => {
                state.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
                if matches!(fate, Fate::Dies) { died() } else { Ok(()) }
            }
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free())
    }
}

impl State {
    fn free(&self) -> u64 {
        let used: u64 = self.files.values().map(|file| file.cache.len() as u64).sum();
        self.room.saturating_sub(used)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        Ok(state.files[&self.name].cache.len() as u64)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        if state.dead {
            return died();
        }
        let from = usize::try_from(offset).unwrap();
        let bytes = state.files[&self.name].cache.get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.dead {
            return died();
        }
        let fate = SimDisk::begin(&mut state);
        let offset = usize::try_from(offset).unwrap();
        // A write that fails or dies has reached some of the cache.
        let part = if matches!(fate, Ok(Fate::Done)) { bytes.len() } else { state.rng.usize(..=bytes.len()) };
        let file = state.files.get_mut(&self.name).unwrap();
        file.write(&bytes[..part], offset);
        if matches!(fate?, Fate::Dies) { died() } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.dead {
            return died();
        }
        let fate = SimDisk::begin(&mut state);
        let State { rng, files, .. } = &mut *state;
        let file = files.get_mut(&self.name).unwrap();
        match fate {
            Ok(Fate::Done) => {
                file.settle();
                Ok(())
            }
            // What was dirty stays so: the power may go too, or only the process.
            Ok(Fate::Dies) => died(),
            Err(error) => {
                file.settle_at_random(rng);
                Err(error)
            }
        }
    }
}
