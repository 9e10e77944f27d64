//! Whenever a sweep ends, nothing that is to be kept is lost: whatever the log has then gives all of it.

use std::path::Path;

use super::*;

/// What the log makes of itself, without anything else.
fn rebuilt(from: &Path) -> (tempfile::TempDir, EmbeddedJournal) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::create_dir(&log).unwrap();
    for entry in std::fs::read_dir(from.join("log")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), log.join(entry.file_name())).unwrap();
    }
    let journal = open(folder.path());
    (folder, journal)
}

#[test]
fn nothing_is_lost_wherever_a_sweep_ends() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let count = 60;
    for id in 1..=count {
        accept(&journal, event(id, id % 3 == 0));
        if id % 20 == 0 {
            let endpoint = Name::new("crm").unwrap();
            let standing = crate::core::standing::Standing { held_until: LATE, ..Default::default() };
            journal.commit(&[Change::Stand { endpoint, standing }]).unwrap();
        }
    }
    let (mut ends, mut cuts) = (0, 0);
    loop {
        let step = journal.sweep(&retention(), LATE).unwrap();
        let is_news = !matches!(step, Sweep::Looked);
        match step {
            Sweep::Change(change) => assert_eq!(journal.commit(&[change]).unwrap(), [Receipt::Done]),
            Sweep::Freed(_) => cuts += 1,
            Sweep::Idle => break,
            Sweep::Looked | Sweep::Damaged(_) => {}
        }
        if !is_news {
            continue;
        }
        ends += 1;
        let (_folder, again) = rebuilt(folder.path());
        assert_eq!(again.counters(), journal.counters(), "end {ends}");
        assert_eq!(again.report().findings.damaged, []);
        assert_eq!(again.standings(), journal.standings());
        for id in (3..=count).step_by(3) {
            assert!(again.event(EventId::from_u128(id)).unwrap().is_some(), "{id} in end {ends}");
        }
        assert_eq!(again.audit(Default::default()).unwrap().differences, [], "end {ends}");
        // It goes on from there to the same end.
        sweep_all(&again);
        assert_eq!(again.counters(), journal_swept(&again));
    }
    assert!(ends > 10 && cuts > 3, "{ends} ends, {cuts} cuts");
}

/// What is left once everything that is due has gone: as many as were accepted, and those that wait are all here.
fn journal_swept(journal: &EmbeddedJournal) -> crate::journal::Counters {
    let counters = journal.counters();
    assert_eq!(
        (counters.accepted, counters.sources.values().map(|held| held.events).sum::<u64>()),
        (60, 20 + left(&counters))
    );
    counters
}

/// Settled events that stand in the part that is still written to.
fn left(counters: &crate::journal::Counters) -> u64 {
    40 - counters.dropped
}
