//! The headers of an attempt: the sender's, the endpoint's, ours.
//!
//! In this order, the later winning over the earlier:
//! 1. the sender's kept headers, as they came, duplicates and bytes beyond ASCII included, without those
//!    that belong to the hop from sender to us: hop-by-hop ones (RFC 9110, 7.6.1), Host, the length, the
//!    sender's credentials (meant for us), Accept-Encoding (answers are kept as they come), User-Agent;
//!    and without `webhook-…` and `backstop-…`, which only we may say;
//! 2. `user-agent: backstop/<version>`, then the endpoint's configured headers;
//! 3. the signing headers;
//! 4. what is known of the delivery: `backstop-delivery`, `backstop-attempt` (from 1),
//!    `backstop-received-at` (RFC 3339), `backstop-event-type`, `backstop-key` if the event has one,
//!    `backstop-replay` (a replay's id, or `manual`) if it is a repeat;
//! 5. Content-Length, which an empty body has too.
//!
//! Event types and keys are any text: in them `%` and every byte that is not visible ASCII stand
//! percent-encoded, so that a receiver can always decode and gets exactly the text back.
//!
//! A sender's provider signature (`x-hub-signature-256`, `stripe-signature`) passes unless the endpoint
//! signs in that style, so that a receiver can check the provider itself.

use std::fmt;
use std::fmt::Write as _;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use crate::core::event::Header;
use crate::engine::Sending;

/// What we call ourselves, unless the endpoint's headers say otherwise.
const OUR_NAME: HeaderValue = HeaderValue::from_static(concat!("backstop/", env!("CARGO_PKG_VERSION")));

/// Names that belong to one hop and to the framing of one message, apart from `proxy-…`.
const HOP_NAMES: [&str; 8] =
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect"];

/// Further names of the sender's that are not passed on.
const KEPT_BACK: [&str; 5] = ["host", "accept-encoding", "authorization", "cookie", "user-agent"];

/// A header that cannot be sent: its name, or nothing if not even that is one. Never its value.
#[derive(Debug)]
pub(super) struct HeaderError {
    name: Option<HeaderName>,
}

/// The headers of this attempt.
///
/// # Errors
/// A [`HeaderError`] if one of the endpoint's headers or of ours cannot be sent. A sender's that cannot is
/// left out: it came over HTTP, so there is none.
pub(super) fn headers(sending: &Sending) -> Result<HeaderMap, HeaderError> {
    let draft = &sending.event.draft;
    let mut headers = HeaderMap::with_capacity(draft.headers.len() + sending.endpoint.headers.len() + 12);
    pass_on(&mut headers, &draft.headers);
    headers.insert(USER_AGENT, OUR_NAME);
    configured(&mut headers, &sending.endpoint.headers)?;
    let id = sending.event.id.to_string();
    for (name, value) in sending.endpoint.signing.headers(&id, sending.now, &draft.body) {
        set(&mut headers, name, value)?;
    }
    known(&mut headers, sending)?;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(draft.body.len()));
    Ok(headers)
}

/// Adds the sender's headers that may pass.
fn pass_on(headers: &mut HeaderMap, sent: &[Header]) {
    let options = || sent.iter().filter(|header| header.name == CONNECTION.as_str());
    for header in sent.iter().filter(|header| passes(&header.name)) {
        if options().any(|connection| names(&connection.value, &header.name)) {
            continue;
        }
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(header.value.clone());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
}

fn passes(name: &str) -> bool {
    !is_hop(name) && !KEPT_BACK.contains(&name) && !name.starts_with("webhook-") && !name.starts_with("backstop-")
}

fn is_hop(name: &str) -> bool {
    HOP_NAMES.contains(&name) || name.starts_with("proxy-")
}

/// Whether the Connection value `options` names the header `name`.
fn names(options: &[u8], name: &str) -> bool {
    options.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Puts the endpoint's headers in place of the sender's; framing is not theirs to say.
fn configured(headers: &mut HeaderMap, configured: &[Header]) -> Result<(), HeaderError> {
    for header in configured {
        headers.remove(header.name.as_str());
    }
    for header in configured.iter().filter(|header| !is_hop(&header.name)) {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| HeaderError { name: None })?;
        let value = HeaderValue::from_maybe_shared(header.value.clone());
        let mut value = value.map_err(|_| HeaderError { name: Some(name.clone()) })?;
        value.set_sensitive(true); // often a token
        headers.append(name, value);
    }
    Ok(())
}

/// What receivers may want to know of the delivery.
fn known(headers: &mut HeaderMap, sending: &Sending) -> Result<(), HeaderError> {
    let event = &sending.event;
    set(headers, "backstop-delivery", sending.delivery.to_string())?;
    set(headers, "backstop-attempt", sending.attempt.to_string())?;
    set(headers, "backstop-received-at", event.received_at.to_string())?;
    set(headers, "backstop-event-type", percent_encoded(&event.draft.event_type))?;
    if let Some(key) = &event.draft.key {
        set(headers, "backstop-key", percent_encoded(key))?;
    }
    match sending.replay {
        Some(replay) => set(headers, "backstop-replay", replay.to_string()),
        None if sending.again => set(headers, "backstop-replay", "manual".to_owned()),
        None => Ok(()),
    }
}

fn set(headers: &mut HeaderMap, name: &str, value: String) -> Result<(), HeaderError> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError { name: None })?;
    let value = HeaderValue::try_from(value).map_err(|_| HeaderError { name: Some(name.clone()) })?;
    headers.insert(name, value);
    Ok(())
}

/// `text` with `%` and everything but visible ASCII as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(encoded, "%{byte:02X}").unwrap_or_default();
        }
    }
    encoded
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "the value of header {name} cannot be sent"),
            None => f.write_str("a configured header's name is not one"),
        }
    }
}

impl std::error::Error for HeaderError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_can_stand_in_a_header_and_be_read_back() {
        assert_eq!(percent_encoded("abc123"), "abc123");
        assert_eq!(percent_encoded("50% of\r\nö"), "50%25%20of%0D%0A%C3%B6");
        assert_eq!(percent_encoded(""), "");
    }

    #[test]
    fn connection_options_are_found_in_any_spelling() {
        assert!(names(b"close, X-Hop", "x-hop"));
        assert!(!names(b"close, x-hopper", "x-hop"));
        assert!(!names(b"", "x-hop"));
    }
}
