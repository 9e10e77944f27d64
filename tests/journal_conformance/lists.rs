//! Lists and searches: filters, cursors, slices.

use backstop::core::delivery::{Reason, Status, Step};
use backstop::core::event::KeyTag;
use backstop::core::failure::FailureGroup;
use backstop::core::filter::Filter;
use backstop::core::id::EventId;
use backstop::journal::{Change, Journal};

use crate::support::{self, Maker, accept, all_deliveries, all_events, at, name, query, settle};
use crate::{Bench, audited, commit, on_each, put, redeliver};

/// Every field alone, and some together.
fn filters(key: &str) -> Vec<Filter> {
    let any = Filter::default;
    let endpoint = || Some(name("b"));
    let gone = support::settlement(EventId::MIN.delivery(0), 1, Step::GiveUp, at(0)).attempt;
    vec![
        any(),
        Filter::failed(),
        Filter { superseded: true, ..Filter::failed() },
        Filter { superseded: true, ..any() },
        Filter { endpoint: endpoint(), ..any() },
        Filter { endpoint: endpoint(), ..Filter::failed() },
        Filter { endpoint: endpoint(), statuses: vec![Status::Retrying, Status::Cancelled], ..any() },
        Filter { endpoint: Some(name("nobody")), ..any() },
        Filter { endpoint: Some(name("nobody")), ..Filter::failed() },
        Filter { source: Some(name("other")), ..any() },
        Filter { types: vec!["call_*".into(), "unknown".into()], ..any() },
        Filter { keys: vec![key.into()], ..any() },
        Filter { keys: vec!["none".into()], ..any() },
        Filter { keys: vec![key.into(), "call-2".into()], ..any() },
        Filter { occurred_since: Some(at(7)), occurred_until: Some(at(19)), ..any() },
        Filter { keys: vec![key.into(), "none".into()], ..Filter::failed() },
        Filter { statuses: vec![Status::Scheduled, Status::Dead], ..any() },
        Filter { statuses: vec![Status::Delivered], ..any() },
        Filter { reason: Some(Reason::Gone), ..any() },
        Filter { reason: Some(Reason::Replayed), ..any() },
        Filter { group: FailureGroup::of(&name("b"), &gone), ..any() },
        Filter { group: FailureGroup::of(&name("b"), &gone), ..Filter::failed() },
        Filter { since: Some(at(7)), until: Some(at(19)), ..any() },
        Filter { since: Some(at(19)), until: Some(at(7)), ..any() },
        Filter { until: Some(at(7)), ..Filter::failed() },
        Filter { unrouted: true, ..any() },
        Filter { endpoint: endpoint(), source: Some(name("flyflow")), since: Some(at(3)), ..Filter::failed() },
    ]
}

/// Thirty events in mixed states.
fn fill(bench: &dyn Bench, maker: &mut Maker) {
    for n in 0..30u64 {
        let endpoints: &[&str] = if n % 7 == 6 { &[] } else { &["a", "b", "c"] };
        let mut event = maker.event(at(n), endpoints);
        event.draft.source = name(if n % 3 == 0 { "other" } else { "flyflow" });
        event.draft.key = (n % 4 != 0).then(|| format!("call-{}", n % 3));
        event.draft.event_type =
            ["call_ended", "call_started", "tool_call"][usize::try_from(n % 3).unwrap()].to_owned();
        let id = put(bench, &event);
        let steps = [Step::Succeed, Step::GiveUp, Step::Retry { due: at(n + 99) }];
        for slot in 0..3u16 {
            let step = steps[usize::from((slot + u16::try_from(n).unwrap()) % 3)];
            if n % 5 != 4 {
                bench.journal().commit(&[settle(id.delivery(slot), 1, step, at(n + 1))]).unwrap();
            }
        }
        match n % 6 {
            2 => drop(commit(bench, redeliver(id, "b", false))),
            3 => drop(commit(bench, Change::Cancel { id: id.delivery(2), at: at(n) })),
            4 => bench.settle_index(),
            _ => {}
        }
    }
}

#[test]
fn lists_are_the_same_page_by_page_in_both_directions() {
    on_each(|bench| {
        fill(bench, &mut Maker::new(11));
        audited(bench);
        let everything = all_events(bench.journal(), &Filter::default(), false, 1000);
        assert_eq!(everything.len(), 30);
        for _ in 0..2 {
            for filter in filters("call-1") {
                assert_lists(bench.journal(), &filter, &everything);
            }
            bench.settle_index();
            bench.reopen();
        }
        let asked_for_none = query(Filter::default(), false, 0);
        assert_eq!(bench.journal().events(&asked_for_none).unwrap().items.len(), 1, "at least one");
    });
}

/// Lists by `filter` are what filtering everything by hand gives.
fn assert_lists(journal: &dyn Journal, filter: &Filter, everything: &[backstop::journal::EventView]) {
    let admitted = everything.iter().filter(|view| filter.admits_event(&view.head));
    let mut deliveries: Vec<_> = admitted
        .clone()
        .flat_map(|view| view.deliveries.iter().map(|delivery| (view.head.clone(), delivery.clone())))
        .filter(|(_, delivery)| filter.admits_delivery(delivery))
        .collect();
    let by_deliveries =
        filter.endpoint.is_some() || !filter.statuses.is_empty() || filter.reason.is_some() || filter.group.is_some();
    let mut events: Vec<_> = admitted
        .filter(|view| !by_deliveries || view.deliveries.iter().any(|delivery| filter.admits_delivery(delivery)))
        .filter(|view| !filter.unrouted || view.deliveries.is_empty())
        .cloned()
        .collect();
    for newest_first in [false, true] {
        for limit in [1, 2, 7, 1000] {
            assert_eq!(all_events(journal, filter, newest_first, limit), events, "{filter:?}");
            assert_eq!(all_deliveries(journal, filter, newest_first, limit), deliveries, "{filter:?}");
        }
        events.reverse();
        deliveries.reverse();
    }
}

/// More than one call looks at: a slice in which nothing fits is not the end.
#[test]
fn a_long_search_comes_in_slices_and_reaches_the_end() {
    on_each(|bench| {
        let mut maker = Maker::new(13);
        let mut changes: Vec<Change> = (0..20_010).map(|_| accept(&maker.event(at(0), &[]))).collect();
        changes.insert(0, accept(&maker.event(at(0), &["a"])));
        changes.push(accept(&maker.event(at(1), &["a"])));
        bench.journal().commit(&changes).unwrap();
        for newest_first in [false, true] {
            assert_eq!(all_deliveries(bench.journal(), &Filter::default(), newest_first, 1000).len(), 2);
            let filter = Filter { endpoint: Some(name("a")), ..Filter::default() };
            assert_eq!(all_events(bench.journal(), &filter, newest_first, 1000).len(), 2);
        }
        // Once from memory, and once from the index.
        for _ in 0..2 {
            for newest_first in [false, true] {
                let keys = vec!["call-1".to_owned()];
                let filter = Filter { endpoint: Some(name("a")), keys, ..Filter::default() };
                assert_eq!(all_events(bench.journal(), &filter, newest_first, 1000).len(), 2);
            }
            assert_eq!(support::all_fresh(bench.journal(), &name("a"), EventId::MIN, 9).len(), 2);
            let key = KeyTag::of("call-1");
            assert_eq!(support::all_fresh_of_key(bench.journal(), &name("a"), key, 9).len(), 2);
            bench.settle_index();
        }
    });
}
