//! Refused requests, described.

use http::StatusCode;
use serde_json::json;

use super::operation::Operation;
use super::parameters::{name, one_of, page, time};
use super::schemas::Schemas;
use crate::admin::wire::{IngestRefusal, Page, Refusal};
use crate::core::refused::Why;

pub(super) fn described(schemas: &mut Schemas) -> Vec<Operation> {
    let refusal = schemas.said::<Refusal>();
    vec![
        Operation::get("/api/v1/refusals", "listRefusals", "Requests that became no event, the latest.")
            .takes([
                name("source", "For this source."),
                one_of("reason", "For this reason.", &Why::ALL.map(Why::as_str)),
                time("since", "At or after this time, or within this span before now."),
                time("until", "Before this time, or longer ago than this span."),
            ])
            .takes(page())
            .says(200, "A page of them.", &schemas.said::<Page<Refusal>>()),
        Operation::get("/api/v1/refusals/{refusal}", "showRefusal", "One of them, with what was kept of it.").says(
            200,
            "The refused request.",
            &refusal,
        ),
        Operation::post("/api/v1/refusals/{refusal}/ingest", "ingestRefusal", "Makes an event of it after all.")
            .about("By the rules that its source has now.")
            .body(&schemas.asked::<IngestRefusal>(), &json!({ "force": false }))
            .says(202, "The refused request, with the event that it is now.", &refusal)
            .refuses(&[StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY]),
    ]
}
