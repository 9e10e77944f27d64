//! Events: listed, shown whole, their raw bodies, replayed.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json, json_telling};
use super::select::{self, Of, Pairs};
use super::{
    AdminState, GET, POST, deliveries, histogram, json_body, only, query, respond, see_through, tags, wire, with,
};
use crate::core::event::Event;
use crate::core::id::EventId;

/// Attempts shown with one event, over all its deliveries; each delivery by itself shows more.
const ATTEMPTS_MAX: usize = 500;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("events").and(only(GET)).and(query()).and(with(state)).then(list);
    let shown = warp::path!("events" / String).and(only(GET)).and(with(state)).then(show);
    let raw = warp::path!("events" / String / "body").and(only(GET)).and(with(state)).then(body);
    let again = warp::path!("events" / String / "replay")
        .and(only(POST))
        .and(json_body::<wire::ReplayEvent>())
        .and(with(state))
        .then(replay);
    let counted =
        warp::path!("events" / "histogram").and(only(GET)).and(query()).and(with(state)).then(histogram::show);
    listed.or(counted).unify().or(shown).unify().or(raw).unify().or(again).unify().map(respond).boxed()
}

async fn list(parameters: Pairs, state: AdminState) -> Answer {
    let query = select::listing::<EventId>(Of::Events, parameters, state.engine.now())?;
    let page = state.engine.read(move |journal| select::page(query, |query| journal.events(query))).await?;
    let items = page.items.iter().map(wire::Event::listed).collect();
    Ok(json(StatusCode::OK, &wire::Page { items, next: page.next.map(|id| id.to_string()) }))
}

async fn show(id: String, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let found = state.engine.read(move |journal| {
        let Some(view) = journal.entry(id)? else { return Ok(None) };
        let event = journal.event(id)?;
        let mut room = ATTEMPTS_MAX;
        let shown = view.deliveries.iter().map(|delivery| deliveries::shown(journal, delivery, &mut room));
        let shown = shown.collect::<Result<Vec<_>, _>>()?;
        Ok(Some((wire::Event::shown(&view, event.as_deref(), shown), view.deliveries)))
    });
    let (mut event, deliveries) = found.await?.ok_or_else(missing)?;
    let waits = deliveries::waits(&state, &deliveries).await;
    for (shown, waits_for) in event.deliveries.iter_mut().flatten().zip(waits) {
        shown.waits_for = waits_for;
    }
    Ok(json(StatusCode::OK, &event))
}

async fn body(id: String, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let found =
        state.engine.read(move |journal| Ok((journal.entry(id)?.map(|view| view.has_payload), journal.event(id)?)));
    match found.await? {
        (_, Some(event)) => Ok(raw(&event)),
        (Some(false), None) => Err(Problem::new(StatusCode::GONE, "the event's body is no longer kept (retention)")),
        (Some(true), None) => {
            Err(Problem::new(StatusCode::GONE, "the event's record was damaged on disk; its body is lost"))
        }
        (None, None) => Err(missing()),
    }
}

/// The sender's bytes, marked so that no browser takes them for a page of ours.
fn raw(event: &Arc<Event>) -> Response {
    let sent = event.draft.headers.iter().find(|header| header.name == CONTENT_TYPE.as_str());
    let content_type = sent.and_then(|header| HeaderValue::from_bytes(&header.value).ok());
    let mut response = Response::new(event.draft.body.clone().into());
    let headers = response.headers_mut();
    let unknown = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(unknown));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(tags::of(&event.draft.body).map(|tag| (ETAG, tag)));
    response
}

async fn replay(id: String, asked: Result<wire::ReplayEvent, Problem>, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let wire::ReplayEvent { to, force } = asked?;
    let to = select::name("to", to.as_deref())?;
    let made = see_through(async move { state.engine.replay_event(id, to, force).await }).await?;
    let made = wire::Made::from(made);
    let told = made.told();
    Ok(json_telling(StatusCode::ACCEPTED, &made, told))
}

fn parse(id: &str) -> Result<EventId, Problem> {
    id.parse().map_err(|error| Problem::missing(&format!("there is no such event: {error}")))
}

fn missing() -> Problem {
    Problem::missing("there is no such event")
}
