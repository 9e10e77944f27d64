//! Totals: the running counters, and the audit that holds them against what is stored.

use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, json};
use super::{AdminState, GET, only, respond, wire, with};
use crate::core::name::Name;
use crate::journal::{Counters, Tally};

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let counted = warp::path!("counters").and(only(GET)).and(with(state)).then(counters);
    let audited = warp::path!("audit").and(only(GET)).and(with(state)).then(audit);
    counted.or(audited).unify().map(respond).boxed()
}

async fn counters(state: AdminState) -> Answer {
    let counters = state.engine.read(|journal| Ok(journal.counters())).await?;
    let lanes = state.engine.lanes().await;
    let turned_away = state.intake.counts();
    let counters = wire::Counters {
        accepted: counters.accepted,
        unrouted: counters.unrouted,
        endpoints: counters.endpoints.iter().map(|(name, tally)| (name.to_string(), tally.into())).collect(),
        in_flight: lanes.iter().map(|lane| lane.in_flight).sum(),
        started_at: state.started_at.to_string(),
        turned_away: turned_away.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
    };
    Ok(json(StatusCode::OK, &counters))
}

async fn audit(state: AdminState) -> Answer {
    let counted = state.engine.read(|journal| Ok((journal.counters(), journal.recount()?, journal.counters())));
    let (before, recount, after) = counted.await?;
    Ok(json(StatusCode::OK, &compare(&before, &recount, &after)))
}

/// Holds a recount against the counters just before and just after it.
///
/// Traffic may go on meanwhile. Counts that only grow must then lie between the two; the others are
/// compared where nothing moved, and in any case the statuses must add up.
fn compare(before: &Counters, recount: &Counters, after: &Counters) -> wire::Audit {
    let exact = before == after;
    let mut differences = Vec::new();
    let mut note = |endpoint: Option<&Name>, count: &str, counter, recount| {
        let endpoint = endpoint.map(Name::to_string);
        differences.push(wire::Difference { endpoint, count: count.to_owned(), counter, recount });
    };
    for (count, of) in EVENT_COUNTS {
        if !(of(before)..=of(after)).contains(&of(recount)) {
            note(None, count, of(after), of(recount));
        }
    }
    let mut names: Vec<&Name> = recount.endpoints.keys().chain(after.endpoints.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let [before, recount, after] = [before, recount, after].map(|counters| tally(counters, name));
        for (count, grows_only, of) in DELIVERY_COUNTS {
            let comparable = exact || grows_only;
            if comparable && !(of(&before)..=of(&after)).contains(&of(&recount)) {
                note(Some(name), count, of(&after), of(&recount));
            }
        }
        if !recount.reconciles() || !after.reconciles() {
            note(Some(name), "sum", sum(&after), sum(&recount));
        }
    }
    let deliveries = recount.endpoints.values().map(|tally| tally.routed + tally.replayed).sum();
    wire::Audit { ok: differences.is_empty(), exact, events: recount.accepted, deliveries, differences }
}

/// A count of events: its name and where it is. All of them only grow.
type EventCount = (&'static str, fn(&Counters) -> u64);
/// A count of deliveries: its name, whether it only grows, where it is.
type DeliveryCount = (&'static str, bool, fn(&Tally) -> u64);

const EVENT_COUNTS: [EventCount; 2] =
    [("accepted", |counters| counters.accepted), ("unrouted", |counters| counters.unrouted)];

const DELIVERY_COUNTS: [DeliveryCount; 10] = [
    ("routed", true, |tally| tally.routed),
    ("replayed", true, |tally| tally.replayed),
    ("attempts", true, |tally| tally.attempts),
    ("scheduled", false, |tally| tally.scheduled),
    ("retrying", false, |tally| tally.retrying),
    ("delivered", true, |tally| tally.delivered),
    ("dead", true, |tally| tally.dead),
    ("failed", false, |tally| tally.failed),
    ("cancelled", true, |tally| tally.cancelled),
    ("expired", true, |tally| tally.expired),
];

fn tally(counters: &Counters, endpoint: &Name) -> Tally {
    counters.endpoints.get(endpoint).copied().unwrap_or_default()
}

/// Deliveries by status; in a sound tally as many as were made.
fn sum(tally: &Tally) -> u64 {
    crate::core::delivery::Status::ALL.into_iter().map(|status| tally.of(status)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(delivered: u64, scheduled: u64) -> Counters {
        let tally = Tally { routed: delivered + scheduled, delivered, scheduled, ..Tally::default() };
        let endpoints = [(Name::new("crm").unwrap(), tally)].into();
        Counters { accepted: delivered + scheduled, endpoints, ..Counters::default() }
    }

    #[test]
    fn a_quiet_gateway_is_compared_count_by_count() {
        let audit = compare(&counters(3, 1), &counters(3, 1), &counters(3, 1));
        assert!(audit.ok && audit.exact, "{audit:?}");
        assert_eq!((audit.events, audit.deliveries), (4, 4));
        let audit = compare(&counters(3, 1), &counters(2, 2), &counters(3, 1));
        let differing: Vec<&str> = audit.differences.iter().map(|difference| difference.count.as_str()).collect();
        assert_eq!(differing, ["scheduled", "delivered"]);
        assert!(!audit.ok);
    }

    #[test]
    fn traffic_meanwhile_is_no_difference_but_a_loss_is() {
        assert!(compare(&counters(3, 1), &counters(4, 1), &counters(5, 0)).ok);
        let lost = compare(&counters(3, 1), &counters(2, 1), &counters(5, 0));
        let differing: Vec<&str> = lost.differences.iter().map(|difference| difference.count.as_str()).collect();
        assert_eq!(differing, ["accepted", "routed", "delivered"]);
    }

    #[test]
    fn statuses_that_do_not_add_up_are_a_difference() {
        let mut unsound = counters(3, 1);
        unsound.endpoints.values_mut().for_each(|tally| tally.routed += 1);
        let audit = compare(&unsound, &unsound, &unsound);
        assert_eq!(audit.differences.len(), 1, "{audit:?}");
        assert_eq!(audit.differences[0].count, "sum");
    }
}
