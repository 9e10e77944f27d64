//! The config, described: what holds, and having it read again.

use http::StatusCode;
use serde_json::json;

use super::operation::Operation;
use super::schemas::Schemas;
use crate::admin::wire::Reloaded;

pub(super) fn described(schemas: &mut Schemas) -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/config", "showConfig", "The config that holds, without what is secret.").says(
            200,
            "As gateway.toml would have to say it; what is secret is named and not told.",
            &json!({ "type": "object", "required": ["server", "admin", "journal"] }),
        ),
        Operation::post("/api/v1/reload", "reload", "Has the config read again.")
            .about(
                "All of it is taken in at once, or nothing: then `problems` says everything that is wrong, each with its \
                 file, line and key, where that is more than one thing. Nothing in flight is disturbed. Deliveries to \
                 endpoints that are gone are parked until the name is back.",
            )
            .says(200, "It was taken in.", &schemas.said::<Reloaded>())
            .refuses(&[StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY]),
    ]
}
