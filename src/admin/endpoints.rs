//! Endpoints: those of the config, and those that only the journal still knows.

use std::collections::BTreeMap;

use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::{AdminState, GET, only, respond, wire, with};
use crate::core::name::Name;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("endpoints").and(only(GET)).and(with(state)).then(list);
    let shown = warp::path!("endpoints" / String).and(only(GET)).and(with(state)).then(show);
    listed.or(shown).unify().map(respond).boxed()
}

async fn list(state: AdminState) -> Answer {
    let items = all(&state).await?.into_values().collect();
    Ok(json(StatusCode::OK, &wire::Endpoints { items }))
}

async fn show(name: String, state: AdminState) -> Answer {
    let found = all(&state).await?.remove(name.as_str());
    let endpoint = found.ok_or_else(|| Problem::missing("neither the config nor the journal has such an endpoint"))?;
    Ok(json(StatusCode::OK, &endpoint))
}

async fn all(state: &AdminState) -> Result<BTreeMap<Name, wire::Endpoint>, Problem> {
    let tallies = state.engine.read(|journal| Ok(journal.counters())).await?.endpoints;
    let lanes = state.engine.lanes().await;
    let former = tallies.iter().map(|(name, tally)| (name.clone(), wire::Endpoint::former(name, tally)));
    let mut endpoints: BTreeMap<Name, wire::Endpoint> = former.collect();
    for endpoint in state.engine.endpoints() {
        let lane = lanes.iter().find(|lane| lane.endpoint == endpoint.name);
        let tally = tallies.get(&endpoint.name).copied().unwrap_or_default();
        endpoints.insert(endpoint.name.clone(), wire::Endpoint::configured(endpoint, lane, &tally));
    }
    Ok(endpoints)
}
