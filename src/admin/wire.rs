//! What the admin API says and understands: the only HTTP serialization, used by the routes and the CLI alike.
//!
//! Names are snake_case, times RFC 3339 in UTC, ids, statuses, reasons and outcomes the words of the core,
//! durations whole milliseconds with the unit in the name. Fields may be added; clients ignore what they do
//! not know. Requests are stricter: an unknown field is refused, because a misspelt filter would mean more
//! than was asked. Absent: anything secret (an endpoint's URL comes without its query, its headers not at all).

mod audit;
mod exchange;
mod failures;
mod feed;
mod flow;
pub(super) mod forms;
mod from_core;
mod live;
mod operations;
mod refusals;
mod reload;
mod replays;
mod selection;
mod timeline;
mod tokens;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::audit::{Audit, Difference};
pub use self::exchange::{ExportEnd, ExportNext, ImportEvent, Imported, Imports};
pub use self::failures::{FailureGroup, FailureSample, Failures};
pub use self::feed::{Arrived, Happening, Stood, Tried};
pub use self::flow::{Breaker, Circuit, Lane, Limits, On, Pause, WaitsFor};
pub use self::live::{Beat, BeatOf, Disk, Histogram, History, Series, Source, Sources};
pub use self::operations::Operation;
pub use self::refusals::{IngestRefusal, Refusal};
pub use self::reload::{ConfigChange, ConfigKey, Reloaded};
pub use self::replays::{OpenReplay, Plan, Replay, ReplayAgain, Sample, SkippedBy, Trial, TrialAnswer, TrialCopy};
pub use self::selection::Selection;
use self::selection::object;
pub use self::timeline::{Gap, Gaps, Missing, Timeline};
pub use self::tokens::{CreateToken, Token, Tokens, WhoAmI};

/// A word of the core: borrowed when written, owned when read.
pub type Word = Cow<'static, str>;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// What fits; may be short or empty although there is a next page, when a search is long.
    pub items: Vec<T>,
    /// The `cursor` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// An event, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// `evt_…`.
    pub id: String,
    /// When it was accepted.
    pub received_at: String,
    /// Who sent it.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What orders and groups events.
    pub key: Option<String>,
    /// When it happened, by the sender's word.
    pub occurred_at: Option<String>,
    /// Length of the body.
    pub body_bytes: u32,
    /// Whether headers, body and attempts are still kept; if not, retention has let go of them, and the event cannot
    /// be replayed. Absent inside a delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_kept: Option<bool>,
    /// The event that an import made it of, of this gateway or another. Only where one event is shown, or exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// The sender's headers, in order. Only where one event is shown, and only if its record is intact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<(String, Octets)>>,
    /// The trace that the sender's `traceparent` names, which endpoints are told too. Only where one event is shown, and only if
    /// there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The sender's bytes. Only where events are exported, and only if the event's record is intact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Octets>,
    /// Its deliveries, in order of their making. Absent inside a delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<Delivery>>,
}

/// A delivery, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// `dlv_…`.
    pub id: String,
    /// Where to.
    pub endpoint: String,
    /// Where it stands.
    pub status: Word,
    /// Why.
    pub reason: Word,
    /// When it is tried next, if it waits.
    pub due_at: Option<String>,
    /// Since when it exists.
    pub created_at: String,
    /// Since when it stands where it stands.
    pub changed_at: String,
    /// Attempts made.
    pub attempts_made: u32,
    /// Of those, probes that failed: the retry policy does not count them.
    pub probes_failed: u32,
    /// Whether it was sent past an earlier delivery of its line that had held it for too long.
    pub released_out_of_order: bool,
    /// The last answer's status.
    pub last_status: Option<u16>,
    /// The last failure, where no answer came.
    pub last_failure: Option<Word>,
    /// The failure group of the last attempt, `flg_…`, if it failed.
    pub group: Option<String>,
    /// The replay that made it.
    pub replay: Option<String>,
    /// Whether a later delivery of the same event to the same endpoint exists.
    pub superseded: bool,
    /// The event. Absent inside an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// What it waits for. Only where deliveries are listed or one event or delivery is shown, and only until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// Its latest attempts, first to last. Only where one event or one delivery is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Attempt>>,
}

/// One HTTP try. Either `answer` or `failure` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub started_at: String,
    /// How long it took.
    pub took_ms: u32,
    /// What it means.
    pub outcome: Word,
    /// Whether it went to see if the endpoint is back: if it failed, it spent nothing.
    pub probe: bool,
    /// Whether it was sent past an earlier delivery of its line that had held it for too long.
    pub released_out_of_order: bool,
    /// What came back.
    pub answer: Option<Answer>,
    /// Why nothing came back.
    pub failure: Option<Failure>,
}

/// An endpoint's answer, as far as it was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// In order.
    pub headers: Vec<(String, Octets)>,
    /// The beginning of the body.
    pub body: Octets,
    /// Whether the body went on.
    pub body_cut: bool,
    /// When the endpoint asked to be tried again, from the attempt's end.
    pub retry_after_ms: Option<u64>,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// For machines.
    pub class: Word,
    /// For people.
    pub detail: String,
}

/// Bytes: a string if they are UTF-8, else `{"base64": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Octets {
    /// They are UTF-8.
    Text(String),
    /// They are not.
    Binary {
        /// Standard alphabet, padded.
        base64: String,
    },
}

/// The body of `POST /events/{id}/replay`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayEvent {
    /// Where to; `null` is everywhere it was ever sent.
    #[schemars(regex(pattern = forms::NAME))]
    pub to: Option<String>,
    /// Also where a delivery of it is still waiting.
    pub force: bool,
}

/// The body of `POST /deliveries/{id}/replay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayDelivery {
    /// Also if a delivery of the same event to the same endpoint is still waiting.
    pub force: bool,
}

/// The body of `POST /deliveries/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CancelDeliveries {
    /// What is taken back, of all that waits.
    #[serde(deserialize_with = "object")]
    pub filter: Selection,
}

/// What became of deliveries that were to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// Taken back.
    pub cancelled: u64,
    /// On their way, and left alone.
    pub in_flight: u64,
}

/// The body of `POST /endpoints/{name}/pause`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PauseEndpoint {
    /// Why, for whoever looks next; cut after 512 bytes.
    pub note: String,
}

/// The deliveries that a request made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Made {
    /// In order of their making.
    pub deliveries: Vec<MadeDelivery>,
}

impl Made {
    /// In words, for who asks what was done.
    pub(super) fn told(&self) -> String {
        self.deliveries.iter().map(|made| format!("{} to {}", made.id, made.endpoint)).collect::<Vec<_>>().join(", ")
    }
}

/// A delivery that a request made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MadeDelivery {
    /// `dlv_…`.
    pub id: String,
    /// Where to.
    pub endpoint: String,
}

/// All replays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replays {
    /// Newest first.
    pub items: Vec<Replay>,
}

/// All endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoints {
    /// By name.
    pub items: Vec<Endpoint>,
}

/// An endpoint as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// What routes and people call it.
    pub name: String,
    /// Whether the config has it. If not, `url`, `signing`, `limits` and `lane` are `null`.
    pub configured: bool,
    /// Where it is, without the query.
    pub url: Option<String>,
    /// `off`, `standard`, `github` or `stripe`.
    pub signing: Option<Word>,
    /// Its limits.
    pub limits: Option<Limits>,
    /// Set while nothing is sent because someone wants it so.
    pub pause: Option<Pause>,
    /// Whether it can be relied on.
    pub circuit: Circuit,
    /// How its deliveries move just now; `null` while the gateway stops.
    pub lane: Option<Lane>,
    /// Deliveries that wait: `scheduled` and `retrying` together.
    pub backlog: u64,
    /// How many deliveries stand where.
    pub deliveries: Tally,
}

/// How many deliveries stand where. The statuses add up to `routed + replayed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// Made by routing.
    pub routed: u64,
    /// Made by replays.
    pub replayed: u64,
    /// Attempts journaled.
    pub attempts: u64,
    /// Not yet tried.
    pub scheduled: u64,
    /// Tried, to be tried again.
    pub retrying: u64,
    /// Done.
    pub delivered: u64,
    /// Gave up.
    pub dead: u64,
    /// Of the dead, those listed as failed.
    pub failed: u64,
    /// Taken back.
    pub cancelled: u64,
    /// Out of retention.
    pub expired: u64,
}

/// What is held of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// Events.
    pub events: u64,
    /// Bytes of their bodies, as far as those are still kept.
    pub bytes: u64,
    /// Of those bytes, what deliveries still to be made need: retention leaves them alone.
    pub live_bytes: u64,
}

/// Totals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// Events accepted since the journal began.
    pub accepted: u64,
    /// Of those, routed nowhere.
    pub unrouted: u64,
    /// Of those accepted, let go of by retention. They stay in every other count.
    #[serde(default)]
    pub dropped: u64,
    /// What is held now, by source.
    #[serde(default)]
    pub sources: BTreeMap<String, Held>,
    /// When the oldest event that is kept was received; `null` if there is none.
    #[serde(default)]
    pub oldest_received_at: Option<String>,
    /// Bytes on disk that retention gave back since this process began.
    #[serde(default)]
    pub freed_bytes: u64,
    /// Damaged bytes of the journal that retention removed with the rest, since the journal began.
    #[serde(default)]
    pub damaged_bytes: u64,
    /// By endpoint, since the journal began.
    pub endpoints: BTreeMap<String, Tally>,
    /// Of the deliveries that wait, those whose endpoint the config does not have.
    pub parked: u64,
    /// Attempts on their way now.
    pub in_flight: usize,
    /// When this process began.
    pub started_at: String,
    /// Requests that made no new event since this process began, by reason.
    pub turned_away: BTreeMap<String, u64>,
}

/// That the gateway lives or is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `live` or `ready`.
    pub status: Word,
}

/// What went wrong (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Always `about:blank`, also where it is left out: the status says what kind of problem it is.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: Word,
    /// The status in words.
    pub title: Word,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here and what to do.
    pub detail: String,
    /// The query parameter or field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The role that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_role: Option<Word>,
    /// All that is wrong, each with its place, where that is more than one thing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

const fn about_blank() -> Word {
    Cow::Borrowed("about:blank")
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
