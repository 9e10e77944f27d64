//! What a provider asks before it sends: that whoever owns the URL wants its events.
//!
//! - Slack posts a challenge that is to be said back; it is signed, and only a signed one is answered.
//! - Zoom posts a token that is to be signed with the secret. Only a signed request is answered, and only a token that
//!   cannot be a message of Zoom's: or else anybody could have anything signed here.
//! - Meta GETs with a token that was agreed on, and a challenge to be said back.
//! - Microsoft Graph posts with a token in the query that is to be said back. It proves nothing and is answered to
//!   everybody who may knock; so it is text, not HTML, and the answer is said to be nothing else.

use super::credential;
use super::{Denied, Proof, Request, Verification, malformed};
use crate::core::form;
use crate::core::secret::{Hash, Secret, hex};
use crate::core::source::Fields;

/// Longest challenge or token that is said back, in bytes.
const ECHO_LEN_MAX: usize = 4096;

/// Whose handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// `url_verification`.
    Slack,
    /// `endpoint.url_validation`.
    Zoom,
    /// `hub.challenge`, for one of these tokens.
    Meta(Vec<Secret>),
    /// `validationToken`.
    Microsoft,
}

/// What is said to who asked. The status is 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The body's type.
    pub content_type: &'static str,
    /// What is said.
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Handshake {
    /// Whether it comes as a GET.
    #[must_use]
    pub const fn is_a_get(&self) -> bool {
        matches!(self, Self::Meta(_))
    }
}

impl Verification {
    /// The answer to a GET, which is nothing but a handshake.
    pub fn greet(&self, request: &Request<'_>) -> Result<Reply, Denied> {
        let Some(Handshake::Meta(tokens)) = &self.handshake else { return Err(malformed("query")) };
        self.knock(request)?;
        let query = |name| form::value(query(request), name).unwrap_or_default();
        let known = credential::which(tokens, &query("hub.verify_token"));
        if query("hub.mode") != b"subscribe" || known.is_none() {
            return Err(Denied::Mismatch);
        }
        echo(query("hub.challenge"), "query")
    }

    /// The answer to a POST that is a handshake before anything is proven.
    pub fn welcome(&self, request: &Request<'_>) -> Option<Result<Reply, Denied>> {
        if self.handshake != Some(Handshake::Microsoft) {
            return None;
        }
        let token = form::value(query(request), "validationToken")?;
        Some(self.knock(request).and_then(|()| echo(token, "query")))
    }

    /// The answer to a POST that is a handshake, once it is proven.
    pub fn answer(&self, proof: &Proof, fields: &dyn Fields) -> Option<Result<Reply, Denied>> {
        match &self.handshake {
            Some(Handshake::Slack) if fields.text("/type").as_deref() == Some("url_verification") => {
                Some(echo(fields.text("/challenge").unwrap_or_default().into_bytes(), "challenge"))
            }
            Some(Handshake::Zoom) if fields.text("/event").as_deref() == Some("endpoint.url_validation") => {
                Some(self.sign_token(proof, &fields.text("/payload/plainToken").unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// Zoom's token, signed with the secret that its request was signed with.
    fn sign_token(&self, proof: &Proof, token: &str) -> Result<Reply, Denied> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+/=".contains(&byte);
        let secret = proof.secret.and_then(|secret| self.secrets.get(secret));
        let signed = secret.and_then(|secret| secret.mac(Hash::Sha256, &[token.as_bytes()]));
        match signed.filter(|_| (1..=ECHO_LEN_MAX).contains(&token.len()) && token.bytes().all(plain)) {
            Some(mac) => {
                let body = format!(r#"{{"plainToken":"{token}","encryptedToken":"{}"}}"#, hex(&mac));
                Ok(Reply { content_type: JSON, body })
            }
            None => Err(malformed("plainToken")),
        }
    }
}

fn query<'a>(request: &Request<'a>) -> &'a [u8] {
    request.target.split_once('?').map_or(b"", |(_, query)| query.as_bytes())
}

/// Says back what is a text of a bearable length.
fn echo(said: Vec<u8>, place: &str) -> Result<Reply, Denied> {
    let text = String::from_utf8(said)
        .ok()
        .filter(|text| (1..=ECHO_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control));
    text.map(|body| Reply { content_type: TEXT, body }).ok_or_else(|| malformed(place))
}
