//! A key's story on the wire, and what is missing of it: for Flyflow, a call and its gaps.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Event, Word};

/// Every event of a key, in order of what happened, and what became of all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// The key.
    pub key: String,
    /// Whether nothing is missing: every delivery has arrived, and where its source has a lifecycle, so have both ends.
    pub complete: bool,
    /// How many events there are.
    pub events: usize,
    /// When the first of them happened, by its own word, else when it was received.
    pub first_at: String,
    /// When the last of them happened.
    pub last_at: String,
    /// By endpoint, how many deliveries stand where; without those that a later one has taken the place of.
    pub endpoints: BTreeMap<String, BTreeMap<Word, u64>>,
    /// Of those, how many have not arrived, for whatever reason.
    pub undelivered: u64,
    /// Ends that the lifecycle of a source asks for and that have not come, or not yet.
    pub missing: Vec<Missing>,
    /// The events of this page in order of what happened, then of receipt.
    pub items: Vec<Event>,
    /// The `cursor` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// An end of a call that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// By whose lifecycle.
    pub source: String,
    /// `start` or `end`.
    pub part: Word,
    /// The type that its event has; a trailing `*` is any ending.
    #[serde(rename = "type")]
    pub event_type: String,
}

/// Calls that are incomplete. On the first page the undelivered ones come before the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gaps {
    /// The gaps, newest first; may be few or none although there is a next page.
    pub items: Vec<Gap>,
    /// Deliveries of undelivered calls that are not among the items.
    pub other: u64,
    /// The `cursor` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// A call that is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// `never_ended`, `ended_without_start` or `undelivered`.
    pub kind: Word,
    /// Whose call.
    pub source: String,
    /// Which.
    pub key: String,
    /// When the end that is there was received; of an undelivered call, since when the first delivery stands so.
    pub since: String,
    /// That event; of an undelivered call, its newest that has not arrived.
    pub event: String,
    /// What happened in it.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Where an undelivered call has not arrived.
    pub endpoints: Vec<String>,
    /// How many deliveries of an undelivered call are dead, retried, or wait for an endpoint that the config lacks.
    pub deliveries: u64,
    /// The event that told of it; `null` where none was needed.
    pub alert: Option<String>,
}
