//! Totals: the running counters.

use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, json};
use super::{AdminState, GET, only, respond, wire, with};

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    warp::path!("counters").and(only(GET)).and(with(state)).then(counters).map(respond).boxed()
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
