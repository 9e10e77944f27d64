//! Lists: turning a run of entries into a page, for every store alike.
//!
//! A store hands in the entries of an id range in the asked order; filtering, cursors and the bound on
//! how much one call looks at are here.

use super::entry::Entry;
use super::{EventView, JournalError, Page, Query};
use crate::core::delivery::Delivery;
use crate::core::event::EventHead;
use crate::core::id::{DeliveryId, EventId};

/// Most events one call looks at; the page says where to go on.
pub(crate) const SCAN_MAX: usize = 20_000;
/// Most items of a page.
pub(crate) const PAGE_MAX: usize = 1000;

type Entries<'a> = &'a mut dyn Iterator<Item = Result<Entry, JournalError>>;

/// The ids a query can touch: `low <= id < high`, narrowed by the filter's times and by the cursor's event.
pub(crate) fn id_range<C>(query: &Query<C>, cursor: impl Fn(&C) -> EventId) -> (EventId, EventId) {
    let (mut low, mut high) = query.filter.id_bounds();
    if let Some(after) = query.after.as_ref().map(cursor) {
        if query.newest_first {
            high = high.min(EventId::from_u128(after.as_u128().saturating_add(1)));
        } else {
            low = low.max(after);
        }
    }
    (low, high)
}

pub(crate) fn page_of_events(
    query: &Query<EventId>,
    entries: Entries<'_>,
) -> Result<Page<EventView, EventId>, JournalError> {
    let limit = query.limit.clamp(1, PAGE_MAX);
    let mut items = Vec::new();
    let mut last = None;
    for (looked_at, entry) in entries.enumerate() {
        if items.len() == limit || looked_at == SCAN_MAX {
            return Ok(Page { items, next: last });
        }
        let entry = entry?;
        let id = entry.head.id;
        last = Some(id);
        if query.after != Some(id) && event_fits(query, &entry) {
            items.push(entry.view());
        }
    }
    Ok(Page { items, next: None })
}

/// An event fits if it fits itself, and one of its deliveries does where the filter asks for deliveries.
fn event_fits(query: &Query<EventId>, entry: &Entry) -> bool {
    let filter = &query.filter;
    filter.admits_event(&entry.head)
        && (!filter.unrouted || entry.slots.is_empty())
        && (!filter.asks_for_deliveries() || entry.deliveries().any(|delivery| filter.admits_delivery(&delivery)))
}

pub(crate) fn page_of_deliveries(
    query: &Query<DeliveryId>,
    entries: Entries<'_>,
) -> Result<Page<(EventHead, Delivery), DeliveryId>, JournalError> {
    let limit = query.limit.clamp(1, PAGE_MAX);
    let mut items: Vec<(EventHead, Delivery)> = Vec::new();
    let mut last = None;
    for (looked_at, entry) in entries.enumerate() {
        if looked_at == SCAN_MAX {
            return Ok(Page { items, next: last });
        }
        let entry = entry?;
        if !query.filter.admits_event(&entry.head) {
            last = Some(end_of(query, &entry));
            continue;
        }
        let mut deliveries: Vec<Delivery> = entry.deliveries().collect();
        if query.newest_first {
            deliveries.reverse();
        }
        for delivery in deliveries.into_iter().filter(|delivery| is_behind_cursor(query, delivery.id)) {
            if items.len() == limit {
                return Ok(Page { items, next: last });
            }
            last = Some(delivery.id);
            if query.filter.admits_delivery(&delivery) {
                items.push(((*entry.head).clone(), delivery));
            }
        }
        // Also behind an event without deliveries: a slice that saw only such ones is not the end.
        last = Some(end_of(query, &entry));
    }
    Ok(Page { items, next: None })
}

/// The cursor that is behind every delivery of an entry.
fn end_of(query: &Query<DeliveryId>, entry: &Entry) -> DeliveryId {
    entry.head.id.delivery(if query.newest_first { 0 } else { u16::MAX })
}

fn is_behind_cursor(query: &Query<DeliveryId>, id: DeliveryId) -> bool {
    query.after.is_none_or(|after| if query.newest_first { id < after } else { id > after })
}
