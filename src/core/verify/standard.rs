//! Standard Webhooks (standard-webhooks spec, "Verifying signatures"): `v1` by shared secrets, `v1a` by ed25519 keys,
//! under the `webhook-` headers or Svix' older names for them.

use subtle::{Choice, ConstantTimeEq as _};

use super::{Denied, Headers, Proof, Request, SIGNATURES_MAX, Verification, digits, id, malformed, one};
use crate::core::secret::{Encoding, Found, Hash, Secret};

/// What the names of the headers begin with.
const FAMILIES: [&str; 2] = ["webhook", "svix"];

pub(super) fn prove(verification: &Verification, request: &Request<'_>, body: &[u8]) -> Result<Proof, Denied> {
    let family = family(request.headers);
    let name = |rest: &str| format!("{family}-{rest}");
    let header = |rest: &str| one(request.headers, &name(rest));
    let (id_text, time_text, signatures) = (header("id")?, header("timestamp")?, header("signature")?);
    let id = id(id_text, Some(b'.')).ok_or_else(|| malformed(&name("id header")))?;
    let seconds = digits(time_text).ok_or_else(|| malformed(&name("timestamp header")))?;
    let mut entries = signatures.split(|byte| *byte == b' ').filter(|entry| !entry.is_empty());
    let entries: Vec<&[u8]> = entries.by_ref().take(SIGNATURES_MAX + 1).collect();
    if entries.is_empty() || entries.len() > SIGNATURES_MAX {
        return Err(malformed(&name("signature header")));
    }
    let parts: [&[u8]; 5] = [id_text, b".", time_text, b".", body];
    let secret = which(&verification.secrets, &parts, &entries).ok_or(Denied::Mismatch)?;
    let signed_ms = seconds.saturating_mul(1000);
    verification.is_fresh(request.now, signed_ms)?;
    Ok(Proof { secret: Some(secret), id: Some(id.to_owned()), signed: Some(Some(signed_ms)) })
}

/// Which of `secrets` made one of `entries` over `parts`; all are tried with all.
fn which(secrets: &[Secret], parts: &[&[u8]], entries: &[&[u8]]) -> Option<usize> {
    let message = if secrets.iter().any(Secret::is_of_a_pair) { parts.concat() } else { Vec::new() };
    let mut found = Found::none();
    for (index, secret) in secrets.iter().enumerate() {
        let expected = secret.mac(Hash::Sha256, parts).map(|mac| Encoding::Base64.texts(&mac));
        for entry in entries {
            let holds = match &expected {
                Some([expected, _]) => {
                    let shown = entry.strip_prefix(b"v1,").unwrap_or_default();
                    expected.as_bytes().ct_eq(shown)
                }
                None => {
                    let shown = entry.strip_prefix(b"v1a,").unwrap_or_default();
                    Choice::from(u8::from(secret.signed(&message, shown)))
                }
            };
            found.note(index, holds);
        }
    }
    found.first()
}

/// The id that the message says it has.
pub(super) fn claimed_id(headers: &dyn Headers) -> Option<String> {
    let value = one(headers, &format!("{}-id", family(headers))).ok()?;
    id(value, Some(b'.')).map(str::to_owned)
}

/// By which names the headers are there; all three are read by the names of one.
fn family(headers: &dyn Headers) -> &'static str {
    let [standard, svix] = FAMILIES;
    let signed = |family: &str| !headers.values(&format!("{family}-signature")).is_empty();
    if signed(svix) && !signed(standard) { svix } else { standard }
}
