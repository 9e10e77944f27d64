//! Opening the journal: lock, trust the index or build it again, apply the log's tail.
//!
//! sled survives the death of its process but not of its machine. `index.state` says which boot of the
//! machine last wrote the index and, if it was closed cleanly, what its files were; only the same boot or
//! files as they were closed earn it trust. An index that is missing, will not open, panics, or knows more
//! than the log is built again from the log. Nothing is ever repaired in the log: what is damaged there is
//! reported.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use bytes::Bytes;

use super::indexer::Indexer;
use super::overlay::{ENTRIES_MAX, Overlay, Take};
use super::space::Space;
use super::{EmbeddedJournal, Findings, Inner, Position};
use crate::core::sealing::{KeyId, SealingKey};
use crate::core::timestamp::Timestamp;
use crate::journal::JournalError;
use crate::journal::disk::{self, Disk, Folder};
use crate::journal::ledger;
use crate::journal::log::{self, Log, LogError, Seals};
use crate::journal::record::{Opened, Record};
use crate::journal::seal::Keyring;
use crate::journal::sled::Index;

pub(super) const INDEX: &str = "index";
const LOG: &str = "log";
const LOCK: &str = "LOCK";
const STATE: &str = "index.state";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The largest index that is compared byte for byte after a clean close, so that a start stays quick whatever
/// the history. A larger one is known by its length; sled's own page checksums and the log position kept
/// with every batch see to the rest, and `journal verify` reads all of it.
const SUMMED_MAX_BYTES: u64 = 64 << 20;
/// Free bytes that opening asks for, and besides them this part of the index's size.
const OPEN_ROOM_BYTES: u64 = 1 << 20;
const OPEN_ROOM_PART: u64 = 32;
/// The state's length: always the same, so that it can be written over on a full disk.
const STATE_LEN: usize = 128;
/// Entries that recovery lets pile up before it hands them to the index.
const RECOVERY_ENTRIES_MAX: usize = ENTRIES_MAX / 4;

/// Where the journal is and how large its parts are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory; made if missing.
    pub dir: PathBuf,
    /// Length of a log segment, in bytes.
    pub segment_bytes: u64,
    /// Length of the ballast file, in bytes; 0 is none.
    pub ballast_bytes: u64,
    /// Below this many free bytes no new events are taken.
    pub disk_free_min_bytes: u64,
    /// Memory for the index's pages, in bytes.
    pub index_cache_bytes: u64,
    /// What the log is sealed with: the first key seals, all open. None: it is not.
    pub keys: Vec<SealingKey>,
    /// Now, for the log.
    pub now: Timestamp,
}

/// How far opening has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the log read.
    pub done_bytes: u64,
    /// Bytes of the log to read.
    pub total_bytes: u64,
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// Why the index was built again, if it was.
    pub rebuilt: Option<String>,
    /// What the log's part that was read held; all of it if the index was built again.
    pub findings: Findings,
}

/// What reading the whole log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Records, cut-off writes and damage.
    pub findings: Findings,
    /// Events accepted; `None` if retention has cut the log, which then does not tell, or if a key is missing.
    pub accepted: Option<u64>,
    /// What is sealed with which key.
    pub seals: Seals,
    /// Keys that are missing: of what is sealed with them it is known that it is undamaged, not what it says.
    pub missing_keys: Vec<KeyId>,
}

impl Settings {
    /// A journal of small segments, without ballast and keys.
    #[cfg(test)]
    pub(super) fn small(dir: &Path, now: Timestamp) -> Self {
        Self {
            dir: dir.to_owned(),
            segment_bytes: 1 << 14,
            ballast_bytes: 0,
            disk_free_min_bytes: 0,
            index_cache_bytes: 1 << 20,
            keys: Vec::new(),
            now,
        }
    }

    fn keyring(&self) -> Keyring {
        Keyring::new(self.keys.clone(), "journal")
    }
}

enum Attempted {
    Opened(Box<(Log, Overlay, Arc<Index>, OpenReport)>),
    /// The index cannot be trusted, and why.
    Distrusted(String),
}

pub(super) fn open(settings: &Settings, progress: &dyn Fn(Progress)) -> Result<EmbeddedJournal, JournalError> {
    let dir = &settings.dir;
    disk::create_private_dir(dir).map_err(at(dir))?;
    let lock = lock(dir)?;
    let folder: Arc<dyn Disk> = Arc::new(Folder::open(&dir.join(LOG)).map_err(at(dir))?);
    open_on(&folder, lock, settings, progress)
}

/// Opens with the log on this disk.
pub(super) fn open_on(
    folder: &Arc<dyn Disk>,
    lock: File,
    settings: &Settings,
    progress: &dyn Fn(Progress),
) -> Result<EmbeddedJournal, JournalError> {
    let dir = &settings.dir;
    log::check_keys(&**folder, &settings.keyring()).map_err(at(&dir.join(LOG)))?;
    let space = Space::new(Arc::clone(folder), settings);
    // sled writes when it opens, more the larger it is.
    space.make_room(OPEN_ROOM_BYTES + folder_bytes(&dir.join(INDEX)) / OPEN_ROOM_PART);
    space.measure();
    let why_not = why_distrust(dir).map_err(at(dir))?;
    let attempted = match why_not {
        Some(why) => Attempted::Distrusted(why),
        None => attempt_trusting(settings, folder, &space, progress)?,
    };
    let (log, overlay, index, report) = match attempted {
        Attempted::Opened(opened) => *opened,
        Attempted::Distrusted(why) => match rebuild(settings, folder, &space, why, progress)? {
            Attempted::Opened(opened) => *opened,
            Attempted::Distrusted(why) => return Err(JournalError::Open(why)),
        },
    };
    write_state(dir, None).map_err(at(dir))?;
    note_opened(&log, &space, settings, &report.findings)?;
    let inner = Arc::new(Inner {
        log,
        index,
        overlay: Mutex::new(overlay),
        room: Condvar::new(),
        committing: Mutex::new(()),
        handing_over: Mutex::new(()),
        auditing: Mutex::new(()),
        sweeper: Mutex::default(),
        dir: dir.clone(),
        space,
        failed: OnceLock::new(),
        closed: AtomicBool::new(false),
    });
    inner.overlay().set_applied(inner.log.end());
    let indexer = Indexer::start(Arc::clone(&inner))?;
    Ok(EmbeddedJournal { inner, indexer: Mutex::new(Some(indexer)), report, _lock: lock })
}

/// Opens with the index as it is, if it holds. sled panics on some damage, when it opens and when it reads.
fn attempt_trusting(
    settings: &Settings,
    folder: &Arc<dyn Disk>,
    space: &Space,
    progress: &dyn Fn(Progress),
) -> Result<Attempted, JournalError> {
    // A clean close says nothing about what is written from now on.
    write_state(&settings.dir, None).map_err(at(&settings.dir))?;
    match catch_unwind(AssertUnwindSafe(|| attempt(settings, folder, space, None, progress))) {
        // The log's own errors are `Open`; this is the index's.
        Ok(Err(JournalError::Failed(why))) => Ok(Attempted::Distrusted(why)),
        Ok(attempted) => attempted,
        Err(_panic) => Ok(Attempted::Distrusted("the index is damaged: reading it panicked".to_owned())),
    }
}

/// Opens the index and brings the log's records behind it into the overlay.
fn attempt(
    settings: &Settings,
    folder: &Arc<dyn Disk>,
    space: &Space,
    rebuilt: Option<String>,
    progress: &dyn Fn(Progress),
) -> Result<Attempted, JournalError> {
    let index = match Index::open(&settings.dir.join(INDEX), settings.index_cache_bytes) {
        Ok(index) => Arc::new(index),
        Err(error) if rebuilt.is_none() => {
            return Ok(Attempted::Distrusted(format!("the index does not open: {error}")));
        }
        Err(error) => return Err(JournalError::Open(error.to_string())),
    };
    let from = index.meta().applied;
    let mut overlay = match Overlay::new(Arc::clone(&index)) {
        Ok(overlay) => overlay,
        Err(error) => return Ok(Attempted::Distrusted(error.to_string())),
    };
    // What retention has cut is not read again.
    let begin = log::begin_of(&folder.list().map_err(at(&settings.dir))?);
    let first = from.max(begin);
    let total_bytes = (begin.0 + folder_bytes(&settings.dir.join(LOG))).saturating_sub(first.0);
    let mut known_torn: Vec<(Position, u64)> = Vec::new();
    let mut seen = 0u64;
    let (disk, keyring, segment_bytes) = (Arc::clone(folder), settings.keyring(), settings.segment_bytes);
    let (log, mut findings) = Log::open(disk, keyring, segment_bytes, from, |place, payload| {
        seen += 1;
        if seen.is_multiple_of(1024) {
            progress(Progress { done_bytes: place.0.saturating_sub(first.0).min(total_bytes), total_bytes });
        }
        let record = read_record(place, payload)?;
        if let Record::Opened(opened) = &record {
            known_torn.extend(&opened.torn);
        }
        ledger::apply(&record, place, &mut overlay)?;
        overlay.set_applied(place);
        let is_much = overlay.len() >= RECOVERY_ENTRIES_MAX;
        if is_much { hand_over(settings, space, &index, &mut overlay) } else { Ok(()) }
    })?;
    findings.damaged.retain(|gap| !known_torn.contains(gap));
    if log.end() < from {
        return Ok(Attempted::Distrusted("the index knows more than the log holds".to_owned()));
    }
    if from != Position::NONE && from < log.begin() {
        return Ok(Attempted::Distrusted("the index has not learnt what the log has been cut by".to_owned()));
    }
    overlay.set_applied(log.end());
    let report = OpenReport { rebuilt, findings };
    Ok(Attempted::Opened(Box::new((log, overlay, index, report))))
}

fn rebuild(
    settings: &Settings,
    folder: &Arc<dyn Disk>,
    space: &Space,
    why: String,
    progress: &dyn Fn(Progress),
) -> Result<Attempted, JournalError> {
    let index = settings.dir.join(INDEX);
    // The state goes first: a crash in the middle must find an index that nobody trusts.
    forget_state(&settings.dir).map_err(at(&settings.dir))?;
    remove_if_there(std::fs::remove_dir_all(&index)).map_err(at(&index))?;
    attempt(settings, folder, space, Some(why), progress)
}

/// Empties the overlay into the index; without room for that it may hold all that a running journal's may.
fn hand_over(settings: &Settings, space: &Space, index: &Index, overlay: &mut Overlay) -> Result<(), JournalError> {
    let has_room = || space.reserve(&settings.dir.join(INDEX));
    while has_room() {
        let Some(handover) = overlay.hand_over(1024, Take::All) else { return Ok(()) };
        index.write(&handover)?;
        overlay.handed_over(handover);
    }
    if overlay.len() < 2 * ENTRIES_MAX {
        return Ok(());
    }
    Err(JournalError::Open("the disk is full, and the index needs more room than there is ballast".to_owned()))
}

fn read_record(place: Position, payload: Bytes) -> Result<Record, JournalError> {
    Record::decode(payload).ok_or_else(|| {
        let at = place.0;
        JournalError::Open(format!("the record at {at} is whole but not readable: a newer version wrote this journal"))
    })
}

/// Why the index must not be trusted, if so.
fn why_distrust(dir: &Path) -> io::Result<Option<String>> {
    if !dir.join(INDEX).is_dir() {
        let is_new = std::fs::read_dir(dir.join(LOG))?.next().is_none();
        return Ok(if is_new { None } else { Some("there is no index".to_owned()) });
    }
    let state = match std::fs::read_to_string(dir.join(STATE)) {
        Ok(state) => state,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            return Ok(Some("the index has no state".to_owned()));
        }
        Err(error) => return Err(error),
    };
    if let Some(sum) = state.lines().find_map(|line| line.strip_prefix("clean=")) {
        let same = sum == files_sum(&dir.join(INDEX))?;
        return Ok(if same { None } else { Some("the index is not what was closed".to_owned()) });
    }
    let same_boot = boot_id()?.is_some_and(|boot| state.contains(&format!("boot={boot}\n")));
    let why = "the machine went down while the index was open".to_owned();
    Ok(if same_boot { None } else { Some(why) })
}

/// What a folder's files are known by after a clean close: their length and, up to [`SUMMED_MAX_BYTES`],
/// a checksum of their bytes.
fn files_sum(folder: &Path) -> io::Result<String> {
    let total = folder_bytes(folder);
    if total > SUMMED_MAX_BYTES {
        return Ok(format!("{total}"));
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let (mut sum, mut part) = (0, vec![0; 1 << 20]);
    for path in paths {
        let mut file = File::open(path)?;
        loop {
            let read = file.read(&mut part)?;
            let Some(bytes) = part.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            sum = crc32c::crc32c_append(sum, bytes);
        }
    }
    Ok(format!("{total}-{sum:08x}"))
}

/// This boot of the machine; `None` where the system does not say, and then only a clean close is trusted.
fn boot_id() -> io::Result<Option<String>> {
    match std::fs::read_to_string(BOOT_ID) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the state durably, over the old one: a full disk has no room for a new file. It is shorter than a
/// sector, so a power cut leaves the one or the other; and what is neither is not trusted.
///
/// `clean` is what the files of a closed index are known by.
fn write_state(dir: &Path, clean: Option<&str>) -> io::Result<()> {
    match write_over_state(dir, clean) {
        // No room for it: no state is no trust, and that is always safe.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => forget_state(dir),
        written => written,
    }
}

fn write_over_state(dir: &Path, clean: Option<&str>) -> io::Result<()> {
    let boot = boot_id()?.unwrap_or_default();
    let clean = clean.map(|sum| format!("clean={sum}\n")).unwrap_or_default();
    let text = format!("boot={boot}\n{clean}");
    assert!(text.len() <= STATE_LEN, "the state has its place");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join(STATE))?;
    file.write_all_at(format!("{text:<STATE_LEN$}").as_bytes(), 0)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Makes the index safe against a power cut, and says so.
pub(super) fn mark_clean(dir: &Path, index: &Index) -> Result<(), JournalError> {
    index.flush()?;
    let folder = dir.join(INDEX);
    let synced = sync_files(&folder).and_then(|()| write_state(dir, Some(&files_sum(&folder)?)));
    synced.map_err(|error| JournalError::Failed(format!("closing the index: {error}")))
}

fn sync_files(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_files(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len());
    sizes.sum()
}

/// A journal's directory, taken for this process while it is held.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the directory.
    ///
    /// # Errors
    /// If there is none, or another process has it.
    pub fn take(dir: &Path) -> Result<Self, JournalError> {
        Ok(Self { _file: lock(dir)? })
    }
}

/// Takes the directory for this process.
pub(super) fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join(LOCK);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = options.map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _read = file.read_to_string(&mut holder).is_ok();
            let holder = holder.trim();
            let dir = dir.display();
            return Err(JournalError::Open(format!(
                "{dir} is in use by another backstop (process {holder}); stop that one first"
            )));
        }
        Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
    }
    // For people only, and over the old one: on a full disk there is no room for more.
    let _noted = file.write_all_at(format!("{:<10}\n", std::process::id()).as_bytes(), 0).is_ok();
    Ok(file)
}

/// Notes in the log that a process begins to write, and which gaps it takes for cut-off writes.
fn note_opened(log: &Log, space: &Space, settings: &Settings, findings: &Findings) -> Result<(), JournalError> {
    let opened = Record::Opened(Opened {
        at: settings.now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        torn: findings.torn.clone(),
    });
    match append(log, space, std::slice::from_ref(&opened)) {
        Ok(_) => Ok(()),
        // No room even for this: what is there can still be read, listed and delivered until room comes.
        Err(LogError::Full(_)) => Ok(()),
        Err(LogError::Failed(why)) => Err(JournalError::Open(why)),
    }
}

/// Appends records as one group; gives ballast up for it if it must.
pub(super) fn append(log: &Log, space: &Space, records: &[Record]) -> Result<Vec<Position>, LogError> {
    loop {
        match log.append(records, Record::encode) {
            Err(LogError::Full(why)) => {
                space.note_full();
                if !space.give_up_ballast() {
                    return Err(LogError::Full(why));
                }
            }
            appended => return appended,
        }
    }
}

/// Withdraws the trust in the index of a journal that nobody has open.
pub(super) fn distrust(settings: &Settings) -> Result<(), JournalError> {
    let _lock = lock(&settings.dir)?;
    forget_state(&settings.dir).map_err(at(&settings.dir))
}

/// Reads the log from its beginning.
pub(super) fn verify(settings: &Settings) -> Result<Verified, JournalError> {
    let _lock = lock(&settings.dir)?;
    let log = settings.dir.join(LOG);
    let folder: Arc<dyn Disk> = Arc::new(Folder::open(&log).map_err(at(&log))?);
    let (mut accepted, mut known_torn, mut is_cut) = (0, Vec::new(), false);
    let (keyring, segment_bytes) = (settings.keyring().passing_over(), settings.segment_bytes);
    let (log, mut findings) = Log::open(folder, keyring, segment_bytes, Position::NONE, |place, payload| {
        match read_record(place, payload)? {
            Record::Accepted(_) => accepted += 1,
            Record::Retained(_) => is_cut = true,
            Record::Opened(opened) => known_torn.extend(opened.torn),
            _ => {}
        }
        Ok::<(), JournalError>(())
    })?;
    findings.damaged.retain(|gap| !known_torn.contains(gap));
    let keyring = settings.keyring();
    let missing_keys: Vec<KeyId> = findings.sealed.keys().filter(|key| !keyring.has(**key)).copied().collect();
    let accepted = (!is_cut && missing_keys.is_empty()).then_some(accepted);
    Ok(Verified { findings, accepted, seals: log.seals(), missing_keys })
}

/// Withdraws the trust in the index: the next open builds it again.
pub(super) fn forget_state(dir: &Path) -> io::Result<()> {
    remove_if_there(std::fs::remove_file(dir.join(STATE)))
}

fn remove_if_there(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> JournalError {
    let path = path.display().to_string();
    move |error| JournalError::Open(format!("{path}: {error}"))
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Open(format!("reading the log: {error}"))
    }
}
