//! Remembers which packets of a stream were accepted, plain or as RTX. SRTP's replay window cannot
//! tell: a packet may arrive once plain and once inside an RTX packet.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "compared before they are subtracted; an index has 48 bits"
)]

const WORDS: usize = 16;
/// Number of packets remembered.
const BITS: u64 = WORDS as u64 * 64;

/// A sliding bitmap over packet indices.
#[derive(Clone, Debug, Default)]
pub struct SeenWindow {
    newest: Option<u64>,
    words: [u64; WORDS],
}

impl SeenWindow {
    /// Marks a packet. Returns false if it was marked before or is too old to tell.
    #[inline]
    pub fn mark(&mut self, index: u64) -> bool {
        let newest = *self.newest.get_or_insert(index);
        if index > newest {
            if index - newest >= BITS {
                self.words = [0; WORDS];
            } else {
                for i in newest + 1..=index {
                    self.clear(i);
                }
            }
            self.newest = Some(index);
        } else if newest - index >= BITS {
            return false;
        }
        let bit = 1u64 << (index % 64);
        match self.words.get_mut((index / 64) as usize % WORDS) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// The newest marked packet.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    fn clear(&mut self, index: u64) {
        if let Some(word) = self.words.get_mut((index / 64) as usize % WORDS) {
            *word &= !(1u64 << (index % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in proptest::collection::vec(-600i64..700, 1..500)) {
            let (mut window, mut model) = (SeenWindow::default(), HashSet::new());
            let (mut at, mut newest) = (10_000i64, 10_000i64);
            for step in steps {
                at = (newest + step).max(0);
                let too_old = newest - at >= BITS as i64 && !model.is_empty();
                let expected = !too_old && model.insert(at);
                prop_assert_eq!(window.mark(at as u64), expected, "at {}", at);
                newest = if model.len() == 1 { at } else { newest.max(at) };
            }
            let _ = at;
        }
    }
}
