//! A filter: which events or deliveries an operator means. Lists and replays use the same one.

use crate::core::delivery::{Delivery, Reason, Status};
use crate::core::event::EventHead;
use crate::core::failure::FailureGroup;
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::route::type_matches;
use crate::core::timestamp::Timestamp;

/// Every field that is set must fit. The default fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Deliveries to this endpoint.
    pub endpoint: Option<Name>,
    /// Events of this source.
    pub source: Option<Name>,
    /// Events of any of these types; a trailing `*` matches any ending.
    pub types: Vec<String>,
    /// Events with any of these keys.
    pub keys: Vec<String>,
    /// Only these, in order of their ids, each once.
    pub picks: Vec<Pick>,
    /// Deliveries in any of these.
    pub statuses: Vec<Status>,
    /// Deliveries that stand where they stand for this reason.
    pub reason: Option<Reason>,
    /// Deliveries whose last attempt failed like those of this group.
    pub group: Option<FailureGroup>,
    /// Events received at or after this.
    pub since: Option<Timestamp>,
    /// Events received before this.
    pub until: Option<Timestamp>,
    /// Events that happened at or after this, by their own word; where they say nothing, when they were received.
    pub occurred_since: Option<Timestamp>,
    /// Events that happened before this.
    pub occurred_until: Option<Timestamp>,
    /// Deliveries that this replay made.
    pub replay: Option<ReplayId>,
    /// Also deliveries that a later one has taken the place of.
    pub superseded: bool,
    /// Only events that were routed nowhere.
    pub unrouted: bool,
}

/// One event with all its deliveries, or one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Of the event, whatever fits otherwise.
    Event(EventId),
    /// This one, if it fits otherwise.
    Delivery(DeliveryId),
}

impl Pick {
    fn admits(self, delivery: DeliveryId) -> bool {
        match self {
            Self::Event(id) => id == delivery.event,
            Self::Delivery(id) => id == delivery,
        }
    }

    /// The event that is meant, or whose delivery is.
    #[must_use]
    pub const fn event(self) -> EventId {
        match self {
            Self::Event(id) => id,
            Self::Delivery(id) => id.event,
        }
    }
}

impl Filter {
    /// Dead letters that nothing has taken the place of: what "failed deliveries" means.
    #[must_use]
    pub fn failed() -> Self {
        Self { statuses: vec![Status::Dead], ..Self::default() }
    }

    /// Whether an event fits, as far as the event decides.
    #[must_use]
    pub fn admits_event(&self, head: &EventHead) -> bool {
        self.source.as_ref().is_none_or(|source| *source == head.source)
            && (self.types.is_empty() || self.types.iter().any(|pattern| type_matches(pattern, &head.event_type)))
            && (self.keys.is_empty() || head.key.as_ref().is_some_and(|key| self.keys.contains(key)))
            && (self.picks.is_empty() || !self.picked(head.id).is_empty())
            && self.occurred_since.is_none_or(|since| head.occurred_at.unwrap_or(head.received_at) >= since)
            && self.occurred_until.is_none_or(|until| head.occurred_at.unwrap_or(head.received_at) < until)
            && self.since.is_none_or(|since| head.received_at >= since)
            && self.until.is_none_or(|until| head.received_at < until)
    }

    /// Whether a delivery of a fitting event fits.
    #[must_use]
    pub fn admits_delivery(&self, delivery: &Delivery) -> bool {
        self.endpoint.as_ref().is_none_or(|endpoint| *endpoint == delivery.endpoint)
            && (self.statuses.is_empty() || self.statuses.contains(&delivery.status()))
            && self.reason.is_none_or(|reason| reason == delivery.reason)
            && self.group.is_none_or(|group| delivery.group == Some(group))
            && self.replay.is_none_or(|replay| delivery.replay == Some(replay))
            && (self.picks.is_empty() || self.picked(delivery.id.event).iter().any(|pick| pick.admits(delivery.id)))
            && (self.superseded || !delivery.superseded)
    }

    /// What is picked of this event.
    fn picked(&self, event: EventId) -> &[Pick] {
        let begin = self.picks.partition_point(|pick| pick.event() < event);
        let end = self.picks.partition_point(|pick| pick.event() <= event);
        self.picks.get(begin..end).unwrap_or_default()
    }

    /// Whether deliveries decide, and not the event alone.
    #[must_use]
    pub fn asks_for_deliveries(&self) -> bool {
        let is_named = self.endpoint.is_some() || self.reason.is_some() || self.replay.is_some();
        let is_named = is_named || self.group.is_some();
        is_named || !self.statuses.is_empty() || self.picks.iter().any(|pick| matches!(pick, Pick::Delivery(_)))
    }

    /// Whether only exceptions are asked for: deliveries that did not simply go through or wait their first turn.
    #[must_use]
    pub fn only_exceptions(&self) -> bool {
        let fails = self.group.is_some();
        let excepts = !self.statuses.is_empty()
            && !self.statuses.iter().any(|status| matches!(status, Status::Scheduled | Status::Delivered));
        fails || excepts
    }

    /// The ids that events received in the filter's time span can have: `low..high`.
    ///
    /// Ids run ahead of the clock by at most [`ID_SLACK_MS`] when it steps back, hence the slack.
    #[must_use]
    pub fn id_bounds(&self) -> (EventId, EventId) {
        let picked = self.picks.first().zip(self.picks.last());
        let (first, last) = picked.map_or((EventId::MIN, EventId::MAX), |(first, last)| (first.event(), last.event()));
        let low = self.since.map_or(EventId::MIN, EventId::floor).max(first);
        let slack = std::time::Duration::from_millis(ID_SLACK_MS);
        let high = self.until.map_or(EventId::MAX, |until| EventId::floor(until.after(slack)));
        (low, high.min(EventId::from_u128(last.as_u128().saturating_add(1))))
    }
}

/// How far ids may run ahead of receive times, in milliseconds, when the clock steps back: one hour.
pub const ID_SLACK_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::delivery::State;

    fn head() -> EventHead {
        EventHead {
            id: EventId::floor(Timestamp::from_millis(1000)),
            received_at: Timestamp::from_millis(1000),
            source: Name::new("flyflow").unwrap(),
            event_type: "call_ended".into(),
            key: Some("abc".into()),
            occurred_at: Some(Timestamp::from_millis(500)),
            body_bytes: 2,
        }
    }

    fn dead() -> Delivery {
        Delivery {
            id: head().id.delivery(0),
            endpoint: Name::new("crm").unwrap(),
            state: State::Dead,
            reason: Reason::Gone,
            changed_at: Timestamp::from_millis(2000),
            born_at: Timestamp::from_millis(1000),
            attempts: 1,
            probes: 0,
            out_of_order: false,
            last_status: Some(410),
            last_failure: None,
            group: Some(FailureGroup::from_u64(7)),
            replay: None,
            superseded: false,
            has_payload: true,
        }
    }

    #[test]
    fn each_field_alone_can_exclude() {
        let time = |millis| Some(Timestamp::from_millis(millis));
        let other = || Some(Name::new("other").unwrap());
        assert!(Filter::default().admits_event(&head()));
        let excluding = [
            Filter { source: other(), ..Filter::default() },
            Filter { types: vec!["call_started".into(), "tool*".into()], ..Filter::default() },
            Filter { keys: vec!["abd".into(), "ab".into()], ..Filter::default() },
            Filter { picks: vec![Pick::Event(EventId::MIN), Pick::Event(EventId::MAX)], ..Filter::default() },
            Filter { occurred_since: time(501), ..Filter::default() },
            Filter { occurred_until: time(500), ..Filter::default() },
            Filter { since: time(1001), ..Filter::default() },
            Filter { until: time(1000), ..Filter::default() },
        ];
        for filter in excluding {
            assert!(!filter.admits_event(&head()), "{filter:?}");
        }
        assert!(Filter::failed().admits_delivery(&dead()));
        let excluding = [
            Filter { endpoint: other(), ..Filter::default() },
            Filter { statuses: vec![Status::Delivered], ..Filter::default() },
            Filter { reason: Some(Reason::Rejected), ..Filter::default() },
            Filter { group: Some(FailureGroup::from_u64(8)), ..Filter::default() },
            Filter { replay: Some(ReplayId::from_u128(7)), ..Filter::default() },
            Filter { picks: vec![Pick::Delivery(head().id.delivery(1))], ..Filter::default() },
        ];
        for filter in excluding {
            assert!(!filter.admits_delivery(&dead()), "{filter:?}");
        }
    }

    #[test]
    fn picks_name_events_and_deliveries_among_others() {
        let other = EventId::MAX;
        let picks = |of: Vec<Pick>| Filter { picks: of, ..Filter::default() };
        for mine in [Pick::Event(head().id), Pick::Delivery(head().id.delivery(0))] {
            let filter = picks(vec![Pick::Event(EventId::MIN), mine, Pick::Event(other)]);
            assert!(filter.admits_event(&head()) && filter.admits_delivery(&dead()), "{mine:?}");
        }
        let (low, high) = picks(vec![Pick::Event(head().id)]).id_bounds();
        assert_eq!((low, high.as_u128()), (head().id, head().id.as_u128() + 1));
        // What says nothing of when it happened counts by when it was received.
        let silent = EventHead { occurred_at: None, ..head() };
        let at = |millis| Some(Timestamp::from_millis(millis));
        let within = Filter { occurred_since: at(1000), occurred_until: at(1001), ..Filter::default() };
        assert!(within.admits_event(&silent) && !within.admits_event(&head()));
    }

    #[test]
    fn what_a_replay_took_the_place_of_is_no_longer_failed() {
        let superseded = Delivery { superseded: true, ..dead() };
        assert!(!Filter::failed().admits_delivery(&superseded));
        assert!(Filter { superseded: true, ..Filter::failed() }.admits_delivery(&superseded));
    }
}
