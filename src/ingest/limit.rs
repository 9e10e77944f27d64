//! How many events may come in how much time: of one source, and of all.
//!
//! Asked twice: before a body is read, so that what is over the rate costs next to nothing; and when the event is about
//! to be taken, which alone counts, so that what is refused for another reason does not use up the sender's rate.
//! Constant memory; a flood leaves at most one record a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::rate::{Bucket, Rate};
use crate::core::timestamp::Timestamp;

/// The shortest time between two records of what a rate refused.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// What a rate still allows.
pub(super) struct Limit {
    began: Instant,
    rate: Rate,
    state: Mutex<State>,
}

struct State {
    bucket: Bucket,
    recorded_at: Option<Timestamp>,
    /// Refused since the last record.
    unrecorded: u64,
}

impl Limit {
    pub(super) fn new(rate: Rate) -> Self {
        let state = State { bucket: Bucket::new(rate), recorded_at: None, unrecorded: 0 };
        Self { began: Instant::now(), rate, state: Mutex::new(state) }
    }

    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether an event would be allowed now; else how long until one is.
    pub(super) fn ask(&self) -> Result<(), Duration> {
        self.ask_at(self.now())
    }

    fn ask_at(&self, now: Timestamp) -> Result<(), Duration> {
        self.with(|state| state.bucket.next_at(now).map_or(Ok(()), |next| Err(next.since(now))))
    }

    /// Takes room for an event; without any, how long until there is.
    pub(super) fn take(&self) -> Result<(), Duration> {
        self.take_at(self.now())
    }

    fn take_at(&self, now: Timestamp) -> Result<(), Duration> {
        self.with(|state| match state.bucket.next_at(now) {
            Some(next) => Err(next.since(now)),
            None => {
                state.bucket.take(now);
                Ok(())
            }
        })
    }

    /// One was refused. Now and then: how many since this was answered last.
    pub(super) fn refused(&self) -> Option<u64> {
        self.refused_at(self.now())
    }

    fn refused_at(&self, now: Timestamp) -> Option<u64> {
        self.with(|state| {
            state.unrecorded += 1;
            if state.recorded_at.is_some_and(|at| now.since(at) < RECORD_EVERY) {
                return None;
            }
            state.recorded_at = Some(now);
            Some(std::mem::take(&mut state.unrecorded))
        })
    }

    /// By a clock that nobody sets.
    fn now(&self) -> Timestamp {
        Timestamp::ZERO.after(self.began.elapsed())
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_a_record_a_second() {
        let limit = Limit::new(Rate { count: 10, per: Duration::from_secs(1), burst: 3 });
        let now = Timestamp::from_millis(5);
        for _ in 0..3 {
            assert_eq!((limit.ask_at(now), limit.take_at(now)), (Ok(()), Ok(())));
        }
        let wait = limit.take_at(now).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert_eq!(limit.ask_at(now), Err(wait), "asking takes nothing");
        assert_eq!([0; 3].map(|_| limit.refused_at(now)), [Some(1), None, None]);
        let then = now.after(wait);
        assert_eq!((limit.take_at(then), limit.take_at(then).is_err()), (Ok(()), true));
        assert_eq!(limit.refused_at(now.after(RECORD_EVERY)), Some(3), "with those between");
    }
}
