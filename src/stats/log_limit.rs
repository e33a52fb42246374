//! A limit on log lines that a peer can cause.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// At most `burst` lines in each `interval`, for one call site. Lock-free, made for a `static`:
///
/// ```
/// # use rialto::stats::LogLimit;
/// # use std::time::{Duration, Instant};
/// static LIMIT: LogLimit = LogLimit::new(3, Duration::from_secs(10));
/// if let Some(suppressed) = LIMIT.allow(Instant::now()) {
///     tracing::warn!(suppressed, "what happened");
/// }
/// ```
///
/// `now` may be coarse: the time at which the batch began will do.
#[derive(Debug)]
pub struct LogLimit {
    burst: u64,
    interval_ms: u64,
    /// Start of the current interval, in milliseconds since the first use in this process, plus one;
    /// zero before the first use.
    started: AtomicU64,
    used: AtomicU64,
    suppressed: AtomicU64,
}

/// What instants are measured from, so that they fit an atomic.
fn epoch(now: Instant) -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(|| now)
}

impl LogLimit {
    /// `burst` lines (at least one) in each `interval`.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self {
            burst: if burst == 0 { 1 } else { burst as u64 },
            interval_ms: interval.as_millis() as u64,
            started: AtomicU64::new(0),
            used: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether to log now: `Some` with the number of lines that were suppressed since the last one
    /// that was not. Two threads at the turn of an interval may together exceed the burst by one
    /// line each; that is all that relaxed order costs here.
    pub fn allow(&self, now: Instant) -> Option<u64> {
        let at = now.saturating_duration_since(epoch(now)).as_millis() as u64 + 1;
        let started = self.started.load(Ordering::Relaxed);
        if started == 0 || at.saturating_sub(started) >= self.interval_ms {
            self.started.store(at, Ordering::Relaxed);
            self.used.store(0, Ordering::Relaxed);
        }
        if self.used.fetch_add(1, Ordering::Relaxed) < self.burst {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppresses_beyond_the_burst_and_tells_how_many() {
        let limit = LogLimit::new(2, Duration::from_secs(10));
        let now = Instant::now();
        assert_eq!(limit.allow(now), Some(0));
        assert_eq!(limit.allow(now), Some(0));
        assert_eq!(limit.allow(now), None);
        assert_eq!(limit.allow(now + Duration::from_secs(9)), None);
        assert_eq!(limit.allow(now + Duration::from_secs(10)), Some(2));
        assert_eq!(limit.allow(now + Duration::from_secs(10)), Some(0));
    }

    #[test]
    fn a_burst_of_zero_still_says_something() {
        let limit = LogLimit::new(0, Duration::from_secs(1));
        assert_eq!(limit.allow(Instant::now()), Some(0));
    }
}
