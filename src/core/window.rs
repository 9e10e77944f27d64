//! The window: how many attempts may be on their way to an endpoint at once.
//!
//! Additive increase, multiplicative decrease (Chiu and Jain, 1989): it doubles each round trip until
//! the first sign of trouble (slow start), then is cut at trouble and grows by one a round trip. It remembers
//! where the trouble was, its ceiling, and grows ever more slowly as it nears it and ever faster beyond
//! it (the plateau of CUBIC, RFC 9438, in round trips). How slowly is learnt: trouble at the ceiling
//! again means that concurrency causes it, and doubles the patience there; trouble below it means that
//! something else does, a delivery that always fails for one, and halves it.
//!
//! Trouble is an error, a timeout, a throttle, or answers that take more than twice as long as they did
//! at ease. One cut an epoch: what departed before a cut says nothing of the window after it.
//!
//! Promises: always within the endpoint's bounds, and constant if they are equal; answers of mixed
//! latency are not mistaken for slow ones, whatever their order. Absent: the count of what is on its way
//! (the caller's), and a reaction to outages (the breaker's).

mod latency;

use crate::core::timestamp::Timestamp;
use latency::Latency;

/// Where a window begins, within its bounds.
const INITIAL: usize = 4;
/// Round trips before the step onto a ceiling that was met once.
const PATIENCE_MIN: usize = 4;
/// The same after it was met again and again.
const PATIENCE_MAX: usize = 128;

/// Bounds on the attempts on their way to an endpoint: `1 <= min <= max`. Equal, they fix the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Never fewer are allowed.
    pub min: usize,
    /// Never more are allowed.
    pub max: usize,
}

impl Default for Concurrency {
    /// 1 to 16.
    fn default() -> Self {
        Self { min: 1, max: 16 }
    }
}

/// What remains of the window after a cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// After errors: four fifths.
    Hard,
    /// After slow answers: nine tenths.
    Mild,
}

/// The window of one endpoint. See the module's text.
#[derive(Debug)]
pub(crate) struct Window {
    bounds: Concurrency,
    limit: usize,
    slow_start: bool,
    /// Successes towards the next step.
    credit: usize,
    /// The limit at the last trouble.
    ceiling: Option<usize>,
    /// Round trips before the step onto the ceiling.
    patience: usize,
    /// When it was last cut: the epoch began just after.
    cut_at: Option<Timestamp>,
    latency: Latency,
}

impl Window {
    /// A window at its beginning.
    pub(crate) fn new(bounds: Concurrency) -> Self {
        Self {
            bounds,
            limit: INITIAL.clamp(bounds.min, bounds.max),
            slow_start: true,
            credit: 0,
            ceiling: None,
            patience: PATIENCE_MIN,
            cut_at: None,
            latency: Latency::default(),
        }
    }

    /// The endpoint has other bounds now; what was learnt within the old ones stays, as far as it fits.
    pub(crate) fn adapt(&mut self, bounds: Concurrency) {
        self.bounds = bounds;
        self.limit = self.limit.clamp(bounds.min, bounds.max);
    }

    /// How many may be on their way.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// One that departed at `sent_at` was answered well. `was_full`: the window let no other depart
    /// after it; one that is not used up shows nothing by going well, and does not grow.
    pub(crate) fn handle_success(&mut self, now: Timestamp, sent_at: Timestamp, was_full: bool) {
        if self.is_fixed() || !self.is_of_this_epoch(sent_at) {
            return;
        }
        let at_min = self.limit == self.bounds.min;
        self.latency.observe(now.since(sent_at), self.limit, at_min);
        if self.latency.is_strained() && !at_min {
            self.cut(now, Cut::Mild);
        } else if was_full && self.limit < self.bounds.max && (self.slow_start || self.latency.is_judged()) {
            self.credit += 1;
            self.grow();
        }
    }

    /// One that departed at `sent_at` met an error of the endpoint, a timeout or a throttle.
    pub(crate) fn handle_overload(&mut self, now: Timestamp, sent_at: Timestamp) {
        if !self.is_fixed() && self.is_of_this_epoch(sent_at) {
            self.cut(now, Cut::Hard);
        }
    }

    /// Whether it has been cut since that departed: what went with the others that made it so says nothing new.
    /// Never at the lower bound, where there is nothing left to cut.
    pub(crate) fn has_answered(&self, sent_at: Timestamp) -> bool {
        self.limit > self.bounds.min && !self.is_of_this_epoch(sent_at)
    }

    /// After an outage: as at the beginning, but for what is known of the latency at ease.
    pub(crate) fn restart(&mut self) {
        self.latency.forget_recent();
        *self = Self { latency: std::mem::take(&mut self.latency), cut_at: self.cut_at, ..Self::new(self.bounds) };
    }

    /// The wall clock jumped by so many milliseconds.
    ///
    /// The caller moves the departure times of what is on its way too.
    pub(crate) fn shift(&mut self, by: i64) {
        self.cut_at = self.cut_at.map(|at| Timestamp::from_millis(at.millis().saturating_add_signed(by)));
    }

    fn is_fixed(&self) -> bool {
        self.bounds.min == self.bounds.max
    }

    fn is_of_this_epoch(&self, sent_at: Timestamp) -> bool {
        self.cut_at.is_none_or(|cut_at| sent_at > cut_at)
    }

    fn grow(&mut self) {
        self.slow_start &= self.latency.is_at_ease(); // doubling would be far past the mark before it shows
        // A round trip brings `limit` successes.
        let price = if self.slow_start { 1 } else { self.limit * self.round_trips() };
        if self.credit < price {
            return;
        }
        self.credit = 0;
        self.limit += 1;
        if self.ceiling.is_some_and(|ceiling| self.limit > ceiling && self.round_trips() == 1) {
            self.ceiling = None; // it has gone well so far beyond that the trouble is over
            self.patience = PATIENCE_MIN;
        }
    }

    /// Round trips before the next step: the patience onto the ceiling, a quarter of it one step beside,
    /// a sixteenth two beside, and so on to one.
    fn round_trips(&self) -> usize {
        let Some(ceiling) = self.ceiling else { return 1 };
        let beside = (self.limit + 1).abs_diff(ceiling).min(8);
        (self.patience >> (2 * beside)).max(1)
    }

    fn cut(&mut self, now: Timestamp, cut: Cut) {
        self.patience = match self.ceiling {
            Some(ceiling) if self.limit >= ceiling && self.limit > self.bounds.min => {
                (self.patience * 2).min(PATIENCE_MAX)
            }
            Some(_) => (self.patience / 2).max(1),
            None => PATIENCE_MIN,
        };
        self.ceiling = Some(self.limit);
        let left = match cut {
            Cut::Hard => self.limit * 4 / 5,
            Cut::Mild => {
                self.latency.forget_recent();
                self.limit * 9 / 10
            }
        };
        self.limit = left.max(self.bounds.min);
        self.slow_start = false;
        self.credit = 0;
        self.cut_at = Some(now);
    }
}

#[cfg(test)]
mod tests;
