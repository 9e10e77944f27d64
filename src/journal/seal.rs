//! Sealing: records as bytes that say nothing without a key, and cannot be changed or moved without notice.
//!
//! ```text
//! sealed payload   0  4 bytes  the key's id
//!                  4  16 bytes salt, the same for all records of a group
//!                 20  the payload, enciphered
//!                 -16 16 bytes tag
//! ```
//!
//! The cipher is AES-256-GCM. Each group has a key of its own: HKDF-SHA256 of the operator's key with the group's
//! salt, 16 bytes from the system's random source. Its nonces are the records' positions. So no nonce is used twice
//! with one key: positions grow within a group, and among 2^40 groups two share a salt with a chance of 2^-49, which
//! does no harm unless they stand at the same place. Where a group was cut off by a crash another is written at the
//! same position: it has drawn another salt. No state has to survive for that, so a restored backup, a copied machine
//! and two logs under one key are safe, too; and no key enciphers more than one group, far from what GCM may do.
//!
//! The tag covers the position of the record and of its group: a record that is changed, moved, or put into another
//! log (whose purpose is part of the key) does not open. It does not notice that a whole file was put back as it once
//! was. The key's id is not covered: with another one it opens by another key, which it does not.
//!
//! Promises: what [`GroupSeal::seal`] has not done returns an error, never plain bytes. Absent: when to seal.

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::core::sealing::{KeyId, SealingKey};

const KEY_ID_BYTES: usize = 4;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// What stands before the enciphered payload.
const HEAD_BYTES: usize = KEY_ID_BYTES + SALT_BYTES;
/// How many bytes longer a sealed payload is.
pub(crate) const SEAL_BYTES: usize = HEAD_BYTES + TAG_BYTES;

/// The position of a record and of its group, as their header has them.
pub(crate) type Place = [u8; 16];

/// The keys of one log.
#[derive(Debug)]
pub struct Keyring {
    /// The first seals, all open.
    keys: Vec<SealingKey>,
    /// What the log is, part of every key derived.
    purpose: &'static str,
    /// Whether a log is opened that needs other keys, too.
    passes_over: bool,
    random: SystemRandom,
}

/// What seals the records of one group.
pub(crate) struct GroupSeal {
    id: KeyId,
    salt: [u8; SALT_BYTES],
    key: LessSafeKey,
}

/// The system gives no random bytes, or a record is longer than the cipher takes: neither is ever met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CannotSeal;

/// Why a record does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// It is sealed with a key that is not here.
    NoKey(KeyId),
    /// It is not what was sealed there.
    Forged,
}

impl Keyring {
    /// A log's keys: the first seals, all open. Without any nothing is sealed.
    #[must_use]
    pub fn new(keys: Vec<SealingKey>, purpose: &'static str) -> Self {
        Self { keys, purpose, passes_over: false, random: SystemRandom::new() }
    }

    /// The same for a log of which as much is read as these keys open; the rest is passed over.
    #[must_use]
    pub fn passing_over(self) -> Self {
        Self { passes_over: true, ..self }
    }

    /// Whether a log is opened that needs other keys, too.
    pub(crate) const fn passes_over(&self) -> bool {
        self.passes_over
    }

    /// No key: nothing is sealed, and nothing sealed can be read.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), "")
    }

    /// The key that seals.
    pub(crate) fn sealing(&self) -> Option<KeyId> {
        self.keys.first().map(SealingKey::id)
    }

    /// Whether what is sealed with this key can be opened.
    pub(crate) fn has(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id() == id)
    }

    /// What seals the next group; `None` if nothing is sealed.
    pub(crate) fn group(&self) -> Result<Option<GroupSeal>, CannotSeal> {
        let Some(key) = self.keys.first() else { return Ok(None) };
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| CannotSeal)?;
        Ok(Some(GroupSeal { id: key.id(), salt, key: self.derived(key, &salt)? }))
    }

    /// The payload of the sealed record at `place`.
    pub(crate) fn open(&self, sealed: &[u8], place: Place) -> Result<Bytes, Unopened> {
        let (id, rest) = sealed.split_first_chunk::<KEY_ID_BYTES>().ok_or(Unopened::Forged)?;
        let (salt, enciphered) = rest.split_first_chunk::<SALT_BYTES>().ok_or(Unopened::Forged)?;
        let id = KeyId(*id);
        let key = self.keys.iter().find(|key| key.id() == id).ok_or(Unopened::NoKey(id))?;
        let key = self.derived(key, salt).map_err(|CannotSeal| Unopened::Forged)?;
        let mut bytes = enciphered.to_vec();
        let opened = key.open_in_place(nonce(place), Aad::from(place), &mut bytes);
        let len = opened.map_err(|_| Unopened::Forged)?.len();
        bytes.truncate(len);
        Ok(bytes.into())
    }

    /// The key of a group.
    fn derived(&self, key: &SealingKey, salt: &[u8]) -> Result<LessSafeKey, CannotSeal> {
        let prk = Salt::new(HKDF_SHA256, salt).extract(key.bytes());
        let info = [b"backstop ".as_slice(), self.purpose.as_bytes()];
        let key = prk.expand(&info, &AES_256_GCM).map_err(|_| CannotSeal)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// The key that a sealed payload names.
pub(crate) fn key_of(sealed: &[u8]) -> Option<KeyId> {
    sealed.first_chunk::<KEY_ID_BYTES>().copied().map(KeyId)
}

impl GroupSeal {
    /// Makes room for what is written before a payload.
    pub(crate) fn begin(out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; HEAD_BYTES]);
    }

    /// Makes room for what is written behind it.
    pub(crate) fn end(out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; TAG_BYTES]);
    }

    /// Seals the payload for which `bytes` has room, to stand at `place`.
    pub(crate) fn seal(&self, bytes: &mut [u8], place: Place) -> Result<(), CannotSeal> {
        let (id, rest) = bytes.split_first_chunk_mut::<KEY_ID_BYTES>().ok_or(CannotSeal)?;
        let (salt, rest) = rest.split_first_chunk_mut::<SALT_BYTES>().ok_or(CannotSeal)?;
        let (payload, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(CannotSeal)?;
        let sealed = self.key.seal_in_place_separate_tag(nonce(place), Aad::from(place), payload);
        *tag = sealed.map_err(|_| CannotSeal)?.as_ref().try_into().map_err(|_| CannotSeal)?;
        (*id, *salt) = (self.id.0, self.salt);
        Ok(())
    }
}

/// The record's position, which no other record of the group has.
fn nonce(place: Place) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    for (to, from) in nonce.iter_mut().zip(place.into_iter().take(8)) {
        *to = from;
    }
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(first: u8) -> SealingKey {
        let hex: String = (0..32).map(|n| format!("{:02x}", first + n)).collect();
        SealingKey::parse(&hex).unwrap()
    }

    fn place(position: u64, group: u64) -> Place {
        [position.to_le_bytes(), group.to_le_bytes()].concat().try_into().unwrap()
    }

    fn sealed(keyring: &Keyring, payload: &[u8], place: Place) -> Vec<u8> {
        let seal = keyring.group().unwrap().unwrap();
        let mut bytes = Vec::new();
        GroupSeal::begin(&mut bytes);
        bytes.extend_from_slice(payload);
        GroupSeal::end(&mut bytes);
        assert_eq!(bytes.len(), payload.len() + SEAL_BYTES);
        seal.seal(&mut bytes, place).unwrap();
        bytes
    }

    #[test]
    fn what_was_sealed_opens_with_its_key_at_its_place_in_its_log_only() {
        let (old, both) = (Keyring::new(vec![key(1)], "log"), Keyring::new(vec![key(2), key(1)], "log"));
        for payload in [b"".as_slice(), b"x", &[7; 5000]] {
            let bytes = sealed(&old, payload, place(64, 32));
            assert_eq!(key_of(&bytes), Some(key(1).id()));
            for keyring in [&old, &both] {
                assert_eq!(keyring.open(&bytes, place(64, 32)).unwrap(), payload);
                assert_eq!(keyring.open(&bytes, place(72, 32)), Err(Unopened::Forged), "moved");
                assert_eq!(keyring.open(&bytes, place(64, 40)), Err(Unopened::Forged), "in another group");
            }
            let elsewhere = Keyring::new(vec![key(1)], "other");
            assert_eq!(elsewhere.open(&bytes, place(64, 32)), Err(Unopened::Forged), "in another log");
            let missing = Err(Unopened::NoKey(key(1).id()));
            assert_eq!(Keyring::new(vec![key(2)], "log").open(&bytes, place(64, 32)), missing);
            assert_eq!(Keyring::none().open(&bytes, place(64, 32)), missing);
        }
    }

    #[test]
    fn no_bit_of_it_can_be_changed_and_nothing_cut_off() {
        let keyring = Keyring::new(vec![key(1), key(2)], "log");
        let bytes = sealed(&keyring, b"payload", place(64, 32));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = keyring.open(&changed, place(64, 32));
            let expected = if bit < 32 { Unopened::NoKey(key_of(&changed).unwrap()) } else { Unopened::Forged };
            assert_eq!(opened, Err(expected), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(keyring.open(&bytes[..len], place(64, 32)), Err(Unopened::Forged), "{len} bytes");
        }
        let mut renamed = bytes;
        renamed[..4].copy_from_slice(&key(2).id().0);
        assert_eq!(keyring.open(&renamed, place(64, 32)), Err(Unopened::Forged), "the other key's");
    }

    /// Two groups at one place, as after a torn write: neither salts nor what was enciphered are alike.
    #[test]
    fn the_same_at_the_same_place_is_never_the_same_bytes() {
        let keyring = Keyring::new(vec![key(1)], "log");
        let bytes: Vec<_> = (0..64).map(|_| sealed(&keyring, &[0; 64], place(64, 32))).collect();
        for (index, one) in bytes.iter().enumerate() {
            for other in &bytes[..index] {
                assert_ne!(one[4..20], other[4..20]);
                assert_ne!(one[20..84], other[20..84]);
            }
        }
    }
}
