//! An attempt: one HTTP try of a delivery, and what it means.
//!
//! Immutable once made. The answer's body is kept only to [`RESPONSE_KEPT_MAX_BYTES`]; whether it was
//! cut is kept too.

use std::time::Duration;

use bytes::Bytes;

use crate::core::event::Header;
use crate::core::timestamp::Timestamp;

/// How much of an answer's body is kept, in bytes.
pub const RESPONSE_KEPT_MAX_BYTES: usize = 16 * 1024;
/// How much of an answer's header block is kept, in bytes of names and values.
pub const RESPONSE_HEADERS_KEPT_MAX_BYTES: usize = 4 * 1024;

/// One HTTP try of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first try of this delivery.
    pub number: u32,
    /// When the try began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
    /// What came back.
    pub reply: Reply,
    /// What it means under the endpoint's policy at that time.
    pub outcome: Outcome,
    /// Whether it was sent to see if the endpoint is back: if it failed, it spent nothing.
    pub probe: bool,
    /// Whether it was sent past an earlier delivery of its key that had held it too long.
    pub out_of_order: bool,
}

/// What came back from an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// An HTTP answer.
    Answer(Answer),
    /// None, and why.
    Failure(Failure),
}

/// An HTTP answer, capped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 100 to 599, as sent.
    pub status: u16,
    /// Its headers, up to [`RESPONSE_HEADERS_KEPT_MAX_BYTES`].
    pub headers: Vec<Header>,
    /// Its body, up to [`RESPONSE_KEPT_MAX_BYTES`].
    pub body: Bytes,
    /// Whether the body went on after what is kept.
    pub body_cut: bool,
    /// Retry-After, resolved to a span from the attempt's end.
    pub retry_after: Option<Duration>,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, for machines.
    pub class: FailureClass,
    /// What went wrong, for people; no secret in it.
    pub detail: String,
}

/// What can go wrong between us and an answer. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FailureClass {
    /// The name could not be resolved.
    Dns = 1,
    /// Nothing listens there.
    Refused = 2,
    /// No connection within the connect timeout, or no route.
    Unreachable = 3,
    /// The time ran out before the request was sent whole.
    TimeoutBeforeSent = 4,
    /// The request was sent whole; no answer within the timeout.
    TimeoutAfterSent = 5,
    /// The TLS handshake or certificate failed.
    Tls = 6,
    /// The connection broke before the request was sent whole.
    ResetBeforeSent = 7,
    /// The request was sent whole; the connection broke before the answer.
    ResetAfterSent = 8,
    /// What came back was not HTTP.
    Protocol = 9,
    /// The request could not be built; nothing was sent.
    NotSent = 10,
    /// Where it would have gone may not be connected to; nothing was sent.
    EgressDenied = 11,
}

/// What an attempt means. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// 2xx.
    Delivered = 1,
    /// Try again later.
    Retryable = 2,
    /// Trying again is useless.
    Permanent = 3,
    /// The endpoint asks for less (429, or 503 with Retry-After): try again later, and hold the others too.
    Throttled = 4,
    /// The request was sent whole and the answer never came: it may have been processed. Tried again.
    MaybeDelivered = 5,
}

/// Which answers are final failures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusSet(Vec<(u16, u16)>);

impl StatusSet {
    /// The statuses in these inclusive ranges.
    #[must_use]
    pub const fn new(ranges: Vec<(u16, u16)>) -> Self {
        Self(ranges)
    }

    /// The ranges, both ends included.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Whether `status` is in the set.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl Outcome {
    /// Every outcome, in code order.
    pub const ALL: [Self; 5] =
        [Self::Delivered, Self::Retryable, Self::Permanent, Self::Throttled, Self::MaybeDelivered];

    /// What `reply` means. 410 is always permanent; `permanent` names further statuses that are.
    #[must_use]
    pub fn classify(reply: &Reply, permanent: &StatusSet) -> Self {
        match reply {
            Reply::Failure(failure) if failure.class.sent_whole() => Self::MaybeDelivered,
            Reply::Failure(_) => Self::Retryable,
            Reply::Answer(answer) => match answer.status {
                200..=299 => Self::Delivered,
                410 => Self::Permanent,
                429 => Self::Throttled,
                503 if answer.retry_after.is_some() => Self::Throttled,
                status if permanent.contains(status) => Self::Permanent,
                _ => Self::Retryable,
            },
        }
    }

    /// The outcome with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| *outcome as u8 == code)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retryable => "retryable",
            Self::Permanent => "permanent",
            Self::Throttled => "throttled",
            Self::MaybeDelivered => "maybe_delivered",
        }
    }
}

impl FailureClass {
    /// Every class, in code order.
    pub const ALL: [Self; 11] = [
        Self::Dns,
        Self::Refused,
        Self::Unreachable,
        Self::TimeoutBeforeSent,
        Self::TimeoutAfterSent,
        Self::Tls,
        Self::ResetBeforeSent,
        Self::ResetAfterSent,
        Self::Protocol,
        Self::NotSent,
        Self::EgressDenied,
    ];

    /// The class with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == code)
    }

    /// Whether the endpoint may have seen the whole request.
    #[must_use]
    pub const fn sent_whole(self) -> bool {
        matches!(self, Self::TimeoutAfterSent | Self::ResetAfterSent | Self::Protocol)
    }

    /// The word used in the API, the CLI and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimeoutBeforeSent => "timeout_before_sent",
            Self::TimeoutAfterSent => "timeout_after_sent",
            Self::Tls => "tls",
            Self::ResetBeforeSent => "reset_before_sent",
            Self::ResetAfterSent => "reset_after_sent",
            Self::Protocol => "protocol",
            Self::NotSent => "not_sent",
            Self::EgressDenied => "egress_denied",
        }
    }
}

impl Attempt {
    /// The answer's status, if there was one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match &self.reply {
            Reply::Answer(answer) => Some(answer.status),
            Reply::Failure(_) => None,
        }
    }

    /// The failure's class, if there was no answer.
    #[must_use]
    pub const fn failure(&self) -> Option<FailureClass> {
        match &self.reply {
            Reply::Answer(_) => None,
            Reply::Failure(failure) => Some(failure.class),
        }
    }

    /// When the try ended.
    #[must_use]
    pub fn ended_at(&self) -> Timestamp {
        self.started_at.after(Duration::from_millis(u64::from(self.took_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<Duration>) -> Reply {
        Reply::Answer(Answer { status, headers: vec![], body: Bytes::new(), body_cut: false, retry_after })
    }

    #[test]
    fn every_status_has_one_meaning() {
        let none = StatusSet::default();
        let second = Some(Duration::from_secs(1));
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Outcome::Delivered,
                410 => Outcome::Permanent,
                429 => Outcome::Throttled,
                _ => Outcome::Retryable,
            };
            assert_eq!(Outcome::classify(&answer(status, None), &none), expected, "{status}");
        }
        assert_eq!(Outcome::classify(&answer(503, second), &none), Outcome::Throttled);
        assert_eq!(Outcome::classify(&answer(500, second), &none), Outcome::Retryable);
    }

    #[test]
    fn a_policy_makes_statuses_permanent_but_never_a_success_or_a_throttle() {
        let all = StatusSet::new(vec![(100, 599)]);
        assert_eq!(Outcome::classify(&answer(404, None), &all), Outcome::Permanent);
        assert_eq!(Outcome::classify(&answer(204, None), &all), Outcome::Delivered);
        assert_eq!(Outcome::classify(&answer(429, None), &all), Outcome::Throttled);
    }

    #[test]
    fn a_lost_answer_is_maybe_delivered_and_an_unsent_request_is_not() {
        for class in FailureClass::ALL {
            let reply = Reply::Failure(Failure { class, detail: String::new() });
            let expected = if class.sent_whole() { Outcome::MaybeDelivered } else { Outcome::Retryable };
            assert_eq!(Outcome::classify(&reply, &StatusSet::default()), expected);
            assert_eq!(FailureClass::from_code(class as u8), Some(class));
        }
    }
}
