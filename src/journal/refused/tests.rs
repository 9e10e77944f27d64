//! What is kept comes back, within its bounds; what is not kept is counted.

use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::core::event::Header;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn refused(n: u64, body: usize) -> Refused {
    Refused {
        at: at(n),
        source: Name::new("flyflow").unwrap(),
        why: Why::TooLarge,
        detail: format!("number {n}"),
        first: None,
        peer: None,
        headers: vec![Header { name: "x-n".to_owned(), value: Bytes::from(n.to_string()) }],
        body: Bytes::from(vec![b'x'; body]),
        body_bytes: Some(body as u64),
    }
}

fn open(dir: &Path, count_max: usize) -> Refusals {
    Refusals::open(dir, Limits { count_max, bytes_max: 8 << 20 }, Vec::new(), 1).unwrap()
}

fn all(refusals: &Refusals) -> Vec<Kept> {
    let wanted =
        Wanted { source: None, why: None, since: None, until: None, after: None, newest_first: false, limit: 1000 };
    refusals.list(&wanted).0
}

fn details(refusals: &Refusals) -> Vec<String> {
    all(refusals).into_iter().map(|kept| kept.refused.detail).collect()
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    parts.into_iter().map(|part| part.join("00000000000000000000.log")).collect()
}

#[test]
fn what_is_kept_comes_back_whole_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let refusals = open(dir.path(), 10);
    (0..3).for_each(|n| refusals.note(refused(n, 5)));
    let before = all(&refusals);
    refusals.taken_in(before[1].id, EventId::from_u128(7)).unwrap();
    drop(refusals);
    let refusals = open(dir.path(), 10);
    let after = all(&refusals);
    assert_eq!(after[1].became, Some(EventId::from_u128(7)));
    assert_eq!([&after[0], &after[2]], [&before[0], &before[2]]);
    let whole = refusals.get(after[1].id).unwrap().unwrap();
    assert_eq!((whole.refused, whole.became, whole.whole), (refused(1, 5), after[1].became, true));
    // New ones go on behind the old ones, also where the clock has been set back.
    refusals.note(refused(0, 1));
    assert!(all(&refusals).last().unwrap().id > after[2].id);
    assert_eq!(refusals.get(RefusalId::from_u128(1)).unwrap(), None);
}

#[test]
fn the_oldest_are_given_up_by_count_and_by_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let refusals = open(dir.path(), 3);
    (0..5).for_each(|n| refusals.note(refused(n, 1)));
    assert_eq!(details(&refusals), ["number 2", "number 3", "number 4"]);
    drop(refusals);
    assert_eq!(details(&open(dir.path(), 3)), ["number 2", "number 3", "number 4"]);

    let dir = tempfile::tempdir().unwrap();
    let refusals = open(dir.path(), 1000);
    // Three to a part, of which there are eight.
    for n in 0..60 {
        refusals.note(refused(n, 300_000));
        refusals.settle();
    }
    let bytes: u64 = logs(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(bytes, 8 << 20);
    let kept = details(&refusals);
    assert_eq!((kept.len(), kept.last().map(String::as_str)), (24, Some("number 59")));
    assert!(all(&refusals).iter().all(|kept| refusals.get(kept.id).unwrap().is_some()));
    assert_eq!(refusals.lost(), 0);
    drop(refusals);
    assert_eq!(details(&open(dir.path(), 1000)), kept);
}

#[test]
fn what_is_damaged_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let refusals = open(dir.path(), 10);
    (0..3).for_each(|n| refusals.note(refused(n, 100)));
    refusals.settle();
    let path = logs(dir.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = b"number 1";
    let found = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[found] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let hit = all(&refusals)[1].id;
    assert_eq!(refusals.get(hit).unwrap(), None);
    drop(refusals);
    assert_eq!(details(&open(dir.path(), 10)), ["number 0", "number 2"]);
}

#[test]
fn a_full_queue_makes_nobody_wait_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let refusals = open(dir.path(), 10_000);
    let held = refusals.desk.as_ref().unwrap().store.lock().unwrap();
    // One more than fits may be in the hands of the thread.
    (0..QUEUE_MAX as u64 + 10).for_each(|n| refusals.note(refused(n, 1)));
    assert!((9..=10).contains(&refusals.lost()), "{}", refusals.lost());
    drop(held);
    let lost = refusals.lost();
    assert_eq!(all(&refusals).len(), 1000, "a page");
    assert_eq!(refusals.len() as u64 + lost, QUEUE_MAX as u64 + 10);
    let held = refusals.desk.as_ref().unwrap().store.lock().unwrap();
    (0..100).for_each(|n| refusals.note(refused(n, 256 << 10)));
    assert!(refusals.lost() - lost >= 100 - 64, "bodies are bounded too: {}", refusals.lost());
    drop(held);
    refusals.settle();
}

#[test]
fn without_a_limit_nothing_is_kept_and_nothing_made() {
    let dir = tempfile::tempdir().unwrap();
    let refusals = open(&dir.path().join("refused"), 0);
    refusals.note(refused(0, 1));
    assert!(!refusals.is_on() && refusals.is_empty() && refusals.lost() == 0 && all(&refusals).is_empty());
    assert!(!dir.path().join("refused").exists());
}

#[test]
fn the_bytes_are_what_they_were() {
    let one = refused(3, 2);
    let record =
        record::Record::Refused(RefusalId::from_u128(9), Refused { first: Some(EventId::from_u128(8)), ..one });
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    let zeros = [0u8; 15];
    let mut expected = vec![1, 30];
    expected.extend(zeros);
    expected.push(9);
    expected.extend(b"\x83\xd8\xc1\xa2\x8c\x34\x07flyflow\x02\x08number 3\x01");
    expected.extend(zeros);
    expected.extend(b"\x08\x00\x01\x03x-n\x013\x02xx\x01\x02");
    assert_eq!(bytes, expected);
    assert_eq!(record::Record::decode(bytes.into()), Some(record));
    let taken = record::Record::TakenIn(RefusalId::from_u128(9), EventId::from_u128(8));
    let mut bytes = Vec::new();
    taken.encode(&mut bytes);
    assert_eq!((bytes.len(), &bytes[..2]), (34, &[1, 31][..]));
    assert_eq!(record::Record::decode(bytes.into()), Some(taken));
}
