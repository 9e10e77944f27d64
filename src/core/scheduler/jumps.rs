//! Jumps: what the times in the journal mean after the wall clock was set.
//!
//! What is held in memory moves along when the clock is set; what stands in the journal only has the old
//! clock's times. The two are told apart by when they were written: what lies before the new clock's first
//! time, or after its last, is the old one's. What the old clock wrote within a span that has come twice by now
//! is taken for the new one's: it waits for longer, by no more than the jump.
//!
//! Absent: jumps while no process ran, of which nobody knows.

use std::collections::VecDeque;
use std::time::Duration;

use super::Active;
use crate::core::timestamp::Timestamp;

/// So many of the latest are remembered.
const JUMPS_MAX: usize = 16;
/// By so much at most the end of an attempt, measured apart from the wall clock, lies ahead of it.
const AHEAD_MAX: Duration = Duration::from_millis(500);

/// The jumps that this process has seen, oldest first.
#[derive(Debug, Default)]
pub(super) struct Jumps(VecDeque<Jump>);

#[derive(Debug, Clone, Copy)]
struct Jump {
    /// The new clock's first time, or somewhat before it.
    begins_at: Timestamp,
    by: i64,
    /// When the clock was last seen before it was set again.
    ends_at: Option<Timestamp>,
}

impl Jumps {
    /// The clock, last seen at `seen_at`, was set by so many milliseconds.
    pub(super) fn push(&mut self, seen_at: Timestamp, by: i64) {
        if self.0.len() == JUMPS_MAX {
            self.0.pop_front();
        }
        if let Some(before) = self.0.back_mut() {
            before.ends_at = Some(seen_at);
        }
        self.0.push_back(Jump { begins_at: seen_at.shifted(by), by, ends_at: None });
    }

    /// By how much a time from the journal is to be moved: by every jump since it was written.
    fn since(&self, now: Timestamp, time: Timestamp) -> i64 {
        let mut by = 0;
        for jump in self.0.iter().rev() {
            let ends_at = jump.ends_at.unwrap_or(now).after(AHEAD_MAX);
            if (jump.begins_at..=ends_at).contains(&time) {
                break;
            }
            by += jump.by;
        }
        by
    }

    /// A delivery from the journal, by the clock of now. Its times may have been written by different clocks: each is
    /// moved by itself, and none to behind what was written last.
    fn after(&self, now: Timestamp, active: Active) -> Active {
        let by = self.since(now, active.since);
        let since = active.since.shifted(by);
        let moved = |time: Timestamp| time.shifted(self.since(now, time)).min(since);
        let (born_at, tried_at) = (moved(active.born_at), active.tried_at.map(moved));
        Active { due: active.due.shifted(by), since, born_at, tried_at, ..active }
    }

    /// The same, with a due time no further away than was decided: the clock may have been set back before this
    /// process began.
    pub(super) fn bounded(&self, now: Timestamp, active: Active) -> Active {
        let active = self.after(now, active);
        let latest = now.after(active.due.since(active.since)).after(AHEAD_MAX);
        Active { due: active.due.min(latest), ..active }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::EventId;

    fn minute(minute: i64) -> Timestamp {
        Timestamp::ZERO.shifted(minute * 60_000)
    }

    /// Born and first tried by the old clock, last tried by the new one.
    #[test]
    fn each_time_is_moved_by_the_jumps_since_it_was_written() {
        for by in [30, -30] {
            let mut jumps = Jumps::default();
            jumps.push(minute(102), by * 60_000);
            let fresh = Active::fresh(EventId::MIN.delivery(0), minute(100), None);
            let (tried_at, since, due) = (Some(minute(101)), minute(103 + by), minute(110 + by));
            let read = jumps.bounded(minute(104 + by), Active { tried_at, since, due, attempts: 2, ..fresh });
            assert_eq!((read.born_at, read.tried_at), (minute(100 + by), Some(minute(101 + by))), "{by}");
            assert_eq!((read.since, read.due), (since, due), "{by}");
        }
    }

    /// Its first attempt was made in a minute that came twice: when is not known, but it was before the last one.
    #[test]
    fn nothing_is_moved_behind_what_was_written_last() {
        let mut jumps = Jumps::default();
        jumps.push(minute(110), -5 * 60_000);
        let fresh = Active::fresh(EventId::MIN.delivery(0), minute(90), None);
        let (since, due) = (minute(106), minute(120));
        let read = jumps.bounded(minute(108), Active { tried_at: Some(minute(107)), since, due, ..fresh });
        assert_eq!((read.born_at, read.tried_at, read.since), (minute(85), Some(since), since));
    }
}
