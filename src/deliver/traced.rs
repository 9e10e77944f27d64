//! What a trace is told of an attempt, if anybody gathers traces.

use std::time::Duration;

use reqwest::Url;

use crate::core::attempt::Reply;
use crate::core::source::ALERTS;
use crate::core::trace::{SpanId, TraceParent};
use crate::engine::Sending;
use crate::telemetry::spans::{Attributes, Kind, Span, Spans};

/// An attempt's place in its trace.
pub(super) struct Traced {
    /// What the endpoint is told: it is called by this attempt.
    pub(super) context: TraceParent,
    /// The acceptance, which the attempt comes from; none is told of what the gateway itself has to say.
    parent: Option<SpanId>,
}

impl Traced {
    /// Nothing if nobody wants to know.
    pub(super) fn new(spans: &Spans, sending: &Sending) -> Option<Self> {
        if !spans.is_on() {
            return None;
        }
        let place = spans.place(TraceParent::of(&sending.event.draft.headers), sending.event.id)?;
        let own = SpanId::of_attempt(sending.delivery, sending.attempt, sending.now);
        let context = TraceParent { trace: place.trace, parent: own, sampled: true };
        let is_own = sending.event.draft.source.as_str() == ALERTS;
        Some(Self { context, parent: (!is_own).then_some(place.acceptance) })
    }

    /// It has come to this.
    pub(super) fn tell(self, spans: &Spans, sending: &Sending, reply: &Reply, took: Duration) {
        let mut attributes: Attributes = vec![
            ("backstop.endpoint", sending.endpoint.name.as_str().into()),
            ("backstop.delivery.id", sending.delivery.to_string().into()),
            ("backstop.attempt", sending.attempt.into()),
            ("backstop.event.type", sending.event.draft.event_type.as_str().into()),
            ("http.request.method", "POST".into()),
        ];
        attributes.extend(sending.replay.map(|replay| ("backstop.replay.id", replay.to_string().into())));
        // Paths and queries may hold secrets.
        let url = Url::parse(&sending.endpoint.url).ok();
        attributes.extend(url.as_ref().and_then(Url::host_str).map(|host| ("server.address", host.into())));
        let failed = match reply {
            Reply::Answer(answer) => {
                attributes.push(("http.response.status_code", u32::from(answer.status).into()));
                let is_taken = (200..300).contains(&answer.status);
                (!is_taken).then(|| format!("it answered {}", answer.status))
            }
            Reply::Failure(failure) => {
                attributes.push(("error.type", failure.class.as_str().into()));
                Some(failure.detail.clone())
            }
        };
        let TraceParent { trace, parent: id, .. } = self.context;
        let (kind, parent, began) = (Kind::Attempt, self.parent, sending.now);
        spans.tell(Span { trace, id, parent, kind, began, took, attributes, failed });
    }
}
