//! Twilio: an HMAC over the URL that it calls, and over the form behind it or, by its hash in the URL, the body.
//!
//! (Twilio's "Webhooks security".) It signs what it has in its settings, so the gateway must be told the public URL.
//! Which side writes the default port is not settled; both forms are tried. With a shared key it names SHA-256 in a
//! header instead of SHA-1; whoever writes that header gains nothing by it, for it is the same key. A body that is
//! neither a form nor hashed is not covered by the signature and is denied.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Denied, Headers, Proof, Request, Verification, malformed, one};
use crate::core::form;
use crate::core::secret::{Encoding, Found, Hash, hex};

const SIGNATURE: &str = "x-twilio-signature";
const SETTINGS: &str = "x-twilio-webhooks-signature-settings";
const BODY_HASH: &str = "bodySHA256";

pub(super) fn prove(verification: &Verification, request: &Request<'_>, body: &[u8]) -> Result<Proof, Denied> {
    let shown = one(request.headers, SIGNATURE)?;
    let hash = hash(request.headers)?;
    let parameters = covered(request, body)?;
    let before = verification.public_url.as_deref().unwrap_or_default();
    let urls = [before.to_owned(), other_port(before)].map(|before| format!("{before}{}", request.target));
    let mut found = Found::none();
    for (index, secret) in verification.secrets.iter().enumerate() {
        for url in &urls {
            let Some(mac) = secret.mac(hash, &[url.as_bytes(), &parameters]) else { continue };
            let [expected, _] = Encoding::Base64.texts(&mac);
            found.note(index, expected.as_bytes().ct_eq(shown));
        }
    }
    let secret = found.first().ok_or(Denied::Mismatch)?;
    Ok(Proof { secret: Some(secret), id: None, signed: Some(None) })
}

/// What the header that came with shared keys says it is signed with.
fn hash(headers: &dyn Headers) -> Result<Hash, Denied> {
    if headers.values(SETTINGS).is_empty() {
        return Ok(Hash::Sha1);
    }
    let settings = one(headers, SETTINGS)?;
    let mut items = settings.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    match items.find_map(|item| item.strip_prefix(b"algorithm=")) {
        None | Some(b"" | b"HMAC_SHA1") => Ok(Hash::Sha1),
        Some(b"HMAC_SHA256") => Ok(Hash::Sha256),
        Some(_) => Err(malformed(&format!("{SETTINGS} header"))),
    }
}

/// What of the body is signed behind the URL: a form's parameters, or nothing, if the URL has the body's hash.
fn covered(request: &Request<'_>, body: &[u8]) -> Result<Vec<u8>, Denied> {
    if is_form(request.headers) {
        if form::count(body) > form::PAIRS_MAX {
            return Err(malformed("form"));
        }
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = form::pairs(body).collect();
        // By name, and of one name by value; an equal pair counts once.
        pairs.sort_unstable();
        pairs.dedup();
        return Ok(pairs.into_iter().flat_map(|(name, value)| [name, value]).flatten().collect());
    }
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    match form::value(query.as_bytes(), BODY_HASH) {
        Some(named) if hex(&Sha256::digest(body)).as_bytes().ct_eq(&named).into() => Ok(Vec::new()),
        Some(_) => Err(Denied::Mismatch),
        None if body.is_empty() => Ok(Vec::new()),
        None => Err(Denied::Uncovered),
    }
}

fn is_form(headers: &dyn Headers) -> bool {
    headers.values("content-type").first().is_some_and(|kind| form::is_type(kind))
}

/// `before` with its scheme's own port if it has no port, and without it if it has that.
fn other_port(before: &str) -> String {
    let Some((scheme, rest)) = before.split_once("://") else { return before.to_owned() };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let (host, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""));
    let has_port = host.rsplit(']').next().is_some_and(|behind| behind.contains(':'));
    match (host.strip_suffix(port), has_port) {
        (Some(bare), _) => format!("{scheme}://{bare}{path}"),
        (None, true) => before.to_owned(),
        (None, false) => format!("{scheme}://{host}{port}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_port_is_added_or_taken_away() {
        for (url, other) in [
            ("https://a.example", "https://a.example:443"),
            ("https://a.example:443/x", "https://a.example/x"),
            ("http://a.example/x", "http://a.example:80/x"),
            ("https://a.example:8443", "https://a.example:8443"),
            ("https://[::1]/x", "https://[::1]:443/x"),
            ("https://[::1]:443/x", "https://[::1]/x"),
            ("https://[::1]:444/x", "https://[::1]:444/x"),
        ] {
            assert_eq!(other_port(url), other);
        }
    }
}
