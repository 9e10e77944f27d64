//! A Bloom filter over a run's tags: most look-ups of new fingerprints need not touch the run at all.
//!
//! Kept in memory only, for runs that this process wrote, newest first up to [`FILTERS_MAX_BYTES`]; a run
//! without one is simply asked.

/// Memory for all filters together, in bytes.
pub(super) const FILTERS_MAX_BYTES: usize = 32 << 20;
const BITS_PER_TAG: usize = 10;
/// Bits set per tag: the best number for ten bits a tag; about one false hit in a hundred.
const PROBES: u64 = 7;

/// The filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty filter for about `tags` tags.
    pub(super) fn for_tags(tags: usize) -> Self {
        Self::with_bytes(tags * BITS_PER_TAG / 8)
    }

    /// An empty filter of this size.
    pub(super) fn with_bytes(bytes: usize) -> Self {
        Self { words: vec![0; bytes.div_ceil(8).max(1)] }
    }

    pub(super) fn add(&mut self, tag: u64) {
        for (word, bit) in self.places(tag) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether the tag may be there; `false` is certain.
    pub(super) fn may_have(&self, tag: u64) -> bool {
        self.places(tag).all(|(word, bit)| self.words.get(word).is_some_and(|word| word & bit != 0))
    }

    pub(super) const fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// A tag is a hash already: its halves give all probes (Kirsch and Mitzenmacher, 2006).
    fn places(&self, tag: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.words.len() as u64 * 64;
        let step = tag.rotate_left(32) | 1;
        (0..PROBES).map(move |probe| {
            let bit = tag.wrapping_add(probe.wrapping_mul(step)) % bits;
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_denies_what_is_there_and_seldom_claims_what_is_not() {
        let rng = &mut fastrand::Rng::with_seed(5);
        let tags: Vec<u64> = (0..20_000).map(|_| rng.u64(..)).collect();
        let mut filter = Filter::for_tags(tags.len());
        tags.iter().for_each(|tag| filter.add(*tag));
        assert!(tags.iter().all(|tag| filter.may_have(*tag)));
        let false_hits = (0..20_000).filter(|_| filter.may_have(rng.u64(..))).count();
        assert!(false_hits < 600, "{false_hits} of 20 000");
    }
}
