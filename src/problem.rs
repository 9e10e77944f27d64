//! Problem details (RFC 9457): the one form in which every HTTP face of backstop says no.
//!
//! The `type` is left out, which means `about:blank`: the status says what kind of problem it is. What a
//! program may want to read besides stands in extra members. No problem holds a secret or a body.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};
use warp::reply::Response;

/// The media type of a problem.
pub const CONTENT_TYPE_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An answer with `status` whose body is the problem: `title` says what in a few words, `detail` what of
/// this request, `extra` adds members (the standard ones cannot be overwritten).
#[must_use]
pub fn response(status: StatusCode, title: &str, detail: &str, extra: &[(&str, Value)]) -> Response {
    let mut problem: Map<String, Value> =
        extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    problem.insert("title".to_owned(), title.into());
    problem.insert("status".to_owned(), status.as_u16().into());
    problem.insert("detail".to_owned(), detail.into());
    let mut response = Response::new(Value::Object(problem).to_string().into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_JSON);
    response
}
