//! What came to the door: counts of what was turned away, and what was taken in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::measures::{ByName, Taken};
use super::spans::Spans;

/// Why a request was turned away at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Turned {
    /// The same event was there already; it was acknowledged, not stored again.
    Duplicate,
    /// No such source.
    UnknownSource,
    /// Another method than POST.
    Method,
    /// The body is over the source's cap.
    TooLarge,
    /// The body came too slowly, or broke off.
    Slow,
    /// It was not from who its source says may send.
    Unverified,
    /// A strict source could not read it.
    Unreadable,
    /// The journal could not take it.
    Unavailable,
    /// More came than the rate allows.
    Rate,
    /// A connection of an address that had its share of them.
    Crowded,
}

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct Intake {
    /// What was taken in, by source.
    pub taken: ByName<Taken>,
    /// Who is told of each acceptance.
    pub spans: Spans,
    counts: [AtomicU64; Turned::ALL.len()],
}

impl Turned {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Duplicate,
        Self::UnknownSource,
        Self::Method,
        Self::TooLarge,
        Self::Slow,
        Self::Unverified,
        Self::Unreadable,
        Self::Unavailable,
        Self::Rate,
        Self::Crowded,
    ];

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::UnknownSource => "unknown_source",
            Self::Method => "method",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Unverified => "unverified",
            Self::Unreadable => "unreadable",
            Self::Unavailable => "unavailable",
            Self::Rate => "rate",
            Self::Crowded => "crowded",
        }
    }
}

impl Intake {
    /// Nothing yet; of each acceptance these are told.
    #[must_use]
    pub fn telling(spans: Spans) -> Self {
        Self { spans, ..Self::default() }
    }

    /// Counts one.
    pub fn note(&self, turned: Turned) {
        if let Some(count) = self.counts.get(turned as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts by reason.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let pairs = Turned::ALL.iter().zip(&self.counts);
        pairs.map(|(turned, count)| (turned.as_str(), count.load(Ordering::Relaxed))).collect()
    }
}
