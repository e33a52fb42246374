//! Tracks what has arrived of a numbered stream: unique packets, duplicates, gaps.

/// Number of packets that the window remembers; older ones are neither counted nor distinguished.
const WINDOW: u64 = 8192;

/// How a number relates to those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Ahead of everything before; `missing` numbers were skipped.
    Ahead {
        /// How many numbers were skipped.
        missing: u64,
    },
    /// Fills a gap.
    Late,
    /// Seen before.
    Duplicate,
    /// Too far behind to tell.
    Ancient,
}

/// A sliding window over a stream of numbers.
#[derive(Clone, Debug)]
pub struct Tracker {
    first: u64,
    next: u64,
    seen: Vec<u64>,
    /// Numbers seen at least once.
    pub unique: u64,
    /// Numbers seen again.
    pub duplicates: u64,
    /// Numbers too old to tell.
    pub ancient: u64,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            first: 0,
            next: 0,
            seen: vec![0; (WINDOW / 64) as usize],
            unique: 0,
            duplicates: 0,
            ancient: 0,
        }
    }
}

impl Tracker {
    /// Records a number.
    pub fn insert(&mut self, number: u64) -> Arrival {
        if self.unique == 0 {
            (self.first, self.next) = (number, number);
        }
        if number >= self.next {
            let missing = number - self.next;
            for skipped in (self.next..number).rev().take(WINDOW as usize) {
                self.set(skipped, false);
            }
            self.next = number + 1;
            self.set(number, true);
            self.unique += 1;
            return Arrival::Ahead { missing };
        }
        if self.next - number > WINDOW {
            self.ancient += 1;
            return Arrival::Ancient;
        }
        // Below the first one nothing has been cleared yet.
        if number < self.first {
            for unseen in number..self.first {
                self.set(unseen, false);
            }
            self.first = number;
        }
        if self.get(number) {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        self.set(number, true);
        self.unique += 1;
        Arrival::Late
    }

    /// The lowest number seen.
    pub fn first(&self) -> Option<u64> {
        (self.unique > 0).then_some(self.first)
    }

    /// One more than the highest number seen.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Numbers from the lowest seen up to `end` (exclusive), or up to the highest seen if that is
    /// more.
    pub fn expected(&self, end: u64) -> u64 {
        if self.unique == 0 { 0 } else { self.next.max(end) - self.first }
    }

    /// Expected numbers that never arrived.
    pub fn lost(&self, end: u64) -> u64 {
        self.expected(end).saturating_sub(self.unique)
    }

    fn set(&mut self, number: u64, value: bool) {
        let at = number % WINDOW;
        if let Some(word) = self.seen.get_mut((at / 64) as usize) {
            let bit = 1 << (at % 64);
            if value { *word |= bit } else { *word &= !bit }
        }
    }

    fn get(&self, number: u64) -> bool {
        let at = number % WINDOW;
        self.seen.get((at / 64) as usize).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}

/// Extends 16-bit sequence numbers to numbers that do not wrap.
#[derive(Clone, Copy, Default, Debug)]
pub struct Unwrapper {
    last: Option<u64>,
}

impl Unwrapper {
    /// The number nearest to the last one whose low 16 bits are `seq`.
    pub fn unwrap(&mut self, seq: u16) -> u64 {
        // Starts one cycle up, so that what is reordered before the first packet is not below 0.
        let last = self.last.unwrap_or(0x1_0000 | u64::from(seq));
        let delta = seq.wrapping_sub(last as u16) as i16;
        let number = last.wrapping_add_signed(i64::from(delta));
        if self.last.is_none_or(|last| number > last) {
            self.last = Some(number);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_fills_and_duplicates() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.insert(100), Arrival::Ahead { missing: 0 });
        assert_eq!(tracker.insert(103), Arrival::Ahead { missing: 2 });
        assert_eq!(tracker.lost(0), 2);
        assert_eq!(tracker.insert(101), Arrival::Late);
        assert_eq!(tracker.insert(101), Arrival::Duplicate);
        assert_eq!(tracker.insert(98), Arrival::Late);
        assert_eq!((tracker.first(), tracker.next()), (Some(98), 104));
        assert_eq!(tracker.expected(0), 6);
        assert_eq!(tracker.lost(0), 2); // 99 and 102
        assert_eq!(tracker.lost(110), 8);
    }

    #[test]
    fn far_jumps_and_ancient_numbers() {
        let mut tracker = Tracker::default();
        tracker.insert(0);
        tracker.insert(100_000);
        assert_eq!(tracker.insert(0), Arrival::Ancient);
        assert_eq!(tracker.insert(99_999), Arrival::Late);
        assert_eq!(tracker.unique, 3);
    }

    #[test]
    fn unwraps_over_the_edge_and_back() {
        let mut unwrapper = Unwrapper::default();
        let base = unwrapper.unwrap(65_534);
        assert_eq!(unwrapper.unwrap(1), base + 3);
        assert_eq!(unwrapper.unwrap(65_535), base + 1);
        assert_eq!(unwrapper.unwrap(2), base + 4);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(numbers in proptest::collection::vec(0u64..500, 1..400)) {
            let mut tracker = Tracker::default();
            let mut set = std::collections::BTreeSet::new();
            let mut duplicates = 0;
            for number in numbers {
                tracker.insert(number);
                duplicates += u64::from(!set.insert(number));
            }
            prop_assert_eq!(tracker.unique, set.len() as u64);
            prop_assert_eq!(tracker.duplicates, duplicates);
            let span = set.last().unwrap() - set.first().unwrap() + 1;
            prop_assert_eq!(tracker.lost(0), span - set.len() as u64);
        }
    }
}
