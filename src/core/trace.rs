//! Trace context (W3C Trace Context, level 1): of which trace a sender's request is a part.
//!
//! What is no trace context is none: a receiver would be led astray by it, so it is neither kept nor passed on. What is
//! one passes as it came, or with another parent where somebody is told of our part in the trace.

use std::fmt;

use crate::core::event::{Header, tag};
use crate::core::id::{DeliveryId, EventId};
use crate::core::timestamp::Timestamp;

/// The header that names the trace and the part of it that the request comes from.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what vendors add.
pub const TRACESTATE: &str = "tracestate";
/// Most members of a `tracestate`.
const MEMBERS_MAX: usize = 32;
/// Longest key and longest value of a member, in bytes.
const MEMBER_LEN_MAX: usize = 256;
/// The flag of a trace that somebody records.
const SAMPLED: u8 = 1;

/// Names a trace. Never nought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// Names a part of a trace. Never nought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(u64);

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Which trace.
    pub trace: TraceId,
    /// Which part of it the request comes from.
    pub parent: SpanId,
    /// Whether somebody records it, as far as is known where it comes from.
    pub sampled: bool,
}

impl TraceId {
    /// The trace of an event that came without one: named as the event is, so that it has the same name at any time.
    #[must_use]
    pub const fn of_event(event: EventId) -> Self {
        let number = event.as_u128();
        Self(if number == 0 { 1 } else { number })
    }
}

impl SpanId {
    /// The acceptance of an event.
    #[must_use]
    pub fn of_acceptance(event: EventId) -> Self {
        Self(tag(&[b"accept", &event.as_u128().to_be_bytes()]).max(1))
    }

    /// An attempt of a delivery, made then: a crash or a trial may make one of the same number again.
    #[must_use]
    pub fn of_attempt(delivery: DeliveryId, attempt: u32, at: Timestamp) -> Self {
        let (event, slot) = (delivery.event.as_u128().to_be_bytes(), delivery.slot.to_be_bytes());
        let parts: [&[u8]; 5] = [b"attempt", &event, &slot, &attempt.to_be_bytes(), &at.millis().to_be_bytes()];
        Self(tag(&parts).max(1))
    }
}

impl TraceParent {
    /// What is said by a `traceparent`; nothing by one that is none.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut fields = text.split('-');
        let mut field = |len: usize| fields.next().filter(|field| field.len() == len && is_hex(field));
        let (version, trace, parent, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        // A later version may have more behind what this one has.
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|number| *number != 0)?;
        let parent = u64::from_str_radix(parent, 16).ok().filter(|number| *number != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace: TraceId(trace), parent: SpanId(parent), sampled: flags & SAMPLED != 0 })
    }

    /// What these headers say: those of a request that has one `traceparent`.
    #[must_use]
    pub fn of(headers: &[Header]) -> Option<Self> {
        Self::only(headers.iter().filter(|header| header.name == TRACEPARENT).map(|header| &*header.value))
    }

    /// What these `traceparent`s of one request say: the one, if there is no other.
    #[must_use]
    pub fn only<'a>(parents: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut parents = parents.into_iter();
        let only = parents.next().filter(|_| parents.next().is_none())?;
        Self::parse(only.trim_ascii())
    }
}

/// Whether several `tracestate` headers say, one behind the other, what may be said: a list of at most 32 members.
#[must_use]
pub fn is_state<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let members = values.into_iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let mut count = 0;
    for member in members.filter(|member| !member.is_empty()) {
        count += 1;
        if count > MEMBERS_MAX || !is_member(member) {
            return false;
        }
    }
    count > 0
}

fn is_member(member: &[u8]) -> bool {
    let mut parts = member.splitn(2, |byte| *byte == b'=');
    let (Some(key), Some(value)) = (parts.next(), parts.next()) else { return false };
    let in_key = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let in_value = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'=';
    let fits = |part: &[u8]| (1..=MEMBER_LEN_MAX).contains(&part.len());
    fits(key) && fits(value) && key.iter().all(in_key) && value.iter().all(in_value)
}

fn is_hex(field: &str) -> bool {
    field.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// As a `traceparent`.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let read = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(read.to_string(), GOOD);
        assert_eq!(read.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(read.sampled);
        let unsampled = TraceParent::parse(GOOD.replace("-01", "-00").as_bytes()).unwrap();
        assert_eq!((unsampled.sampled, unsampled.trace), (false, read.trace));
        // Of flags that we do not know only the one that we know is passed on by who writes a parent of its own.
        assert!(TraceParent::parse(GOOD.replace("-01", "-ff").as_bytes()).unwrap().sampled);
        // A later version is read as far as it is this one.
        for later in [GOOD.replace("00-4", "01-4"), format!("{}-more", GOOD.replace("00-4", "cc-4"))] {
            assert_eq!(TraceParent::parse(later.as_bytes()).map(|read| read.trace), Some(read.trace), "{later}");
        }
    }

    #[test]
    fn what_is_no_traceparent_says_nothing() {
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replace("00-4", "ff-4"),
            GOOD.replace("00-4", "0-4"),
            format!("{GOOD}-more"),
            format!("{GOOD}0"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("00f067aa0ba902b7", "00f067aa0ba902b"),
            GOOD.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
            GOOD.replace('-', "_"),
            GOOD.replace("-01", ""),
            GOOD.replace("-01", "-"),
        ];
        for bad in bad {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(TraceParent::parse(b"\xff"), None);
        let header = || Header { name: TRACEPARENT.to_owned(), value: GOOD.into() };
        assert!(TraceParent::of(&[header()]).is_some());
        assert_eq!(TraceParent::of(&[header(), header()]), None, "which of the two?");
        assert_eq!(TraceParent::of(&[]), None);
    }

    #[test]
    fn a_tracestate_is_a_list_of_members() {
        let is = |values: &[&str]| is_state(values.iter().map(|value| value.as_bytes()));
        assert!(is(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]));
        assert!(is(&["a=1", "fw529a3039@dt=FfgD , ,b=2"]));
        let most = (0..32).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
        assert!(is(&[&most]) && !is(&[&most, "one=more"]));
        for bad in ["", "a", "=1", "a=", "A=1", "a=1=2", "a=\u{1}", "a=\u{e9}", &format!("a={}", "x".repeat(257))] {
            assert!(!is(&[bad]), "{bad}");
        }
    }
}
