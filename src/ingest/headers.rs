//! Which of the sender's headers an event keeps.
//!
//! All of them, in the request's order by name, except those that speak of this connection and this
//! message's framing: hop-by-hop ones (RFC 9110, 7.6.1), what Connection names, Host, Content-Length,
//! Expect; without what shows who the sender is; and without a trace context that is none (W3C Trace Context),
//! which would lead whoever gets it astray. Values are the bytes as they came.

use bytes::{BufMut as _, BytesMut};
use http::HeaderMap;
use http::header::CONNECTION;

use crate::core::event::Header;
use crate::core::trace::{TRACEPARENT, TRACESTATE, TraceParent, is_state};

/// Most bytes of names and values that one event keeps; above it 431.
pub const HEADERS_KEPT_MAX_BYTES: usize = 16 << 10;

/// Names that mean something only between the sender and us. Credentials among them are never stored.
const DROPPED: [&str; 15] = [
    "authorization",
    "connection",
    "cookie",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "expect",
    "http2-settings",
];

/// The headers to keep, without `credential`; `None` if they are more than [`HEADERS_KEPT_MAX_BYTES`].
pub(super) fn kept(headers: &HeaderMap, credential: Option<&str>) -> Option<Vec<Header>> {
    let is_framing = |name: &str| DROPPED.contains(&name) || named_by_connection(headers, name);
    let (has_trace, has_state) = traced(headers);
    let is_astray = |name: &str| (!has_trace && name == TRACEPARENT) || (!has_state && name == TRACESTATE);
    let passes = |name: &str| Some(name) != credential && !is_framing(name) && !is_astray(name);
    let kept = || headers.iter().filter(|(name, _)| passes(name.as_str()));
    let (mut name_bytes, mut value_bytes, mut count) = (0, 0, 0);
    for (name, value) in kept() {
        name_bytes += name.as_str().len();
        value_bytes += value.len();
        count += 1;
    }
    if name_bytes + value_bytes > HEADERS_KEPT_MAX_BYTES {
        return None;
    }
    // One allocation for all values. They are copied out of the connection's read buffer, as the body is.
    let mut values = BytesMut::with_capacity(value_bytes);
    let mut list = Vec::with_capacity(count);
    for (name, value) in kept() {
        values.put_slice(value.as_bytes());
        list.push(Header { name: name.as_str().to_owned(), value: values.split().freeze() });
    }
    Some(list)
}

/// Whether there is a trace context that can be relied on, and whether what vendors add to it can be.
fn traced(headers: &HeaderMap) -> (bool, bool) {
    let values = |name| headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    let has_trace = TraceParent::only(values(TRACEPARENT)).is_some();
    (has_trace, has_trace && is_state(values(TRACESTATE)))
}

fn named_by_connection(headers: &HeaderMap, name: &str) -> bool {
    let options = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
}
