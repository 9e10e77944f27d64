//! What is sealed on disk: that nothing of a payload stands there in the clear, and that keys can be changed.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/journal.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use backstop::core::attempt::{Answer, Attempt, Outcome, Reply};
use backstop::core::delivery::{Reason, Step};
use backstop::core::event::{Event, Header};
use backstop::core::refused::{Refused, Why};
use backstop::core::sealing::{KeyId, SealingKey};
use backstop::journal::audit::Span;
use backstop::journal::embedded::{EmbeddedJournal, Settings};
use backstop::journal::refused::{Kept, Limits, Refusals, Wanted};
use backstop::journal::{Change, Journal, JournalError, Settlement};
use support::{Maker, accept, at, key, name, sweep};

const BODY: &str = "planted-in-the-body-4f1c";
const HEADER: &str = "planted-in-a-header-77ab";
const ANSWER: &str = "planted-in-an-answer-09de";
const ANSWER_HEADER: &str = "planted-in-an-answers-header-5e2b";
const REFUSED: &str = "planted-in-a-refused-body-c3d1";
const REFUSED_HEADER: &str = "planted-in-a-refused-header-8a8a";

fn settings(dir: &Path, keys: &[u8]) -> Settings {
    Settings { keys: keyring(keys), ..support::settings(dir) }
}

fn keyring(keys: &[u8]) -> Vec<SealingKey> {
    keys.iter().map(|first| key(*first)).collect()
}

fn open(dir: &Path, keys: &[u8]) -> EmbeddedJournal {
    EmbeddedJournal::open(&settings(dir, keys), &|_| ()).unwrap()
}

/// Every file below `dir`, with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path().display().to_string(), std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// In how many files below `dir` the text stands.
fn grep(dir: &Path, text: &str) -> usize {
    let holds = |bytes: &Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    files(dir).values().filter(|bytes| holds(bytes)).count()
}

fn event(maker: &mut Maker, n: u64) -> Event {
    let mut event = maker.event(at(n), &["crm"]);
    event.draft.body = format!("{{\"n\":{n},\"text\":\"{BODY}\",\"pad\":\"{}\"}}", "x".repeat(500)).into();
    event.draft.headers.push(Header { name: "x-secret".to_owned(), value: HEADER.into() });
    event
}

/// An attempt at an event, answered with what is planted.
fn attempt(event: &Event, step: Step) -> Change {
    let headers = vec![Header { name: "x-answer".to_owned(), value: ANSWER_HEADER.into() }];
    let answer = Answer { status: 500, headers, body: ANSWER.into(), body_cut: false, retry_after: None };
    let (number, started_at, reply) = (1, event.received_at, Reply::Answer(answer));
    let (outcome, reason) = match step {
        Step::GiveUp => (Outcome::Permanent, Reason::Gone),
        _ => (Outcome::Retryable, Reason::Backoff),
    };
    let attempt = Attempt { number, started_at, took_ms: 3, reply, outcome, probe: false, out_of_order: false };
    Change::Settle(Settlement { id: event.id.delivery(0), attempt, step, reason })
}

/// A hundred events, half of them given up and half to be tried again.
fn fill(journal: &dyn Journal, maker: &mut Maker, from: u64) -> Vec<Event> {
    let events: Vec<Event> = (from..from + 100).map(|n| event(maker, n)).collect();
    for (n, event) in events.iter().enumerate() {
        let step = if n % 2 == 0 { Step::GiveUp } else { Step::Retry { due: at(1 << 30) } };
        journal.commit(&[accept(event)]).unwrap();
        journal.commit(&[attempt(event, step)]).unwrap();
    }
    events
}

fn assert_readable(journal: &dyn Journal, events: &[Event]) {
    for event in events {
        assert_eq!(*journal.event(event.id).unwrap().expect("its payload is kept"), *event);
        let attempts = journal.attempts(event.id.delivery(0)).unwrap();
        let Reply::Answer(answer) = &attempts[0].reply else { panic!("{attempts:?}") };
        assert_eq!(answer.body, ANSWER);
    }
    let audit = journal.audit(Span::default()).unwrap();
    assert_eq!((audit.differences, audit.counters), (vec![], journal.counters()));
}

fn in_use(journal: &EmbeddedJournal) -> Vec<Option<KeyId>> {
    journal.seals().into_keys().collect()
}

fn id(first: u8) -> Option<KeyId> {
    Some(key(first).id())
}

#[test]
fn nothing_of_bodies_headers_and_answers_is_found_in_the_directory() {
    for sealed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let keys: &[u8] = if sealed { &[1] } else { &[] };
        let journal = open(dir.path(), keys);
        let events = fill(&journal, &mut Maker::new(1), 0);
        journal.settle_index().unwrap();
        // The index is certain to be in its file only now.
        journal.close().unwrap();
        drop(journal);
        let found = |text| grep(dir.path(), text) > 0;
        for text in [BODY, HEADER, ANSWER, ANSWER_HEADER] {
            assert_eq!(found(text), !sealed, "{text}");
        }
        assert!(found("call_ended"), "what lists are made of stands in the index");
        EmbeddedJournal::distrust_index(&settings(dir.path(), keys)).unwrap();
        let journal = open(dir.path(), keys);
        assert!(journal.report().rebuilt.is_some());
        assert_readable(&journal, &events);
        for text in [BODY, HEADER, ANSWER, ANSWER_HEADER] {
            assert_eq!(found(text), !sealed, "{text} after a rebuild");
        }
    }
}

#[test]
fn a_key_is_changed_by_putting_a_new_one_first_and_goes_once_retention_has_rewritten_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut maker = Maker::new(2);
    // From plain to one key to the next: everything stays readable.
    let journal = open(dir.path(), &[]);
    let mut events = fill(&journal, &mut maker, 0);
    assert_eq!(in_use(&journal), [None]);
    drop(journal);
    for (keys, expected) in [(&[1][..], vec![None, id(1)]), (&[2, 1], vec![None, id(1), id(2)])] {
        let journal = open(dir.path(), keys);
        events.extend(fill(&journal, &mut maker, events.len() as u64));
        let mut expected = expected;
        expected.sort();
        assert_eq!(in_use(&journal), expected);
        assert_readable(&journal, &events);
    }
    let journal = open(dir.path(), &[2, 1]);
    // What was given up goes; what is still to be delivered is written again, sealed as things are now.
    let retention = support::retention(1000, 1 << 40, &["crm"]);
    assert!(sweep(&journal, &retention, at(1 << 20)) > 0);
    assert_eq!(in_use(&journal), [id(2)]);
    assert_eq!(grep(dir.path(), BODY), 0, "what had been written in the clear is gone, too");
    journal.close().unwrap();
    drop(journal);
    let journal = open(dir.path(), &[2]);
    let live: Vec<Event> = events.into_iter().skip(1).step_by(2).collect();
    assert_readable(&journal, &live);
}

#[test]
fn without_a_key_that_is_needed_nothing_is_opened_and_nothing_touched() {
    let dir = tempfile::tempdir().unwrap();
    let mut maker = Maker::new(3);
    let journal = open(dir.path(), &[1]);
    let mut events = fill(&journal, &mut maker, 0);
    journal.close().unwrap();
    drop(journal);
    let journal = open(dir.path(), &[2, 1]);
    events.extend(fill(&journal, &mut maker, 100));
    drop(journal);
    // With and without an index that could be trusted.
    for trusted in [true, false] {
        if !trusted {
            EmbeddedJournal::distrust_index(&settings(dir.path(), &[])).unwrap();
        }
        let before = files(dir.path());
        for (keys, missing) in [(&[][..], [1, 2]), (&[2], [1, 1]), (&[3, 1], [2, 2])] {
            let Err(JournalError::Open(why)) = EmbeddedJournal::open(&settings(dir.path(), keys), &|_| ()) else {
                panic!("a journal without its key must not open");
            };
            assert!(missing.iter().any(|first| why.contains(&key(*first).id().to_string())), "{why}");
            let mut after = files(dir.path());
            // Who took the lock last is written there.
            after.retain(|path, _| !path.ends_with("LOCK"));
            assert!(after.iter().all(|(path, bytes)| before.get(path) == Some(bytes)), "something was touched");
        }
        let verified = EmbeddedJournal::verify(&settings(dir.path(), &[2])).unwrap();
        assert_eq!((verified.missing_keys, verified.accepted), (vec![key(1).id()], None));
        assert_eq!((&verified.findings.damaged, &verified.findings.torn), (&vec![], &vec![]));
        let counted: Vec<u64> = [1, 2].iter().map(|first| verified.findings.sealed[&key(*first).id()]).collect();
        // An opening, and two records an event.
        assert_eq!((counted, verified.findings.records), (vec![201, 201], 402));
    }
    let journal = open(dir.path(), &[2, 1]);
    assert_readable(&journal, &events);
}

#[test]
fn a_damaged_segment_header_hides_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), &[1]);
    let events = fill(&journal, &mut Maker::new(4), 0);
    journal.close().unwrap();
    drop(journal);
    let (path, mut bytes) = files(&dir.path().join("log")).into_iter().nth(1).unwrap();
    bytes[25] ^= 4;
    std::fs::write(path, bytes).unwrap();
    let refused = EmbeddedJournal::open(&settings(dir.path(), &[2]), &|_| ()).err().unwrap();
    assert!(refused.to_string().contains(&key(1).id().to_string()), "{refused}");
    let journal = open(dir.path(), &[1]);
    for event in &events {
        assert_eq!(*journal.event(event.id).unwrap().unwrap(), *event);
    }
}

fn refused(n: u64) -> Refused {
    Refused {
        at: at(n),
        source: name("flyflow"),
        why: Why::TooLarge,
        detail: format!("number {n}"),
        first: None,
        peer: None,
        headers: vec![Header { name: "x-n".to_owned(), value: REFUSED_HEADER.into() }],
        body: format!("{n} {REFUSED}").into(),
        body_bytes: None,
    }
}

fn all(refusals: &Refusals) -> Vec<Kept> {
    let (source, why, since, until, after) = (None, None, None, None, None);
    refusals.list(&Wanted { source, why, since, until, after, newest_first: false, limit: 100 }).0
}

#[test]
fn refused_requests_are_sealed_too_and_passed_over_without_their_key() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { count_max: 100, bytes_max: 8 << 20 };
    let open = |keys: &[u8]| Refusals::open(dir.path(), limits, keyring(keys), 1).unwrap();
    let details = |refusals: &Refusals| all(refusals).into_iter().map(|kept| kept.refused.detail).collect::<Vec<_>>();
    for (keys, n) in [(&[1][..], 1), (&[2, 1], 2), (&[2, 1], 3)] {
        let refusals = open(keys);
        refusals.note(refused(n));
        refusals.settle();
        assert_eq!(refusals.lost(), 0);
        for kept in all(&refusals) {
            let whole = refusals.get(kept.id).unwrap().unwrap();
            assert!(whole.refused.body.ends_with(REFUSED.as_bytes()));
        }
    }
    assert_eq!((grep(dir.path(), REFUSED), grep(dir.path(), REFUSED_HEADER)), (0, 0));
    assert_eq!(details(&open(&[1, 2])), ["number 1", "number 2", "number 3"]);
    let refusals = open(&[2]);
    assert_eq!(details(&refusals), ["number 2", "number 3"]);
    assert_eq!(refusals.seals().into_keys().collect::<Vec<_>>().len(), 2);
    refusals.note(refused(4));
    refusals.settle();
    drop(refusals);
    assert_eq!(details(&open(&[])), [""; 0]);
    assert_eq!(details(&open(&[3, 2, 1])), ["number 1", "number 2", "number 3", "number 4"]);
    // Each key has a log of its own: none is larger than it may be.
    let logs = files(dir.path());
    assert_eq!(logs.values().map(Vec::len).collect::<Vec<_>>(), [1 << 20; 2]);
}
