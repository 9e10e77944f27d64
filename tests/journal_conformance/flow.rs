//! What the scheduler's flow leaves in a journal and asks of it: standings, probes, a key's deliveries.

use backstop::core::breaker::Circuit;
use backstop::core::delivery::Step;
use backstop::core::event::KeyTag;
use backstop::core::id::EventId;
use backstop::core::scheduler::Active;
use backstop::core::standing::{NOTE_LEN_MAX, Pause, PauseCause, Standing};
use backstop::journal::{Change, Receipt};

use crate::support::{self, Maker, at, name, settle};
use crate::{Bench, commit, on_each, put, redeliver};

#[test]
fn how_an_endpoint_stands_is_remembered_and_the_last_word_counts() {
    on_each(|bench| {
        let paused = |note: &str| {
            let pause = Some(Pause { since: at(3), cause: PauseCause::Operator, note: note.to_owned() });
            Standing { pause, held_until: at(4), ..Standing::default() }
        };
        let stand =
            |endpoint, standing: &Standing| Change::Stand { endpoint: name(endpoint), standing: standing.clone() };
        assert_eq!((bench.journal().standing(&name("a")), bench.journal().standings()), (Standing::default(), vec![]));
        // Two bytes a letter: the cut falls within one.
        let long = format!("x{}", "é".repeat(NOTE_LEN_MAX));
        let kept = format!("x{}", "é".repeat(NOTE_LEN_MAX / 2 - 1));
        let circuit = Circuit::HalfOpen { since: at(5), allowed: 2 };
        let (a, b) = (Standing { circuit, ..paused(&kept) }, paused(""));
        let changes =
            [stand("b", &b), stand("a", &paused("not for long")), stand("a", &Standing { circuit, ..paused(&long) })];
        assert_eq!(bench.journal().commit(&changes).unwrap(), vec![Receipt::Done; 3]);
        let assert_stand = |bench: &dyn Bench, a: &Standing, b: &Standing| {
            assert_eq!(bench.journal().standings(), [(name("a"), a.clone()), (name("b"), b.clone())]);
            assert_eq!(bench.journal().standing(&name("a")), *a);
            assert_eq!(bench.journal().standing(&name("c")), Standing::default());
        };
        assert_stand(bench, &a, &b);
        bench.reopen();
        assert_stand(bench, &a, &b);
        bench.settle_index();
        bench.reopen();
        assert_stand(bench, &a, &b);
        assert_eq!(commit(bench, stand("a", &Standing::default())), Receipt::Done);
        bench.reopen();
        assert_stand(bench, &Standing::default(), &b);
        bench.rebuild();
        assert_stand(bench, &Standing::default(), &b);
    });
}

#[test]
fn what_an_attempt_was_is_kept_with_it_and_with_its_delivery() {
    on_each(|bench| {
        let mut maker = Maker::new(14);
        let event = maker.event(at(0), &["a"]);
        let id = put(bench, &event).delivery(0);
        let mut late = support::settlement(id, 3, Step::Retry { due: at(70) }, at(30));
        late.attempt.out_of_order = true;
        let probes =
            [(1, 50, 10), (2, 60, 20)].map(|(number, due, now)| support::probe_failed(id, number, at(due), at(now)));
        for settlement in probes.into_iter().chain([late]) {
            assert_eq!(commit(bench, Change::Settle(settlement)), Receipt::Done);
        }
        let assert_kept = |bench: &dyn Bench| {
            let attempts = bench.journal().attempts(id).unwrap();
            let flags: Vec<_> = attempts.iter().map(|attempt| (attempt.probe, attempt.out_of_order)).collect();
            assert_eq!(flags, [(true, false), (true, false), (false, true)]);
            let view = bench.journal().entry(id.event).unwrap().unwrap();
            let [delivery] = view.deliveries.as_slice() else { panic!("{view:?}") };
            assert_eq!((delivery.attempts, delivery.probes, delivery.out_of_order), (3, 2, true));
            let active = Active {
                due: at(70),
                id,
                since: at(37),
                attempts: 3,
                probes: 2,
                born_at: at(0),
                tried_at: Some(at(10)),
                key: event.draft.key.as_deref().map(KeyTag::of),
                yields: false,
            };
            assert_eq!(bench.journal().waiting(&name("a"), 9).unwrap(), (vec![active], true));
        };
        assert_kept(bench);
        bench.settle_index();
        assert_kept(bench);
        bench.reopen();
        assert_kept(bench);
        bench.rebuild();
        assert_kept(bench);
    });
}

#[test]
fn the_fresh_deliveries_of_a_key_are_found_in_order_up_to_a_limit() {
    on_each(|bench| {
        let mut maker = Maker::new(15);
        let mut put_keyed = |n: u64, key: Option<&str>, endpoints: &[&str]| {
            let mut event = maker.event(at(n), endpoints);
            event.draft.key = key.map(str::to_owned);
            put(bench, &event)
        };
        let k = Some("k");
        let ids: Vec<EventId> = (0..5).map(|n| put_keyed(n, k, &["a", "b"])).collect();
        let others = [put_keyed(5, Some("other"), &["a"]), put_keyed(6, None, &["a"]), put_keyed(7, k, &["b"])];
        commit(bench, settle(ids[1].delivery(0), 1, Step::Retry { due: at(90) }, at(10)));
        commit(bench, settle(ids[3].delivery(0), 1, Step::Succeed, at(10)));
        commit(bench, redeliver(ids[3], "a", false));
        let (a, key) = (name("a"), KeyTag::of("k"));
        for round in 0..3 {
            let asked = |after, limit| {
                let fresh = bench.journal().fresh_of_key(&a, key, after, limit).unwrap();
                assert!(fresh.deliveries.iter().all(|active| active.key == Some(key) && active.id.slot == 0));
                let found: Vec<EventId> = fresh.deliveries.iter().map(|active| active.id.event).collect();
                (found, fresh.scanned_to, fresh.end)
            };
            assert_eq!(asked(EventId::MIN, 2), (vec![ids[0], ids[2]], ids[2], false), "round {round}");
            assert_eq!(asked(ids[2], 2), (vec![ids[4]], others[2], true), "round {round}");
            assert_eq!(asked(ids[0], 9), (vec![ids[2], ids[4]], others[2], true), "round {round}");
            assert_eq!(asked(others[2], 9), (vec![], others[2], true), "round {round}");
            let of =
                |endpoint, key| support::all_fresh_of_key(bench.journal(), &name(endpoint), KeyTag::of(key), 3).len();
            assert_eq!([of("b", "k"), of("a", "other"), of("a", "none"), of("nobody", "k")], [6, 1, 0, 0]);
            bench.settle_index();
            if round == 0 { bench.reopen() } else { bench.rebuild() }
        }
    });
}
