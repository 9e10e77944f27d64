//! How deliveries flow, on the wire: an endpoint's limits, how it stands, and what a delivery waits for.
//!
//! What can stand in one of several ways says so by a word (`state`, `on`) and has the fields of that way
//! only. A word that a client does not know is `Unknown` to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Word;
use crate::core::breaker::{self, BreakerPolicy};
use crate::core::delivery;
use crate::core::endpoint::{self, Order};
use crate::core::rate::Rate;
use crate::core::scheduler::{self, LaneView};
use crate::core::standing;
use crate::core::timestamp::{Timestamp, duration_millis};

/// An endpoint's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// The window never holds fewer attempts than this.
    pub concurrency_min: usize,
    /// Most attempts on their way at a time; equal to `concurrency_min` where the window is fixed.
    pub concurrency_max: usize,
    /// How many attempts may begin in which span, as the config writes it: `600/min`; `null` is no limit.
    pub rate: Option<String>,
    /// Of those, how many at once after a silence; `null` where there is no rate.
    pub rate_burst: Option<u32>,
    /// Which deliveries wait for each other: `none`, `key` or `endpoint`.
    pub order: Word,
    /// How long a failing delivery holds those behind it; `null` where none wait.
    pub order_hold_max_ms: Option<u64>,
    /// When the circuit opens; `null` is never.
    pub breaker: Option<Breaker>,
    /// Longest time for the connection to stand.
    pub connect_timeout_ms: u64,
    /// Longest time for a whole attempt.
    pub timeout_ms: u64,
    /// Attempts before giving up.
    pub attempts_max: u32,
    /// Age at which a delivery is given up.
    pub age_max_ms: u64,
}

/// When an endpoint's circuit opens and how it is probed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Breaker {
    /// It opens after this many failures in a row.
    pub failures: u32,
    /// It opens if this part of the attempts in `window_ms` fails; above 0, at most 1.
    pub failure_rate: f64,
    /// Fewer attempts than this say nothing about the rate.
    pub samples_min: u32,
    /// The span over which the rate is taken.
    pub window_ms: u64,
    /// The first probe goes this long after the circuit opened.
    pub probe_initial_ms: u64,
    /// Longest time between two probes.
    pub probe_max_ms: u64,
}

// JSON has no NaN, and the config takes none.
impl Eq for Breaker {}

/// How an endpoint's deliveries move just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lane {
    /// Attempts on their way.
    pub in_flight: usize,
    /// First-time deliveries held in memory.
    pub fresh: usize,
    /// Retries and replays held in memory.
    pub waiting: usize,
    /// Whether more of either stands in the journal only.
    pub behind: bool,
    /// How many attempts the window allows on their way now.
    pub window: usize,
    /// Lines in which the first delivery holds others back now: keys, or the whole endpoint.
    pub lines_held: usize,
    /// The endpoint asked for silence until then.
    pub held_until: Option<String>,
    /// The rate lets nothing go before then.
    pub rate_next_at: Option<String>,
}

/// Why nothing is sent to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// Since when.
    pub since: String,
    /// Who wants it: `operator`, or `gone` (the endpoint itself, which answered 410).
    pub cause: Word,
    /// What was said about it.
    pub note: Option<String>,
}

/// Whether an endpoint can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Circuit {
    /// Deliveries go.
    Closed,
    /// Deliveries go again, few at first.
    HalfOpen {
        /// Since when.
        since: String,
        /// As many as this may be on their way.
        allowed: u32,
    },
    /// Deliveries are held and spend nothing; one at a time goes as a probe.
    Open {
        /// Since when.
        since: String,
        /// Why: `consecutive_failures` or `failure_rate`.
        cause: Word,
        /// The last failing answer's status.
        last_status: Option<u16>,
        /// The last failure, where no answer came.
        last_failure: Option<Word>,
        /// The next probe goes no sooner.
        probe_at: String,
        /// Probes that failed so far.
        probes_failed: u32,
    },
    /// A later version's word.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What a delivery waits for: the first thing that would have to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitsFor {
    /// What.
    #[serde(flatten)]
    pub on: On,
    /// Since when it waits for that.
    pub since: String,
}

/// What a delivery can wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum On {
    /// The attempt that is on its way.
    Attempt,
    /// The end of its endpoint's pause.
    Pause {
        /// Who wants it: `operator` or `gone`.
        cause: Word,
    },
    /// Its endpoint's circuit, which is open.
    Circuit {
        /// Why it opened.
        cause: Word,
        /// When the next probe goes.
        probe_at: String,
    },
    /// Its turn while its endpoint comes back.
    Ramp {
        /// So many go at a time.
        allowed: u32,
    },
    /// The end of the silence that its endpoint asked for.
    Silence {
        /// When.
        until: String,
    },
    /// Its own due time.
    Due {
        /// When.
        at: String,
    },
    /// An earlier delivery of its line: of its key, or of its endpoint where all go in order.
    Line {
        /// `dlv_…`.
        behind: String,
        /// When it passes at the latest; `null` while the one before it is not failing.
        until: Option<String>,
    },
    /// Its endpoint's window, which is full.
    Window {
        /// So many attempts are on their way.
        limit: usize,
    },
    /// Its endpoint's rate.
    Rate {
        /// When the next one may go.
        next_at: String,
    },
    /// The gateway, which has as many attempts on their way as it may.
    Gateway {
        /// So many, over all endpoints.
        limit: usize,
    },
    /// Others of its endpoint, which go first.
    Turn {
        /// How many of them are held in memory.
        ahead: usize,
    },
    /// Being loaded: it stands in the journal until those before it have gone.
    Journal,
    /// Its endpoint, which the config does not have.
    Parked,
    /// A later version's word.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl From<&endpoint::Endpoint> for Limits {
    fn from(endpoint: &endpoint::Endpoint) -> Self {
        Self {
            concurrency_min: endpoint.concurrency.min,
            concurrency_max: endpoint.concurrency.max,
            rate: endpoint.rate.map(rate),
            rate_burst: endpoint.rate.map(|rate| rate.burst),
            order: Word::Borrowed(endpoint.order.as_str()),
            order_hold_max_ms: (endpoint.order != Order::None).then(|| duration_millis(endpoint.order_hold_max)),
            breaker: endpoint.breaker.as_ref().map(Breaker::from),
            connect_timeout_ms: duration_millis(endpoint.connect_timeout),
            timeout_ms: duration_millis(endpoint.timeout),
            attempts_max: endpoint.retry.attempts_max,
            age_max_ms: duration_millis(endpoint.retry.age_max),
        }
    }
}

impl From<&BreakerPolicy> for Breaker {
    fn from(policy: &BreakerPolicy) -> Self {
        Self {
            failures: policy.failures,
            failure_rate: policy.failure_rate,
            samples_min: policy.samples_min,
            window_ms: duration_millis(policy.window),
            probe_initial_ms: duration_millis(policy.probe_initial),
            probe_max_ms: duration_millis(policy.probe_max),
        }
    }
}

/// The rate as the config writes it; the spans it cannot write are in milliseconds.
fn rate(rate: Rate) -> String {
    let count = rate.count;
    match duration_millis(rate.per) {
        1_000 => format!("{count}/s"),
        60_000 => format!("{count}/min"),
        3_600_000 => format!("{count}/h"),
        millis => format!("{count}/{millis}ms"),
    }
}

impl From<&LaneView> for Lane {
    fn from(lane: &LaneView) -> Self {
        Self {
            in_flight: lane.in_flight,
            fresh: lane.fresh,
            waiting: lane.waiting,
            behind: lane.behind,
            window: lane.window,
            lines_held: lane.lines,
            held_until: lane.held_until.as_ref().map(Timestamp::to_string),
            rate_next_at: lane.rate_next_at.as_ref().map(Timestamp::to_string),
        }
    }
}

impl From<&standing::Pause> for Pause {
    fn from(pause: &standing::Pause) -> Self {
        let note = Some(pause.note.clone()).filter(|note| !note.is_empty());
        Self { since: pause.since.to_string(), cause: pause.cause.as_str().into(), note }
    }
}

impl From<breaker::Circuit> for Circuit {
    fn from(circuit: breaker::Circuit) -> Self {
        match circuit {
            breaker::Circuit::Closed => Self::Closed,
            breaker::Circuit::HalfOpen { since, allowed } => Self::HalfOpen { since: since.to_string(), allowed },
            breaker::Circuit::Open { since, cause, sign, probe_at, probes } => Self::Open {
                since: since.to_string(),
                cause: cause.as_str().into(),
                last_status: sign.status(),
                last_failure: sign.failure().map(|class| class.as_str().into()),
                probe_at: probe_at.to_string(),
                probes_failed: probes,
            },
        }
    }
}

impl From<scheduler::Wait> for WaitsFor {
    fn from(wait: scheduler::Wait) -> Self {
        Self { on: wait.on.into(), since: wait.since.to_string() }
    }
}

impl WaitsFor {
    /// What a delivery waits for whose endpoint the config does not have.
    #[must_use]
    pub fn parked(delivery: &delivery::Delivery) -> Self {
        Self { on: On::Parked, since: delivery.changed_at.to_string() }
    }
}

impl From<scheduler::On> for On {
    fn from(on: scheduler::On) -> Self {
        use scheduler::On as Core;
        match on {
            Core::Attempt => Self::Attempt,
            Core::Pause { cause } => Self::Pause { cause: cause.as_str().into() },
            Core::Circuit { cause, probe_at } => {
                Self::Circuit { cause: cause.as_str().into(), probe_at: probe_at.to_string() }
            }
            Core::Ramp { allowed } => Self::Ramp { allowed },
            Core::Silence { until } => Self::Silence { until: until.to_string() },
            Core::Due { at } => Self::Due { at: at.to_string() },
            Core::Line { behind, until } => {
                Self::Line { behind: behind.to_string(), until: until.as_ref().map(Timestamp::to_string) }
            }
            Core::Window { limit } => Self::Window { limit },
            Core::Rate { next_at } => Self::Rate { next_at: next_at.to_string() },
            Core::Gateway { limit } => Self::Gateway { limit },
            Core::Turn { ahead } => Self::Turn { ahead },
            Core::Journal => Self::Journal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::attempt::FailureClass;
    use crate::core::breaker::{Sign, TripCause};
    use crate::core::id::EventId;
    use crate::core::name::Name;
    use crate::core::window::Concurrency;

    #[test]
    fn limits_say_what_an_endpoint_has_and_null_for_what_it_has_not() {
        let plain = endpoint::Endpoint::new(Name::new("crm").unwrap(), "http://crm/".to_owned());
        let limits = Limits::from(&plain);
        assert_eq!((limits.rate, limits.rate_burst, limits.order_hold_max_ms), (None, None, None));
        assert_eq!((limits.concurrency_min, limits.concurrency_max, &*limits.order), (1, 16, "none"));
        let bounds = |breaker: Breaker| (breaker.window_ms, breaker.probe_initial_ms, breaker.probe_max_ms);
        assert_eq!(limits.breaker.map(bounds), Some((60_000, 5_000, 300_000)));

        let held = endpoint::Endpoint {
            concurrency: Concurrency { min: 3, max: 3 },
            rate: Some(Rate { count: 600, per: Duration::from_secs(60), burst: 20 }),
            breaker: None,
            order: Order::Key,
            ..plain
        };
        let limits = Limits::from(&held);
        assert_eq!((limits.rate.as_deref(), limits.rate_burst), (Some("600/min"), Some(20)));
        assert_eq!((limits.concurrency_min, limits.concurrency_max), (3, 3));
        assert_eq!((&*limits.order, limits.order_hold_max_ms, limits.breaker), ("key", Some(900_000), None));
    }

    #[test]
    fn a_rate_is_shown_as_the_config_would_have_it() {
        for text in ["10/s", "600/min", "5000/h"] {
            let (count, per) = Rate::parse(text).unwrap();
            assert_eq!(rate(Rate { count, per, burst: 1 }), text);
        }
        assert_eq!(rate(Rate { count: 7, per: Duration::from_millis(1500), burst: 1 }), "7/1500ms");
    }

    #[test]
    fn what_is_waited_for_is_said_by_the_cores_word() {
        use scheduler::On as Core;
        let at = Timestamp::from_millis(1_700_000_000_000);
        let behind = EventId::from_u128(7).delivery(0);
        let all = [
            Core::Attempt,
            Core::Pause { cause: standing::PauseCause::Gone },
            Core::Circuit { cause: TripCause::FailureRate, probe_at: at },
            Core::Ramp { allowed: 2 },
            Core::Silence { until: at },
            Core::Due { at },
            Core::Line { behind, until: None },
            Core::Window { limit: 4 },
            Core::Rate { next_at: at },
            Core::Gateway { limit: 9 },
            Core::Turn { ahead: 3 },
            Core::Journal,
        ];
        for on in all {
            let said = WaitsFor::from(scheduler::Wait { on, since: at });
            let json = serde_json::to_value(&said).unwrap();
            assert_eq!((&json["on"], &json["since"]), (&on.as_str().into(), &at.to_string().into()));
            assert_eq!(serde_json::from_value::<WaitsFor>(json).unwrap(), said);
        }
        let later = serde_json::json!({ "on": "the_moon", "phase": 3, "since": "T" });
        assert_eq!(serde_json::from_value::<WaitsFor>(later).unwrap().on, On::Unknown);
    }

    #[test]
    fn a_circuit_has_the_fields_of_its_state_only() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let json = |circuit: breaker::Circuit| serde_json::to_value(Circuit::from(circuit)).unwrap();
        assert_eq!(json(breaker::Circuit::Closed), serde_json::json!({ "state": "closed" }));
        let half = json(breaker::Circuit::HalfOpen { since: at, allowed: 4 });
        assert_eq!(
            half,
            serde_json::json!({ "state": "half_open", "since": "2023-11-14T22:13:20.000Z", "allowed": 4 })
        );
        let sign = Sign::Failure(FailureClass::Refused);
        let cause = TripCause::ConsecutiveFailures;
        let open = json(breaker::Circuit::Open { since: at, cause, sign, probe_at: at, probes: 3 });
        let expected = serde_json::json!({ "state": "open", "since": "2023-11-14T22:13:20.000Z",
            "cause": "consecutive_failures", "last_status": null, "last_failure": "refused",
            "probe_at": "2023-11-14T22:13:20.000Z", "probes_failed": 3 });
        assert_eq!(open, expected);
    }
}
