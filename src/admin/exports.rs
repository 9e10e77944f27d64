//! Exports: events whole, with bodies, deliveries and attempts, as lines of JSON.
//!
//! An export comes in parts, each bounded by a count and by bytes, and each with a last line that says where the next
//! begins: so neither side holds more than a part, a slow reader holds nobody up, and an answer that broke off is
//! known by its end. Each part is of the moment it is read. The CLI puts the parts together, and reads a stopped
//! gateway's directory by the same [`part`].

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem};
use super::select::{self, Of, Pairs};
use super::{AdminState, GET, deliveries, only, query, respond, wire, with};
use crate::core::id::EventId;
use crate::core::timestamp::Timestamp;
use crate::journal::{EventView, Journal, JournalError, Query};

/// Bytes of lines at which a part ends; the last line may lead beyond.
const PART_BYTES: usize = 4 << 20;

/// A part of an export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// Its events, a line each.
    pub lines: Vec<u8>,
    /// How many, and how many of them without a payload.
    pub held: wire::ExportEnd,
    /// Where the next part begins; `None` at the end.
    pub next: Option<EventId>,
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let export = warp::path!("events" / "export").and(only(GET)).and(query()).and(with(state)).then(export);
    export.map(respond).boxed()
}

async fn export(parameters: Pairs, state: AdminState) -> Answer {
    let query = select::listing::<EventId>(Of::Events, parameters, state.engine.now())?;
    let Part { mut lines, held, next } = state.engine.read(move |journal| part(journal, query)).await?;
    line(&mut lines, &wire::ExportNext { next: next.map(|id| id.to_string()), part: held });
    let mut response = Response::new(lines.into());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What is asked for by a list's query parameters, as the routes read them; what is wrong with them, in words.
pub fn asked(parameters: &[(&str, String)], now: Timestamp) -> Result<Query<EventId>, String> {
    let pairs = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    select::listing(Of::Events, pairs, now).map_err(Problem::into_detail)
}

/// The part of an export that `query` asks for.
pub fn part(journal: &dyn Journal, query: Query<EventId>) -> Result<Part, JournalError> {
    let page = select::page(query, |query| journal.events(query))?;
    let mut part = Part { next: page.next, ..Part::default() };
    for (nth, view) in page.items.iter().enumerate() {
        add(journal, view, &mut part)?;
        if part.lines.len() >= PART_BYTES && nth + 1 < page.items.len() {
            part.next = Some(view.head.id);
            break;
        }
    }
    Ok(part)
}

fn add(journal: &dyn Journal, view: &EventView, part: &mut Part) -> Result<(), JournalError> {
    let event = journal.event(view.head.id)?;
    let mut room = usize::MAX;
    let shown = view.deliveries.iter().map(|delivery| deliveries::shown(journal, delivery, &mut room));
    let shown = shown.collect::<Result<Vec<_>, _>>()?;
    part.held.events += 1;
    part.held.without_payload += u64::from(event.is_none());
    line(&mut part.lines, &wire::Event::exported(view, event.as_deref(), shown));
    Ok(())
}

/// One line of an export.
pub fn line(lines: &mut Vec<u8>, value: &impl Serialize) {
    // The wire's types always serialize: their maps have text keys, and nothing in them can fail.
    lines.extend(serde_json::to_vec(value).unwrap_or_default());
    lines.push(b'\n');
}
