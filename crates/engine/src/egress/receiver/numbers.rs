//! The next unused packet numbers of the SSRCs under which a receiver is sent, so that no number is
//! used twice under one key (RFC 3711 section 9.1), and so that each SSRC continues where it ended.
//!
//! The memory is bounded, and a sender that uses many SSRCs harms no other. Streams that sent least
//! are evicted first: a cell of a table, found by a keyed hash of the SSRC, keeps the highest
//! number of all SSRCs that fell into it. An SSRC of which nothing else is known begins there:
//! perhaps too high, never too low, and below 2^15 as a receiver needs it. Only a stream of 2^15
//! packets closes its cell to others, and it stays exactly known until `MAX_EXACT` such streams
//! have ended.

use std::collections::HashSet;

use rialto_media::{HashKey, KeyedMap};

/// The first number of a stream. All begin low, so that it takes many packets to close a cell.
pub const FIRST: u64 = 1;
/// A stream begins below this: the first number that a receiver sees must have a roll-over counter
/// of zero (RFC 3711 section 3.3.1), whatever was lost before.
const LIMIT: u64 = 1 << 15;
/// Most ended streams whose numbers are known exactly.
const MAX_EXACT: usize = 4_096;
/// Number of cells for all others: a power of two.
const CELLS: usize = 4_096;
/// Marks a cell from which no stream may begin.
const CLOSED: u16 = u16::MAX;
/// Streams evicted at a time: the most, and the fewest if all have come far.
const EVICT: (usize, usize) = (MAX_EXACT / 4, 16);

/// Why nothing may be sent under an SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SsrcRefused {
    /// It is in use. Two streams under one SSRC and key would use the same nonces (RFC 3711 section
    /// 9.1).
    #[error("another subscription sends under this SSRC")]
    InUse,
    /// Its earlier numbers are forgotten, and may be higher than a stream may begin.
    #[error("how far this SSRC has come is forgotten")]
    Forgotten,
    /// The source has no encodings and thus no SSRC.
    #[error("there is no SSRC to send under")]
    Lacking,
}

/// The next unused numbers of a receiver's SSRCs.
#[derive(Debug, Default)]
pub struct SsrcNumbers {
    live: HashSet<u32, HashKey>,
    /// The next unused number of each ended stream.
    ended: KeyedMap<u32, u64>,
    /// The same for evicted streams; empty until the first is evicted.
    cells: Box<[u16]>,
    secret: u64,
}

impl SsrcNumbers {
    /// Sets the secret hash key of the tables by SSRC, which must be empty.
    pub fn set_hash_key(&mut self, key: HashKey) {
        self.live = HashSet::with_hasher(key);
        self.ended = KeyedMap::with_hasher(key);
    }

    /// Reserves an SSRC for a subscription, and returns the first number that may be used.
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

    /// Releases an SSRC at the end of a subscription; `next` is its first unused number. `random`
    /// is secret: it chooses the cells.
    pub fn end(&mut self, ssrc: u32, next: u64, random: u64) {
        self.live.remove(&ssrc);
        if self.cell(ssrc) == Some(next) {
            return;
        }
        if self.ended.len() >= MAX_EXACT {
            self.evict(random);
        }
        self.ended.insert(ssrc, next);
    }

    /// Resets everything for new keys, under which all numbers are unused.
    pub fn new_keys(&mut self) {
        self.ended = KeyedMap::with_hasher(*self.ended.hasher());
        self.cells = Box::default();
    }

    /// The first number for an SSRC of which nothing more is known; `None` if it may not be used.
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

    /// Evicts the streams that sent least.
    #[cold]
    fn evict(&mut self, random: u64) {
        if self.cells.is_empty() {
            self.cells = vec![narrow(FIRST); CELLS].into();
            self.secret = random;
        }
        let mut all: Vec<_> = self.ended.iter().map(|(ssrc, next)| (*next, *ssrc)).collect();
        all.sort_unstable();
        let low = all.partition_point(|(next, _)| *next < LIMIT);
        let (most, fewest) = EVICT;
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

/// The value of a cell for a number.
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
            // It was refused before, and so never used.
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
