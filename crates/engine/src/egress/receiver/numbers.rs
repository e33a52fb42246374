//! How far the SSRCs under which a receiver is sent have come, so that no number is used twice under
//! one key (RFC 3711 section 9.1), and so that each continues where it ended.
//!
//! What is remembered is bounded, and whoever sends under many SSRCs harms nobody else. Those that were
//! sent least give way first: a cell of a table, found by a keyed hash of the SSRC, keeps the highest
//! number of all that fell into it. An SSRC of which nothing else is known begins there: too high
//! perhaps, never too low, and below 2^15 as a receiver needs it. Only a stream of 2^15 packets closes
//! its cell to others, and it stays exactly known until `MAX_EXACT` such streams have ended.

use std::collections::HashSet;

use rialto_media::{HashKey, KeyedMap};

/// The number at which a stream begins. All begin low, so that it takes many packets to close a cell.
pub const FIRST: u64 = 1;
/// A stream begins below: the first number that a receiver sees must have a roll-over counter of zero
/// (RFC 3711 section 3.3.1), whatever was lost before.
const LIMIT: u64 = 1 << 15;
/// Ended streams that are known exactly.
const MAX_EXACT: usize = 4_096;
/// Cells for all others: a power of two.
const CELLS: usize = 4_096;
/// Of a cell from which nothing may begin.
const CLOSED: u16 = u16::MAX;
/// The most, and when all have come far the fewest, that give way at one time.
const GIVE_WAY: (usize, usize) = (MAX_EXACT / 4, 16);

/// Why nothing may be sent under an SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SsrcRefused {
    /// Two streams under one SSRC and key would use the same nonces (RFC 3711 section 9.1).
    #[error("another subscription sends under this SSRC")]
    InUse,
    /// It may have been used before, further than a stream may begin.
    #[error("how far this SSRC has come is forgotten")]
    Forgotten,
    /// A source without encodings has none.
    #[error("there is no SSRC to send under")]
    Lacking,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct SsrcNumbers {
    live: HashSet<u32, HashKey>,
    /// The first unused number of each stream that has ended.
    ended: KeyedMap<u32, u64>,
    /// The same for all others; empty until the first gives way.
    cells: Box<[u16]>,
    secret: u64,
}

impl SsrcNumbers {
    /// Gives the tables of SSRCs their secret. They must be empty.
    pub fn set_hash_key(&mut self, key: HashKey) {
        self.live = HashSet::with_hasher(key);
        self.ended = KeyedMap::with_hasher(key);
    }

    /// Takes an SSRC for a subscription, and gives the first number that may be used.
    ///
    /// # Errors
    /// [`SsrcRefused`]: nothing may be sent under it.
    pub fn begin(&mut self, ssrc: u32) -> Result<u64, SsrcRefused> {
        if self.live.contains(&ssrc) {
            return Err(SsrcRefused::InUse);
        }
        let first = match self.ended.remove(&ssrc) {
            Some(next) => next,
            None => self.cell(ssrc).filter(|next| *next < LIMIT).ok_or(SsrcRefused::Forgotten)?,
        };
        self.live.insert(ssrc);
        Ok(first)
    }

    /// The subscription has ended; `next` is the first number it has not used. `random` is secret: the
    /// cells are chosen by it.
    pub fn end(&mut self, ssrc: u32, next: u64, random: u64) {
        self.live.remove(&ssrc);
        if self.cell(ssrc) == Some(next) {
            return;
        }
        if self.ended.len() >= MAX_EXACT {
            self.give_way(random);
        }
        self.ended.insert(ssrc, next);
    }

    /// New keys: every number is unused under them.
    pub fn new_keys(&mut self) {
        self.ended = KeyedMap::with_hasher(*self.ended.hasher());
        self.cells = Box::default();
    }

    /// Where an SSRC begins of which nothing more is known; `None`: nowhere.
    fn cell(&self, ssrc: u32) -> Option<u64> {
        if self.cells.is_empty() {
            return Some(FIRST);
        }
        self.cells.get(self.place(ssrc)).filter(|next| **next != CLOSED).map(|n| u64::from(*n))
    }

    fn place(&self, ssrc: u32) -> usize {
        let mixed = (u64::from(ssrc) ^ self.secret).wrapping_mul(self.secret | 1);
        (mixed >> 40) as usize % CELLS
    }

    /// Those that were sent least are no longer known exactly.
    #[cold]
    fn give_way(&mut self, random: u64) {
        if self.cells.is_empty() {
            self.cells = vec![narrow(FIRST); CELLS].into();
            self.secret = random;
        }
        let mut all: Vec<_> = self.ended.iter().map(|(ssrc, next)| (*next, *ssrc)).collect();
        all.sort_unstable();
        let low = all.partition_point(|(next, _)| *next < LIMIT);
        let (most, fewest) = GIVE_WAY;
        for (next, ssrc) in all.into_iter().take(low.min(most).max(fewest)) {
            self.ended.remove(&ssrc);
            let next = narrow(next);
            let place = self.place(ssrc);
            if let Some(cell) = self.cells.get_mut(place) {
                *cell = next.max(*cell);
            }
        }
    }
}

/// What a cell says of a number.
fn narrow(next: u64) -> u16 {
    u16::try_from(next).ok().filter(|next| u64::from(*next) < LIMIT).unwrap_or(CLOSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: u64 = 0x9e37_79b9_7f4a_7c15;

    fn used(numbers: &mut SsrcNumbers, ssrc: u32, packets: u64) -> u64 {
        let first = numbers.begin(ssrc).unwrap();
        numbers.end(ssrc, first + packets, SECRET);
        first
    }

    #[test]
    fn an_ssrc_in_use_is_refused_and_continues_after_its_end() {
        let mut n = SsrcNumbers::default();
        assert_eq!(n.begin(1), Ok(FIRST));
        assert_eq!(n.begin(1), Err(SsrcRefused::InUse));
        assert_eq!(n.begin(1), Err(SsrcRefused::InUse), "being refused does not free it");
        n.end(1, 200_000, SECRET);
        assert_eq!(n.begin(1), Ok(200_000));
        n.end(1, 200_000, SECRET);
        assert_eq!(n.begin(1), Ok(200_000), "also when nothing was sent");
        n.end(1, 200_001, SECRET);
        n.new_keys();
        assert_eq!(n.begin(1), Ok(FIRST));
    }

    #[test]
    fn who_uses_very_many_ssrcs_keeps_nobody_out_and_no_number_is_used_twice() {
        let mut n = SsrcNumbers::default();
        for ssrc in 0..100 {
            used(&mut n, ssrc, 1 << 20);
        }
        let burned = 1_000..201_000;
        for ssrc in burned.clone() {
            assert!(used(&mut n, ssrc, 10) < LIMIT, "{ssrc}");
        }
        assert!(n.ended.len() <= MAX_EXACT && n.cells.len() == CELLS);
        for ssrc in 0..100 {
            assert_eq!(n.begin(ssrc), Ok(FIRST + (1 << 20)), "who sent much is known exactly");
        }
        for ssrc in 1_000_000..1_002_000 {
            assert!(n.begin(ssrc).unwrap() < LIMIT, "newcomers are served");
        }
        for ssrc in burned {
            let first = n.begin(ssrc).unwrap();
            assert!((FIRST + 10..LIMIT).contains(&first), "{ssrc} was used up to 10: {first}");
        }
    }

    #[test]
    fn what_came_far_and_is_forgotten_never_begins_again() {
        let mut n = SsrcNumbers::default();
        let long = 0..2 * MAX_EXACT as u32;
        for ssrc in long.clone() {
            // A closed cell refuses some of them.
            if let Ok(first) = n.begin(ssrc) {
                n.end(ssrc, first + LIMIT, SECRET);
            }
        }
        for ssrc in long {
            let first = n.begin(ssrc);
            let known = first.is_ok_and(|first| first > LIMIT);
            let refused = first == Err(SsrcRefused::Forgotten);
            // Refused before, and so never used.
            let unused = first.is_ok_and(|first| first < LIMIT);
            assert!(known || refused || !unused, "{ssrc}: {first:?}");
        }
    }

    #[test]
    fn subscriptions_that_last_are_not_counted() {
        let mut n = SsrcNumbers::default();
        assert!((0..3 * MAX_EXACT as u32).all(|ssrc| n.begin(ssrc) == Ok(FIRST)));
        assert!(n.cells.is_empty());
    }
}
