//! A quick hash, for what nobody outside can choose.
//!
//! The standard one withstands keys that were made to collide, at the cost of a good part of a decision.
//! Ids are made by the gateway, with a random part, and names come from its config. Not for the keys of
//! events: senders choose those.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by ids or names.
pub(super) type OwnMap<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// The beginning of pi's fraction: odd, and without a pattern.
const MULTIPLIER: u128 = 0x243f_6a88_85a3_08d3;

/// Multiplies and folds, word by word.
#[derive(Debug, Default)]
pub(super) struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        // The length of the input is not mixed in: keys of one map have one shape or end in a mark.
        let product = u128::from(self.0.rotate_left(5) ^ word) * MULTIPLIER;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_u128(&mut self, number: u128) {
        self.mix(number as u64);
        self.mix((number >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::Mixer;
    use crate::core::id::{DeliveryId, IdSource};
    use crate::core::timestamp::Timestamp;

    /// A map takes a hash's lowest bits for the place and its highest for a first comparison.
    #[test]
    fn ids_that_follow_each_other_are_spread() {
        let (mut ids, mut rng) = (IdSource::default(), fastrand::Rng::with_seed(1));
        let now = Timestamp::from_millis(1_700_000_000_000);
        let of_ids: Vec<DeliveryId> =
            (0..1u16 << 12).map(|number| ids.event(now, &mut rng).delivery(number % 4)).collect();
        let hash = |id: &DeliveryId| BuildHasherDefault::<Mixer>::default().hash_one(id);
        let places: HashSet<u64> = of_ids.iter().map(|id| hash(id) % (1 << 12)).collect();
        let firsts: HashSet<u64> = of_ids.iter().map(|id| hash(id) >> 57).collect();
        // Balls thrown into as many boxes leave 1/e of them empty.
        assert!(places.len() > 2400, "{}", places.len());
        assert_eq!(firsts.len(), 1 << 7);
    }
}
