//! The answer, read to its caps and no further.
//!
//! Once status and headers are here the attempt is decided; the body is kept for people. So whatever
//! then goes wrong (too long, too slow, broken off) only marks the body as cut. A body that goes on after
//! its cap is not drained: dropping it closes the connection, which costs less than an endless answer.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, RETRY_AFTER};
use reqwest::Response;

use crate::core::attempt::{Answer, RESPONSE_HEADERS_KEPT_MAX_BYTES, RESPONSE_KEPT_MAX_BYTES};
use crate::core::event::Header;
use crate::core::retry::parse_retry_after;
use crate::core::timestamp::Timestamp;

/// Reads `response`, spending at most `left` on its body. Its Retry-After waits to be resolved.
pub(super) async fn read(mut response: Response, left: Duration) -> Unresolved {
    let mut body = Vec::new();
    let whole = tokio::time::timeout(left, keep(&mut response, &mut body)).await.unwrap_or(false);
    Unresolved { response, body: Bytes::from(body), body_cut: !whole }
}

/// An answer whose Retry-After is still text: a date becomes a span only when the time is known.
pub(super) struct Unresolved {
    response: Response,
    body: Bytes,
    body_cut: bool,
}

impl Unresolved {
    /// The answer of an attempt that ended at `ended_at`.
    pub(super) fn resolve(self, ended_at: Timestamp) -> Answer {
        let headers = self.response.headers();
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        Answer {
            status: self.response.status().as_u16(),
            headers: kept(headers),
            body: self.body,
            body_cut: self.body_cut,
            retry_after: asked.and_then(|value| parse_retry_after(value, ended_at)),
        }
    }
}

/// Reads up to the cap into `body`; whether that was all.
async fn keep(response: &mut Response, body: &mut Vec<u8>) -> bool {
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = RESPONSE_KEPT_MAX_BYTES.saturating_sub(body.len());
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if chunk.len() > room {
                    return false;
                }
            }
            Ok(None) => return true,
            Err(_broken_off) => return false,
        }
    }
}

/// The headers that fit, in order; copied, because they would hold on to the connection's whole buffer.
fn kept(headers: &HeaderMap) -> Vec<Header> {
    let mut room = RESPONSE_HEADERS_KEPT_MAX_BYTES;
    let mut kept = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let Some(rest) = room.checked_sub(name.as_str().len() + value.len()) else { continue };
        room = rest;
        kept.push(Header { name: name.as_str().to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) });
    }
    kept
}
