//! What is asked for: query parameters and JSON fields, read into the core's filter.
//!
//! Everything is checked and everything unknown refused, with the parameter named: a filter that is
//! silently ignored would list, or replay, more than was meant.

use std::str::FromStr;

use super::problem::Problem;
use super::wire::Selection;
use crate::core::delivery::{Reason, Status};
use crate::core::event::TYPE_LEN_MAX;
use crate::core::failure::FailureGroup;
use crate::core::filter::{Filter, Pick};
use crate::core::id::ReplayId;
use crate::core::name::Name;
use crate::core::timestamp::{Timestamp, parse_span};
use crate::journal::{JournalError, Page, Query};

/// A list's length where none is asked for.
pub(super) const LIMIT_DEFAULT: usize = 50;
/// The longest list in one answer.
pub(super) const LIMIT_MAX: usize = 1000;
/// How many of the journal's bounded scans one answer may take.
const SLICES_MAX: usize = 10;
/// Most values of one parameter.
const VALUES_MAX: usize = 64;

/// Most events and deliveries that are named one by one.
const PICKS_MAX: usize = 1000;

/// Query parameters as they came, decoded.
pub(super) type Pairs = Vec<(String, String)>;

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Events; without a status all of them.
    Events,
    /// Deliveries; without a status those that failed, of a failure group also those that are retried.
    Deliveries,
    /// Deliveries that wait, whether a later one has taken their place or not; they have no other status.
    Waiting,
    /// Deliveries that have failed, for good or so far; they have no other status.
    Failing,
}

/// What to list, from a list's query parameters.
pub(super) fn listing<C: FromStr>(of: Of, pairs: Pairs, now: Timestamp) -> Result<Query<C>, Problem> {
    let mut selection = Selection::default();
    let (mut order, mut limit, mut cursor) = (None, None, None);
    for (name, value) in pairs {
        match name.as_str() {
            "order" => once(&mut order, &name, value)?,
            "limit" => once(&mut limit, &name, value)?,
            "cursor" => once(&mut cursor, &name, value)?,
            _ => take(&mut selection, of, &name, value)?,
        }
    }
    let (newest_first, limit) = (newest_first(order.as_deref())?, self::limit(limit.as_deref())?);
    let after = cursor.as_deref().map(self::cursor).transpose()?;
    Ok(Query { filter: filter(of, &selection, now)?, after, newest_first, limit })
}

/// Takes out of `pairs` whether only what is parked is asked for: what waits for an endpoint that the config has not.
pub(super) fn parked(pairs: &mut Pairs) -> Result<bool, Problem> {
    let mut parked = None;
    for (name, value) in pairs.extract_if(.., |(name, _)| name == "parked") {
        once(&mut parked, &name, value)?;
    }
    parked.map_or(Ok(false), |value| flag("parked", &value))
}

/// Whether a list begins with the newest: unless it is asked for otherwise.
pub(super) fn newest_first(order: Option<&str>) -> Result<bool, Problem> {
    match order {
        None | Some("newest") => Ok(true),
        Some("oldest") => Ok(false),
        Some(_) => Err(Problem::parameter("order", "is `newest` or `oldest`")),
    }
}

/// How long a list is.
pub(super) fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(LIMIT_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| Problem::parameter("limit", "is a number from 1 to 1000"))
}

/// Where a list goes on.
pub(super) fn cursor<C: FromStr>(text: &str) -> Result<C, Problem> {
    let wrong = |_| Problem::parameter("cursor", "is not the `next` of an earlier page of this list");
    text.parse().map_err(wrong)
}

fn take(selection: &mut Selection, of: Of, name: &str, value: String) -> Result<(), Problem> {
    match name {
        "endpoint" => once(&mut selection.endpoint, name, value),
        "source" => once(&mut selection.source, name, value),
        "key" => {
            selection.keys.push(value);
            Ok(())
        }
        "id" => split(&mut selection.ids, &value),
        "replay" => once(&mut selection.replay, name, value),
        "occurred_since" => once(&mut selection.occurred_since, name, value),
        "occurred_until" => once(&mut selection.occurred_until, name, value),
        "reason" => once(&mut selection.reason, name, value),
        "group" => once(&mut selection.group, name, value),
        "since" => once(&mut selection.since, name, value),
        "until" => once(&mut selection.until, name, value),
        "type" => split(&mut selection.types, &value),
        "status" => split(&mut selection.statuses, &value),
        "include_superseded" => flag(name, &value).map(|set| selection.include_superseded = set),
        "unrouted" if of == Of::Events => flag(name, &value).map(|set| selection.unrouted = set),
        _ => Err(Problem::parameter(
            name,
            "is not known here; known are endpoint, source, type, key, id, status, reason, group, replay, since, until, \
             occurred_since, occurred_until, include_superseded, order, limit, cursor, for events unrouted, and for deliveries parked",
        )),
    }
}

pub(super) fn once(slot: &mut Option<String>, name: &str, value: String) -> Result<(), Problem> {
    if slot.replace(value).is_some() {
        return Err(Problem::parameter(name, "is given twice"));
    }
    Ok(())
}

/// Takes the values between commas.
pub(super) fn split(slot: &mut Vec<String>, value: &str) -> Result<(), Problem> {
    slot.extend(value.split(',').map(str::to_owned));
    Ok(())
}

pub(super) fn flag(name: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Problem::parameter(name, "is `true` or `false`")),
    }
}

/// The filter that a selection means at `now`.
pub(super) fn filter(of: Of, selection: &Selection, now: Timestamp) -> Result<Filter, Problem> {
    let filter = Filter {
        endpoint: name("endpoint", selection.endpoint.as_deref())?,
        source: name("source", selection.source.as_deref())?,
        types: several("type", &selection.types, event_type)?,
        keys: several("key", &selection.keys, |key| Ok(key.to_owned()))?,
        picks: picks(&selection.ids)?,
        occurred_since: time("occurred_since", selection.occurred_since.as_deref(), now)?,
        occurred_until: time("occurred_until", selection.occurred_until.as_deref(), now)?,
        replay: selection.replay.as_deref().map(replay).transpose()?,
        statuses: several("status", &selection.statuses, status)?,
        reason: selection.reason.as_deref().map(reason).transpose()?,
        group: selection.group.as_deref().map(group).transpose()?,
        since: time("since", selection.since.as_deref(), now)?,
        until: time("until", selection.until.as_deref(), now)?,
        superseded: selection.include_superseded,
        unrouted: selection.unrouted,
    };
    if filter.unrouted && (filter.asks_for_deliveries() || matches!(of, Of::Waiting | Of::Failing)) {
        let what =
            "cannot go with endpoint, status, reason or group, nor be cancelled: unrouted events have no deliveries";
        return Err(Problem::parameter("unrouted", what));
    }
    match of {
        Of::Deliveries if filter.statuses.is_empty() && filter.group.is_some() => {
            Ok(Filter { statuses: FAILING.to_vec(), ..filter })
        }
        Of::Deliveries if filter.statuses.is_empty() && !filter.unrouted => {
            Ok(Filter { statuses: Filter::failed().statuses, ..filter })
        }
        Of::Events | Of::Deliveries => Ok(filter),
        Of::Waiting => waiting(filter),
        Of::Failing => failing(filter),
    }
}

fn failing(mut filter: Filter) -> Result<Filter, Problem> {
    if filter.statuses.iter().any(|status| !FAILING.contains(status)) {
        return Err(Problem::parameter("status", "is dead or retrying here: nothing else has failed"));
    }
    if filter.statuses.is_empty() {
        filter.statuses = FAILING.to_vec();
    }
    Ok(filter)
}

/// The statuses of what has failed, for good or so far: what failure groups are made of.
const FAILING: [Status; 2] = [Status::Dead, Status::Retrying];
/// The statuses of what waits.
const WAITING: [Status; 2] = [Status::Scheduled, Status::Retrying];

fn waiting(mut filter: Filter) -> Result<Filter, Problem> {
    if filter.statuses.iter().any(|status| !WAITING.contains(status)) {
        return Err(Problem::parameter("status", "is scheduled or retrying here: anything else has ended"));
    }
    if filter.statuses.is_empty() {
        filter.statuses = WAITING.to_vec();
    }
    Ok(Filter { superseded: true, ..filter })
}

/// The endpoint called `text`, if any is named.
pub(super) fn name(parameter: &str, text: Option<&str>) -> Result<Option<Name>, Problem> {
    let wrong = |error| Problem::parameter(parameter, &format!("is not a name: {error}"));
    text.map(|text| Name::new(text).map_err(wrong)).transpose()
}

/// Each of the values read, of which there may not be too many.
pub(super) fn several<T>(
    parameter: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    if texts.len() > VALUES_MAX {
        return Err(Problem::parameter(parameter, "has more than 64 values"));
    }
    texts.iter().map(|text| read(text.trim())).collect()
}

pub(super) fn event_type(text: &str) -> Result<String, Problem> {
    let start = text.strip_suffix('*').unwrap_or(text);
    if text.is_empty() || start.contains('*') || start.len() > TYPE_LEN_MAX {
        return Err(Problem::parameter("type", "is an event type of at most 128 bytes; `*` can only stand at its end"));
    }
    Ok(text.to_owned())
}

/// Events and deliveries by their ids, in order, each once.
fn picks(texts: &[String]) -> Result<Vec<Pick>, Problem> {
    if texts.len() > PICKS_MAX {
        return Err(Problem::parameter("id", "has more than 1000 values"));
    }
    let read = |text: &String| {
        let delivery = || text.parse().map(Pick::Delivery);
        let pick = text.parse().map(Pick::Event).or_else(|_| delivery());
        pick.map_err(|_| Problem::parameter("id", "is an evt_… or a dlv_…"))
    };
    let mut picks = texts.iter().map(read).collect::<Result<Vec<Pick>, Problem>>()?;
    let place = |pick: &Pick| match *pick {
        Pick::Event(id) => id.delivery(0),
        Pick::Delivery(id) => id,
    };
    picks.sort_by_key(place);
    picks.dedup();
    Ok(picks)
}

fn replay(text: &str) -> Result<ReplayId, Problem> {
    text.parse().map_err(|error| Problem::parameter("replay", &format!("is no replay's id: {error}")))
}

pub(super) fn status(text: &str) -> Result<Status, Problem> {
    let found = if text == "failed" { Some(Status::Dead) } else { Status::from_name(text) };
    found.ok_or_else(|| {
        let words = Status::ALL.map(Status::as_str).join(", ");
        Problem::parameter("status", &format!("is one of failed, {words}"))
    })
}

fn reason(text: &str) -> Result<Reason, Problem> {
    Reason::from_name(text).ok_or_else(|| {
        let words = Reason::ALL.map(Reason::as_str).join(", ");
        Problem::parameter("reason", &format!("is one of {words}"))
    })
}

fn group(text: &str) -> Result<FailureGroup, Problem> {
    text.parse().map_err(|_| Problem::parameter("group", "is the id of a failure group: flg_ and 16 digits"))
}

/// The time that `text` means at `now`.
pub(super) fn time(parameter: &str, text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let read = |text: &str| {
        let ago = || parse_span(text).map(|span| Timestamp::ZERO.after(now.since(Timestamp::ZERO.after(span))));
        Timestamp::parse_rfc3339(text).or_else(ago).ok_or_else(|| {
            let what = "is neither an RFC 3339 time like 2026-01-31T12:00:00Z nor a span before now like 2h or 7d";
            Problem::parameter(parameter, what)
        })
    };
    text.map(read).transpose()
}

/// A page filled from as many of the journal's bounded scans as it needs, up to [`SLICES_MAX`].
pub(super) fn page<T, C: Clone>(
    mut query: Query<C>,
    scan: impl Fn(&Query<C>) -> Result<Page<T, C>, JournalError>,
) -> Result<Page<T, C>, JournalError> {
    let limit = query.limit;
    let mut items = Vec::new();
    for _ in 0..SLICES_MAX {
        let slice = scan(&query)?;
        items.extend(slice.items);
        query.after = slice.next;
        query.limit = limit.saturating_sub(items.len());
        if query.after.is_none() || query.limit == 0 {
            break;
        }
    }
    Ok(Page { items, next: query.after })
}
