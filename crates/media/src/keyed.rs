//! Hash maps whose keys peers choose: addresses, ports, SSRCs. Their hash has a secret key
//! (SipHash-1-3), so that nobody can choose keys that fall into one bucket. Maps by our own ids
//! need no secret and use a faster hash.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
};

use siphasher::sip::SipHasher13;

/// A map whose hash has a secret key.
pub type KeyedMap<K, V> = HashMap<K, V, HashKey>;

/// The step of [`SplitMix64`].
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator of numbers that depend only on a seed (Steele, Lea and Flood: Fast splittable
/// pseudorandom number generators). Two different states never give the same sequence.
#[derive(Clone, Copy, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The secret key of a map. One seed gives one key, so that a simulation can be repeated.
#[derive(Clone, Copy)]
pub struct HashKey(u64, u64);

/// A random key, so that no map is without a secret by mistake.
impl Default for HashKey {
    fn default() -> Self {
        Self::new(RandomState::new().hash_one(0), 0)
    }
}

impl HashKey {
    /// The key for the map `purpose` of a shard with this seed.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut numbers = SplitMix64(seed ^ purpose.wrapping_mul(GOLDEN));
        Self(numbers.draw(), numbers.draw())
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

impl BuildHasher for HashKey {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Places in a table of 4,096 of as many SSRCs.
    fn places(key: HashKey) -> Vec<u64> {
        (0..4_096u32).map(|ssrc| key.hash_one(ssrc << 16) & 0xfff).collect()
    }

    #[test]
    fn another_seed_or_purpose_hashes_otherwise_and_the_same_one_again() {
        let key = HashKey::new(1, 2);
        assert_eq!(places(key), places(HashKey::new(1, 2)));
        for other in [HashKey::new(2, 2), HashKey::new(1, 3)] {
            assert_ne!(places(key), places(other));
        }
    }

    #[test]
    fn chosen_numbers_spread() {
        let places: BTreeSet<u64> = places(HashKey::new(1, 2)).into_iter().collect();
        // Of random SSRCs, 63 % of the places are taken.
        assert!(places.len() > 2_300, "{}", places.len());
    }
}
