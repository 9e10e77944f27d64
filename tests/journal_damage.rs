//! Damage to the embedded journal's files: the index is always built again, the log loses only what was hit.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/journal.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use backstop::core::delivery::Step;
use backstop::core::event::{Event, FAN_OUT_MAX, KEY_LEN_MAX, TYPE_LEN_MAX};
use backstop::core::filter::Filter;
use backstop::core::name::Name;
use backstop::journal::audit::Span;
use backstop::journal::embedded::EmbeddedJournal;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{Change, Journal, Receipt, Redelivery};
use support::{Maker, accept, all_events, assert_same, at, dedup, name, settings, settle};

const EVENTS: u64 = 300;
const ENDPOINTS: [&str; 3] = ["a", "b", "c"];

/// A journal of a few hundred events in mixed states, on disk and in the model.
struct Made {
    dir: tempfile::TempDir,
    model: MemoryJournal,
    events: Vec<Event>,
}

/// Several rounds over all events, each indexed: the index's file has several of sled's segments, and old ones.
fn make(seed: u64, close: bool) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let journal = support::open(dir.path());
    let (model, mut maker) = (MemoryJournal::default(), Maker::new(seed));
    let both = |changes: &[Change]| {
        assert_eq!(journal.commit(changes).unwrap(), model.commit(changes).unwrap());
    };
    let events: Vec<Event> = (0..EVENTS).map(|n| event(&mut maker, n)).collect();
    for events in events.chunks(50) {
        both(&events.iter().map(accept).collect::<Vec<_>>());
        journal.settle_index().unwrap();
    }
    for round in 1..8 {
        let endpoint = name(ENDPOINTS[maker.rng.usize(..ENDPOINTS.len())]);
        let mut changes = vec![Change::Stand { endpoint, standing: support::standing(&mut maker.rng) }];
        for event in &events {
            for slot in 0..3 {
                let due = at(maker.rng.u64(500..9000));
                let step = match maker.rng.u8(..12) {
                    0 | 1 => Step::Succeed,
                    2 => Step::GiveUp,
                    _ => Step::Retry { due },
                };
                let (id, now) = (event.id.delivery(slot), at(u64::from(round)));
                changes.push(match maker.rng.u8(..6) {
                    0 => Change::Settle(support::probe_failed(id, round, due, now)),
                    _ => settle(id, round, step, now),
                });
            }
            if maker.rng.u8(..20) == 0 {
                let again = Redelivery { event: event.id, endpoint: name("b"), at: at(9), force: true };
                changes.push(Change::Redeliver(again));
            }
        }
        both(&changes);
        if round < 7 {
            journal.settle_index().unwrap();
        }
    }
    if close {
        journal.close().unwrap();
    }
    drop(journal);
    Made { dir, model, events }
}

/// One whose index value is as long as they come.
fn event(maker: &mut Maker, n: u64) -> Event {
    let mut event = maker.event(at(n), if n % 9 == 8 { &[] } else { &ENDPOINTS });
    event.draft.dedup = dedup(0, 1 << 40);
    event.draft.dedup.as_mut().unwrap().fingerprint.0[..8].copy_from_slice(&n.to_le_bytes());
    event.draft.key = Some(format!("{:0>KEY_LEN_MAX$}", n % 20));
    event.draft.event_type = "t".repeat(TYPE_LEN_MAX);
    event
}

impl Made {
    fn db(&self) -> std::path::PathBuf {
        self.dir.path().join("index/db")
    }

    /// Nobody can tell the journal from the model, and what was accepted is a duplicate.
    fn assert_whole(&self, journal: &EmbeddedJournal) {
        let endpoints: Vec<Name> = ENDPOINTS.into_iter().map(name).collect();
        assert_same(&self.model, journal, &endpoints);
        let again: Vec<Change> = self.events.iter().map(accept).collect();
        let duplicates: Vec<Receipt> = self.events.iter().map(|event| Receipt::Duplicate(event.id)).collect();
        assert_eq!(journal.commit(&again).unwrap(), duplicates);
    }
}

fn plain_and_sealed(test: fn()) {
    test();
    support::sealed(test);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Damages the file that the index is in, again and again from the same state; how often that meant a rebuild.
fn damaged(close: bool, rounds: u64, damage: fn(&mut fastrand::Rng, &mut Vec<u8>)) -> usize {
    let made = make(1, close);
    let pristine = tempfile::tempdir().unwrap();
    copy(made.dir.path(), pristine.path());
    let mut rebuilt = 0;
    for seed in 0..rounds {
        std::fs::remove_dir_all(made.dir.path()).unwrap();
        copy(pristine.path(), made.dir.path());
        let mut bytes = std::fs::read(made.db()).unwrap();
        damage(&mut fastrand::Rng::with_seed(seed), &mut bytes);
        std::fs::write(made.db(), &bytes).unwrap();
        let opened = EmbeddedJournal::open(&settings(made.dir.path()), &|_| ());
        let journal = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let journal = if close {
            journal
        } else {
            drop(journal);
            EmbeddedJournal::distrust_index(&settings(made.dir.path())).unwrap();
            support::open(made.dir.path())
        };
        let same = catch_unwind(AssertUnwindSafe(|| made.assert_whole(&journal)));
        assert!(same.is_ok(), "seed {seed}, {:?}", journal.report());
        assert_eq!(journal.report().findings.damaged, []);
        rebuilt += usize::from(journal.report().rebuilt.is_some());
    }
    rebuilt
}

fn flip(rng: &mut fastrand::Rng, bytes: &mut [u8]) {
    let bit = rng.usize(..bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn cut(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    bytes.truncate(rng.usize(..bytes.len()));
}

fn scribble(rng: &mut fastrand::Rng, bytes: &mut [u8]) {
    let from = rng.usize(..bytes.len());
    let to = bytes.len().min(from + 4096);
    if rng.bool() { rng.fill(&mut bytes[from..to]) } else { bytes[from..to].fill(0) }
}

#[test]
fn a_flipped_bit_in_a_closed_index_is_always_seen() {
    assert_eq!(damaged(true, 40, |rng, bytes| flip(rng, bytes)), 40);
}

#[test]
fn a_closed_index_that_is_cut_is_always_seen() {
    assert_eq!(damaged(true, 20, cut), 20);
}

#[test]
fn a_closed_index_that_is_overwritten_in_places_is_always_seen() {
    assert_eq!(damaged(true, 20, |rng, bytes| scribble(rng, bytes)), 20);
}

/// After a kill there is no checksum, and sled's own may miss something; it opens, and a rebuild mends it.
#[test]
fn an_index_that_was_not_closed_opens_whatever_was_done_to_it() {
    damaged(false, 30, |rng, bytes| scribble(rng, bytes));
}

#[test]
fn an_index_that_is_gone_empty_or_garbage_is_built_again() {
    plain_and_sealed(|| {
        let made = make(2, true);
        let index = made.dir.path().join("index");
        let state = made.dir.path().join("index.state");
        let garbage: Vec<u8> = std::iter::repeat_n(*b"no index at all ", 9000).flatten().collect();
        let damages: [&dyn Fn() -> std::io::Result<()>; 7] = [
            &|| std::fs::remove_dir_all(&index),
            &|| std::fs::remove_dir_all(&index).and_then(|()| std::fs::create_dir(&index)),
            &|| std::fs::remove_file(made.db()),
            &|| std::fs::write(made.db(), b""),
            &|| std::fs::write(made.db(), &garbage),
            &|| std::fs::write(index.join("conf"), b"\xff\xffgarbage"),
            &|| std::fs::write(&state, b"boot=of another machine\nclean=false\n"),
        ];
        for (number, damage) in damages.iter().enumerate() {
            damage().unwrap();
            let journal = support::open(made.dir.path());
            assert!(number != 0 && number != 6 || journal.report().rebuilt.is_some(), "{:?}", journal.report());
            made.assert_whole(&journal);
            journal.close().unwrap();
        }
        EmbeddedJournal::distrust_index(&settings(made.dir.path())).unwrap();
        assert!(support::open(made.dir.path()).report().rebuilt.is_some());
        assert_eq!(support::open(made.dir.path()).report().rebuilt, None);
    });
}

/// As after an update of the program that lays the index out otherwise: the log has everything.
#[test]
fn an_index_of_another_format_is_built_again() {
    let made = make(8, true);
    for step in [-1, 1] {
        // Opened and not closed: the next start trusts the files whatever their checksum.
        drop(support::open(made.dir.path()));
        let elsewhere = tempfile::tempdir().unwrap();
        copy(made.dir.path(), elsewhere.path());
        let db = sled::open(elsewhere.path().join("index")).unwrap();
        let mut meta = db.get(b"m").unwrap().unwrap().to_vec();
        meta[0] = meta[0].wrapping_add_signed(step);
        db.insert(b"m", meta).unwrap();
        drop(db);
        let journal = support::open(elsewhere.path());
        let why = journal.report().rebuilt.clone().unwrap();
        assert!(why.contains("another version's format"), "{why}");
        made.assert_whole(&journal);
    }
}

#[test]
fn no_index_value_is_spilled_however_long_its_event() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, model) = (support::open(dir.path()), MemoryJournal::default());
    let both = |changes: &[Change]| {
        assert_eq!(journal.commit(changes).unwrap(), model.commit(changes).unwrap());
        journal.settle_index().unwrap();
    };
    let mut maker = Maker::new(3);
    let mut large = event(&mut maker, 0);
    large.draft.endpoints = (0..FAN_OUT_MAX).map(|n| name(&format!("{n:0>64}"))).collect();
    large.draft.body = vec![7; 3 << 20].into();
    large.received_at = at(1 << 40);
    both(&[accept(&large)]);
    // Times far before the event's own are the longest there are in a slot.
    for slot in 0..u16::try_from(FAN_OUT_MAX).unwrap() {
        both(&[settle(large.id.delivery(slot), 1, Step::Retry { due: at(0) }, at(u64::from(slot)))]);
    }
    for slot in FAN_OUT_MAX..300 {
        let endpoint = name(&format!("{slot:0>64}"));
        both(&[Change::Redeliver(Redelivery { event: large.id, endpoint, at: at(1), force: true })]);
    }
    journal.close().unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("index/blobs")).unwrap().count(), 0);
    drop(journal);
    let journal = support::open(dir.path());
    assert_eq!(journal.report().rebuilt, None);
    assert_same(&model, &journal, &[name(&format!("{:0>64}", 299)), name(&format!("{:0>64}", 0))]);
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir.join("log")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_flipped_bit_in_the_log_costs_the_event_it_hits_and_is_reported() {
    plain_and_sealed(|| {
        let made = make(4, true);
        let pristine = tempfile::tempdir().unwrap();
        copy(made.dir.path(), pristine.path());
        let views = all_events(&made.model, &Filter::default(), false, 1000);
        let mut hit = 0;
        for seed in 0..30 {
            std::fs::remove_dir_all(made.dir.path()).unwrap();
            copy(pristine.path(), made.dir.path());
            let mut rng = fastrand::Rng::with_seed(seed);
            let segments = segments(made.dir.path());
            let path = &segments[rng.usize(..segments.len())];
            let mut bytes = std::fs::read(path).unwrap();
            flip(&mut rng, &mut bytes);
            std::fs::write(path, &bytes).unwrap();
            EmbeddedJournal::distrust_index(&settings(made.dir.path())).unwrap();
            let journal = support::open(made.dir.path());
            let findings = &journal.report().findings;
            let unlike: Vec<_> =
                views.iter().filter(|view| journal.entry(view.head.id).unwrap().as_ref() != Some(*view)).collect();
            assert!(unlike.len() <= 1, "seed {seed}: one bit changes one event");
            assert!(
                unlike.is_empty() || findings.damaged.len() + findings.torn.len() == 1,
                "seed {seed}: {findings:?}"
            );
            assert_eq!(journal.audit(Span::default()).unwrap().counters, journal.counters());
            hit += unlike.len();
        }
        assert!(hit > 0);
    });
}

#[test]
fn a_body_that_is_damaged_is_missed_without_a_rebuild_too() {
    let made = make(5, true);
    let body = &made.events[0].draft.body;
    for path in segments(made.dir.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(body.len()).position(|window| window == body) {
            bytes[at] ^= 1;
            std::fs::write(path, &bytes).unwrap();
        }
    }
    let journal = support::open(made.dir.path());
    assert_eq!(journal.report().rebuilt, None);
    assert_eq!(journal.event(made.events[0].id).unwrap(), None);
    assert_eq!(*journal.event(made.events[1].id).unwrap().unwrap(), made.events[1]);
    assert!(journal.entry(made.events[0].id).unwrap().is_some());
}

#[test]
fn a_log_that_ends_before_what_the_index_knows_means_a_rebuild() {
    plain_and_sealed(|| {
        for blank in [false, true] {
            let made = make(6, true);
            let path = segments(made.dir.path()).pop().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let mut lost = bytes[..32].to_vec();
            if blank {
                lost.resize(bytes.len(), 0);
            }
            std::fs::write(&path, lost).unwrap();
            let journal = support::open(made.dir.path());
            let why = journal.report().rebuilt.clone().unwrap();
            assert!(why.contains("knows more than the log"), "{why}");
            assert_eq!(journal.report().findings.damaged.len(), usize::from(!blank));
            assert_eq!(journal.audit(Span::default()).unwrap().counters, journal.counters());
            // Positions that are given again do not confuse what is left.
            let mut maker = Maker::new(7);
            let new = maker.event(at(1 << 30), &["a"]);
            assert_eq!(journal.commit(&[accept(&new)]).unwrap(), [Receipt::Done]);
            drop(journal);
            let journal = support::open(made.dir.path());
            assert_eq!(*journal.event(new.id).unwrap().unwrap(), new);
            assert_eq!(journal.report().rebuilt, None);
        }
    });
}
