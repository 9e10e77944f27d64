//! What operators ask of the engine to have old events delivered again: one by hand, or many as a job.

use std::collections::HashSet;
use std::sync::Arc;

use super::dispatcher::Command;
use super::walk::fared;
use super::{Engine, NotDone};
use crate::core::delivery::Status;
use crate::core::endpoint::Order;
use crate::core::filter::Filter;
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::{Fared, Hold, Plan, Replay, ReplayState, Request, Terms, Turn};
use crate::core::timestamp::Timestamp;
use crate::journal::{Change, Receipt, Redelivery};

/// A replay to be.
#[derive(Debug, Clone, Default)]
pub struct ReplayOrder {
    /// What is replayed.
    pub filter: Filter,
    /// Where to; `None` is where each delivery went before, and for unrouted events where routes send them now.
    pub to: Option<Name>,
    /// How.
    pub terms: Terms,
    /// By which it is recognised if it is asked for again.
    pub request: Option<Request>,
    /// Who asks for it.
    pub by: Option<Name>,
}

/// Which part of an earlier replay is done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// What it had not come to when it was cancelled.
    Rest,
    /// Those of its deliveries that were given up or taken back.
    Failed,
}

impl Engine {
    /// Delivers an event again: to `to`, or to every endpoint it was ever routed or replayed to.
    ///
    /// Without `force`, endpoints with a delivery of it still waiting are left out; if that leaves none, an error.
    pub async fn replay_event(
        &self,
        event: EventId,
        to: Option<Name>,
        force: bool,
    ) -> Result<Vec<(DeliveryId, Name)>, NotDone> {
        let view = self.read(move |journal| journal.entry(event)).await?.ok_or(NotDone::Missing)?;
        let rules = self.rules();
        let mut targets: Vec<Name> = match to {
            Some(to) => vec![to],
            // What was routed nowhere goes where it would be routed now.
            None if view.deliveries.is_empty() => rules.routes().fan_out(&view.head.source, &view.head.event_type),
            None => view.deliveries.into_iter().map(|delivery| delivery.endpoint).collect(),
        };
        let mut seen = HashSet::new();
        targets.retain(|target| seen.insert(target.clone()));
        if targets.is_empty() {
            return Err(NotDone::Invalid(
                "no route sends the event anywhere; name an endpoint to send it to, or add a route".to_owned(),
            ));
        }
        if let Some(unknown) = targets.iter().find(|target| !rules.endpoints.contains_key(*target)) {
            return Err(NotDone::UnknownEndpoint(unknown.clone()));
        }
        let (mut made, mut refused) = (Vec::new(), None);
        for endpoint in targets {
            let at = self.shared.clock.now();
            match self.commit(Change::Redeliver(Redelivery { event, endpoint, at, force })).await {
                Ok(Receipt::Made(deliveries)) => made.extend(deliveries),
                Ok(Receipt::Missing) => refused = Some(NotDone::Missing),
                Ok(Receipt::PayloadGone) => refused = Some(NotDone::PayloadGone),
                Ok(_) => {}
                Err(error) => refused = Some(error),
            }
        }
        // What was made goes, whatever became of the others.
        if !made.is_empty() {
            self.tell(Command::Made(made.clone()));
        }
        match refused {
            Some(refused) => Err(refused),
            None if made.is_empty() => Err(NotDone::AlreadyScheduled),
            None => Ok(made),
        }
    }

    /// Delivers the event of a delivery again to the same endpoint.
    pub async fn replay_delivery(&self, id: DeliveryId, force: bool) -> Result<Vec<(DeliveryId, Name)>, NotDone> {
        let view = self.read(move |journal| journal.entry(id.event)).await?.ok_or(NotDone::Missing)?;
        let delivery = view.deliveries.into_iter().find(|delivery| delivery.id == id).ok_or(NotDone::Missing)?;
        self.replay_event(id.event, Some(delivery.endpoint), force).await
    }

    /// Begins a replay of everything that fits now; the work goes on in the background.
    ///
    /// Asked for again with the same [`Request`], the one that was begun then: `false`.
    pub async fn open_replay(&self, order: ReplayOrder) -> Result<(Replay, bool), NotDone> {
        // One at a time, or the same request could be let in twice.
        let _opening = self.shared.opening.lock().await;
        if let Some(request) = &order.request
            && let Some(known) = self.known_replay(request).await?
        {
            return Ok((known, false));
        }
        let replay = self.frozen(order, self.shared.clock.now())?;
        self.begin(replay).await.map(|replay| (replay, true))
    }

    /// What such a replay would do, if it was begun now. Walks all of it: takes its time, but little memory.
    pub async fn plan_replay(&self, order: ReplayOrder) -> Result<Plan, NotDone> {
        let now = self.shared.clock.now();
        let (mut replay, mut plan) = (self.frozen(order, now)?, Plan::default());
        let rules = self.rules();
        loop {
            // Whoever does not wait for the answer any more ends it here.
            let map = Arc::clone(&rules.map);
            let counted = self.read(move |journal| {
                let finished = map.count(journal, (&mut replay, &mut plan), now)?;
                Ok((replay, plan, finished))
            });
            let (moved, so_far, finished) = counted.await?;
            if finished {
                return Ok(so_far);
            }
            (replay, plan) = (moved, so_far);
        }
    }

    /// Begins a replay of what an earlier one has left.
    ///
    /// Asked for again with the same [`Request`], the one that was begun then: `false`.
    pub async fn replay_again(
        &self,
        id: ReplayId,
        which: Again,
        request: Option<Request>,
        by: Option<Name>,
    ) -> Result<(Replay, bool), NotDone> {
        let _opening = self.shared.opening.lock().await;
        if let Some(request) = &request
            && let Some(known) = self.known_replay(request).await?
        {
            return Ok((known, false));
        }
        let before = self.replay(id).await?;
        let Replay { filter, to, terms, cursor, freeze, .. } = before.clone();
        let order = ReplayOrder { filter, to, terms, request, by };
        let replay = match which {
            Again::Rest if before.state == ReplayState::Cancelled => {
                Replay { cursor, freeze, ..self.frozen(order, self.shared.clock.now())? }
            }
            Again::Rest => {
                let why = match before.state {
                    ReplayState::Completed => "it came to its end: there is no rest; ask for what failed of it",
                    _ => "it has not ended; resume it, or cancel it first",
                };
                return Err(NotDone::Invalid(why.to_owned()));
            }
            Again::Failed => {
                let statuses = vec![Status::Dead, Status::Cancelled];
                let filter = Filter { replay: Some(id), statuses, ..Filter::default() };
                let terms = Terms { newest_first: false, ..order.terms };
                self.frozen(ReplayOrder { filter, to: None, terms, ..order }, self.shared.clock.now())?
            }
        };
        self.begin(replay).await.map(|replay| (replay, true))
    }

    /// Stops a replay; deliveries it has made stay.
    pub async fn cancel_replay(&self, id: ReplayId) -> Result<(), NotDone> {
        self.change_replay(Change::CancelReplay { id, at: self.shared.clock.now() }).await
    }

    /// It makes nothing more until it is resumed.
    pub async fn pause_replay(&self, id: ReplayId) -> Result<(), NotDone> {
        let turn = Turn::Pause(Hold::Operator);
        self.change_replay(Change::TurnReplay { id, turn, at: self.shared.clock.now() }).await
    }

    /// It goes on; what has failed so far does not stop it again.
    pub async fn resume_replay(&self, id: ReplayId) -> Result<(), NotDone> {
        let turn = Turn::Resume { forgiven: self.fared(id).await?.failures() };
        self.change_replay(Change::TurnReplay { id, turn, at: self.shared.clock.now() }).await?;
        self.shared.replayer.wake();
        Ok(())
    }

    /// A replay as it stands.
    pub async fn replay(&self, id: ReplayId) -> Result<Replay, NotDone> {
        let replays = self.read(|journal| journal.replays()).await?;
        replays.into_iter().find(|replay| replay.id == id).ok_or(NotDone::Missing)
    }

    async fn fared(&self, id: ReplayId) -> Result<Fared, NotDone> {
        let tallies = self.read(|journal| Ok(journal.counters().replays)).await?;
        Ok(tallies.get(&id).map(fared).unwrap_or_default())
    }

    async fn known_replay(&self, request: &Request) -> Result<Option<Replay>, NotDone> {
        let replays = self.read(|journal| journal.replays()).await?;
        let with_key = |replay: &Replay| replay.request.as_ref().is_some_and(|known| known.key == request.key);
        match replays.into_iter().find(with_key) {
            Some(replay) if replay.request.as_ref() != Some(request) => {
                Err(NotDone::Invalid("this idempotency key was used for another request".to_owned()))
            }
            known => Ok(known),
        }
    }

    /// The replay that is asked for, its selection frozen at `now`.
    fn frozen(&self, order: ReplayOrder, now: Timestamp) -> Result<Replay, NotDone> {
        let ReplayOrder { filter, to, terms, request, by } = order;
        let rules = self.rules();
        if let Some(unknown) = to.as_ref().filter(|to| !rules.endpoints.contains_key(*to)) {
            return Err(NotDone::UnknownEndpoint(unknown.clone()));
        }
        let target = to.as_ref().or(filter.endpoint.as_ref());
        let is_meant = |name: &Name| target.is_none_or(|target| target == name);
        let mut ordered = rules.endpoints.values().filter(|endpoint| endpoint.order != Order::None);
        if terms.newest_first
            && let Some(kept) = ordered.find(|endpoint| is_meant(&endpoint.name))
        {
            let why = format!("endpoint `{}` keeps an order: it cannot be sent the newest first", kept.name);
            return Err(NotDone::Invalid(why));
        }
        let id = self.shared.committer.replay_id(now);
        Ok(Replay { to, terms, request, by, ..Replay::new(id, now, filter) })
    }

    async fn begin(&self, replay: Replay) -> Result<Replay, NotDone> {
        self.commit(Change::OpenReplay(Box::new(replay.clone()))).await?;
        self.shared.replayer.wake();
        Ok(replay)
    }

    async fn change_replay(&self, change: Change) -> Result<(), NotDone> {
        match self.commit(change).await? {
            Receipt::Missing => Err(NotDone::Missing),
            Receipt::Stale => Err(NotDone::Ended),
            _ => Ok(()),
        }
    }
}
