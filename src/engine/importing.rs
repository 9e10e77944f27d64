//! Taking in events that were events before, many at a time and in their order.
//!
//! Unlike a sender an operator waits: for places in the queue, and behind the senders that have taken them. At most
//! [`ABREAST`] places are taken at a time. From the first event on that is not taken, none is, so order is kept.

use std::sync::Arc;

use super::{Accepted, Engine, NotAccepted};
use crate::core::event::Draft;
use crate::journal::JournalError;

/// Events that wait for the disk at a time.
const ABREAST: usize = 256;

impl Engine {
    /// Stores events, one answer each, in order; with `route` they go where the routes of now send them, else nowhere.
    /// What is `Ok` is durable.
    pub async fn import(&self, drafts: Vec<Draft>, route: bool) -> Vec<Result<Accepted, NotAccepted>> {
        let mut answers = Vec::with_capacity(drafts.len());
        let mut failed: Option<NotAccepted> = None;
        let mut drafts = drafts.into_iter().peekable();
        while drafts.peek().is_some() {
            let abreast = drafts.by_ref().take(ABREAST);
            if let Some(why) = &failed {
                answers.extend(abreast.map(|_| Err(why.clone())));
                continue;
            }
            let mut stored = Vec::with_capacity(ABREAST);
            for draft in abreast {
                stored.push(self.begin_import(draft, route).await);
            }
            for answer in stored {
                let answer = match answer {
                    Ok(answer) => answer.await.unwrap_or(Err(JournalError::Closed)).map_err(NotAccepted::from),
                    Err(why) => Err(why),
                };
                failed = failed.or_else(|| answer.as_ref().err().cloned());
                answers.push(answer);
            }
        }
        answers
    }

    async fn begin_import(
        &self,
        mut draft: Draft,
        route: bool,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<Accepted, JournalError>>, NotAccepted> {
        self.may_accept()?;
        let slot = Arc::clone(&self.shared.accept_slots).acquire_owned().await.map_err(|_| NotAccepted::Stopping)?;
        draft.endpoints =
            if route { self.rules().routes().fan_out(&draft.source, &draft.event_type) } else { Vec::new() };
        Ok(self.store(draft, slot))
    }
}
