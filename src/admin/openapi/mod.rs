//! The description of the API (OpenAPI 3.1), at `/openapi.json`: every route, what it takes and what it says.
//!
//! Put together once, of three things that cannot drift apart unseen: the table of routes ([`super::access`]) gives
//! methods, paths and roles; the types of [`wire`](super::wire) give the schemas, their comments the words; the files
//! here, one a noun, give the rest. A route without a description, or the other way round, is a failing test. It is
//! told to everybody who asks: it holds nothing but what the source code holds, and a client has to be written before
//! it has a token. Absent: the dashboard's files, which are no API.

mod config;
mod deliveries;
mod endpoints;
mod events;
mod gateway;
mod ingest;
mod operation;
mod operators;
mod parameters;
mod refusals;
mod replays;
mod schemas;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::access::{ROUTES, Route};
use super::problem::{Answer, json_bytes};
use super::{AdminState, GET, only, respond};
use operation::Operation;
use schemas::Schemas;

/// What it says of itself.
const ABOUT: &str = "What operators ask of a backstop gateway, on the admin listener; and where events are posted, on \
    the ingest listener.\n\n\
    **Who asks.** A request shows a token, `Authorization: Bearer bst_…`; a browser shows it once and then has a session. \
    A token has a role: `read` looks (bodies included), `operate` also changes what becomes of events, `admin` also says \
    who may do what. `x-required-role` says what each operation takes.\n\n\
    **Lists** come in pages: `limit` items at most, and a `next` that is the `cursor` of the page behind it, or `null` at \
    the end. A page may be short or empty although there is a next one.\n\n\
    **Problems** are `application/problem+json` (RFC 9457) with the type `about:blank`: the status says what kind it is, \
    `detail` what to do, `parameter` which parameter or field is wrong. What is misspelt is refused, not ignored.\n\n\
    **The same again.** Answers to looking have an `ETag`; `If-None-Match` with it is answered by 304 while nothing has \
    changed. What begins a replay takes an `Idempotency-Key`, so that it can be asked for again after a broken \
    connection.\n\n\
    Times are RFC 3339 in UTC, durations whole milliseconds. Fields and words may be added: ignore what you do not know.";

const TAGS: &[(&str, &str)] = &[
    ("ingest", "Where events are posted: on the ingest listener."),
    ("events", "What was accepted. Immutable; a key's events are its story (a call's, for instance)."),
    ("deliveries", "One event to one endpoint: what has a state, and failed or waits."),
    ("replays", "Old events delivered again: planned, tried, begun, watched, stopped."),
    ("endpoints", "Where deliveries go: how each stands, paused and resumed."),
    ("refusals", "Requests that became no event, and can be taken in after all."),
    ("gateway", "How all of it stands: totals, the audit, the disk, metrics, health."),
    ("config", "What the gateway goes by, and having it read again."),
    ("operators", "Who may do what, and what was done by whom."),
];

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let site = Listens { port: state.site.ingest.port(), cookie: state.sessions.cookie().to_owned() };
    // It always serializes: its maps have text keys, and nothing in it can fail.
    let text = Bytes::from(serde_json::to_vec(&document(&site)).unwrap_or_default());
    warp::path!("openapi.json").and(only(GET)).map(move || show(text.clone())).map(respond).boxed()
}

fn show(text: Bytes) -> Answer {
    Ok(json_bytes(StatusCode::OK, "application/json", text))
}

/// Describes a noun's operations.
type Described = fn(&mut Schemas) -> Vec<Operation>;

/// What differs from gateway to gateway.
struct Listens {
    /// Of the ingest listener.
    port: u16,
    /// What the cookie of a session is called.
    cookie: String,
}

fn document(site: &Listens) -> Value {
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations(&mut schemas) {
        let role = route(&operation).and_then(|route| route.role);
        let (path, method, written) = operation.written(role);
        let is_ingest = path.starts_with("/in/");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        if is_ingest {
            operation::put(item, "servers", json!([ingest::server(site.port)]));
        }
        operation::put(item, &method.as_str().to_ascii_lowercase(), written);
    }
    let tags: Vec<Value> = TAGS.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "backstop",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The admin listener." }],
        "security": [{ "token": [] }, { "session": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "bst_…",
                    "description": "The first one is in the admin token file; more are made by `POST /api/v1/tokens`." },
                "session": { "type": "apiKey", "in": "cookie", "name": site.cookie,
                    "description": "Of a browser, from `POST /api/v1/session`. What changes something wants the header \
                        `X-Backstop` besides, and to come from the gateway's own pages." },
            },
            "headers": operation::headers(),
            "responses": operation::refusals(),
            "schemas": schemas.components(),
        },
    })
}

/// Everything that is described, noun by noun.
fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let nouns: [(&str, Described); 9] = [
        ("ingest", ingest::described),
        ("events", events::described),
        ("deliveries", deliveries::described),
        ("replays", replays::described),
        ("endpoints", endpoints::described),
        ("refusals", refusals::described),
        ("gateway", gateway::described),
        ("config", config::described),
        ("operators", operators::described),
    ];
    nouns
        .into_iter()
        .flat_map(|(tag, described)| {
            let operations = described(schemas);
            operations.into_iter().map(move |operation| operation.tagged(tag))
        })
        .collect()
}

/// What the table of routes says of an operation; nothing of those of the ingest listener.
fn route(operation: &Operation) -> Option<&'static Route> {
    let path = operation.nameless_path();
    ROUTES.iter().find(|route| route.method == operation.method && route.path == path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn whole() -> Value {
        document(&Listens { port: 8080, cookie: "backstop_8081".to_owned() })
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let table: BTreeSet<(String, String)> =
            ROUTES.iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
        let described = operations(&mut Schemas::default());
        let described: Vec<(String, String)> = described
            .iter()
            .map(|operation| (operation.method.to_string(), operation.nameless_path()))
            .filter(|(_, path)| !path.starts_with("/in/"))
            .collect();
        let once: BTreeSet<(String, String)> = described.iter().cloned().collect();
        assert_eq!(once.len(), described.len(), "an operation is described twice");
        let lacking: Vec<_> = table.difference(&once).collect();
        assert!(lacking.is_empty(), "describe these in src/admin/openapi: {lacking:?}");
        let beyond: Vec<_> = once.difference(&table).collect();
        assert!(beyond.is_empty(), "src/admin/access.rs has no such routes: {beyond:?}");
    }

    #[test]
    fn roles_are_those_of_the_table() {
        let document = whole();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "servers") {
                let found = ROUTES.iter().find(|route| {
                    route.method.as_str().eq_ignore_ascii_case(method) && route.path == operation::nameless(path)
                });
                match found.and_then(|route| route.role) {
                    Some(role) => assert_eq!(operation["x-required-role"], role.as_str(), "{method} {path}"),
                    None => assert_eq!(operation["security"], json!([]), "{method} {path}"),
                }
            }
        }
    }

    /// Whatever is referred to is there, and whatever is there is referred to.
    #[test]
    fn references_lead_somewhere() {
        let document = whole();
        let mut wanted = BTreeSet::new();
        fn walk(value: &Value, wanted: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                        wanted.insert(to.to_owned());
                    }
                    fields.values().for_each(|value| walk(value, wanted));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, wanted)),
                _ => {}
            }
        }
        walk(&document, &mut wanted);
        for to in &wanted {
            let place = to.strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{to} leads nowhere");
        }
        for kind in ["schemas", "responses", "headers"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let to = format!("#/components/{kind}/{name}");
                assert!(wanted.contains(&to), "{to} is not used");
            }
        }
    }

    #[test]
    fn everything_is_called_by_a_name_of_its_own_and_says_what_it_is() {
        let document = whole();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "servers") {
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
                assert!(operation["summary"].as_str().unwrap().ends_with('.'), "{method} {path}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert!(!parameter["description"].as_str().unwrap().is_empty(), "{method} {path}: {parameter}");
                }
            }
        }
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{name} says nothing");
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                let text = schema.to_string();
                assert!(text.contains("description") || text.contains("const"), "{name}.{field} says nothing");
                assert!(!text.contains("[`"), "{name}.{field} has a link of the source code's own");
            }
        }
    }
}
