//! The way in, described: it is on the other listener, and this is the only place where the admin API speaks of it.

use serde_json::{Value, json};

use super::operation::Operation;
use super::schemas::Schemas;

const PROBLEM: &str = "application/problem+json";
/// What is said there is said by its own problems, which have no type: `about:blank` is meant.
const STATUSES: &[(u16, &str)] = &[
    (400, "The body broke off."),
    (401, "It is not from who the source says may send: the signature or credential is wrong, missing or too old."),
    (403, "It is not from who the source says may send: the address, or a word that was to be said, is wrong."),
    (404, "There is no such source."),
    (408, "The body took too long to arrive."),
    (413, "The body is larger than the source's cap; `body_max_bytes` says how large it may be."),
    (422, "A strict source cannot read it; `field` says what it looked for."),
    (429, "More came than the rate allows."),
    (431, "The headers are larger than what is kept of them."),
    (503, "It could not be stored; nothing was. Send it again."),
];

/// Where events are posted.
pub(super) fn server(port: u16) -> Value {
    json!({
        "url": "{scheme}://{host}:{port}",
        "description": "The ingest listener.",
        "variables": {
            "scheme": { "enum": ["http", "https"], "default": "http", "description": "`https` if it has a certificate." },
            "host": { "default": "localhost", "description": "As senders reach it." },
            "port": { "default": port.to_string(), "description": "As the gateway listens; a proxy may have another." },
        },
    })
}

pub(super) fn described(_: &mut Schemas) -> Vec<Operation> {
    let paths = [
        ("/in/{source}", "postEvent", "greet", "Posts an event."),
        ("/in/{source}/{secret}", "postEventWithSecret", "greetWithSecret", "Posts an event to a path with a secret."),
    ];
    let each = |(path, post, greet, summary)| {
        let asked = Operation::get(path, greet, "Answers what a provider asks before it sends.")
            .about("Of sources with such a handshake, by `GET`; others answer 405.")
            .sends(200, "What it wants to hear.", "text/plain", &json!({ "schema": { "type": "string" } }));
        [posted(path, post, summary), refused(asked).sends(405, "This source has none.", PROBLEM, &problem())]
    };
    paths.into_iter().flat_map(each).collect()
}

fn posted(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    let body = json!({ "schema": {}, "example": { "event_type": "call_ended", "call_id": "call_1" } });
    let said = json!({ "schema": { "type": "object", "properties": { "id": { "type": "string",
        "description": "The event's, `evt_…`." } } } });
    let duplicate = json!({ "description": "`true` if the same event was there already; the id is the first one's.",
        "schema": { "const": "true" } });
    let posted = Operation::post(path, id, summary)
        .about(
            "Any body of any kind, kept byte for byte. Who may send, and how type, key and time are read, the source's \
            config says. The answer leaves once the event is durable. Status and body of it are the source's: these \
            are the default.",
        )
        .bytes(false, "*/*", &body)
        .sends(202, "It is stored, and will be delivered.", "application/json", &said)
        .header(202, "Backstop-Duplicate", &duplicate);
    refused(posted)
}

fn problem() -> Value {
    json!({ "schema": { "type": "object", "required": ["title", "status", "detail"], "properties": {
        "title": { "type": "string" }, "status": { "type": "integer" }, "detail": { "type": "string" } } } })
}

fn refused(mut operation: Operation) -> Operation {
    let wait = json!({ "$ref": "#/components/headers/Retry-After" });
    for (status, what) in STATUSES {
        operation = operation.sends(*status, what, PROBLEM, &problem());
        if [429, 503].contains(status) {
            operation = operation.header(*status, "Retry-After", &wait);
        }
    }
    operation
}
