//! Damage in what is to go: said, counted, and what the index knows of it is kept.

use super::*;
use crate::core::standing::Standing;
use crate::journal::audit::Span;

/// Changes a byte of the record at each of these places.
fn damage(dir: &std::path::Path, places: &[Position]) {
    let path = dir.join("log/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    for place in places {
        bytes[usize::try_from(place.0).unwrap() + 40] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
}

/// A millisecond of payload; the rest stays.
fn payload_only() -> Retention {
    let default = Keep { payload: Some(Duration::from_millis(1)), metadata: None, bytes_max: None };
    Retention { default, ..retention() }
}

fn sweep_damaged(journal: &EmbeddedJournal) -> Vec<Vec<(Position, u64)>> {
    let mut damaged = Vec::new();
    loop {
        match journal.sweep(&payload_only(), LATE).unwrap() {
            Sweep::Change(change) => assert_eq!(journal.commit(&[change]).unwrap(), [Receipt::Done]),
            Sweep::Damaged(stretches) => damaged.push(stretches),
            Sweep::Looked | Sweep::Freed(_) => {}
            Sweep::Idle => return damaged,
        }
    }
}

#[test]
fn events_whose_records_are_damaged_are_kept_without_their_payload_and_it_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let (endpoint, standing) = (Name::new("crm").unwrap(), Standing { held_until: LATE, ..Standing::default() });
    for id in 1..=3 {
        accept(&journal, event(id, id == 2));
    }
    let stood = journal.inner.log.end();
    journal.commit(&[Change::Stand { endpoint: endpoint.clone(), standing: standing.clone() }]).unwrap();
    for id in 4..=40 {
        accept(&journal, event(id, false));
    }
    journal.settle_index().unwrap();
    let places: Vec<Position> =
        [2, 3].map(|id| journal.inner.load(EventId::from_u128(id)).unwrap().unwrap().place).into();
    damage(folder.path(), &[places[0], places[1], stood]);
    let damaged = sweep_damaged(&journal);
    let [stretches] = damaged.as_slice() else { panic!("{damaged:?}") };
    assert_eq!(stretches.first().map(|(at, _)| *at), Some(places[0]));
    let bytes: u64 = stretches.iter().map(|(_, len)| len).sum();
    assert!(bytes > 2000);
    assert!(journal.inner.log.begin() > Position::NONE);
    let check = |journal: &EmbeddedJournal| {
        for id in 1..=3 {
            let view = journal.entry(EventId::from_u128(id)).unwrap().unwrap();
            assert_eq!((view.has_payload, view.deliveries.len()), (false, usize::from(id == 2)));
            assert!(
                view.deliveries.iter().all(|delivery| !delivery.state.is_terminal()),
                "it is still to be dealt with"
            );
        }
        let counters = journal.counters();
        assert_eq!((counters.accepted, counters.dropped), (40, 0));
        assert_eq!((counters.damaged, counters.damaged_bytes), (stretches.len() as u64, bytes));
        assert_eq!(journal.standing(&endpoint), standing);
        assert_eq!(journal.audit(Span::default()).unwrap().differences, []);
    };
    check(&journal);
    drop(journal);
    check(&open(folder.path()));
    std::fs::remove_dir_all(folder.path().join("index")).unwrap();
    check(&open(folder.path()));
}

#[test]
fn a_write_that_was_cut_off_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let records: Vec<Record> = (1..=2).map(|id| Record::Accepted(Arc::new(event(id, false)))).collect();
    let places = start::append(&journal.inner.log, &journal.inner.space, &records).unwrap();
    drop(journal);
    // The last group, and of it a record in the middle.
    damage(folder.path(), &places[..1]);
    let journal = open(folder.path());
    assert_eq!(journal.report().findings.torn.len(), 1);
    for id in 3..=40 {
        accept(&journal, event(id, false));
    }
    assert_eq!(sweep_damaged(&journal), Vec::<Vec<_>>::new());
    assert!(journal.inner.log.begin() > Position::NONE);
    assert_eq!((journal.counters().damaged, journal.counters().accepted), (0, 39));
}

#[test]
fn a_segment_that_is_missing_is_counted_as_damage() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    for id in 1..=60 {
        accept(&journal, event(id, false));
    }
    journal.settle_index().unwrap();
    let (first, _) = journal.inner.log.segment_end(Position::NONE).unwrap();
    drop(journal);
    std::fs::remove_file(folder.path().join(format!("log/{:020}.log", first.0))).unwrap();
    let journal = open(folder.path());
    assert_eq!(journal.report().rebuilt, None);
    let damaged = sweep_damaged(&journal);
    assert_eq!(damaged, [vec![(first, SEGMENT_BYTES)]]);
    assert_eq!((journal.counters().damaged_bytes, journal.counters().accepted), (SEGMENT_BYTES, 60));
    assert_eq!(journal.audit(Span::default()).unwrap().differences, []);
}
