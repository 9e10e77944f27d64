//! Failure groups on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Word;

/// What has failed, for good or so far, by what the last attempts look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failures {
    /// The largest groups, largest first.
    pub items: Vec<FailureGroup>,
    /// Deliveries in all groups.
    pub deliveries: u64,
    /// How many groups there are; beyond 1000 they are not told apart.
    pub groups: usize,
    /// Deliveries whose group is not among the items.
    pub other: u64,
}

/// Deliveries to one endpoint whose last attempts failed alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureGroup {
    /// `flg_…`, by which they can be listed and replayed (`group`).
    pub id: String,
    /// Where to.
    pub endpoint: String,
    /// The failure, where no answer came; `status` where one did.
    pub class: Word,
    /// The answer's status, where one came.
    pub status: Option<u16>,
    /// How many they are.
    pub count: u64,
    /// Of those, dead; the rest is retried.
    pub dead: u64,
    /// Since when the first of them stands where it stands.
    pub first_at: String,
    /// The same of the last.
    pub last_at: String,
    /// One of them.
    pub sample: FailureSample,
}

/// One failed delivery, for all like it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureSample {
    /// `dlv_…`.
    pub delivery: String,
    /// `evt_…`.
    pub event: String,
    /// What happened, by its event.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its event's key.
    pub key: Option<String>,
    /// The beginning of the answer's body in one line, or why none came; empty if it was lost.
    pub text: String,
}
