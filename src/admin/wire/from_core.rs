//! From the core's types to the wire's: what is shown of each, and how.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{
    Answer, Attempt, Delivery, Endpoint, Event, Failure, Lane, Limits, Made, MadeDelivery, Octets, Pause, Tally, Word,
};
use crate::core::attempt::{self, Reply};
use crate::core::delivery;
use crate::core::endpoint;
use crate::core::event::{self, EventHead};
use crate::core::failure::FailureGroup;
use crate::core::id::DeliveryId;
use crate::core::name::Name;
use crate::core::scheduler::LaneView;
use crate::core::sign::Signing;
use crate::core::standing::Standing;
use crate::core::timestamp::{Timestamp, duration_millis};
use crate::core::trace::TraceParent;
use crate::journal;

pub(super) fn headers(headers: &[event::Header]) -> Vec<(String, Octets)> {
    headers.iter().map(|header| (header.name.clone(), Octets::from(&header.value[..]))).collect()
}

impl Event {
    /// An event in a list, with its deliveries.
    #[must_use]
    pub fn listed(view: &journal::EventView) -> Self {
        let deliveries = Some(view.deliveries.iter().map(Delivery::from).collect());
        Self { deliveries, payload_kept: Some(view.has_payload), ..Self::from(&view.head) }
    }

    /// An event shown by itself; `event` is absent if its payload is no longer kept, or its record is damaged.
    #[must_use]
    pub fn shown(view: &journal::EventView, event: Option<&event::Event>, deliveries: Vec<Delivery>) -> Self {
        Self {
            original: event.and_then(|event| event.draft.original()).as_ref().map(ToString::to_string),
            headers: event.map(|event| headers(event.draft.sent_headers())),
            trace_id: event
                .and_then(|event| TraceParent::of(&event.draft.headers))
                .map(|parent| parent.trace.to_string()),
            deliveries: Some(deliveries),
            payload_kept: Some(view.has_payload),
            ..Self::from(&view.head)
        }
    }
}

impl Event {
    /// An event with its body, as it is exported.
    #[must_use]
    pub fn exported(view: &journal::EventView, event: Option<&event::Event>, deliveries: Vec<Delivery>) -> Self {
        let body = event.map(|event| Octets::from(&event.draft.body[..]));
        Self { body, ..Self::shown(view, event, deliveries) }
    }
}

impl From<&EventHead> for Event {
    fn from(head: &EventHead) -> Self {
        Self {
            id: head.id.to_string(),
            received_at: head.received_at.to_string(),
            source: head.source.to_string(),
            event_type: head.event_type.clone(),
            key: head.key.clone(),
            occurred_at: head.occurred_at.as_ref().map(Timestamp::to_string),
            body_bytes: head.body_bytes,
            payload_kept: None,
            original: None,
            headers: None,
            trace_id: None,
            body: None,
            deliveries: None,
        }
    }
}

impl From<&delivery::Delivery> for Delivery {
    fn from(delivery: &delivery::Delivery) -> Self {
        Self {
            id: delivery.id.to_string(),
            endpoint: delivery.endpoint.to_string(),
            status: delivery.status().as_str().into(),
            reason: delivery.reason.as_str().into(),
            due_at: delivery.state.due().as_ref().map(Timestamp::to_string),
            created_at: delivery.born_at.to_string(),
            changed_at: delivery.changed_at.to_string(),
            attempts_made: delivery.attempts,
            probes_failed: delivery.probes,
            released_out_of_order: delivery.out_of_order,
            last_status: delivery.last_status,
            last_failure: delivery.last_failure.map(|class| class.as_str().into()),
            group: delivery.group.as_ref().map(FailureGroup::to_string),
            replay: delivery.replay.as_ref().map(ToString::to_string),
            superseded: delivery.superseded,
            event: None,
            waits_for: None,
            attempts: None,
        }
    }
}

impl From<&attempt::Attempt> for Attempt {
    fn from(attempt: &attempt::Attempt) -> Self {
        let (answer, failure) = match &attempt.reply {
            Reply::Answer(answer) => (Some(Answer::from(answer)), None),
            Reply::Failure(failure) => {
                let class = failure.class.as_str().into();
                (None, Some(Failure { class, detail: failure.detail.clone() }))
            }
        };
        Self {
            number: attempt.number,
            started_at: attempt.started_at.to_string(),
            took_ms: attempt.took_ms,
            outcome: attempt.outcome.as_str().into(),
            probe: attempt.probe,
            released_out_of_order: attempt.out_of_order,
            answer,
            failure,
        }
    }
}

impl From<&attempt::Answer> for Answer {
    fn from(answer: &attempt::Answer) -> Self {
        Self {
            status: answer.status,
            headers: headers(&answer.headers),
            body: Octets::kept(&answer.body, answer.body_cut),
            body_cut: answer.body_cut,
            retry_after_ms: answer.retry_after.map(duration_millis),
        }
    }
}

impl Octets {
    /// The beginning of a body: where it was cut inside a character, that character is left out.
    #[must_use]
    pub fn kept(bytes: &[u8], cut: bool) -> Self {
        match std::str::from_utf8(bytes) {
            Err(error) if cut && error.error_len().is_none() => {
                Self::from(bytes.get(..error.valid_up_to()).unwrap_or_default())
            }
            _ => Self::from(bytes),
        }
    }
}

impl TryFrom<Octets> for Vec<u8> {
    type Error = base64::DecodeError;

    fn try_from(octets: Octets) -> Result<Self, base64::DecodeError> {
        match octets {
            Octets::Text(text) => Ok(text.into_bytes()),
            Octets::Binary { base64 } => BASE64.decode(base64),
        }
    }
}

impl From<&[u8]> for Octets {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Binary { base64: BASE64.encode(bytes) },
        }
    }
}

impl From<Vec<(DeliveryId, Name)>> for Made {
    fn from(made: Vec<(DeliveryId, Name)>) -> Self {
        let made = made.into_iter();
        let deliveries =
            made.map(|(id, endpoint)| MadeDelivery { id: id.to_string(), endpoint: endpoint.to_string() }).collect();
        Self { deliveries }
    }
}

impl From<&journal::Tally> for Tally {
    fn from(tally: &journal::Tally) -> Self {
        Self {
            routed: tally.routed,
            replayed: tally.replayed,
            attempts: tally.attempts,
            scheduled: tally.scheduled,
            retrying: tally.retrying,
            delivered: tally.delivered,
            dead: tally.dead,
            failed: tally.failed,
            cancelled: tally.cancelled,
            expired: tally.expired,
        }
    }
}

impl Endpoint {
    /// An endpoint by its name; without `endpoint` it is one that only the journal knows: the config had it once.
    #[must_use]
    pub fn new(
        name: &Name,
        endpoint: Option<&endpoint::Endpoint>,
        lane: Option<&LaneView>,
        standing: &Standing,
        tally: &journal::Tally,
    ) -> Self {
        Self {
            name: name.to_string(),
            configured: endpoint.is_some(),
            url: endpoint.and_then(|endpoint| without_query(&endpoint.url)),
            signing: endpoint.map(|endpoint| signing(&endpoint.signing)),
            limits: endpoint.map(Limits::from),
            pause: standing.pause.as_ref().map(Pause::from),
            circuit: standing.circuit.into(),
            lane: lane.map(Lane::from),
            backlog: tally.scheduled + tally.retrying,
            deliveries: tally.into(),
        }
    }
}

/// Queries carry keys and tokens often enough that none is shown.
fn without_query(url: &str) -> Option<String> {
    let mut url = reqwest::Url::parse(url).ok()?;
    url.set_query(None);
    Some(url.into())
}

const fn signing(signing: &Signing) -> Word {
    Word::Borrowed(match signing {
        Signing::Off => "off",
        Signing::Standard(_) => "standard",
        Signing::Github(_) => "github",
        Signing::Stripe(_) => "stripe",
    })
}
