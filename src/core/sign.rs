//! Signing: how a receiver knows that a delivery is ours and fresh.
//!
//! Standard Webhooks by default (standard-webhooks spec, "Signature scheme": HMAC-SHA256 over
//! `id.timestamp.body`, base64, `v1,`; with an ed25519 key `v1a,`), with every configured key while one is being
//! rotated; the GitHub style and the Stripe style for receivers that already check those. A replay signs afresh with
//! the same id, so that receivers' freshness windows pass. The keys themselves are in [`secret`](super::secret).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::core::secret::{Hash, hex};
pub use crate::core::secret::{Secret, SecretError};
use crate::core::timestamp::Timestamp;

/// How deliveries to an endpoint are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signing {
    /// Not at all.
    Off,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,…` or `v1a,…`, one signature per key.
    Standard(Vec<Secret>),
    /// `X-Hub-Signature-256: sha256=<hex>` over the body, with the first secret.
    Github(Vec<Secret>),
    /// `Stripe-Signature: t=…,v1=<hex>` over `t.body`, one `v1` per secret.
    Stripe(Vec<Secret>),
}

impl Signing {
    /// The headers that sign `body` as message `id` at `now`.
    #[must_use]
    pub fn headers(&self, id: &str, now: Timestamp, body: &[u8]) -> Vec<(&'static str, String)> {
        let time = now.seconds().to_string();
        match self {
            Self::Off => identity(id, time),
            Self::Standard(secrets) => {
                let signatures = standard(secrets, &[id.as_bytes(), b".", time.as_bytes(), b".", body]);
                let mut headers = identity(id, time);
                headers.push(("webhook-signature", signatures));
                headers
            }
            Self::Github(secrets) => {
                let signature = secrets.first().map(|secret| format!("sha256={}", hex(&hmac(secret, &[body]))));
                let mut headers = identity(id, time);
                headers.extend(signature.map(|value| ("x-hub-signature-256", value)));
                headers
            }
            Self::Stripe(secrets) => {
                let sign = |secret: &Secret| format!(",v1={}", hex(&hmac(secret, &[time.as_bytes(), b".", body])));
                let value = format!("t={time}{}", secrets.iter().map(sign).collect::<String>());
                let mut headers = identity(id, time);
                headers.push(("stripe-signature", value));
                headers
            }
        }
    }
}

/// The value of `webhook-signature` over `parts`.
fn standard(secrets: &[Secret], parts: &[&[u8]]) -> String {
    let message = if secrets.iter().any(Secret::is_of_a_pair) { parts.concat() } else { Vec::new() };
    let sign = |secret: &Secret| match secret.signature(&message) {
        Some(signature) => format!("v1a,{signature}"),
        None => format!("v1,{}", BASE64.encode(hmac(secret, parts))),
    };
    secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}

/// The config lets only shared secrets come here; what another key made would fail every check.
fn hmac(secret: &Secret, parts: &[&[u8]]) -> Vec<u8> {
    secret.mac(Hash::Sha256, parts).unwrap_or_default()
}

/// Every delivery carries its id and time, signed or not: receivers tell repeats by the id.
fn identity(id: &str, time: String) -> Vec<(&'static str, String)> {
    vec![("webhook-id", id.to_owned()), ("webhook-timestamp", time)]
}

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
        let expected = hex(&hmac(&Secret::text("whsec_test").unwrap(), &[b"5.{}"]));
        assert_eq!(headers[2], ("stripe-signature", format!("t=5,v1={expected}")));
    }

    /// Svix' own example of an asymmetric signature.
    #[test]
    fn an_ed25519_key_signs_as_v1a_beside_the_others() {
        let key = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
        let signing = Signing::Standard(vec![Secret::standard(key).unwrap(), Secret::standard(SECRET).unwrap()]);
        let now = Timestamp::from_millis(1_614_265_330_000);
        let headers = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", now, b"{\"test\": 2432232314}");
        let (first, second) = headers[2].1.split_once(' ').unwrap();
        assert_eq!(
            first,
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
        );
        assert_eq!(second, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
