//! Letting go: what retention may take, what it must leave, and what is left afterwards.

use std::sync::Arc;

use backstop::core::delivery::{Delivery, Reason, State, Status, Step};
use backstop::core::event::{Draft, Event, EventHead};
use backstop::core::filter::Filter;
use backstop::core::id::EventId;
use backstop::core::replay::{Hold, Replay, ReplayState, Skipped, Turn};
use backstop::core::retention::{Kept, Retention, Verdict};
use backstop::journal::retention::{Retain, RetainItem};
use backstop::journal::{Advance, Change, Journal, Receipt};

use super::support::{self, Maker, accept, all_deliveries, all_events, at, dedup, name, retention, settle, sweep};
use super::{Bench, audited, commit, on_each, put, redeliver};

/// Enough that their log has several segments.
const EVENTS: usize = 60;
const BODY_BYTES: usize = 1000;

/// Events from `from_ms` on, ten milliseconds apart, to `crm` and `billing`.
fn events(maker: &mut Maker, from_ms: u64) -> Vec<Event> {
    let make = |n: usize| {
        let event = maker.event(at(from_ms + 10 * n as u64), &["crm", "billing"]);
        let draft = Draft { body: vec![b'x'; BODY_BYTES].into(), dedup: dedup(n as u8, 100), ..event.draft };
        Event { draft, ..event }
    };
    (0..EVENTS).map(make).collect()
}

fn deliver(bench: &dyn Bench, event: &Event) {
    for slot in 0..2 {
        let done = settle(event.id.delivery(slot), 1, Step::Succeed, event.received_at);
        assert_eq!(commit(bench, done), Receipt::Done);
    }
}

/// Fills the journal with delivered events, and begins another segment.
fn fill(bench: &dyn Bench, maker: &mut Maker) -> Vec<Event> {
    let events = events(maker, 0);
    for event in &events {
        put(bench, event);
        deliver(bench, event);
    }
    pad(bench, maker);
    events
}

/// Something that stays, so large that the log goes on in new segments.
fn pad(bench: &dyn Bench, maker: &mut Maker) {
    for _ in 0..2 {
        let mut event = maker.event(at(100_000), &["crm"]);
        event.draft.body = vec![b'p'; 20_000].into();
        put(bench, &event);
    }
}

/// A thousand seconds of payload, ten thousand of metadata.
fn policy() -> Retention {
    retention(1_000_000, 10_000_000, &["crm", "billing"])
}

/// Asks `check` now, once indexed, after a restart, and with nothing left but the log.
fn through_everything(bench: &mut dyn Bench, check: impl Fn(&dyn Bench)) {
    check(bench);
    bench.settle_index();
    check(bench);
    bench.reopen();
    check(bench);
    bench.rebuild();
    check(bench);
}

#[test]
fn payloads_go_first_and_the_rest_later() {
    on_each(|bench| {
        let mut maker = Maker::new(60);
        let known = fill(bench, &mut maker);
        let before = audited(bench);
        sweep(bench.journal(), &policy(), at(900_000));
        assert_eq!(audited(bench), before, "nothing is due yet");
        sweep(bench.journal(), &policy(), at(5_000_000));
        through_everything(bench, |bench| {
            let counters = audited(bench);
            assert_eq!((counters.accepted, counters.dropped), (before.accepted, 0));
            assert_eq!(counters.endpoints, before.endpoints);
            assert!(counters.sources[&name("flyflow")].bytes < before.sources[&name("flyflow")].bytes);
            let view = bench.journal().entry(known[0].id).unwrap().unwrap();
            assert_eq!((view.head, view.has_payload), (known[0].head(), false));
            assert!(view.deliveries.iter().all(|delivery| delivery.state == State::Delivered));
            assert_eq!(bench.journal().event(known[0].id).unwrap(), None);
            assert_eq!(bench.journal().attempts(known[0].id.delivery(0)).unwrap(), []);
            assert_eq!(commit(bench, redeliver(known[0].id, "crm", true)), Receipt::PayloadGone);
            assert_eq!(all_events(bench.journal(), &Filter::default(), false, 7).len(), EVENTS + 2);
        });
        sweep(bench.journal(), &policy(), at(20_000_000));
        through_everything(bench, |bench| {
            let counters = audited(bench);
            assert_eq!(counters.endpoints[&name("billing")], before.endpoints[&name("billing")]);
            assert!(counters.dropped > 0);
            assert_eq!(bench.journal().entry(known[0].id).unwrap(), None);
            assert_eq!(commit(bench, redeliver(known[0].id, "crm", true)), Receipt::Missing);
            let left = all_events(bench.journal(), &Filter::default(), true, 7).len() as u64;
            assert_eq!(left, counters.accepted - counters.dropped);
        });
        assert!(bench.journal().last_id() > known[EVENTS - 1].id.as_u128());
    });
}

#[test]
fn a_delivery_still_to_be_made_keeps_its_event_whole() {
    on_each(|bench| {
        let mut maker = Maker::new(61);
        let live = maker.event(at(0), &["crm", "billing"]);
        put(bench, &live);
        let due = at(99_000);
        assert_eq!(commit(bench, settle(live.id.delivery(0), 1, Step::Retry { due }, at(0))), Receipt::Done);
        fill(bench, &mut maker);
        assert_eq!(commit(bench, settle(live.id.delivery(0), 2, Step::Retry { due }, at(1))), Receipt::Done);
        sweep(bench.journal(), &policy(), at(900_000_000));
        through_everything(bench, |bench| {
            assert!(audited(bench).dropped > 10);
            assert_eq!(bench.journal().event(live.id).unwrap().as_deref(), Some(&live));
            assert_eq!(bench.journal().attempts(live.id.delivery(0)).unwrap().len(), 2);
            assert_eq!(bench.journal().waiting(&name("crm"), 9).unwrap().0.len(), 1);
            assert!(support::all_fresh(bench.journal(), &name("billing"), EventId::MIN, 9).len() == 1);
        });
        // It goes on as if nothing had been.
        assert_eq!(commit(bench, settle(live.id.delivery(0), 3, Step::GiveUp, at(2))), Receipt::Done);
        through_everything(bench, |bench| {
            let attempts = bench.journal().attempts(live.id.delivery(0)).unwrap();
            assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
        });
    });
}

#[test]
fn whatever_is_proposed_a_live_delivery_and_a_changed_event_are_left_alone() {
    on_each(|bench| {
        let mut maker = Maker::new(62);
        let live = maker.event(at(0), &["crm"]);
        put(bench, &live);
        let propose = |seen, kept| {
            let verdict = Verdict { kept, expired: Vec::new() };
            let item = RetainItem { seen, verdict, at: at(9), dedup: None, payload: None, is_damaged: false };
            Change::Retain(Box::new(Retain { items: vec![item], ..Retain::default() }))
        };
        let seen = bench.journal().entry(live.id).unwrap().unwrap();
        for kept in [Kept::Head, Kept::Nothing] {
            assert_eq!(commit(bench, propose(seen.clone(), kept)), Receipt::Stale);
        }
        assert_eq!(commit(bench, settle(live.id.delivery(0), 1, Step::Succeed, at(3))), Receipt::Done);
        assert_eq!(commit(bench, propose(seen, Kept::Nothing)), Receipt::Stale, "it has changed since");
        let seen = bench.journal().entry(live.id).unwrap().unwrap();
        assert_eq!(
            commit(bench, redeliver(live.id, "crm", false)),
            Receipt::Made(vec![(live.id.delivery(1), name("crm"))])
        );
        assert_eq!(commit(bench, propose(seen, Kept::Nothing)), Receipt::Stale, "it is to be delivered again");
        assert_eq!(bench.journal().event(live.id).unwrap().as_deref(), Some(&live));
    });
}

#[test]
fn parked_deliveries_expire_and_are_listed_with_the_reason() {
    on_each(|bench| {
        let mut maker = Maker::new(63);
        let parked = maker.event(at(0), &["crm", "old-crm"]);
        put(bench, &parked);
        assert_eq!(commit(bench, settle(parked.id.delivery(0), 1, Step::Succeed, at(3))), Receipt::Done);
        fill(bench, &mut maker);
        sweep(bench.journal(), &policy(), at(9_999_000));
        assert_eq!(audited(bench).endpoints[&name("old-crm")].scheduled, 1);
        sweep(bench.journal(), &policy(), at(20_000_000));
        through_everything(bench, |bench| {
            let tally = audited(bench).endpoints[&name("old-crm")];
            assert_eq!((tally.scheduled, tally.expired), (0, 1));
            let view = bench.journal().entry(parked.id).unwrap().unwrap();
            let delivery = &view.deliveries[1];
            assert_eq!((delivery.state, delivery.reason), (State::Expired, Reason::Retention));
            assert_eq!((delivery.changed_at, view.has_payload), (at(20_000_000), false));
            assert!(support::all_fresh(bench.journal(), &name("old-crm"), EventId::MIN, 9).is_empty());
            assert_listed_as_expired(bench.journal(), (&view.head, delivery));
        });
    });
}

/// It is what is listed by any filter that means it, and by none that does not.
fn assert_listed_as_expired(journal: &dyn Journal, (head, expired): (&EventHead, &Delivery)) {
    let statuses = |statuses: &[Status]| Filter { statuses: statuses.to_vec(), ..Filter::default() };
    let of = |endpoint: &str, filter: Filter| Filter { endpoint: Some(name(endpoint)), ..filter };
    let (expired_ones, reason) = (|| statuses(&[Status::Expired]), Some(Reason::Retention));
    let meant = [
        expired_ones(),
        statuses(&[Status::Dead, Status::Expired]),
        of("old-crm", expired_ones()),
        of("old-crm", Filter::default()),
        Filter { reason, ..Filter::default() },
        Filter { keys: head.key.iter().cloned().collect(), ..expired_ones() },
    ];
    for filter in &meant {
        for newest_first in [false, true] {
            let listed = all_deliveries(journal, filter, newest_first, 1);
            assert_eq!(listed, [(head.clone(), expired.clone())], "{filter:?}");
        }
    }
    let not_meant = [Filter::failed(), of("crm", expired_ones()), of("old-crm", statuses(&[Status::Scheduled]))];
    for filter in &not_meant {
        assert_eq!(all_deliveries(journal, filter, false, 9), [], "{filter:?}");
    }
    let listed = all_events(journal, &expired_ones(), true, 9);
    assert_eq!(listed.iter().map(|view| &view.head).collect::<Vec<_>>(), [head]);
}

#[test]
fn standings_replays_and_duplicates_outlive_the_log_they_were_noted_in() {
    on_each(|bench| {
        let mut maker = Maker::new(64);
        let (now, standing) = (at(0), support::standing(&mut maker.rng));
        let change = Change::Stand { endpoint: name("crm"), standing: standing.clone() };
        assert_eq!(commit(bench, change), Receipt::Done);
        let replay = support::replay(maker.replay_id(now), now, Filter::default(), None);
        assert_eq!(commit(bench, Change::OpenReplay(Box::new(replay.clone()))), Receipt::Done);
        let mut long = maker.event(at(0), &["crm"]);
        long.draft.dedup = dedup(200, 3_600_000_000);
        put(bench, &long);
        assert_eq!(commit(bench, settle(long.id.delivery(0), 1, Step::Succeed, at(3))), Receipt::Done);
        fill(bench, &mut maker);
        let pause = Change::TurnReplay { id: replay.id, turn: Turn::Pause(Hold::Failures), at: at(5) };
        assert_eq!(commit(bench, pause), Receipt::Done);
        sweep(bench.journal(), &policy(), at(60_000_000));
        let mut again = maker.event(at(60_000_000), &["crm"]);
        again.draft.dedup = dedup(200, 3_600_000_000);
        through_everything(bench, |bench| {
            assert!(audited(bench).dropped > 10);
            assert_eq!(bench.journal().standing(&name("crm")).circuit, standing.circuit);
            let replays = bench.journal().replays().unwrap();
            let held = Some(Hold::Failures);
            assert_eq!(replays, [Replay { state: ReplayState::Paused, hold: held, ..replay.clone() }]);
            assert_eq!(commit(bench, accept(&again)), Receipt::Duplicate(long.id));
            assert!(!bench.journal().entry(long.id).unwrap().unwrap().has_payload);
        });
    });
}

#[test]
fn a_source_that_takes_up_too_much_loses_its_oldest_bodies() {
    on_each(|bench| {
        let mut maker = Maker::new(65);
        let known = fill(bench, &mut maker);
        let other =
            Event { draft: Draft { source: name("other"), ..known[0].draft.clone() }, ..maker.event(at(0), &[]) };
        put(bench, &other);
        let mut policy = retention(1_000_000_000, 1_000_000_000, &["crm", "billing"]);
        let max_bytes = 70_000;
        policy
            .sources
            .insert(name("flyflow"), backstop::core::retention::Keep { bytes_max: Some(max_bytes), ..policy.default });
        sweep(bench.journal(), &policy, at(2_000_000));
        through_everything(bench, |bench| {
            let counters = audited(bench);
            assert!(counters.sources[&name("flyflow")].bytes <= max_bytes, "{:?}", counters.sources);
            assert_eq!(counters.dropped, 0);
            assert!(!bench.journal().entry(known[0].id).unwrap().unwrap().has_payload);
            assert!(bench.journal().entry(known[EVENTS - 1].id).unwrap().unwrap().has_payload, "no more than needed");
            assert!(bench.journal().event(other.id).unwrap().is_some());
        });
    });
}

#[test]
fn nothing_goes_without_a_rule() {
    on_each(|bench| {
        let mut maker = Maker::new(66);
        let known = fill(bench, &mut maker);
        assert_eq!(sweep(bench.journal(), &Retention::default(), at(u64::MAX / 4)), 0);
        assert_eq!(audited(bench).dropped, 0);
        assert_eq!(bench.journal().event(known[0].id).unwrap(), Some(Arc::new(known[0].clone())));
    });
}

#[test]
fn replays_that_have_ended_are_forgotten_with_their_counts_and_those_that_run_stay() {
    on_each(|bench| {
        let mut maker = Maker::new(67);
        let event = maker.event(at(0), &["crm"]);
        put(bench, &event);
        let replays: Vec<Replay> =
            (0..3).map(|n| support::replay(maker.replay_id(at(n)), at(n), Filter::default(), None)).collect();
        for replay in &replays {
            assert_eq!(commit(bench, Change::OpenReplay(Box::new(replay.clone()))), Receipt::Done);
        }
        let advance = Advance {
            id: replays[0].id,
            cursor: Some(event.id.delivery(0)),
            items: vec![(event.id, name("billing"))],
            skipped: Skipped::default(),
            at: at(5),
            finished: true,
        };
        let made = Receipt::Made(vec![(event.id.delivery(1), name("billing"))]);
        assert_eq!(commit(bench, Change::AdvanceReplay(advance)), made);
        assert_eq!(commit(bench, Change::CancelReplay { id: replays[1].id, at: at(5) }), Receipt::Done);
        for slot in 0..2 {
            let done = settle(event.id.delivery(slot), 1, Step::Succeed, at(9));
            assert_eq!(commit(bench, done), Receipt::Done);
        }
        sweep(bench.journal(), &policy(), at(9_000_000));
        assert_eq!(bench.journal().replays().unwrap().len(), 3, "nothing is due yet");
        sweep(bench.journal(), &policy(), at(11_000_000));
        through_everything(bench, |bench| {
            assert_eq!(bench.journal().replays().unwrap(), replays[2..]);
            audited(bench);
        });
        fill(bench, &mut maker);
        sweep(bench.journal(), &policy(), at(90_000_000));
        through_everything(bench, |bench| {
            assert_eq!(bench.journal().entry(event.id).unwrap(), None);
            assert_eq!(bench.journal().replays().unwrap(), replays[2..]);
            assert!(!audited(bench).replays.contains_key(&replays[0].id), "nobody asks for that any more");
        });
    });
}
