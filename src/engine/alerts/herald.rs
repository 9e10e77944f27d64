//! The herald journals alerts, as events of the gateway's own source.
//!
//! They go the way of every event: routed, given an id, made durable, told to the dispatcher, once each by their
//! fingerprints. What no route takes is not journaled, unless it has to be remembered.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use super::Body;
use crate::core::alert::Alert;
use crate::core::event::{Draft, Header};
use crate::core::name::{Name, NameError};
use crate::core::source::ALERTS;
use crate::core::timestamp::Timestamp;
use crate::engine::Clock;
use crate::engine::committer::Committer;
use crate::engine::rules::Current;
use crate::journal::JournalError;

/// What it takes to journal an alert. Cheap to clone.
#[derive(Clone)]
pub(in crate::engine) struct Herald {
    pub(in crate::engine) committer: Committer,
    pub(in crate::engine) rules: Current,
    pub(in crate::engine) slots: Arc<Semaphore>,
    pub(in crate::engine) clock: Arc<dyn Clock>,
}

impl Herald {
    /// Tells an alert to whom a route names for it, durably. Where there is none, nothing happens.
    pub(in crate::engine) async fn tell(&self, alert: &Alert) -> Result<(), JournalError> {
        match self.draft(alert) {
            Some(draft) if !draft.endpoints.is_empty() => self.journal(draft).await,
            _ => Ok(()),
        }
    }

    /// Journals an alert, told or not.
    pub(in crate::engine) async fn record(&self, alert: &Alert, told: bool) -> Result<(), JournalError> {
        let Some(mut draft) = self.draft(alert) else { return Ok(()) };
        if !told {
            draft.endpoints.clear();
        }
        self.journal(draft).await
    }

    fn draft(&self, alert: &Alert) -> Option<Draft> {
        let mut draft = Draft {
            source: Name::new(ALERTS).ok()?,
            event_type: alert.kind.event_type().to_owned(),
            key: Some(alert.kind.event_type().to_owned()),
            occurred_at: Some(alert.at),
            headers: vec![json_header()],
            body: serde_json::to_vec(&Body::from(alert)).ok()?.into(),
            dedup: Some(alert.dedup()),
            endpoints: Vec::new(),
        };
        draft.endpoints = self.rules.load().routes().fan_out(&draft.source, &draft.event_type);
        // An endpoint in trouble is not told of it.
        draft.endpoints.retain(|endpoint| alert.endpoint.as_ref() != Some(endpoint));
        Some(draft)
    }

    async fn journal(&self, draft: Draft) -> Result<(), JournalError> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| JournalError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.committer.accept(draft, self.clock.now(), slot, reply);
        answer.await.unwrap_or(Err(JournalError::Closed)).map(drop)
    }
}

/// The type of an event that somebody has sent to see whether it gets there.
const TEST: &str = "backstop.endpoint.test";

/// An event of the gateway's own that goes to this endpoint only, because somebody wants to see whether it gets there.
pub(in crate::engine) fn test(endpoint: &Name, now: Timestamp) -> Result<Draft, NameError> {
    let body = serde_json::json!({ "type": TEST, "at": now.to_string(), "endpoint": endpoint.as_str() });
    Ok(Draft {
        source: Name::new(ALERTS)?,
        event_type: TEST.to_owned(),
        key: Some(TEST.to_owned()),
        occurred_at: Some(now),
        headers: vec![json_header()],
        body: body.to_string().into(),
        dedup: None,
        endpoints: vec![endpoint.clone()],
    })
}

fn json_header() -> Header {
    Header { name: "content-type".to_owned(), value: Bytes::from_static(b"application/json") }
}
