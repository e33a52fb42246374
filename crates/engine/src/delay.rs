//! How long packets spend in a shard, as a histogram of fixed size.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters and microseconds of 64 bits"
)]

use std::time::Duration;

/// Upper bounds of the buckets, µs; the last bucket has none.
pub const BOUNDS_US: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, u64::MAX];

/// A histogram of delays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DelayHistogram {
    /// Number of delays in each bucket of [`BOUNDS_US`]; not cumulative.
    pub buckets: [u64; BOUNDS_US.len()],
    /// Sum of all delays, µs.
    pub sum_us: u64,
}

impl DelayHistogram {
    /// Adds one delay.
    #[inline]
    pub fn record(&mut self, delay: Duration) {
        let us = delay.as_micros() as u64;
        let place = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Adds the counts of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (ours, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *ours = ours.saturating_add(theirs);
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Number of delays.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Number of delays of at most `us`, which must be one of the bounds.
    pub fn up_to(&self, us: u64) -> u64 {
        let within = self.buckets.iter().zip(BOUNDS_US).take_while(|(_, bound)| *bound <= us);
        within.fold(0, |sum, (count, _)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_counted_where_it_belongs() {
        let mut delays = DelayHistogram::default();
        for us in [0, 50, 51, 1_000, 1_001, 3_600_000_000] {
            delays.record(Duration::from_micros(us));
        }
        assert_eq!(delays.buckets, [2, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!((delays.count(), delays.up_to(1_000), delays.up_to(500_000)), (6, 4, 5));
        let twice = delays;
        delays.add(&twice);
        assert_eq!((delays.count(), delays.sum_us), (12, 2 * 3_600_002_102));
    }
}
