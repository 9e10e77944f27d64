//! Who may do what and what was done, described: tokens, sessions, operations.

use http::StatusCode;
use serde_json::json;

use super::operation::Operation;
use super::parameters::{one_of, page, query, time};
use super::schemas::Schemas;
use crate::admin::wire::{self, CreateToken, Page, Token, Tokens, WhoAmI};
use crate::core::operation::Ending;

pub(super) fn described(schemas: &mut Schemas) -> Vec<Operation> {
    let (token, who) = (schemas.said::<Token>(), schemas.said::<WhoAmI>());
    let text = json!({ "type": "string" });
    let cookie = json!({ "description": "The session's.", "required": true, "schema": { "type": "string" } });
    vec![
        Operation::get("/api/v1/whoami", "whoAmI", "By which token this is asked.").says(200, "The token.", &who),
        Operation::post("/api/v1/session", "beginSession", "Begins a session, for a browser.")
            .about("For at most twelve hours, and as long as the token is worth something.")
            .says(201, "By which token.", &who)
            .header(201, "Set-Cookie", &cookie),
        Operation::delete("/api/v1/session", "endSession", "Ends the session that is shown.")
            .nothing(204, "It has ended.")
            .header(204, "Set-Cookie", &cookie),
        Operation::get("/api/v1/tokens", "listTokens", "Every token, without the tokens themselves.").says(
            200,
            "All of them.",
            &schemas.said::<Tokens>(),
        ),
        Operation::post("/api/v1/tokens", "createToken", "Makes a token.")
            .about("It is told once and kept nowhere.")
            .whole_body(
                &schemas.asked::<CreateToken>(),
                &json!({ "name": "deploy", "role": "operate", "expires": "90d" }),
            )
            .says(201, "The token, itself included.", &token)
            .refuses(&[StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY]),
        Operation::delete("/api/v1/tokens/{token}", "revokeToken", "Makes a token worth nothing from now on.")
            .says(200, "The token that was.", &token)
            .refuses(&[StatusCode::CONFLICT]),
        Operation::get("/api/v1/operations", "listOperations", "What was done by whom, and what was denied.")
            .takes([
                query("who", "By the holder of this token.", &text),
                query("what", "What: `endpoint.pause`, `replay.begin` and so on.", &text),
                query("object", "To this: an id or a name.", &text),
                one_of("result", "With this result.", &Ending::ALL.map(Ending::as_str)),
                time("since", "At or after this time, or within this span before now."),
                time("until", "Before this time, or longer ago than this span."),
            ])
            .takes(page())
            .says(200, "A page of them.", &schemas.said::<Page<wire::Operation>>()),
    ]
}
