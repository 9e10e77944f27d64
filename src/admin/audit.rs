//! The audit of the running gateway: the ledger reconciled, of all time or of a time range.

use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::select::{self, Pairs};
use super::{AdminState, GET, only, query, respond, wire, with};
use crate::core::timestamp::Timestamp;
use crate::journal::audit::Span;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let audited = warp::path!("audit").and(only(GET)).and(query()).and(with(state)).then(audit);
    audited.map(respond).boxed()
}

async fn audit(parameters: Pairs, state: AdminState) -> Answer {
    let (mut since, mut until) = (None, None);
    for (name, value) in parameters {
        match name.as_str() {
            "since" => select::once(&mut since, &name, value)?,
            "until" => select::once(&mut until, &name, value)?,
            _ => return Err(Problem::parameter(&name, "is not known here; known are since and until")),
        }
    }
    let span = read_span(since.as_deref(), until.as_deref(), state.engine.now())?;
    let audit = state.engine.read(move |journal| journal.audit(span)).await?;
    Ok(json(StatusCode::OK, &wire::Audit::new(span, &audit)))
}

fn read_span(since: Option<&str>, until: Option<&str>, now: Timestamp) -> Result<Span, Problem> {
    Ok(Span { since: select::time("since", since, now)?, until: select::time("until", until, now)? })
}

/// The time range that these two mean at `now`, each an RFC 3339 time or a span before now; or what is wrong.
pub fn span(since: Option<&str>, until: Option<&str>, now: Timestamp) -> Result<Span, String> {
    read_span(since, until, now).map_err(Problem::into_detail)
}
