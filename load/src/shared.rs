//! State that all threads of a run share: the plan, the clock, and counters.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{plan::Plan, srtp::Stack};

/// How media is carried.
#[derive(Clone, Debug)]
pub struct MediaOptions {
    /// The SRTP stack for media.
    pub stack: Stack,
    /// Fraction of received SRTP packets that every client drops on purpose.
    pub drop_received: f64,
    /// Fraction of media packets that every client drops on purpose before sending.
    pub drop_sent: f64,
    /// Spreads a frame's packets at this multiple of the video's bitrate; 0 sends them at once.
    pub pace: f64,
    /// Lets the kernel coalesce received datagrams.
    pub gro: bool,
}

impl Default for MediaOptions {
    fn default() -> Self {
        Self { stack: Stack::default(), drop_received: 0.0, drop_sent: 0.0, pace: 0.0, gro: false }
    }
}

/// The state of a stream, for both ends.
#[derive(Debug)]
pub struct StreamState {
    /// Packets made so far, which is the next one's index.
    pub made: AtomicU64,
    /// Packets from this index on no longer count; `u64::MAX` while all do.
    pub end: AtomicU64,
}

/// Totals over all clients since the start.
#[derive(Default, Debug)]
pub struct Totals {
    /// Media packets sent.
    pub sent: AtomicU64,
    /// Bytes of them, above UDP.
    pub sent_bytes: AtomicU64,
    /// Media packets received and decrypted, retransmissions included.
    pub received: AtomicU64,
    /// Bytes of them, above UDP.
    pub received_bytes: AtomicU64,
    /// Datagrams that the kernel refused to send.
    pub send_errors: AtomicU64,
}

/// One reading of [`Totals`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, serde::Serialize)]
pub struct TotalsSample {
    /// Media packets sent.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Media packets received.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
    /// Datagrams that the kernel refused to send.
    pub send_errors: u64,
}

impl Totals {
    /// Reads them.
    pub fn sample(&self) -> TotalsSample {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TotalsSample {
            sent: read(&self.sent),
            sent_bytes: read(&self.sent_bytes),
            received: read(&self.received),
            received_bytes: read(&self.received_bytes),
            send_errors: read(&self.send_errors),
        }
    }
}

impl std::ops::Sub for TotalsSample {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            received: self.received - earlier.received,
            received_bytes: self.received_bytes - earlier.received_bytes,
            send_errors: self.send_errors - earlier.send_errors,
        }
    }
}

/// A histogram of nanoseconds, up to a minute, with three significant digits.
pub fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants within the crate's limits")]
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds")
}

/// Everything that threads share.
#[derive(Debug)]
pub struct Shared {
    /// Who sends what.
    pub plan: Plan,
    /// Media options.
    pub media: MediaOptions,
    /// Counters.
    pub totals: Totals,
    /// By index into [`Plan::streams`].
    pub streams: Vec<StreamState>,
    /// Latencies are recorded while this is set.
    pub measuring: AtomicBool,
    /// Packets made while this is set do not count; they only push the last ones through.
    pub draining: AtomicBool,
    /// Latencies since the last progress line.
    pub recent: Mutex<Histogram<u64>>,
    start: Instant,
}

impl Shared {
    /// A run that begins now.
    pub fn new(plan: Plan, media: MediaOptions) -> Self {
        let stream = |_| StreamState { made: AtomicU64::new(0), end: AtomicU64::new(u64::MAX) };
        Self {
            streams: plan.streams.iter().map(stream).collect(),
            plan,
            media,
            totals: Totals::default(),
            measuring: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            recent: Mutex::new(histogram()),
            start: Instant::now(),
        }
    }

    /// Nanoseconds of the run's clock.
    pub fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_nanos() as u64
    }

    /// Which of the plan's heights an endpoint requests at a time, and for how long it has.
    pub fn wish(&self, endpoint: usize, at: Instant) -> (usize, Duration) {
        let shape = &self.plan.shape;
        let since = at.saturating_duration_since(self.start);
        let every = shape.wish_interval.map_or(u128::MAX, |every| every.as_nanos().max(1));
        let turn = endpoint as u128 + since.as_nanos() / every;
        let wish = turn.checked_rem(shape.wishes.len() as u128).unwrap_or(0);
        let age = Duration::from_nanos((since.as_nanos() % every) as u64);
        (wish as usize, age)
    }

    /// When an endpoint will next change its request.
    pub fn next_wish(&self, at: Instant) -> Option<(Instant, Duration)> {
        let every = self.plan.shape.wish_interval?;
        let (_, age) = self.wish(0, at);
        Some((at + every.saturating_sub(age), every))
    }

    /// Latencies since the last progress line.
    pub fn recent(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a stream ends for the counts: the end set when draining began, or what was made so
    /// far.
    pub fn stream_end(&self, stream: usize) -> u64 {
        let Some(state) = self.streams.get(stream) else { return 0 };
        match state.end.load(Ordering::Acquire) {
            u64::MAX => state.made.load(Ordering::Acquire),
            end => end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Shape;

    #[test]
    fn wishes_take_turns() {
        let wishes = vec![180, 720, 360];
        let shape = Shape { wishes, receivers: 4, ..Shape::default() };
        let of = |shape| Shared::new(Plan::new(shape), MediaOptions::default());
        let still = of(shape.clone());
        let later = |shared: &Shared, seconds| shared.start + Duration::from_secs(seconds);
        for endpoint in 0..5 {
            assert_eq!(still.wish(endpoint, later(&still, 1_000)).0, endpoint % 3);
        }
        assert_eq!(still.next_wish(still.start), None);
        let wish_interval = Some(Duration::from_secs(3));
        let moving = of(Shape { wish_interval, ..shape });
        let age = Duration::from_secs(1);
        assert_eq!(moving.wish(1, later(&moving, 4)), (2, age));
        assert_eq!(moving.wish(1, later(&moving, 7)), (0, age));
        let (next, every) = moving.next_wish(later(&moving, 4)).unwrap();
        assert_eq!((next, every), (later(&moving, 6), Duration::from_secs(3)));
        let none = of(Shape::default());
        assert_eq!(none.wish(1, none.start).0, 0);
    }
}
