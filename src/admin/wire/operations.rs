//! Operations on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Word;

/// Something that somebody had the gateway do, or tried to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// `opr_…`; a later one has a greater number.
    pub id: String,
    /// When it was asked for.
    pub at: String,
    /// By the holder of the token of this name; `null` if the token was nobody's.
    pub who: Option<String>,
    /// What that token is called by, its first eight digits.
    pub token: Option<String>,
    /// What its holder might do then.
    pub role: Option<Word>,
    /// From which address; `null` on the gateway's own machine, in its directory.
    pub from: Option<String>,
    /// What: `endpoint.pause`, `replay.begin` and so on.
    pub what: String,
    /// What it was done to, if that is one thing: an id or a name.
    pub object: Option<String>,
    /// How: what was sent with it, without secrets; of URLs only the origin.
    pub parameters: serde_json::Value,
    /// `done`, `denied`, `refused` (no such thing, or not as things stood), `failed`, or `unknown`: it is under way, or
    /// the gateway ended before it was over.
    pub result: Word,
    /// The HTTP status it was answered with.
    pub status: Option<u16>,
    /// What came to be, or why nothing did.
    pub detail: Option<String>,
    /// When it was over.
    pub ended_at: Option<String>,
    /// How many like it, turned away just as well, came before and are not listed.
    pub repeats: u64,
}
