//! Replays, described.

use http::StatusCode;
use serde_json::json;

use super::operation::Operation;
use super::parameters;
use super::schemas::Schemas;
use crate::admin::wire::{OpenReplay, Plan, Replay, ReplayAgain, Replays, Trial};

pub(super) fn described(schemas: &mut Schemas) -> Vec<Operation> {
    let replay = schemas.said::<Replay>();
    let turned = |path, id, summary| {
        Operation::post(path, id, summary)
            .says(200, "The replay as it stands now.", &replay)
            .refuses(&[StatusCode::CONFLICT])
    };
    vec![
        Operation::get("/api/v1/replays", "listReplays", "Every replay that is kept, newest first.").says(
            200,
            "All of them.",
            &schemas.said::<Replays>(),
        ),
        open(schemas),
        Operation::get("/api/v1/replays/{replay}", "showReplay", "One replay, and how far it is.").says(
            200,
            "The replay.",
            &replay,
        ),
        turned("/api/v1/replays/{replay}/pause", "pauseReplay", "Makes no more of it until it is resumed."),
        turned("/api/v1/replays/{replay}/resume", "resumeReplay", "Goes on with it."),
        turned("/api/v1/replays/{replay}/cancel", "cancelReplay", "Ends it; what it has made stays."),
        Operation::post("/api/v1/replays/{replay}/rerun", "rerunReplay", "Begins another one, of what this one left.")
            .takes([parameters::idempotency_key()])
            .body(&schemas.asked::<ReplayAgain>(), &json!({ "what": "failed" }))
            .says(202, "The replay that it began.", &replay)
            .says(200, "The replay that the same request began before.", &replay)
            .refuses(&[StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY]),
    ]
}

fn open(schemas: &mut Schemas) -> Operation {
    let begun = schemas.said::<Replay>();
    let said = json!({ "anyOf": [schemas.said::<Plan>(), schemas.said::<Trial>(), &begun] });
    let example = json!({ "filter": { "endpoint": "crm", "status": ["failed"], "since": "2h" }, "rate": "50/s",
        "max_age": { "tool_call": "5m", "*": "7d" }, "canary": 10, "dry_run": true });
    Operation::post("/api/v1/replays", "openReplay", "Plans, tries or begins a replay.")
        .about("With `dry_run` it says what it would do; with `to_url` it sends a few copies there and says what came back; \
            neither changes anything. Else it begins, is durable, and goes on by itself.")
        .takes([parameters::idempotency_key()])
        .body(&schemas.asked::<OpenReplay>(), &example)
        .says(202, "The replay that it began.", &begun)
        .says(200, "The plan, the trial, or the replay that the same request began before.", &said)
        .refuses(&[StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY])
}
