//! A sweep on a full disk gives room back and takes no more than it must.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use super::*;
use crate::journal::disk::{Disk, DiskFile, Folder};

const BALLAST_BYTES: u64 = 600 << 10;
/// Four segments.
const FREE_MIN_BYTES: u64 = 4 * SEGMENT_BYTES;

/// A folder on a disk that holds so many bytes, ballast included.
struct Small {
    folder: Folder,
    dir: PathBuf,
    bytes: AtomicU64,
}

impl Small {
    fn used(&self) -> u64 {
        start::folder_bytes(&self.dir.join("log")) + ballast(&self.dir)
    }
}

fn ballast(dir: &std::path::Path) -> u64 {
    fs::metadata(dir.join("ballast")).map_or(0, |ballast| ballast.len())
}

impl Disk for Small {
    fn list(&self) -> io::Result<Vec<String>> {
        self.folder.list()
    }
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        if len > self.free_bytes()? { Err(io::ErrorKind::StorageFull.into()) } else { self.folder.create(name, len) }
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.folder.open(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.load(Ordering::Relaxed).saturating_sub(self.used()))
    }
}

/// A journal on a disk with room for so many segments and the ballast.
fn on_small(dir: &std::path::Path, segments: u64) -> (EmbeddedJournal, Arc<Small>) {
    let folder = Folder::open(&dir.join("log")).unwrap();
    let bytes = AtomicU64::new(BALLAST_BYTES + segments * SEGMENT_BYTES);
    let disk = Arc::new(Small { folder, dir: dir.to_owned(), bytes });
    let settings = Settings { ballast_bytes: BALLAST_BYTES, disk_free_min_bytes: FREE_MIN_BYTES, ..settings(dir) };
    let as_disk = Arc::clone(&disk) as Arc<dyn Disk>;
    let journal = start::open_on(&as_disk, start::lock(dir).unwrap(), &settings, &|_| ()).unwrap();
    stop_indexer(&journal);
    journal.inner.space.lay_ballast().unwrap();
    assert_eq!(ballast(dir), BALLAST_BYTES);
    (journal, disk)
}

/// Accepts until no more is taken, every third to be delivered still; how many.
fn fill(journal: &EmbeddedJournal) -> u128 {
    let mut count = 0;
    while !journal.is_full() {
        count += 1;
        accept(journal, event(count, count % 3 == 0));
    }
    count
}

#[test]
fn at_the_high_water_mark_it_gives_room_back_segment_by_segment_and_intake_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = on_small(folder.path(), 40);
    let count = fill(&journal);
    let free_before = disk.free_bytes().unwrap();
    let (mut freed, mut steps) = (0, 0);
    loop {
        steps += 1;
        match journal.sweep(&retention(), LATE).unwrap() {
            Sweep::Change(change) => assert_eq!(journal.commit(&[change]).unwrap(), [Receipt::Done]),
            Sweep::Looked => {}
            Sweep::Damaged(stretches) => panic!("{stretches:?}"),
            Sweep::Freed(bytes) => freed += bytes,
            Sweep::Idle => break,
        }
        assert_eq!(ballast(folder.path()), BALLAST_BYTES, "step {steps}");
        let free = disk.free_bytes().unwrap();
        assert!(free + 2 * SEGMENT_BYTES > free_before, "{free} of {free_before} are left in step {steps}");
    }
    assert!(freed > 10 * SEGMENT_BYTES, "{freed}");
    assert!(!journal.is_full(), "intake goes on");
    accept(&journal, event(count + 1, true));
    for id in (1..=count).filter(|id| id % 3 == 0) {
        let event = journal.event(EventId::from_u128(id)).unwrap();
        assert_eq!(event.map(|event| event.draft.body.len()), Some(1000), "{id}");
    }
    assert_eq!(journal.audit(Default::default()).unwrap().differences, []);
}

#[test]
fn without_room_it_waits_and_leaves_the_ballast_to_outcomes_while_any_are_awaited() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = on_small(folder.path(), 40);
    fill(&journal);
    let room = disk.bytes.load(Ordering::Relaxed);
    disk.bytes.store(disk.used(), Ordering::Relaxed);
    let refused = loop {
        match journal.sweep(&retention(), LATE).unwrap() {
            Sweep::Change(change) => match journal.commit(&[change]) {
                Ok(receipts) => assert_eq!(receipts, [Receipt::Done]),
                Err(error) => break error,
            },
            // Others take what is given back.
            Sweep::Freed(_) => disk.bytes.store(disk.used(), Ordering::Relaxed),
            _ => {}
        }
    };
    assert!(matches!(refused, JournalError::Full(_)), "{refused}");
    assert_eq!((ballast(folder.path()), journal.check()), (BALLAST_BYTES, Ok(())));
    disk.bytes.store(room, Ordering::Relaxed);
    assert!(sweep_all(&journal) > 0, "it goes on once there is room");
    assert_eq!(journal.audit(Default::default()).unwrap().differences, []);
}

#[test]
fn a_log_that_cannot_begin_another_segment_goes_on_in_the_one_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = on_small(folder.path(), 40);
    for id in 1..=4 {
        accept(&journal, event(id, false));
    }
    disk.bytes.store(disk.used(), Ordering::Relaxed);
    assert_eq!(sweep_all(&journal), 0);
    accept(&journal, event(5, true));
    assert_eq!(ballast(folder.path()), BALLAST_BYTES);
    assert_eq!(journal.inner.log.bytes(), SEGMENT_BYTES);
}

/// Nobody waits for the ballast then, and a sweep is all that can help.
#[test]
fn with_nothing_left_to_deliver_a_full_disk_is_swept_with_the_ballast() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, disk) = on_small(folder.path(), 40);
    let mut count = 0;
    while !journal.is_full() {
        count += 1;
        accept(&journal, event(count, false));
    }
    // What is left of the last segment is used up, too: by nothing that has to be kept.
    disk.bytes.store(disk.used(), Ordering::Relaxed);
    let record = Record::Stood { endpoint: Name::new("crm").unwrap(), standing: Default::default() };
    while journal.inner.log.append(&[&record], |record, out| record.encode(out)).is_ok() {}
    journal.inner.overlay().set_applied(journal.inner.log.end());
    assert!(sweep_all(&journal) > 10 * SEGMENT_BYTES);
    assert!(ballast(folder.path()) < BALLAST_BYTES);
}
