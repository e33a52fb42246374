//! How often keyframes are asked for: of a sender for one encoding, whoever asks, and by one receiver
//! for one source (`jmt.keyframe.*`).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A bound of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestLimit {
    /// Between two requests.
    pub min_interval: Duration,
    /// Requests within `window`, at least one. Each that is counted takes 16 bytes.
    pub max: usize,
    /// See `max`.
    pub window: Duration,
}

/// Both bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyframeLimits {
    /// Of one receiver for one source. JVB: 200 ms apart, three in 10 s.
    pub receiver: RequestLimit,
    /// To a sender for one encoding. JVB: 200 ms apart.
    pub source: RequestLimit,
}

impl Default for KeyframeLimits {
    fn default() -> Self {
        let min_interval = Duration::from_millis(200);
        Self {
            receiver: RequestLimit { min_interval, max: 3, window: Duration::from_secs(10) },
            source: RequestLimit { min_interval, max: 1, window: min_interval },
        }
    }
}

/// Requests that were let through, as far back as a limit looks.
#[derive(Clone, Debug, Default)]
pub struct Granted(VecDeque<Instant>);

impl Granted {
    /// Whether a request at `now` passes; counts it if so.
    pub fn grant(&mut self, now: Instant, limit: &RequestLimit) -> bool {
        let since = |at: &Instant| now.saturating_duration_since(*at);
        if self.0.back().is_some_and(|last| since(last) < limit.min_interval) {
            return false;
        }
        while self.0.front().is_some_and(|first| since(first) >= limit.window) {
            self.0.pop_front();
        }
        let free = self.0.len() < limit.max.max(1);
        if free {
            self.0.push_back(now);
        }
        free
    }
}

/// The requests to a sender for one encoding. A request that comes too soon is not lost: it leaves
/// when the interval is over, unless a keyframe came before.
#[derive(Clone, Debug, Default)]
pub struct EncodingRequests {
    wanted: bool,
    sent: Granted,
}

impl EncodingRequests {
    /// Somebody needs a keyframe.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether a request waits to leave.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// A keyframe came.
    pub fn on_keyframe(&mut self) {
        self.wanted = false;
    }

    /// Whether a request should leave now; counts it if so.
    pub fn poll(&mut self, now: Instant, limit: &RequestLimit) -> bool {
        let leaves = self.wanted && self.sent.grant(now, limit);
        self.wanted &= !leaves;
        leaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_has_three_in_ten_seconds() {
        let start = Instant::now();
        let limit = KeyframeLimits::default().receiver;
        let mut granted = Granted::default();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(granted.grant(at(0), &limit));
        assert!(!granted.grant(at(199), &limit));
        assert!(granted.grant(at(200), &limit));
        assert!(granted.grant(at(400), &limit));
        assert!(!granted.grant(at(9_999), &limit));
        assert!(granted.grant(at(10_000), &limit));
        assert!(!granted.grant(at(10_199), &limit));
        assert!(granted.grant(at(10_200), &limit));
    }

    #[test]
    fn a_request_that_is_too_soon_waits() {
        let start = Instant::now();
        let limit = &KeyframeLimits::default().source;
        let mut r = EncodingRequests::default();
        assert!(!r.poll(start, limit));
        r.want();
        assert!(r.poll(start, limit));
        r.want();
        assert!(!r.poll(start + Duration::from_millis(100), limit));
        assert!(r.poll(start + Duration::from_millis(200), limit));
        r.want();
        r.on_keyframe();
        assert!(!r.poll(start + Duration::from_secs(1), limit));
    }

    #[test]
    fn limits_are_as_configured() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (min_interval, window) = (Duration::from_millis(50), Duration::from_secs(1));
        let limit = RequestLimit { min_interval, max: 5, window };
        let mut granted = Granted::default();
        let passed = (0..20).filter(|i| granted.grant(at(i * 50), &limit)).count();
        assert_eq!(passed, 5);
        assert!(granted.grant(at(1_000), &limit), "the first is a window ago");
        let none = RequestLimit { min_interval: Duration::ZERO, max: 1, window: Duration::ZERO };
        assert!(granted.grant(at(1_000), &none) && granted.grant(at(1_000), &none));
    }
}
