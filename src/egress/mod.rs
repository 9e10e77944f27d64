//! Egress: where deliveries may go, and how names become addresses.
//!
//! [`target`] says whether a text is a URL that can be delivered to at all; the [`Guard`] judges the addresses,
//! by the [policy](crate::core::egress) of the endpoint. Promise: nothing is dialled that did not pass it, at
//! every dial. Absent: a cache of names, which is the system resolver's business.

mod guard;

use std::fmt;

use reqwest::Url;

pub use guard::{Denied, DnsError, Found, Guard, Lookup, Resolver, SystemLookup};

/// Why a text is not a place to deliver to. Never holds the text, which may carry a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// It is not an absolute URL.
    NotUrl,
    /// Its scheme is neither http nor https.
    Scheme,
    /// It names no host.
    NoHost,
}

/// The parsed URL of an endpoint, if a delivery may go there.
///
/// # Errors
/// A [`TargetError`] if `text` is not an absolute http or https URL with a host.
pub fn target(text: &str) -> Result<Url, TargetError> {
    let url = Url::parse(text).map_err(|_| TargetError::NotUrl)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(TargetError::Scheme);
    }
    if url.has_host() { Ok(url) } else { Err(TargetError::NoHost) }
}

/// Whether two URLs lead to one origin (RFC 6454): scheme, host and port. What is no URL has none.
#[must_use]
pub fn is_same_origin(one: &str, other: &str) -> bool {
    let origin = |text: &str| target(text).ok().map(|url| url.origin());
    origin(one).is_some_and(|one| origin(other) == Some(one))
}

/// The certificate authorities this machine trusts. Empty where it has none: then every https endpoint
/// fails its handshake, and everything else works.
#[must_use]
pub fn native_roots() -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    let (_added, ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if ignored > 0 {
        tracing::warn!(ignored, "some of this machine's root certificates cannot be read");
    }
    if roots.is_empty() {
        tracing::warn!("this machine has no root certificates: https endpoints cannot be reached");
    }
    roots
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUrl => "the endpoint's URL is not an absolute URL",
            Self::Scheme => "the endpoint's URL is neither http nor https",
            Self::NoHost => "the endpoint's URL names no host",
        })
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let own = "https://crm.example.com/hooks?key=1";
        for same in ["https://crm.example.com/next", "https://CRM.example.com:443/"] {
            assert!(is_same_origin(own, same), "{same}");
        }
        for other in ["http://crm.example.com/hooks", "https://crm.example.com:8443/", "https://example.com/", "hooks"]
        {
            assert!(!is_same_origin(own, other), "{other}");
        }
    }

    #[test]
    fn only_absolute_http_urls_are_targets() {
        for good in ["http://127.0.0.1:1/x", "https://example.com", "HTTP://[::1]/?q=1"] {
            assert!(target(good).is_ok(), "{good}");
        }
        assert_eq!(target("/relative"), Err(TargetError::NotUrl));
        assert_eq!(target(""), Err(TargetError::NotUrl));
        assert_eq!(target("http://"), Err(TargetError::NotUrl));
        assert_eq!(target("file:///etc/passwd"), Err(TargetError::Scheme));
        assert_eq!(target("data:text/plain,x"), Err(TargetError::Scheme));
    }
}
