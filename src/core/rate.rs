//! Rate: how often an endpoint may be sent something, as a token bucket.
//!
//! The bucket is kept as one number, the theoretical arrival time of the generic cell rate algorithm
//! (ITU-T I.371, virtual scheduling): when the next one would be due if they came exactly evenly. One
//! may depart while that time lies no further ahead than the burst allows.
//!
//! Promises: over any span, no more than `burst` plus what the rate gives for that span and the clock's
//! one millisecond; and in the long run no less than the rate, if asked in time. Inside, time is counted
//! in 1/count of a microsecond: there the interval between two departures is whole, so that no rate is
//! rounded. What is absent: waiting. The bucket says when, the caller waits.

use std::time::Duration;

use crate::core::timestamp::Timestamp;

const MICROS_PER_MILLI: u128 = 1000;

/// How often an endpoint may be sent something. All three are more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many departures are allowed...
    pub count: u32,
    /// ...in how much time.
    pub per: Duration,
    /// How many may depart at once after a quiet time; 1 spaces them evenly.
    pub burst: u32,
}

impl Rate {
    /// Reads `10/s`, `600/min` or `5000/h`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<(u32, Duration), String> {
        let shape = || "not a rate; write one like \"10/s\", \"600/min\" or \"5000/h\"".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(shape)?;
        let (count, unit) = (count.trim(), unit.trim());
        let per = match unit {
            "s" | "sec" => Duration::from_secs(1),
            "m" | "min" => Duration::from_secs(60),
            "h" | "hour" => Duration::from_secs(3600),
            _ => return Err(shape()),
        };
        // The standard parser would take a sign.
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(shape());
        }
        match count.parse() {
            Ok(0) => Err("a rate must be at least 1, or nothing would ever be sent".to_owned()),
            Ok(count) => Ok((count, per)),
            Err(_) => Err(format!("a rate must be at most {}", u32::MAX)),
        }
    }
}

/// What an endpoint's rate still allows.
#[derive(Debug)]
pub struct Bucket {
    /// Units of time in a millisecond.
    milli: u128,
    /// Between two even departures, in units.
    interval: u128,
    /// By how much a departure may come before its even time, in units.
    tolerance: u128,
    /// The theoretical arrival time, in units since the epoch.
    even: u128,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Self {
        let milli = u128::from(rate.count) * MICROS_PER_MILLI;
        let interval = rate.per.as_micros();
        // `now` stands for any time within its millisecond. Without that tolerance (a unit less than a
        // millisecond) no rate above 1000/s could be kept, and every other would lose to rounding.
        let tolerance = interval.saturating_mul(u128::from(rate.burst.saturating_sub(1))).saturating_add(milli - 1);
        Self { milli, interval, tolerance, even: 0 }
    }

    /// `None`: one may depart now. Otherwise not before then, which is after `now`, and then one may.
    pub(crate) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let earliest = self.even.saturating_sub(self.tolerance);
        if earliest <= self.units(now) {
            return None;
        }
        let millis = u64::try_from(earliest.div_ceil(self.milli)).unwrap_or(u64::MAX);
        Some(Timestamp::from_millis(millis))
    }

    /// How many may depart now at once.
    pub(crate) fn allowance(&self, now: Timestamp) -> u64 {
        let latest = self.units(now).saturating_add(self.tolerance);
        let many = latest.checked_sub(self.even).map_or(0, |room| room / self.interval.max(1) + 1);
        // Behind its even time by any length, it is still no more than a burst.
        let burst = self.tolerance.saturating_sub(self.milli - 1) / self.interval.max(1) + 1;
        u64::try_from(many.min(burst)).unwrap_or(u64::MAX)
    }

    /// One departs; the caller has asked [`Bucket::next_at`].
    pub(crate) fn take(&mut self, now: Timestamp) {
        self.even = self.even.max(self.units(now)).saturating_add(self.interval);
    }

    /// The wall clock jumped by so many milliseconds: what was left to wait is left to wait.
    pub(crate) fn shift(&mut self, by: i64) {
        let units = u128::from(by.unsigned_abs()) * self.milli;
        self.even = if by < 0 { self.even.saturating_sub(units) } else { self.even.saturating_add(units) };
    }

    fn units(&self, at: Timestamp) -> u128 {
        u128::from(at.millis()) * self.milli
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn bucket(count: u32, seconds: u64, burst: u32) -> Bucket {
        Bucket::new(Rate { count, per: Duration::from_secs(seconds), burst })
    }

    fn at(millis: u64) -> Timestamp {
        NOW.after(Duration::from_millis(millis))
    }

    /// The departures of a sender that goes as soon as it may, in milliseconds from the start.
    fn departures(bucket: &mut Bucket, until: u64) -> Vec<u64> {
        let (mut now, mut departed) = (NOW, vec![]);
        while now < at(until) {
            match bucket.next_at(now) {
                None => {
                    bucket.take(now);
                    departed.push(now.millis() - NOW.millis());
                }
                Some(next) => {
                    assert!(next > now);
                    assert_eq!(bucket.next_at(next), None, "at the time told it is free");
                    now = next;
                }
            }
        }
        departed
    }

    #[test]
    fn departures_are_even_and_no_rate_is_rounded() {
        assert_eq!(departures(&mut bucket(10, 1, 1), 500), [0, 100, 200, 300, 400]);
        assert_eq!(departures(&mut bucket(3, 1, 1), 2001), [0, 333, 666, 1000, 1333, 1666, 2000]);
        assert_eq!(departures(&mut bucket(5000, 3600, 1), 2200), [0, 720, 1440, 2160]);
        for count in [1, 7, 667, 999, 1001, 5000, 1_000_003] {
            let departed = departures(&mut bucket(count, 1, 1), 1000).len();
            assert_eq!(departed, usize::try_from(count).unwrap(), "{count}/s");
        }
    }

    #[test]
    fn a_burst_departs_at_once_and_is_earned_back() {
        let mut bucket = bucket(10, 1, 4);
        assert_eq!(departures(&mut bucket, 250), [0, 0, 0, 0, 100, 200]);
        let later = at(10_000);
        for _ in 0..4 {
            assert_eq!(bucket.next_at(later), None);
            bucket.take(later);
        }
        assert_eq!(bucket.next_at(later), Some(at(10_100)), "quiet time earns one burst, not more");
    }

    #[test]
    fn a_jump_of_the_clock_leaves_the_wait_as_it_was() {
        for by in [3_600_000_i64, -3_600_000] {
            let mut bucket = bucket(1, 60, 1);
            bucket.take(NOW);
            bucket.shift(by);
            let now = Timestamp::from_millis(NOW.millis().saturating_add_signed(by + 20_000));
            assert_eq!(bucket.next_at(now).unwrap().since(now), Duration::from_secs(40), "{by}");
        }
    }

    #[test]
    fn the_ends_of_time_and_of_numbers_hold() {
        let mut slowest = Bucket::new(Rate { count: u32::MAX, per: Duration::MAX, burst: u32::MAX });
        slowest.take(Timestamp::MAX);
        slowest.shift(i64::MAX);
        slowest.shift(i64::MIN);
        assert_eq!(slowest.next_at(Timestamp::MAX), None);
    }

    #[test]
    fn rates_are_read_in_the_words_people_use() {
        for (text, count, seconds) in [
            ("10/s", 10, 1),
            (" 10 / sec ", 10, 1),
            ("600/min", 600, 60),
            ("1/m", 1, 60),
            ("5000/h", 5000, 3600),
            ("4294967295/hour", u32::MAX, 3600),
        ] {
            assert_eq!(Rate::parse(text), Ok((count, Duration::from_secs(seconds))), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_a_way_out() {
        for (text, word) in [
            ("", "10/s"),
            ("10", "10/s"),
            ("10 per s", "10/s"),
            ("0/s", "at least 1"),
            ("/s", "600/min"),
            ("+1/s", "600/min"),
            ("-1/s", "600/min"),
            ("1.5/s", "600/min"),
            ("4294967296/s", "at most 4294967295"),
            ("10/", "600/min"),
            ("10/day", "600/min"),
            ("10/s/s", "600/min"),
        ] {
            let told = Rate::parse(text).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
    }

    proptest! {
        #[test]
        fn no_span_holds_more_than_its_burst_and_its_share(
            count in 1_u32..3000,
            seconds in 1_u64..100,
            burst in 1_u32..20,
            steps in prop::collection::vec(0_u64..700, 1..200),
        ) {
            let mut bucket = bucket(count, seconds, burst);
            let (mut now, mut departed) = (NOW, vec![]);
            for step in steps {
                now = now.after(Duration::from_millis(step));
                while departed.len() < 2000 && bucket.next_at(now).is_none() {
                    bucket.take(now);
                    departed.push(now);
                }
            }
            for (index, first) in departed.iter().enumerate() {
                for (more, last) in departed.iter().skip(index).enumerate().step_by(7) {
                    let span = last.since(*first).as_millis() + 1;
                    let share = span * u128::from(count) / (u128::from(seconds) * 1000);
                    prop_assert!(u128::try_from(more).unwrap() < share + 1 + u128::from(burst));
                }
            }
        }
    }
}
