//! Replays: begun, listed, watched, stopped. The work itself goes on in the engine.

use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::select::{self, Of};
use super::{AdminState, GET, GET_OR_POST, POST, json_body, only, respond, see_through, wire, with};
use crate::core::id::ReplayId;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let all = warp::path!("replays").and(only(GET_OR_POST));
    let listed = all.clone().and(warp::get()).and(with(state)).then(list);
    let begun = all.and(warp::post()).and(json_body::<wire::OpenReplay>()).and(with(state)).then(open);
    let shown = warp::path!("replays" / String).and(only(GET)).and(with(state)).then(show);
    let cancelled = warp::path!("replays" / String / "cancel").and(only(POST)).and(with(state)).then(cancel);
    listed.or(begun).unify().or(shown).unify().or(cancelled).unify().map(respond).boxed()
}

async fn list(state: AdminState) -> Answer {
    let replays = state.engine.read(|journal| journal.replays()).await?;
    Ok(json(StatusCode::OK, &wire::Replays { items: replays.iter().map(wire::Replay::from).collect() }))
}

async fn open(asked: Result<wire::OpenReplay, Problem>, state: AdminState) -> Answer {
    let asked = asked?;
    let filter = select::filter(Of::Deliveries, &asked.filter, state.engine.now())?;
    let to = select::name("to", asked.to.as_deref())?;
    if asked.filter == wire::Selection::default() {
        let detail =
            "say what is meant: an empty filter would be every failed delivery, which is {\"status\": [\"failed\"]}";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let replay = see_through(async move { state.engine.open_replay(filter, to).await }).await?;
    Ok(json(StatusCode::ACCEPTED, &wire::Replay::from(&replay)))
}

async fn show(id: String, state: AdminState) -> Answer {
    let replay = find(&state, parse(&id)?).await?;
    Ok(json(StatusCode::OK, &replay))
}

async fn cancel(id: String, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let engine = state.engine.clone();
    see_through(async move { engine.cancel_replay(id).await }).await?;
    let replay = find(&state, id).await?;
    Ok(json(StatusCode::OK, &replay))
}

async fn find(state: &AdminState, id: ReplayId) -> Result<wire::Replay, Problem> {
    let replays = state.engine.read(|journal| journal.replays()).await?;
    let found = replays.iter().find(|replay| replay.id == id);
    found.map(wire::Replay::from).ok_or_else(|| Problem::missing("there is no such replay"))
}

fn parse(id: &str) -> Result<ReplayId, Problem> {
    id.parse().map_err(|error| Problem::missing(&format!("there is no such replay: {error}")))
}
