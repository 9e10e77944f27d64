//! Who may operate the gateway: whoever holds the bearer token.
//!
//! The token is made on the first start, 32 random bytes, and kept in a file that only its owner can
//! read; a file that others can read is refused, not repaired, because they may have read it already. The
//! running gateway holds its hash only, and compares hashes in constant time. The token is in no log, no
//! error and no `Debug`. Absent: users, roles and expiry; a new token is a removed file and a restart.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::Problem;

/// What a token made here begins with, so that scanners for leaked secrets can know it.
const PREFIX: &str = "bst_";
/// How many random bytes a token made here holds.
const RANDOM_BYTES: usize = 32;
/// How long a token may be, in bytes.
const TOKEN_LEN: std::ops::RangeInclusive<usize> = 16..=512;

/// The bearer token: visible ASCII, no space. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// What the gateway keeps of the token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// Why there is no token. Never holds one.
#[derive(Debug)]
pub enum TokenError {
    /// The file cannot be read or written.
    Io(PathBuf, io::Error),
    /// Others than its owner can read the file; its mode.
    Exposed(PathBuf, u32),
    /// What is in the file is not a token.
    Malformed(PathBuf),
    /// The machine gives no randomness.
    NoRandomness,
}

impl Token {
    /// The token in `text`, which may have space around it. `None` if it is not 16 to 512 visible characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = TOKEN_LEN.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// The token itself, for the one who sends it.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What the gateway keeps of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(&self.0).into())
    }
}

impl TokenHash {
    /// Whether `text` is the token. Takes as long for a near miss as for a wild guess.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let other: [u8; 32] = Sha256::digest(text).into();
        self.0.ct_eq(&other).into()
    }
}

/// The token in the file at `path`; made and written there if there is no such file.
///
/// The new file is whole, synced and readable by its owner only, or not there at all. Its folder must
/// exist. Two processes must not do this at a time; the journal's lock sees to that.
///
/// # Errors
/// See [`TokenError`]; each says what to do.
pub fn load_or_create(path: &Path) -> Result<Token, TokenError> {
    match load(path) {
        Err(TokenError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => create(path),
        loaded => loaded,
    }
}

/// The token in the file at `path`.
///
/// # Errors
/// See [`TokenError`]; each says what to do.
pub fn load(path: &Path) -> Result<Token, TokenError> {
    let failed = |error| TokenError::Io(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Exposed(path.to_owned(), mode));
    }
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).map_err(failed)?;
    Token::new(&text).ok_or_else(|| TokenError::Malformed(path.to_owned()))
}

fn create(path: &Path) -> Result<Token, TokenError> {
    let mut random = [0; RANDOM_BYTES];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut random).map_err(|_| TokenError::NoRandomness)?;
    let token = Token(format!("{PREFIX}{}", BASE64.encode(random)));
    write(path, &token).map_err(|error| TokenError::Io(path.to_owned(), error))?;
    Ok(token)
}

fn write(path: &Path, token: &Token) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{}", token.0)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Lets a request pass that carries the token; `authorization` is its header.
pub(super) fn check(token: TokenHash, authorization: Option<&str>) -> Result<(), Problem> {
    let challenge = "Bearer realm=\"backstop admin\"";
    let Some(given) = authorization.and_then(bearer) else {
        let detail = "send the admin token: `Authorization: Bearer bst_…`; it is in the admin token file";
        return Err(Problem::unauthorized(challenge, detail));
    };
    if token.matches(given) {
        return Ok(());
    }
    let challenge = "Bearer realm=\"backstop admin\", error=\"invalid_token\"";
    Err(Problem::unauthorized(challenge, "this is not the admin token; it is in the admin token file"))
}

/// The credentials after the scheme, whose case does not matter (RFC 9110, 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "the admin token file {}: {error}", path.display()),
            Self::Exposed(path, mode) => write!(
                f,
                "the admin token file {path} has mode {mode:03o}: others can read it; remove it and restart for \
                 a new token, or run `chmod 600 {path}` if nobody did",
                path = path.display()
            ),
            Self::Malformed(path) => write!(
                f,
                "the admin token file {} does not hold a token (16 to 512 visible characters); remove it and \
                 restart for a new one",
                path.display()
            ),
            Self::NoRandomness => f.write_str("this machine gives no randomness to make an admin token of"),
        }
    }
}

impl std::error::Error for TokenError {}
