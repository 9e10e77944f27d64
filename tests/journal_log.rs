//! The log on a disk that forgets: every acknowledged record is there after every crash, and no other's.
//!
//! Everything follows from a seed but what the system's random source adds to a sealed record; a failure names it.
//! Odd seeds seal, and with crashes they change keys at every start.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/sim_disk.rs"]
mod sim_disk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use backstop::core::sealing::SealingKey;
use backstop::journal::disk::{Disk, DiskFile};
use backstop::journal::log::{Findings, Log, LogError, Position};
use backstop::journal::seal::Keyring;
use sim_disk::SimDisk;

const SEGMENT_BYTES: u64 = 4096;
/// What sealing adds to a record.
const SEAL_BYTES: usize = 36;

type Records = BTreeMap<Position, Vec<u8>>;

/// What was appended to a log, and what of it was acknowledged or seen by a reader since.
struct Witness {
    rng: fastrand::Rng,
    tried: BTreeSet<Vec<u8>>,
    kept: Records,
    /// What stands before this may be gone.
    cut_to: Position,
    /// Whether it cuts at all.
    cuts: bool,
    seals: bool,
    next: u64,
}

fn key(first: u8) -> SealingKey {
    let hex: String = (0..32).map(|n| format!("{:02x}", first + n)).collect();
    SealingKey::parse(&hex).unwrap()
}

impl Witness {
    fn new(seed: u64) -> Self {
        let (tried, kept) = (BTreeSet::new(), Records::new());
        let (rng, seals) = (fastrand::Rng::with_seed(seed), seed % 2 == 1);
        Self { rng, tried, kept, cut_to: Position::NONE, cuts: false, seals, next: 0 }
    }

    fn open(&mut self, disk: Arc<dyn Disk>, from: Position) -> io::Result<(Log, Findings, Records)> {
        let mut seen = Records::new();
        let mut last = None;
        let mut keys = if self.seals { vec![key(1), key(2), key(3)] } else { Vec::new() };
        if self.seals && self.cuts {
            keys.rotate_left(self.rng.usize(..3));
        }
        let (log, findings) =
            Log::open::<io::Error>(disk, Keyring::new(keys, "test"), SEGMENT_BYTES, from, |place, payload| {
                assert!(last < Some(place), "in order");
                last = Some(place);
                seen.insert(place, payload.to_vec());
                Ok(())
            })?;
        assert_eq!(findings.sealed.values().sum::<u64>(), if self.seals { findings.records } else { 0 });
        Ok((log, findings, seen))
    }

    /// Where the bytes of a record end, and where the next may begin.
    fn end_of(&self, place: Position, payload: &[u8]) -> (u64, u64) {
        let len = (24 + payload.len() + if self.seals { SEAL_BYTES } else { 0 }) as u64;
        (place.0 + len, place.0 + len.next_multiple_of(8))
    }

    /// One to four payloads, each unlike every other; some larger than a sector, few larger than a segment.
    fn group(&mut self) -> Vec<Vec<u8>> {
        let payload = |witness: &mut Self| {
            witness.next += 1;
            let len = match witness.rng.u8(..50) {
                0 => 5000,
                1..10 => witness.rng.usize(..1500),
                _ => witness.rng.usize(..90),
            };
            let mut payload = witness.next.to_le_bytes().to_vec();
            payload.extend(std::iter::repeat_with(|| witness.rng.u8(..)).take(len));
            payload
        };
        let payloads: Vec<_> = (0..self.rng.usize(1..5)).map(|_| payload(self)).collect();
        self.tried.extend(payloads.iter().cloned());
        payloads
    }

    fn append(&mut self, log: &Log) -> Result<(), LogError> {
        let group = self.group();
        let places = log.append(&group, |payload, out| out.extend_from_slice(payload))?;
        assert_eq!(places.len(), group.len());
        for (place, payload) in places.into_iter().zip(group) {
            assert_eq!(log.read(place).unwrap().as_deref(), Some(&payload[..]));
            assert_eq!(self.kept.insert(place, payload), None, "a position is given once");
        }
        Ok(())
    }

    /// Cuts the log somewhere, or has it turn to a new segment.
    fn cut(&mut self, log: &Log) -> io::Result<()> {
        if self.rng.bool() {
            return log.turn().map(drop).map_err(io::Error::other);
        }
        let places: Vec<Position> = self.kept.keys().copied().chain([log.end()]).collect();
        let to = places[self.rng.usize(..places.len())];
        self.cut_to = self.cut_to.max(to);
        log.cut(to)?;
        for (place, payload) in &self.kept {
            let read = log.read(*place)?;
            assert!(read.as_deref() == Some(&payload[..]) || (read.is_none() && *place < self.cut_to));
        }
        Ok(())
    }

    /// Everything kept is there, and nothing that nobody appended. What is there now is kept from now on.
    fn check(&mut self, log: &Log, seen: &Records) {
        for (place, payload) in &self.kept {
            let is_cut = *place < self.cut_to && !seen.contains_key(place);
            assert!(is_cut || seen.get(place) == Some(payload), "lost what stood at {place:?}");
        }
        for (place, payload) in seen {
            assert!(self.tried.contains(payload), "nobody appended what stands at {place:?}");
            assert_eq!(log.read(*place).unwrap().as_deref(), Some(&payload[..]));
        }
        let once: BTreeSet<&Vec<u8>> = seen.values().collect();
        assert_eq!(once.len(), seen.len(), "each once");
        self.kept.clone_from(seen);
    }
}

/// Opens and appends until the process dies, or has appended enough.
fn live(witness: &mut Witness, disk: &SimDisk, as_seen: &Arc<dyn Disk>, groups: usize) -> Findings {
    let Ok((log, findings, seen)) = witness.open(Arc::clone(as_seen), Position::NONE) else {
        assert!(disk.is_dead(), "a live process can open the log");
        return Findings::default();
    };
    witness.check(&log, &seen);
    for _ in 0..groups {
        let cut = if witness.cuts && witness.rng.u8(..3) == 0 { witness.cut(&log) } else { Ok(()) };
        if cut.is_err() || witness.append(&log).is_err() {
            assert!(disk.is_dead());
            break;
        }
    }
    findings
}

/// Lives once with a death in operation `dies_at`, then again and again with random deaths.
fn crash(seed: u64, dies_at: u64, wrap: fn(SimDisk) -> Arc<dyn Disk>) {
    let disk = SimDisk::new(seed ^ dies_at << 32);
    let as_seen = wrap(disk.clone());
    let mut witness = Witness { cuts: true, ..Witness::new(seed) };
    disk.die_after(dies_at);
    live(&mut witness, &disk, &as_seen, 6);
    for _ in 0..4 {
        if witness.rng.u8(..4) == 0 {
            disk.restart_process()
        } else {
            disk.cut_power()
        }
        let more = witness.rng.u64(..9);
        disk.die_after(more);
        let groups = witness.rng.usize(..5);
        let findings = live(&mut witness, &disk, &as_seen, groups);
        assert_eq!(findings.damaged.iter().filter(|gap| gap.0.0 % 8 != 0).count(), 0);
    }
    disk.cut_power();
    live(&mut witness, &disk, &as_seen, 3);
    disk.cut_power();
    live(&mut witness, &disk, &as_seen, 0);
}

/// How many operations a life without a death takes.
fn operations(seed: u64) -> u64 {
    let disk = SimDisk::new(seed);
    let as_seen: Arc<dyn Disk> = Arc::new(disk.clone());
    live(&mut Witness { cuts: true, ..Witness::new(seed) }, &disk, &as_seen, 6);
    disk.operations()
}

fn honest(disk: SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk)
}

fn for_each_seed(seeds: std::ops::Range<u64>, test: impl Fn(u64)) {
    for seed in seeds {
        let failed = catch_unwind(AssertUnwindSafe(|| test(seed))).is_err();
        assert!(!failed, "seed {seed} fails");
    }
}

#[test]
fn nothing_acknowledged_is_lost_whichever_operation_a_crash_cuts_short() {
    for_each_seed(0..300, |seed| {
        for dies_at in 0..=operations(seed) {
            crash(seed, dies_at, honest);
        }
    });
}

/// A disk whose sync says yes and does nothing.
struct Lying(SimDisk);

struct LyingFile(Arc<dyn DiskFile>);

impl Disk for Lying {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(LyingFile(self.0.create(name, len)?)))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(LyingFile(self.0.open(name)?)))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

impl DiskFile for LyingFile {
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

/// The harness can fail: without syncs, nearly every seed loses acknowledged records.
#[test]
fn without_syncs_the_same_test_finds_lost_records() {
    let lying = |disk: SimDisk| -> Arc<dyn Disk> { Arc::new(Lying(disk)) };
    let finds = |seed: &u64| {
        let failure = catch_unwind(AssertUnwindSafe(|| crash(*seed, u64::MAX >> 40, lying))).err();
        failure.is_some_and(|why| why.downcast_ref::<String>().is_some_and(|why| why.contains("lost what stood")))
    };
    let found = (0..50).filter(finds).count();
    assert!(found >= 45, "only {found} of 50 seeds lose records without syncs");
}

#[test]
fn after_a_failed_write_or_sync_the_log_takes_nothing_and_a_restart_goes_on() {
    for_each_seed(0..1500, |seed| {
        let disk = SimDisk::new(seed);
        let as_seen: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut witness = Witness::new(seed);
        let (log, _, _) = witness.open(Arc::clone(&as_seen), Position::NONE).unwrap();
        for _ in 0..witness.rng.usize(..5) {
            witness.append(&log).unwrap();
        }
        let kind = if witness.rng.bool() { io::ErrorKind::Other } else { io::ErrorKind::StorageFull };
        let more = witness.rng.u64(..4);
        disk.fail_after(more, kind);
        let failure = (0..9).find_map(|_| witness.append(&log).err()).expect("one of them fails");
        match failure {
            // Only making a segment may fail and be tried again.
            LogError::Full(_) => witness.append(&log).unwrap(),
            LogError::Failed(_) => {
                let operations = disk.operations();
                assert!(matches!(witness.append(&log), Err(LogError::Failed(_))));
                assert_eq!(disk.operations(), operations, "a failed log touches nothing");
            }
        }
        drop(log);
        // A new process on the same machine: it sees what the failed sync left in memory, and may tell others.
        disk.restart_process();
        live(&mut witness, &disk, &as_seen, 2);
        disk.cut_power();
        live(&mut witness, &disk, &as_seen, 2);
        disk.cut_power();
        live(&mut witness, &disk, &as_seen, 0);
    });
}

#[test]
fn a_full_disk_refuses_and_takes_again_when_there_is_room() {
    for_each_seed(0..500, |seed| {
        let disk = SimDisk::new(seed);
        let as_seen: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut witness = Witness::new(seed);
        disk.set_room(3 * SEGMENT_BYTES);
        let (log, _, _) = witness.open(Arc::clone(&as_seen), Position::NONE).unwrap();
        let refused = std::iter::repeat_with(|| witness.append(&log)).find_map(Result::err).unwrap();
        assert!(matches!(refused, LogError::Full(_)), "{refused:?}");
        disk.set_room(9 * SEGMENT_BYTES);
        witness.append(&log).unwrap();
        disk.cut_power();
        live(&mut witness, &disk, &as_seen, 0);
    });
}

/// A log of a few segments that was closed in peace.
fn filled(seed: u64) -> (SimDisk, Witness) {
    let disk = SimDisk::new(seed);
    let as_seen: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut witness = Witness::new(seed);
    live(&mut witness, &disk, &as_seen, 40);
    (disk, witness)
}

fn base_of(name: &str) -> u64 {
    name.strip_suffix(".log").unwrap().parse().unwrap()
}

#[test]
fn a_flipped_bit_loses_at_most_the_record_it_hits_and_is_reported() {
    let lost_in_all = std::cell::Cell::new(0);
    for_each_seed(0..2000, |seed| {
        let (disk, mut witness) = filled(seed);
        let files = disk.files();
        let (name, mut bytes) = files[witness.rng.usize(..files.len())].clone();
        let bit = witness.rng.usize(..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.replace(&name, bytes);
        let hit = base_of(&name) + bit as u64 / 8;
        let (log, findings, seen) = witness.open(Arc::new(disk.clone()), Position::NONE).unwrap();
        let lost: Vec<_> = witness.kept.iter().filter(|(place, _)| !seen.contains_key(place)).collect();
        assert!(seen.iter().all(|(place, payload)| witness.kept.get(place) == Some(payload)));
        let reported = |from: u64, to: u64| {
            let gaps = findings.torn.iter().chain(&findings.damaged);
            gaps.clone().count() == 1 && gaps.clone().all(|(place, len)| place.0 <= from && to <= place.0 + len)
        };
        match lost.as_slice() {
            [] => {
                let in_record = witness
                    .kept
                    .iter()
                    .any(|(place, payload)| (place.0..witness.end_of(*place, payload).0).contains(&hit));
                assert!(!in_record);
            }
            [(place, payload)] => {
                lost_in_all.set(lost_in_all.get() + 1);
                let (end, next) = witness.end_of(**place, payload);
                assert!((place.0..next).contains(&hit));
                assert!(reported(place.0, end), "{findings:?}");
            }
            more => panic!("one bit at {hit} lost {more:?}"),
        }
        if hit - base_of(&name) < 32 {
            assert!(reported(base_of(&name), base_of(&name) + 32), "a header's damage is told: {findings:?}");
        }
        // Life goes on behind it.
        for (place, _) in lost.iter().map(|(place, payload)| (**place, (*payload).clone())).collect::<Vec<_>>() {
            witness.kept.remove(&place);
        }
        witness.append(&log).unwrap();
        drop(log);
        disk.cut_power();
        live(&mut witness, &disk, &(Arc::new(disk.clone()) as Arc<dyn Disk>), 1);
    });
    assert!(lost_in_all.get() > 500, "most bits hit a record: {}", lost_in_all.get());
}

/// Bytes of a payload that were never on a disk in the clear, whatever crashed.
#[test]
fn nothing_of_a_sealed_record_is_on_the_disk() {
    let mut looked_for = 0;
    for seed in (1..200).step_by(2) {
        let (disk, witness) = filled(seed);
        let files = disk.files();
        for payload in witness.tried.iter().filter(|payload| payload.len() >= 24) {
            looked_for += 1;
            let is_there = |bytes: &[u8]| bytes.windows(16).any(|window| *window == payload[8..24]);
            assert!(!files.iter().any(|(_, bytes)| is_there(bytes)), "seed {seed}");
        }
    }
    assert!(looked_for > 5000, "{looked_for}");
}

/// A record that is moved with its header and checksum made to fit is no record of that place: it does not open.
#[test]
fn what_is_whole_but_does_not_open_is_damage_and_stays() {
    let disk = SimDisk::new(1);
    let mut witness = Witness::new(1);
    let (log, ..) = witness.open(Arc::new(disk.clone()), Position::NONE).unwrap();
    for _ in 0..9 {
        witness.append(&log).unwrap();
    }
    let end = log.end();
    drop(log);
    let (last, payload) = witness.kept.pop_last().unwrap();
    let (name, mut bytes) = disk.files().pop().unwrap();
    let from = usize::try_from(last.0 - base_of(&name)).unwrap();
    let to = from + 24 + payload.len() + SEAL_BYTES;
    bytes[to - 1] ^= 1;
    let word = crc32c::crc32c(&bytes[from..from + 4]);
    let crc = crc32c::crc32c_append(word, &bytes[from + 8..to]);
    bytes[from + 4..from + 8].copy_from_slice(&crc.to_le_bytes());
    disk.replace(&name, bytes.clone());
    for _ in 0..2 {
        let (log, findings, seen) = witness.open(Arc::new(disk.clone()), Position::NONE).unwrap();
        assert_eq!((&findings.damaged, &findings.torn), (&vec![(last, end.0 - last.0)], &vec![]));
        assert_eq!((seen, log.end()), (witness.kept.clone(), end));
        assert_eq!(log.read(last).unwrap(), None);
        drop(log);
        assert!(disk.files().pop().unwrap().1 == bytes, "nothing is written over it");
    }
}

#[test]
fn without_its_key_a_log_is_not_opened_and_left_as_it_is() {
    let (disk, witness) = filled(1);
    let before = disk.files();
    let open = |keys: &[u8], passing_over: bool| {
        let keyring = Keyring::new(keys.iter().map(|first| key(*first)).collect(), "test");
        let keyring = if passing_over { keyring.passing_over() } else { keyring };
        let mut seen = 0;
        let opened = Log::open::<io::Error>(Arc::new(disk.clone()), keyring, SEGMENT_BYTES, Position::NONE, |_, _| {
            seen += 1;
            Ok(())
        });
        opened.map(|(log, findings)| (log.seals(), findings, seen))
    };
    let lost_key = key(1).id().to_string();
    for keys in [&[][..], &[2], &[2, 3]] {
        let refused = open(keys, false).unwrap_err().to_string();
        assert!(refused.contains(&lost_key) && refused.contains("encryption.keys"), "{refused}");
        assert!(disk.files() == before, "an open that is refused writes nothing");
        let (seals, findings, seen) = open(keys, true).unwrap();
        assert_eq!((findings.records, seen), (witness.kept.len() as u64, 0));
        assert_eq!((findings.torn, findings.damaged), (vec![], vec![]));
        assert_eq!(findings.sealed.into_iter().collect::<Vec<_>>(), [(key(1).id(), findings.records)]);
        assert_eq!(seals.keys().collect::<Vec<_>>(), [&Some(key(1).id())]);
    }
    assert_eq!(open(&[2, 1], false).unwrap().2, witness.kept.len() as u64);
}

#[test]
fn a_cut_or_missing_segment_loses_only_what_stood_there_and_is_reported() {
    for_each_seed(0..1500, |seed| {
        let (disk, mut witness) = filled(seed);
        let files = disk.files();
        // The first segment may be missing (retention), and nothing tells of a last one that is gone.
        let index = witness.rng.usize(1..files.len() - 1);
        let (name, mut bytes) = files[index].clone();
        let missing = witness.rng.u8(..3) == 0;
        let cut_at = if missing { 0 } else { witness.rng.usize(..bytes.len()) };
        let hole = base_of(&name) + cut_at as u64..base_of(&name) + bytes.len() as u64;
        bytes.truncate(cut_at);
        if missing {
            disk.lose(&name)
        } else {
            disk.replace(&name, bytes)
        }
        let (log, findings, seen) = witness.open(Arc::new(disk.clone()), Position::NONE).unwrap();
        for (place, payload) in &witness.kept {
            let whole = witness.end_of(*place, payload).1 <= hole.start || hole.end <= place.0;
            let there = seen.get(place).is_some_and(|there| there == payload);
            // A record whose padding alone was cut may still be whole.
            assert!(there || !whole, "{place:?} was outside {hole:?}");
        }
        let told = findings.damaged.contains(&(Position(hole.start), hole.end - hole.start));
        assert!(told, "{hole:?} is not in {findings:?}");
        witness.kept.retain(|place, _| seen.contains_key(place));
        witness.append(&log).unwrap();
        drop(log);
        live(&mut witness, &disk, &(Arc::new(disk.clone()) as Arc<dyn Disk>), 1);
    });
}

#[test]
fn a_cut_last_segment_is_reported_and_goes_on_in_a_new_one() {
    for_each_seed(0..1500, |seed| {
        let (disk, mut witness) = filled(seed);
        let (name, mut bytes) = disk.files().pop().unwrap();
        let cut_at = witness.rng.usize(32..bytes.len());
        let hole = base_of(&name) + cut_at as u64;
        let missing = (bytes.len() - cut_at) as u64;
        bytes.truncate(cut_at);
        disk.replace(&name, bytes);
        let (log, findings, seen) = witness.open(Arc::new(disk.clone()), Position::NONE).unwrap();
        assert!(findings.damaged.contains(&(Position(hole), missing)), "{hole} is not in {findings:?}");
        assert!(
            witness
                .kept
                .iter()
                .all(|(place, payload)| witness.end_of(*place, payload).1 > hole || seen.contains_key(place))
        );
        witness.kept.clone_from(&seen);
        for _ in 0..5 {
            witness.append(&log).unwrap();
        }
        drop(log);
        live(&mut witness, &disk, &(Arc::new(disk.clone()) as Arc<dyn Disk>), 1);
    });
}

#[test]
fn reading_from_a_position_gives_the_rest_and_says_if_the_log_has_lost_it() {
    for_each_seed(0..500, |seed| {
        let (disk, mut witness) = filled(seed);
        let places: Vec<Position> = witness.kept.keys().copied().collect();
        let from = places[witness.rng.usize(..places.len())];
        let (log, findings, seen) = witness.open(Arc::new(disk.clone()), from).unwrap();
        let rest: Records = witness.kept.range(from..).map(|(place, payload)| (*place, payload.clone())).collect();
        assert_eq!((seen, findings.records), (rest.clone(), rest.len() as u64));
        let end = log.end();
        drop(log);
        let (log, findings, seen) = witness.open(Arc::new(disk.clone()), end).unwrap();
        assert_eq!((seen.len(), findings, log.end()), (0, Findings::default(), end));
        drop(log);
        // The last segment as it was before anything was written to it.
        let (name, bytes) = disk.files().pop().unwrap();
        let mut blank = bytes[..32].to_vec();
        blank.resize(bytes.len(), 0);
        disk.replace(&name, blank);
        let (log, _, _) = witness.open(Arc::new(disk.clone()), end).unwrap();
        assert!(log.end() < end);
    });
}
