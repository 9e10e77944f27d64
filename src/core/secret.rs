//! Keys, and what is made with them: what `sign` makes and `verify` checks.
//!
//! A key is a shared secret for HMAC, or half of an ed25519 pair (Standard Webhooks' v1a). No key is in `Debug`, in
//! a log or in an error, and nothing here compares secrets in a time that depends on them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE as BASE64_URL};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hmac::Hmac;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// The prefix of a Standard Webhooks symmetric secret.
const SHARED_PREFIX: &str = "whsec_";
/// The prefix of an ed25519 key that signs.
const PRIVATE_PREFIX: &str = "whsk_";
/// The prefix of an ed25519 key that checks.
const PUBLIC_PREFIX: &str = "whpk_";
/// Shortest and longest shared key the Standard Webhooks spec allows, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key. Its bytes never appear in `Debug`, logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Key);

#[derive(Clone, PartialEq, Eq)]
enum Key {
    Shared(Vec<u8>),
    Private(Box<SigningKey>),
    Public(Box<VerifyingKey>),
}

/// What an HMAC is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// For those who have nothing newer, such as Twilio. As an HMAC it is not broken.
    Sha1,
    /// What nearly everybody uses.
    Sha256,
    /// The longer one.
    Sha512,
}

/// How bytes are written in a header, or a secret in the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// In small or in large letters, not mixed.
    Hex,
    /// With padding.
    Base64,
    /// With `-` and `_`, with padding or without.
    Base64Url,
}

/// Why a text is not a key. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// No text at all.
    Empty,
    /// After the prefix there is no base64.
    NotBase64,
    /// The key's length is outside the spec's 24 to 64 bytes.
    Length(usize),
    /// It is no ed25519 key, or its public half is not the private one's.
    NotEd25519,
    /// It is the half that signs, where only checking is done.
    Private,
    /// It is the half that checks, where a signature is to be made.
    Public,
    /// It is not written as it should be.
    NotEncoded(Encoding),
}

impl Secret {
    /// A key to sign with by Standard Webhooks: `whsec_` (which may be left out) and base64 of 24 to 64 bytes, or
    /// `whsk_` and an ed25519 key, its seed alone or with the public half behind it.
    pub fn standard(text: &str) -> Result<Self, SecretError> {
        if let Some(encoded) = text.strip_prefix(PRIVATE_PREFIX) {
            let bytes = decode(encoded)?;
            let seed = |bytes: &[u8]| bytes.try_into().ok().map(|seed| SigningKey::from_bytes(&seed));
            let pair = |bytes: &[u8]| bytes.try_into().ok().and_then(|pair| SigningKey::from_keypair_bytes(&pair).ok());
            let key = seed(&bytes).or_else(|| pair(&bytes)).ok_or(SecretError::NotEd25519)?;
            return Ok(Self(Key::Private(Box::new(key))));
        }
        if text.starts_with(PUBLIC_PREFIX) {
            return Err(SecretError::Public);
        }
        Self::standard_shared(text)
    }

    /// A key to check with by Standard Webhooks: `whsec_` as to sign with, or `whpk_` and an ed25519 key.
    pub fn standard_check(text: &str) -> Result<Self, SecretError> {
        if let Some(encoded) = text.strip_prefix(PUBLIC_PREFIX) {
            let bytes: [u8; 32] = decode(encoded)?.try_into().map_err(|_| SecretError::NotEd25519)?;
            let key = VerifyingKey::from_bytes(&bytes).map_err(|_| SecretError::NotEd25519)?;
            return if key.is_weak() { Err(SecretError::NotEd25519) } else { Ok(Self(Key::Public(Box::new(key)))) };
        }
        if text.starts_with(PRIVATE_PREFIX) {
            return Err(SecretError::Private);
        }
        Self::standard_shared(text)
    }

    fn standard_shared(text: &str) -> Result<Self, SecretError> {
        let key = decode(text.strip_prefix(SHARED_PREFIX).unwrap_or(text))?;
        if KEY_BYTES.contains(&key.len()) { Ok(Self(Key::Shared(key))) } else { Err(SecretError::Length(key.len())) }
    }

    /// A secret used as its text stands (GitHub, Stripe).
    pub fn text(text: &str) -> Result<Self, SecretError> {
        if text.is_empty() { Err(SecretError::Empty) } else { Ok(Self(Key::Shared(text.as_bytes().to_vec()))) }
    }

    /// A secret whose bytes the text encodes.
    pub fn encoded(text: &str, encoding: Encoding) -> Result<Self, SecretError> {
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        let bytes = match encoding {
            Encoding::Hex => unhex(text),
            Encoding::Base64 => BASE64.decode(text).ok(),
            Encoding::Base64Url => BASE64_URL.decode(text).ok(),
        };
        let bytes = bytes.filter(|bytes| !bytes.is_empty()).ok_or(SecretError::NotEncoded(encoding))?;
        Ok(Self(Key::Shared(bytes)))
    }

    /// The HMAC of `parts`, one after the other; `None` if this is no shared secret.
    pub(crate) fn mac(&self, hash: Hash, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let Key::Shared(key) = &self.0 else { return None };
        match hash {
            Hash::Sha1 => mac::<Hmac<Sha1>>(key, parts),
            Hash::Sha256 => mac::<Hmac<Sha256>>(key, parts),
            Hash::Sha512 => mac::<Hmac<Sha512>>(key, parts),
        }
    }

    /// The ed25519 signature of `message`; `None` if this is not the half that signs.
    pub(crate) fn signature(&self, message: &[u8]) -> Option<String> {
        let Key::Private(key) = &self.0 else { return None };
        Some(BASE64.encode(key.sign(message).to_bytes()))
    }

    /// Whether `encoded` is the ed25519 signature of `message`; `false` if this is not the half that checks.
    ///
    /// Strict: of one message and key there is no second form of a signature (RFC 8032, 8.4).
    pub(crate) fn signed(&self, message: &[u8], encoded: &[u8]) -> bool {
        let Key::Public(key) = &self.0 else { return false };
        let signature = BASE64.decode(encoded).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| key.verify_strict(message, &signature).is_ok())
    }

    /// Whether this is half of an ed25519 pair.
    pub(crate) const fn is_of_a_pair(&self) -> bool {
        !matches!(self.0, Key::Shared(_))
    }

    /// Whether `presented` is this secret itself. Takes equally long for a near miss, a far one, and any length.
    pub(crate) fn is(&self, presented: &[u8]) -> Choice {
        let Key::Shared(key) = &self.0 else { return Choice::from(0) };
        Sha256::digest(key).as_slice().ct_eq(Sha256::digest(presented).as_slice())
    }
}

fn mac<M: hmac::Mac + hmac::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Option<Vec<u8>> {
    // An HMAC takes a key of any length, so there is always one.
    let mut mac = <M as hmac::KeyInit>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(mac.finalize().into_bytes().to_vec())
}

impl Encoding {
    /// Every way in which `bytes` may be written, each of them the only one of its kind.
    pub(crate) fn texts(self, bytes: &[u8]) -> [String; 2] {
        match self {
            Self::Hex => [hex(bytes), hex(bytes).to_ascii_uppercase()],
            Self::Base64 => [BASE64.encode(bytes), BASE64.encode(bytes)],
            Self::Base64Url => {
                let padded = BASE64_URL.encode(bytes);
                let bare = padded.trim_end_matches('=').to_owned();
                [padded, bare]
            }
        }
    }
}

/// The first of several tests that succeeds, found without stopping at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    any: Choice,
    first: u32,
}

impl Found {
    pub(crate) fn none() -> Self {
        Self { any: Choice::from(0), first: 0 }
    }

    /// Takes the result of the test number `index`.
    pub(crate) fn note(&mut self, index: usize, holds: Choice) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.first.conditional_assign(&index, holds & !self.any);
        self.any |= holds;
    }

    /// Which test succeeded first, if any did.
    pub(crate) fn first(self) -> Option<usize> {
        if bool::from(self.any) { usize::try_from(self.first).ok() } else { None }
    }
}

fn decode(encoded: &str) -> Result<Vec<u8>, SecretError> {
    if encoded.is_empty() {
        return Err(SecretError::Empty);
    }
    BASE64.decode(encoded).map_err(|_| SecretError::NotBase64)
}

/// The bytes that base64 with padding stands for.
pub(crate) fn unbase64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// In small letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hex stands for, in small or large letters.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
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
            Self::NotEd25519 => f.write_str(
                "is no ed25519 key: `whsk_` and base64 of 32 bytes (or 64, with the public half) signs, \
                 `whpk_` and base64 of 32 bytes checks",
            ),
            Self::Private => f.write_str("is a private key (`whsk_`); whoever checks has the public one (`whpk_`)"),
            Self::Public => f.write_str("is a public key (`whpk_`); whoever signs needs the private one (`whsk_`)"),
            Self::NotEncoded(encoding) => write!(f, "the secret is not {encoding}"),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
        })
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2: seed, public key, message, signature.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn keys(seed: &str, public: &str) -> (Secret, Secret) {
        let encoded = |hex: &str| BASE64.encode(unhex(hex).unwrap());
        let private = Secret::standard(&format!("whsk_{}", encoded(seed))).unwrap();
        (private, Secret::standard_check(&format!("whpk_{}", encoded(public))).unwrap())
    }

    #[test]
    fn ed25519_is_rfc_8032s() {
        let (private, public) = keys(SEED, PUBLIC);
        let signature = private.signature(&[0x72]).unwrap();
        assert_eq!(signature, BASE64.encode(unhex(SIGNATURE).unwrap()));
        assert!(public.signed(&[0x72], signature.as_bytes()));
        assert!(!public.signed(&[0x73], signature.as_bytes()));
        assert!(!private.signed(&[0x72], signature.as_bytes()), "only the public half checks");
        assert_eq!(public.signature(&[0x72]), None, "only the private half signs");
        assert_eq!(public.mac(Hash::Sha256, &[]), None, "neither half is a shared secret");
        let (pair, _) = keys(&format!("{SEED}{PUBLIC}"), PUBLIC);
        assert!(pair == private);
    }

    /// RFC 2202 and RFC 4231, the second case of each: "what do ya want for nothing?" under "Jefe".
    #[test]
    fn macs_are_the_published_ones() {
        let secret = Secret::text("Jefe").unwrap();
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        for (hash, expected) in [
            (Hash::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (Hash::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                Hash::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            assert_eq!(hex(&secret.mac(hash, &parts).unwrap()), expected, "{hash:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let weak = BASE64.encode([0_u8; 32]);
        for (text, to_sign, to_check) in [
            ("", Some(SecretError::Empty), Some(SecretError::Empty)),
            ("whsec_", Some(SecretError::Empty), Some(SecretError::Empty)),
            ("whsec_%%%", Some(SecretError::NotBase64), Some(SecretError::NotBase64)),
            ("whsec_AAAA", Some(SecretError::Length(3)), Some(SecretError::Length(3))),
            ("whsk_AAAA", Some(SecretError::NotEd25519), Some(SecretError::Private)),
            ("whpk_AAAA", Some(SecretError::Public), Some(SecretError::NotEd25519)),
            (&format!("whpk_{weak}"), Some(SecretError::Public), Some(SecretError::NotEd25519)),
            (&format!("whsk_{}", BASE64.encode([7; 64])), Some(SecretError::NotEd25519), Some(SecretError::Private)),
            (&format!("whsk_{weak}"), None, Some(SecretError::Private)),
        ] {
            assert_eq!(
                (Secret::standard(text).err(), Secret::standard_check(text).err()),
                (to_sign, to_check),
                "{text}"
            );
        }
        assert_eq!(Secret::text(""), Err(SecretError::Empty));
        for (text, encoding) in
            [("abc", Encoding::Hex), ("zz", Encoding::Hex), ("é", Encoding::Hex), ("_", Encoding::Base64)]
        {
            assert_eq!(Secret::encoded(text, encoding), Err(SecretError::NotEncoded(encoding)), "{text}");
        }
        assert_eq!(format!("{:?}", Secret::text("hunter2").unwrap()), "Secret(…)");
    }

    #[test]
    fn an_encoded_secret_is_its_bytes() {
        let plain = Secret::text("hunter2").unwrap();
        assert!(Secret::encoded("68756e74657232", Encoding::Hex) == Ok(plain.clone()));
        assert!(Secret::encoded("aHVudGVyMg==", Encoding::Base64) == Ok(plain));
        let high = Secret::encoded("__8=", Encoding::Base64Url).unwrap();
        assert!(high == Secret::encoded("ffff", Encoding::Hex).unwrap());
    }

    #[test]
    fn the_first_that_holds_is_found_wherever_it_stands() {
        for (holds, expected) in [(&[0, 0][..], None), (&[1, 1, 0], Some(0)), (&[0, 0, 1], Some(2)), (&[], None)] {
            let mut found = Found::none();
            holds.iter().enumerate().for_each(|(index, holds)| found.note(index, Choice::from(*holds)));
            assert_eq!(found.first(), expected, "{holds:?}");
        }
    }
}
