//! Our part in traces: a span for each acceptance and each attempt, told to whoever gathers them.
//!
//! Whoever tells waits for nothing: there is a queue of a fixed length, and what does not fit is dropped and counted.
//! Traces are for seeing what happened, the journal is for knowing it. Names of spans are made of what they are about,
//! so that an attempt after a restart still names the acceptance that it comes from, with nothing stored for that.
//! Absent: how they are told, which is `otlp`'s (a feature of the build); without it nobody gathers them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::core::id::EventId;
use crate::core::timestamp::Timestamp;
use crate::core::trace::{SpanId, TraceId, TraceParent};

/// Whom spans are told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<Span>,
    dropped: AtomicU64,
}

/// What was done, and how long it took.
#[derive(Debug)]
pub struct Span {
    /// Of which trace.
    pub trace: TraceId,
    /// Its name in it.
    pub id: SpanId,
    /// What it comes from.
    pub parent: Option<SpanId>,
    /// What it is.
    pub kind: Kind,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What is known of it. No secret, no body.
    pub attributes: Attributes,
    /// What went wrong, if something did.
    pub failed: Option<String>,
}

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request was taken in.
    Accept,
    /// An event was sent to an endpoint.
    Attempt,
}

/// What is known of a span, by name.
pub type Attributes = Vec<(&'static str, Value)>;

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

/// Where an event stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which trace: the sender's, or one that is named as the event is.
    pub trace: TraceId,
    /// The part of it that the sender's request came from.
    pub sender: Option<SpanId>,
    /// The acceptance.
    pub acceptance: SpanId,
}

impl Spans {
    /// Spans for somebody who takes them from here. At most `len_max` wait.
    #[must_use]
    pub fn queue(len_max: usize) -> (Self, mpsc::Receiver<Span>) {
        let (spans, received) = mpsc::channel(len_max);
        (Self(Some(Arc::new(Queue { spans, dropped: AtomicU64::new(0) }))), received)
    }

    /// Whether anybody is told.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Where an event stands in its trace that came with this context; `None` if nobody wants to know: nobody is told, or
    /// the sender says that this trace is not recorded.
    #[must_use]
    pub fn place(&self, parent: Option<TraceParent>, event: EventId) -> Option<Place> {
        if !self.is_on() || parent.is_some_and(|parent| !parent.sampled) {
            return None;
        }
        let trace = parent.map_or_else(|| TraceId::of_event(event), |parent| parent.trace);
        Some(Place { trace, sender: parent.map(|parent| parent.parent), acceptance: SpanId::of_acceptance(event) })
    }

    /// Tells of one, or drops it if too many wait.
    pub fn tell(&self, span: Span) {
        if let Some(queue) = &self.0
            && queue.spans.try_send(span).is_err()
        {
            queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were dropped since this was asked last.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |queue| queue.dropped.swap(0, Ordering::Relaxed))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(spans: &Spans) -> Span {
        let place = spans.place(None, EventId::from_u128(7)).unwrap();
        Span {
            trace: place.trace,
            id: place.acceptance,
            parent: place.sender,
            kind: Kind::Accept,
            began: Timestamp::ZERO,
            took: Duration::ZERO,
            attributes: Vec::new(),
            failed: None,
        }
    }

    #[test]
    fn who_tells_waits_for_nobody() {
        let (spans, mut received) = Spans::queue(2);
        (0..5).for_each(|_| spans.tell(span(&spans)));
        assert_eq!((spans.take_dropped(), spans.take_dropped()), (3, 0));
        assert!(received.try_recv().is_ok() && received.try_recv().is_ok() && received.try_recv().is_err());
        drop(received);
        spans.tell(span(&spans));
        assert_eq!(spans.take_dropped(), 1);
        assert_eq!(Spans::default().place(None, EventId::from_u128(7)), None);
    }

    #[test]
    fn a_senders_trace_goes_on_and_is_not_told_of_against_its_will() {
        let (spans, _received) = Spans::queue(1);
        let from = |flags: &str| {
            let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            spans.place(TraceParent::parse(value.as_bytes()), EventId::from_u128(7))
        };
        assert_eq!(from("00"), None);
        let (joined, own) = (from("01").unwrap(), spans.place(None, EventId::from_u128(7)).unwrap());
        assert_eq!(joined.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(joined.sender.unwrap().to_string(), "00f067aa0ba902b7");
        assert_eq!((own.trace.to_string().as_str(), own.sender), ("00000000000000000000000000000007", None));
        assert_eq!(own.acceptance, joined.acceptance, "it is named as the event is");
    }
}
