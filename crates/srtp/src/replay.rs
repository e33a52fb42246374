//! The replay window of a stream (RFC 3711 section 3.3.2).
#![expect(
    clippy::arithmetic_side_effects,
    reason = "compared before they are subtracted; an index has 48 bits"
)]

use super::SrtpError;

/// Words of the bitmap.
const WORDS: usize = 16;
/// Number of packets that the window remembers: the newest and those behind it. About half a second
/// of a 10 Mbit/s stream, more than any retransmission takes.
pub(super) const WINDOW: u64 = WORDS as u64 * 64;

/// Which of the last [`WINDOW`] indices were seen. The bitmap is a ring: the bit of an index is its
/// value modulo the window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    highest: u64,
    bits: [u64; WORDS],
}

impl Window {
    /// A window that has seen `index` only.
    pub(super) fn new(index: u64) -> Self {
        let mut window = Self { highest: index, bits: [0; WORDS] };
        window.set(index);
        window
    }

    /// The highest index seen.
    #[inline]
    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Returns whether a packet of this index may be new.
    #[inline]
    pub(super) fn check(&self, index: u64) -> Result<(), SrtpError> {
        if index > self.highest {
            return Ok(());
        }
        if self.highest - index >= WINDOW {
            return Err(SrtpError::TooOld);
        }
        let (word, bit) = Self::place(index);
        match self.bits.get(word) {
            Some(bits) if bits & bit == 0 => Ok(()),
            _ => Err(SrtpError::Replay),
        }
    }

    /// Records an index that passed [`Self::check`] and whose packet is authentic.
    #[inline]
    pub(super) fn accept(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= WINDOW {
                self.bits = [0; WORDS];
            } else {
                for skipped in self.highest + 1..index {
                    self.clear(skipped);
                }
            }
            self.highest = index;
        }
        self.set(index);
    }

    #[inline]
    fn place(index: u64) -> (usize, u64) {
        ((index / 64) as usize % WORDS, 1 << (index % 64))
    }

    #[inline]
    fn set(&mut self, index: u64) {
        let (word, bit) = Self::place(index);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= bit;
        }
    }

    #[inline]
    fn clear(&mut self, index: u64) {
        let (word, bit) = Self::place(index);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// The model is the set of all indices ever accepted.
        #[test]
        fn agrees_with_a_set(
            start in 0u64..200_000,
            steps in proptest::collection::vec(
                prop_oneof![8 => -40i64..40, 1 => -3000i64..3000], 1..300),
        ) {
            let mut window = Window::new(start);
            let mut seen = HashSet::from([start]);
            let mut highest = start;
            for step in steps {
                let Some(index) = highest.checked_add_signed(step) else { continue };
                let expected = if index + WINDOW <= highest {
                    Err(SrtpError::TooOld)
                } else if seen.contains(&index) {
                    Err(SrtpError::Replay)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(index), expected);
                if expected.is_ok() {
                    window.accept(index);
                    seen.insert(index);
                    highest = highest.max(index);
                    prop_assert_eq!(window.highest(), highest);
                    prop_assert_eq!(window.check(index), Err(SrtpError::Replay));
                }
            }
        }
    }
}
