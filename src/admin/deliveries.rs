//! Deliveries: listed (the failed ones unless asked otherwise), shown with their attempts, replayed, cancelled.

use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::select::{self, Of, Pairs};
use super::{AdminState, GET, POST, json_body, only, query, respond, see_through, wire, with};
use crate::core::delivery::Delivery;
use crate::core::id::DeliveryId;
use crate::journal::{Journal, JournalError};

/// Attempts shown with one delivery.
const ATTEMPTS_MAX: usize = 1000;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("deliveries").and(only(GET)).and(query()).and(with(state)).then(list);
    let shown = warp::path!("deliveries" / String).and(only(GET)).and(with(state)).then(show);
    let again = warp::path!("deliveries" / String / "replay")
        .and(only(POST))
        .and(json_body::<wire::ReplayDelivery>())
        .and(with(state))
        .then(replay);
    let cancelled = warp::path!("deliveries" / String / "cancel").and(only(POST)).and(with(state)).then(cancel);
    listed.or(shown).unify().or(again).unify().or(cancelled).unify().map(respond).boxed()
}

async fn list(parameters: Pairs, state: AdminState) -> Answer {
    let query = select::listing::<DeliveryId>(Of::Deliveries, parameters, state.engine.now())?;
    let page = state.engine.read(move |journal| select::page(query, |query| journal.deliveries(query))).await?;
    let listed = page.items.iter();
    let items = listed.map(|(head, delivery)| wire::Delivery { event: Some(head.into()), ..delivery.into() }).collect();
    Ok(json(StatusCode::OK, &wire::Page { items, next: page.next.map(|id| id.to_string()) }))
}

async fn show(id: String, state: AdminState) -> Answer {
    let delivery = find(&state, parse(&id)?).await?;
    Ok(json(StatusCode::OK, &delivery))
}

async fn replay(id: String, asked: Result<wire::ReplayDelivery, Problem>, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let wire::ReplayDelivery { force } = asked?;
    let made = see_through(async move { state.engine.replay_delivery(id, force).await }).await?;
    Ok(json(StatusCode::ACCEPTED, &wire::Made::from(made)))
}

async fn cancel(id: String, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let engine = state.engine.clone();
    see_through(async move { engine.cancel(id).await }).await?;
    let delivery = find(&state, id).await?;
    Ok(json(StatusCode::OK, &delivery))
}

/// The delivery with its event's head and its attempts.
async fn find(state: &AdminState, id: DeliveryId) -> Result<wire::Delivery, Problem> {
    let found = state.engine.read(move |journal| {
        let Some(view) = journal.entry(id.event)? else { return Ok(None) };
        let Some(delivery) = view.deliveries.iter().find(|delivery| delivery.id == id) else { return Ok(None) };
        let mut room = ATTEMPTS_MAX;
        let shown = shown(journal, delivery, &mut room)?;
        Ok(Some(wire::Delivery { event: Some((&view.head).into()), ..shown }))
    });
    found.await?.ok_or_else(|| Problem::missing("there is no such delivery"))
}

/// A delivery with its latest attempts, as many as there is room for; without any if there is none.
pub(super) fn shown(
    journal: &dyn Journal,
    delivery: &Delivery,
    room: &mut usize,
) -> Result<wire::Delivery, JournalError> {
    if *room == 0 {
        return Ok(delivery.into());
    }
    let attempts = journal.attempts(delivery.id)?;
    let latest = attempts.iter().skip(attempts.len().saturating_sub(*room));
    let attempts: Vec<wire::Attempt> = latest.map(wire::Attempt::from).collect();
    *room -= attempts.len();
    Ok(wire::Delivery { attempts: Some(attempts), ..delivery.into() })
}

fn parse(id: &str) -> Result<DeliveryId, Problem> {
    id.parse().map_err(|error| Problem::missing(&format!("there is no such delivery: {error}")))
}
