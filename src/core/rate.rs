//! The rate: how many attempts to one endpoint may begin in a span of time.
//!
//! A token bucket kept as one time, by the generic cell rate algorithm (ITU-T I.371, virtual scheduling):
//! each attempt moves a theoretical arrival time on by one interval, and may go as long as that is not
//! further ahead than the burst allows. Counted in microseconds, so that 5000 a second is one in 200.

use std::time::Duration;

use crate::core::timestamp::Timestamp;

/// At most `count` attempts begin per `per`, and `burst` of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In which span; longer than nothing.
    pub per: Duration,
    /// How many at once after a silence; at least 1.
    pub burst: u32,
}

/// What an endpoint's rate has left.
#[derive(Debug)]
pub(crate) struct Bucket {
    interval_us: u64,
    /// How far ahead of now the theoretical arrival time may be.
    tolerance_us: u64,
    /// When the next attempt would begin if they came evenly, in microseconds since the epoch.
    arrival_us: u64,
}

impl Rate {
    /// Reads `"10/s"`, `"600/min"`, `"5000/h"`: how many, and in which span.
    pub fn parse(text: &str) -> Result<(u32, Duration), String> {
        let wrong = || "must be a count and a span, like \"10/s\", \"600/min\" or \"5000/h\"".to_owned();
        let (count, span) = text.split_once('/').ok_or_else(wrong)?;
        let count: u32 = count.trim().parse().map_err(|_| wrong())?;
        let seconds = match span.trim() {
            "s" | "sec" | "second" => 1,
            "m" | "min" | "minute" => 60,
            "h" | "hour" => 3600,
            _ => return Err(wrong()),
        };
        if count == 0 {
            return Err("must be at least one in the span; to send nothing, pause the endpoint".to_owned());
        }
        Ok((count, Duration::from_secs(seconds)))
    }
}

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Self {
        assert!(rate.count > 0 && rate.burst > 0 && !rate.per.is_zero(), "the config has checked the rate");
        let per_us = u64::try_from(rate.per.as_micros()).unwrap_or(u64::MAX);
        let interval_us = per_us.div_ceil(u64::from(rate.count)).max(1);
        let tolerance_us = interval_us.saturating_mul(u64::from(rate.burst - 1));
        Self { interval_us, tolerance_us, arrival_us: 0 }
    }

    /// Before when nothing more may begin; `None` if something may now.
    pub(crate) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let free_us = self.arrival_us.saturating_sub(self.tolerance_us);
        (free_us > micros(now)).then(|| Timestamp::from_millis(free_us.div_ceil(1000)))
    }

    /// An attempt begins now.
    pub(crate) fn take(&mut self, now: Timestamp) {
        // The clock counts whole milliseconds: what went at the first one that was free is not late.
        let now_us = micros(now).saturating_sub(999);
        self.arrival_us = self.arrival_us.max(now_us).saturating_add(self.interval_us);
    }

    /// The wall clock jumped by so many milliseconds.
    pub(crate) const fn shift(&mut self, by: i64) {
        self.arrival_us = self.arrival_us.saturating_add_signed(by.saturating_mul(1000));
    }
}

const fn micros(time: Timestamp) -> u64 {
    time.millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn bucket(count: u32, seconds: u64, burst: u32) -> Bucket {
        Bucket::new(Rate { count, per: Duration::from_secs(seconds), burst })
    }

    /// Sends as much as it lets go for so many milliseconds.
    fn drain(bucket: &mut Bucket, from: Timestamp, millis: u64) -> u32 {
        let (mut now, mut sent) = (from, 0);
        while now < from.after(Duration::from_millis(millis)) {
            match bucket.next_at(now) {
                None => {
                    bucket.take(now);
                    sent += 1;
                }
                Some(next) => {
                    assert!(next > now);
                    now = next;
                }
            }
        }
        sent
    }

    #[test]
    fn as_many_go_as_the_rate_says_and_a_burst_on_top() {
        for (count, seconds, burst) in [(10, 1, 1), (600, 60, 20), (5000, 1, 5), (7, 60, 1), (999, 1, 1)] {
            let sent = drain(&mut bucket(count, seconds, burst), NOW, seconds * 10_000);
            let even = count * 10;
            assert!(
                (even - even / 100 - 1..=even + burst + 1).contains(&sent),
                "{count}/{seconds}s burst {burst}: {sent}"
            );
        }
    }

    #[test]
    fn a_silence_saves_no_more_than_the_burst() {
        let mut bucket = bucket(1, 1, 3);
        drain(&mut bucket, NOW, 10_000);
        let later = NOW.after(Duration::from_secs(3600));
        assert_eq!(drain(&mut bucket, later, 1), 3);
        assert_eq!(bucket.next_at(later), Some(later.after(Duration::from_secs(1))));
    }

    #[test]
    fn what_is_free_at_the_time_named_is_free() {
        let mut bucket = bucket(3, 1, 1);
        bucket.take(NOW);
        let next = bucket.next_at(NOW).unwrap();
        assert_eq!(next, NOW.after(Duration::from_millis(333)));
        assert_eq!(bucket.next_at(next), None);
    }

    #[test]
    fn a_clock_that_jumps_makes_nobody_wait_longer() {
        for hour in [3_600_000_i64, -3_600_000] {
            let mut bucket = bucket(1, 1, 1);
            bucket.take(NOW);
            bucket.shift(hour);
            let now = NOW.shifted(hour);
            assert_eq!(bucket.next_at(now), Some(now.after(Duration::from_secs(1))));
        }
    }

    #[test]
    fn rates_are_read_and_nonsense_is_not() {
        let second = Duration::from_secs(1);
        assert_eq!(Rate::parse("10/s"), Ok((10, second)));
        assert_eq!(Rate::parse(" 600 / min"), Ok((600, second * 60)));
        assert_eq!(Rate::parse("5000/h"), Ok((5000, second * 3600)));
        for bad in ["", "10", "/s", "0/s", "-1/s", "1.5/s", "10/day", "10/2s", "99999999999/s"] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
    }
}
