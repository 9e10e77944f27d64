//! How things move, on the wire: the live stream's beats, the last two hours by the minute, and how full the disk is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Word;

/// How everything stands at a moment. In the live stream, `state` has every endpoint and `beat` those that changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Beat {
    /// When it was looked.
    pub at: String,
    /// Events accepted since the journal began.
    pub accepted: u64,
    /// Requests that made no new event since this process began.
    pub turned_away: u64,
    /// Attempts journaled since the journal began.
    pub attempts: u64,
    /// Deliveries that were acknowledged since the journal began.
    pub delivered: u64,
    /// Deliveries that gave up since the journal began.
    pub dead: u64,
    /// Of those, listed as failed now.
    pub failed: u64,
    /// Deliveries that wait, tried or not.
    pub backlog: u64,
    /// Of those, tried.
    pub retrying: u64,
    /// Attempts on their way.
    pub in_flight: usize,
    /// Replays that are not over.
    pub replays_open: usize,
    /// When the event of the delivery was received that waits longest; `null` if none waits. Looked for every few seconds,
    /// and among the `endpoints` only.
    pub oldest_waiting_at: Option<String>,
    /// Whether new events are refused for lack of room.
    pub full: bool,
    /// The endpoints, by name: at most 500.
    pub endpoints: BTreeMap<String, BeatOf>,
    /// Endpoints beyond those.
    pub endpoints_left_out: usize,
}

/// How one endpoint stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BeatOf {
    /// Attempts journaled.
    pub attempts: u64,
    /// Deliveries that were acknowledged.
    pub delivered: u64,
    /// Deliveries that gave up and are listed as failed.
    pub failed: u64,
    /// Deliveries that wait.
    pub backlog: u64,
    /// Attempts on their way.
    pub in_flight: usize,
    /// How many there may be; `null` for what the config does not have.
    pub window: Option<usize>,
    /// `closed`, `half_open` or `open`.
    pub circuit: Word,
    /// Whether nothing is sent because someone wants it so.
    pub paused: bool,
    /// When the event of the delivery was received that waits longest.
    pub oldest_waiting_at: Option<String>,
}

/// The last two hours by the minute, as far as this process was there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// When each minute began, oldest first; the last is not over.
    pub minutes: Vec<String>,
    /// All of it.
    pub total: Series,
    /// By endpoint, as many numbers each: at most 500 endpoints.
    pub endpoints: BTreeMap<String, Series>,
}

/// One number for each minute.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Events accepted; of an endpoint, deliveries made.
    pub accepted: Vec<u64>,
    /// Deliveries that were acknowledged.
    pub delivered: Vec<u64>,
    /// Attempts that were not.
    pub failed: Vec<u64>,
    /// Deliveries that waited at its end.
    pub backlog: Vec<u64>,
}

/// How events are spread over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Histogram {
    /// When the first bar begins.
    pub since: String,
    /// When the last ends.
    pub until: String,
    /// How long each is.
    pub step_ms: u64,
    /// Events received in each.
    pub counts: Vec<u64>,
    /// Of those, with a delivery that failed or is retried.
    pub failed: Vec<u64>,
    /// Since when all are counted, if there were too many: the newest are.
    pub counted_since: Option<String>,
}

/// How full the disk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Bytes of all files in the journal's folder.
    pub journal_bytes: u64,
    /// Bytes that may still be written on its file system.
    pub free_bytes: u64,
    /// Bytes that its file system has in all.
    pub total_bytes: u64,
    /// With less than this free no new events are taken.
    pub free_min_bytes: u64,
    /// Whether that is so.
    pub full: bool,
}

/// Every source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sources {
    /// Those of the config, by name.
    pub items: Vec<Source>,
    /// Where the ingest listener is, as far as it knows itself.
    pub listens_on: String,
}

/// Who may send, and how it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Its path is `/in/<name>`.
    pub name: String,
    /// How its sender shows that it is the one: `open` (it need not), `credential`, `standard`, `hmac`, `twilio` or
    /// `client_state`.
    pub verification: Word,
    /// Whose question it answers before anything is sent: `slack`, `zoom`, `meta` or `microsoft`.
    pub handshake: Option<Word>,
    /// Whether its path ends in a secret.
    pub path_token: bool,
    /// What stands before the path in the URL that senders call, where the config says.
    pub public_url: Option<String>,
    /// Where the type stands, as the config writes it; the first place that has one counts.
    #[serde(rename = "type")]
    pub event_type: Vec<String>,
    /// Where the key stands.
    pub key: Vec<String>,
    /// Where the time stands.
    pub time: Vec<String>,
    /// Whether what cannot be read is refused.
    pub strict: bool,
    /// What makes two posts one event: `off`, `header`, `message` or `fields`.
    pub dedup: Word,
    /// Largest body.
    pub body_max_bytes: usize,
    /// What is held of it.
    pub held: super::Held,
}
