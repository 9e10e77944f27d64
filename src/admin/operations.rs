//! Operations: what was done by whom, listed.

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::select::{self, Pairs};
use super::{AdminState, GET, only, query, respond, wire, with};
use crate::core::operation::{Ending, Operation};
use crate::core::timestamp::Timestamp;
use crate::journal::operations::{Kept, Wanted};

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("operations").and(only(GET)).and(query()).and(with(state)).then(list);
    listed.map(respond).boxed()
}

async fn list(parameters: Pairs, state: AdminState) -> Answer {
    let wanted = wanted(parameters, state.engine.now())?;
    let (kept, next) = state.register.list(wanted).await?;
    let items: Vec<wire::Operation> = kept.iter().map(wire::Operation::from).collect();
    Ok(json(StatusCode::OK, &wire::Page { items, next: next.map(|id| id.to_string()) }))
}

fn wanted(parameters: Pairs, now: Timestamp) -> Result<Wanted, Problem> {
    let [mut who, mut what, mut object, mut result] = [const { None }; 4];
    let [mut since, mut until, mut order, mut limit, mut cursor] = [const { None }; 5];
    for (name, value) in parameters {
        let slot = match name.as_str() {
            "who" => &mut who,
            "what" => &mut what,
            "object" => &mut object,
            "result" => &mut result,
            "since" => &mut since,
            "until" => &mut until,
            "order" => &mut order,
            "limit" => &mut limit,
            "cursor" => &mut cursor,
            _ => {
                let what = "is not known here; known are who, what, object, result, since, until, order, limit, cursor";
                return Err(Problem::parameter(&name, what));
            }
        };
        select::once(slot, &name, value)?;
    }
    let (newest_first, limit) = (select::newest_first(order.as_deref())?, select::limit(limit.as_deref())?);
    Ok(Wanted {
        who,
        what,
        object,
        ending: result.as_deref().map(ending).transpose()?,
        since: select::time("since", since.as_deref(), now)?,
        until: select::time("until", until.as_deref(), now)?,
        after: cursor.as_deref().map(select::cursor).transpose()?,
        newest_first,
        limit,
    })
}

fn ending(text: &str) -> Result<Ending, Problem> {
    Ending::from_name(text).ok_or_else(|| {
        let words = Ending::ALL.map(Ending::as_str).join(", ");
        Problem::parameter("result", &format!("is one of {words}"))
    })
}

impl From<&Kept> for wire::Operation {
    fn from(kept: &Kept) -> Self {
        let Kept { id, operation, outcome } = kept;
        let Operation { at, who, from, what, object, parameters, repeats } = operation;
        Self {
            id: id.to_string(),
            at: at.to_string(),
            who: who.as_ref().map(|who| who.name.clone()),
            token: who.as_ref().and_then(|who| who.token.clone()),
            role: who.as_ref().map(|who| who.role.as_str().into()),
            from: from.clone(),
            what: what.clone(),
            object: object.clone(),
            parameters: serde_json::from_str(parameters).unwrap_or_default(),
            result: Ending::of(outcome.as_ref()).as_str().into(),
            status: outcome.as_ref().map(|outcome| outcome.status),
            detail: outcome.as_ref().map(|outcome| outcome.detail.clone()).filter(|detail| !detail.is_empty()),
            ended_at: outcome.as_ref().map(|outcome| outcome.at.to_string()),
            repeats: *repeats,
        }
    }
}
