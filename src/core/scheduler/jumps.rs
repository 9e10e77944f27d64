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

    /// A delivery from the journal, by the clock of now: moved by every jump since it was written.
    fn after(&self, now: Timestamp, active: Active) -> Active {
        let mut by = 0;
        for jump in self.0.iter().rev() {
            let ends_at = jump.ends_at.unwrap_or(now).after(AHEAD_MAX);
            if (jump.begins_at..=ends_at).contains(&active.since) {
                break;
            }
            by += jump.by;
        }
        active.shifted(by)
    }

    /// The same, with a due time no further away than was decided: the clock may have been set back before this
    /// process began.
    pub(super) fn bounded(&self, now: Timestamp, active: Active) -> Active {
        let active = self.after(now, active);
        let latest = now.after(active.due.since(active.since)).after(AHEAD_MAX);
        Active { due: active.due.min(latest), ..active }
    }
}
