//! Limits on how often something may happen. All take the time as an argument.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How much a [`TokenBucket`] allows: some units at once, then one in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time that one unit costs.
    unit: Duration,
    /// All units of a full bucket, as time.
    full: Duration,
}

impl Rate {
    /// `burst` units at once, then `per_second` units a second. A unit costs whole nanoseconds: the rate is
    /// up to `per_second` parts in a billion higher than asked for. Zero counts as one.
    pub const fn per_second(per_second: u32, burst: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        Self::each(Duration::from_nanos(1_000_000_000 / per_second as u64), burst)
    }

    /// `burst` units at once, at least one, then one in each `interval`.
    pub const fn each(interval: Duration, burst: u32) -> Self {
        let burst = if burst == 0 { 1 } else { burst };
        Self { unit: interval, full: interval.saturating_mul(burst) }
    }

    const fn cost(&self, units: u32) -> Duration {
        self.unit.saturating_mul(units)
    }
}

/// A token bucket, which is full when it is new. Its state is the time at which it will be full again (the
/// generic cell rate algorithm of ITU-T I.371), so that idle buckets need no refill, and many buckets can
/// share one [`Rate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TokenBucket {
    full_at: Option<Instant>,
}

impl TokenBucket {
    /// Takes `units` if there are so many. Returns whether it did.
    pub fn take(&mut self, rate: &Rate, units: u32, now: Instant) -> bool {
        let has = self.has(rate, units, now);
        if has {
            self.charge(rate, units, now);
        }
        has
    }

    /// Whether there are `units`.
    pub fn has(&self, rate: &Rate, units: u32, now: Instant) -> bool {
        self.wait(rate, units, now).is_zero()
    }

    /// Takes `units` whether they are there or not. What was not there is owed.
    pub fn charge(&mut self, rate: &Rate, units: u32, now: Instant) {
        let from = self.full_at.map_or(now, |at| at.max(now));
        // Where the clock ends, the bucket stays as it is.
        self.full_at = from.checked_add(rate.cost(units)).or(self.full_at);
    }

    /// The time until there are `units`; zero if there are. For more than a burst it is the time until the
    /// bucket could lend them.
    pub fn wait(&self, rate: &Rate, units: u32, now: Instant) -> Duration {
        self.missing(now).saturating_add(rate.cost(units)).saturating_sub(rate.full)
    }

    /// Whether nothing that was taken counts any more.
    pub fn is_full(&self, now: Instant) -> bool {
        self.missing(now).is_zero()
    }

    /// The time until the bucket is full.
    fn missing(&self, now: Instant) -> Duration {
        self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

/// A limit on log lines that a peer can cause, for one call site:
///
/// ```
/// # use rialto_media::{LogLimit, Rate};
/// # use std::time::{Duration, Instant};
/// static LIMIT: LogLimit = LogLimit::new(Rate::each(Duration::from_secs(10), 3));
/// if let Some(suppressed) = LIMIT.allow(Instant::now()) {
///     println!("what happened, and {suppressed} times before without a line");
/// }
/// ```
///
/// It takes a lock, so that it is not for the packet path.
#[derive(Debug)]
pub struct LogLimit {
    rate: Rate,
    state: Mutex<LogState>,
}

#[derive(Debug)]
struct LogState {
    bucket: TokenBucket,
    suppressed: u64,
}

impl LogLimit {
    /// Lines at this rate.
    pub const fn new(rate: Rate) -> Self {
        let state = LogState { bucket: TokenBucket { full_at: None }, suppressed: 0 };
        Self { rate, state: Mutex::new(state) }
    }

    /// Whether to log now: `Some` with the number of lines that were suppressed since the last one.
    pub fn allow(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bucket.take(&self.rate, 1, now) {
            return Some(std::mem::take(&mut state.suppressed));
        }
        state.suppressed = state.suppressed.saturating_add(1);
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(bucket: &mut TokenBucket, rate: &Rate, units: u32, now: Instant) -> usize {
        (0..2_000).filter(|_| bucket.take(rate, units, now)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (rate, start) = (Rate::per_second(50, 100), Instant::now());
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, &rate, 1, start), 100);
        assert_eq!(taken(&mut bucket, &rate, 1, start + SECOND), 50);
        assert_eq!(
            taken(&mut bucket, &rate, 1, start + 3_600 * SECOND),
            100,
            "no more is saved up"
        );
        assert_eq!(taken(&mut bucket, &rate, 101, start + 7_200 * SECOND), 0, "more than a burst");
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let (rate, now) = (Rate::per_second(1, 10), Instant::now());
        let mut bucket = TokenBucket::default();
        assert!(bucket.take(&rate, 7, now));
        assert_eq!(taken(&mut bucket, &rate, 4, now), 0);
        assert!(bucket.take(&rate, 3, now));
    }

    #[test]
    fn what_is_owed_is_waited_for() {
        let (rate, now) = (Rate::each(SECOND, 4), Instant::now());
        let mut bucket = TokenBucket::default();
        bucket.charge(&rate, 6, now);
        assert_eq!(bucket.wait(&rate, 0, now), 2 * SECOND);
        assert_eq!(bucket.wait(&rate, 1, now), 3 * SECOND);
        assert!(!bucket.has(&rate, 1, now + 2 * SECOND) && bucket.has(&rate, 1, now + 3 * SECOND));
        assert!(!bucket.is_full(now + 5 * SECOND) && bucket.is_full(now + 6 * SECOND));
    }

    proptest! {
        /// Whatever is asked for and when, no span of time gets more than its rate and one burst.
        #[test]
        fn no_more_than_the_rate_and_one_burst(
            per_second in 1..1_000_000_u32,
            burst in 1..5_000_u32,
            asked in prop::collection::vec((0..6_000_u32, 0..50_000_u64), 1..200),
        ) {
            let (rate, start) = (Rate::per_second(per_second, burst), Instant::now());
            let (mut bucket, mut now, mut sum) = (TokenBucket::default(), start, 0_u64);
            for (units, us) in asked {
                now += Duration::from_micros(us);
                if bucket.take(&rate, units, now) {
                    sum += u64::from(units);
                }
            }
            let nanos = (now - start).as_nanos() as u64;
            let most = u64::from(burst) + nanos / (1_000_000_000 / u64::from(per_second));
            prop_assert!(sum <= most, "{sum} of {most}");
        }
    }

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let limit = LogLimit::new(Rate::each(5 * SECOND, 2));
        let now = Instant::now();
        assert_eq!(limit.allow(now), Some(0));
        assert_eq!(limit.allow(now), Some(0));
        assert_eq!(limit.allow(now), None);
        assert_eq!(limit.allow(now + 4 * SECOND), None);
        assert_eq!(limit.allow(now + 10 * SECOND), Some(2));
        assert_eq!(limit.allow(now + 10 * SECOND), Some(0));
        assert_eq!(limit.allow(now + 10 * SECOND), None);
    }

    #[test]
    fn a_burst_of_zero_still_logs() {
        assert_eq!(LogLimit::new(Rate::each(SECOND, 0)).allow(Instant::now()), Some(0));
    }
}
