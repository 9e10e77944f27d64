//! Imports: new events made of exported ones.
//!
//! Each line of an export becomes a new event of the source that is named: received now, with the original's type, key,
//! headers and body, and with the time at which the original happened or was received as the one at which it happened.
//! The original's id is its fingerprint, so the same line, of whatever file, makes no second event: an import that
//! broke off is simply done again. The event tells which original that was ([`Draft::original`]). It is routed nowhere unless that is asked for: then a replay can still send it.
//! What comes back says of every line what became of it, and nothing is counted before it is durable.

use std::str::FromStr as _;

use bytes::Bytes;
use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json_telling};
use super::select::{self, Pairs};
use super::{AdminState, POST, only, query, respond, wire, with};
use crate::core::event::{Draft, Header, KEY_LEN_MAX, TYPE_LEN_MAX, UNKNOWN_TYPE, cut};
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::engine::{Accepted, NotAccepted};

/// Makes an event of a source's name, headers and a body: untyped, without a key, and as yet no duplicate of anything.
pub type Importer = dyn Fn(&Name, Vec<Header>, Bytes) -> Result<Draft, String> + Send + Sync;

/// Most lines of one request.
pub const LINES_MAX: usize = 1000;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let import = warp::path!("events" / "import")
        .and(only(POST))
        .and(query())
        .and(warp::body::bytes())
        .and(with(state))
        .then(import);
    import.map(respond).boxed()
}

async fn import(parameters: Pairs, lines: Bytes, state: AdminState) -> Answer {
    let (source, route) = wanted(parameters)?;
    let refuse = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    (state.settings.load().import)(&source, Vec::new(), Bytes::new()).map_err(refuse)?;
    let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    if lines.len() > LINES_MAX {
        let detail = format!("there are {} lines; bring {LINES_MAX} at a time", lines.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let read: Vec<Result<Draft, String>> = lines.iter().map(|line| draft(&state, &source, line)).collect();
    let drafts = read.iter().filter_map(|read| read.as_ref().ok().cloned()).collect();
    let mut stored = state.engine.import(drafts, route).await.into_iter();
    let became = read.into_iter().map(|read| match read {
        Ok(_) => stored.next().map_or_else(|| not_now(&NotAccepted::Stopping), told),
        Err(why) => wire::Imported { outcome: "refused".into(), event: None, detail: Some(why) },
    });
    let imports = wire::Imports { items: became.collect() };
    let count = |outcome: &str| imports.items.iter().filter(|item| item.outcome == outcome).count();
    let summary = format!(
        "{} imported, {} duplicates, {} refused, {} not now",
        count("imported"),
        count("duplicate"),
        count("refused"),
        count("not_now")
    );
    Ok(json_telling(StatusCode::OK, &imports, summary))
}

fn wanted(parameters: Pairs) -> Result<(Name, bool), Problem> {
    let (mut source, mut route) = (None, None);
    for (name, value) in parameters {
        match name.as_str() {
            "source" => select::once(&mut source, &name, value)?,
            "route" => select::once(&mut route, &name, value)?,
            _ => return Err(Problem::parameter(&name, "is not known here; known are source and route")),
        }
    }
    let source = select::name("source", source.as_deref())?;
    let source = source.ok_or_else(|| Problem::parameter("source", "is missing: events are imported as one's"))?;
    Ok((source, route.map_or(Ok(false), |value| select::flag("route", &value))?))
}

/// The event in a line of an export, or what is wrong with it.
fn draft(state: &AdminState, source: &Name, line: &[u8]) -> Result<Draft, String> {
    let event: wire::ImportEvent =
        serde_json::from_slice(line).map_err(|error| format!("no exported event: {error}"))?;
    let original = EventId::from_str(&event.id).map_err(|error| format!("its `id` is no event's: {error}"))?;
    let time = |name: &str, text: &str| {
        Timestamp::parse_rfc3339(text).ok_or_else(|| format!("its `{name}` is no RFC 3339 time"))
    };
    let received_at = time("received_at", &event.received_at)?;
    let occurred_at = event.occurred_at.map(|text| time("occurred_at", &text)).transpose()?;
    let body = event.body.ok_or("it came without its body: the payload was not kept when it was exported")?;
    let body: Vec<u8> = body.try_into().map_err(|error| format!("its body is not base64: {error}"))?;
    if event.body_bytes.is_some_and(|bytes| bytes as usize != body.len()) {
        return Err(format!("its body has {} bytes, not what `body_bytes` says", body.len()));
    }
    let header = |(name, value): (String, wire::Octets)| {
        let value: Vec<u8> = value.try_into().map_err(|error| format!("its header `{name}` is not base64: {error}"))?;
        Ok(Header { name, value: value.into() })
    };
    let headers = event.headers.into_iter().map(header).collect::<Result<_, String>>()?;
    let event_type = Some(event.event_type).filter(|event_type| !event_type.is_empty());
    let key = event.key.filter(|key| !key.is_empty());
    let draft = Draft {
        event_type: cut(event_type.as_deref().unwrap_or(UNKNOWN_TYPE), TYPE_LEN_MAX).to_owned(),
        key: key.map(|key| cut(&key, KEY_LEN_MAX).to_owned()),
        occurred_at: Some(occurred_at.unwrap_or(received_at)),
        ..(state.settings.load().import)(source, headers, body.into())?
    };
    Ok(draft.copied_from(original))
}

fn told(stored: Result<Accepted, NotAccepted>) -> wire::Imported {
    match stored {
        Ok(Accepted { id, duplicate }) => {
            let outcome = if duplicate.is_some() { "duplicate" } else { "imported" };
            wire::Imported { outcome: outcome.into(), event: Some(id.to_string()), detail: None }
        }
        Err(why) => not_now(&why),
    }
}

fn not_now(why: &NotAccepted) -> wire::Imported {
    wire::Imported { outcome: "not_now".into(), event: None, detail: Some(why.to_string()) }
}
