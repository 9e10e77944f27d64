//! The parameters of operations: what stands in paths, and what lists are asked for with.

use serde_json::{Value, json};

use super::operation::put;
use crate::admin::select::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::admin::wire::forms::{NAME, SPAN};
use crate::core::delivery::{Reason, Status};

/// 26 characters of an id.
const DIGITS: &str = "[0-7][0-9a-hjkmnp-tv-z]{25}";
/// A number of a delivery's slot.
const SLOT: &str = "(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

/// What the names in a path stand for.
pub(super) fn of_path(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| parameter("path", name, of_path_called(name).0, &of_path_called(name).1)).collect()
}

fn of_path_called(name: &str) -> (&'static str, Value) {
    let id = |prefix: &str| json!({ "type": "string", "pattern": format!("^{prefix}_{DIGITS}$") });
    match name {
        "event" => ("The event's id, `evt_…`.", id("evt")),
        "delivery" => ("The delivery's id, `dlv_…`.", json!({ "type": "string", "pattern": delivery() })),
        "replay" => ("The replay's id, `rpl_…`.", id("rpl")),
        "refusal" => ("The refused request's id, `ref_…`.", id("ref")),
        "key" => (
            "The key; what has a special meaning in a path is escaped with `%`.",
            json!({ "type": "string",
            "minLength": 1 }),
        ),
        "secret" => (
            "The secret that ends the source's path, where it has one.",
            json!({ "type": "string",
            "minLength": 1 }),
        ),
        "token" => ("What the token's holder is called.", json!({ "type": "string", "pattern": NAME })),
        "source" => ("The source's name.", json!({ "type": "string", "pattern": NAME })),
        _ => ("The endpoint's name.", json!({ "type": "string", "pattern": NAME })),
    }
}

fn delivery() -> String {
    format!("^dlv_{DIGITS}_{SLOT}$")
}

/// A part of a list, and which.
pub(super) fn page() -> Vec<Value> {
    vec![limit(), cursor(), order()]
}

pub(super) fn limit() -> Value {
    let schema = json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT });
    query("limit", "At most so many.", &schema)
}

pub(super) fn cursor() -> Value {
    query(
        "cursor",
        "Where the list goes on: the `next` of the page before.",
        &json!({ "type": "string", "minLength": 1 }),
    )
}

pub(super) fn order() -> Value {
    query("order", "Which come first.", &json!({ "enum": ["newest", "oldest"], "default": "newest" }))
}

/// Which events or deliveries are meant.
pub(super) fn selection() -> Vec<Value> {
    selection_standing(&statuses())
}

/// The same, of deliveries that stand in one of these ways.
pub(super) fn selection_standing(statuses: &[&str]) -> Vec<Value> {
    let ids = json!({ "type": "string", "pattern": format!("^(evt_{DIGITS}|dlv_{DIGITS}_{SLOT})$") });
    let ids = json!({ "type": "array", "items": ids, "minItems": 1, "maxItems": 1000 });
    let types = json!({ "type": "string", "minLength": 1 });
    let keys = json!({ "type": "array", "items": { "type": "string" }, "maxItems": 64 });
    let replay = json!({ "type": "string", "pattern": format!("^rpl_{DIGITS}$") });
    let superseded = "Also deliveries that a later one has taken the place of.";
    vec![
        name("endpoint", "Those to this endpoint."),
        name("source", "Those of this source."),
        listed("type", "Of any of these types; a trailing `*` is any ending.", &several(&types)),
        query("key", "With this key; may be given more than once.", &keys),
        listed("id", "Only these: `evt_…` with all its deliveries, or `dlv_…`.", &ids),
        listed("status", "With deliveries in any of these.", &several(&json!({ "enum": statuses }))),
        query("reason", "That stand where they stand for this reason.", &json!({ "enum": reasons() })),
        query(
            "group",
            "Whose last attempt failed like those of this failure group.",
            &json!({ "type": "string",
            "pattern": "^flg_[0-9a-f]{16}$" }),
        ),
        query("replay", "That this replay made.", &replay),
        time("since", "Received at or after this time, or within this span before now."),
        time("until", "Received before this time, or longer ago than this span."),
        time("occurred_since", "That happened then or later, by their own word or else by when they were received."),
        time("occurred_until", "That happened before then."),
        query("include_superseded", superseded, &json!({ "type": "boolean", "default": false })),
    ]
}

/// What of all that happens is told.
pub(super) fn following() -> Vec<Value> {
    let kinds = json!({ "enum": ["events", "attempts", "endpoints"] });
    let types = json!({ "type": "string", "minLength": 1 });
    let keys = json!({ "type": "array", "items": { "type": "string" }, "maxItems": 64 });
    vec![
        listed("what", "Only these kinds.", &several(&kinds)),
        name("endpoint", "What concerns this endpoint."),
        name("source", "Of events of this source."),
        listed("type", "Of events of any of these types; a trailing `*` is any ending.", &several(&types)),
        query("key", "Of events with this key; may be given more than once.", &keys),
        listed("status", "Attempts that leave their delivery so.", &several(&json!({ "enum": statuses() }))),
    ]
}

fn several(items: &Value) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1, "maxItems": 64 })
}

fn statuses() -> Vec<&'static str> {
    Status::ALL.map(Status::as_str).into_iter().chain(["failed"]).collect()
}

fn reasons() -> Vec<&'static str> {
    Reason::ALL.map(Reason::as_str).to_vec()
}

pub(super) fn name(name: &str, about: &str) -> Value {
    query(name, about, &json!({ "type": "string", "pattern": NAME }))
}

/// A time, or how long ago.
pub(super) fn time(name: &str, about: &str) -> Value {
    let schema = json!({ "anyOf": [
        { "type": "string", "format": "date-time", "pattern": "^(19[7-9][1-9]|2[0-9]{3})-", "examples": ["2026-01-31T12:00:00Z"] },
        { "type": "string", "pattern": SPAN, "examples": ["2h", "7d"] },
    ] });
    query(name, about, &schema)
}

pub(super) fn one_of(name: &str, about: &str, words: &[&str]) -> Value {
    query(name, about, &json!({ "enum": words }))
}

pub(super) fn flag(name: &str, about: &str) -> Value {
    query(name, about, &json!({ "type": "boolean", "default": false }))
}

pub(super) fn query(name: &str, about: &str, schema: &Value) -> Value {
    parameter("query", name, about, schema)
}

/// Values behind each other, with commas between.
fn listed(name: &str, about: &str, schema: &Value) -> Value {
    let mut parameter = query(name, about, schema);
    put(&mut parameter, "style", "form");
    put(&mut parameter, "explode", false);
    parameter
}

fn parameter(place: &str, name: &str, about: &str, schema: &Value) -> Value {
    json!({ "in": place, "name": name, "description": about, "required": place == "path", "schema": schema })
}

/// What a client calls its request.
pub(super) fn idempotency_key() -> Value {
    let about = "What the client calls this request: the same one again begins nothing more, and is answered with what it \
        began. Another request of the same name is refused.";
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~\\t]*[!-~][ -~\\t]*$" });
    parameter("header", "Idempotency-Key", about, &schema)
}

pub(super) fn if_none_match() -> Value {
    let about = "The `ETag` of an answer that the client has.";
    parameter("header", "If-None-Match", about, &json!({ "type": "string" }))
}
