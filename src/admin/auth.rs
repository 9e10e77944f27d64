//! Bearer tokens: what one is, how it is made and recognised, and the file with the first of them.
//!
//! ```text
//! bst_1f2e3d4c<64 digits>8b7a6958      all digits hexadecimal, so `bst_[0-9a-f]{80}` finds every leaked one
//!     │        │         └ CRC32C of all before it: a token that was cut or mistyped is told from a wrong one
//!     │        └ 32 random bytes
//!     └ what it is called by where it is listed: a leaked token leads to its name
//! ```
//!
//! The first token is made on the first start and kept in a file that only its owner can read; a file that others
//! can read is refused, not repaired, because they may have read it already. Any other text of 16 to 512 visible
//! characters in that file is a token as well.
//!
//! The gateway keeps SHA-256 hashes only, and compares them in constant time. A slow hash would add nothing: it is
//! to make guessing dear where people choose their secrets, and 256 random bits cannot be guessed at any price. A
//! token is in no log, no error and no `Debug`. Absent: who holds which token and what they may, which is [`super::holders`]'s.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What a token made here begins with, so that scanners for leaked secrets can know it.
const PREFIX: &str = "bst_";
/// How many random bytes a token made here holds.
const RANDOM_BYTES: usize = 32;
/// How many more give its id.
const ID_BYTES: usize = 4;
/// How many digits of a token made here are its checksum.
const CHECKSUM_LEN: usize = 8;
/// How long a token made here is.
const MADE_LEN: usize = PREFIX.len() + 2 * (ID_BYTES + RANDOM_BYTES) + CHECKSUM_LEN;
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
    /// What is in the file of the named tokens is not what it should be, and why.
    Unreadable(PathBuf, String),
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

    /// A new one, of the machine's randomness.
    ///
    /// # Errors
    /// [`TokenError::NoRandomness`].
    pub fn generate() -> Result<Self, TokenError> {
        let mut random = [0; ID_BYTES + RANDOM_BYTES];
        let source = rustls::crypto::ring::default_provider().secure_random;
        source.fill(&mut random).map_err(|_| TokenError::NoRandomness)?;
        let begin = format!("{PREFIX}{}", hex(&random));
        let checksum = checksum(&begin);
        Ok(Self(begin + &checksum))
    }

    /// What it is called by where tokens are listed; `None` if it was not made here.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        let is_made = matches!(Shape::of(&self.0), Shape::Whole);
        self.0.get(PREFIX.len()..PREFIX.len() + 2 * ID_BYTES).filter(|_| is_made)
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
    /// The hash of what may be a token.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether both are of the same token. Takes as long for a near miss as for a wild guess.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// As it stands in a file.
    pub(super) fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// Reads it back.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(digit).collect();
        bytes?.first_chunk().filter(|_| is_hex).map(|bytes| Self(*bytes))
    }
}

/// Whether a text looks like a token made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// It does.
    Whole,
    /// It begins like one, and is not whole.
    Broken,
    /// It does not.
    Other,
}

impl Shape {
    pub(super) fn of(text: &str) -> Self {
        let is_made = text.starts_with(PREFIX) && text.len() == MADE_LEN;
        let split = if is_made { text.split_at_checked(MADE_LEN - CHECKSUM_LEN) } else { None };
        match split {
            Some((begin, end)) if checksum(begin) == end => Self::Whole,
            _ if text.starts_with(PREFIX) => Self::Broken,
            _ => Self::Other,
        }
    }
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    let text = read_private(path, 4096)?;
    Token::new(&text).ok_or_else(|| TokenError::Malformed(path.to_owned()))
}

/// What is in a file that nobody but its owner can read, up to so many bytes.
pub(super) fn read_private(path: &Path, bytes_max: u64) -> Result<String, TokenError> {
    let failed = |error| TokenError::Io(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Exposed(path.to_owned(), mode));
    }
    let mut text = String::new();
    file.take(bytes_max).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn create(path: &Path) -> Result<Token, TokenError> {
    let token = Token::generate()?;
    write_private(path, format!("{}\n", token.0).as_bytes()).map_err(|error| TokenError::Io(path.to_owned(), error))?;
    Ok(token)
}

/// Puts a file there that only its owner can read: whole and synced, or as it was before.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The credentials after the scheme, whose case does not matter (RFC 9110, 11.1).
pub(super) fn bearer(authorization: &str) -> Option<&str> {
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
            Self::Io(path, error) => write!(f, "the token file {}: {error}", path.display()),
            Self::Exposed(path, mode) => write!(
                f,
                "the token file {path} has mode {mode:03o}: others can read it; remove it and restart for \
                 a new token, or run `chmod 600 {path}` if nobody did",
                path = path.display()
            ),
            Self::Malformed(path) => write!(
                f,
                "the admin token file {} does not hold a token (16 to 512 visible characters); remove it and \
                 restart for a new one",
                path.display()
            ),
            Self::Unreadable(path, why) => write!(
                f,
                "the file of the named tokens {} cannot be understood ({why}); put back a copy, or remove it and \
                 create the tokens again",
                path.display()
            ),
            Self::NoRandomness => f.write_str("this machine gives no randomness to make an admin token of"),
        }
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_made_here_is_found_by_its_looks_and_by_its_checksum() {
        let token = Token::generate().unwrap();
        let text = token.secret();
        assert_eq!(text.len(), 84);
        let digits = text.strip_prefix("bst_").unwrap();
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{text}");
        assert_eq!(Shape::of(text), Shape::Whole);
        assert_eq!(token.id(), Some(digits.split_at(8).0));
        for at in 0..text.len() {
            let mut other = text.to_owned().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert_ne!(Shape::of(std::str::from_utf8(&other).unwrap()), Shape::Whole, "{at}");
            assert_ne!(Shape::of(text.split_at(at).0), Shape::Whole);
        }
        assert_ne!(Token::generate().unwrap(), token);
        assert_eq!((Shape::of("bst_x"), Shape::of("other")), (Shape::Broken, Shape::Other));
        assert_eq!(Token::new("0123456789abcdef").unwrap().id(), None);
        assert_eq!(Shape::of(&format!("bst_{}", "é".repeat(40))), Shape::Broken);
    }

    #[test]
    fn a_hash_is_read_back_or_refused() {
        let hash = TokenHash::of("a token");
        assert_eq!(TokenHash::from_hex(&hash.to_hex()), Some(hash));
        assert!(hash.matches(&TokenHash::of("a token")) && !hash.matches(&TokenHash::of("a tokem")));
        for bad in ["", "00", &"+1".repeat(32), &"é".repeat(32), &"0".repeat(63), &"0".repeat(65)] {
            assert_eq!(TokenHash::from_hex(bad), None, "{bad}");
        }
    }
}
