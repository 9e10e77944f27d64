//! A filter: which events or deliveries an operator means. Lists and replays use the same one.

use crate::core::delivery::{Delivery, Reason, Status};
use crate::core::event::EventHead;
use crate::core::failure::FailureGroup;
use crate::core::id::EventId;
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
    /// Events with this key.
    pub key: Option<String>,
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
    /// Also deliveries that a later one has taken the place of.
    pub superseded: bool,
    /// Only events that were routed nowhere.
    pub unrouted: bool,
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
            && self.key.as_ref().is_none_or(|key| head.key.as_ref() == Some(key))
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
            && (self.superseded || !delivery.superseded)
    }

    /// Whether deliveries decide, and not the event alone.
    #[must_use]
    pub fn asks_for_deliveries(&self) -> bool {
        let is_named = self.endpoint.is_some() || self.reason.is_some() || self.group.is_some();
        is_named || !self.statuses.is_empty()
    }

    /// Whether only exceptions are asked for: deliveries that did not simply go through or wait their first turn.
    #[must_use]
    pub fn only_exceptions(&self) -> bool {
        !self.statuses.is_empty()
            && !self.statuses.iter().any(|status| matches!(status, Status::Scheduled | Status::Delivered))
    }

    /// The ids that events received in the filter's time span can have: `low..high`.
    ///
    /// Ids run ahead of the clock by at most [`ID_SLACK_MS`] when it steps back, hence the slack.
    #[must_use]
    pub fn id_bounds(&self) -> (EventId, EventId) {
        let low = self.since.map_or(EventId::MIN, EventId::floor);
        let slack = std::time::Duration::from_millis(ID_SLACK_MS);
        let high = self.until.map_or(EventId::MAX, |until| EventId::floor(until.after(slack)));
        (low, high)
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
            occurred_at: None,
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
            Filter { key: Some("abd".into()), ..Filter::default() },
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
        ];
        for filter in excluding {
            assert!(!filter.admits_delivery(&dead()), "{filter:?}");
        }
    }

    #[test]
    fn what_a_replay_took_the_place_of_is_no_longer_failed() {
        let superseded = Delivery { superseded: true, ..dead() };
        assert!(!Filter::failed().admits_delivery(&superseded));
        assert!(Filter { superseded: true, ..Filter::failed() }.admits_delivery(&superseded));
    }
}
