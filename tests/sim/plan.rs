//! What a seed makes of the world: endpoints with their rules and their troubles, senders, faults.

use std::time::Duration;

use backstop::core::breaker::BreakerPolicy;
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::name::Name;
use backstop::core::rate::Rate;
use backstop::core::retry::RetryPolicy;
use backstop::core::scheduler::Limits;
use backstop::core::window::Concurrency;
use fastrand::Rng;

pub(crate) const SECOND: u64 = 1000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

/// How an endpoint behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Up,
    Refuses,
    /// Takes the request and never answers.
    Hangs,
    Fails,
    /// Answers well, but takes seconds.
    Slow,
    /// Answers 429 and asks for so many seconds of silence.
    Throttles(u64),
    /// Answers 503 and says in how many seconds to come again.
    Away(u64),
    /// Every other answer is a failure.
    Flaky,
    /// Does its work, and the answer is lost.
    LosesAnswers,
    /// Fails whatever is more than so many at a time.
    CollapsesAbove(usize),
    Gone,
}

/// An endpoint, and its modes with the time up to which each lasts.
pub(crate) struct Planned {
    pub(crate) endpoint: Endpoint,
    pub(crate) phases: Vec<(u64, Mode)>,
}

pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
    pub(crate) endpoints: Vec<Planned>,
    /// From here on everything is well and nothing new comes; what waits must end.
    pub(crate) span: u64,
    pub(crate) posts: usize,
    pub(crate) keys: u64,
    /// Events with this key fail everywhere for the first half of the span.
    pub(crate) stuck_key: Option<u64>,
    /// Mean times between faults and between an operator's requests; `None`: never.
    pub(crate) crashes: Option<u64>,
    pub(crate) jumps: Option<u64>,
    pub(crate) requests: Option<u64>,
    /// The same between changes of the config: endpoints go, are back, and have other rules.
    pub(crate) reloads: Option<u64>,
    /// How long payload and metadata are kept; `None`: for ever.
    pub(crate) keep: Option<(u64, u64)>,
    /// For how long duplicates are recognised.
    pub(crate) window: u64,
    /// Whether nothing may be dead at the end: whatever failed, failed because its endpoint was down.
    pub(crate) all_delivered: bool,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An endpoint that is always up and has no rules: whatever happens to the others must not touch it.
fn fine() -> Planned {
    let concurrency = Concurrency { min: 8, max: 8 };
    let endpoint = Endpoint { concurrency, ..Endpoint::new(name("fine"), "http://fine.test/".to_owned()) };
    Planned { endpoint, phases: Vec::new() }
}

impl Plan {
    /// A few hours of everything at once.
    pub(crate) fn chaos(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let span = rng.u64(1..=3) * HOUR;
        let mut endpoints = vec![fine()];
        for index in 0..rng.usize(1..=3) {
            endpoints.push(Planned { endpoint: rules(&mut rng, index), phases: troubles(&mut rng, span) });
        }
        let mut often = |least: u64, most: u64| rng.bool().then(|| rng.u64(least..=most));
        let (crashes, jumps, requests) =
            (often(2 * MINUTE, HOUR), often(5 * MINUTE, HOUR), often(20 * SECOND, 10 * MINUTE));
        // Of its own, so that a world with retention is otherwise the one without.
        let mut rng_of_keep = Rng::with_seed(seed ^ 0x6b65_6570);
        let payload = rng_of_keep.u64(MINUTE..40 * MINUTE);
        let metadata = payload + rng_of_keep.u64(0..HOUR);
        let mut rng_of_reloads = Rng::with_seed(seed ^ 0x7265_6c6f);
        let reloads = rng_of_reloads.bool().then(|| rng_of_reloads.u64(10 * SECOND..=10 * MINUTE));
        let keep = (rng_of_keep.u32(0..3) > 0).then_some((payload, metadata));
        Self {
            seed,
            limits: Limits {
                active_max: rng.usize(2..=20),
                ordered_max: rng.usize(500..=1000),
                in_flight_max: rng.usize(20..=60),
            },
            endpoints,
            span,
            posts: rng.usize(40..=250),
            keys: rng.u64(1..=12),
            stuck_key: rng.bool().then_some(0),
            crashes,
            jumps,
            requests,
            reloads,
            keep,
            window: keep.map_or(DAY, |_| 20 * MINUTE),
            all_delivered: false,
        }
    }

    /// An endpoint that is down most of the time, for as long as a week, under a policy that gives up soon.
    pub(crate) fn outages(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let span = rng.u64(2..=7) * DAY;
        let mut phases = Vec::new();
        let mut at = 0;
        while at < span {
            at += rng.u64(2 * HOUR..DAY);
            phases.push((at, Mode::Up));
            at += rng.u64(HOUR..4 * DAY);
            let down = [Mode::Refuses, Mode::Hangs, Mode::Fails, Mode::Away(rng.u64(1..=600))];
            phases.push((at.min(span), rng.choice(down).unwrap_or(Mode::Fails)));
        }
        // A crash forgets how many failures there were in a row: twice five before the circuit opens, and one more.
        let retry = RetryPolicy { attempts_max: 11, age_max: millis(2 * HOUR), ..RetryPolicy::default() };
        let order = rng.choice(Order::ALL).unwrap_or_default();
        let endpoint = Endpoint { retry, order, ..Endpoint::new(name("down"), "http://down.test/".to_owned()) };
        Self {
            seed,
            limits: Limits { active_max: 20, ordered_max: 1000, in_flight_max: 60 },
            endpoints: vec![fine(), Planned { endpoint, phases }],
            span,
            posts: 300,
            keys: 20,
            stuck_key: None,
            crashes: rng.bool().then_some(12 * HOUR),
            jumps: None,
            requests: None,
            reloads: None,
            keep: Some((6 * HOUR, 2 * DAY)),
            window: DAY,
            all_delivered: true,
        }
    }

    /// Thirty days.
    pub(crate) fn month(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let span = 30 * DAY;
        let mut endpoints = vec![fine()];
        for index in 0..2 {
            endpoints.push(Planned { endpoint: rules(&mut rng, index), phases: troubles(&mut rng, span) });
        }
        Self {
            seed,
            limits: Limits { active_max: 100, ordered_max: 20_000, in_flight_max: 60 },
            endpoints,
            span,
            posts: 4000,
            keys: 1200,
            stuck_key: None,
            crashes: Some(DAY),
            jumps: Some(2 * DAY),
            requests: Some(HOUR),
            reloads: None,
            keep: Some((3 * DAY, 7 * DAY)),
            window: DAY,
            all_delivered: false,
        }
    }
}

/// What the config says of an endpoint.
pub(crate) fn rules(rng: &mut Rng, index: usize) -> Endpoint {
    let text = format!("far{index}");
    let url = format!("http://{text}.test/");
    let least = rng.usize(1..=4);
    let breaker = BreakerPolicy {
        failures: rng.u32(2..=6),
        failure_rate: 0.5,
        samples_min: rng.u32(5..=20),
        window: millis(MINUTE),
        probe_initial: millis(rng.u64(1..=10) * SECOND),
        probe_max: millis(rng.u64(20..=90) * SECOND),
    };
    Endpoint {
        retry: RetryPolicy {
            interval_max: millis(MINUTE),
            attempts_max: rng.u32(3..=30),
            age_max: millis(rng.u64(HOUR..DAY)),
            retry_after_max: millis(MINUTE),
            ..RetryPolicy::default()
        },
        concurrency: Concurrency { min: least, max: least + rng.usize(0..=12) },
        rate: rng.bool().then(|| Rate { count: rng.u32(2..=20), per: millis(SECOND), burst: rng.u32(1..=10) }),
        breaker: (rng.u32(0..4) > 0).then_some(breaker),
        order: rng.choice(Order::ALL).unwrap_or_default(),
        order_hold_max: millis(rng.u64(MINUTE..10 * MINUTE)),
        ..Endpoint::new(name(&text), url)
    }
}

fn troubles(rng: &mut Rng, span: u64) -> Vec<(u64, Mode)> {
    let mut phases = Vec::new();
    let mut at = 0;
    let length = rng.u64(MINUTE..span / 4);
    while at < span {
        let mode = match rng.u32(0..18) {
            0 | 1 => Mode::Refuses,
            2 => Mode::Hangs,
            3 => Mode::Fails,
            4 => Mode::Slow,
            5 if rng.bool() => Mode::Away(rng.u64(0..=90)),
            5 => Mode::Throttles(rng.u64(0..=90)),
            6 => Mode::Flaky,
            7 => Mode::LosesAnswers,
            8 => Mode::CollapsesAbove(rng.usize(1..=6)),
            9 if rng.bool() => Mode::Gone,
            _ => Mode::Up,
        };
        at += rng.u64(SECOND..length);
        phases.push((at.min(span), mode));
    }
    phases
}
