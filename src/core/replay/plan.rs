//! A plan: what a replay would do, counted without doing it.
//!
//! Of bounded size whatever is selected: types beyond the bound are counted together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Skip, Skipped};
use crate::core::delivery::Status;
use crate::core::event::EventHead;
use crate::core::id::{DeliveryId, EventId};
use crate::core::name::Name;
use crate::core::rate::Rate;
use crate::core::timestamp::Timestamp;

/// Types that are counted by name.
pub const TYPES_MAX: usize = 100;
/// Samples that are shown.
pub const SAMPLES_MAX: usize = 5;

const HOUR: Duration = Duration::from_secs(3600);
/// Ages are counted up to these; what is older is counted apart.
pub const AGES: [(&str, Duration); 4] = [
    ("1h", HOUR),
    ("24h", HOUR.saturating_mul(24)),
    ("7d", HOUR.saturating_mul(168)),
    ("30d", HOUR.saturating_mul(720)),
];

/// What a replay would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Deliveries that fit.
    pub selected: u64,
    /// Of those, deliveries that would be made.
    pub would_make: u64,
    /// The others, by why.
    pub skipped: Skipped,
    /// What would be made, by where it would go.
    pub by_endpoint: BTreeMap<Name, u64>,
    /// By where the old delivery stands; `None` is an event that went nowhere.
    pub by_status: BTreeMap<Option<Status>, u64>,
    /// By the event's type; `None` is all types beyond [`TYPES_MAX`].
    pub by_type: BTreeMap<Option<String>, u64>,
    /// By the event's age: each of [`AGES`], and what is older than the last.
    pub by_age: [u64; AGES.len() + 1],
    /// When the oldest event to be sent was received, and the newest.
    pub received: Option<(Timestamp, Timestamp)>,
    /// The first few.
    pub samples: Vec<Sample>,
}

/// One delivery that would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Of this event.
    pub event: EventId,
    /// Because of this delivery; `None` for an event that went nowhere.
    pub delivery: Option<DeliveryId>,
    /// To this endpoint.
    pub to: Name,
    /// Of this type.
    pub event_type: String,
}

impl Plan {
    /// Counts a fitting delivery, or event that went nowhere, of which nothing would be made.
    pub const fn skip(&mut self, skip: Skip) {
        self.selected += 1;
        self.skipped.count(skip);
    }

    /// Counts one that would be made to `to`, because of this delivery.
    pub fn make(&mut self, now: Timestamp, head: &EventHead, because: Option<(DeliveryId, Status)>, to: &Name) {
        self.selected += 1;
        self.would_make += 1;
        *self.by_endpoint.entry(to.clone()).or_default() += 1;
        *self.by_status.entry(because.map(|(_, status)| status)).or_default() += 1;
        let event_type = Some(head.event_type.clone());
        let is_named = self.by_type.len() < TYPES_MAX || self.by_type.contains_key(&event_type);
        *self.by_type.entry(event_type.filter(|_| is_named)).or_default() += 1;
        let age = now.since(head.received_at);
        let place = AGES.iter().position(|(_, up_to)| age <= *up_to).unwrap_or(AGES.len());
        if let Some(count) = self.by_age.get_mut(place) {
            *count += 1;
        }
        let at = head.received_at;
        let (oldest, newest) = self.received.unwrap_or((at, at));
        self.received = Some((oldest.min(at), newest.max(at)));
        if self.samples.len() < SAMPLES_MAX {
            let (delivery, event_type) = (because.map(|(id, _)| id), head.event_type.clone());
            self.samples.push(Sample { event: head.id, delivery, to: to.clone(), event_type });
        }
    }

    /// How long making them takes at this rate.
    #[must_use]
    pub fn takes(&self, rate: Rate) -> Duration {
        let beyond = u128::from(self.would_make.saturating_sub(u64::from(rate.burst)));
        let millis = (beyond * rate.per.as_millis()).div_ceil(u128::from(rate.count.max(1)));
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u128, event_type: &str, received_at: Timestamp) -> EventHead {
        EventHead {
            id: EventId::from_u128(number),
            received_at,
            source: Name::new("flyflow").unwrap(),
            event_type: event_type.to_owned(),
            key: None,
            occurred_at: None,
            body_bytes: 0,
        }
    }

    #[test]
    fn what_would_be_made_is_counted_each_way() {
        let (crm, now) = (Name::new("crm").unwrap(), Timestamp::ZERO.after(HOUR * 10_000));
        let ago = |span| Timestamp::ZERO.after(HOUR * 10_000 - span);
        let mut plan = Plan::default();
        let ages = [HOUR, HOUR * 2, HOUR * 25, HOUR * 169, HOUR * 721, Duration::ZERO];
        for (number, age) in (0..).zip(ages) {
            let because = (number > 0).then(|| (EventId::from_u128(number).delivery(0), Status::Dead));
            plan.make(now, &head(number, "call_ended", ago(age)), because, &crm);
        }
        plan.skip(Skip::TooOld);
        plan.skip(Skip::Waiting);
        assert_eq!((plan.selected, plan.would_make, plan.skipped.total()), (8, 6, 2));
        assert_eq!(plan.by_age, [2, 1, 1, 1, 1]);
        assert_eq!(plan.by_status, BTreeMap::from([(None, 1), (Some(Status::Dead), 5)]));
        assert_eq!(plan.by_endpoint, BTreeMap::from([(crm, 6)]));
        assert_eq!(plan.received, Some((ago(HOUR * 721), now)));
        assert_eq!(plan.samples.len(), SAMPLES_MAX);
        let rate = Rate { count: 2, per: Duration::from_secs(1), burst: 1 };
        assert_eq!(plan.takes(rate), Duration::from_millis(2500));
        assert_eq!(Plan::default().takes(rate), Duration::ZERO);
    }

    #[test]
    fn a_plan_is_small_whatever_is_selected() {
        let mut plan = Plan::default();
        for number in 0..1000 {
            let (crm, kind) = (Name::new("crm").unwrap(), format!("type-{}", number % 500));
            plan.make(Timestamp::ZERO, &head(number, &kind, Timestamp::ZERO), None, &crm);
        }
        assert_eq!(plan.by_type.len(), TYPES_MAX + 1);
        assert_eq!(plan.by_type.values().sum::<u64>(), 1000);
        assert_eq!(plan.by_type.get(&None), Some(&800));
    }
}
