//! Rate limits of keyframe requests: to a sender for one encoding, whoever asks, and from one
//! receiver for one source (`jmt.keyframe.*`).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rialto_media::{Rate, TokenBucket};

/// A rate limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestLimit {
    /// Shortest time between two requests.
    pub min_interval: Duration,
    /// Most requests within `window`, at least one. Each counted request takes 16 bytes.
    pub max: usize,
    /// See `max`.
    pub window: Duration,
}

/// Both limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyframeLimits {
    /// From one receiver for one source. JVB: 200 ms apart, three in 10 s.
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

/// Sliding-window rate limiter: the times of the requests allowed within the window.
#[derive(Clone, Debug, Default)]
pub struct SlidingWindowLimiter(VecDeque<Instant>);

impl SlidingWindowLimiter {
    /// Returns whether a request at `now` is allowed, and counts it if so.
    pub fn allow(&mut self, now: Instant, limit: &RequestLimit) -> bool {
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

    /// Returns whether no counted request matters any more.
    fn is_past(&self, now: Instant, limit: &RequestLimit) -> bool {
        self.0.back().is_none_or(|last| now.saturating_duration_since(*last) >= limit.window)
    }
}

/// Rate at which the switches of one receiver may request a keyframe of one source: five at once (a
/// joining receiver gets the lowest encoding of each source first, then the others), then one each
/// second. The current encoding continues meanwhile.
pub const SWITCHES: Rate = Rate::each(Duration::from_secs(1), 5);

/// The requests of one receiver for one source.
#[derive(Clone, Debug, Default)]
pub struct ReceiverRequests {
    /// Requests by RTCP.
    pub rtcp_limiter: SlidingWindowLimiter,
    /// Requests by switching.
    pub switches: TokenBucket,
}

impl ReceiverRequests {
    /// Returns whether none of the earlier requests matters any more.
    pub fn is_past(&self, now: Instant, limit: &RequestLimit) -> bool {
        self.rtcp_limiter.is_past(now, limit) && self.switches.is_full(now)
    }
}

/// The most time that a sender takes from a request to the keyframe, apart from the round trip: it
/// encodes a large frame, and paces it.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// A sender makes no second keyframe within this time of the last (libwebrtc's
/// `kMinKeyframeSendInterval`), and ignores a request that arrives earlier.
const DEAF_TIME: Duration = Duration::from_millis(300);
/// A request is repeated when its keyframe could have arrived and did not, and once more: the
/// request may have been lost, and then the keyframe. After that the interval doubles, this many
/// times.
const MAX_DOUBLINGS: u32 = 3;
/// A request this soon after a keyframe may be answered by that one: it is on its way to the
/// receivers.
const JUST_CAME: Duration = Duration::from_millis(5);
/// Tolerance for the clocks of two ends.
const MARGIN: Duration = Duration::from_millis(20);

/// The keyframe requests to a sender for one encoding.
///
/// A request leaves at once if it can help. It is repeated if the keyframe could have arrived and
/// did not, and delayed while the sender would ignore it; a keyframe that arrives meanwhile makes
/// it moot.
#[derive(Clone, Debug, Default)]
pub struct EncodingRequests {
    wanted: bool,
    sent: SlidingWindowLimiter,
    /// When the last request was sent that no keyframe has answered.
    asked: Option<Instant>,
    /// Number of requests since the last keyframe.
    unanswered: u32,
    /// When the last keyframe arrived.
    keyframe: Option<Instant>,
}

impl EncodingRequests {
    /// Handles a receiver's need of a keyframe. Returns whether one will be requested: not if one
    /// has just arrived. A receiver that misses that one asks again.
    pub fn want(&mut self, now: Instant) -> bool {
        let since = self.keyframe.map(|at| now.saturating_duration_since(at));
        let wants = since.is_none_or(|since| since >= JUST_CAME);
        self.wanted |= wants;
        wants
    }

    /// Returns whether a keyframe arrived within the last `time`.
    pub fn came_within(&self, now: Instant, time: Duration) -> bool {
        self.keyframe.is_some_and(|at| now.saturating_duration_since(at) < time)
    }

    /// Returns whether a request waits to be sent.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Returns whether a request waits that may be sent by `now`.
    pub fn is_due(&self, now: Instant, rtt: Duration) -> bool {
        self.wanted && self.due(rtt).is_none_or(|due| now >= due)
    }

    /// Handles the arrival of a keyframe.
    pub fn on_keyframe(&mut self, now: Instant) {
        self.wanted = false;
        self.asked = None;
        self.unanswered = 0;
        self.keyframe = Some(now);
    }

    /// Returns whether a request should be sent now, and counts it if so. `rtt` is the sender's
    /// round-trip time.
    pub fn poll(&mut self, now: Instant, rtt: Duration, limit: &RequestLimit) -> bool {
        let leaves = self.is_due(now, rtt) && self.sent.allow(now, limit);
        if leaves {
            self.wanted = false;
            self.asked = Some(now);
            self.unanswered = self.unanswered.saturating_add(1);
        }
        leaves
    }

    /// When the next request can help; `None`: at once.
    fn due(&self, rtt: Duration) -> Option<Instant> {
        let doublings = self.unanswered.saturating_sub(2).min(MAX_DOUBLINGS);
        let answer = rtt.saturating_add(ANSWER_TIME).saturating_mul(1 << doublings);
        let answered = self.asked.and_then(|at| at.checked_add(answer));
        // The keyframe was made half a round trip ago, and a request takes as long to arrive.
        let deaf = DEAF_TIME.saturating_add(MARGIN).saturating_sub(rtt);
        let hears = self.keyframe.and_then(|at| at.checked_add(deaf));
        answered.max(hears)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_has_three_in_ten_seconds() {
        let start = Instant::now();
        let limit = KeyframeLimits::default().receiver;
        let mut rtcp_limiter = SlidingWindowLimiter::default();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(rtcp_limiter.allow(at(0), &limit));
        assert!(!rtcp_limiter.allow(at(199), &limit));
        assert!(rtcp_limiter.allow(at(200), &limit));
        assert!(rtcp_limiter.allow(at(400), &limit));
        assert!(!rtcp_limiter.allow(at(9_999), &limit));
        assert!(rtcp_limiter.allow(at(10_000), &limit));
        assert!(!rtcp_limiter.allow(at(10_199), &limit));
        assert!(rtcp_limiter.allow(at(10_200), &limit));
    }

    #[test]
    fn a_receiver_switches_five_times_at_once_and_then_once_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut requests = ReceiverRequests::default();
        let limit = KeyframeLimits::default().receiver;
        assert!(requests.is_past(start, &limit));
        let taken: Vec<_> = (0..50)
            .map(|n| n * 100)
            .filter(|ms| requests.switches.take(&SWITCHES, 1, at(*ms)))
            .collect();
        assert_eq!(taken, [0, 100, 200, 300, 400, 1_000, 2_000, 3_000, 4_000]);
        assert!(!requests.is_past(at(8_999), &limit), "nine were taken");
        assert!(requests.is_past(at(9_000), &limit));
        assert!(requests.rtcp_limiter.allow(at(9_000), &limit));
        assert!(!requests.is_past(at(18_999), &limit) && requests.is_past(at(19_000), &limit));
    }

    const RTT: Duration = Duration::from_millis(50);

    #[test]
    fn a_request_is_repeated_when_its_keyframe_could_have_come() {
        let start = Instant::now();
        let limit = &KeyframeLimits::default().source;
        let mut r = EncodingRequests::default();
        assert!(!r.poll(start, RTT, limit));
        let mut left = Vec::new();
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            r.want(now);
            if r.poll(now, RTT, limit) {
                left.push(ms);
            }
        }
        assert_eq!(
            left,
            [0, 350, 700, 1_400, 2_800, 5_600, 8_400],
            "round trip plus 300 ms, twice, then doubled"
        );
    }

    #[test]
    fn a_request_waits_while_the_sender_would_not_hear_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let limit = &KeyframeLimits::default().source;
        let mut r = EncodingRequests::default();
        assert!(r.want(at(0)) && r.poll(at(0), RTT, limit));
        r.on_keyframe(at(60));
        assert!(!r.want(at(62)) && !r.is_wanted(), "the receiver may get that one");
        assert!(r.want(at(70)));
        assert!(
            !r.poll(at(300), RTT, limit),
            "made at 35 ms, and 300 ms of it are not over at 325"
        );
        assert!(r.poll(at(330), RTT, limit));
    }

    #[test]
    fn a_keyframe_makes_a_request_moot() {
        let start = Instant::now();
        let limit = &KeyframeLimits::default().source;
        let mut r = EncodingRequests::default();
        r.want(start);
        r.on_keyframe(start);
        assert!(!r.poll(start + Duration::from_secs(1), RTT, limit));
    }

    #[test]
    fn a_sender_that_answers_at_once_is_asked_no_more_often_than_its_limit() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let limit = RequestLimit { min_interval: second, max: 1, window: second };
        let mut r = EncodingRequests::default();
        let mut left = Vec::new();
        for ms in 0..5_000 {
            let now = start + Duration::from_millis(ms);
            r.want(now);
            if r.poll(now, Duration::ZERO, &limit) {
                left.push(ms);
                r.on_keyframe(now);
            }
        }
        assert_eq!(left, [0, 1_000, 2_000, 3_000, 4_000]);
    }

    #[test]
    fn limits_are_as_configured() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (min_interval, window) = (Duration::from_millis(50), Duration::from_secs(1));
        let limit = RequestLimit { min_interval, max: 5, window };
        let mut rtcp_limiter = SlidingWindowLimiter::default();
        let passed = (0..20).filter(|i| rtcp_limiter.allow(at(i * 50), &limit)).count();
        assert_eq!(passed, 5);
        assert!(rtcp_limiter.allow(at(1_000), &limit), "the first is a window ago");
        let none = RequestLimit { min_interval: Duration::ZERO, max: 1, window: Duration::ZERO };
        assert!(rtcp_limiter.allow(at(1_000), &none) && rtcp_limiter.allow(at(1_000), &none));
    }
}
