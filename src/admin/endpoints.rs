//! Endpoints: those of the config, and those that only the journal still knows; paused, and resumed.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::{AdminState, GET, POST, json_body, only, respond, see_through, wire, with};
use crate::core::endpoint::Endpoint;
use crate::core::name::Name;
use crate::core::scheduler::LaneView;
use crate::core::standing::Standing;
use crate::engine::Engine;
use crate::journal::Tally;

/// What is known of an endpoint: by the config, the journal and the scheduler.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By the config, if it has it.
    endpoint: Option<Arc<Endpoint>>,
    /// Absent for one that the config does not have, and while the gateway stops.
    pub(super) lane: Option<LaneView>,
    /// How it stands.
    pub(super) standing: Standing,
    /// How many of its deliveries stand where.
    pub(super) tally: Tally,
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("endpoints").and(only(GET)).and(with(state)).then(list);
    let shown = warp::path!("endpoints" / String).and(only(GET)).and(with(state)).then(show);
    let paused = warp::path!("endpoints" / String / "pause")
        .and(only(POST))
        .and(json_body::<wire::PauseEndpoint>())
        .and(with(state))
        .then(pause);
    let resumed = warp::path!("endpoints" / String / "resume").and(only(POST)).and(with(state)).then(resume);
    let tested = warp::path!("endpoints" / String / "test").and(only(POST)).and(with(state)).then(test);
    listed.or(shown).unify().or(tested).unify().or(paused).unify().or(resumed).unify().map(respond).boxed()
}

async fn list(state: AdminState) -> Answer {
    let items = known(&state).await?.iter().map(|(name, known)| known.to_wire(name)).collect();
    Ok(json(StatusCode::OK, &wire::Endpoints { items }))
}

async fn show(name: String, state: AdminState) -> Answer {
    let known = known(&state).await?;
    let found = known.get_key_value(name.as_str());
    let missing = || Problem::missing("neither the config nor the journal has such an endpoint");
    let (name, known) = found.ok_or_else(missing)?;
    Ok(json(StatusCode::OK, &known.to_wire(name)))
}

async fn pause(name: String, asked: Result<wire::PauseEndpoint, Problem>, state: AdminState) -> Answer {
    let (endpoint, wire::PauseEndpoint { note }) = (configured(&name, &state)?, asked?);
    let engine = state.engine.clone();
    see_through(async move { engine.pause(&endpoint, &note).await }).await?;
    show(name, state).await
}

async fn resume(name: String, state: AdminState) -> Answer {
    let endpoint = configured(&name, &state)?;
    let engine = state.engine.clone();
    see_through(async move { engine.resume(&endpoint).await }).await?;
    show(name, state).await
}

/// Sends an event of the gateway's own there, on the way of every event, and there only.
async fn test(name: String, state: AdminState) -> Answer {
    let endpoint = configured(&name, &state)?;
    let engine = state.engine.clone();
    let id = see_through(async move { engine.test(&endpoint).await }).await?;
    let deliveries = vec![wire::MadeDelivery { id: id.delivery(0).to_string(), endpoint: name }];
    Ok(json(StatusCode::ACCEPTED, &wire::Made { deliveries }))
}

/// The config's endpoint of this name: only what is sent to can be paused.
fn configured(name: &str, state: &AdminState) -> Result<Name, Problem> {
    let name = Name::new(name).ok().filter(|name| state.engine.endpoint(name).is_some());
    name.ok_or_else(|| Problem::missing("the config has no such endpoint"))
}

/// Every endpoint, by name.
pub(super) async fn known(state: &AdminState) -> Result<BTreeMap<Name, Known>, Problem> {
    let read = state.engine.read(|journal| Ok((journal.counters().endpoints, journal.standings())));
    let (tallies, standings) = read.await?;
    Ok(all(&state.engine, tallies, standings).await)
}

/// Every endpoint, by name, of which the journal says this.
pub(super) async fn all(
    engine: &Engine,
    tallies: BTreeMap<Name, Tally>,
    standings: Vec<(Name, Standing)>,
) -> BTreeMap<Name, Known> {
    let mut all: BTreeMap<Name, Known> = BTreeMap::new();
    for (name, tally) in tallies {
        all.entry(name).or_default().tally = tally;
    }
    for endpoint in engine.endpoints() {
        let name = endpoint.name.clone();
        all.entry(name).or_default().endpoint = Some(endpoint);
    }
    for (name, standing) in standings {
        all.entry(name).or_default().standing = standing;
    }
    for lane in engine.lanes().await {
        let known = all.entry(lane.endpoint.clone()).or_default();
        known.standing = lane.standing.clone();
        known.lane = Some(lane);
    }
    all
}

impl Known {
    fn to_wire(&self, name: &Name) -> wire::Endpoint {
        let Self { endpoint, lane, standing, tally } = self;
        wire::Endpoint::new(name, endpoint.as_deref(), lane.as_ref(), standing, tally)
    }
}
