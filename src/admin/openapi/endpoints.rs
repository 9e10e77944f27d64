//! Endpoints and sources, described.

use serde_json::json;

use super::operation::Operation;
use super::schemas::Schemas;
use crate::admin::wire::{Endpoint, Endpoints, Made, PauseEndpoint, Sources};

pub(super) fn described(schemas: &mut Schemas) -> Vec<Operation> {
    let endpoint = schemas.said::<Endpoint>();
    vec![
        Operation::get("/api/v1/endpoints", "listEndpoints", "Every endpoint, by name.")
            .about("Those of the config, and those that only the journal still knows.")
            .says(200, "All of them.", &schemas.said::<Endpoints>()),
        Operation::get("/api/v1/endpoints/{endpoint}", "showEndpoint", "One endpoint, and how it stands.").says(
            200,
            "The endpoint.",
            &endpoint,
        ),
        Operation::post(
            "/api/v1/endpoints/{endpoint}/test",
            "testEndpoint",
            "Sends an event of the gateway's own there.",
        )
        .about("On the way of every event: stored, signed, sent, retried.")
        .says(202, "The delivery that it made.", &schemas.said::<Made>()),
        Operation::post(
            "/api/v1/endpoints/{endpoint}/pause",
            "pauseEndpoint",
            "Sends nothing there until it is resumed.",
        )
        .body(&schemas.asked::<PauseEndpoint>(), &json!({ "note": "moving to another host" }))
        .says(200, "The endpoint as it stands now.", &endpoint),
        Operation::post("/api/v1/endpoints/{endpoint}/resume", "resumeEndpoint", "Sends there again.").says(
            200,
            "The endpoint as it stands now.",
            &endpoint,
        ),
        Operation::get("/api/v1/sources", "listSources", "Who may send, and how it is read.").says(
            200,
            "Those of the config.",
            &schemas.said::<Sources>(),
        ),
    ]
}
