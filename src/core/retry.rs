//! Retry: when a failed delivery is tried again, and when it is given up.
//!
//! The interval grows exponentially (the `backoff` crate's formula, with its own jitter and its
//! 15-minute limit switched off); on it sits full jitter from a seeded generator, which spreads a herd
//! best (Brooker, "Exponential Backoff and Jitter", 2015). Nothing but the attempt number and the due
//! time has to be remembered between attempts.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

use crate::core::delivery::{Reason, Step};
use crate::core::timestamp::Timestamp;

/// When to try again and when to give up.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The interval after the first failure.
    pub initial: Duration,
    /// By how much each interval exceeds the one before; at least 1.
    pub factor: f64,
    /// No interval is longer.
    pub interval_max: Duration,
    /// Give up after this many attempts.
    pub attempts_max: u32,
    /// Give up once the delivery is this old.
    pub age_max: Duration,
    /// The longest Retry-After that is honoured; a longer one is cut to it.
    pub retry_after_max: Duration,
}

impl Eq for RetryPolicy {}

/// A failed attempt, as far as the policy asks.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// When the delivery came to be.
    pub born_at: Timestamp,
    /// What the endpoint asked for.
    pub retry_after: Option<Duration>,
}

impl Default for RetryPolicy {
    /// 1 s doubling to 1 h, full jitter, until 20 attempts or 24 h.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            factor: 2.0,
            interval_max: Duration::from_secs(3600),
            attempts_max: 20,
            age_max: Duration::from_secs(24 * 3600),
            retry_after_max: Duration::from_secs(3600),
        }
    }
}

impl RetryPolicy {
    /// The upper bound of the wait after attempt `attempt` (from 1), before jitter.
    #[must_use]
    pub fn interval(&self, attempt: u32) -> Duration {
        let mut formula = ExponentialBackoff {
            current_interval: self.initial,
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: self.factor,
            max_interval: self.interval_max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut interval = self.initial.min(self.interval_max);
        for _ in 0..attempt {
            interval = formula.next_backoff().unwrap_or(self.interval_max).min(self.interval_max);
            if interval == self.interval_max {
                break;
            }
        }
        interval
    }

    /// What follows a failed attempt that ended at `now`.
    pub fn after_failure(&self, now: Timestamp, failed: Failed, rng: &mut fastrand::Rng) -> (Step, Reason) {
        if failed.attempt >= self.attempts_max {
            return (Step::GiveUp, Reason::AttemptsExhausted);
        }
        let due = self.next_due(now, failed, rng);
        if due > failed.born_at.after(self.age_max) {
            return (Step::GiveUp, Reason::AgeExceeded);
        }
        let reason = if failed.retry_after.is_some() { Reason::RetryAfter } else { Reason::Backoff };
        (Step::Retry { due }, reason)
    }

    /// What follows a probe that failed at `now`: another try, always. It says something about the endpoint,
    /// nothing about the delivery, which must not pay for it.
    pub fn after_probe(&self, now: Timestamp, failed: Failed, rng: &mut fastrand::Rng) -> (Step, Reason) {
        (Step::Retry { due: self.next_due(now, failed, rng) }, Reason::ProbeFailed)
    }

    fn next_due(&self, now: Timestamp, failed: Failed, rng: &mut fastrand::Rng) -> Timestamp {
        let ceiling = u64::try_from(self.interval(failed.attempt).as_millis()).unwrap_or(u64::MAX);
        let jittered = Duration::from_millis(rng.u64(0..=ceiling));
        let asked = failed.retry_after.map(|span| span.min(self.retry_after_max));
        now.after(asked.map_or(jittered, |asked| asked.max(jittered)))
    }
}

/// Reads a Retry-After value: seconds or an HTTP date (RFC 9110, 10.2.3), as a span from `now`.
///
/// A date in the past is zero; anything else is `None`.
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX / 1000)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Some(Timestamp::ZERO.after(since_epoch).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BORN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn failed(attempt: u32) -> Failed {
        Failed { attempt, born_at: BORN, retry_after: None }
    }

    #[test]
    fn intervals_double_up_to_the_cap() {
        let policy = RetryPolicy::default();
        let seconds: Vec<u64> = (1..=14).map(|attempt| policy.interval(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
    }

    #[test]
    fn jitter_is_full_and_repeats_from_its_seed() {
        let policy = RetryPolicy::default();
        let waits = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            (0..2000)
                .map(|_| match policy.after_failure(BORN, failed(4), &mut rng) {
                    (Step::Retry { due }, Reason::Backoff) => due.since(BORN).as_millis(),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        let drawn = waits(7);
        assert_eq!(drawn, waits(7));
        assert!(drawn.iter().all(|wait| *wait <= 8000));
        assert!(drawn.iter().any(|wait| *wait < 400) && drawn.iter().any(|wait| *wait > 7600));
    }

    #[test]
    fn gives_up_at_the_last_attempt_and_at_the_age() {
        let policy = RetryPolicy { attempts_max: 3, ..RetryPolicy::default() };
        let mut rng = fastrand::Rng::with_seed(1);
        assert!(matches!(policy.after_failure(BORN, failed(2), &mut rng), (Step::Retry { .. }, _)));
        assert_eq!(policy.after_failure(BORN, failed(3), &mut rng), (Step::GiveUp, Reason::AttemptsExhausted));
        let old = BORN.after(policy.age_max).after(Duration::from_secs(1));
        assert_eq!(policy.after_failure(old, failed(1), &mut rng), (Step::GiveUp, Reason::AgeExceeded));
    }

    #[test]
    fn retry_after_is_a_floor_and_is_capped() {
        let policy = RetryPolicy::default();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut wait = |seconds| match policy.after_failure(
            BORN,
            Failed { retry_after: Some(Duration::from_secs(seconds)), ..failed(1) },
            &mut rng,
        ) {
            (Step::Retry { due }, Reason::RetryAfter) => due.since(BORN).as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(100), 100);
        assert_eq!(wait(1_000_000), 3600);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse_rfc3339("2015-10-21T07:27:00Z").unwrap();
        let date = |text| parse_retry_after(text, now).map(|span| span.as_secs());
        assert_eq!(date("120"), Some(120));
        assert_eq!(date("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60));
        assert_eq!(date("Wed, 21 Oct 2015 07:26:00 GMT"), Some(0));
        assert!(date("99999999999999999999999").is_some());
        for bad in ["", "-1", "soon", "1.5"] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }
}
