//! One suite, every journal: what the contract says holds for the model and for the disk alike.

#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod flow;
mod lists;
mod replays;
mod retention;
#[path = "../support/journal.rs"]
mod support;

use backstop::core::delivery::{Reason, State, Status, Step};
use backstop::core::event::Event;
use backstop::core::id::{DeliveryId, EventId};
use backstop::core::name::Name;
use backstop::journal::audit::Span;
use backstop::journal::embedded::EmbeddedJournal;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{Change, Counters, Journal, JournalError, Receipt, Redelivery, Tally};
use support::{Maker, accept, at, dedup, name, settle};

/// A journal under test, and how it comes back after its process has gone.
trait Bench {
    fn journal(&self) -> &dyn Journal;
    /// What a background thread may do at any time has been done.
    fn settle_index(&self);
    fn reopen(&mut self);
    /// As [`Bench::reopen`], with nothing left but the log.
    fn rebuild(&mut self);
}

struct Memory(MemoryJournal);

struct Embedded {
    journal: Option<EmbeddedJournal>,
    dir: tempfile::TempDir,
}

impl Bench for Memory {
    fn journal(&self) -> &dyn Journal {
        &self.0
    }
    fn settle_index(&self) {}
    fn reopen(&mut self) {}
    fn rebuild(&mut self) {}
}

impl Bench for Embedded {
    fn journal(&self) -> &dyn Journal {
        self.journal.as_ref().unwrap()
    }
    fn settle_index(&self) {
        self.journal.as_ref().unwrap().settle_index().unwrap();
    }
    fn reopen(&mut self) {
        self.journal = None;
        self.journal = Some(support::open(self.dir.path()));
    }
    fn rebuild(&mut self) {
        self.journal = None;
        EmbeddedJournal::distrust_index(&support::settings(self.dir.path())).unwrap();
        self.reopen();
        assert!(self.journal.as_ref().unwrap().report().rebuilt.is_some());
    }
}

/// Runs `test` on a fresh journal of each kind.
fn on_each(test: fn(&mut dyn Bench)) {
    test(&mut Memory(MemoryJournal::default()));
    let on_disk = || {
        let dir = tempfile::tempdir().unwrap();
        test(&mut Embedded { journal: Some(support::open(dir.path())), dir });
    };
    on_disk();
    support::sealed(on_disk);
}

fn commit(bench: &dyn Bench, change: Change) -> Receipt {
    let receipts = bench.journal().commit(&[change]).unwrap();
    let [receipt] = receipts.as_slice() else { panic!("{receipts:?}") };
    receipt.clone()
}

fn put(bench: &dyn Bench, event: &Event) -> EventId {
    assert_eq!(commit(bench, accept(event)), Receipt::Done);
    event.id
}

fn redeliver(event: EventId, endpoint: &str, force: bool) -> Change {
    Change::Redeliver(Redelivery { event, endpoint: name(endpoint), at: at(900), force })
}

fn state(bench: &dyn Bench, id: DeliveryId) -> State {
    let view = bench.journal().entry(id.event).unwrap().unwrap();
    view.deliveries[usize::from(id.slot)].state
}

/// The counters reconcile, and an audit is clean and gives the same.
fn audited(bench: &dyn Bench) -> Counters {
    let counters = bench.journal().counters();
    assert!(counters.endpoints.values().all(Tally::reconciles), "{counters:?}");
    let audit = bench.journal().audit(Span::default()).unwrap();
    assert_eq!((&audit.counters, audit.differences), (&counters, vec![]));
    counters
}

#[test]
fn an_accepted_event_is_there_with_its_deliveries() {
    on_each(|bench| {
        let mut maker = Maker::new(1);
        let event = maker.event(at(5), &["crm", "billing"]);
        assert_eq!(bench.journal().entry(event.id).unwrap(), None);
        put(bench, &event);
        for _ in 0..3 {
            assert_eq!(*bench.journal().event(event.id).unwrap().unwrap(), event);
            let view = bench.journal().entry(event.id).unwrap().unwrap();
            assert_eq!(view.head, event.head());
            let endpoints: Vec<&str> = view.deliveries.iter().map(|delivery| delivery.endpoint.as_str()).collect();
            assert_eq!(endpoints, ["crm", "billing"]);
            for (slot, delivery) in (0u16..).zip(&view.deliveries) {
                assert_eq!(delivery.id, event.id.delivery(slot));
                assert_eq!((delivery.state, delivery.reason), (State::Scheduled { due: at(5) }, Reason::Received));
                assert_eq!((delivery.attempts, delivery.superseded, delivery.replay), (0, false, None));
                assert_eq!(bench.journal().attempts(delivery.id).unwrap(), []);
            }
            assert_eq!(bench.journal().last_id(), event.id.as_u128());
            assert_eq!(audited(bench).accepted, 1);
            bench.settle_index();
            bench.reopen();
        }
        assert_eq!(bench.journal().attempts(event.id.delivery(9)).unwrap(), []);
        assert_eq!(bench.journal().event(maker.event(at(6), &[]).id).unwrap(), None);
    });
}

#[test]
fn duplicates_within_the_window_get_the_first_id() {
    on_each(|bench| {
        let mut maker = Maker::new(2);
        let mut make = |now, print| Event {
            draft: backstop::core::event::Draft { dedup: dedup(print, 1000), ..maker.event(at(now), &["crm"]).draft },
            ..maker.event(at(now), &[])
        };
        let (first, same_batch, other) = (make(0, 7), make(1, 7), make(2, 8));
        let receipts = bench.journal().commit(&[accept(&first), accept(&same_batch), accept(&other)]).unwrap();
        assert_eq!(receipts, [Receipt::Done, Receipt::Duplicate(first.id), Receipt::Done]);
        assert_eq!(bench.journal().entry(same_batch.id).unwrap(), None);
        assert_eq!(commit(bench, accept(&make(3, 7))), Receipt::Duplicate(first.id));
        bench.settle_index();
        assert_eq!(commit(bench, accept(&make(4, 7))), Receipt::Duplicate(first.id));
        bench.reopen();
        assert_eq!(commit(bench, accept(&make(999, 7))), Receipt::Duplicate(first.id));
        let mut elsewhere = make(999, 7);
        elsewhere.draft.source = name("other");
        put(bench, &elsewhere);
        // The window is over: a new event, and from now on the first.
        let second = make(1000, 7);
        put(bench, &second);
        assert_eq!(commit(bench, accept(&make(1999, 7))), Receipt::Duplicate(second.id));
        assert_eq!(audited(bench).accepted, 4);
    });
}

/// The older event of two with one print settles, and so is indexed, after the newer.
#[test]
fn the_newest_event_with_a_print_is_the_one_that_counts_whatever_is_indexed_last() {
    on_each(|bench| {
        let mut maker = Maker::new(3);
        let mut make = |now| {
            let mut event = maker.event(at(now), &["crm"]);
            event.draft.dedup = dedup(1, 1000);
            event
        };
        let (old, new) = (make(0), make(1000));
        put(bench, &old);
        put(bench, &new);
        commit(bench, settle(new.id.delivery(0), 1, Step::Succeed, at(1001)));
        bench.settle_index();
        commit(bench, settle(old.id.delivery(0), 1, Step::Succeed, at(1002)));
        bench.settle_index();
        assert_eq!(commit(bench, accept(&make(1500))), Receipt::Duplicate(new.id));
        bench.reopen();
        assert_eq!(commit(bench, accept(&make(1501))), Receipt::Duplicate(new.id));
    });
}

#[test]
fn a_delivery_settles_along_the_arrows_and_no_other_way() {
    on_each(|bench| {
        let mut maker = Maker::new(4);
        let id = put(bench, &maker.event(at(0), &["a", "b", "c"]));
        let (a, b, c) = (id.delivery(0), id.delivery(1), id.delivery(2));
        let retry = |due| Step::Retry { due: at(due) };
        let missing = maker.event(at(0), &[]).id;
        assert_eq!(commit(bench, settle(missing.delivery(0), 1, Step::Succeed, at(1))), Receipt::Missing);
        assert_eq!(commit(bench, settle(id.delivery(3), 1, Step::Succeed, at(1))), Receipt::Missing);
        let batch = [settle(a, 1, retry(50), at(1)), settle(a, 2, retry(60), at(2)), settle(b, 1, Step::GiveUp, at(1))];
        // The second attempt cannot have begun before the first was stored.
        assert_eq!(bench.journal().commit(&batch).unwrap(), [Receipt::Done, Receipt::Stale, Receipt::Done]);
        assert_eq!(commit(bench, settle(a, 2, retry(60), at(2))), Receipt::Done);
        for round in 0..3 {
            // An attempt's number, and a delivery's end, are what makes a settlement stale.
            for stale in [settle(a, 2, Step::Succeed, at(3)), settle(a, 4, Step::Succeed, at(3))] {
                assert_eq!(commit(bench, stale), Receipt::Stale, "round {round}");
            }
            for step in [Step::Succeed, Step::GiveUp, retry(90)] {
                assert_eq!(commit(bench, settle(b, 2, step, at(3))), Receipt::Stale);
                assert_eq!(commit(bench, settle(b, 1, step, at(3))), Receipt::Stale);
            }
            // Attempts lead to nothing else.
            for step in [Step::Cancel, Step::Expire, Step::Dispatch { attempt: 1 }] {
                assert_eq!(commit(bench, settle(c, 1, step, at(3))), Receipt::Stale);
            }
            assert_eq!(state(bench, a), State::Scheduled { due: at(60) });
            assert_eq!(state(bench, b), State::Dead);
            bench.settle_index();
            if round == 1 {
                bench.reopen();
            }
        }
        assert_eq!(commit(bench, settle(a, 3, Step::Succeed, at(60))), Receipt::Done);
        let numbers =
            |id| -> Vec<u32> { bench.journal().attempts(id).unwrap().iter().map(|try_| try_.number).collect() };
        assert_eq!((numbers(a), numbers(b), numbers(c)), (vec![1, 2, 3], vec![1], vec![]));
        let counters = audited(bench);
        let expected = Tally { routed: 1, attempts: 3, delivered: 1, ..Tally::default() };
        assert_eq!(counters.endpoints[&name("a")], expected);
        let expected = Tally { routed: 1, attempts: 1, dead: 1, failed: 1, ..Tally::default() };
        assert_eq!(counters.endpoints[&name("b")], expected);
    });
}

#[test]
fn a_scheduled_delivery_can_be_cancelled_once() {
    on_each(|bench| {
        let mut maker = Maker::new(5);
        let id = put(bench, &maker.event(at(0), &["a", "b"]));
        let cancel = |slot| Change::Cancel { id: id.delivery(slot), at: at(9) };
        commit(bench, settle(id.delivery(1), 1, Step::Retry { due: at(50) }, at(1)));
        bench.settle_index();
        assert_eq!(commit(bench, cancel(0)), Receipt::Done);
        assert_eq!(commit(bench, cancel(1)), Receipt::Done);
        bench.reopen();
        assert_eq!(commit(bench, cancel(0)), Receipt::Stale);
        assert_eq!(commit(bench, cancel(2)), Receipt::Missing);
        assert_eq!(commit(bench, settle(id.delivery(1), 2, Step::Succeed, at(50))), Receipt::Stale);
        let view = bench.journal().entry(id).unwrap().unwrap();
        for delivery in &view.deliveries {
            assert_eq!((delivery.status(), delivery.reason), (Status::Cancelled, Reason::Operator));
            assert_eq!(delivery.changed_at, at(9));
            assert_eq!(bench.journal().waiting(&delivery.endpoint, 9).unwrap(), (vec![], true));
        }
        assert_eq!(bench.journal().attempts(id.delivery(1)).unwrap().len(), 1);
        assert_eq!(audited(bench).endpoints[&name("a")].cancelled, 1);
    });
}

#[test]
fn an_event_is_delivered_again_where_nothing_waits_or_by_force() {
    on_each(|bench| {
        let mut maker = Maker::new(6);
        let id = put(bench, &maker.event(at(0), &["a"]));
        let unrouted = put(bench, &maker.event(at(0), &[]));
        let made = |id: EventId, slot, to: &str| Receipt::Made(vec![(id.delivery(slot), name(to))]);
        assert_eq!(commit(bench, redeliver(id, "a", false)), Receipt::Stale);
        assert_eq!(commit(bench, redeliver(id, "a", true)), made(id, 1, "a"));
        assert_eq!(commit(bench, redeliver(id, "elsewhere", false)), made(id, 2, "elsewhere"));
        assert_eq!(commit(bench, redeliver(unrouted, "a", false)), made(unrouted, 0, "a"));
        assert_eq!(commit(bench, redeliver(maker.event(at(0), &[]).id, "a", true)), Receipt::Missing);
        bench.settle_index();
        bench.reopen();
        for slot in [0, 1] {
            commit(bench, settle(id.delivery(slot), 1, Step::GiveUp, at(950)));
        }
        // In one batch the second sees the first.
        let twice = [redeliver(id, "a", false), redeliver(id, "a", false)];
        assert_eq!(bench.journal().commit(&twice).unwrap(), [made(id, 3, "a"), Receipt::Stale]);
        let view = bench.journal().entry(id).unwrap().unwrap();
        let superseded: Vec<bool> = view.deliveries.iter().map(|delivery| delivery.superseded).collect();
        assert_eq!(superseded, [true, true, false, false]);
        assert_eq!((view.deliveries[3].reason, view.deliveries[3].born_at), (Reason::Replayed, at(900)));
        let counters = audited(bench);
        assert_eq!(counters.unrouted, 1);
        let tally = counters.endpoints[&name("a")];
        assert_eq!((tally.routed, tally.replayed, tally.dead, tally.failed), (1, 3, 2, 0));
        let (waiting, end) = bench.journal().waiting(&name("a"), 9).unwrap();
        let waiting: Vec<DeliveryId> = waiting.iter().map(|active| active.id).collect();
        assert_eq!((waiting, end), (vec![id.delivery(3), unrouted.delivery(0)], true));
    });
}

#[test]
fn fresh_and_waiting_are_taken_in_order_up_to_a_limit() {
    on_each(|bench| {
        let mut maker = Maker::new(9);
        let ids: Vec<EventId> = (0..6u64).map(|n| put(bench, &maker.event(at(n), &["a", "b"]))).collect();
        let a = name("a");
        commit(bench, settle(ids[1].delivery(0), 1, Step::Retry { due: at(90) }, at(10)));
        commit(bench, settle(ids[3].delivery(0), 1, Step::Retry { due: at(80) }, at(10)));
        commit(bench, settle(ids[4].delivery(0), 1, Step::Succeed, at(10)));
        for _ in 0..2 {
            let fresh = bench.journal().fresh(&a, EventId::MIN, 2).unwrap();
            let found: Vec<EventId> = fresh.deliveries.iter().map(|active| active.id.event).collect();
            assert_eq!((found, fresh.end), (vec![ids[0], ids[2]], false));
            let rest = bench.journal().fresh(&a, fresh.scanned_to, 2).unwrap();
            let found: Vec<EventId> = rest.deliveries.iter().map(|active| active.id.event).collect();
            assert_eq!((found, rest.end, rest.scanned_to), (vec![ids[5]], true, ids[5]));
            let nothing = bench.journal().fresh(&a, ids[5], 2).unwrap();
            assert_eq!((nothing.deliveries.len(), nothing.end, nothing.scanned_to), (0, true, ids[5]));
            let (first, end) = bench.journal().waiting(&a, 1).unwrap();
            assert_eq!((first[0].id, first[0].due, first[0].attempts, end), (ids[3].delivery(0), at(80), 1, false));
            let (both, end) = bench.journal().waiting(&a, 2).unwrap();
            assert_eq!((both.len(), both[1].id, end), (2, ids[1].delivery(0), true));
            assert_eq!(bench.journal().waiting(&name("nobody"), 2).unwrap(), (vec![], true));
            assert_eq!(bench.journal().fresh(&name("b"), EventId::MIN, 99).unwrap().deliveries.len(), 6);
            bench.settle_index();
            bench.reopen();
        }
    });
}

#[test]
fn marks_are_remembered_per_endpoint() {
    on_each(|bench| {
        let mut maker = Maker::new(10);
        let id = put(bench, &maker.event(at(0), &["a"]));
        let (a, b) = (name("a"), name("b"));
        assert_eq!(bench.journal().mark(&a), EventId::MIN);
        bench.journal().set_mark(&a, id);
        assert_eq!((bench.journal().mark(&a), bench.journal().mark(&b)), (id, EventId::MIN));
        bench.settle_index();
        bench.reopen();
        assert_eq!((bench.journal().mark(&a), bench.journal().mark(&b)), (id, EventId::MIN));
    });
}

#[test]
fn a_closed_journal_takes_nothing() {
    on_each(|bench| {
        let mut maker = Maker::new(12);
        let id = put(bench, &maker.event(at(0), &["a"]));
        bench.journal().close().unwrap();
        bench.journal().close().unwrap();
        let refused = bench.journal().commit(&[accept(&maker.event(at(1), &["a"]))]);
        assert_eq!(refused, Err(JournalError::Closed));
        assert!(bench.journal().entry(id).unwrap().is_some(), "reading goes on");
    });
}

#[test]
fn an_empty_batch_and_an_empty_journal_are_fine() {
    on_each(|bench| {
        assert_eq!(bench.journal().commit(&[]).unwrap(), []);
        assert_eq!(audited(bench), Counters::default());
        assert_eq!((bench.journal().last_id(), bench.journal().is_full()), (0, false));
        let endpoint: Name = name("a");
        assert!(bench.journal().fresh(&endpoint, EventId::MIN, 1).unwrap().end);
        assert_eq!(bench.journal().replays().unwrap(), []);
        bench.reopen();
        assert_eq!(audited(bench), Counters::default());
    });
}

#[test]
fn a_directory_has_one_user_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = support::open(dir.path());
    let second = EmbeddedJournal::open(&support::settings(dir.path()), &|_| ());
    let error = second.err().unwrap().to_string();
    assert!(error.contains("in use") && error.contains(&std::process::id().to_string()), "{error}");
    drop(first);
    support::open(dir.path());
}
