//! A refused request: one that reached a source and became no event, kept for whoever wants to know why.
//!
//! It is no promise to anybody: whoever can reach the listener can cause it, so everything about it is bounded.

use bytes::Bytes;

use crate::core::event::Header;
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;

/// Most bytes kept of a body.
pub const BODY_KEPT_MAX_BYTES: usize = 256 << 10;

/// Why a request became no event. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Why {
    /// The same event was there already; the sender was told so with a 2xx.
    Duplicate = 1,
    /// The body is over the source's cap.
    TooLarge = 2,
    /// The headers are more than an event keeps; neither they nor the body were kept.
    HeadersTooLarge = 3,
    /// A strict source could not read it.
    Malformed = 4,
    /// It was not from who its source says may send; neither its headers nor its body were kept.
    Unverified = 5,
    /// The same, of a source that keeps such requests for an operator to look at.
    Quarantined = 6,
    /// More came than the rate of the source, or of all, allows; of many such only one a second is kept, without
    /// its headers and its body.
    Rate = 16,
}

/// A request that became no event, as far as it was kept. Its credentials never are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When it was refused.
    pub at: Timestamp,
    /// Which source it was for.
    pub source: Name,
    /// Why.
    pub why: Why,
    /// What its sender was told.
    pub detail: String,
    /// Of a duplicate, the event that was there already.
    pub first: Option<EventId>,
    /// Who sent it, as far as the network knows.
    pub peer: Option<String>,
    /// The headers that an event would have kept.
    pub headers: Vec<Header>,
    /// The beginning of the body, of at most [`BODY_KEPT_MAX_BYTES`].
    pub body: Bytes,
    /// The body's true length, if it is known.
    pub body_bytes: Option<u64>,
}

impl Refused {
    /// Whether all of the body was kept: only then can an event be made of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !matches!(self.why, Why::HeadersTooLarge | Why::Unverified | Why::Rate)
            && self.body_bytes == u64::try_from(self.body.len()).ok()
    }
}

impl Why {
    /// Every reason, in code order.
    pub const ALL: [Self; 7] = [
        Self::Duplicate,
        Self::TooLarge,
        Self::HeadersTooLarge,
        Self::Malformed,
        Self::Unverified,
        Self::Quarantined,
        Self::Rate,
    ];

    /// The reason with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|why| *why as u8 == code)
    }

    /// The reason with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == name)
    }

    /// The word used in the API and the CLI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::TooLarge => "too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Malformed => "malformed",
            Self::Unverified => "unverified",
            Self::Quarantined => "quarantined",
            Self::Rate => "rate",
        }
    }
}
