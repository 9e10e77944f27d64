//! Totals: the running counters.

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, json};
use super::{AdminState, GET, only, respond, wire, with};
use crate::journal::Held;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    warp::path!("counters").and(only(GET)).and(with(state)).then(counters).map(respond).boxed()
}

async fn counters(state: AdminState) -> Answer {
    let read = state.engine.read(|journal| Ok((journal.counters(), journal.oldest()?)));
    let (counters, oldest) = read.await?;
    let held = |held: &Held| wire::Held { events: held.events, bytes: held.bytes, live_bytes: held.live_bytes };
    let lanes = state.engine.lanes().await;
    let turned_away = state.intake.counts();
    let parked = counters.endpoints.iter().filter(|(name, _)| state.engine.endpoint(name).is_none());
    let counters = wire::Counters {
        accepted: counters.accepted,
        unrouted: counters.unrouted,
        dropped: counters.dropped,
        sources: counters.sources.iter().map(|(name, it)| (name.to_string(), held(it))).collect(),
        oldest_received_at: oldest.map(|at| at.to_string()),
        freed_bytes: state.engine.freed_bytes(),
        damaged_bytes: counters.damaged_bytes,
        endpoints: counters.endpoints.iter().map(|(name, tally)| (name.to_string(), tally.into())).collect(),
        parked: parked.map(|(_, tally)| tally.scheduled + tally.retrying).sum(),
        in_flight: lanes.iter().map(|lane| lane.in_flight).sum(),
        started_at: state.started_at.to_string(),
        turned_away: turned_away.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
    };
    Ok(json(StatusCode::OK, &counters))
}
