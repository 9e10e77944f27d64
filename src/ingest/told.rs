//! What a trace is told of an acceptance, if anybody gathers traces.

use std::time::Duration;

use crate::core::event::Draft;
use crate::core::id::EventId;
use crate::core::timestamp::Timestamp;
use crate::core::trace::TraceParent;
use crate::telemetry::spans::{Attributes, Kind, Span, Spans};

/// What is known of an event before it has an id.
pub(super) struct Told {
    began: Timestamp,
    context: Option<TraceParent>,
    attributes: Attributes,
}

impl Told {
    /// Nothing if nobody wants to know.
    pub(super) fn new(spans: &Spans, draft: &Draft, began: Timestamp) -> Option<Self> {
        if !spans.is_on() {
            return None;
        }
        let body_bytes = u32::try_from(draft.body.len()).unwrap_or(u32::MAX);
        let mut attributes: Attributes = vec![
            ("backstop.source", draft.source.as_str().into()),
            ("backstop.event.type", draft.event_type.as_str().into()),
            ("http.request.method", "POST".into()),
            ("http.request.body.size", body_bytes.into()),
        ];
        attributes.extend(draft.key.as_deref().map(|key| ("backstop.event.key", key.into())));
        Some(Self { began, context: TraceParent::of(&draft.headers), attributes })
    }

    /// It is durable.
    pub(super) fn tell(mut self, spans: &Spans, event: EventId, took: Duration) {
        let Some(place) = spans.place(self.context, event) else { return };
        self.attributes.push(("backstop.event.id", event.to_string().into()));
        spans.tell(Span {
            trace: place.trace,
            id: place.acceptance,
            parent: place.sender,
            kind: Kind::Accept,
            began: self.began,
            took,
            attributes: self.attributes,
            failed: None,
        });
    }
}
