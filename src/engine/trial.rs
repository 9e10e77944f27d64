//! A trial: copies of old deliveries, sent to another URL to see how that fares. Nothing is stored, no state changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::{Engine, NotDone, ReplayOrder, Sending};
use crate::core::attempt::{Attempt, Outcome, Reply};
use crate::core::delivery::Delivery;
use crate::core::endpoint::Endpoint;
use crate::core::event::{Event, Header};
use crate::core::id::DeliveryId;
use crate::core::timestamp::duration_millis;
use crate::journal::{Journal, JournalError, Query};

/// Most copies of one trial.
pub const COPIES_MAX: usize = 100;
/// Copies on their way at a time.
const AT_A_TIME: usize = 4;
/// What tells a receiver that this is no delivery.
const MARK: &str = "backstop-trial";

/// What a trial came to.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// The copies, newest event first.
    pub copies: Vec<Tried>,
}

/// One copy, and the delivery that it is a copy of.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The delivery, as it stands.
    pub delivery: Delivery,
    /// Its last attempt, if there was one.
    pub before: Option<Attempt>,
    /// What the URL answered.
    pub reply: Reply,
    /// What that would have meant.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

struct Original {
    event: Arc<Event>,
    delivery: Delivery,
    before: Option<Attempt>,
}

impl Engine {
    /// Sends copies of the newest fitting deliveries, at most `copies`, to `url`, as their endpoints would be sent
    /// them: signed with the same secrets, under the same egress policy, and with a header that marks them. The
    /// endpoint's own headers and client certificate, which are credentials, go along to its own origin only, as
    /// `is_same_origin` tells of two URLs.
    pub async fn try_url(
        &self,
        order: ReplayOrder,
        url: &str,
        copies: usize,
        is_same_origin: fn(&str, &str) -> bool,
    ) -> Result<Trial, NotDone> {
        let mut filter = order.filter;
        filter.unrouted = false;
        let limit = copies.clamp(1, COPIES_MAX);
        let originals =
            self.read(move |journal| originals(journal, &Query { filter, after: None, newest_first: true, limit }));
        let sendings = originals.await?.into_iter().filter_map(|original| {
            let endpoint = self.endpoint(&original.delivery.endpoint)?;
            Some((original, aimed(&endpoint, url, is_same_origin(&endpoint.url, url))))
        });
        let tries = futures_util::stream::iter(sendings).map(|(original, endpoint)| self.try_one(original, endpoint));
        Ok(Trial { copies: tries.buffered(AT_A_TIME).collect().await })
    }

    async fn try_one(&self, original: Original, endpoint: Arc<Endpoint>) -> Tried {
        let Original { event, delivery, before } = original;
        let permanent = endpoint.permanent.clone();
        let (clock, id) = (&self.shared.clock, delivery.id);
        let began = clock.steady();
        let now = clock.now();
        let sending = Sending { endpoint, event, delivery: id, attempt: 1, replay: None, again: true, now };
        let reply = self.shared.transport.send(sending).await;
        let took = clock.steady().saturating_sub(began);
        let outcome = Outcome::classify(&reply, &permanent);
        tracing::info!(delivery = %id, outcome = outcome.as_str(), took_ms = duration_millis(took), "a copy was tried");
        Tried { delivery, before, reply, outcome, took }
    }
}

/// The endpoint, but elsewhere.
fn aimed(endpoint: &Endpoint, url: &str, is_same_origin: bool) -> Arc<Endpoint> {
    let mut aimed = endpoint.clone();
    if !is_same_origin {
        aimed.headers.clear();
        aimed.dial = Arc::new(endpoint.dial.to_stranger());
    }
    url.clone_into(&mut aimed.url);
    aimed.headers.push(Header { name: MARK.to_owned(), value: "true".into() });
    Arc::new(aimed)
}

/// The page's deliveries of which there is something to send.
fn originals(journal: &dyn Journal, query: &Query<DeliveryId>) -> Result<Vec<Original>, JournalError> {
    let (wanted, mut query) = (query.limit, query.clone());
    let mut originals = Vec::new();
    loop {
        let page = journal.deliveries(&query)?;
        for (_, delivery) in page.items {
            if let Some(event) = journal.event(delivery.id.event)? {
                let before = journal.attempts(delivery.id)?.pop();
                originals.push(Original { event, delivery, before });
            }
        }
        query.after = page.next;
        query.limit = wanted.saturating_sub(originals.len());
        if query.after.is_none() || query.limit == 0 {
            return Ok(originals);
        }
    }
}
