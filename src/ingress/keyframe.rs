//! How often keyframes are asked for: per source once in 200 ms, whoever asks; per receiver and
//! source at most three in 10 s (JVB's `jmt.keyframe.*` defaults).

use std::time::{Duration, Instant};

/// Between two requests to a sender for one encoding (`source-wide-min-interval`).
pub const SOURCE_MIN_INTERVAL: Duration = Duration::from_millis(200);
/// Between two requests of one receiver for one source (`min-interval`).
pub const RECEIVER_MIN_INTERVAL: Duration = Duration::from_millis(200);
/// Requests of one receiver for one source within [`RECEIVER_WINDOW`] (`max-requests`).
pub const RECEIVER_MAX: usize = 3;
/// See [`RECEIVER_MAX`] (`max-request-interval`).
pub const RECEIVER_WINDOW: Duration = Duration::from_secs(10);

/// The limit of one receiver's requests for one source.
#[derive(Clone, Debug, Default)]
pub struct ReceiverLimit {
    granted: [Option<Instant>; RECEIVER_MAX],
}

impl ReceiverLimit {
    /// Whether a request at `now` passes; counts it if so.
    pub fn grant(&mut self, now: Instant) -> bool {
        let too_soon = self
            .granted
            .iter()
            .flatten()
            .any(|at| now.saturating_duration_since(*at) < RECEIVER_MIN_INTERVAL);
        if too_soon {
            return false;
        }
        let free = self
            .granted
            .iter_mut()
            .find(|at| at.is_none_or(|at| now.saturating_duration_since(at) >= RECEIVER_WINDOW));
        free.map(|at| *at = Some(now)).is_some()
    }
}

/// The requests to a sender for one encoding. A request that comes too soon is not lost: it leaves
/// when the interval is over, unless a keyframe came before.
#[derive(Clone, Debug, Default)]
pub struct EncodingRequests {
    wanted: bool,
    last_sent: Option<Instant>,
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
    pub fn poll(&mut self, now: Instant) -> bool {
        let free = self
            .last_sent
            .is_none_or(|at| now.saturating_duration_since(at) >= SOURCE_MIN_INTERVAL);
        if self.wanted && free {
            self.wanted = false;
            self.last_sent = Some(now);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_has_three_in_ten_seconds() {
        let start = Instant::now();
        let mut limit = ReceiverLimit::default();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(limit.grant(at(0)));
        assert!(!limit.grant(at(199)));
        assert!(limit.grant(at(200)));
        assert!(limit.grant(at(400)));
        assert!(!limit.grant(at(9_999)));
        assert!(limit.grant(at(10_000)));
        assert!(!limit.grant(at(10_199)));
        assert!(limit.grant(at(10_200)));
    }

    #[test]
    fn a_request_that_is_too_soon_waits() {
        let start = Instant::now();
        let mut r = EncodingRequests::default();
        assert!(!r.poll(start));
        r.want();
        assert!(r.poll(start));
        r.want();
        assert!(!r.poll(start + Duration::from_millis(100)));
        assert!(r.poll(start + Duration::from_millis(200)));
        r.want();
        r.on_keyframe();
        assert!(!r.poll(start + Duration::from_secs(1)));
    }
}
