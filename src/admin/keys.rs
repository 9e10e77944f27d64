//! Keys: every event of one, as a timeline. For Flyflow a key is a call.
//!
//! Events come in order of what happened, which is not the order they came in, so all of them are looked at
//! for every page; what is remembered of each is its time and its id.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::select::{self, Of, Pairs};
use super::{AdminState, GET, deliveries, only, query, respond, wire, with};
use crate::core::delivery::Status;
use crate::core::event::{EventHead, KEY_LEN_MAX, cut};
use crate::core::filter::Filter;
use crate::core::id::EventId;
use crate::core::lifecycle::{Lifecycle, Part};
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::journal::{EventView, Journal, JournalError, Query};

/// A key with more events is no call: it is looked through as a list of events.
const EVENTS_MAX: usize = 1_000_000;
/// Events looked at in one piece.
const PAGE: usize = 1000;

/// Where an event stands on the timeline; as a cursor, `<milliseconds>.<event>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    at: Timestamp,
    id: EventId,
}

impl Spot {
    fn of(head: &EventHead) -> Self {
        Self { at: head.occurred_at.unwrap_or(head.received_at), id: head.id }
    }
}

impl FromStr for Spot {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, id) = text.split_once('.').ok_or(())?;
        let at = Timestamp::from_millis(millis.parse().map_err(|_| ())?);
        Ok(Self { at, id: id.parse().map_err(|_| ())? })
    }
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let shown = warp::path!("keys" / String).and(only(GET)).and(query()).and(with(state)).then(show);
    shown.map(respond).boxed()
}

async fn show(key: String, parameters: Pairs, state: AdminState) -> Answer {
    let missing = || Problem::missing("no event has this key");
    let key = decoded(&key).ok_or_else(missing)?;
    if let Some((name, _)) = parameters.iter().find(|(name, _)| !["source", "limit", "cursor"].contains(&&**name)) {
        return Err(Problem::parameter(name, "is not known here; known are source, limit, cursor"));
    }
    let mut query = select::listing::<Spot>(Of::Events, parameters, state.engine.now())?;
    // A longer key was cut when its events were accepted.
    query.filter.keys = vec![cut(&key, KEY_LEN_MAX).to_owned()];
    let lifecycles = state.engine.lifecycles();
    let told = state.engine.read(move |journal| tell(journal, &key, &query, &lifecycles));
    let Some((mut timeline, views)) = told.await? else {
        let detail = format!("the key has more than {EVENTS_MAX} events; list them as events with this key");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    };
    if timeline.events == 0 {
        return Err(missing());
    }
    for (event, view) in timeline.items.iter_mut().zip(&views) {
        let waits = deliveries::waits(&state, &view.deliveries).await;
        for (shown, waits_for) in event.deliveries.iter_mut().flatten().zip(waits) {
            shown.waits_for = waits_for;
        }
    }
    Ok(json(StatusCode::OK, &timeline))
}

/// A part of a path, decoded (RFC 3986, 2.1); `None` if it is no text.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = behind.get(..2).filter(|_| first == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { behind.get(2..)? } else { behind };
    }
    String::from_utf8(bytes).ok()
}

/// The timeline's page, and what its events are; `None` if there are too many.
fn tell(
    journal: &dyn Journal,
    key: &str,
    query: &Query<Spot>,
    lifecycles: &[(Name, Lifecycle)],
) -> Result<Option<(wire::Timeline, Vec<EventView>)>, JournalError> {
    let mut timeline = wire::Timeline {
        key: key.to_owned(),
        complete: false,
        events: 0,
        first_at: String::new(),
        last_at: String::new(),
        endpoints: BTreeMap::new(),
        undelivered: 0,
        missing: Vec::new(),
        items: Vec::new(),
        next: None,
    };
    let mut spots = Vec::new();
    let mut parts = Parts::default();
    let whole = each(journal, &query.filter, |view| {
        spots.push(Spot::of(&view.head));
        timeline.count(view);
        parts.note(&view.head, lifecycles);
        spots.len() <= EVENTS_MAX
    })?;
    if !whole {
        return Ok(None);
    }
    spots.sort_unstable();
    timeline.events = spots.len();
    if let (Some(first), Some(last)) = (spots.first(), spots.last()) {
        (timeline.first_at, timeline.last_at) = (first.at.to_string(), last.at.to_string());
    }
    timeline.missing = parts.missing(lifecycles);
    timeline.complete = timeline.undelivered == 0 && timeline.missing.is_empty();
    let begin = query.after.map_or(0, |after| spots.partition_point(|spot| *spot <= after));
    let rest = spots.get(begin..).unwrap_or_default();
    let shown = rest.get(..query.limit).unwrap_or(rest);
    timeline.next =
        shown.last().filter(|_| shown.len() < rest.len()).map(|last| format!("{}.{}", last.at.millis(), last.id));
    // What retention has taken meanwhile is not there any more.
    let views = shown.iter().filter_map(|spot| journal.entry(spot.id).transpose()).collect::<Result<Vec<_>, _>>()?;
    timeline.items = views.iter().map(wire::Event::listed).collect();
    Ok(Some((timeline, views)))
}

/// Hands over every event that fits, oldest first, until `go_on` says no; whether that was all.
fn each(
    journal: &dyn Journal,
    filter: &Filter,
    mut go_on: impl FnMut(&EventView) -> bool,
) -> Result<bool, JournalError> {
    let mut query = Query { filter: filter.clone(), after: None, newest_first: false, limit: PAGE };
    loop {
        let page = journal.events(&query)?;
        if !page.items.iter().all(&mut go_on) {
            return Ok(false);
        }
        query.after = page.next;
        if query.after.is_none() {
            return Ok(true);
        }
    }
}

/// Which sources with a lifecycle have events here, and which ends of their calls those are.
#[derive(Default)]
struct Parts(BTreeMap<Name, BTreeSet<Part>>);

impl Parts {
    fn note(&mut self, head: &EventHead, lifecycles: &[(Name, Lifecycle)]) {
        if let Some((name, lifecycle)) = lifecycles.iter().find(|(name, _)| *name == head.source) {
            self.0.entry(name.clone()).or_default().extend(lifecycle.part(&head.event_type));
        }
    }

    /// What has not come.
    fn missing(&self, lifecycles: &[(Name, Lifecycle)]) -> Vec<wire::Missing> {
        let mut missing = Vec::new();
        for (name, lifecycle) in lifecycles {
            let Some(there) = self.0.get(name) else { continue };
            for (part, word, event_type) in
                [(Part::Start, "start", &lifecycle.start), (Part::End, "end", &lifecycle.end)]
            {
                if !there.contains(&part) {
                    let (source, event_type) = (name.to_string(), event_type.clone());
                    missing.push(wire::Missing { source, part: word.into(), event_type });
                }
            }
        }
        missing
    }
}

impl wire::Timeline {
    fn count(&mut self, view: &EventView) {
        for delivery in view.deliveries.iter().filter(|delivery| !delivery.superseded) {
            let status = delivery.status();
            let endpoint = self.endpoints.entry(delivery.endpoint.to_string()).or_default();
            *endpoint.entry(status.as_str().into()).or_default() += 1;
            self.undelivered += u64::from(status != Status::Delivered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_is_any_text() {
        for (part, key) in [("abc", "abc"), ("a%2Fb%20c", "a/b c"), ("%25", "%"), ("100%", "100%"), ("a+b", "a+b")] {
            assert_eq!(decoded(part).as_deref(), Some(key));
        }
        assert_eq!(decoded("%C3%A9").as_deref(), Some("é"));
        assert_eq!(decoded("%+1").as_deref(), Some("%+1"));
        assert_eq!(decoded("%ff"), None);
    }

    #[test]
    fn a_cursor_is_a_spot() {
        let spot = Spot { at: Timestamp::from_millis(7), id: EventId::from_u128(9) };
        assert_eq!(format!("7.{}", spot.id).parse(), Ok(spot));
        for bad in ["", "7", "7.", "x.evt_1", &format!(".{}", spot.id)] {
            assert_eq!(bad.parse::<Spot>(), Err(()), "{bad}");
        }
    }
}
