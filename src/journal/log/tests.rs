//! How segments follow each other on a real folder. Crashes and damage: `tests/journal_log.rs`.

use std::path::Path;

use super::*;
use crate::journal::disk::Folder;
use crate::journal::seal::Keyring;

fn open(dir: &Path, segment_bytes: u64) -> (Log, Findings, Vec<(Position, Bytes)>) {
    let folder: Arc<dyn Disk> = Arc::new(Folder::open(dir).unwrap());
    let mut seen = Vec::new();
    let opened = Log::open::<io::Error>(folder, Keyring::none(), segment_bytes, Position::NONE, |place, payload| {
        seen.push((place, payload));
        Ok(())
    });
    let (log, findings) = opened.unwrap();
    (log, findings, seen)
}

fn append(log: &Log, payloads: &[&[u8]]) -> Vec<Position> {
    log.append(payloads, |payload, out| out.extend_from_slice(payload)).unwrap()
}

fn files(dir: &Path) -> Vec<(String, u64)> {
    let entry = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
    };
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(entry).collect();
    files.sort();
    files
}

#[test]
fn a_new_log_has_no_file_and_ends_at_zero() {
    let dir = tempfile::tempdir().unwrap();
    let (log, findings, _) = open(dir.path(), 1024);
    assert_eq!((log.end(), findings, log.bytes()), (Position::NONE, Findings::default(), 0));
    assert_eq!(files(dir.path()), []);
    assert_eq!(log.read(Position(32)).unwrap(), None);
}

#[test]
fn positions_go_on_from_segment_to_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open(dir.path(), 256);
    // 24 bytes of header and 40 of payload: three of them fit behind the segment's 32.
    let payload: &[u8] = &[7; 40];
    let places: Vec<Position> = (0..4).flat_map(|_| append(&log, &[payload])).collect();
    assert_eq!(places, [Position(32), Position(96), Position(160), Position(288)]);
    let name = |base: u64| format!("{base:020}.log");
    assert_eq!(files(dir.path()), [(name(0), 256), (name(256), 256)]);
    assert_eq!((log.end(), log.bytes()), (Position(352), 512));
    drop(log);
    // Another segment length counts from the next segment on.
    let (log, findings, seen) = open(dir.path(), 1024);
    assert_eq!((seen.len(), findings.records, log.end()), (4, 4, Position(352)));
    assert_eq!(append(&log, &[payload, payload, payload]), [Position(544), Position(608), Position(672)]);
    assert_eq!(files(dir.path()).last(), Some(&(name(512), 1024)));
}

#[test]
fn a_group_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open(dir.path(), 256);
    let large: &[u8] = &[1; 3001];
    append(&log, &[b"small"]);
    let places = append(&log, &[b"before", large, b"behind"]);
    assert_eq!(places.first(), Some(&Position(256 + 32)), "a group is in one segment");
    append(&log, &[b"next"]);
    assert_eq!(files(dir.path()).len(), 3);
    for (place, payload) in places.iter().zip([b"before".as_slice(), large, b"behind"]) {
        assert_eq!(log.read(*place).unwrap().as_deref(), Some(payload));
    }
    drop(log);
    let (_, findings, seen) = open(dir.path(), 256);
    assert_eq!(seen.len(), 5);
    assert_eq!((findings.torn, findings.damaged), (vec![], vec![]));
}

#[test]
fn only_where_a_record_stands_can_one_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open(dir.path(), 512);
    let places = append(&log, &[&[1; 30], &[2; 30], &[3; 400]]);
    let end = log.end().0;
    for position in 0..end + 1000 {
        let is_one = places.contains(&Position(position));
        assert_eq!(log.read(Position(position)).unwrap().is_some(), is_one, "{position}");
    }
    assert_eq!(log.read(Position(u64::MAX - 24)).unwrap(), None);
}

#[test]
fn a_segment_whose_making_a_crash_cut_short_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open(dir.path(), 256);
    append(&log, &[b"kept"]);
    drop(log);
    for len in [0, 8, 32, 256] {
        let file = dir.path().join(format!("{:020}.log", 256));
        std::fs::write(&file, vec![0; len]).unwrap();
        let (log, findings, seen) = open(dir.path(), 256);
        assert_eq!((seen.len(), findings.torn.len(), findings.damaged.len()), (1, 0, 0));
        assert_eq!(files(dir.path()).len(), 1);
        assert_eq!(log.end(), Position(64));
    }
}

#[test]
fn other_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["README", "1.log", "0000000000000000000x.log", "00000000000000000000.log.bak"] {
        std::fs::write(dir.path().join(name), b"mine").unwrap();
    }
    let (log, ..) = open(dir.path(), 256);
    append(&log, &[b"one"]);
    assert_eq!(files(dir.path()).len(), 5);
}

#[test]
fn a_newer_versions_segment_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ..) = open(dir.path(), 256);
    append(&log, &[b"one"]);
    drop(log);
    let file = dir.path().join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] = 3;
    let crc = crc32c::crc32c(&bytes[..28]).to_le_bytes();
    bytes[28..32].copy_from_slice(&crc);
    std::fs::write(&file, &bytes).unwrap();
    let folder: Arc<dyn Disk> = Arc::new(Folder::open(dir.path()).unwrap());
    let refused = Log::open::<io::Error>(folder, Keyring::none(), 256, Position::NONE, |_, _| Ok(())).err().unwrap();
    assert!(refused.to_string().contains("newer version"), "{refused}");
    assert!(std::fs::read(&file).unwrap() == bytes);
}
