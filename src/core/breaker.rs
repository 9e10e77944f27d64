//! The circuit breaker: whether an endpoint can be relied on.
//!
//! ```text
//!         failures in a row, or too large a part of them
//! closed ───────────────────────────────────────────────▶ open ◀─┐ probe failed: the next one later
//!   ▲                                                      │  └──┘
//!   │ as many as the window allows                         │ probe succeeded
//!   └──────────────────────── half open ◀──────────────────┘
//!          1, 2, 4 …            │  ▲──┐
//!                               └─────┴──▶ open again, if more fail than succeed
//! ```
//!
//! While it is open nothing goes but one probe at a time, at growing intervals; an outage costs no delivery
//! its attempts. Afterwards few go at first, so that what has gathered does not fall on the endpoint at
//! once. Failures that were on their way together count once in a row: a burst is the window's matter.
//! A single delivery that always fails must not open what is half open, so it takes more failures than
//! successes. An endpoint that opens again soon after it closed is probed less and less often.
//!
//! Absent: which delivery goes, and what its failure means for it.

use std::time::Duration;

use crate::core::attempt::FailureClass;
use crate::core::mutant::{self, Mutant};
use crate::core::timestamp::{Timestamp, duration_millis};

/// When the circuit opens and how it is probed.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerPolicy {
    /// Opens after this many failures in a row; failures that were on their way together count once.
    pub failures: u32,
    /// Opens if this part of all attempts within `window` fails; above 0, at most 1.
    pub failure_rate: f64,
    /// Fewer attempts than this within `window` say nothing about the rate.
    pub samples_min: u32,
    /// The span over which the rate is taken.
    pub window: Duration,
    /// The first probe goes this long after the circuit opened; each next one twice as long after the one before.
    pub probe_initial: Duration,
    /// No longer than this lies between two probes.
    pub probe_max: Duration,
}

impl Eq for BreakerPolicy {}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_rate: 0.5,
            samples_min: 20,
            window: Duration::from_secs(60),
            probe_initial: Duration::from_secs(5),
            probe_max: Duration::from_secs(300),
        }
    }
}

/// Why the circuit opened. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TripCause {
    /// Too many failures in a row.
    ConsecutiveFailures = 1,
    /// Too large a part of the attempts failed.
    FailureRate = 2,
}

impl TripCause {
    /// The cause with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::ConsecutiveFailures, Self::FailureRate].into_iter().find(|cause| *cause as u8 == code)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
        }
    }
}

/// What the endpoint last did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It answered with this status.
    Status(u16),
    /// It did not answer.
    Failure(FailureClass),
}

impl Sign {
    /// The status, if it answered.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::Failure(_) => None,
        }
    }

    /// What failed, if it did not.
    #[must_use]
    pub const fn failure(self) -> Option<FailureClass> {
        match self {
            Self::Status(_) => None,
            Self::Failure(class) => Some(class),
        }
    }
}

/// How the circuit stands: what survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Deliveries go.
    Closed,
    /// Deliveries are held; one at a time goes as a probe.
    Open {
        /// Since when.
        since: Timestamp,
        /// Why.
        cause: TripCause,
        /// What was seen last.
        sign: Sign,
        /// The next probe goes no sooner.
        probe_at: Timestamp,
        /// Probes that failed so far.
        probes: u32,
    },
    /// Deliveries go again, few at first.
    HalfOpen {
        /// Since when.
        since: Timestamp,
        /// As many as this may be on their way.
        allowed: u32,
    },
}

/// What may go, as far as the circuit is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As many as the window allows.
    Free,
    /// One, as a probe: if it fails it spends nothing.
    Probe,
    /// Nothing before then.
    Until(Timestamp),
    /// Nothing until something has landed.
    Busy,
}

/// What an attempt says about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there.
    Success,
    /// It is not, or does not do its work.
    Failure(Sign),
    /// It failed together with others, and the window has been cut for that: too much is not an outage.
    Overload(Sign),
    /// It is there and asks for less.
    Throttled,
    /// Nothing: it was not asked.
    Neutral,
}

/// Parts of the window in which samples are counted.
const PARTS: u64 = 10;

/// What came of the attempts in one part of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Which one, counted from the epoch.
    number: u64,
    successes: u32,
    failures: u32,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    policy: Option<Box<BreakerPolicy>>,
    circuit: Circuit,
    /// Failures in a row, and when the last one that counted became known.
    in_row: u32,
    failed_at: Timestamp,
    /// The length of a part of the window, if the circuit ever opens.
    part_ms: Option<u64>,
    /// What came of the attempts in the latest parts, each at the place of its number.
    samples: [Part; PARTS as usize],
    probing: bool,
    /// While half open: successes and failures since the last step of the ramp.
    stage: (u32, u32),
    /// Of the last opening: why, and how many probes failed; kept for the next one if that comes soon.
    cause: TripCause,
    probes: u32,
    closed_at: Timestamp,
}

impl Breaker {
    /// A breaker whose circuit stood like that; without a policy it never opens.
    pub(crate) fn new(policy: Option<BreakerPolicy>, circuit: Circuit) -> Self {
        let (cause, probes) = match circuit {
            Circuit::Open { cause, probes, .. } => (cause, probes),
            Circuit::Closed | Circuit::HalfOpen { .. } => (TripCause::ConsecutiveFailures, 0),
        };
        let circuit = match circuit {
            Circuit::Open { .. } if policy.is_none() => Circuit::Closed,
            circuit => circuit,
        };
        let part_ms = policy.as_ref().map(|policy| (duration_millis(policy.window) / PARTS).max(1));
        Self {
            part_ms,
            policy: policy.map(Box::new),
            circuit,
            in_row: 0,
            failed_at: Timestamp::ZERO,
            samples: Default::default(),
            probing: false,
            stage: (1, 0),
            cause,
            probes,
            closed_at: Timestamp::ZERO,
        }
    }

    /// The endpoint has another policy now. The circuit stays as it is, unless there is none any more; whether that has
    /// changed it. What was counted in parts of another length is not counted on.
    pub(crate) fn adapt(&mut self, policy: Option<BreakerPolicy>) -> bool {
        if policy.as_ref() == self.policy.as_deref() {
            return false;
        }
        let was_open = self.is_open();
        let Self { failed_at, in_row, probing, stage, probes, closed_at, .. } = *self;
        *self = Self { failed_at, in_row, probing, stage, probes, closed_at, ..Self::new(policy, self.circuit) };
        was_open && !self.is_open()
    }

    /// How the circuit stands.
    pub(crate) const fn circuit(&self) -> Circuit {
        self.circuit
    }

    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.circuit, Circuit::Closed)
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.circuit, Circuit::Open { .. })
    }

    /// Whether what was seen last can be the fault of what was sent, and not only of the endpoint: it got there, and was
    /// not answered by something in front of the endpoint.
    pub(crate) const fn may_blame_delivery(&self) -> bool {
        match self.circuit {
            Circuit::Open { sign: Sign::Status(status), .. } => !matches!(status, 502..=504),
            Circuit::Open { sign: Sign::Failure(class), .. } => class.sent_whole(),
            Circuit::Closed | Circuit::HalfOpen { .. } => true,
        }
    }

    /// Whether it ever does.
    pub(crate) const fn opens(&self) -> bool {
        self.policy.is_some()
    }

    /// What may go now, with so many on their way.
    pub(crate) fn admits(&self, now: Timestamp, in_flight: usize) -> Admission {
        match self.circuit {
            Circuit::Closed => Admission::Free,
            Circuit::Open { .. } if mutant::is(Mutant::OpenCircuitAdmits) => Admission::Free,
            Circuit::HalfOpen { allowed, .. } => {
                let has_place = u32::try_from(in_flight).is_ok_and(|in_flight| in_flight < allowed);
                if has_place { Admission::Probe } else { Admission::Busy }
            }
            Circuit::Open { .. } if self.probing => Admission::Busy,
            Circuit::Open { probe_at, .. } => {
                // Further away than any probe is put: a clock that was set back while nobody ran.
                let longest = self.policy.as_ref().map_or(Duration::ZERO, |policy| policy.probe_max * 2);
                let is_due = probe_at <= now || probe_at > now.after(longest);
                if is_due { Admission::Probe } else { Admission::Until(probe_at) }
            }
        }
    }

    /// One departs that [`Breaker::admits`] let go.
    pub(crate) fn handle_sent(&mut self, now: Timestamp, is_probe: bool) {
        if let Circuit::Open { since, .. } = &mut self.circuit
            && is_probe
        {
            self.probing = true;
            // It opened before its probe leaves, whatever a clock that was set back while nobody ran makes of it.
            *since = (*since).min(Timestamp::from_millis(now.millis().saturating_sub(1)));
        }
    }

    /// It landed, and nothing can be said about it: a probe's place is free again.
    pub(crate) fn handle_lost(&mut self, sent_at: Timestamp, was_probe: bool) {
        if was_probe && matches!(self.circuit, Circuit::Open { since, .. } if sent_at > since) {
            self.probing = false;
        }
    }

    /// One that left at `sent_at` landed. Whether the circuit has changed, to be remembered on disk.
    pub(crate) fn handle_result(
        &mut self,
        now: Timestamp,
        sent_at: Timestamp,
        was_probe: bool,
        verdict: Verdict,
        window_limit: usize,
        rng: &mut fastrand::Rng,
    ) -> bool {
        match self.circuit {
            Circuit::Closed => self.closed(now, sent_at, verdict, rng),
            // What left before it opened says nothing new.
            Circuit::Open { since, .. } if !was_probe || sent_at <= since => false,
            Circuit::Open { .. } => self.probed(now, verdict, window_limit, rng),
            Circuit::HalfOpen { .. } if !was_probe => false,
            Circuit::HalfOpen { since, allowed } => self.ramped(now, since, allowed, verdict, window_limit, rng),
        }
    }

    fn closed(&mut self, now: Timestamp, sent_at: Timestamp, verdict: Verdict, rng: &mut fastrand::Rng) -> bool {
        if sent_at < self.closed_at {
            return false;
        }
        match verdict {
            Verdict::Overload(_) | Verdict::Throttled | Verdict::Neutral => false,
            Verdict::Success => {
                self.in_row = 0;
                self.count(now, true);
                false
            }
            Verdict::Failure(sign) => {
                if sent_at > self.failed_at {
                    self.in_row += 1;
                    self.failed_at = now;
                }
                self.count(now, false);
                let Some(cause) = self.tripped(now) else { return false };
                let held = now.since(self.closed_at);
                if self.policy.as_ref().is_none_or(|policy| held > policy.probe_max) {
                    self.probes = 0;
                }
                self.cause = cause;
                self.open(now, now, sign, rng);
                true
            }
        }
    }

    fn probed(&mut self, now: Timestamp, verdict: Verdict, window_limit: usize, rng: &mut fastrand::Rng) -> bool {
        self.probing = false;
        let Circuit::Open { since, probe_at, .. } = &mut self.circuit else { return false };
        match verdict {
            Verdict::Success => {
                self.stage = (1, 0);
                self.widen(now, now, 2, window_limit);
            }
            Verdict::Failure(sign) | Verdict::Overload(sign) => {
                self.probes = self.probes.saturating_add(1);
                let since = *since;
                self.open(now, since, sign, rng);
            }
            // It is there but asks for less, or nothing was sent to it: ask again, no later than at first. At once, and
            // what cannot be sent from here would be tried with every delivery that waits.
            Verdict::Throttled | Verdict::Neutral => {
                *probe_at = now.after(self.policy.as_ref().map_or(Duration::ZERO, |p| p.probe_initial))
            }
        }
        true
    }

    fn ramped(
        &mut self,
        now: Timestamp,
        since: Timestamp,
        allowed: u32,
        verdict: Verdict,
        window_limit: usize,
        rng: &mut fastrand::Rng,
    ) -> bool {
        let (succeeded, failed) = &mut self.stage;
        match verdict {
            Verdict::Throttled | Verdict::Neutral => false,
            Verdict::Success => {
                *succeeded += 1;
                // One success was brought along from the step before.
                let is_through = *succeeded > allowed;
                if is_through {
                    self.stage = (1, 0);
                    self.widen(now, since, allowed.saturating_mul(2), window_limit);
                }
                is_through
            }
            Verdict::Failure(sign) | Verdict::Overload(sign) => {
                *failed += 1;
                let opens = *failed > *succeeded && self.policy.is_some();
                if opens {
                    self.probes = self.probes.saturating_add(1);
                    self.open(now, now, sign, rng);
                }
                opens
            }
        }
    }

    /// Lets `allowed` go at a time; all the window allows, once that is no more.
    fn widen(&mut self, now: Timestamp, since: Timestamp, allowed: u32, window_limit: usize) {
        if usize::try_from(allowed).is_ok_and(|allowed| allowed < window_limit) {
            self.circuit = Circuit::HalfOpen { since, allowed };
        } else {
            self.circuit = Circuit::Closed;
            (self.in_row, self.closed_at) = (0, now);
            self.samples = Default::default();
        }
    }

    fn open(&mut self, now: Timestamp, since: Timestamp, sign: Sign, rng: &mut fastrand::Rng) {
        let Some(policy) = &self.policy else { return };
        let doubled = policy.probe_initial.saturating_mul(1u32.checked_shl(self.probes).unwrap_or(u32::MAX));
        // Endpoints that went down together are not probed together.
        let pause = doubled.min(policy.probe_max).mul_f64(0.9 + 0.2 * rng.f64());
        let (cause, probes) = (self.cause, self.probes);
        self.circuit = Circuit::Open { since, cause, sign, probe_at: now.after(pause), probes };
        self.probing = false;
    }

    /// The endpoint was not to be sent anything for a while, and is again: few at first. Whether that is news.
    pub(crate) const fn ramp(&mut self, now: Timestamp) -> bool {
        if matches!(self.circuit, Circuit::Open { .. }) {
            return false;
        }
        self.stage = (1, 0);
        self.circuit = Circuit::HalfOpen { since: now, allowed: 1 };
        true
    }

    /// Since when the circuit is not closed.
    pub(crate) const fn away_since(&self) -> Option<Timestamp> {
        match self.circuit {
            Circuit::Closed => None,
            Circuit::Open { since, .. } | Circuit::HalfOpen { since, .. } => Some(since),
        }
    }

    /// The wall clock jumped by so many milliseconds.
    pub(crate) fn shift(&mut self, by: i64) {
        self.samples = Default::default();
        self.failed_at = self.failed_at.shifted(by);
        self.closed_at = self.closed_at.shifted(by);
        match &mut self.circuit {
            Circuit::Closed => {}
            Circuit::HalfOpen { since, .. } => *since = since.shifted(by),
            Circuit::Open { since, probe_at, .. } => {
                *since = since.shifted(by);
                *probe_at = probe_at.shifted(by);
            }
        }
    }

    fn count(&mut self, now: Timestamp, succeeded: bool) {
        let Some(number) = self.part(now) else { return };
        let Some(part) = self.samples.get_mut((number % PARTS) as usize) else { return };
        if part.number != number {
            *part = Part { number, ..Part::default() };
        }
        *(if succeeded { &mut part.successes } else { &mut part.failures }) += 1;
    }

    /// The part of the window that it is.
    fn part(&self, now: Timestamp) -> Option<u64> {
        self.part_ms.map(|part_ms| now.millis() / part_ms)
    }

    /// Why it should open now, if it should.
    fn tripped(&self, now: Timestamp) -> Option<TripCause> {
        let policy = self.policy.as_ref()?;
        if self.in_row >= policy.failures {
            return Some(TripCause::ConsecutiveFailures);
        }
        let first = (self.part(now)? + 1).saturating_sub(PARTS);
        let recent = self.samples.iter().filter(|part| part.number >= first);
        let successes: u32 = recent.clone().map(|part| part.successes).sum();
        let failures: u32 = recent.map(|part| part.failures).sum();
        let all = successes + failures;
        let is_much = f64::from(failures) >= f64::from(all) * policy.failure_rate;
        (all >= policy.samples_min && is_much).then_some(TripCause::FailureRate)
    }
}

#[cfg(test)]
mod tests;
