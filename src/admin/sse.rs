//! An answer that goes on: server-sent events (the WHATWG's HTML standard, section 9.2), never kept and never gathered.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, HeaderName};
use warp::Reply as _;
use warp::reply::Response;
use warp::sse::Event;

/// How often a stream without news shows that it is there.
pub(super) const QUIET_MAX: Duration = Duration::from_secs(10);
/// When a client that lost the stream comes again.
pub(super) const COME_AGAIN: Duration = Duration::from_secs(2);
/// Proxies that gather what is streamed are asked not to.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The answer that is these events, with a comment where there is none for long.
pub(super) fn streamed(events: impl Stream<Item = Event> + Send + Sync + 'static) -> Response {
    let events = warp::sse::keep_alive().interval(QUIET_MAX).stream(events.map(Ok::<Event, Infallible>));
    let mut response = warp::sse::reply(events).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    response
}
