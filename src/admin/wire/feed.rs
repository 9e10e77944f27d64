//! What has just happened, on the wire: one object a server-sent event, told apart by `what`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Circuit, Event, Failure, Pause, Word};
use crate::core::delivery::Step;
use crate::core::timestamp::Timestamp;
use crate::engine::feed;

/// Something that was committed just now, or a word about the stream itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Happening {
    /// The stream begins: from here on nothing is left out without a word.
    Begun {
        /// When.
        at: String,
    },
    /// An event was accepted.
    Event(Arrived),
    /// An attempt was made.
    Attempt(Tried),
    /// An endpoint stands otherwise.
    Endpoint(Stood),
    /// So much happened that it could not be told in time.
    Missed {
        /// How many of all that happened, whether they would have fitted or not.
        count: u64,
    },
    /// The gateway ends.
    Bye,
    /// A later version's word.
    #[serde(other)]
    Unknown,
}

/// An event, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Arrived {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// The endpoints it is routed to.
    pub endpoints: Vec<String>,
}

/// An attempt, and what became of its delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tried {
    /// The delivery, `dlv_…`.
    pub id: String,
    /// The event, `evt_…`.
    pub event: String,
    /// Where to.
    pub endpoint: String,
    /// The event's source, if the event could be read.
    pub source: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// Which try, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: String,
    /// How long it took.
    pub took_ms: u32,
    /// What it means: `delivered`, `retryable`, `permanent`, `throttled` or `maybe_delivered`.
    pub outcome: Word,
    /// The answer's status.
    pub last_status: Option<u16>,
    /// Why there was no answer.
    pub failure: Option<Failure>,
    /// Whether it was sent to see if the endpoint is back.
    pub probe: bool,
    /// Where the delivery stands now.
    pub status: Word,
    /// Why.
    pub reason: Word,
    /// When it is tried next.
    pub due_at: Option<String>,
}

/// How an endpoint stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stood {
    /// When that was decided.
    pub at: String,
    /// Which.
    pub endpoint: String,
    /// Whether it can be relied on.
    pub circuit: Circuit,
    /// Why nothing is sent to it, if nothing is.
    pub pause: Option<Pause>,
    /// Until when it asked for silence.
    pub held_until: Option<String>,
}

impl Happening {
    /// The word that tells it apart.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match self {
            Self::Begun { .. } => "begun",
            Self::Event(_) => "event",
            Self::Attempt(_) => "attempt",
            Self::Endpoint(_) => "endpoint",
            Self::Missed { .. } => "missed",
            Self::Bye => "bye",
            Self::Unknown => "unknown",
        }
    }
}

impl From<&feed::Happened> for Happening {
    fn from(happened: &feed::Happened) -> Self {
        match happened {
            feed::Happened::Accepted(head, endpoints) => {
                let endpoints = endpoints.iter().map(ToString::to_string).collect();
                Self::Event(Arrived { event: Event::from(head), endpoints })
            }
            feed::Happened::Attempted(attempted) => Self::Attempt(Tried::from(&**attempted)),
            feed::Happened::Stood { at, endpoint, standing } => Self::Endpoint(Stood {
                at: at.to_string(),
                endpoint: endpoint.to_string(),
                circuit: standing.circuit.into(),
                pause: standing.pause.as_ref().map(Pause::from),
                held_until: (standing.held_until > *at).then(|| standing.held_until.to_string()),
            }),
        }
    }
}

impl From<&feed::Attempted> for Tried {
    fn from(attempted: &feed::Attempted) -> Self {
        let about = &attempted.about;
        let (source, event_type, key) = match about.event.clone() {
            Some((source, event_type, key)) => (Some(source.to_string()), Some(event_type), key),
            None => (None, None, None),
        };
        let failure = attempted.came_back.as_ref().err();
        Self {
            id: about.delivery.to_string(),
            event: about.delivery.event.to_string(),
            endpoint: about.endpoint.to_string(),
            source,
            event_type,
            key,
            number: attempted.number,
            started_at: attempted.started_at.to_string(),
            took_ms: attempted.took_ms,
            outcome: attempted.outcome.as_str().into(),
            last_status: attempted.came_back.as_ref().ok().copied(),
            failure: failure.map(|it| Failure { class: it.class.as_str().into(), detail: it.detail.clone() }),
            probe: attempted.probe,
            status: attempted.status().as_str().into(),
            reason: attempted.reason.as_str().into(),
            due_at: match attempted.step {
                Step::Retry { due } => Some(Timestamp::to_string(&due)),
                _ => None,
            },
        }
    }
}
