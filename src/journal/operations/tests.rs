//! Operations are there after a crash, with what they came to or without; the oldest go, within the bounds.

use proptest::prelude::*;

use super::*;
use crate::core::operation::Who;
use crate::core::role::Role;

const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/operations-1.record");
const LIMITS: Limits = Limits { bytes_max: 8 * 4096, age_max: None };
const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn operation(millis: u64, what: &str) -> Operation {
    Operation {
        at: at(millis),
        who: Some(Who { name: "oncall".to_owned(), token: Some("1f2e3d4c".to_owned()), role: Role::Operate }),
        from: Some("192.0.2.7:4000".to_owned()),
        what: what.to_owned(),
        object: Some("crm".to_owned()),
        parameters: r#"{"note":"a while"}"#.to_owned(),
        repeats: 0,
    }
}

fn denied(millis: u64) -> Operation {
    Operation { who: None, object: None, parameters: String::new(), repeats: 3, ..operation(millis, "authenticate") }
}

fn outcome(status: u16) -> Outcome {
    Outcome::new(at(9), status, "it is paused")
}

fn open(dir: &Path, limits: Limits, now: Timestamp) -> Operations {
    let (operations, findings) = Operations::open(dir, limits, now).unwrap();
    assert_eq!(findings.damaged, []);
    operations
}

fn all(operations: &Operations) -> Vec<Kept> {
    operations.list(&Wanted { limit: usize::MAX, ..Wanted::default() }).unwrap().0
}

#[test]
fn what_was_begun_is_there_after_a_crash_with_its_end_or_without() {
    let dir = tempfile::tempdir().unwrap();
    let operations = open(dir.path(), LIMITS, at(0));
    let ended = operations.begin(&operation(1, "endpoint.pause")).unwrap();
    let cut_off = operations.begin(&operation(2, "replay.begin")).unwrap();
    let at_once = operations.note(&denied(3), &outcome(401)).unwrap();
    operations.end(ended, &outcome(200)).unwrap();
    let before = all(&operations);
    drop(operations);
    let after = all(&open(dir.path(), LIMITS, at(0)));
    assert_eq!(after, before);
    let told: Vec<_> = after.iter().map(|kept| (kept.id, Ending::of(kept.outcome.as_ref()))).collect();
    assert_eq!(told, [(ended, Ending::Done), (cut_off, Ending::Unknown), (at_once, Ending::Denied)]);
    assert_eq!(after[0].operation, operation(1, "endpoint.pause"));
    assert_eq!(after[2].operation, denied(3));
}

#[test]
fn they_are_listed_by_filters_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let operations = open(dir.path(), LIMITS, at(0));
    for n in 0..5 {
        let id =
            operations.begin(&operation(n, if n % 2 == 0 { "endpoint.pause" } else { "endpoint.resume" })).unwrap();
        operations.end(id, &outcome(if n == 4 { 409 } else { 200 })).unwrap();
    }
    operations.note(&denied(5), &outcome(401)).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let fitting = [
        (Wanted::default(), 6),
        (Wanted { who: text("oncall"), ..Wanted::default() }, 5),
        (Wanted { who: text("ci"), ..Wanted::default() }, 0),
        (Wanted { what: text("endpoint.pause"), ..Wanted::default() }, 3),
        (Wanted { what: text("endpoint.*"), ..Wanted::default() }, 5),
        (Wanted { what: text("endpoint"), ..Wanted::default() }, 0),
        (Wanted { object: text("crm"), ending: Some(Ending::Refused), ..Wanted::default() }, 1),
        (Wanted { ending: Some(Ending::Denied), ..Wanted::default() }, 1),
        (Wanted { since: Some(at(2)), until: Some(at(4)), ..Wanted::default() }, 2),
    ];
    for (wanted, count) in fitting {
        let (items, next) = operations.list(&Wanted { limit: 100, ..wanted.clone() }).unwrap();
        assert_eq!((items.len(), next), (count, None), "{wanted:?}");
    }
    for newest_first in [false, true] {
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let wanted = Wanted { after, newest_first, limit: 2, ..Wanted::default() };
            let (items, next) = operations.list(&wanted).unwrap();
            seen.extend(items.iter().map(|kept| kept.id));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 6);
        assert!(seen.is_sorted_by(|one, other| (one < other) != newest_first), "{seen:?}");
    }
}

#[test]
fn the_oldest_go_when_there_is_too_much() {
    let dir = tempfile::tempdir().unwrap();
    let operations = open(dir.path(), LIMITS, at(0));
    let count = 2000;
    let ids: Vec<OperationId> = (0..count).map(|n| operations.begin(&operation(n, "x.y")).unwrap()).collect();
    assert!(ids.is_sorted_by(|one, other| one < other), "an id is never given again");
    let kept = all(&operations);
    assert!(operations.log.bytes() <= LIMITS.bytes_max);
    assert!((100..1000).contains(&kept.len()), "{}", kept.len());
    assert!(kept.iter().map(|kept| kept.id).eq(ids[ids.len() - kept.len()..].iter().copied()));
    drop(operations);
    assert_eq!(all(&open(dir.path(), LIMITS, at(0))), kept);
    // The end of one that is gone is no operation.
    let operations = open(dir.path(), LIMITS, at(0));
    operations.end(ids[0], &outcome(200)).unwrap();
    assert_eq!(all(&operations), kept);
}

#[test]
fn the_oldest_go_when_they_are_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { age_max: Some(DAY), ..LIMITS };
    let operations = open(dir.path(), limits, at(0));
    operations.begin(&operation(0, "old.one")).unwrap();
    let later = |days: u64| at(days * 24 * 3600 * 1000 + 1);
    let begin = |days: u64| operations.begin(&Operation { at: later(days), ..operation(0, "later.one") }).unwrap();
    // The first later one comes to lie in the same segment, or in the next; the second lets that of the old one go.
    begin(1);
    begin(2);
    begin(4);
    assert!(all(&operations).iter().all(|kept| kept.operation.what == "later.one"));
    begin(4);
    drop(operations);
    let left = all(&open(dir.path(), limits, later(6)));
    assert!(left.len() <= 2 && left.iter().all(|kept| kept.operation.at == later(4)), "{left:?}");
}

#[test]
fn damage_costs_what_stands_there_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let operations = open(dir.path(), LIMITS, at(0));
    let ids: Vec<OperationId> = (0..3).map(|n| operations.begin(&operation(n, "x.y")).unwrap()).collect();
    drop(operations);
    let path = dir.path().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[usize::try_from(ids[1].0).unwrap() + 30] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (operations, findings) = Operations::open(dir.path(), LIMITS, at(0)).unwrap();
    assert_eq!(findings.damaged.len(), 1);
    let left: Vec<OperationId> = all(&operations).iter().map(|kept| kept.id).collect();
    assert_eq!(left, [ids[0], ids[2]]);
}

/// What was ever written is read for ever. A change of these bytes is a new version.
#[test]
fn the_bytes_are_golden() {
    let records = [
        Record::Begun(operation(1, "endpoint.pause"), None),
        Record::Ended(OperationId(32), outcome(200)),
        Record::Begun(denied(3), Some(outcome(401))),
    ];
    let mut bytes = Vec::new();
    for record in &records {
        let mut one = Vec::new();
        record.encode(&mut one);
        bytes.push(u8::try_from(one.len()).unwrap());
        bytes.extend_from_slice(&one);
        assert_eq!(Record::decode(one.into()).as_ref(), Some(record));
    }
    assert!(bytes == GOLDEN, "{bytes:?}");
}

proptest! {
    #[test]
    fn noise_is_no_record_and_no_panic(noise: Vec<u8>) {
        let mut bytes = vec![1, 40];
        bytes.extend_from_slice(&noise);
        for bytes in [noise, bytes] {
            if let Some(record) = Record::decode(bytes.clone().into()) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(Record::decode(again.into()), Some(record));
            }
        }
    }
}
