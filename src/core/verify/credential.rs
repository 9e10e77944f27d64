//! Credentials shown as they are: a bearer token, a user and password, a key in a header, a token in the path.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Denied, Headers, malformed, one};
use crate::core::secret::{Found, Secret};

/// Which credential, and where it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer <secret>`.
    Bearer,
    /// `Authorization: Basic <base64 of the secret, which is user:password>`.
    Basic,
    /// The secret in a header of this name (lower case).
    Header(String),
}

const AUTHORIZATION: &str = "authorization";

impl Credential {
    /// Which of `secrets` is shown.
    pub(super) fn check(&self, secrets: &[Secret], headers: &dyn Headers) -> Result<usize, Denied> {
        let shown = match self {
            Self::Bearer => after_scheme(one(headers, AUTHORIZATION)?, b"bearer")?.to_vec(),
            Self::Basic => {
                let encoded = after_scheme(one(headers, AUTHORIZATION)?, b"basic")?;
                BASE64.decode(encoded).map_err(|_| malformed("authorization header"))?
            }
            Self::Header(name) => one(headers, name)?.to_vec(),
        };
        which(secrets, &shown).ok_or(Denied::Mismatch)
    }

    /// The scheme that is asked for, where HTTP has a name for it.
    #[must_use]
    pub const fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Bearer => Some("Bearer"),
            Self::Basic => Some("Basic realm=\"backstop\", charset=\"UTF-8\""),
            Self::Header(_) => None,
        }
    }
}

/// Which of `secrets` is `shown`; all of them are looked at.
pub(super) fn which(secrets: &[Secret], shown: &[u8]) -> Option<usize> {
    let mut found = Found::none();
    secrets.iter().enumerate().for_each(|(index, secret)| found.note(index, secret.is(shown)));
    found.first()
}

/// What follows the scheme's name and its space in `value`.
fn after_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Result<&'a [u8], Denied> {
    let (name, rest) = value.split_at_checked(scheme.len()).ok_or_else(|| malformed("authorization header"))?;
    let rest = rest.strip_prefix(b" ").filter(|_| name.eq_ignore_ascii_case(scheme));
    rest.map(<[u8]>::trim_ascii).ok_or_else(|| malformed("authorization header"))
}
