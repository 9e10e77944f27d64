//! Answers: JSON where it went well, problem+json (RFC 9457) where it did not.
//!
//! A problem says what is wrong and what to do, never a secret. Its type is `about:blank`: the HTTP status
//! is the kind, and members are added where a machine needs more (`parameter`, `required_role`, `problems`).

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;
use tokio::task::JoinError;
use warp::reply::Response;

use super::register::Told;
use super::{tags, wire};
use crate::core::name::Name;
use crate::core::operation::Outcome;
use crate::core::role::Role;
use crate::core::timestamp::Timestamp;
use crate::engine::{NotAccepted, NotDone};
use crate::journal::JournalError;

/// How long a client should wait before it asks a journal again that could not answer, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

/// What a route comes to.
pub(super) type Answer = Result<Response, Problem>;

/// What went wrong with a request.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    parameter: Option<String>,
    required_role: Option<Role>,
    problems: Vec<String>,
    hint: Hint,
}

/// What the answer's header adds.
#[derive(Debug, Clone)]
enum Hint {
    None,
    Allow(String),
    Authenticate(&'static str),
    RetryLater,
    RetryAfter(u64),
}

impl warp::reject::Reject for Problem {}

impl Problem {
    /// A problem of this kind.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let (detail, problems) = (detail.into(), Vec::new());
        Self { status, detail, parameter: None, required_role: None, problems, hint: Hint::None }
    }

    /// 422: all of this is wrong.
    pub(super) fn faults(detail: &str, problems: Vec<String>) -> Self {
        let detail = match problems.as_slice() {
            [only] => format!("{detail}: {only}"),
            several => format!("{detail}: {} problems", several.len()),
        };
        Self { problems, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// 400: this query parameter or field is wrong.
    pub(super) fn parameter(name: &str, what: &str) -> Self {
        let detail = format!("`{name}` {what}");
        Self { parameter: Some(name.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    /// 404: there is no such thing.
    pub(super) fn missing(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, what)
    }

    /// 405, with what is allowed.
    pub(super) fn method(allowed: &[Method]) -> Self {
        let detail = format!("this path answers to {}", list(allowed));
        Self { hint: Hint::Allow(list(allowed)), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    /// 401, with how to do it right.
    pub(super) fn unauthorized(challenge: &'static str, detail: &str) -> Self {
        Self { hint: Hint::Authenticate(challenge), ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    /// 403: this takes another role.
    pub(super) fn forbidden(name: &Name, role: Role, needed: Role) -> Self {
        let (role, needed_word) = (role.as_str(), needed.as_str());
        let detail = format!("this takes the role `{needed_word}`; the token `{name}` has `{role}`");
        Self { required_role: Some(needed), ..Self::new(StatusCode::FORBIDDEN, detail) }
    }

    /// 421: this is not a name of ours.
    pub(super) fn misdirected() -> Self {
        let detail = "this Host is not one of the admin listener's names; add it to admin.hosts in the config";
        Self::new(StatusCode::MISDIRECTED_REQUEST, detail)
    }

    /// 429: too many wrong tokens came from there.
    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs() + 1;
        let detail = "too many tokens that are nobody's came from this address; wait, and look which token it is";
        Self { hint: Hint::RetryAfter(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// 503: ask again later.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self { hint: Hint::RetryLater, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// 500: what was to be done has panicked.
    pub(super) fn panicked(_: JoinError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug in backstop; see its log")
    }

    /// What the register says of it.
    pub(super) fn outcome(&self, at: Timestamp) -> Outcome {
        Outcome::new(at, self.status.as_u16(), &self.detail)
    }

    /// What is wrong, for people.
    pub(super) fn into_detail(self) -> String {
        self.detail
    }

    /// The answer that says so.
    pub(super) fn into_response(self) -> Response {
        let told = Told(self.detail.clone());
        let problem = wire::Problem {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Problem").into(),
            status: self.status.as_u16(),
            detail: self.detail,
            parameter: self.parameter,
            required_role: self.required_role.map(|role| role.as_str().into()),
            problems: self.problems,
        };
        let mut response = body(self.status, "application/problem+json", &problem);
        response.extensions_mut().insert(told);
        if let Some((name, value)) = self.hint.header() {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl Hint {
    fn header(self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::None => None,
            Self::Allow(allowed) => HeaderValue::from_str(&allowed).ok().map(|list| (ALLOW, list)),
            Self::Authenticate(challenge) => Some((WWW_AUTHENTICATE, HeaderValue::from_static(challenge))),
            Self::RetryLater => Some((RETRY_AFTER, RETRY_AFTER_S)),
            Self::RetryAfter(seconds) => Some((RETRY_AFTER, seconds.into())),
        }
    }
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<NotAccepted> for Problem {
    fn from(not_accepted: NotAccepted) -> Self {
        Self::unavailable(not_accepted.to_string())
    }
}

impl From<NotDone> for Problem {
    fn from(not_done: NotDone) -> Self {
        let status = match &not_done {
            NotDone::Missing => StatusCode::NOT_FOUND,
            NotDone::PayloadGone => StatusCode::GONE,
            NotDone::UnknownEndpoint(_) | NotDone::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotDone::InFlight | NotDone::Ended | NotDone::AlreadyScheduled => StatusCode::CONFLICT,
            NotDone::Journal(error) => return error.clone().into(),
        };
        Self::new(status, not_done.to_string())
    }
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    body(status, "application/json", value)
}

/// An answer in JSON, and what the register is to say that it did.
pub(super) fn json_telling(status: StatusCode, value: &impl Serialize, told: String) -> Response {
    let mut response = json(status, value);
    response.extensions_mut().insert(Told(told));
    response
}

fn body(status: StatusCode, content_type: &'static str, value: &impl Serialize) -> Response {
    // The wire's types always serialize: their maps have text keys, and nothing in them can fail.
    json_bytes(status, content_type, serde_json::to_vec(value).unwrap_or_default().into())
}

/// An answer in JSON that is written already.
pub(super) fn json_bytes(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Response {
    let tag = (status == StatusCode::OK).then(|| tags::of(&bytes)).flatten();
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(tag.map(|tag| (ETAG, tag)));
    response
}
