//! How long answers take now, against how long they take at ease.
//!
//! Two exponentially weighted means. The recent one reaches over about two round trips and speaks after
//! one, for within a round trip the fast answers come first and the slow ones last. The one at ease
//! follows the recent one down as fast as that moves itself, and up only slowly and only while it is
//! near: the queue that a window builds at the endpoint must not come to pass for ease. At the smallest
//! window it follows up as fast, since there the window cannot be what makes answers slow.

use std::time::Duration;

/// Answers before anything is said, and the fewest a mean reaches over.
const SAMPLES_MIN: usize = 16;
/// How many times slower the mean at ease goes up than down.
const UP_SLOWER: f64 = 32.0;
/// Up to so many times the mean at ease, the recent one is near it.
const NEAR: f64 = 1.25;
/// More than so many times the mean at ease, plus the slack, is slow.
const STRAINED: f64 = 2.0;
/// What a network or a pause of the sender adds at times, in milliseconds.
const SLACK_MS: f64 = 20.0;

/// Means of the time from departure to answer, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Answers in the recent mean.
    samples: usize,
    recent: f64,
    /// Whether the recent mean is of enough answers to go by.
    is_ripe: bool,
    at_ease: Option<f64>,
}

impl Latency {
    /// An answer took so long under a window of `limit`, which can be made no smaller if `at_min`.
    pub(super) fn observe(&mut self, took: Duration, limit: usize, at_min: bool) {
        let took = took.as_secs_f64() * 1000.0;
        // One straggler is no trend, however late: it counts for no more than twice what is slow.
        let took = self.at_ease.map_or(took, |at_ease| took.min(2.0 * slow(at_ease)));
        self.samples = self.samples.saturating_add(1);
        let gain = 1.0 / self.samples.min((2 * limit).max(SAMPLES_MIN)) as f64;
        self.recent += (took - self.recent) * gain;
        self.is_ripe = self.samples >= limit.max(SAMPLES_MIN);
        if self.is_ripe {
            self.at_ease = Some(self.at_ease.map_or(self.recent, |at_ease| self.follow(at_ease, gain, at_min)));
        }
    }

    fn follow(&self, at_ease: f64, gain: f64, at_min: bool) -> f64 {
        let gap = self.recent - at_ease;
        if gap < 0.0 || at_min {
            at_ease + gap * gain
        } else if self.recent <= NEAR * at_ease {
            at_ease + gap * gain / UP_SLOWER
        } else {
            at_ease
        }
    }

    /// Whether answers take about as long as at ease, as far as is known.
    pub(super) fn is_at_ease(&self) -> bool {
        self.at_ease.is_none_or(|at_ease| self.recent <= NEAR * at_ease)
    }

    /// Whether enough answers came since the last change to tell, or none ever did to compare them with.
    pub(super) fn is_judged(&self) -> bool {
        self.is_ripe || self.at_ease.is_none()
    }

    /// Whether answers are slow.
    pub(super) fn is_strained(&self) -> bool {
        self.is_ripe && self.at_ease.is_some_and(|at_ease| self.recent > slow(at_ease))
    }

    /// The window has changed: judge it by what comes.
    pub(super) fn forget_recent(&mut self) {
        *self = Self { at_ease: self.at_ease, ..Self::default() };
    }
}

fn slow(at_ease: f64) -> f64 {
    STRAINED * at_ease + SLACK_MS
}
