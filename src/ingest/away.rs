//! Why a request is turned away, and how its sender is told.

use std::fmt;
use std::time::Duration;

use http::header::{ALLOW, CONNECTION, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use warp::reply::Response;

use super::headers::HEADERS_KEPT_MAX_BYTES;
use crate::core::refused::Why;
use crate::core::source::Refusal;
use crate::core::verify::{Denied, OnFail};
use crate::engine::NotAccepted;
use crate::problem;
use crate::telemetry::Turned;

/// What is said where nothing is: it tells this listener from others.
pub const NOTHING_HERE: &str = "there is nothing here; events are sent to /in/<source>";

/// Why a request is turned away. Its text never holds anything of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Away {
    /// There is nothing at this path.
    Nothing,
    /// There is no such source.
    UnknownSource,
    /// Only these methods make sense here.
    Method { allowed: &'static str },
    /// The headers to keep are over [`HEADERS_KEPT_MAX_BYTES`].
    Headers,
    /// The body has more bytes than the source takes.
    TooLarge { max_bytes: usize },
    /// The body was not there at the deadline.
    Slow { timeout: Duration },
    /// The connection broke within the body, or the chunks make no sense.
    BrokenOff,
    /// It is not from who the source says may send.
    Denied {
        /// Why.
        denied: Denied,
        /// How it could be shown.
        challenge: &'static str,
        /// Whether it is kept.
        on_fail: OnFail,
    },
    /// A strict source cannot read it.
    Refused(Refusal),
    /// More came than is allowed, of this source or of all.
    TooOften { wait: Duration, of_all: bool },
    /// The engine does not take it now.
    NotAccepted(NotAccepted),
}

impl Away {
    /// What it is counted as.
    pub(super) const fn turned(&self) -> Turned {
        match self {
            Self::Nothing | Self::UnknownSource => Turned::UnknownSource,
            Self::Method { .. } => Turned::Method,
            Self::Headers | Self::TooLarge { .. } => Turned::TooLarge,
            Self::Slow { .. } | Self::BrokenOff => Turned::Slow,
            Self::Denied { .. } => Turned::Unverified,
            Self::Refused(_) => Turned::Unreadable,
            Self::TooOften { .. } => Turned::Rate,
            Self::NotAccepted(_) => Turned::Unavailable,
        }
    }

    /// As what it is kept, if it is: where the request itself is at fault, and was there.
    pub(super) const fn why(&self) -> Option<Why> {
        match self {
            Self::Headers => Some(Why::HeadersTooLarge),
            Self::TooLarge { .. } => Some(Why::TooLarge),
            Self::Denied { on_fail: OnFail::Reject, .. } => Some(Why::Unverified),
            Self::Denied { on_fail: OnFail::Quarantine, .. } => Some(Why::Quarantined),
            Self::Refused(_) => Some(Why::Malformed),
            Self::TooOften { .. } => Some(Why::Rate),
            Self::Nothing
            | Self::UnknownSource
            | Self::Method { .. }
            | Self::Slow { .. }
            | Self::BrokenOff
            | Self::NotAccepted(_) => None,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Nothing | Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Headers => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::Denied { denied, .. } => StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED),
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotAccepted(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer.
    pub(super) fn response(&self) -> Response {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or_default();
        let mut response = problem::response(status, title, &self.to_string(), self.member().as_slice());
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// What a program may want to read.
    fn member(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::TooLarge { max_bytes } => Some(("body_max_bytes", (*max_bytes).into())),
            Self::Refused(Refusal::Field { place, .. }) => Some(("field", place.as_str().into())),
            _ => None,
        }
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::Method { allowed } => Some((ALLOW, HeaderValue::from_static(allowed))),
            // What is left of the body is not the begin of a next request.
            Self::TooLarge { .. } | Self::Slow { .. } | Self::BrokenOff => {
                Some((CONNECTION, HeaderValue::from_static("close")))
            }
            // RFC 9110, 11.6.1: a 401 says how it could be otherwise.
            Self::Denied { challenge, .. } if self.status() == StatusCode::UNAUTHORIZED => {
                Some((WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
            }
            Self::NotAccepted(why) => Some((RETRY_AFTER, retry_after_seconds(why).into())),
            Self::TooOften { wait, .. } => Some((RETRY_AFTER, whole_seconds(*wait).into())),
            Self::Nothing | Self::UnknownSource | Self::Headers | Self::Denied { .. } | Self::Refused(_) => None,
        }
    }
}

/// A queue is soon gone, a restart takes a moment, a full disk takes longest.
const fn retry_after_seconds(why: &NotAccepted) -> u16 {
    match why {
        NotAccepted::Busy => 1,
        NotAccepted::Stopping | NotAccepted::Failed(_) => 5,
        NotAccepted::Full => 30,
    }
}

/// Rounded up: before that it would be too early.
const fn whole_seconds(wait: Duration) -> u64 {
    if wait.subsec_nanos() == 0 { wait.as_secs() } else { wait.as_secs().saturating_add(1) }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str(NOTHING_HERE),
            Self::UnknownSource => f.write_str("there is no such source"),
            Self::Method { allowed } => write!(f, "the method must be one of: {allowed}"),
            Self::Headers => write!(f, "the headers have more than {HEADERS_KEPT_MAX_BYTES} bytes"),
            Self::TooLarge { max_bytes } => {
                write!(f, "the body has more than the {max_bytes} bytes that this source takes")
            }
            Self::Slow { timeout } => write!(f, "the body was not there after {timeout:?}"),
            Self::BrokenOff => f.write_str("the body broke off, or came too slowly"),
            Self::Denied { denied, .. } => write!(f, "{denied}"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::TooOften { of_all: false, .. } => f.write_str("more events come than the rate of this source allows"),
            Self::TooOften { of_all: true, .. } => f.write_str("more events come than the rate of this gateway allows"),
            Self::NotAccepted(why) => write!(f, "{why}"),
        }
    }
}
