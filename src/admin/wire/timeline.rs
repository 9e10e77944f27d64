//! A key's story on the wire: for Flyflow, a call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Event, Word};

/// Every event of a key, in order of what happened, and what became of all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The key.
    pub key: String,
    /// Whether nothing is missing: every delivery has arrived.
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
    /// The events of this page in order of what happened, then of receipt.
    pub items: Vec<Event>,
    /// The `cursor` of the next page; `null` at the end.
    pub next: Option<String>,
}
