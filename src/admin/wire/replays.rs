//! Replays on the wire: what is asked for, what it would do, how it stands, and what a trial came to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::selection::{object, whole};
use super::{Octets, Selection, Word, forms, is_false};
use crate::core::attempt::{Attempt, Reply};
use crate::core::delivery::Status;
use crate::core::name::Name;
use crate::core::replay;
use crate::core::timestamp::duration_millis;
use crate::engine;
use crate::journal::Tally;

/// The body of `POST /replays`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpenReplay {
    /// What is replayed; without a status, what is listed as failed.
    #[serde(deserialize_with = "object")]
    pub filter: Selection,
    /// Where to; `null` is where each delivery went before, and for unrouted events where routes send them now.
    #[schemars(regex(pattern = forms::NAME))]
    pub to: Option<String>,
    /// Makes no more than this: `10/s`, `600/min`, `5000/h`.
    #[schemars(regex(pattern = forms::RATE))]
    pub rate: Option<String>,
    /// `oldest` (events first, the default) or `newest`.
    #[schemars(extend("enum" = ["oldest", "newest", null]))]
    pub order: Option<String>,
    /// Leaves out events that happened longer ago, by type: `{"tool_call": "5m", "*": "7d"}`. The most specific counts.
    #[schemars(extend("maxProperties" = 64, "propertyNames" = { "minLength": 1 }))]
    #[schemars(inner(regex(pattern = forms::SPAN)))]
    pub max_age: BTreeMap<String, String>,
    /// Leaves out what has got there since by a later delivery.
    #[serde(skip_serializing_if = "is_false")]
    pub skip_if_delivered_later: bool,
    /// Pauses when so many of its deliveries have failed, given up or at least once.
    #[serde(deserialize_with = "whole")]
    #[schemars(range(min = 1))]
    pub stop_after_failures: Option<u64>,
    /// Makes so many at first, and no more until all of them are delivered.
    #[serde(deserialize_with = "whole")]
    #[schemars(range(min = 1))]
    pub canary: Option<u64>,
    /// Only says what it would do.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// A trial instead: copies of the newest go to this URL, and nothing changes.
    pub to_url: Option<String>,
    /// How many copies a trial sends: 20 unless told, at most 100.
    #[serde(deserialize_with = "whole")]
    #[schemars(range(min = 1, max = 100))]
    pub copies: Option<usize>,
}

/// The body of `POST /replays/{id}/rerun`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayAgain {
    /// `failed` (the default): what it made and was given up or taken back. `rest`: what it had not come to.
    #[schemars(extend("enum" = ["failed", "rest", null]))]
    pub what: Option<String>,
}

/// A replay as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replay {
    /// `rpl_…`.
    pub id: String,
    /// When it was asked for.
    pub created_at: String,
    /// Who asked for it, by the name of the token.
    #[serde(default)]
    pub by: Option<String>,
    /// `running`, `paused`, `completed` (all its deliveries are made) or `cancelled`.
    pub state: Word,
    /// Why it is paused: `operator`, `failures` or `canary`.
    pub hold: Option<Word>,
    /// What is replayed, of what was there when it was asked for.
    pub filter: Selection,
    /// Where to; `null` is where each delivery went before.
    pub to: Option<String>,
    /// It makes no more than so many in so many milliseconds.
    pub rate: Option<(u32, u64)>,
    /// `oldest` or `newest`, first.
    pub order: Word,
    /// By type, in milliseconds: what happened longer ago is left out.
    pub max_age_ms: BTreeMap<String, u64>,
    /// Whether it leaves out what has got there since.
    pub skip_if_delivered_later: bool,
    /// Pauses when so many of its deliveries have failed.
    pub stop_after_failures: Option<u64>,
    /// Makes so many at first.
    pub canary: Option<u64>,
    /// Whether those are delivered, or an operator went on without.
    pub canary_passed: bool,
    /// Deliveries that fitted so far.
    pub selected: u64,
    /// Deliveries it made so far.
    pub queued: u64,
    /// Fitting deliveries it made nothing of.
    pub skipped: u64,
    /// The same, by why.
    pub skipped_by: SkippedBy,
    /// Of those made: not yet ended.
    pub open: u64,
    /// Of those, failed at least once.
    pub retrying: u64,
    /// Delivered.
    pub delivered: u64,
    /// Given up.
    pub dead: u64,
    /// Taken back, or out of retention.
    pub withdrawn: u64,
}

/// Fitting deliveries that nothing was made of, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SkippedBy {
    /// One of that event to that endpoint was waiting already, or made by the same replay.
    pub waiting: u64,
    /// Older than its type's `max_age`.
    pub too_old: u64,
    /// A later one has got there.
    pub delivered_later: u64,
    /// The body is out of retention.
    pub body_gone: u64,
    /// No route, or its endpoint is no longer in the config.
    pub nowhere: u64,
}

/// What a replay would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Deliveries that fit.
    pub selected: u64,
    /// Deliveries that would be made.
    pub would_make: u64,
    /// The others, by why.
    pub skipped_by: SkippedBy,
    /// What would be made, by endpoint.
    pub by_endpoint: BTreeMap<String, u64>,
    /// By where the old delivery stands; `unrouted` for events that went nowhere.
    pub by_status: BTreeMap<String, u64>,
    /// By type; `(other)` is all beyond a hundred.
    pub by_type: BTreeMap<String, u64>,
    /// By the event's age: up to each, youngest first; the last is all that is older.
    pub by_age: Vec<(String, u64)>,
    /// When the oldest event was received.
    pub oldest: Option<String>,
    /// And the newest.
    pub newest: Option<String>,
    /// The first few.
    pub samples: Vec<Sample>,
    /// How long making them takes at the rate asked for; `null` without one.
    pub takes_ms: Option<u64>,
}

/// One delivery that would be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Of this event.
    pub event: String,
    /// Because of this delivery; `null` for an event that went nowhere.
    pub delivery: Option<String>,
    /// To this endpoint.
    pub to: String,
    /// Of this type.
    #[serde(rename = "type")]
    pub event_type: String,
}

/// What a trial came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// Copies that were sent.
    pub copies: usize,
    /// Of those, taken (2xx) there.
    pub delivered: usize,
    /// Of those whose original was answered: answered with another status.
    pub differ: usize,
    /// The median time of the originals' last attempts.
    pub median_before_ms: Option<u64>,
    /// The median time of the copies.
    pub median_ms: Option<u64>,
    /// One by one, newest event first.
    pub items: Vec<TrialCopy>,
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialCopy {
    /// Of this event.
    pub event: String,
    /// Of this delivery.
    pub delivery: String,
    /// That went to this endpoint.
    pub endpoint: String,
    /// Its last attempt, if there was one.
    pub before: Option<TrialAnswer>,
    /// What came back now.
    pub now: TrialAnswer,
    /// What that would have meant.
    pub outcome: Word,
    /// The beginning of the answer's body.
    pub body: Option<Octets>,
}

/// How an attempt fared, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialAnswer {
    /// What was answered.
    pub status: Option<u16>,
    /// Or what went wrong.
    pub failure: Option<Word>,
    /// How long it took.
    pub took_ms: u64,
}

/// Of an answer's body so much is shown.
const SHOWN_BYTES_MAX: usize = 512;

impl Replay {
    /// The replay, with what its deliveries came to, which was asked later: it may have made more by then.
    #[must_use]
    pub fn new(replay: &replay::Replay, tally: Option<&Tally>) -> Self {
        let tally = tally.copied().unwrap_or_default();
        let more = tally.replayed.saturating_sub(replay.queued);
        let terms = &replay.terms;
        Self {
            id: replay.id.to_string(),
            created_at: replay.created_at.to_string(),
            by: replay.by.as_ref().map(Name::to_string),
            state: replay.state.as_str().into(),
            hold: replay.hold.map(|hold| hold.as_str().into()),
            filter: Selection::from(&replay.filter),
            to: replay.to.as_ref().map(Name::to_string),
            rate: terms.rate.map(|rate| (rate.count, duration_millis(rate.per))),
            order: if terms.newest_first { "newest" } else { "oldest" }.into(),
            max_age_ms: terms.max_ages.iter().map(|(of, age)| (of.clone(), duration_millis(*age))).collect(),
            skip_if_delivered_later: terms.skip_if_delivered_later,
            stop_after_failures: terms.stop_after_failures,
            canary: terms.canary,
            canary_passed: replay.canary_passed,
            selected: replay.selected + more,
            queued: replay.queued + more,
            skipped: replay.skipped.total(),
            skipped_by: replay.skipped.into(),
            open: tally.scheduled + tally.retrying,
            retrying: tally.retrying,
            delivered: tally.delivered,
            dead: tally.dead,
            withdrawn: tally.cancelled + tally.expired,
        }
    }
}

impl From<replay::Skipped> for SkippedBy {
    fn from(skipped: replay::Skipped) -> Self {
        let replay::Skipped { waiting, too_old, delivered_later, body_gone, nowhere } = skipped;
        Self { waiting, too_old, delivered_later, body_gone, nowhere }
    }
}

impl Plan {
    /// The plan, at this rate.
    #[must_use]
    pub fn new(plan: &replay::Plan, rate: Option<crate::core::rate::Rate>) -> Self {
        let status = |status: &Option<Status>| status.map_or("unrouted", Status::as_str).to_owned();
        let event_type = |kind: &Option<String>| kind.clone().unwrap_or_else(|| "(other)".to_owned());
        let ages = replay::AGES.map(|(up_to, _)| up_to).into_iter().chain(["older"]).map(str::to_owned);
        Self {
            selected: plan.selected,
            would_make: plan.would_make,
            skipped_by: plan.skipped.into(),
            by_endpoint: plan.by_endpoint.iter().map(|(name, count)| (name.to_string(), *count)).collect(),
            by_status: plan.by_status.iter().map(|(of, count)| (status(of), *count)).collect(),
            by_type: plan.by_type.iter().map(|(of, count)| (event_type(of), *count)).collect(),
            by_age: ages.zip(plan.by_age).collect(),
            oldest: plan.received.map(|(oldest, _)| oldest.to_string()),
            newest: plan.received.map(|(_, newest)| newest.to_string()),
            samples: plan.samples.iter().map(Sample::from).collect(),
            takes_ms: rate.map(|rate| duration_millis(plan.takes(rate))),
        }
    }
}

impl From<&replay::Sample> for Sample {
    fn from(sample: &replay::Sample) -> Self {
        Self {
            event: sample.event.to_string(),
            delivery: sample.delivery.map(|id| id.to_string()),
            to: sample.to.to_string(),
            event_type: sample.event_type.clone(),
        }
    }
}

impl From<&engine::Trial> for Trial {
    fn from(trial: &engine::Trial) -> Self {
        let items: Vec<TrialCopy> = trial.copies.iter().map(TrialCopy::from).collect();
        let answered = |copy: &TrialCopy| copy.before.as_ref().and_then(|before| before.status);
        let differs = |copy: &&TrialCopy| answered(copy).is_some_and(|before| Some(before) != copy.now.status);
        let before = items.iter().filter_map(|copy| copy.before.as_ref()).map(|answer| answer.took_ms);
        Self {
            copies: items.len(),
            delivered: items.iter().filter(|copy| copy.outcome == "delivered").count(),
            differ: items.iter().filter(differs).count(),
            median_before_ms: median(before.collect()),
            median_ms: median(items.iter().map(|copy| copy.now.took_ms).collect()),
            items,
        }
    }
}

impl From<&engine::Tried> for TrialCopy {
    fn from(tried: &engine::Tried) -> Self {
        let body = match &tried.reply {
            Reply::Answer(answer) => {
                let shown = answer.body.get(..SHOWN_BYTES_MAX);
                Some(Octets::kept(shown.unwrap_or(&answer.body), answer.body_cut || shown.is_some()))
            }
            Reply::Failure(_) => None,
        };
        Self {
            event: tried.delivery.id.event.to_string(),
            delivery: tried.delivery.id.to_string(),
            endpoint: tried.delivery.endpoint.to_string(),
            before: tried.before.as_ref().map(TrialAnswer::from),
            now: TrialAnswer::new(&tried.reply, duration_millis(tried.took)),
            outcome: tried.outcome.as_str().into(),
            body,
        }
    }
}

impl TrialAnswer {
    fn new(reply: &Reply, took_ms: u64) -> Self {
        match reply {
            Reply::Answer(answer) => Self { status: Some(answer.status), failure: None, took_ms },
            Reply::Failure(failure) => Self { status: None, failure: Some(failure.class.as_str().into()), took_ms },
        }
    }
}

impl From<&Attempt> for TrialAnswer {
    fn from(attempt: &Attempt) -> Self {
        Self::new(&attempt.reply, u64::from(attempt.took_ms))
    }
}

fn median(mut of: Vec<u64>) -> Option<u64> {
    of.sort_unstable();
    of.get(of.len() / 2).copied()
}
