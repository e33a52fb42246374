//! Remembers which of the last packets of an encoding were not forwarded, so that a late packet
//! gets the number that was left for it.

/// Number of packets that are remembered.
pub(super) const WINDOW: u64 = 1_024;
const WORDS: usize = 16;

/// Recently skipped packets of an encoding.
#[derive(Clone, Debug, Default)]
pub(super) struct Skipped {
    /// A bit for each index modulo [`WINDOW`]; empty until something is skipped, which in most
    /// streams never happens.
    bits: Box<[u64]>,
    /// The newest skipped index; `None` if there is none in the window.
    newest: Option<u64>,
}

impl Skipped {
    /// Removes all entries.
    pub(super) fn clear(&mut self) {
        self.newest = None;
    }

    /// Advances from `before` to `index`, which is forwarded; packets in between are expected.
    #[inline]
    pub(super) fn pass(&mut self, before: u64, index: u64) {
        if self.newest.is_some() {
            self.forget(before, index);
        }
    }

    /// Advances from `before` to `index`, which is not forwarded.
    pub(super) fn skip(&mut self, before: u64, index: u64) {
        if self.bits.is_empty() {
            self.bits = Box::new([0; WORDS]);
        } else if self.newest.is_none() {
            self.bits.fill(0);
        }
        self.forget(before, index);
        let (word, bit) = place(index);
        if let Some(word) = self.bits.get_mut(word) {
            *word |= bit;
        }
        self.newest = Some(index);
    }

    /// Number of packets after `index` and up to `newest` that were not forwarded.
    pub(super) fn between(&self, index: u64, newest: u64) -> u64 {
        let known = self.newest.is_some() && newest.saturating_sub(index) < WINDOW;
        let set = |at: &u64| {
            let (word, bit) = place(*at);
            self.bits.get(word).is_some_and(|word| word & bit != 0)
        };
        let behind = index.saturating_add(1)..=newest;
        if known { behind.filter(set).fold(0, |count, _| count.saturating_add(1)) } else { 0 }
    }

    /// Clears the bits of the packets after `before` and up to `index`, which are reused.
    fn forget(&mut self, before: u64, index: u64) {
        if index.saturating_sub(before) >= WINDOW {
            self.bits.fill(0);
        } else {
            for at in before.saturating_add(1)..=index {
                let (word, bit) = place(at);
                if let Some(word) = self.bits.get_mut(word) {
                    *word &= !bit;
                }
            }
        }
        if self.newest.is_some_and(|newest| index.saturating_sub(newest) >= WINDOW) {
            self.newest = None;
        }
    }
}

/// The word and the bit of an index.
const fn place(index: u64) -> (usize, u64) {
    let at = index % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_like_a_list(
            first in 0u64..100_000,
            steps in proptest::collection::vec((1u64..6, any::<bool>()), 1..3_000),
        ) {
            let mut skipped = Skipped::default();
            let mut list = Vec::new();
            let mut newest = first;
            for (step, forwarded) in steps {
                let index = newest + step;
                if forwarded {
                    skipped.pass(newest, index);
                } else {
                    skipped.skip(newest, index);
                    list.push(index);
                }
                newest = index;
            }
            for back in [0, 1, 2, 63, 64, 65, 500, WINDOW - 1] {
                let from = newest.saturating_sub(back);
                let expected = list.iter().filter(|at| **at > from).count() as u64;
                prop_assert_eq!(skipped.between(from, newest), expected, "{}", back);
            }
        }
    }
}
