//! The pace of a replay: how much it may make now, or what it waits for.

use super::{Hold, Replay, ReplayState, Turn};
use crate::core::rate::Bucket;
use crate::core::timestamp::Timestamp;

/// So many deliveries of all replays together wait or are on their way at a time, at most: they can be stopped soon,
/// one to an endpoint that is down does not flood it, and they leave room in memory for what is live.
pub const OPEN_MAX: u64 = 1024;

/// How the deliveries that a replay made have fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fared {
    /// Not yet ended.
    pub open: u64,
    /// Of those, failed at least once.
    pub retrying: u64,
    /// Delivered.
    pub delivered: u64,
    /// Given up.
    pub dead: u64,
    /// Ended otherwise: taken back, or out of retention.
    pub withdrawn: u64,
}

/// What a replay does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It makes at most so many.
    Make(u64),
    /// It makes none before then, by the clock that its bucket goes by.
    Wait(Timestamp),
    /// It waits for some of its deliveries to end.
    Landing,
    /// This happens to it.
    Turn(Turn),
    /// Nothing: it does not run.
    Nothing,
}

impl Fared {
    /// Given up, or failed so far.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.dead + self.retrying
    }
}

impl Replay {
    /// What it does next. `bucket`: what its rate allows; `now` is by that bucket's clock. `open_max`: so many of its
    /// deliveries may be open at a time.
    #[must_use]
    pub fn next(&self, fared: Fared, now: Timestamp, bucket: Option<&Bucket>, open_max: u64) -> Next {
        if self.state != ReplayState::Running {
            return Next::Nothing;
        }
        let failures = fared.failures().saturating_sub(self.forgiven);
        if self.terms.stop_after_failures.is_some_and(|most| failures >= most) {
            return Next::Turn(Turn::Pause(Hold::Failures));
        }
        let mut most = open_max.saturating_sub(fared.open);
        if let Some(canary) = self.terms.canary.filter(|_| !self.canary_passed) {
            if fared.dead + fared.withdrawn > 0 {
                return Next::Turn(Turn::Pause(Hold::Canary));
            }
            // One of many endpoints may have it, and the others not.
            if fared.delivered >= canary && fared.open == 0 {
                return Next::Turn(Turn::PassCanary);
            }
            most = most.min(canary.saturating_sub(self.queued));
        }
        if most == 0 {
            return Next::Landing;
        }
        let Some(bucket) = bucket else { return Next::Make(most) };
        match bucket.next_at(now) {
            Some(at) => Next::Wait(at),
            None => Next::Make(most.min(bucket.allowance(now))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::replay;
    use super::*;
    use crate::core::rate::Rate;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn fared(open: u64, retrying: u64, delivered: u64, dead: u64, withdrawn: u64) -> Fared {
        Fared { open, retrying, delivered, dead, withdrawn }
    }

    #[test]
    fn only_so_many_are_open_at_a_time() {
        let it = replay(ReplayState::Running, None);
        let next = |open| it.next(fared(open, 0, 9, 0, 0), NOW, None, OPEN_MAX);
        assert_eq!(next(0), Next::Make(OPEN_MAX));
        assert_eq!(next(OPEN_MAX - 1), Next::Make(1));
        assert_eq!([next(OPEN_MAX), next(OPEN_MAX + 5)], [Next::Landing; 2]);
        for state in [ReplayState::Completed, ReplayState::Cancelled, ReplayState::Paused] {
            assert_eq!(replay(state, None).next(Fared::default(), NOW, None, OPEN_MAX), Next::Nothing, "{state:?}");
        }
    }

    #[test]
    fn it_stops_after_failures_that_nobody_has_forgiven() {
        let mut it = replay(ReplayState::Running, None);
        it.terms.stop_after_failures = Some(3);
        let next = |it: &Replay, retrying, dead| it.next(fared(retrying, retrying, 0, dead, 0), NOW, None, OPEN_MAX);
        assert!(matches!(next(&it, 1, 1), Next::Make(_)));
        let stop = Next::Turn(Turn::Pause(Hold::Failures));
        assert_eq!([next(&it, 1, 2), next(&it, 3, 0), next(&it, 0, 9)], [stop; 3]);
        it.forgiven = 3;
        assert!(matches!(next(&it, 2, 3), Next::Make(_)), "those before it was resumed count no more");
        assert_eq!(next(&it, 2, 4), stop);
    }

    #[test]
    fn a_canary_goes_first_and_must_get_there() {
        let mut it = replay(ReplayState::Running, None);
        it.terms.canary = Some(10);
        assert_eq!(it.next(Fared::default(), NOW, None, OPEN_MAX), Next::Make(10));
        it.queued = 10;
        assert_eq!(it.next(fared(10, 0, 0, 0, 0), NOW, None, OPEN_MAX), Next::Landing);
        assert_eq!(
            it.next(fared(1, 1, 9, 0, 0), NOW, None, OPEN_MAX),
            Next::Landing,
            "what is tried again may still get there"
        );
        for lost in [fared(0, 0, 9, 1, 0), fared(0, 0, 9, 0, 1)] {
            assert_eq!(it.next(lost, NOW, None, OPEN_MAX), Next::Turn(Turn::Pause(Hold::Canary)));
        }
        assert_eq!(
            it.next(fared(1, 0, 10, 0, 0), NOW, None, OPEN_MAX),
            Next::Landing,
            "one endpoint has it, another not yet"
        );
        assert_eq!(it.next(fared(0, 0, 10, 0, 0), NOW, None, OPEN_MAX), Next::Turn(Turn::PassCanary));
        it.canary_passed = true;
        assert_eq!(it.next(fared(0, 0, 9, 1, 0), NOW, None, OPEN_MAX), Next::Make(OPEN_MAX));
    }

    #[test]
    fn its_rate_is_what_it_makes() {
        let it = replay(ReplayState::Running, None);
        let rate = Rate { count: 100, per: Duration::from_secs(1), burst: 10 };
        let mut bucket = Bucket::new(rate);
        let (mut now, mut made) = (NOW, 0);
        while now < NOW.after(Duration::from_secs(10)) {
            match it.next(Fared::default(), now, Some(&bucket), OPEN_MAX) {
                Next::Make(most) => {
                    assert!((1..=10).contains(&most), "{most}");
                    (0..most).for_each(|_| bucket.take(now));
                    made += most;
                }
                Next::Wait(until) => {
                    assert!(until > now);
                    now = until;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((1000..=1011).contains(&made), "{made} in ten seconds");
    }
}
