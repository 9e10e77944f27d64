//! Gaps: calls that never ended, that ended without a beginning, or that have not arrived everywhere.
//!
//! The first two are the engine's alerts, each held against the journal: one that has ended meanwhile is a gap no
//! longer. Undelivered calls are gathered when they are asked for, by one walk over the exceptions, and told apart
//! up to the limit asked for. They come on the first page, before the others.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::select::{self, Of, Pairs};
use super::{AdminState, GET, only, query, respond, wire, with};
use crate::core::delivery::{Delivery, Status};
use crate::core::event::EventHead;
use crate::core::filter::Filter;
use crate::core::id::EventId;
use crate::core::lifecycle::{GapKind, Lifecycle};
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::engine::calls::{call_alerts, gap, told_gap};
use crate::journal::{EventView, Journal, JournalError, Page, Query};

/// Deliveries looked at in one piece.
const PAGE: usize = 1000;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let listed = warp::path!("gaps").and(only(GET)).and(query()).and(with(state)).then(list);
    listed.map(respond).boxed()
}

/// Undelivered calls by source and key, each with the time since when it is one.
type Calls = BTreeMap<(Name, String), (Timestamp, wire::Gap)>;

/// Which gaps are meant.
struct Asked {
    kind: Option<GapKind>,
    lifecycles: Vec<(Name, Lifecycle)>,
    /// The endpoints of the config.
    endpoints: BTreeSet<Name>,
    query: Query<EventId>,
}

async fn list(parameters: Pairs, state: AdminState) -> Answer {
    let known = ["source", "kind", "limit", "cursor"];
    if let Some((name, _)) = parameters.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        return Err(Problem::parameter(name, "is not known here; known are source, kind, limit, cursor"));
    }
    let (kinds, parameters): (Pairs, Pairs) = parameters.into_iter().partition(|(name, _)| name == "kind");
    let kind = match kinds.as_slice() {
        [] => None,
        [(_, text)] => Some(GapKind::from_name(text).ok_or_else(|| {
            let words = GapKind::ALL.map(GapKind::as_str).join(", ");
            Problem::parameter("kind", &format!("is one of {words}"))
        })?),
        _ => return Err(Problem::parameter("kind", "is given twice")),
    };
    let query = select::listing::<EventId>(Of::Events, parameters, state.engine.now())?;
    let source = query.filter.source.as_ref();
    let mut lifecycles = state.engine.lifecycles();
    lifecycles.retain(|(name, _)| source.is_none_or(|source| source == name));
    let endpoints = state.engine.endpoints().map(|endpoint| endpoint.name.clone()).collect();
    let asked = Asked { kind, lifecycles, endpoints, query };
    let gaps = state.engine.read(move |journal| asked.gather(journal)).await?;
    Ok(json(StatusCode::OK, &gaps))
}

impl Asked {
    fn gather(self, journal: &dyn Journal) -> Result<wire::Gaps, JournalError> {
        let mut gaps = wire::Gaps { items: Vec::new(), other: 0, next: None };
        if self.query.after.is_none() && self.kind.is_none_or(|kind| kind == GapKind::Undelivered) {
            self.undelivered(journal, &mut gaps)?;
        }
        if self.kind != Some(GapKind::Undelivered) {
            let query = Query { filter: call_alerts(), ..self.query.clone() };
            let page = select::page(query, |query| self.half(journal, query))?;
            gaps.items.extend(page.items);
            gaps.next = page.next.map(|id| id.to_string());
        }
        Ok(gaps)
    }

    /// Calls of which half is missing still, of one page of alerts.
    fn half(&self, journal: &dyn Journal, query: &Query<EventId>) -> Result<Page<wire::Gap, EventId>, JournalError> {
        let Page { items, next } = journal.events(query)?;
        let gaps = items.iter().map(|alert| self.of_alert(journal, alert)).filter_map(Result::transpose);
        Ok(Page { items: gaps.collect::<Result<_, _>>()?, next })
    }

    fn of_alert(&self, journal: &dyn Journal, alert: &EventView) -> Result<Option<wire::Gap>, JournalError> {
        let Some((source, part, event)) = told_gap(journal, alert.head.id)? else { return Ok(None) };
        let kind = part.alone();
        let watched = self.lifecycles.iter().find(|(name, _)| *name == source);
        let Some(watched) = watched.filter(|_| self.kind.is_none_or(|asked| asked == kind)) else { return Ok(None) };
        Ok(gap(journal, watched, part, event)?.map(|head| wire::Gap {
            kind: kind.as_str().into(),
            source: source.to_string(),
            key: head.key.unwrap_or_default(),
            since: head.received_at.to_string(),
            event: head.id.to_string(),
            event_type: head.event_type,
            endpoints: Vec::new(),
            deliveries: 0,
            alert: Some(alert.head.id.to_string()),
        }))
    }

    /// Calls with events that have not arrived somewhere, those with the newest such events first.
    fn undelivered(&self, journal: &dyn Journal, gaps: &mut wire::Gaps) -> Result<(), JournalError> {
        let mut calls = Calls::new();
        for filter in self.stuck(journal) {
            let mut query = Query { filter, after: None, newest_first: true, limit: PAGE };
            loop {
                let page = journal.deliveries(&query)?;
                for (head, delivery) in page.items {
                    gaps.other += u64::from(!self.add(&mut calls, head, &delivery));
                }
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
        }
        let calls = calls.into_values().map(|(since, call)| wire::Gap { since: since.to_string(), ..call });
        gaps.items.extend(calls);
        gaps.items.sort_by(|one, other| other.event.cmp(&one.event));
        Ok(())
    }

    /// What finds deliveries that have not arrived: what is dead or retried, and what waits for endpoints that the
    /// config does not have.
    fn stuck(&self, journal: &dyn Journal) -> Vec<Filter> {
        let of_source = || Filter { source: self.query.filter.source.clone(), ..Filter::default() };
        let mut filters = vec![Filter { statuses: vec![Status::Dead, Status::Retrying], ..of_source() }];
        for (endpoint, tally) in journal.counters().endpoints {
            if tally.scheduled > 0 && !self.endpoints.contains(&endpoint) {
                let (endpoint, statuses) = (Some(endpoint), vec![Status::Scheduled]);
                filters.push(Filter { endpoint, statuses, ..of_source() });
            }
        }
        filters
    }

    /// Adds a delivery to its call; `false` if that is one too many.
    fn add(&self, calls: &mut Calls, head: EventHead, delivery: &Delivery) -> bool {
        let is_watched = self.lifecycles.iter().any(|(name, _)| *name == head.source);
        let Some(key) = head.key.filter(|_| is_watched) else { return true };
        let full = calls.len() >= self.query.limit;
        let (since, endpoint) = (delivery.changed_at, delivery.endpoint.to_string());
        let (first, call) = match calls.entry((head.source.clone(), key.clone())) {
            Entry::Vacant(_) if full => return false,
            Entry::Vacant(place) => {
                let source = head.source.to_string();
                place.insert((since, wire::Gap::undelivered(source, key, head.id.to_string(), head.event_type)))
            }
            Entry::Occupied(call) => call.into_mut(),
        };
        *first = (*first).min(since);
        call.deliveries += 1;
        if !call.endpoints.contains(&endpoint) {
            call.endpoints.push(endpoint);
        }
        true
    }
}

impl wire::Gap {
    fn undelivered(source: String, key: String, event: String, event_type: String) -> Self {
        let kind = GapKind::Undelivered.as_str().into();
        let (since, endpoints, deliveries, alert) = (String::new(), Vec::new(), 0, None);
        Self { kind, source, key, since, event, event_type, endpoints, deliveries, alert }
    }
}
