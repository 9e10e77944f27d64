//! Every kind of difference is planted and must be named; and what moves meanwhile is none.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::*;
use crate::core::attempt::{Answer, Outcome, Reply};
use crate::core::event::Draft;
use crate::core::timestamp::Timestamp;
use crate::journal::embedded::{EmbeddedJournal, Settings};
use crate::journal::ledger::Apply as _;
use crate::journal::{Change, Journal as _, Redelivery};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

/// The `n`-th event's id: received in its `n`-th second.
fn id(n: u64) -> EventId {
    EventId::from_u128(EventId::floor(at(n * 1000)).as_u128() + 1)
}

fn open(dir: &Path) -> EmbeddedJournal {
    EmbeddedJournal::open(&Settings::small(dir, at(0)), &|_| ()).unwrap()
}

fn event(n: u64, endpoints: &[&str]) -> Arc<Event> {
    let draft = Draft {
        source: name("flyflow"),
        event_type: "call_ended".to_owned(),
        key: None,
        occurred_at: None,
        headers: Vec::new(),
        body: Bytes::from(format!("body of {n}")),
        dedup: None,
        endpoints: endpoints.iter().map(|endpoint| name(endpoint)).collect(),
    };
    Arc::new(Event { id: id(n), received_at: at(n * 1000), draft })
}

fn attempt(id: DeliveryId, number: u32, step: Step) -> Change {
    let (status, outcome, reason) = match step {
        Step::Succeed => (200, Outcome::Delivered, Reason::Acknowledged),
        Step::Retry { .. } => (503, Outcome::Retryable, Reason::Backoff),
        _ => (410, Outcome::Permanent, Reason::Gone),
    };
    let answer = Answer { status, headers: vec![], body: Bytes::new(), body_cut: false, retry_after: None };
    let reply = Reply::Answer(answer);
    let (started_at, took_ms, probe, out_of_order) = (at(u64::from(number)), 1, false, false);
    let attempt = Attempt { number, started_at, took_ms, reply, outcome, probe, out_of_order };
    Change::Settle(Settlement { id, attempt, step, reason })
}

fn again(event: EventId, endpoint: &str) -> Change {
    Change::Redeliver(Redelivery { event, endpoint: name(endpoint), at: at(9), force: true })
}

/// 0: delivered at `a`, tried twice at `b`. 1: dead at `a`, and waits there again. 2: taken back. 3: routed
/// nowhere. 4: never tried. Each on a page of its own.
fn made() -> (tempfile::TempDir, EmbeddedJournal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let retry = Step::Retry { due: at(99) };
    let routed: [&[&str]; 5] = [&["a", "b"], &["a"], &["b"], &[], &["a"]];
    for (n, endpoints) in (0..).zip(routed) {
        journal.commit(&[Change::Accept(event(n, endpoints))]).unwrap();
        journal.settle_index().unwrap();
    }
    let [first, second, third] = [0, 1, 2].map(|n| id(n).delivery(0));
    let beside = id(0).delivery(1);
    let changes = [
        attempt(first, 1, Step::Succeed),
        attempt(beside, 1, retry),
        attempt(second, 1, Step::GiveUp),
        Change::Cancel { id: third, at: at(8) },
        again(id(1), "a"),
    ];
    journal.commit(&changes).unwrap();
    journal.commit(&[attempt(beside, 2, retry)]).unwrap();
    journal.settle_index().unwrap();
    (dir, journal)
}

/// What differs and of what, the sums left out.
fn named(audit: &Audit) -> Vec<(What, String)> {
    let counts = audit.differences.iter().filter(|difference| difference.what != What::Count);
    counts.map(|found| (found.what, found.id.map_or(String::new(), |id| id.to_string()))).collect()
}

fn change(journal: &EmbeddedJournal, id: EventId, change: impl FnOnce(&mut Entry)) {
    let mut overlay = journal.inner.overlay();
    let applied = overlay.applied();
    overlay.change(id, applied, change).unwrap();
}

fn remove_keys(journal: &EmbeddedJournal, prefix: &[u8]) {
    let db = journal.inner.index.db();
    for key in db.scan_prefix(prefix).keys() {
        db.remove(key.unwrap()).unwrap();
    }
}

/// The place that entry `n` names for its last cancellation.
fn ended_by(journal: &EmbeddedJournal, n: u64) -> Position {
    journal.inner.load(id(n)).unwrap().unwrap().slots[0].ended_by
}

#[test]
fn what_is_as_it_should_be_is_clean_whatever_the_range() {
    let (_dir, journal) = made();
    let audit = journal.audit(Span::default()).unwrap();
    assert_eq!((named(&audit), audit.found), (vec![], 0));
    assert_eq!((audit.records, &audit.counters), (12, &journal.counters()));
    let span = Span { since: Some(at(1000)), until: Some(at(3000)) };
    let audit = journal.audit(span).unwrap();
    let [a, b] = ["a", "b"].map(|endpoint| audit.counters.endpoints[&name(endpoint)]);
    assert_eq!((audit.found, audit.counters.accepted, audit.counters.unrouted), (0, 2, 0));
    assert_eq!((a.routed, a.replayed, a.dead, a.scheduled, a.failed, b.cancelled), (1, 1, 1, 1, 0, 1));
}

type Plant = fn(&EmbeddedJournal);

/// Ways to falsify what is known, each with what must be named.
fn plants() -> Vec<(Plant, Vec<(What, String)>)> {
    let of_event = |what: What, n: u64| vec![(what, id(n).to_string())];
    let of_delivery = |what: What, n: u64, slot: u16| vec![(what, id(n).delivery(slot).to_string())];
    vec![
        (
            |journal| remove_keys(journal, &[b"b", &id(4).as_u128().to_be_bytes()[..]].concat()),
            of_event(What::Missing, 4),
        ),
        (
            |journal| {
                let stray = event(9, &["a"]);
                let entry = Entry::accepted(&stray, journal.inner.log.begin());
                journal.inner.overlay().insert(&stray, entry);
            },
            of_event(What::Unfounded, 9),
        ),
        (|journal| change(journal, id(4), |entry| entry.slots[0].endpoint = name("b")), of_event(What::Misrouted, 4)),
        (|journal| change(journal, id(1), |entry| drop(entry.slots.pop())), of_delivery(What::Missing, 1, 1)),
        (
            |journal| change(journal, id(3), |entry| entry.deliver_again(0, &name("a"), at(9), None, Position(40))),
            of_delivery(What::Unfounded, 3, 0),
        ),
        (
            |journal| {
                let previous = match journal.inner.read(journal.inner.load(id(0)).unwrap().unwrap().slots[1].last_place)
                {
                    Ok(Some(Record::Settled { previous, .. })) => previous,
                    other => panic!("{other:?}"),
                };
                change(journal, id(0), |entry| {
                    let slot = &mut entry.slots[1];
                    (slot.attempts, slot.last_place, slot.changed_at) = (1, previous, at(2));
                });
            },
            of_delivery(What::Behind, 0, 1),
        ),
        (|journal| change(journal, id(0), |entry| entry.slots[0].state = State::Dead), of_delivery(What::Astray, 0, 0)),
        (
            |journal| change(journal, id(4), |entry| entry.slots[0].state = State::Delivered),
            of_delivery(What::Astray, 4, 0),
        ),
        (
            |journal| {
                change(journal, id(2), |entry| {
                    entry.slots[0].state = State::Scheduled { due: at(0) };
                    entry.slots[0].ended_by = Position::NONE;
                });
            },
            of_delivery(What::Behind, 2, 0),
        ),
        (
            |journal| {
                let place = ended_by(journal, 2);
                change(journal, id(4), |entry| entry.cancel(0, at(8), place));
            },
            of_delivery(What::Unfounded, 4, 0),
        ),
        (|journal| journal.set_mark(&name("a"), id(4)), of_delivery(What::Unfindable, 4, 0)),
        (|journal| remove_keys(journal, b"w"), [of_event(What::Unfindable, 0), of_event(What::Unfindable, 1)].concat()),
    ]
}

#[test]
fn each_planted_difference_is_named() {
    for (number, (plant, expected)) in plants().into_iter().enumerate() {
        let (_dir, journal) = made();
        plant(&journal);
        for _ in 0..2 {
            let audit = journal.audit(Span::default()).unwrap();
            assert_eq!(named(&audit), expected, "plant {number}: {:#?}", audit.differences);
            assert!(!audit.is_clean());
            journal.settle_index().unwrap();
        }
        // The event stands in its range, and in no other.
        assert!(!journal.audit(Span { since: Some(at(0)), until: Some(at(99_000)) }).unwrap().is_clean());
        let before = journal.audit(Span { since: None, until: Some(at(0)) }).unwrap();
        assert_eq!(named(&before), [], "plant {number}");
    }
}

#[test]
fn running_totals_that_are_not_the_sums_are_a_difference() {
    let (dir, journal) = made();
    let db = journal.inner.index.db();
    let [mut of_a, of_b] = ["a", "b"].map(|endpoint| {
        let tallies = db.scan_prefix(b"t").map(Result::unwrap);
        let number =
            db.scan_prefix(b"n").map(Result::unwrap).find(|(_, name)| **name == *endpoint.as_bytes()).unwrap().0;
        tallies.into_iter().find(|(key, _)| key[1..] == number[1..]).unwrap()
    });
    of_a.1 = of_b.1;
    db.insert(of_a.0, of_a.1).unwrap();
    drop(journal);
    let journal = open(dir.path());
    let audit = journal.audit(Span::default()).unwrap();
    assert_eq!(named(&audit), []);
    assert!(audit.differences.iter().all(|found| found.endpoint == Some(name("a"))), "{audit:?}");
    assert!(
        audit.differences.iter().any(|found| found.detail.starts_with("delivered: 1 by the index, 0 by the running"))
    );
    // Of a range there are no running totals.
    assert!(journal.audit(Span { since: Some(at(0)), until: None }).unwrap().is_clean());
}

#[test]
fn what_the_log_has_lost_is_named() {
    let (dir, journal) = made();
    let (place, tried) = {
        let load = |n| journal.inner.load(id(n)).unwrap().unwrap();
        (load(4).place, load(0).slots[1].last_place)
    };
    let Some(Record::Settled { previous, .. }) = journal.inner.read(tried).unwrap() else { panic!("it was tried") };
    drop(journal);
    let path = dir.path().join("log/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    for position in [place, previous] {
        bytes[usize::try_from(position.0).unwrap() + 30] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
    let journal = open(dir.path());
    assert_eq!(journal.report().rebuilt, None);
    let audit = journal.audit(Span::default()).unwrap();
    let expected = [
        (What::Lost, id(0).delivery(1).to_string()),
        (What::Unfounded, id(4).to_string()),
        (What::Lost, String::new()),
        (What::Lost, String::new()),
    ];
    assert_eq!(named(&audit), expected);
}

/// Exact at any moment of a busy journal: what is committed meanwhile is in no audit by half.
#[test]
fn an_audit_beside_traffic_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = fastrand::Rng::with_seed(3);
            for n in 0..1500 {
                let mut changes = vec![Change::Accept(event(n, [&["a", "b"][..], &["b"], &[]][rng.usize(..3)]))];
                for _ in 0..3 {
                    let of = id(rng.u64(n.saturating_sub(40)..=n));
                    let (id, number) = (of.delivery(rng.u16(..3)), rng.u32(1..4));
                    let step = [Step::Succeed, Step::GiveUp, Step::Retry { due: at(7) }][rng.usize(..3)];
                    match rng.u8(..8) {
                        0 => changes.push(Change::Cancel { id, at: at(n) }),
                        1 => changes.push(again(of, ["a", "b"][rng.usize(..2)])),
                        _ => changes.push(attempt(id, number, step)),
                    }
                }
                journal.commit(&changes).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let mut audits = 0;
        while !done.load(Ordering::Acquire) {
            let audit = journal.audit(Span::default()).unwrap();
            assert_eq!(audit.differences, [], "audit {audits}");
            audits += 1;
        }
        assert!(audits > 0);
    });
    let audit = journal.audit(Span::default()).unwrap();
    assert_eq!((audit.found, audit.counters), (0, journal.counters()));
}

/// However little may be remembered at a time, all that is missing is named.
#[test]
fn what_is_missing_is_named_in_as_many_walks_as_it_takes() {
    let (_dir, journal) = made();
    for n in 10..60 {
        journal.commit(&[Change::Accept(event(n, &["a"]))]).unwrap();
        journal.commit(&[attempt(id(n).delivery(0), 1, Step::Succeed)]).unwrap();
    }
    journal.settle_index().unwrap();
    for kind in [b"b", b"e"] {
        remove_keys(&journal, kind);
    }
    let whole = journal.audit(Span::default()).unwrap();
    let missing = |audit: &Audit| {
        let mut missing: Vec<_> = named(audit).into_iter().filter(|(what, _)| *what == What::Missing).collect();
        missing.sort();
        missing
    };
    assert!(missing(&whole).len() >= 100);
    for notes_max in [7, 2] {
        let audit = super::audit_within(&journal.inner, Span::default(), notes_max).unwrap();
        assert_eq!(missing(&audit), missing(&whole));
    }
}
