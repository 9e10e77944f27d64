//! Events and their keys, described.

use http::StatusCode;
use serde_json::json;

use super::operation::{Operation, put};
use super::parameters::{self, flag, limit, one_of, page, query, selection};
use super::schemas::Schemas;
use crate::admin::imports::LINES_MAX;
use crate::admin::wire::{Event, ExportNext, Gaps, Histogram, ImportEvent, Imports, Made, Page, ReplayEvent, Timeline};
use crate::core::lifecycle::GapKind;

/// A line of JSON after another.
const LINES: &str = "application/x-ndjson";

pub(super) fn described(schemas: &mut Schemas) -> Vec<Operation> {
    let unrouted = || flag("unrouted", "Only events that were routed nowhere.");
    vec![
        Operation::get("/api/v1/events", "listEvents", "Events that fit, with their deliveries.")
            .takes(selection())
            .takes([unrouted()])
            .takes(page())
            .says(200, "A page of events.", &schemas.said::<Page<Event>>()),
        Operation::get("/api/v1/events/{event}", "showEvent", "One event, with its deliveries and their attempts.")
            .about("With the latest 500 attempts, and what each delivery waits for; a delivery by itself shows more.")
            .says(200, "The event.", &schemas.said::<Event>()),
        Operation::get("/api/v1/events/{event}/body", "showEventBody", "The sender's bytes.")
            .about("With the sender's own `Content-Type`, marked so that no browser shows them as a page.")
            .sends(200, "The bytes.", "*/*", &json!({ "schema": {} }))
            .tells_apart(200)
            .refuses(&[StatusCode::GONE]),
        Operation::post("/api/v1/events/{event}/replay", "replayEvent", "Delivers one event again.")
            .about(
                "Makes a new delivery for each endpoint it was ever sent to, or for one. Not where one is waiting \
                already, unless that is forced.",
            )
            .body(&schemas.asked::<ReplayEvent>(), &json!({ "to": "crm", "force": false }))
            .says(202, "The deliveries that it made.", &schemas.said::<Made>())
            .refuses(&[StatusCode::CONFLICT, StatusCode::GONE, StatusCode::UNPROCESSABLE_ENTITY]),
        histogram(schemas).takes([unrouted()]),
        export(schemas).takes([unrouted()]),
        import(schemas),
        Operation::get("/api/v1/keys/{key}", "showKey", "Every event of a key in order of what happened.")
            .about("For Flyflow a key is a call: its timeline, what became of each event, and which end is missing.")
            .takes([parameters::name("source", "Of this source only."), limit(), parameters::cursor()])
            .says(200, "A page of the timeline.", &schemas.said::<Timeline>())
            .refuses(&[StatusCode::UNPROCESSABLE_ENTITY]),
        Operation::get("/api/v1/gaps", "listGaps", "Calls that are incomplete.")
            .about(
                "Of sources that have a lifecycle: calls that never ended, ended without a beginning, or have events \
                that did not arrive.",
            )
            .takes([
                parameters::name("source", "Of this source only."),
                one_of("kind", "Of this kind only.", &GapKind::ALL.map(GapKind::as_str)),
                limit(),
                parameters::cursor(),
            ])
            .says(200, "A page of gaps.", &schemas.said::<Gaps>()),
    ]
}

fn histogram(schemas: &mut Schemas) -> Operation {
    let bars = json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 60 });
    Operation::get("/api/v1/events/histogram", "countEvents", "How events that fit are spread over time.")
        .takes(selection())
        .takes([query("bars", "In so many bars.", &bars)])
        .says(200, "The bars.", &schemas.said::<Histogram>())
}

fn export(schemas: &mut Schemas) -> Operation {
    let lines = json!({ "schema": { "type": "string", "contentMediaType": LINES,
        "description": "A JSON object a line: events, and at the end where the next part begins.",
        "x-lines": [schemas.said::<Event>(), schemas.said::<ExportNext>()] } });
    Operation::get("/api/v1/events/export", "exportEvents", "Events that fit whole, as lines of JSON.")
        .about(
            "In parts: the last line of each says by its `next` where the next one begins. Without that line it has \
            been cut off.",
        )
        .takes(selection())
        .takes(page())
        .sends(200, "A part of the export.", LINES, &lines)
}

fn import(schemas: &mut Schemas) -> Operation {
    let lines = json!({ "schema": { "type": "string", "contentMediaType": LINES,
        "description": format!("Lines of an export, at most {LINES_MAX}."), "x-lines": [schemas.asked::<ImportEvent>()] },
        "example": "{\"id\":\"evt_01kay2zn6r3vx0fwjv7cqdqk3b\",\"received_at\":\"2026-01-31T12:00:00Z\",\
            \"type\":\"call_ended\",\"body\":\"{}\"}\n" });
    let mut source = parameters::name("source", "As whose events.");
    put(&mut source, "required", true);
    Operation::post("/api/v1/events/import", "importEvents", "Makes new events of exported ones.")
        .about("The same original makes no second event, so what broke off is sent again as a whole.")
        .takes([source, flag("route", "Sends them where routes send the source's events; else they go nowhere.")])
        .bytes(false, LINES, &lines)
        .says(200, "What became of each line.", &schemas.said::<Imports>())
        .refuses(&[StatusCode::UNPROCESSABLE_ENTITY])
}
