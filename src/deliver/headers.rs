//! The headers of an attempt: ours, the endpoint's, the sender's.
//!
//! In this order, the earlier winning over the later:
//! 1. what is known of the delivery: `backstop-delivery`, `backstop-attempt` (from 1), `backstop-received-at`
//!    (RFC 3339), `backstop-event-type`, `backstop-key` if the event has one, `backstop-replay` (a replay's id,
//!    or `manual`) if it is a repeat; and Content-Length, which an empty body has too;
//! 2. the signing headers;
//! 3. the endpoint's configured headers, and `user-agent: backstop/<version>`;
//! 4. the sender's kept headers, as they came, duplicates and bytes beyond ASCII included, but for those that
//!    - belong to the hop from sender to us: hop-by-hop ones (RFC 9110, 7.6.1) and what Connection names, Host,
//!      the length, the sender's credentials, Accept-Encoding (answers are kept as they come), User-Agent;
//!    - say who somebody is or what is meant, and would be believed because we say it: `forwarded`,
//!      `x-forwarded-…` and their kin, and what overrides a request's method or path;
//!    - only we may say: `webhook-…`, `backstop-…`, and whatever stands above;
//!    - would be a trace context and are none (`traceparent`, `tracestate`). What is one passes as it came: the parent
//!      that it names is known where traces are kept, and one of ours would not be. Only where attempts are told of
//!      in traces (`context`) it is the attempt that calls the endpoint.
//!
//! Many receivers cannot tell `_` from `-` in a name (CGI and all that came of it), so neither is told here.
//!
//! Event types and keys are any text: in them `%` and every byte that is not visible ASCII stand
//! percent-encoded, so that a receiver can always decode and gets exactly the text back.
//!
//! A sender's provider signature (`x-hub-signature-256`, `stripe-signature`, `svix-…`) passes unless the endpoint
//! signs in that style, so that a receiver can check the provider itself.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use crate::core::event::Header;
use crate::core::sign::Signing;
use crate::core::trace::{TRACEPARENT, TRACESTATE, TraceParent};
use crate::engine::Sending;

/// What we call ourselves, unless the endpoint's headers say otherwise.
const OUR_NAME: HeaderValue = HeaderValue::from_static(concat!("backstop/", env!("CARGO_PKG_VERSION")));

/// Names that belong to one hop and to the framing of one message, apart from `proxy-…`.
const HOP_NAMES: [&str; 9] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "http2-settings",
];

/// Further names of the sender's that are not passed on.
const KEPT_BACK: [&str; 22] = [
    "host",
    "accept-encoding",
    "authorization",
    "cookie",
    "user-agent",
    // Who the sender is.
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    // What is meant.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-method",
];
/// How names begin that are not passed on.
const KEPT_BACK_PREFIXES: [&str; 4] = ["webhook-", "backstop-", "x-forwarded-", "proxy-"];

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
pub(super) fn headers(sending: &Sending, context: Option<TraceParent>) -> Result<HeaderMap, HeaderError> {
    let draft = &sending.event.draft;
    let mut headers = HeaderMap::with_capacity(draft.headers.len() + sending.endpoint.headers.len() + 12);
    headers.insert(USER_AGENT, OUR_NAME);
    configured(&mut headers, &sending.endpoint.headers)?;
    let id = sending.event.id.to_string();
    for (name, value) in sending.endpoint.signing.headers(&id, sending.now, &draft.body) {
        set(&mut headers, name, value)?;
    }
    known(&mut headers, sending)?;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(draft.body.len()));
    let is_own = headers.contains_key(TRACEPARENT);
    pass_on(&mut headers, &draft.headers, &sending.endpoint.signing);
    match context {
        Some(context) if !is_own => set(&mut headers, TRACEPARENT, context.to_string())?,
        _ => {}
    }
    Ok(headers)
}

/// Adds the sender's headers that may pass, where nothing of ours has their name.
fn pass_on(headers: &mut HeaderMap, sent: &[Header], signing: &Signing) {
    // Both are told of the same trace, or neither.
    let is_traced = TraceParent::of(sent).is_some() && !headers.contains_key(TRACEPARENT);
    let is_astray = |name: &str| matches!(name, TRACEPARENT | TRACESTATE) && !is_traced;
    let options = || sent.iter().filter(|header| header.name == CONNECTION.as_str());
    let passing = sent.iter().filter(|header| {
        let name = seen_as(&header.name);
        let is_named = || options().any(|connection| names(&connection.value, &header.name));
        passes(&name) && !is_astray(&name) && !signs(signing, &name) && !headers.contains_key(&*name) && !is_named()
    });
    let read = |header: &Header| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_maybe_shared(header.value.clone()).ok()?))
    };
    // All are chosen before the first is added: it must not keep out others of its own name.
    let passing: Vec<_> = passing.filter_map(read).collect();
    for (name, value) in passing {
        headers.append(name, value);
    }
}

/// The name as a receiver may see it that makes a variable of it.
fn seen_as(name: &str) -> Cow<'_, str> {
    if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) }
}

fn passes(name: &str) -> bool {
    let is_kept_back = || KEPT_BACK_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    !is_hop(name) && !KEPT_BACK.contains(&name) && !is_kept_back()
}

/// Whether a receiver that checks such signatures would take this header for part of one.
fn signs(signing: &Signing, name: &str) -> bool {
    match signing {
        Signing::Off => false,
        Signing::Standard(_) => name.starts_with("svix-"),
        Signing::Github(_) => matches!(name, "x-hub-signature" | "x-hub-signature-256"),
        Signing::Stripe(_) => name == "stripe-signature",
    }
}

fn is_hop(name: &str) -> bool {
    HOP_NAMES.contains(&name) || name.starts_with("proxy-")
}

/// Whether the Connection value `options` names the header `name`.
fn names(options: &[u8], name: &str) -> bool {
    options.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Puts the endpoint's headers in; framing is not theirs to say.
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
    fn names_are_judged_as_a_receiver_may_see_them() {
        for denied in ["webhook_id", "Webhook-Id", "x_forwarded_for", "transfer_encoding", "backstop_replay", "host"] {
            assert!(!passes(&seen_as(&denied.to_lowercase())), "{denied}");
        }
        for passing in ["x-forward", "content-type", "x-request-id", "svix-id", "stripe-signature", "hosts"] {
            assert!(passes(&seen_as(passing)), "{passing}");
        }
        let (standard, github) = (Signing::Standard(vec![]), Signing::Github(vec![]));
        assert!(signs(&standard, "svix-id") && !signs(&standard, "stripe-signature"));
        assert!(signs(&github, "x-hub-signature") && !signs(&Signing::Off, "x-hub-signature-256"));
    }

    #[test]
    fn connection_options_are_found_in_any_spelling() {
        assert!(names(b"close, X-Hop", "x-hop"));
        assert!(!names(b"close, x-hopper", "x-hop"));
        assert!(!names(b"", "x-hop"));
    }
}
