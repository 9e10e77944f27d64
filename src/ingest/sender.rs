//! Who sends: a request as the core's verification sees it, and what is said to who asks before it sends.

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue};
use warp::reply::Response;

use super::away::Away;
use crate::core::timestamp::Timestamp;
use crate::core::verify::handshake::Reply;
use crate::core::verify::{Denied, Headers, Request, Scheme, Verification};

/// What the scheme of a challenge is called where HTTP has no name for it.
const UNNAMED: &str = "Webhook";

/// All that is known of a request but its body.
pub(super) struct Sender {
    pub(super) now: Timestamp,
    pub(super) peer: Option<IpAddr>,
    /// What follows the source in the path.
    pub(super) token: Option<String>,
    /// The path and the query, as they came.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
}

impl Sender {
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            now: self.now,
            peer: self.peer,
            token: self.token.as_deref(),
            target: &self.target,
            headers: &self.headers,
        }
    }
}

impl Headers for HeaderMap {
    fn values<'a>(&'a self, name: &str) -> Vec<&'a [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    }
}

/// The no to a sender that `verification` denies.
pub(super) fn denied(verification: &Verification, denied: Denied) -> Away {
    let challenge = match &verification.scheme {
        Scheme::Credential(credential) => credential.challenge(),
        _ => None,
    };
    Away::Denied { denied, challenge: challenge.unwrap_or(UNNAMED), on_fail: verification.on_fail }
}

/// The answer to a handshake. Part of it is what was asked: no browser may take it for anything but what it says.
pub(super) fn answer(reply: Reply) -> Response {
    let mut response = Response::new(reply.body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
