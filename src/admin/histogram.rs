//! How events are spread over time: counted when it is asked for, by one bounded walk from the newest on.

use http::StatusCode;

use super::problem::{Answer, Problem, json};
use super::select::{self, Of, Pairs};
use super::{AdminState, wire};
use crate::core::delivery::Status;
use crate::core::id::EventId;
use crate::core::timestamp::{Timestamp, duration_millis};
use crate::journal::{Journal, JournalError, Query};

/// Bars where none are asked for, and most.
const BARS_DEFAULT: usize = 60;
const BARS_MAX: usize = 200;
/// The span where none is asked for, in milliseconds: a day.
const SPAN_DEFAULT: u64 = 86_400_000;
/// Most events looked at.
const EVENTS_MAX: usize = 50_000;
/// Events looked at in one piece.
const PAGE: usize = 1000;
/// Pieces looked at, of which each may be long and have nothing that fits.
const PIECES_MAX: usize = 100;

/// What is counted.
struct Bars {
    since: Timestamp,
    until: Timestamp,
    count: usize,
}

pub(super) async fn show(mut parameters: Pairs, state: AdminState) -> Answer {
    let mut bars = None;
    for (name, value) in parameters.extract_if(.., |(name, _)| name == "bars") {
        select::once(&mut bars, &name, value)?;
    }
    let count =
        bars.map_or(Some(BARS_DEFAULT), |text| text.parse().ok()).filter(|count| (1..=BARS_MAX).contains(count));
    let count = count.ok_or_else(|| Problem::parameter("bars", "is a number from 1 to 200"))?;
    if let Some((name, _)) = parameters.iter().find(|(name, _)| ["order", "cursor", "limit"].contains(&name.as_str())) {
        return Err(Problem::parameter(name, "is not known here: it is all one answer"));
    }
    let now = state.engine.now();
    let query = select::listing::<EventId>(Of::Events, parameters, now)?;
    let until = query.filter.until.unwrap_or_else(|| Timestamp::from_millis(now.millis().saturating_add(1)));
    let since = match query.filter.since {
        Some(since) => since,
        // A day, or less if there is nothing to show of it.
        None => {
            let day_before = Timestamp::from_millis(until.millis().saturating_sub(SPAN_DEFAULT));
            let oldest = state.engine.read(|journal| journal.oldest()).await?.filter(|oldest| *oldest < until);
            oldest.map_or(day_before, |oldest| oldest.max(day_before))
        }
    };
    if until.since(since).is_zero() {
        return Err(Problem::parameter("until", "is not after `since`"));
    }
    let bars = Bars { since, until, count };
    let histogram = state.engine.read(move |journal| bars.of(journal, query)).await?;
    Ok(json(StatusCode::OK, &histogram))
}

impl Bars {
    fn of(&self, journal: &dyn Journal, mut query: Query<EventId>) -> Result<wire::Histogram, JournalError> {
        let span = duration_millis(self.until.since(self.since));
        let step = span.div_ceil(u64::try_from(self.count).unwrap_or(1)).max(1);
        let (mut counts, mut failed) = (vec![0; self.count], vec![0; self.count]);
        (query.filter.since, query.filter.until) = (Some(self.since), Some(self.until));
        (query.newest_first, query.limit) = (true, PAGE);
        let (mut looked_at, mut counted_since) = (0, None);
        for _ in 0..PIECES_MAX {
            let page = journal.events(&query)?;
            for view in &page.items {
                let at = duration_millis(view.head.received_at.since(self.since)) / step;
                let Ok(at) = usize::try_from(at) else { continue };
                let has_failed = view.deliveries.iter().any(|delivery| {
                    !delivery.superseded && matches!(delivery.status(), Status::Dead | Status::Retrying)
                });
                if let (Some(count), Some(failed)) = (counts.get_mut(at), failed.get_mut(at)) {
                    *count += 1;
                    *failed += u64::from(has_failed);
                }
                counted_since = Some(view.head.received_at);
            }
            looked_at += page.items.len();
            query.after = page.next;
            if query.after.is_none() || looked_at >= EVENTS_MAX {
                break;
            }
        }
        // If it is not all, what was looked at last says how far it goes.
        let cut = query.after.map(EventId::time).or(counted_since).filter(|_| query.after.is_some());
        Ok(wire::Histogram {
            since: self.since.to_string(),
            until: self.until.to_string(),
            step_ms: step,
            counts,
            failed,
            counted_since: cut.map(|at| at.to_string()),
        })
    }
}
