//! Signing: how a receiver knows that a delivery is ours and fresh.
//!
//! Standard Webhooks by default (standard-webhooks spec, "Signature scheme": HMAC-SHA256 over
//! `id.timestamp.body`, base64, `v1,`), with every configured secret while one is being rotated; the
//! GitHub style and the Stripe style for receivers that already check those. A replay signs afresh with
//! the same id, so that receivers' freshness windows pass. Absent: v1a (ed25519), which comes with the
//! inbound verification that shares its code.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::core::timestamp::Timestamp;

/// The prefix of a Standard Webhooks symmetric secret.
const SECRET_PREFIX: &str = "whsec_";
/// Shortest and longest key the spec allows, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How deliveries to an endpoint are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signing {
    /// Not at all.
    Off,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,…`, one signature per secret.
    Standard(Vec<Secret>),
    /// `X-Hub-Signature-256: sha256=<hex>` over the body, with the first secret.
    Github(Vec<Secret>),
    /// `Stripe-Signature: t=…,v1=<hex>` over `t.body`, one `v1` per secret.
    Stripe(Vec<Secret>),
}

/// A signing key. Its bytes never appear in `Debug`, logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Why a text is not a signing secret. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// No text at all.
    Empty,
    /// After `whsec_` there is no base64.
    NotBase64,
    /// The key's length is outside the spec's 24 to 64 bytes.
    Length(usize),
}

impl Secret {
    /// A Standard Webhooks secret: base64 of 24 to 64 bytes, with or without `whsec_` before it.
    pub fn standard(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
        if encoded.is_empty() {
            return Err(SecretError::Empty);
        }
        let key = BASE64.decode(encoded).map_err(|_| SecretError::NotBase64)?;
        if KEY_BYTES.contains(&key.len()) { Ok(Self(key)) } else { Err(SecretError::Length(key.len())) }
    }

    /// A secret used as its text stands (GitHub, Stripe).
    pub fn text(text: &str) -> Result<Self, SecretError> {
        if text.is_empty() { Err(SecretError::Empty) } else { Ok(Self(text.as_bytes().to_vec())) }
    }

    fn hmac(&self, parts: &[&[u8]]) -> Vec<u8> {
        // HMAC takes a key of any length, so there is no error to handle; an empty answer would fail every check.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return Vec::new() };
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

impl Signing {
    /// The headers that sign `body` as message `id` at `now`.
    #[must_use]
    pub fn headers(&self, id: &str, now: Timestamp, body: &[u8]) -> Vec<(&'static str, String)> {
        let time = now.seconds().to_string();
        match self {
            Self::Off => identity(id, time),
            Self::Standard(secrets) => {
                let sign = |secret: &Secret| {
                    let mac = secret.hmac(&[id.as_bytes(), b".", time.as_bytes(), b".", body]);
                    format!("v1,{}", BASE64.encode(mac))
                };
                let signatures = secrets.iter().map(sign).collect::<Vec<_>>().join(" ");
                let mut headers = identity(id, time);
                headers.push(("webhook-signature", signatures));
                headers
            }
            Self::Github(secrets) => {
                let signature = secrets.first().map(|secret| format!("sha256={}", hex(&secret.hmac(&[body]))));
                let mut headers = identity(id, time);
                headers.extend(signature.map(|value| ("x-hub-signature-256", value)));
                headers
            }
            Self::Stripe(secrets) => {
                let sign = |secret: &Secret| format!(",v1={}", hex(&secret.hmac(&[time.as_bytes(), b".", body])));
                let value = format!("t={time}{}", secrets.iter().map(sign).collect::<String>());
                let mut headers = identity(id, time);
                headers.push(("stripe-signature", value));
                headers
            }
        }
    }
}

/// Every delivery carries its id and time, signed or not: receivers tell repeats by the id.
fn identity(id: &str, time: String) -> Vec<(&'static str, String)> {
    vec![("webhook-id", id.to_owned()), ("webhook-timestamp", time)]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the secret is empty"),
            Self::NotBase64 => f.write_str("a Standard Webhooks secret is base64, usually after `whsec_`"),
            Self::Length(bytes) => write!(f, "a Standard Webhooks secret holds 24 to 64 bytes, this one {bytes}"),
        }
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries' own tests.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signs_the_published_example() {
        let signing = Signing::Standard(vec![Secret::standard(SECRET).unwrap()]);
        let now = Timestamp::from_millis(1_614_265_330_000);
        let headers = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", now, b"{\"test\": 2432232314}");
        assert_eq!(
            headers,
            [
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()),
                ("webhook-timestamp", "1614265330".to_owned()),
                ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned()),
            ]
        );
    }

    #[test]
    fn two_secrets_while_rotating_give_two_signatures() {
        let other = Secret::standard("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let signing = Signing::Standard(vec![Secret::standard(SECRET).unwrap(), other]);
        let headers = signing.headers("id", Timestamp::ZERO, b"");
        let signatures: Vec<&str> = headers[2].1.split(' ').collect();
        assert_eq!(signatures.len(), 2);
        assert_ne!(signatures[0], signatures[1]);
        assert!(signatures.iter().all(|signature| signature.starts_with("v1,")));
    }

    #[test]
    fn github_style_matches_githubs_documented_example() {
        let signing = Signing::Github(vec![Secret::text("It's a Secret to Everybody").unwrap()]);
        let headers = signing.headers("id", Timestamp::ZERO, b"Hello, World!");
        assert_eq!(headers[2].1, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    }

    #[test]
    fn stripe_style_signs_time_and_body() {
        let signing = Signing::Stripe(vec![Secret::text("whsec_test").unwrap()]);
        let headers = signing.headers("id", Timestamp::from_millis(5000), b"{}");
        let expected = hex(&Secret::text("whsec_test").unwrap().hmac(&[b"5.{}"]));
        assert_eq!(headers[2], ("stripe-signature", format!("t=5,v1={expected}")));
    }

    #[test]
    fn bad_secrets_are_refused_without_being_shown() {
        assert_eq!(Secret::standard(""), Err(SecretError::Empty));
        assert_eq!(Secret::standard("whsec_"), Err(SecretError::Empty));
        assert_eq!(Secret::standard("whsec_%%%"), Err(SecretError::NotBase64));
        assert_eq!(Secret::standard("whsec_AAAA"), Err(SecretError::Length(3)));
        assert_eq!(Secret::text(""), Err(SecretError::Empty));
        assert_eq!(format!("{:?}", Secret::text("hunter2").unwrap()), "Secret(…)");
    }
}
