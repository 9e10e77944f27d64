//! What a sweep must not do: lose what it does not know yet, cut too early, write too much at once.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::super::{EmbeddedJournal, Settings, start};
use super::*;
use crate::core::attempt::{Answer, Attempt, Outcome, Reply};
use crate::core::delivery::{Reason, Step};
use crate::core::event::{Draft, Event};
use crate::core::retention::Keep;
use crate::journal::{Journal as _, Receipt, Settlement, ledger};

const SEGMENT_BYTES: u64 = 16 << 10;
const LATE: Timestamp = Timestamp::from_millis(1 << 40);

mod crash;
mod damage;
mod full;

fn settings(dir: &std::path::Path) -> Settings {
    Settings { segment_bytes: SEGMENT_BYTES, ..Settings::small(dir, Timestamp::from_millis(1)) }
}

fn open(dir: &std::path::Path) -> EmbeddedJournal {
    EmbeddedJournal::open(&settings(dir), &|_| ()).unwrap()
}

/// Nothing is handed to the index any more but by who says so.
fn stop_indexer(journal: &EmbeddedJournal) {
    drop(journal.indexer.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// An event without deliveries, which may go at once, or one that waits for its delivery.
fn event(id: u128, is_live: bool) -> Event {
    let endpoints = if is_live { vec![Name::new("crm").unwrap()] } else { Vec::new() };
    let draft = Draft {
        source: Name::new("flyflow").unwrap(),
        event_type: "call_ended".to_owned(),
        key: None,
        occurred_at: None,
        headers: Vec::new(),
        body: vec![b'x'; 1000].into(),
        dedup: None,
        endpoints,
    };
    Event { id: EventId::from_u128(id), received_at: Timestamp::from_millis(1), draft }
}

fn accept(journal: &EmbeddedJournal, event: Event) {
    assert_eq!(journal.commit(&[Change::Accept(Arc::new(event))]).unwrap().len(), 1);
}

/// A millisecond of everything, and nothing that is parked.
fn retention() -> Retention {
    let span = Some(Duration::from_millis(1));
    let default = Keep { payload: span, metadata: span, bytes_max: None };
    Retention { default, endpoints: [Name::new("crm").unwrap()].into(), ..Retention::default() }
}

/// Sweeps on to the end; the bytes given back.
fn sweep_all(journal: &EmbeddedJournal) -> u64 {
    let mut freed = 0;
    loop {
        match journal.sweep(&retention(), LATE).unwrap() {
            Sweep::Change(change) => assert_eq!(journal.commit(&[change]).unwrap(), [Receipt::Done]),
            Sweep::Looked | Sweep::Damaged(_) => {}
            Sweep::Freed(bytes) => freed += bytes,
            Sweep::Idle => return freed,
        }
    }
}

/// What a commit has made durable and not applied yet is no event that has gone.
#[test]
fn an_event_that_is_in_the_log_and_not_applied_yet_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let inner = &*journal.inner;
    for id in 1..=4 {
        accept(&journal, event(id, false));
    }
    // A commit that is held up half way: nobody else commits meanwhile.
    let record = Record::Accepted(Arc::new(event(5, true)));
    let places = start::append(&inner.log, &inner.space, std::slice::from_ref(&record)).unwrap();
    let mut proposed = Vec::new();
    for _ in 0..16 {
        if let Sweep::Change(change) = journal.sweep(&retention(), LATE).unwrap() {
            let Change::Retain(retain) = &change else { panic!("a sweep retains") };
            assert_eq!(retain.cut, None, "an event that nobody knows yet stands there");
            proposed.push(change);
        }
    }
    assert!(!proposed.is_empty());
    ledger::apply(&record, places[0], &mut *inner.overlay()).unwrap();
    inner.overlay().set_applied(inner.log.end());
    for change in proposed {
        journal.commit(&[change]).unwrap();
    }
    assert!(sweep_all(&journal) > 0);
    let event = journal.event(EventId::from_u128(5)).unwrap();
    assert_eq!(event.map(|event| event.draft.body.len()), Some(1000));
}

/// Nothing is removed that the index would need if the process was killed right then.
#[test]
fn the_log_is_not_cut_before_the_index_has_learnt_what_stood_there() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    stop_indexer(&journal);
    for id in 1..=40 {
        accept(&journal, event(id, id == 40));
    }
    journal.settle_index().unwrap();
    assert!(sweep_all(&journal) > 0);
    let (applied, begin) = (journal.inner.index.meta().applied, journal.inner.log.begin());
    assert!(begin > Position::NONE && applied >= begin, "{applied:?} of {begin:?}");
    drop(journal);
    let journal = open(folder.path());
    assert_eq!(journal.report().rebuilt, None);
    assert_eq!(journal.counters().accepted, 40);
}

/// An index that has not learnt what was cut, however that came, is built again.
#[test]
fn an_index_that_ends_before_the_log_begins_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    stop_indexer(&journal);
    accept(&journal, event(1, true));
    journal.settle_index().unwrap();
    for id in 2..=40 {
        accept(&journal, event(id, true));
    }
    let (end, is_last) = journal.inner.log.segment_end(Position::NONE).unwrap();
    assert!(!is_last && journal.inner.log.cut(end).unwrap() > 0);
    drop(journal);
    let journal = open(folder.path());
    assert!(journal.report().rebuilt.is_some());
    assert_eq!(journal.entry(EventId::from_u128(1)).unwrap(), None);
    drop(journal);
    assert_eq!(open(folder.path()).report().rebuilt, None);
}

fn attempt(number: u32) -> Attempt {
    let body = vec![b'a'; 16 << 10].into();
    let reply = Reply::Answer(Answer { status: 503, headers: Vec::new(), body, body_cut: true, retry_after: None });
    let (started_at, outcome) = (Timestamp::from_millis(2), Outcome::Retryable);
    Attempt { number, started_at, took_ms: 1, reply, outcome, probe: false, out_of_order: false }
}

/// Events that one record carries, each with attempts since: what they come to is not one record again.
#[test]
fn what_a_step_carries_is_bounded_whatever_a_record_holds() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let live = 1..=20;
    for id in live.clone() {
        accept(&journal, event(id, true));
        accept(&journal, event(id + 100, false));
        accept(&journal, event(id + 200, false));
    }
    assert!(sweep_all(&journal) > 0);
    let due = Timestamp::from_millis(3);
    for id in live.clone() {
        for number in 1..=3 {
            let (id, step, reason) = (EventId::from_u128(id).delivery(0), Step::Retry { due }, Reason::Backoff);
            let settlement = Settlement { id, attempt: attempt(number), step, reason };
            assert_eq!(journal.commit(&[Change::Settle(settlement)]).unwrap(), [Receipt::Done]);
        }
    }
    let (begin, end) = (journal.inner.log.begin(), journal.inner.log.end());
    let mut go = Go::new(begin, Position(end.0 + 1));
    let mut carried = BTreeSet::new();
    while matches!(go.stage, Stage::Records(at) if at < end) {
        let step = journal.inner.go_on(&mut go, &retention(), &BTreeSet::new(), LATE).unwrap();
        let Sweep::Change(Change::Retain(retain)) = step else { continue };
        let bytes: usize = retain.items.iter().flat_map(|item| &item.payload).map(Payload::bytes).sum();
        assert!(bytes < STEP_BYTES_MAX + (64 << 10), "{bytes} bytes");
        carried.extend(retain.items.iter().map(|item| item.seen.head.id));
        assert_eq!(journal.commit(&[Change::Retain(retain)]).unwrap(), [Receipt::Done]);
    }
    assert!(carried.len() >= 20, "{}", carried.len());
    for id in live {
        let attempts = journal.attempts(EventId::from_u128(id).delivery(0)).unwrap();
        assert_eq!(attempts, [attempt(1), attempt(2), attempt(3)]);
    }
}

/// However often an event was tried, it fits into a record; what is kept is the newest of each delivery.
#[test]
fn of_many_attempts_an_event_carries_the_newest() {
    let attempts = |n| (1..=n).map(attempt).collect::<Vec<_>>();
    let attempts = vec![attempts(40), attempts(2), Vec::new()];
    let mut payload = Payload { headers: Vec::new(), body: Bytes::new(), attempts };
    payload.keep_newest_attempts(3 * (100 << 10));
    let numbers = |slot: usize| payload.attempts[slot].iter().map(|attempt| attempt.number).collect::<Vec<_>>();
    assert_eq!(numbers(0), [35, 36, 37, 38, 39, 40]);
    assert_eq!((numbers(1), numbers(2)), (vec![1, 2], vec![]));
    assert!(payload.bytes() <= 3 * (100 << 10));
}

/// What waits cannot go. A source that has more of it than it may have at all is not written again and again for it.
#[test]
fn a_source_whose_waiting_events_are_too_much_alone_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    for id in 1..=60 {
        accept(&journal, event(id, id % 30 != 0));
    }
    let default = Keep { payload: None, metadata: None, bytes_max: Some(2 * SEGMENT_BYTES) };
    let retention = Retention { default, ..retention() };
    let end = journal.inner.log.end();
    for _ in 0..100 {
        match journal.sweep(&retention, LATE).unwrap() {
            Sweep::Looked | Sweep::Idle => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((journal.inner.log.begin(), journal.inner.log.end()), (Position::NONE, end));
    // Enough beside them is let go of, once.
    for id in 61..=80 {
        accept(&journal, event(id, id % 2 == 0));
    }
    let (mut steps, mut freed) = (0, 0);
    loop {
        steps += 1;
        assert!(steps < 2000, "it ends");
        match journal.sweep(&retention, LATE).unwrap() {
            Sweep::Change(change) => assert_eq!(journal.commit(&[change]).unwrap(), [Receipt::Done]),
            Sweep::Freed(bytes) => freed += bytes,
            Sweep::Looked | Sweep::Damaged(_) => {}
            Sweep::Idle => break,
        }
    }
    assert!(freed > 0);
    let held = journal.counters().sources[&Name::new("flyflow").unwrap()];
    assert!(held.bytes - held.live_bytes <= 2 * SEGMENT_BYTES / 8, "{held:?}");
}

/// A log that does not begin at 0 is read from where it begins to its end, and no further than that.
#[test]
fn the_progress_of_a_rebuild_is_of_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    for batch in 0..30 {
        let changes: Vec<Change> = (1..=200).map(|n| Change::Accept(Arc::new(event(batch * 200 + n, false)))).collect();
        journal.commit(&changes).unwrap();
        if batch == 19 {
            assert!(sweep_all(&journal) > 0);
        }
    }
    drop(journal);
    std::fs::remove_dir_all(folder.path().join("index")).unwrap();
    let seen = std::cell::RefCell::new(Vec::new());
    let journal =
        EmbeddedJournal::open(&settings(folder.path()), &|progress| seen.borrow_mut().push(progress)).unwrap();
    assert!(journal.inner.log.begin() > Position::NONE);
    let seen = seen.into_inner();
    assert!(seen.windows(2).all(|pair| pair[0].done_bytes < pair[1].done_bytes));
    assert!(seen[0].done_bytes * 2 > seen[0].total_bytes / 2 && seen[0].done_bytes < seen[0].total_bytes, "{seen:?}");
}
