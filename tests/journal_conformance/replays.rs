//! Replays as the journal keeps them: they advance, repeat nothing, are paused, and their deliveries are counted.

use std::collections::BTreeMap;

use backstop::core::delivery::Step;
use backstop::core::filter::{Filter, Pick};
use backstop::core::id::EventId;
use backstop::core::replay::{Hold, Replay, ReplayState, Skipped, Turn};
use backstop::journal::{Advance, Change, Receipt, Tally};

use crate::support::{self, Maker, at, name, settle};
use crate::{audited, commit, on_each, put};

fn replay(maker: &mut Maker) -> Replay {
    support::replay(maker.replay_id(at(500)), at(500), Filter { until: Some(at(500)), ..Filter::failed() }, None)
}

#[test]
fn a_replay_advances_slice_by_slice_and_repeats_none() {
    on_each(|bench| {
        let mut maker = Maker::new(7);
        let ids: Vec<EventId> = (0..4).map(|_| put(bench, &maker.event(at(0), &["a"]))).collect();
        for id in &ids[..3] {
            commit(bench, settle(id.delivery(0), 1, Step::GiveUp, at(1)));
        }
        let replay = replay(&mut maker);
        let slice = |events: &[EventId], finished| {
            let items = events.iter().map(|id| (*id, name("a"))).collect();
            let cursor = events.last().map(|id| id.delivery(0));
            Change::AdvanceReplay(Advance {
                id: replay.id,
                cursor,
                items,
                skipped: Skipped::default(),
                at: at(600),
                finished,
            })
        };
        assert_eq!(commit(bench, slice(&ids[..1], false)), Receipt::Missing);
        assert_eq!(commit(bench, Change::OpenReplay(Box::new(replay.clone()))), Receipt::Done);
        assert_eq!(commit(bench, Change::OpenReplay(Box::new(replay.clone()))), Receipt::Stale);
        assert_eq!(bench.journal().replays().unwrap(), std::slice::from_ref(&replay));
        let made = |id: &EventId| (id.delivery(1), name("a"));
        let first = commit(bench, slice(&ids[..2], false));
        assert_eq!(first, Receipt::Made(vec![made(&ids[0]), made(&ids[1])]));
        for id in &ids[..2] {
            commit(bench, settle(id.delivery(1), 1, Step::Succeed, at(601)));
        }
        // The same slice again, as after a crash between its commit and its end: nothing is doubled.
        for step in 0..3 {
            assert_eq!(commit(bench, slice(&ids[..2], false)), Receipt::Stale, "step {step}");
            assert_eq!(commit(bench, slice(&ids[..2], true)), Receipt::Stale, "step {step}");
            assert_eq!(commit(bench, slice(&ids[..1], false)), Receipt::Stale, "step {step}");
            bench.settle_index();
            bench.reopen();
        }
        // The last one is scheduled already, and counted as skipped.
        assert_eq!(commit(bench, slice(&ids[2..], true)), Receipt::Made(vec![made(&ids[2])]));
        let done = bench.journal().replays().unwrap();
        let expected = Replay {
            cursor: Some(ids[3].delivery(0)),
            selected: 4,
            queued: 3,
            skipped: Skipped { waiting: 1, ..Skipped::default() },
            state: ReplayState::Completed,
            ..replay.clone()
        };
        assert_eq!(done, std::slice::from_ref(&expected));
        assert_eq!(commit(bench, Change::CancelReplay { id: replay.id, at: at(700) }), Receipt::Stale);
        bench.reopen();
        assert_eq!(bench.journal().replays().unwrap(), [expected]);
        let view = bench.journal().entry(ids[0]).unwrap().unwrap();
        assert_eq!(view.deliveries[1].replay, Some(replay.id));
        assert_eq!(audited(bench).endpoints[&name("a")].replayed, 3);
    });
}

#[test]
fn a_replay_can_be_cancelled_or_end_empty() {
    on_each(|bench| {
        let mut maker = Maker::new(8);
        let (first, second) = (replay(&mut maker), replay(&mut maker));
        let cancel = |id| Change::CancelReplay { id, at: at(700) };
        assert_eq!(commit(bench, cancel(first.id)), Receipt::Missing);
        bench
            .journal()
            .commit(&[Change::OpenReplay(Box::new(first.clone())), Change::OpenReplay(Box::new(second.clone()))])
            .unwrap();
        assert_eq!(bench.journal().last_id(), second.id.as_u128());
        assert_eq!(commit(bench, cancel(first.id)), Receipt::Done);
        bench.reopen();
        assert_eq!(commit(bench, cancel(first.id)), Receipt::Stale);
        let end = |id| {
            Change::AdvanceReplay(Advance {
                id,
                cursor: None,
                items: vec![],
                skipped: Skipped::default(),
                at: at(600),
                finished: true,
            })
        };
        assert_eq!(commit(bench, end(first.id)), Receipt::Stale);
        assert_eq!(commit(bench, end(second.id)), Receipt::Made(vec![]));
        assert_eq!(commit(bench, end(second.id)), Receipt::Stale);
        bench.settle_index();
        bench.reopen();
        let states: Vec<_> =
            bench.journal().replays().unwrap().iter().map(|replay| (replay.id, replay.state)).collect();
        assert_eq!(states, [(second.id, ReplayState::Completed), (first.id, ReplayState::Cancelled)]);
    });
}

#[test]
fn a_replay_is_paused_goes_on_and_counts_its_deliveries() {
    on_each(|bench| {
        let mut maker = Maker::new(9);
        let ids: Vec<EventId> = (0..4).map(|_| put(bench, &maker.event(at(0), &["a"]))).collect();
        for id in &ids {
            commit(bench, settle(id.delivery(0), 1, Step::GiveUp, at(1)));
        }
        let first = replay(&mut maker);
        let id = first.id;
        // A filter that names hundreds does not fit into one of the index's values.
        let picks: Vec<Pick> = ids.iter().map(|id| Pick::Event(*id)).collect();
        let many = (0..500).map(|number| Pick::Event(EventId::from_u128(number))).chain(picks).collect();
        let first = Replay { filter: Filter { picks: many, ..first.filter }, ..first };
        let turn = |turn| Change::TurnReplay { id, turn, at: at(700) };
        assert_eq!(commit(bench, turn(Turn::Pause(Hold::Operator))), Receipt::Missing);
        commit(bench, Change::OpenReplay(Box::new(first.clone())));
        let skipped = Skipped { too_old: 2, body_gone: 1, ..Skipped::default() };
        let items: Vec<_> = ids.iter().map(|id| (*id, name("a"))).collect();
        let cursor = Some(ids[3].delivery(0));
        let advance = Advance { id, cursor, items, skipped, at: at(600), finished: false };
        commit(bench, Change::AdvanceReplay(advance.clone()));
        assert_eq!(commit(bench, turn(Turn::Pause(Hold::Failures))), Receipt::Done);
        assert_eq!(commit(bench, turn(Turn::Pause(Hold::Failures))), Receipt::Stale);
        let more = Advance { cursor: Some(ids[3].delivery(1)), ..advance };
        assert_eq!(commit(bench, Change::AdvanceReplay(more)), Receipt::Stale, "it is paused");
        let paused = Replay {
            cursor,
            selected: 7,
            queued: 4,
            skipped,
            state: ReplayState::Paused,
            hold: Some(Hold::Failures),
            ..first
        };
        let steps = [Step::Succeed, Step::GiveUp, Step::Retry { due: at(900) }];
        for (event, step) in ids.iter().zip(steps) {
            commit(bench, settle(event.delivery(1), 1, step, at(800)));
        }
        let expected = Tally {
            replayed: 4,
            attempts: 3,
            scheduled: 1,
            retrying: 1,
            delivered: 1,
            dead: 1,
            failed: 1,
            ..Tally::default()
        };
        for _ in 0..3 {
            assert_eq!(bench.journal().replays().unwrap(), std::slice::from_ref(&paused));
            assert_eq!(audited(bench).replays, BTreeMap::from([(id, expected)]));
            bench.settle_index();
            bench.reopen();
        }
        assert_eq!(commit(bench, turn(Turn::Resume { forgiven: 2 })), Receipt::Done);
        assert_eq!(commit(bench, turn(Turn::PassCanary)), Receipt::Done);
        bench.reopen();
        let state = ReplayState::Running;
        let running = Replay { state, hold: None, forgiven: 2, canary_passed: true, ..paused };
        assert_eq!(bench.journal().replays().unwrap(), std::slice::from_ref(&running));
        commit(bench, Change::CancelReplay { id, at: at(900) });
        assert_eq!(bench.journal().replays().unwrap()[0].state, ReplayState::Cancelled);
    });
}
