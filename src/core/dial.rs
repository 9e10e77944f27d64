//! A dial: how the way to an endpoint is opened. Which addresses, through which proxy, as whom, trusting whom.
//!
//! Endpoints with equal dials share their connections. Absent: files and sockets; a certificate is the text of
//! its file here, checked when it was read.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::egress::Policy;

/// How the way to an endpoint is opened. The default: by the default policy, without a proxy, as nobody, trusting
/// whom this machine trusts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Dial {
    /// Which addresses may be connected to.
    pub egress: Policy,
    /// Through whom, if not directly.
    pub proxy: Option<Proxy>,
    /// Who we are and whom we trust, where TLS is spoken.
    pub tls: Tls,
}

/// An HTTP proxy: it is told the endpoint's name, and connects in our place.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// `http://host:port/`, without credentials.
    pub url: String,
    /// Our name and password there.
    pub credentials: Option<Credentials>,
}

/// A name and a password. Never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The name, without a colon.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Who we are and whom we trust, where TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Our certificate, its chain, and its key.
    pub identity: Option<Identity>,
    /// Certificate authorities of the endpoint's own.
    pub ca: Option<Pem>,
    /// Whether the authorities that this machine trusts are trusted.
    pub machine_roots: bool,
}

/// Our certificate with its chain, and its key; both may stand in one file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The certificate first, then its chain.
    pub certificates: Pem,
    /// The key of the first certificate.
    pub key: Pem,
}

/// A PEM file as it was read. Its text is never shown: it may hold a key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pem {
    /// Which file.
    pub file: PathBuf,
    /// What is in it.
    pub text: Arc<str>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { identity: None, ca: None, machine_roots: true }
    }
}

impl Dial {
    /// The same for somebody else's endpoint: what says who we are stays at home.
    #[must_use]
    pub fn to_stranger(&self) -> Self {
        Self { tls: Tls { identity: None, ..self.tls.clone() }, ..self.clone() }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({})", self.file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_dial_is_shown() {
        let pem = || Pem { file: "client.pem".into(), text: "planted-key".into() };
        let credentials = Credentials { user: "planted-user".to_owned(), password: "planted-password".to_owned() };
        let dial = Dial {
            proxy: Some(Proxy { url: "http://proxy:3128/".to_owned(), credentials: Some(credentials.clone()) }),
            tls: Tls {
                identity: Some(Identity { certificates: pem(), key: pem() }),
                ca: Some(pem()),
                machine_roots: false,
            },
            ..Dial::default()
        };
        let shown = format!("{dial:?} {credentials:?}");
        assert!(shown.contains("client.pem") && shown.contains("proxy:3128"), "{shown}");
        assert!(!shown.contains("planted"), "{shown}");
        let to_stranger = dial.to_stranger();
        assert!(to_stranger.tls.identity.is_none() && to_stranger.tls.ca.is_some() && to_stranger.proxy == dial.proxy);
    }
}
