//! How an accepted event is answered, prepared once per source.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use warp::reply::Response;

use crate::core::source::Ack;
use crate::engine::Accepted;

/// Tells a sender that wants to know that the event was there already.
const DUPLICATE: HeaderName = HeaderName::from_static("backstop-duplicate");
/// What stands for the event's id in a configured body.
const ID: &str = "{id}";

/// An [`Ack`], ready to be sent.
pub(super) struct Template {
    status: StatusCode,
    content_type: HeaderValue,
    body: Body,
}

enum Body {
    /// `{"id":"evt_…"}`.
    Id,
    /// Always the same; empty where the status allows none.
    Fixed(Bytes),
    /// A text with [`ID`] in it.
    WithId(String),
}

impl Template {
    pub(super) fn new(ack: &Ack) -> Self {
        // The config lets no other status or content type through.
        let status = StatusCode::from_u16(ack.status).unwrap_or(StatusCode::ACCEPTED);
        let content_type = HeaderValue::from_str(&ack.content_type);
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        let body = match &ack.body {
            _ if bodiless => Body::Fixed(Bytes::new()),
            None => Body::Id,
            Some(text) if text.contains(ID) => Body::WithId(text.clone()),
            Some(text) => Body::Fixed(Bytes::copy_from_slice(text.as_bytes())),
        };
        let json = HeaderValue::from_static("application/json");
        Self { status, content_type: content_type.unwrap_or(json), body }
    }

    /// The answer. A duplicate's is the first one's, but for a header.
    pub(super) fn response(&self, accepted: &Accepted) -> Response {
        let id = accepted.id;
        let body = match &self.body {
            Body::Id => Bytes::from(format!("{{\"id\":\"{id}\"}}")),
            Body::Fixed(body) => body.clone(),
            Body::WithId(text) => Bytes::from(text.replace(ID, &id.to_string())),
        };
        let typed = !body.is_empty();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if typed {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
        }
        if accepted.duplicate.is_some() {
            headers.insert(DUPLICATE, HeaderValue::from_static("true"));
        }
        response
    }
}
