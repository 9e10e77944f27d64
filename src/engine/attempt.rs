//! One attempt, from finding the event to knowing what came back.
//!
//! It always ends with an [`Attempt`]: what cannot be found or sent, or panics, is a failure like any other.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{Clock, Sending, Transport, read_blocking};
use crate::core::attempt::{Attempt, Failure, FailureClass, Outcome, Reply};
use crate::core::endpoint::Endpoint;
use crate::core::event::Event;
use crate::core::id::ReplayId;
use crate::core::scheduler::Dispatch;
use crate::core::timestamp::{Timestamp, duration_millis};
use crate::core::trace::TraceParent;
use crate::journal::{Journal, JournalError};
use crate::telemetry::About;

/// An attempt to be made.
pub(super) struct Try {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) dispatch: Dispatch,
    pub(super) recent: Option<Arc<Event>>,
}

/// An event that is to be sent, with what is known of its delivery.
struct Found {
    event: Arc<Event>,
    replay: Option<ReplayId>,
    again: bool,
}

impl Try {
    pub(super) async fn run(self) -> (About, Attempt) {
        let (delivery, number) = (self.dispatch.id, self.dispatch.attempt);
        let mut about = About::new(delivery, self.endpoint.name.clone());
        let started_at = self.clock.now();
        let began = Instant::now();
        let (reply, lost) = match self.find().await {
            Ok(Some(found)) => {
                let draft = &found.event.draft;
                about.event = Some((draft.source.clone(), draft.event_type.clone(), draft.key.clone()));
                about.body_bytes = draft.body.len();
                about.again = found.again;
                about.trace = TraceParent::of(&draft.headers).map(|parent| parent.trace);
                // A bug in a transport must not take the slot with it for ever.
                let sent = AssertUnwindSafe(self.send(found, started_at)).catch_unwind().await;
                (sent.unwrap_or_else(|_| not_sent("sending panicked; this is a bug in backstop")), false)
            }
            Ok(None) => (not_sent("the event's record in the log is damaged: there is nothing to send"), true),
            Err(error) => (not_sent(&format!("the event could not be read: {error}")), false),
        };
        let took_ms = u32::try_from(duration_millis(began.elapsed())).unwrap_or(u32::MAX);
        let outcome = if lost { Outcome::Permanent } else { Outcome::classify(&reply, &self.endpoint.permanent) };
        let Dispatch { probe, out_of_order, .. } = self.dispatch;
        (about, Attempt { number, started_at, took_ms, reply, outcome, probe, out_of_order })
    }

    /// The event, from memory or from the journal. `None` if it is lost.
    async fn find(&self) -> Result<Option<Found>, JournalError> {
        if let Some(event) = &self.recent {
            return Ok(Some(Found { event: Arc::clone(event), replay: None, again: false }));
        }
        let delivery = self.dispatch.id;
        read_blocking(Arc::clone(&self.journal), move |journal| {
            let view = journal.entry(delivery.event)?;
            let known = view.and_then(|view| view.deliveries.into_iter().find(|known| known.id == delivery));
            let (Some(event), Some(known)) = (journal.event(delivery.event)?, known) else { return Ok(None) };
            let again = usize::from(delivery.slot) >= event.draft.endpoints.len();
            Ok(Some(Found { event, replay: known.replay, again }))
        })
        .await
    }

    async fn send(&self, found: Found, now: Timestamp) -> Reply {
        let Found { event, replay, again } = found;
        let (endpoint, delivery, attempt) = (Arc::clone(&self.endpoint), self.dispatch.id, self.dispatch.attempt);
        self.transport.send(Sending { endpoint, event, delivery, attempt, replay, again, now }).await
    }
}

fn not_sent(detail: &str) -> Reply {
    Reply::Failure(Failure { class: FailureClass::NotSent, detail: detail.to_owned() })
}
