//! Verification: whether a request comes from who its source says it does, judged over the bytes as they came.
//!
//! In two steps. What stands before a body is asked first ([`Verification::knock`]): the address, the token in the
//! path, a password or key in a header. Then the body is proven ([`Verification::prove`]) by what `standard`, `hmac`,
//! `twilio` or `client_state` check. A source may have several secrets while one is being changed; each is tried, all
//! are always tried, and comparing takes a time that depends on no secret. A signed time must be near ours, both ways.
//! What is denied is told with a reason that never holds a secret, nor what would have been right.
//!
//! Absent: seeing to it that one message is not taken twice. A proof names the message, and the source's rule for
//! duplicates does the rest ([`source`](super::source)): a sender that repeats itself is answered as it was first.
//!
//! `credential` what is shown as it is · `network` addresses · `standard` Standard Webhooks · `hmac` a signature
//! by recipe · `twilio` · `client_state` Microsoft's · `handshake` what providers ask before they send · `recipes` of those
//! that are known by name.

mod client_state;
pub mod credential;
pub mod handshake;
pub mod hmac;
pub mod network;
pub mod recipes;
mod standard;
mod twilio;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::core::secret::Secret;
use crate::core::source::Fields;
use crate::core::timestamp::Timestamp;
use credential::Credential;
use handshake::Handshake;
use hmac::Recipe;
use network::Allowed;

/// Most signatures of one request that are looked at; more of them is no honest request.
const SIGNATURES_MAX: usize = 16;
/// Longest message id, in bytes.
const ID_LEN_MAX: usize = 256;
/// How far a sender's clock may be from ours where nothing else is said: what the providers' libraries allow.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// How a source knows its sender. The default takes everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Who may connect; `None`: everybody.
    pub allowed: Option<Allowed>,
    /// Of these one must end the path, if there are any.
    pub tokens: Vec<Secret>,
    /// How a request shows or proves that its sender knows one of the secrets.
    pub scheme: Scheme,
    /// The first is current, the others are being rotated out.
    pub secrets: Vec<Secret>,
    /// How far a signed time may be from now, either way.
    pub tolerance: Duration,
    /// What stands before the path in the URL that senders call, for those that sign it.
    pub public_url: Option<String>,
    /// What the provider asks before it sends.
    pub handshake: Option<Handshake>,
    /// What becomes of a request that is denied.
    pub on_fail: OnFail,
}

/// How a request shows or proves that its sender knows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// It does not.
    Open,
    /// It shows it.
    Credential(Credential),
    /// Standard Webhooks, by `webhook-` or `svix-` headers.
    Standard,
    /// An HMAC by a recipe.
    Hmac(Recipe),
    /// An HMAC over the URL and the form, or the URL with the body's hash in it.
    Twilio,
    /// Microsoft Graph: each notification in the body shows it.
    ClientState,
}

/// What becomes of a request that is denied. It is answered alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFail {
    /// It is noted, without its headers and body.
    #[default]
    Reject,
    /// It is kept, and an operator may have an event made of it.
    Quarantine,
}

/// A request's headers, as they came.
pub trait Headers {
    /// Every value of the header `name` (lower case), in order.
    fn values<'a>(&'a self, name: &str) -> Vec<&'a [u8]>;
}

/// A request, as far as it stands before its body.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Now.
    pub now: Timestamp,
    /// Who sent it, as far as the network knows.
    pub peer: Option<IpAddr>,
    /// What follows the source in the path.
    pub token: Option<&'a str>,
    /// The path, and the query with its `?`, as they came.
    pub target: &'a str,
    /// As they came.
    pub headers: &'a dyn Headers,
}

/// What a request has proven.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// Which secret it was, by its place in the config; none where nothing had to be shown.
    pub secret: Option<usize>,
    /// The message's id, if it is signed.
    pub id: Option<String>,
    /// Whether the body is signed; then with this time, if a time is signed, too.
    pub signed: Option<Option<u64>>,
}

/// Why a request is denied. Its text holds nothing of the request, and nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It comes from an address that may not send.
    Address,
    /// The path does not end in the token.
    Token,
    /// The header that should prove it is not there.
    Missing {
        /// Which.
        header: String,
    },
    /// The header is there more than once.
    Repeated {
        /// Which.
        header: String,
    },
    /// What should prove it cannot be read.
    Malformed {
        /// Where it stands.
        place: String,
    },
    /// No secret fits.
    Mismatch,
    /// It is signed, but its time is too far from now.
    Stale {
        /// How far, in milliseconds; less than zero: it is of the past.
        skew_ms: i64,
        /// How far it may be.
        tolerance: Duration,
    },
    /// The signature would hold for any body.
    Uncovered,
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            allowed: None,
            tokens: Vec::new(),
            scheme: Scheme::Open,
            secrets: Vec::new(),
            tolerance: TOLERANCE,
            public_url: None,
            handshake: None,
            on_fail: OnFail::Reject,
        }
    }
}

impl Verification {
    /// Whether anybody who reaches the listener can send.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.scheme, Scheme::Open) && self.tokens.is_empty() && self.allowed.is_none()
    }

    /// Whether it takes the whole body to know the sender.
    #[must_use]
    pub const fn proves_bodies(&self) -> bool {
        !matches!(self.scheme, Scheme::Open | Scheme::Credential(_))
    }

    /// The header with a secret in it that is shown as it is, besides Authorization: whoever keeps headers leaves it out.
    #[must_use]
    pub fn credential_header(&self) -> Option<&str> {
        match &self.scheme {
            Scheme::Credential(Credential::Header(name)) => Some(name),
            _ => None,
        }
    }

    /// Asks what can be asked before there is a body.
    pub fn knock(&self, request: &Request<'_>) -> Result<(), Denied> {
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.admits(request.peer, request.headers)) {
            return Err(Denied::Address);
        }
        if !self.tokens.is_empty() {
            let token = request.token.unwrap_or_default().as_bytes();
            credential::which(&self.tokens, token).ok_or(Denied::Token)?;
        }
        match &self.scheme {
            Scheme::Credential(credential) => credential.check(&self.secrets, request.headers).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Asks everything: what [`knock`](Self::knock) does, and that the body is the sender's.
    pub fn prove(&self, request: &Request<'_>, body: &[u8], fields: &dyn Fields) -> Result<Proof, Denied> {
        self.knock(request)?;
        let shown = |secret| Proof { secret: Some(secret), ..Proof::default() };
        match &self.scheme {
            Scheme::Open => Ok(Proof::default()),
            Scheme::Credential(credential) => credential.check(&self.secrets, request.headers).map(shown),
            Scheme::Standard => standard::prove(self, request, body),
            Scheme::Hmac(recipe) => recipe.prove(self, request, body),
            Scheme::Twilio => twilio::prove(self, request, body),
            Scheme::ClientState => client_state::prove(&self.secrets, fields).map(shown),
        }
    }

    /// The id that a message says it has, whether that is proven or not.
    #[must_use]
    pub fn claimed_id(&self, headers: &dyn Headers) -> Option<String> {
        match &self.scheme {
            Scheme::Standard => standard::claimed_id(headers),
            Scheme::Hmac(recipe) => recipe.claimed_id(headers),
            _ => None,
        }
    }

    /// Whether a signed time is near enough.
    fn is_fresh(&self, now: Timestamp, signed_ms: u64) -> Result<(), Denied> {
        let (now, signed) = (i128::from(now.millis()), i128::from(signed_ms));
        let skew_ms = i64::try_from(signed - now).unwrap_or(i64::MAX);
        if u128::from(skew_ms.unsigned_abs()) <= self.tolerance.as_millis() {
            Ok(())
        } else {
            Err(Denied::Stale { skew_ms, tolerance: self.tolerance })
        }
    }
}

/// The one value of the header `name`.
fn one<'a>(headers: &'a dyn Headers, name: &str) -> Result<&'a [u8], Denied> {
    match headers.values(name).as_slice() {
        [] => Err(Denied::Missing { header: name.to_owned() }),
        [one] => Ok(one),
        _ => Err(Denied::Repeated { header: name.to_owned() }),
    }
}

fn malformed(place: &str) -> Denied {
    Denied::Malformed { place: place.to_owned() }
}

/// A count of seconds or milliseconds, written in the one way there is: digits, no sign, no zero before them.
fn digits(text: &[u8]) -> Option<u64> {
    let plain = text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text.first() != Some(&b'0'));
    let text = std::str::from_utf8(text).ok().filter(|text| plain && (1..=16).contains(&text.len()))?;
    text.parse().ok()
}

/// A message's id: something, visible, not too long, and without `without`, which would blur where it ends.
fn id(text: &[u8], without: Option<u8>) -> Option<&str> {
    let plain = |byte: &u8| byte.is_ascii_graphic() && Some(*byte) != without;
    let fits = (1..=ID_LEN_MAX).contains(&text.len()) && text.iter().all(plain);
    std::str::from_utf8(text).ok().filter(|_| fits)
}

impl Denied {
    /// The status it is answered with.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Address => 403,
            _ => 401,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("this address may not send here"),
            Self::Token => f.write_str("the token at the end of the path is missing or wrong"),
            Self::Missing { header } => write!(f, "there is no {header} header, which this source asks for"),
            Self::Repeated { header } => write!(f, "the {header} header is there more than once"),
            Self::Malformed { place } => write!(f, "the {place} is not as this source's senders write it"),
            Self::Mismatch => f.write_str("it does not fit any secret of this source"),
            Self::Stale { skew_ms, tolerance } => {
                let side = if *skew_ms < 0 { "behind" } else { "ahead of" };
                let seconds = skew_ms.unsigned_abs() / 1000;
                write!(f, "it was signed {seconds} s {side} the clock here; at most {tolerance:?} are allowed")
            }
            Self::Uncovered => f.write_str("the signature does not cover the body"),
        }
    }
}

impl std::error::Error for Denied {}

#[cfg(test)]
mod tests;
