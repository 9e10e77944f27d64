//! An alert: something that happened to an endpoint, a delivery, a call or the journal, as an event of its own.
//!
//! Alerts are events of the source [`ALERTS`] and are journaled, routed and delivered like any other. What is here
//! is what one says, what makes two the same, and the [`Damper`] that sums up what comes too often. What an alert
//! never does is cause another one: whoever makes them leaves out what happened to alerts.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::core::breaker::Circuit;
use crate::core::event::{Dedup, Fingerprint};
use crate::core::id::{DeliveryId, EventId};
use crate::core::name::Name;
#[cfg(doc)]
use crate::core::source::ALERTS;
use crate::core::standing::Standing;
use crate::core::timestamp::Timestamp;

/// Alerts of one kind about one endpoint that are told singly within [`DAMPED_SPAN`].
pub const SINGLE_MAX: u32 = 10;
/// How long the further ones are gathered, to be told as one with their number.
pub const DAMPED_SPAN: Duration = Duration::from_secs(60);
/// For how long the same alert is told once only.
const SAME_WINDOW: Duration = Duration::from_secs(400 * 24 * 3600);
/// For how long a call that is undelivered at an endpoint is told once only.
const UNDELIVERED_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// What can be told. The words are event types: never rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    /// An endpoint's circuit has opened: its deliveries are held.
    CircuitOpened,
    /// It has closed: they go.
    CircuitClosed,
    /// An endpoint was paused, by an operator or because it answered 410.
    Paused,
    /// A delivery gave up.
    DeliveryDead,
    /// A call has a gap.
    CallIncomplete,
    /// The journal has so little room that no new events are taken.
    HighWater,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What.
    pub kind: AlertKind,
    /// When; of several, the first.
    pub at: Timestamp,
    /// Where, if at an endpoint: the alert does not go there.
    pub endpoint: Option<Name>,
    /// The delivery, if it is about one.
    pub delivery: Option<DeliveryId>,
    /// The event, if it is about one.
    pub event: Option<EventId>,
    /// That event's source.
    pub source: Option<Name>,
    /// That event's key.
    pub key: Option<String>,
    /// Why, or which kind of gap, in a word of the core.
    pub reason: &'static str,
    /// How many are told as one; 1 is itself.
    pub count: u64,
    /// When the last of several happened.
    pub until: Option<Timestamp>,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::CircuitOpened,
        Self::CircuitClosed,
        Self::Paused,
        Self::DeliveryDead,
        Self::CallIncomplete,
        Self::HighWater,
    ];

    /// The event type. It is the alert's key, too: alerts of a kind are found by it, and keep their order.
    #[must_use]
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::CircuitOpened => "backstop.endpoint.circuit_opened",
            Self::CircuitClosed => "backstop.endpoint.circuit_closed",
            Self::Paused => "backstop.endpoint.paused",
            Self::DeliveryDead => "backstop.delivery.dead",
            Self::CallIncomplete => "backstop.call.incomplete",
            Self::HighWater => "backstop.journal.high_water",
        }
    }
}

impl Alert {
    /// An alert about nothing in particular yet.
    #[must_use]
    pub const fn new(kind: AlertKind, at: Timestamp, reason: &'static str) -> Self {
        Self {
            kind,
            at,
            endpoint: None,
            delivery: None,
            event: None,
            source: None,
            key: None,
            reason,
            count: 1,
            until: None,
        }
    }

    /// What makes it the same as another one, and for how long: after a restart much is found again.
    ///
    /// A call that is undelivered at an endpoint is told once a day, whatever the deliveries.
    #[must_use]
    pub fn dedup(&self) -> Dedup {
        let is_undelivered = self.kind == AlertKind::CallIncomplete && self.endpoint.is_some() && self.until.is_none();
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(self.kind.event_type().as_bytes());
        for name in [&self.endpoint, &self.source] {
            part(name.as_ref().map_or("", Name::as_str).as_bytes());
        }
        part(self.key.as_deref().unwrap_or_default().as_bytes());
        part(self.reason.as_bytes());
        if !is_undelivered {
            part(&self.at.millis().to_be_bytes());
            part(&self.event.map_or(0, EventId::as_u128).to_be_bytes());
            part(&self.delivery.map_or(0, |id| id.slot).to_be_bytes());
            part(&self.count.to_be_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        let fingerprint = Fingerprint(digest.first_chunk().copied().unwrap_or_default());
        Dedup { fingerprint, window: if is_undelivered { UNDELIVERED_WINDOW } else { SAME_WINDOW } }
    }
}

/// What is to be told of an endpoint that stood like `before` and stands like `after` since `now`.
///
/// An endpoint that opens again while it comes back is told again; a failed probe is not.
#[must_use]
pub fn of_standing(now: Timestamp, endpoint: &Name, before: &Standing, after: &Standing) -> Vec<Alert> {
    let about = |kind, at, reason| Alert { endpoint: Some(endpoint.clone()), ..Alert::new(kind, at, reason) };
    let opened_at = |standing: &Standing| match standing.circuit {
        Circuit::Open { since, .. } => Some(since),
        Circuit::Closed | Circuit::HalfOpen { .. } => None,
    };
    let mut alerts = Vec::new();
    if let Some(pause) = &after.pause
        && before.pause.as_ref().is_none_or(|known| known.since != pause.since)
    {
        alerts.push(about(AlertKind::Paused, pause.since, pause.cause.as_str()));
    }
    match after.circuit {
        Circuit::Open { since, cause, .. } if opened_at(before) != Some(since) => {
            alerts.push(about(AlertKind::CircuitOpened, since, cause.as_str()));
        }
        Circuit::Closed if before.circuit != Circuit::Closed => {
            alerts.push(about(AlertKind::CircuitClosed, now, "recovered"));
        }
        _ => {}
    }
    alerts
}

/// Lets the first alerts of a kind and an endpoint pass and sums up the others.
///
/// Remembers one window for each kind and endpoint with an alert in the last [`DAMPED_SPAN`].
#[derive(Debug, Default)]
pub struct Damper(BTreeMap<(AlertKind, Option<Name>), Window>);

#[derive(Debug)]
struct Window {
    began: Timestamp,
    passed: u32,
    /// Those that did not pass, as one.
    held: Option<Alert>,
}

impl Damper {
    /// Whether an alert may be told at `now`; if not, it is counted and told with others later.
    pub fn admits(&mut self, now: Timestamp, alert: &Alert) -> bool {
        let window = self.0.entry((alert.kind, alert.endpoint.clone()));
        let window = window.or_insert(Window { began: now, passed: 0, held: None });
        if window.passed < SINGLE_MAX {
            window.passed += 1;
            return true;
        }
        match &mut window.held {
            Some(held) => {
                held.count += alert.count;
                held.until = Some(alert.until.unwrap_or(alert.at));
            }
            None => {
                let sum = Alert::new(alert.kind, alert.at, "many");
                let until = Some(alert.until.unwrap_or(alert.at));
                window.held = Some(Alert { endpoint: alert.endpoint.clone(), count: alert.count, until, ..sum });
            }
        }
        false
    }

    /// The next sum whose time has come at `now`.
    pub fn poll_sum(&mut self, now: Timestamp) -> Option<Alert> {
        // A clock that was set back must not keep what is held for long.
        let is_over = |window: &Window| now >= window.began.after(DAMPED_SPAN) || now < window.began;
        loop {
            let over = self.0.iter().find(|(_, window)| is_over(window)).map(|(about, _)| about.clone())?;
            if let Some(sum) = self.0.remove(&over).and_then(|window| window.held) {
                return Some(sum);
            }
        }
    }

    /// When to ask for sums again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.0.values().map(|window| window.began.after(DAMPED_SPAN)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + second * 1000)
    }

    fn dead(second: u64, endpoint: &str) -> Alert {
        let alert = Alert::new(AlertKind::DeliveryDead, at(second), "gone");
        Alert { endpoint: Some(Name::new(endpoint).unwrap()), ..alert }
    }

    #[test]
    fn types_are_told_apart_and_begin_with_the_source() {
        let mut types: Vec<&str> = AlertKind::ALL.into_iter().map(AlertKind::event_type).collect();
        assert!(types.iter().all(|text| text.starts_with("backstop.") && text.len() <= 64));
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), AlertKind::ALL.len());
    }

    #[test]
    fn the_first_ones_pass_and_the_others_become_one() {
        let mut damper = Damper::default();
        for second in 0..25 {
            assert_eq!(damper.admits(at(second), &dead(second, "crm")), second < 10, "{second}");
        }
        assert!(damper.admits(at(25), &dead(25, "bill")), "of another endpoint");
        assert!(damper.admits(at(25), &Alert { kind: AlertKind::Paused, ..dead(25, "crm") }), "of another kind");
        assert_eq!((damper.poll_sum(at(59)), damper.poll_timeout()), (None, Some(at(60))));
        let sum = damper.poll_sum(at(60)).unwrap();
        assert_eq!((sum.count, sum.at, sum.until, sum.reason), (15, at(10), Some(at(24)), "many"));
        assert_eq!((sum.kind, sum.endpoint.as_ref().map(Name::as_str)), (AlertKind::DeliveryDead, Some("crm")));
        assert_eq!(damper.poll_sum(at(60)), None);
        assert!(damper.admits(at(61), &dead(61, "crm")), "a new minute");
        assert_eq!(damper.poll_sum(at(500)), None, "nothing was held");
        assert_eq!(damper.poll_timeout(), None, "nothing is remembered");
    }

    #[test]
    fn a_clock_that_was_set_back_ends_the_wait() {
        let mut damper = Damper::default();
        assert_eq!((0..12).filter(|_| damper.admits(at(100), &dead(0, "crm"))).count(), 10);
        assert_eq!(damper.poll_sum(at(3)).map(|sum| sum.count), Some(2));
    }

    #[test]
    fn a_standing_is_told_when_it_changes() {
        use crate::core::breaker::{Sign, TripCause};
        use crate::core::standing::{Pause, PauseCause};
        let crm = Name::new("crm").unwrap();
        let sound = Standing::default();
        let open = |since, probes| {
            let (cause, sign) = (TripCause::FailureRate, Sign::Status(500));
            let circuit = Circuit::Open { since: at(since), cause, sign, probe_at: at(since + 9), probes };
            Standing { circuit, ..Standing::default() }
        };
        let half_open = Standing { circuit: Circuit::HalfOpen { since: at(5), allowed: 2 }, ..Standing::default() };
        let paused = |since| {
            let pause = Pause { since: at(since), cause: PauseCause::Gone, note: String::new() };
            Standing { pause: Some(pause), ..Standing::default() }
        };
        let (opened, closed) = (AlertKind::CircuitOpened, AlertKind::CircuitClosed);
        let table = [
            (sound.clone(), open(1, 0), Some((opened, at(1), "failure_rate"))),
            (open(1, 0), open(1, 1), None),
            (open(1, 1), half_open.clone(), None),
            (half_open.clone(), open(7, 0), Some((opened, at(7), "failure_rate"))),
            (half_open, sound.clone(), Some((closed, at(99), "recovered"))),
            (open(1, 0), sound.clone(), Some((closed, at(99), "recovered"))),
            (sound.clone(), paused(3), Some((AlertKind::Paused, at(3), "gone"))),
            (paused(3), paused(3), None),
            (paused(3), paused(4), Some((AlertKind::Paused, at(4), "gone"))),
            (paused(3), sound, None),
        ];
        for (before, after, told) in table {
            let alerts = of_standing(at(99), &crm, &before, &after);
            assert!(alerts.iter().all(|alert| alert.endpoint.as_ref() == Some(&crm)));
            let alerts: Vec<_> = alerts.into_iter().map(|alert| (alert.kind, alert.at, alert.reason)).collect();
            assert_eq!(alerts, told.into_iter().collect::<Vec<_>>(), "{before:?} {after:?}");
        }
    }

    #[test]
    fn the_same_is_the_same_and_any_difference_shows() {
        let same = dead(1, "crm");
        assert_eq!(same.dedup(), dead(1, "crm").dedup());
        let name = |text: &str| Some(Name::new(text).unwrap());
        let others = [
            Alert { kind: AlertKind::Paused, ..same.clone() },
            Alert { at: at(2), ..same.clone() },
            Alert { endpoint: name("bill"), ..same.clone() },
            Alert { endpoint: None, source: name("crm"), ..same.clone() },
            Alert { event: Some(EventId::from_u128(7)), ..same.clone() },
            Alert { delivery: Some(EventId::MIN.delivery(1)), ..same.clone() },
            Alert { key: Some("call-1".into()), ..same.clone() },
            Alert { reason: "rejected", ..same.clone() },
            Alert { count: 2, ..same.clone() },
        ];
        for other in others {
            assert_ne!(same.dedup().fingerprint, other.dedup().fingerprint, "{other:?}");
        }
        let undelivered = |second| Alert { kind: AlertKind::CallIncomplete, ..dead(second, "crm") };
        assert_eq!(undelivered(1).dedup(), undelivered(2).dedup());
        assert!(undelivered(1).dedup().window < same.dedup().window);
    }
}
