//! Events on their way from one gateway to another: the lines of an export and what came of them at an import.
//!
//! An export is lines of JSON: an [`super::Event`] each, with its body, deliveries and attempts, and an [`ExportEnd`]
//! behind them all, without which it has been cut off.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Octets, Word};

/// The last line of a part of an export: where the next part begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportNext {
    /// The `cursor` of the next part; `null` at the end.
    pub next: Option<String>,
    /// What is in this part.
    pub part: ExportEnd,
}

/// What an export holds; as `{"end": …}` its last line, which says that it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ExportEnd {
    /// Events in it.
    pub events: u64,
    /// Of those, without headers and body, which are out of retention or damaged.
    pub without_payload: u64,
}

/// An event to be imported: what is read of a line of an export. The rest of the line is of no consequence.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ImportEvent {
    /// The original: the same one makes no second event.
    pub id: String,
    /// When the original was accepted.
    pub received_at: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What orders and groups events.
    pub key: Option<String>,
    /// When it happened; without it, when the original was accepted.
    pub occurred_at: Option<String>,
    /// The sender's headers, in order.
    #[serde(default)]
    pub headers: Vec<(String, Octets)>,
    /// The sender's bytes.
    pub body: Option<Octets>,
    /// The body's length, where the line says it: one that has been tampered with is found.
    pub body_bytes: Option<u32>,
}

/// What came of the lines of a part of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imports {
    /// One a line, in their order.
    pub items: Vec<Imported>,
}

/// What came of one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// `imported`, `duplicate` (it was imported before), `refused` (no event can be made of it) or `not_now` (bring it
    /// again later).
    pub outcome: Word,
    /// The event that it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Why it is refused, or not taken now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
