//! Keys that seal what is written to disk: how their text is read, and what each is called.
//!
//! A key is 32 random bytes. It is named by its [`KeyId`], which stands in the clear beside what it has sealed, so
//! that a missing key can be asked for. Absent: the sealing itself, which is the journal's.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::secret::{hex, unbase64, unhex};

/// Length of a key, in bytes.
pub const KEY_BYTES: usize = 32;

/// A key to seal and open with. Its bytes never appear in `Debug`, logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey {
    bytes: [u8; KEY_BYTES],
    id: KeyId,
}

/// What a key is called by: the first four bytes of its SHA-256. Of a random key that says nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

/// Why a text is not a key. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealingKeyError {
    /// No text at all.
    Empty,
    /// It is neither base64 nor hex.
    NotEncoded,
    /// It has another number of bytes than [`KEY_BYTES`].
    Length(usize),
    /// It repeats itself as nothing random does.
    NotRandom,
}

impl SealingKey {
    /// How many different bytes a key has at least: fewer are met once in 10^16 random keys.
    const DIFFERENT_MIN: usize = 16;

    /// The key that `text` holds in base64 or in hex. Space around it counts for nothing.
    ///
    /// # Errors
    /// If it holds none.
    pub fn parse(text: &str) -> Result<Self, SealingKeyError> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(SealingKeyError::Empty);
        }
        let decoded = unhex(text).or_else(|| unbase64(text));
        let bytes = decoded.ok_or(SealingKeyError::NotEncoded)?;
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|bytes: Vec<u8>| SealingKeyError::Length(bytes.len()))?;
        let mut different = key;
        different.sort_unstable();
        let differing = different.chunk_by(|one, other| one == other).count();
        if differing < Self::DIFFERENT_MIN {
            return Err(SealingKeyError::NotRandom);
        }
        let id = KeyId(Sha256::digest(key).first_chunk().copied().unwrap_or_default());
        Ok(Self { bytes: key, id })
    }

    /// What it is called by.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, for whoever seals.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({}…)", self.id())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl fmt::Display for SealingKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAKE: &str = "make one with `openssl rand -base64 32`";
        match self {
            Self::Empty => write!(f, "the key is empty; {MAKE}"),
            Self::NotEncoded => write!(f, "is no key: one is {KEY_BYTES} bytes in base64 or hex; {MAKE}"),
            Self::Length(bytes) => write!(f, "a key has {KEY_BYTES} bytes in base64 or hex, this one {bytes}; {MAKE}"),
            Self::NotRandom => write!(f, "is no random key; {MAKE}"),
        }
    }
}

impl std::error::Error for SealingKeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// `echo 000102…1f | xxd -r -p | sha256sum` begins with 630dcd29.
    #[test]
    fn a_key_is_read_from_hex_and_from_base64_and_named_by_its_hash() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        let base64 = "\tAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
        let key = SealingKey::parse(hex).unwrap();
        assert_eq!(key, SealingKey::parse(base64).unwrap());
        assert_eq!(key.bytes()[31], 31);
        assert_eq!(key.id().to_string(), "630dcd29");
        assert_eq!(format!("{key:?}"), "SealingKey(630dcd29…)");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for (text, error) in [
            ("", SealingKeyError::Empty),
            (" \n", SealingKeyError::Empty),
            ("correct horse battery staple", SealingKeyError::NotEncoded),
            ("00010203", SealingKeyError::Length(4)),
            ("AAECAwQFBgcICQoLDA0ODw==", SealingKeyError::Length(16)),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", SealingKeyError::NotRandom),
            ("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", SealingKeyError::NotRandom),
        ] {
            let refused = SealingKey::parse(text).unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(text.trim().is_empty() || !refused.to_string().contains(text.trim()));
        }
    }
}
