//! Deliveries: listed (the failed ones unless asked otherwise), shown with their attempts and with what they wait
//! for, replayed, cancelled one by one or by filter.

use std::str::FromStr;

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json, json_telling};
use super::select::{self, Of, Pairs};
use super::{AdminState, GET, POST, json_body, only, query, respond, see_through, wire, with};
use crate::core::delivery::Delivery;
use crate::core::filter::Filter;
use crate::core::id::DeliveryId;
use crate::engine::{Engine, NotDone};
use crate::journal::{Journal, JournalError, Query};

/// Attempts shown with one delivery.
const ATTEMPTS_MAX: usize = 1000;
/// Deliveries cancelled at a time where many are.
const CANCEL_PAGE: usize = 1000;

/// What stands in a path where an id stands: anything but the word of the path beside it.
struct Id(String);

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "cancel" { Err(()) } else { Ok(Self(text.to_owned())) }
    }
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("deliveries").and(only(GET)).and(query()).and(with(state)).then(list);
    let shown = warp::path!("deliveries" / Id).and(only(GET)).and(with(state)).then(show);
    let again = warp::path!("deliveries" / String / "replay")
        .and(only(POST))
        .and(json_body::<wire::ReplayDelivery>())
        .and(with(state))
        .then(replay);
    let cancelled = warp::path!("deliveries" / String / "cancel").and(only(POST)).and(with(state)).then(cancel);
    let many_cancelled = warp::path!("deliveries" / "cancel")
        .and(only(POST))
        .and(json_body::<wire::CancelDeliveries>())
        .and(with(state))
        .then(cancel_many);
    let one = shown.or(again).unify().or(cancelled).unify();
    listed.or(many_cancelled).unify().or(one).unify().map(respond).boxed()
}

async fn list(mut parameters: Pairs, state: AdminState) -> Answer {
    let parked = select::parked(&mut parameters)?;
    let of = if parked { Of::Waiting } else { Of::Deliveries };
    let query = select::listing::<DeliveryId>(of, parameters, state.engine.now())?;
    let engine = state.engine.clone();
    let scan = move |journal: &dyn Journal| {
        select::page(query, |query| {
            let mut page = journal.deliveries(query)?;
            page.items.retain(|(_, delivery)| !parked || engine.endpoint(&delivery.endpoint).is_none());
            Ok(page)
        })
    };
    let page = state.engine.read(scan).await?;
    let waits = waits(&state, page.items.iter().map(|(_, delivery)| delivery)).await;
    let listed = page.items.iter().zip(waits);
    let items = listed.map(|((head, delivery), waits_for)| wire::Delivery {
        event: Some(head.into()),
        waits_for,
        ..delivery.into()
    });
    let items = items.collect();
    Ok(json(StatusCode::OK, &wire::Page { items, next: page.next.map(|id| id.to_string()) }))
}

async fn show(Id(id): Id, state: AdminState) -> Answer {
    let delivery = find(&state, parse(&id)?).await?;
    Ok(json(StatusCode::OK, &delivery))
}

async fn replay(id: String, asked: Result<wire::ReplayDelivery, Problem>, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let wire::ReplayDelivery { force } = asked?;
    let made = see_through(async move { state.engine.replay_delivery(id, force).await }).await?;
    let made = wire::Made::from(made);
    let told = made.told();
    Ok(json_telling(StatusCode::ACCEPTED, &made, told))
}

async fn cancel(id: String, state: AdminState) -> Answer {
    let id = parse(&id)?;
    let engine = state.engine.clone();
    see_through(async move { engine.cancel(id).await }).await?;
    let delivery = find(&state, id).await?;
    Ok(json(StatusCode::OK, &delivery))
}

async fn cancel_many(asked: Result<wire::CancelDeliveries, Problem>, state: AdminState) -> Answer {
    let asked = asked?.filter;
    let filter = select::filter(Of::Waiting, &asked, state.engine.now())?;
    // That one narrows nothing.
    if (wire::Selection { include_superseded: false, ..asked }) == wire::Selection::default() {
        let detail = "say what is meant: an empty filter would be everything that waits, which is \
                      {\"status\": [\"scheduled\", \"retrying\"]}";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let cancelled = see_through(cancel_all(state.engine, filter)).await?;
    let told = format!("{} cancelled, {} on their way", cancelled.cancelled, cancelled.in_flight);
    Ok(json_telling(StatusCode::OK, &cancelled, told))
}

/// Page by page, newest first: what comes meanwhile is not meant.
async fn cancel_all(engine: Engine, filter: Filter) -> Result<wire::Cancelled, NotDone> {
    let mut all = wire::Cancelled { cancelled: 0, in_flight: 0 };
    let mut query = Query { filter, after: None, newest_first: true, limit: CANCEL_PAGE };
    loop {
        let page = engine.cancel_page(query.clone()).await?;
        all.cancelled += page.cancelled;
        all.in_flight += page.in_flight;
        if page.next.is_none() {
            return Ok(all);
        }
        query.after = page.next;
    }
}

/// The delivery with its event's head and its attempts.
async fn find(state: &AdminState, id: DeliveryId) -> Result<wire::Delivery, Problem> {
    let found = state.engine.read(move |journal| {
        let Some(view) = journal.entry(id.event)? else { return Ok(None) };
        let Some(delivery) = view.deliveries.into_iter().find(|delivery| delivery.id == id) else { return Ok(None) };
        let mut room = ATTEMPTS_MAX;
        let shown = shown(journal, &delivery, &mut room)?;
        Ok(Some((wire::Delivery { event: Some((&view.head).into()), ..shown }, delivery)))
    });
    let (shown, delivery) = found.await?.ok_or_else(|| Problem::missing("there is no such delivery"))?;
    let waits_for = waits(state, [&delivery]).await.into_iter().next().flatten();
    Ok(wire::Delivery { waits_for, ..shown })
}

/// What each of these deliveries waits for, in their order; `None` for one that has ended.
pub(super) async fn waits<'a>(
    state: &AdminState,
    deliveries: impl IntoIterator<Item = &'a Delivery>,
) -> Vec<Option<wire::WaitsFor>> {
    let deliveries: Vec<&Delivery> = deliveries.into_iter().collect();
    let waiting: Vec<Delivery> =
        deliveries.iter().filter(|delivery| !delivery.state.is_terminal()).map(|&delivery| delivery.clone()).collect();
    let said = if waiting.is_empty() { vec![] } else { state.engine.waits(waiting).await };
    let mut said = said.into_iter();
    let wait = |delivery: &Delivery| match state.engine.endpoint(&delivery.endpoint) {
        _ if delivery.state.is_terminal() => None,
        Some(_) => said.next().flatten().map(wire::WaitsFor::from),
        None => {
            said.next();
            Some(wire::WaitsFor::parked(delivery))
        }
    };
    deliveries.into_iter().map(wait).collect()
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
