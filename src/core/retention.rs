//! Retention: how long what is stored is kept, and what of it may go.
//!
//! An event is let go of in two steps: first its payload (headers, body, what its attempts were answered),
//! later all that is known of it. Its age counts from when it came to rest: when it was received, or when the
//! last of its deliveries ended, whichever is later. So a dead letter can be replayed for as long after its end
//! as a delivered event.
//!
//! Invariants: an event with a delivery that is still to be made is kept whole, whatever its age and whatever
//! its source takes up. A duplicate is recognised for as long as its window says. Absent: how anything is
//! removed, which is the journal's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::delivery::{Delivery, Reason};
use crate::core::event::{Dedup, EventHead};
use crate::core::id::ReplayId;
use crate::core::mutant::{self, Mutant};
use crate::core::name::Name;
use crate::core::replay::Replay;
use crate::core::timestamp::{Timestamp, duration_millis};

/// How long one source's events are kept. What is `None` has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// Headers, body and the attempts' answers, after the event came to rest.
    pub payload: Option<Duration>,
    /// That it was, and what became of its deliveries. Never shorter than `payload`.
    pub metadata: Option<Duration>,
    /// Most bytes of bodies; above it the oldest events at rest lose theirs before their time.
    pub bytes_max: Option<u64>,
}

/// How long everything is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// For sources that are not named below, also those that the config no longer has.
    pub default: Keep,
    /// By source.
    pub sources: BTreeMap<Name, Keep>,
    /// The endpoints there are. Deliveries to others are parked: nobody makes them.
    pub endpoints: BTreeSet<Name>,
    /// For how long sources recognise duplicates now: events accepted under a shorter window are kept for this one.
    pub windows: BTreeMap<Name, Duration>,
}

/// Most replays that have ended and are still known; beyond it the oldest are forgotten, whatever their age.
pub const ENDED_REPLAYS_MAX: usize = 10_000;

/// What is to be kept of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    Whole,
    /// That it was, and what became of its deliveries.
    Head,
    /// Nothing.
    Nothing,
}

/// What is to become of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is kept of it.
    pub kept: Kept,
    /// Slots of parked deliveries that have waited too long: they expire.
    pub expired: Vec<u16>,
}

impl Retention {
    /// The rules for a source.
    #[must_use]
    pub fn of(&self, source: &Name) -> Keep {
        self.sources.get(source).copied().unwrap_or(self.default)
    }

    /// Whether nothing is ever let go of.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        std::iter::once(&self.default).chain(self.sources.values()).all(|keep| *keep == Keep::default())
    }

    /// What is to become of an event now.
    ///
    /// `print_until` is when its fingerprint stops making others duplicates; `is_over` says that its source
    /// takes up more than it may.
    #[must_use]
    pub fn judge(
        &self,
        head: &EventHead,
        deliveries: &[Delivery],
        print_until: Timestamp,
        is_over: bool,
        now: Timestamp,
    ) -> Verdict {
        let keep = self.of(&head.source);
        let has_passed = |since: Timestamp, span: Option<Duration>| span.is_some_and(|span| now >= since.after(span));
        let is_forsaken = |delivery: &&Delivery| {
            let parked = !delivery.state.is_terminal() && !self.endpoints.contains(&delivery.endpoint);
            parked && has_passed(delivery.born_at, keep.metadata)
        };
        let expired: Vec<u16> = deliveries.iter().filter(is_forsaken).map(|delivery| delivery.id.slot).collect();
        let is_live = |delivery: &Delivery| !delivery.state.is_terminal() && !expired.contains(&delivery.id.slot);
        if deliveries.iter().any(is_live) && !mutant::is(Mutant::LiveLetGo) {
            return Verdict { kept: Kept::Whole, expired };
        }
        let counted = if mutant::is(Mutant::RestIgnored) { &[] } else { deliveries };
        let rest = rest_of(head, counted);
        // What has expired is listed for as long as what has ended otherwise.
        let last = counted.iter().map(|delivery| delivery.changed_at).fold(rest, Timestamp::max);
        let is_known = !expired.is_empty() || !has_passed(last, keep.metadata) || now < print_until;
        let kept = match (is_known, is_over || has_passed(rest, keep.payload)) {
            (true, false) => Kept::Whole,
            (true, true) => Kept::Head,
            (false, _) => Kept::Nothing,
        };
        Verdict { kept, expired }
    }

    /// Whether something of an event should have gone a quarter of its time ago: it is not to wait any longer,
    /// whatever that costs.
    #[must_use]
    pub fn is_long_due(
        &self,
        head: &EventHead,
        deliveries: &[Delivery],
        print_until: Timestamp,
        has_payload: bool,
        now: Timestamp,
    ) -> bool {
        let keep = self.of(&head.source);
        let judged_before = |span: Option<Duration>| {
            let then = now.millis().saturating_sub(duration_millis(span? / 4));
            Some(self.judge(head, deliveries, print_until, false, Timestamp::from_millis(then)))
        };
        // What is parked has its own time.
        let payload = judged_before(keep.payload)
            .is_some_and(|verdict| verdict.kept != Kept::Whole && verdict.expired.is_empty());
        let metadata = judged_before(keep.metadata)
            .is_some_and(|verdict| verdict.kept == Kept::Nothing || !verdict.expired.is_empty());
        metadata || (has_payload && payload)
    }

    /// When the fingerprint of an event stops making others duplicates.
    #[must_use]
    pub fn print_until(&self, source: &Name, received_at: Timestamp, dedup: Option<Dedup>) -> Timestamp {
        let window = |dedup: Dedup| self.windows.get(source).map_or(dedup.window, |now| dedup.window.max(*now));
        dedup.map_or(Timestamp::ZERO, |dedup| received_at.after(window(dedup)))
    }

    /// The replays that are to be forgotten, of `replays` in the order they were begun: those that have ended, and
    /// were begun longer ago than metadata is kept or are too many.
    pub fn replays_due<'a>(
        &self,
        replays: impl ExactSizeIterator<Item = &'a Replay> + Clone,
        now: Timestamp,
    ) -> Vec<ReplayId> {
        let ended = || replays.clone().filter(|replay| replay.state.has_ended());
        let metadata = self.default.metadata;
        let is_old = |replay: &&Replay| metadata.is_some_and(|span| now >= replay.created_at.after(span));
        let too_many =
            if replays.len() > ENDED_REPLAYS_MAX { ended().count().saturating_sub(ENDED_REPLAYS_MAX) } else { 0 };
        let old = replays.clone().take_while(is_old).filter(|replay| replay.state.has_ended());
        let due: BTreeSet<ReplayId> = ended().take(too_many).chain(old).map(|replay| replay.id).collect();
        due.into_iter().collect()
    }

    /// When an event that is at rest loses its payload by its age; `None` if never.
    #[must_use]
    pub fn payload_until(&self, head: &EventHead, deliveries: &[Delivery]) -> Option<Timestamp> {
        self.of(&head.source).payload.map(|span| rest_of(head, deliveries).after(span))
    }
}

/// When the event came to rest: it was received, or the last delivery ended that did not just run out of time.
fn rest_of(head: &EventHead, deliveries: &[Delivery]) -> Timestamp {
    let ended = deliveries.iter().filter(|it| it.state.is_terminal() && it.reason != Reason::Retention);
    ended.map(|delivery| delivery.changed_at).fold(head.received_at, Timestamp::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::delivery::State;
    use crate::core::event::Fingerprint;
    use crate::core::id::EventId;
    use crate::core::replay::ReplayState;

    const DAY: u64 = 86_400_000;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn day(day: u64) -> Timestamp {
        Timestamp::from_millis(day * DAY)
    }

    /// Payload 7 days, metadata 30; the endpoint `crm` is there, any other is not.
    fn retention() -> Retention {
        let days = |days: u64| Some(Duration::from_millis(days * DAY));
        let default = Keep { payload: days(7), metadata: days(30), bytes_max: None };
        Retention { default, endpoints: BTreeSet::from([name("crm")]), ..Retention::default() }
    }

    fn head() -> EventHead {
        EventHead {
            id: EventId::MIN,
            received_at: day(100),
            source: name("flyflow"),
            event_type: "call_ended".to_owned(),
            key: None,
            occurred_at: None,
            body_bytes: 1,
        }
    }

    fn delivery(slot: u16, endpoint: &str, state: State, reason: Reason, changed_at: Timestamp) -> Delivery {
        Delivery {
            id: EventId::MIN.delivery(slot),
            endpoint: name(endpoint),
            state,
            reason,
            changed_at,
            born_at: day(100),
            attempts: 1,
            probes: 0,
            out_of_order: false,
            last_status: None,
            last_failure: None,
            group: None,
            replay: None,
            superseded: false,
            has_payload: true,
        }
    }

    fn judged(deliveries: &[Delivery], today: u64) -> (Kept, Vec<u16>) {
        let verdict = retention().judge(&head(), deliveries, Timestamp::ZERO, false, day(today));
        (verdict.kept, verdict.expired)
    }

    #[test]
    fn an_event_goes_in_two_steps_from_when_it_came_to_rest() {
        let ends = [
            (State::Delivered, Reason::Acknowledged),
            (State::Dead, Reason::Gone),
            (State::Cancelled, Reason::Operator),
        ];
        for (state, reason) in ends {
            let ended = [delivery(0, "crm", state, reason, day(103))];
            for (today, kept) in
                [(103, Kept::Whole), (109, Kept::Whole), (110, Kept::Head), (132, Kept::Head), (133, Kept::Nothing)]
            {
                assert_eq!(judged(&ended, today), (kept, vec![]), "{state:?} on day {today}");
            }
        }
        for (today, kept) in [(106, Kept::Whole), (107, Kept::Head), (130, Kept::Nothing)] {
            assert_eq!(judged(&[], today), (kept, vec![]), "unrouted on day {today}");
        }
    }

    #[test]
    fn what_is_still_to_be_delivered_is_kept_whole_for_ever() {
        let waits = delivery(1, "crm", State::Scheduled { due: day(101) }, Reason::Backoff, day(101));
        let on_its_way = delivery(1, "crm", State::InFlight { attempt: 2 }, Reason::Backoff, day(101));
        let ended = delivery(0, "crm", State::Delivered, Reason::Acknowledged, day(100));
        for live in [waits, on_its_way] {
            for today in [101, 107, 130, 10_000] {
                let deliveries = [ended.clone(), live.clone()];
                assert_eq!(judged(&deliveries, today), (Kept::Whole, vec![]));
                let over = retention().judge(&head(), &deliveries, Timestamp::ZERO, true, day(today));
                assert_eq!(over.kept, Kept::Whole, "not even if its source takes up too much");
            }
        }
    }

    #[test]
    fn what_is_parked_expires_after_the_metadata_s_time_and_is_listed_for_as_long_again() {
        let parked = delivery(0, "old-crm", State::Scheduled { due: day(100) }, Reason::Received, day(100));
        assert_eq!(judged(std::slice::from_ref(&parked), 129), (Kept::Whole, vec![]));
        assert_eq!(judged(std::slice::from_ref(&parked), 130), (Kept::Head, vec![0]));
        let expired = delivery(0, "old-crm", State::Expired, Reason::Retention, day(130));
        assert_eq!(judged(std::slice::from_ref(&expired), 159), (Kept::Head, vec![]));
        assert_eq!(judged(std::slice::from_ref(&expired), 160), (Kept::Nothing, vec![]));
        let live = delivery(1, "crm", State::Scheduled { due: day(100) }, Reason::Received, day(100));
        assert_eq!(judged(&[parked, live], 130), (Kept::Whole, vec![0]), "another that is live keeps the body");
    }

    #[test]
    fn what_waits_for_a_quarter_of_its_time_is_long_due() {
        let ended = [delivery(0, "crm", State::Delivered, Reason::Acknowledged, day(100))];
        let parked = [delivery(0, "old-crm", State::Scheduled { due: day(100) }, Reason::Received, day(100))];
        let is_long_due = |deliveries: &[Delivery], has_payload, today| {
            retention().is_long_due(&head(), deliveries, Timestamp::ZERO, has_payload, day(today))
        };
        assert!(!is_long_due(&ended, true, 108) && is_long_due(&ended, true, 109));
        assert!(!is_long_due(&ended, false, 137) && is_long_due(&ended, false, 138));
        assert!(!is_long_due(&parked, true, 137) && is_long_due(&parked, true, 138));
        let endless = Retention::default();
        assert!(!endless.is_long_due(&head(), &ended, Timestamp::ZERO, true, Timestamp::MAX));
    }

    #[test]
    fn a_source_that_takes_up_too_much_loses_bodies_only() {
        let ended = [delivery(0, "crm", State::Delivered, Reason::Acknowledged, day(100))];
        let over = |today| retention().judge(&head(), &ended, Timestamp::ZERO, true, day(today)).kept;
        assert_eq!((over(100), over(129), over(130)), (Kept::Head, Kept::Head, Kept::Nothing));
    }

    #[test]
    fn a_fingerprint_is_kept_as_long_as_its_window() {
        let until = |print_until| retention().judge(&head(), &[], print_until, false, day(140)).kept;
        assert_eq!((until(day(140)), until(day(141))), (Kept::Nothing, Kept::Head));
    }

    #[test]
    fn without_a_limit_everything_is_kept() {
        let endless = Retention::default();
        assert!(endless.is_endless() && !retention().is_endless());
        let parked = [delivery(0, "crm", State::Scheduled { due: day(100) }, Reason::Received, day(100))];
        let verdict = endless.judge(&head(), &parked, Timestamp::ZERO, false, Timestamp::MAX);
        assert_eq!(verdict, Verdict { kept: Kept::Whole, expired: vec![] });
        let own = Keep { payload: Some(Duration::ZERO), ..Keep::default() };
        let only_one = Retention { sources: BTreeMap::from([(name("flyflow"), own)]), ..Retention::default() };
        assert_eq!(only_one.judge(&head(), &[], Timestamp::ZERO, false, day(100)).kept, Kept::Head);
        assert_eq!(only_one.of(&name("other")), Keep::default());
    }

    #[test]
    fn a_window_that_was_lengthened_counts_for_events_of_before() {
        let (source, window) = (name("flyflow"), Duration::from_secs(3600));
        let dedup = Some(Dedup { fingerprint: Fingerprint([7; 16]), window });
        let until = |now: Option<u64>| {
            let windows = now.map(|hours| (source.clone(), hours as u32 * window)).into_iter().collect();
            Retention { windows, ..Retention::default() }.print_until(&source, day(1), dedup)
        };
        let hours = |hours: u64| Timestamp::from_millis(DAY + hours * DAY / 24);
        assert_eq!([None, Some(0), Some(1), Some(3)].map(until), [1, 1, 1, 3].map(hours));
        assert_eq!(Retention::default().print_until(&source, day(1), None), Timestamp::ZERO);
    }

    #[test]
    fn replays_that_have_ended_are_forgotten_by_age_and_by_number() {
        let replay = |n: u64, state| {
            let id = ReplayId::from_u128(u128::from(n) + 1);
            let replay = Replay::new(id, day(100 + n / 5000), crate::core::filter::Filter::default());
            Replay { state, ..replay }
        };
        let state = |n: u64| if n.is_multiple_of(2) { ReplayState::Running } else { ReplayState::Completed };
        let few: Vec<Replay> = (0..10).map(|n| replay(n, state(n))).collect();
        let due = |all: &[Replay], retention: &Retention, today| retention.replays_due(all.iter(), day(today)).len();
        assert_eq!([129, 130].map(|today| due(&few, &retention(), today)), [0, 5]);
        assert_eq!(due(&few, &Retention::default(), 10_000), 0);
        let many: Vec<Replay> = (0..24_000).map(|n| replay(n, state(n))).collect();
        assert_eq!(due(&many, &Retention::default(), 100), 2000);
        assert_eq!(due(&many, &retention(), 131), 5000);
        assert_eq!(Retention::default().replays_due(many.iter(), day(100)).first(), Some(&many[1].id), "the oldest");
    }
}
