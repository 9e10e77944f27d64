//! Deliveries and what failed of them, described.

use http::StatusCode;
use serde_json::json;

use super::operation::Operation;
use super::parameters::{flag, limit, page, selection, selection_standing};
use super::schemas::Schemas;
use crate::admin::wire::{CancelDeliveries, Cancelled, Delivery, Failures, Made, Page, ReplayDelivery};

pub(super) fn described(schemas: &mut Schemas) -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/deliveries", "listDeliveries", "Deliveries that fit; without a `status`, the failed.")
            .takes(selection())
            .takes([flag("parked", "Only those that wait for an endpoint that the config does not have.")])
            .takes(page())
            .says(200, "A page of deliveries.", &schemas.said::<Page<Delivery>>()),
        Operation::get("/api/v1/deliveries/{delivery}", "showDelivery", "One delivery, with its attempts.")
            .about("With the latest 1000 attempts, and what it waits for.")
            .says(200, "The delivery.", &schemas.said::<Delivery>()),
        Operation::post("/api/v1/deliveries/{delivery}/replay", "replayDelivery", "Delivers the same again.")
            .about(
                "Makes a new delivery of the same event to the same endpoint. Not while one is waiting, unless that \
                is forced.",
            )
            .body(&schemas.asked::<ReplayDelivery>(), &json!({ "force": false }))
            .says(202, "The delivery that it made.", &schemas.said::<Made>())
            .refuses(&[StatusCode::CONFLICT, StatusCode::GONE, StatusCode::UNPROCESSABLE_ENTITY]),
        Operation::post("/api/v1/deliveries/{delivery}/cancel", "cancelDelivery", "Takes a waiting delivery back.")
            .says(200, "The delivery as it stands now.", &schemas.said::<Delivery>())
            .refuses(&[StatusCode::CONFLICT]),
        Operation::post("/api/v1/deliveries/cancel", "cancelDeliveries", "Takes back all that wait and fit.")
            .body(&schemas.asked::<CancelDeliveries>(), &json!({ "filter": { "endpoint": "crm", "until": "7d" } }))
            .says(200, "How many were taken back.", &schemas.said::<Cancelled>())
            .refuses(&[StatusCode::UNPROCESSABLE_ENTITY]),
        Operation::get("/api/v1/failures", "listFailures", "What is dead or retried, in groups that look alike.")
            .takes(selection_standing(&["dead", "failed", "retrying"]))
            .takes([limit()])
            .says(200, "The largest groups.", &schemas.said::<Failures>()),
    ]
}
