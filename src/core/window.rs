//! The window: how many attempts to one endpoint may be on their way.
//!
//! Additive increase, multiplicative decrease. It begins small and doubles with every round trip until the
//! first trouble. An error, a timeout or a throttle cuts it, once for all attempts that were on their way
//! together, and where that happened is remembered as the ceiling: below it the window grows by one a
//! round trip, just under it far more slowly, so that most of the time is spent where the endpoint still
//! copes (the plateau of CUBIC, RFC 9438). Answers that become much slower than this endpoint's own usual
//! ones cut it too, more gently, before errors come.
//!
//! Promises: always between its bounds; fixed if they are equal. Absent: who is sent, and whether at all.

use std::time::Duration;

use crate::core::timestamp::{Timestamp, duration_millis};

/// Where a window begins, unless its bounds say otherwise.
const INITIAL: f64 = 4.0;
/// What an error leaves of the window.
const CUT_BY_ERROR: f64 = 0.8;
/// What slowness leaves of it.
const CUT_BY_LATENCY: f64 = 0.9;
/// Round trips that the next step takes just under the ceiling.
const PLATEAU: f64 = 48.0;
/// From which part of the ceiling on it is approached with care.
const NEAR: f64 = 0.9;
/// How much of a new answer's time goes into the recent time, and of that into the usual one.
const RECENT_PART: f64 = 1.0 / 16.0;
/// Recent answers this many times slower than usual are trouble,
const SLOW_FACTOR: f64 = 2.0;
/// if they are also slower by this many milliseconds: below that it is noise.
const SLOW_SLACK_MS: f64 = 20.0;
/// An answer slower than this many times what is slow counts as that much: one straggler is no trend.
const OUTLIER_FACTOR: f64 = 4.0;

/// The bounds of the window; fixed if they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// At least 1.
    pub min: usize,
    /// At least `min`.
    pub max: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { min: 1, max: 16 }
    }
}

#[derive(Debug)]
pub(crate) struct Window {
    bounds: Concurrency,
    limit: f64,
    /// Whether it still doubles with every round trip: until the first trouble.
    doubling: bool,
    /// Where trouble was last met, until it has grown past that.
    ceiling: Option<f64>,
    /// Only attempts that left after this say anything new about a cut.
    cut_at: Timestamp,
    /// Answer times in milliseconds.
    recent: Option<f64>,
    usual: Option<f64>,
}

impl Window {
    pub(crate) fn new(bounds: Concurrency) -> Self {
        assert!(bounds.min > 0 && bounds.min <= bounds.max, "the config has checked the bounds");
        let mut window = Self {
            bounds,
            limit: 0.0,
            doubling: true,
            ceiling: None,
            cut_at: Timestamp::ZERO,
            recent: None,
            usual: None,
        };
        window.restart();
        window
    }

    /// How many may be on their way.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between its bounds")]
    pub(crate) fn limit(&self) -> usize {
        (self.limit as usize).clamp(self.bounds.min, self.bounds.max)
    }

    /// An attempt that left at `sent_at` was answered well. `was_full`: it took the last place of the window;
    /// what was never filled says nothing about more.
    pub(crate) fn handle_success(&mut self, now: Timestamp, sent_at: Timestamp, was_full: bool) {
        if self.is_slow(now.since(sent_at)) {
            self.cut(now, sent_at, CUT_BY_LATENCY);
        } else if was_full && sent_at >= self.cut_at {
            self.set(self.limit + self.step());
            if self.ceiling.is_some_and(|ceiling| self.limit > ceiling + 1.0) {
                self.ceiling = None; // it copes with more now
            }
        }
    }

    /// An attempt that left at `sent_at` met an error, a timeout or a throttle.
    pub(crate) fn handle_overload(&mut self, now: Timestamp, sent_at: Timestamp) {
        self.cut(now, sent_at, CUT_BY_ERROR);
    }

    /// After an outage: small again, with nothing known of a ceiling.
    pub(crate) fn restart(&mut self) {
        self.doubling = true;
        self.ceiling = None;
        self.set(INITIAL);
    }

    /// The wall clock jumped by so many milliseconds.
    pub(crate) const fn shift(&mut self, by: i64) {
        self.cut_at = self.cut_at.shifted(by);
    }

    /// By how much one success in a full window widens it.
    fn step(&self) -> f64 {
        match self.ceiling {
            Some(ceiling) if self.limit > ceiling * NEAR => 1.0 / (self.limit * PLATEAU),
            None if self.doubling => 1.0,
            _ => 1.0 / self.limit,
        }
    }

    fn cut(&mut self, now: Timestamp, sent_at: Timestamp, part: f64) {
        if sent_at >= self.cut_at {
            // It was the whole number that was on its way, and it was one too many.
            self.ceiling = Some(self.limit.floor());
            self.doubling = false;
            self.set(self.limit * part);
            self.cut_at = now.after(Duration::from_millis(1));
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "bounds and milliseconds are far below 2^52")]
    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.bounds.min as f64, self.bounds.max as f64 + 0.99);
    }

    #[allow(clippy::cast_precision_loss, reason = "bounds and milliseconds are far below 2^52")]
    fn is_slow(&mut self, took: Duration) -> bool {
        let slow = |usual: f64| usual * SLOW_FACTOR + SLOW_SLACK_MS;
        let took = duration_millis(took) as f64;
        let took = self.usual.map_or(took, |usual| took.min(slow(usual) * OUTLIER_FACTOR));
        let recent = self.recent.map_or(took, |recent| recent + (took - recent) * RECENT_PART);
        // What is slow though few are on their way is how it is; with many, it may be them.
        let few = INITIAL.max(self.bounds.min as f64);
        let usual = self.usual.unwrap_or(took);
        let is_own = self.limit <= few || recent < usual;
        let usual = if is_own { usual + (recent - usual) * RECENT_PART } else { usual };
        (self.recent, self.usual) = (Some(recent), Some(usual));
        recent > slow(usual)
    }
}

#[cfg(test)]
mod tests;
