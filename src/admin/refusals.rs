//! Refused requests: listed, shown whole, and taken in after all once what was wrong is put right.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::Mutex;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json, json_telling};
use super::select::{self, Pairs};
use super::{AdminState, GET, POST, json_body, only, query, respond, see_through, wire, with};
use crate::core::event::{Draft, Header};
use crate::core::id::RefusalId;
use crate::core::name::Name;
use crate::core::refused::Why;
use crate::core::timestamp::Timestamp;
use crate::journal::JournalError;
use crate::journal::refused::{Kept, Refusals, Wanted};

/// Reads a request by its source's rules, or says what is wrong with it.
pub type Reader = dyn Fn(&Name, Vec<Header>, Bytes) -> Result<Draft, String> + Send + Sync;

/// What was refused, and the way to take it in again.
pub struct Readmission {
    refusals: Refusals,
    /// Or two who ask at a time would make two events of one request.
    one_at_a_time: Mutex<()>,
}

impl Readmission {
    /// Takes in what `refusals` keeps.
    #[must_use]
    pub fn new(refusals: Refusals) -> Self {
        Self { refusals, one_at_a_time: Mutex::default() }
    }

    /// Refused requests that were not kept since the process began.
    pub(super) fn lost(&self) -> u64 {
        self.refusals.lost()
    }
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("refusals").and(only(GET)).and(query()).and(with(state)).then(list);
    let shown = warp::path!("refusals" / String).and(only(GET)).and(with(state)).then(show);
    let taken = warp::path!("refusals" / String / "ingest")
        .and(only(POST))
        .and(json_body::<wire::IngestRefusal>())
        .and(with(state))
        .then(ingest);
    listed.or(shown).unify().or(taken).unify().map(respond).boxed()
}

async fn list(parameters: Pairs, state: AdminState) -> Answer {
    let wanted = wanted(parameters, state.engine.now())?;
    let (kept, next) = read(&state, move |refusals| Ok(refusals.list(&wanted))).await?;
    let items: Vec<wire::Refusal> = kept.iter().map(wire::Refusal::listed).collect();
    Ok(json(StatusCode::OK, &wire::Page { items, next: next.map(|id| id.to_string()) }))
}

async fn show(id: String, state: AdminState) -> Answer {
    let kept = find(&state, parse(&id)?).await?;
    Ok(json(StatusCode::OK, &wire::Refusal::shown(&kept)))
}

/// Sees it through even if the one who asked hangs up: an event must not be there without it being noted.
async fn ingest(id: String, asked: Result<wire::IngestRefusal, Problem>, state: AdminState) -> Answer {
    let (id, wire::IngestRefusal { force }) = (parse(&id)?, asked?);
    let kept = see_through(async move { take_in(id, force, &state).await }).await?;
    let told = kept.became.map(|event| event.to_string()).unwrap_or_default();
    Ok(json_telling(StatusCode::ACCEPTED, &wire::Refusal::listed(&kept), told))
}

async fn take_in(id: RefusalId, force: bool, state: &AdminState) -> Result<Kept, Problem> {
    let _one_at_a_time = state.refused.one_at_a_time.lock().await;
    let kept = find(state, id).await?;
    if let Some(event) = kept.became.filter(|_| !force) {
        let detail = format!("{event} was made of it already; use force to make another");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    if !kept.whole {
        return Err(unprocessable("only its beginning was kept, or nothing: there is no event to be made of it"));
    }
    let refused = kept.refused.clone();
    let read = (state.settings.load().read)(&refused.source, refused.headers, refused.body);
    let draft = read.map_err(|why| unprocessable(&format!("it would be refused again: {why}")))?;
    let draft = if force { Draft { dedup: None, ..draft } } else { draft };
    let accepted = state.engine.accept(draft).await?;
    if accepted.duplicate.is_some() {
        let detail = format!("the same event is there already, as {}; use force to make another", accepted.id);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let noted = read_blocking(state, move |refusals| refusals.taken_in(id, accepted.id)).await;
    if let Err(error) = noted {
        tracing::warn!(%id, event = %accepted.id, %error, "an event was made of a refused request; it cannot be noted");
    }
    Ok(Kept { became: Some(accepted.id), ..kept })
}

async fn find(state: &AdminState, id: RefusalId) -> Result<Kept, Problem> {
    let kept = read(state, move |refusals| refusals.get(id)).await?;
    kept.ok_or_else(|| Problem::missing("there is no such refused request; only the latest are kept"))
}

async fn read<T: Send + 'static>(
    state: &AdminState,
    read: impl FnOnce(&Refusals) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, Problem> {
    Ok(read_blocking(state, read).await?)
}

async fn read_blocking<T: Send + 'static>(
    state: &AdminState,
    read: impl FnOnce(&Refusals) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let desk = Arc::clone(&state.refused);
    let reading = tokio::task::spawn_blocking(move || read(&desk.refusals));
    reading.await.unwrap_or_else(|error| Err(JournalError::Failed(error.to_string())))
}

fn wanted(parameters: Pairs, now: Timestamp) -> Result<Wanted, Problem> {
    let [mut source, mut reason, mut since, mut until, mut order, mut limit, mut cursor] = [const { None }; 7];
    for (name, value) in parameters {
        let slot = match name.as_str() {
            "source" => &mut source,
            "reason" => &mut reason,
            "since" => &mut since,
            "until" => &mut until,
            "order" => &mut order,
            "limit" => &mut limit,
            "cursor" => &mut cursor,
            _ => {
                let what = "is not known here; known are source, reason, since, until, order, limit and cursor";
                return Err(Problem::parameter(&name, what));
            }
        };
        select::once(slot, &name, value)?;
    }
    let (newest_first, limit) = (select::newest_first(order.as_deref())?, select::limit(limit.as_deref())?);
    Ok(Wanted {
        source: select::name("source", source.as_deref())?,
        why: reason.as_deref().map(why).transpose()?,
        since: select::time("since", since.as_deref(), now)?,
        until: select::time("until", until.as_deref(), now)?,
        after: cursor.as_deref().map(select::cursor).transpose()?,
        newest_first,
        limit,
    })
}

fn why(text: &str) -> Result<Why, Problem> {
    Why::from_name(text).ok_or_else(|| {
        let words = Why::ALL.map(Why::as_str).join(", ");
        Problem::parameter("reason", &format!("is one of {words}"))
    })
}

fn parse(id: &str) -> Result<RefusalId, Problem> {
    id.parse().map_err(|error| Problem::missing(&format!("there is no such refused request: {error}")))
}

fn unprocessable(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}
