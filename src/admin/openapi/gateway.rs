//! How the gateway stands, described: totals, audit, disk, health, metrics, the streams, and this description.

use http::StatusCode;
use serde_json::json;

use super::operation::Operation;
use super::parameters::{following, time};
use super::schemas::Schemas;
use crate::admin::wire::{Audit, Beat, Counters, Disk, Happening, Health, History};

pub(super) fn described(schemas: &mut Schemas) -> Vec<Operation> {
    let unwell = [StatusCode::SERVICE_UNAVAILABLE];
    let metrics = json!({ "schema": { "type": "string" } });
    let beats = json!({ "schema": { "type": "string", "description": "Server-sent events. `state` has everything, `beat` what \
        has changed (the data of both is a beat); `resync` says that beats were missed and that a `state` follows, \
        `bye` that the gateway ends, or the token.", "x-data": schemas.said::<Beat>() } });
    let happenings = json!({ "schema": { "type": "string", "description": "Server-sent events. The data of each is a happening, \
        which says by `what` what it is; the first one is `begun`, the last one `bye`.",
        "x-data": schemas.said::<Happening>() } });
    vec![
        Operation::get("/livez", "live", "Whether the process is of use at all; if not, start it again.")
            .about("On both listeners, there without a word.")
            .says(200, "It lives.", &schemas.said::<Health>())
            .refuses(&unwell),
        Operation::get("/readyz", "ready", "Whether new events are taken.")
            .about("On both listeners, there without a word.")
            .says(200, "It is ready.", &schemas.said::<Health>())
            .refuses(&unwell),
        Operation::get("/openapi.json", "describe", "This description.").says(
            200,
            "An OpenAPI 3.1 document.",
            &json!({ "type": "object", "required": ["openapi"], "properties": { "openapi": { "const": "3.1.0" } } }),
        ),
        Operation::get("/metrics", "scrape", "Metrics, for Prometheus.").sends(
            200,
            "The text format, version 0.0.4.",
            "text/plain",
            &metrics,
        ),
        Operation::get("/api/v1/counters", "count", "The running totals.").says(
            200,
            "All of them.",
            &schemas.said::<Counters>(),
        ),
        Operation::get("/api/v1/audit", "audit", "Holds every delivery against what is stored.")
            .about("Reads the whole log and the whole index; beside traffic, in bounded memory.")
            .takes([
                time("since", "Of events received at or after this time, or within this span before now."),
                time("until", "Of events received before this time, or longer ago than this span."),
            ])
            .says(200, "What it found.", &schemas.said::<Audit>()),
        Operation::get("/api/v1/disk", "showDisk", "How full the disk is.").says(
            200,
            "So full.",
            &schemas.said::<Disk>(),
        ),
        Operation::get("/api/v1/history", "showHistory", "The last two hours by the minute.").says(
            200,
            "As far as this process was there.",
            &schemas.said::<History>(),
        ),
        Operation::get("/api/v1/live", "watch", "How everything stands, as it changes.")
            .about("Goes on until one of the two hangs up; at most one beat a second.")
            .sends(200, "A stream of server-sent events.", "text/event-stream", &beats),
        Operation::get("/api/v1/feed", "follow", "What happens, as it happens.")
            .about("Goes on until one of the two hangs up, or the token is worth nothing any more.")
            .takes(following())
            .sends(200, "A stream of server-sent events.", "text/event-stream", &happenings),
    ]
}
