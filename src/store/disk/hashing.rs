//! A hash for the ids and numbers that this process gives itself: nobody chooses them, so that a multiplication will do.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps with such keys.
pub(super) type BuildIdHasher = BuildHasherDefault<IdHasher>;

/// Any odd number with its ones spread over all of it.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The map takes the low bits and the high ones; a product has its best in the high half.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(FACTOR);
    }

    fn write_u128(&mut self, id: u128) {
        self.write_u64(id as u64);
        self.write_u64((id >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, hash::BuildHasher};

    use super::*;

    #[test]
    fn numbers_that_follow_each_other_lie_apart() {
        let hashes = (0..1u64 << 16).map(|number| BuildIdHasher::default().hash_one(number));
        let (low, high): (HashSet<_>, HashSet<_>) = hashes.map(|hash| (hash % (1 << 16), hash >> 57)).unzip();
        assert!(low.len() > 30_000 && high.len() == 128, "{} {}", low.len(), high.len());
    }
}
