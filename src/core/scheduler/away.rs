//! When an endpoint could take nothing, and for how long in all.
//!
//! Deliveries do not age and lines are not held up by an endpoint that is paused or whose circuit is not
//! closed. What is measured with this clock stands still meanwhile and goes on where it stood: an endpoint
//! that comes and goes adds up its good times.

use std::time::Duration;

use crate::core::timestamp::Timestamp;

#[derive(Debug)]
pub(super) struct Away {
    /// In this process, up to its last return.
    total: Duration,
    /// Since when it is away now.
    from: Option<Timestamp>,
    /// When it last came back, also before this process.
    back_at: Timestamp,
}

impl Away {
    pub(super) const fn new(back_at: Timestamp, from: Option<Timestamp>) -> Self {
        Self { total: Duration::ZERO, from, back_at }
    }

    /// It can take nothing from now on, if it could.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.from.get_or_insert(now);
    }

    /// It can take something again.
    pub(super) fn end(&mut self, now: Timestamp) {
        if let Some(from) = self.from.take() {
            self.total += now.since(from);
            self.back_at = now;
        }
    }

    /// It was not there at all until now; what else keeps it away goes on.
    pub(super) fn come_back(&mut self, now: Timestamp) {
        self.back_at = self.back_at.max(now);
    }

    /// When it last came back.
    pub(super) const fn back_at(&self) -> Timestamp {
        self.back_at
    }

    /// How long it was away until `time`, for differences only. No earlier than the last return.
    pub(super) fn until(&self, time: Timestamp) -> Duration {
        self.total + self.from.map_or(Duration::ZERO, |from| time.since(from))
    }

    /// The wall clock jumped.
    pub(super) fn shift(&mut self, by: i64) {
        self.back_at = self.back_at.shifted(by);
        self.from = self.from.map(|from| from.shifted(by));
    }
}
