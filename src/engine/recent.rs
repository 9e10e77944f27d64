//! Events that were just accepted, kept in memory so that their first attempts need no read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::event::Event;
use crate::core::id::{DeliveryId, EventId};

/// Bounded by bytes; the oldest go first, and what goes is read from the journal.
#[derive(Debug)]
pub(super) struct Recent {
    max_bytes: u64,
    bytes: u64,
    events: BTreeMap<EventId, (Arc<Event>, usize)>,
}

/// What an event costs besides its body, roughly, in bytes.
const OVERHEAD_BYTES: u64 = 512;

fn cost(event: &Event) -> u64 {
    event.draft.body.len() as u64 + OVERHEAD_BYTES
}

impl Recent {
    pub(super) const fn new(max_bytes: u64) -> Self {
        Self { max_bytes, bytes: 0, events: BTreeMap::new() }
    }

    /// Keeps an event until so many of its deliveries have taken it.
    pub(super) fn add(&mut self, event: Arc<Event>, takers: usize) {
        if takers == 0 {
            return;
        }
        self.bytes += cost(&event);
        self.events.insert(event.id, (event, takers));
        while self.bytes > self.max_bytes
            && let Some((_, (oldest, _))) = self.events.pop_first()
        {
            self.bytes -= cost(&oldest);
        }
    }

    /// The event for the first attempt of one of its original deliveries, if it is still here.
    ///
    /// What a replay made is none of them: its facts are in the journal.
    pub(super) fn take(&mut self, id: DeliveryId) -> Option<Arc<Event>> {
        let (event, takers) = self.events.get_mut(&id.event)?;
        if usize::from(id.slot) >= event.draft.endpoints.len() {
            return None;
        }
        let event = Arc::clone(event);
        *takers -= 1;
        if *takers == 0 {
            self.events.remove(&id.event);
            self.bytes -= cost(&event);
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Draft;
    use crate::core::name::Name;
    use crate::core::timestamp::Timestamp;

    fn event(id: u128, body_bytes: usize, fan_out: usize) -> Arc<Event> {
        let name = Name::new("a").unwrap();
        let draft = Draft {
            source: name.clone(),
            event_type: String::new(),
            key: None,
            occurred_at: None,
            headers: vec![],
            body: vec![0; body_bytes].into(),
            dedup: None,
            endpoints: vec![name; fan_out],
        };
        Arc::new(Event { id: EventId::from_u128(id), received_at: Timestamp::ZERO, draft })
    }

    #[test]
    fn an_event_stays_until_each_delivery_took_it() {
        let mut recent = Recent::new(1 << 20);
        recent.add(event(1, 10, 2), 2);
        let delivery = |slot| EventId::from_u128(1).delivery(slot);
        assert!(recent.take(delivery(0)).is_some());
        assert!(recent.take(delivery(2)).is_none(), "slot 2 was made by a replay");
        assert!(recent.take(delivery(1)).is_some());
        assert!(recent.take(delivery(1)).is_none());
        assert_eq!(recent.bytes, 0);
    }

    #[test]
    fn the_oldest_make_room() {
        let mut recent = Recent::new(3 * (1000 + OVERHEAD_BYTES));
        (1..=5).for_each(|id| recent.add(event(id, 1000, 1), 1));
        let still: Vec<u128> =
            (1..=5).filter(|id| recent.take(EventId::from_u128(*id).delivery(0)).is_some()).collect();
        assert_eq!(still, [3, 4, 5]);
        assert_eq!(recent.bytes, 0);
    }
}
