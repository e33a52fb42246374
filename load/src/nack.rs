//! Tracks which packets a receiver requests again, and when (RFC 4585 section 6.2.1).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Tolerated reordering before a packet is requested.
const REORDER: Duration = Duration::from_millis(5);
/// Interval of repeated requests.
const RETRY: Duration = Duration::from_millis(40);
/// Most requests for one packet.
const TRIES: u8 = 20;
/// Most packets requested at a time: a longer gap needs a keyframe.
const MAX_MISSING: usize = 1000;

/// The missing packets of one stream, by unwrapped sequence number.
#[derive(Clone, Default, Debug)]
pub struct Nacker {
    missing: BTreeMap<u64, Missing>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    due: Instant,
    tries: u8,
}

impl Nacker {
    /// Records that the numbers `from..to` were skipped.
    pub fn skipped(&mut self, from: u64, to: u64, now: Instant) {
        let due = now + REORDER;
        for number in from..to {
            if self.missing.len() >= MAX_MISSING {
                self.missing.pop_first();
            }
            self.missing.insert(number, Missing { due, tries: 0 });
        }
    }

    /// Records a late arrival. Returns whether the number had been requested.
    pub fn arrived(&mut self, number: u64) -> bool {
        self.missing.remove(&number).is_some_and(|missing| missing.tries > 0)
    }

    /// Returns whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// The numbers to request now, in order. Numbers that were requested too often are given up.
    pub fn due(&mut self, now: Instant) -> Vec<u16> {
        self.missing.retain(|_, missing| missing.tries < TRIES || missing.due > now);
        let mut wanted = Vec::new();
        for (number, missing) in &mut self.missing {
            if missing.due <= now && missing.tries < TRIES {
                missing.tries += 1;
                missing.due = now + RETRY;
                wanted.push(*number as u16);
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_asks_asks_again_and_gives_up() {
        let start = Instant::now();
        let mut nacker = Nacker::default();
        nacker.skipped(65_535, 65_537, start);
        assert!(nacker.due(start).is_empty());
        assert_eq!(nacker.due(start + REORDER), [65_535, 0]);
        assert!(nacker.due(start + REORDER).is_empty());
        assert!(nacker.arrived(65_535));
        assert!(!nacker.arrived(65_535));
        let mut asked = 1;
        let mut now = start + REORDER;
        while !nacker.is_empty() {
            now += RETRY;
            asked += nacker.due(now).len();
        }
        assert_eq!(asked, usize::from(TRIES));
    }

    #[test]
    fn early_arrivals_are_not_recoveries_and_the_list_is_bounded() {
        let start = Instant::now();
        let mut nacker = Nacker::default();
        nacker.skipped(10, 12, start);
        assert!(!nacker.arrived(10));
        nacker.skipped(100, 100_000, start);
        assert!(nacker.due(start + REORDER).len() <= MAX_MISSING);
    }
}
