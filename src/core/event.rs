//! An event: one accepted request, immutable from the moment it is journaled.
//!
//! The body is the sender's bytes and nothing else: never parsed again, never re-encoded.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;

/// The type of an event whose body does not name one.
pub const UNKNOWN_TYPE: &str = "unknown";
/// Longest event type, in bytes; a longer one is cut at a character boundary.
pub const TYPE_LEN_MAX: usize = 128;
/// Longest key, in bytes; a longer one is cut at a character boundary.
pub const KEY_LEN_MAX: usize = 256;
/// Most endpoints one event can be routed to.
pub const FAN_OUT_MAX: usize = 256;

/// What tells two posts of the same event from two events: a hash of the fields the source names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// What stands for a key where its text would be too long: 64 bits of its hash.
///
/// Two keys with the same tag are taken for one: their events wait for each other, and searches check the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyTag(pub u64);

impl KeyTag {
    /// The tag of `key`. It is on disk: never change how it is made.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(tag(&[b"key", key.as_bytes()]))
    }
}

/// The first 64 bits of a SHA-256 over `parts`, each with its length.
pub(crate) fn tag(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// A request that its source's rules admitted, before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who sent it.
    pub source: Name,
    /// What happened, or [`UNKNOWN_TYPE`].
    pub event_type: String,
    /// What orders and groups events, if the body has it: for Flyflow the `call_id`.
    pub key: Option<String>,
    /// When it happened by the sender's word, if it says.
    pub occurred_at: Option<Timestamp>,
    /// The sender's headers that are kept and passed on, in order.
    pub headers: Vec<Header>,
    /// The sender's bytes.
    pub body: Bytes,
    /// Present where the source removes duplicates: events with equal prints within the window are one.
    pub dedup: Option<Dedup>,
    /// The endpoints it is routed to now, in routing order; later config changes do not rewrite this.
    pub endpoints: Vec<Name>,
}

/// One header: the name in lower case, the value as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Lower case.
    pub name: String,
    /// Bytes as received; not always UTF-8.
    pub value: Bytes,
}

/// The duplicate test an event is admitted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dedup {
    /// What must differ.
    pub fingerprint: Fingerprint,
    /// For how long an equal fingerprint is a duplicate.
    pub window: std::time::Duration,
}

/// One accepted request. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Sorts by acceptance.
    pub id: EventId,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// What was accepted.
    pub draft: Draft,
}

/// What is known of an event without reading its headers and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHead {
    /// Sorts by acceptance.
    pub id: EventId,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// Who sent it.
    pub source: Name,
    /// What happened, or [`UNKNOWN_TYPE`].
    pub event_type: String,
    /// What orders and groups events.
    pub key: Option<String>,
    /// When it happened by the sender's word.
    pub occurred_at: Option<Timestamp>,
    /// Length of the body, in bytes.
    pub body_bytes: u32,
}

impl Event {
    /// The event without headers and body.
    #[must_use]
    pub fn head(&self) -> EventHead {
        EventHead {
            id: self.id,
            received_at: self.received_at,
            source: self.draft.source.clone(),
            event_type: self.draft.event_type.clone(),
            key: self.draft.key.clone(),
            occurred_at: self.draft.occurred_at,
            body_bytes: u32::try_from(self.draft.body.len()).unwrap_or(u32::MAX),
        }
    }
}

/// `text` cut to at most `len_max` bytes, at a character boundary.
#[must_use]
pub fn cut(text: &str, len_max: usize) -> &str {
    text.get(..text.floor_char_boundary(len_max)).unwrap_or_default()
}
