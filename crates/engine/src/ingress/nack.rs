//! Which packets of a stream are missing, and when to ask the sender for them again (RFC 4585
//! generic NACK).
//!
//! A gap is asked for soon (10 ms later, which forgives small reordering), then once a round trip, at
//! most [`MAX_TRIES`] times and for [`MAX_AGE`]; a gap wider than [`MAX_GAP`] is a break that only a
//! keyframe mends.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "an index has 48 bits, a gap is bounded"
)]

use std::time::{Duration, Instant};

/// Requests for one packet.
pub const MAX_TRIES: u8 = 10;
/// A packet that has been missing for longer would come too late for any jitter buffer.
pub const MAX_AGE: Duration = Duration::from_secs(1);
/// Widest gap that is asked for, packets (as in JVB).
pub const MAX_GAP: u64 = 100;
/// Packets missing at one time, at most.
pub const MAX_MISSING: usize = 256;
/// Shortest time between two requests for the same packet.
const MIN_RETRY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Missing {
    index: u64,
    since: Instant,
    next: Instant,
    tries: u8,
}

/// What a newly received packet is to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far; nothing between it and the one before is missing.
    InOrder,
    /// The newest so far; this many before it are missing and will be asked for.
    Gap(u64),
    /// So many are missing before it that they are given up.
    Break,
    /// Older than the newest and not seen before.
    Late,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct NackTracker {
    newest: Option<u64>,
    missing: Vec<Missing>,
}

impl NackTracker {
    /// Records a packet that was not seen before.
    pub fn on_packet(&mut self, now: Instant, index: u64) -> Arrival {
        let Some(newest) = self.newest else {
            self.newest = Some(index);
            return Arrival::InOrder;
        };
        if index <= newest {
            self.missing.retain(|m| m.index != index);
            return Arrival::Late;
        }
        self.newest = Some(index);
        let gap = index - newest - 1;
        if gap == 0 {
            return Arrival::InOrder;
        }
        if gap > MAX_GAP || self.missing.len() + gap as usize > MAX_MISSING {
            self.missing.clear();
            return Arrival::Break;
        }
        if self.missing.capacity() == 0 {
            self.missing.reserve_exact(MAX_MISSING);
        }
        self.missing.extend((newest + 1..index).map(|index| Missing {
            index,
            since: now,
            next: now,
            tries: 0,
        }));
        Arrival::Gap(gap)
    }

    /// Whether anything is missing.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// Forgets what is missing (nobody wants the stream).
    pub fn clear(&mut self) {
        self.missing.clear();
    }

    /// The next packet is the first: nothing before it is missing.
    pub fn restart(&mut self) {
        self.newest = None;
        self.missing.clear();
    }

    /// Calls `ask` for each packet that is due, oldest first, and for `most` of them. Returns whether
    /// others are due.
    pub fn poll(
        &mut self,
        now: Instant,
        rtt: Duration,
        most: usize,
        mut ask: impl FnMut(u64),
    ) -> bool {
        self.missing
            .retain(|m| m.tries < MAX_TRIES && now.saturating_duration_since(m.since) < MAX_AGE);
        let due = self.missing.iter_mut().filter(|m| m.next <= now);
        for (asked, m) in due.enumerate() {
            if asked == most {
                return true;
            }
            ask(m.index);
            m.tries += 1;
            m.next = now + rtt.max(MIN_RETRY);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(tracker: &mut NackTracker, now: Instant, rtt_ms: u64) -> Vec<u64> {
        let mut out = Vec::new();
        tracker.poll(now, Duration::from_millis(rtt_ms), MAX_MISSING, |i| out.push(i));
        out
    }

    #[test]
    fn asks_once_a_round_trip_and_gives_up() {
        let start = Instant::now();
        let mut t = NackTracker::default();
        assert_eq!(t.on_packet(start, 10), Arrival::InOrder);
        assert_eq!(t.on_packet(start, 13), Arrival::Gap(2));
        assert_eq!(asked(&mut t, start, 50), [11, 12]);
        assert_eq!(asked(&mut t, start + Duration::from_millis(49), 50), [0u64; 0]);
        assert_eq!(asked(&mut t, start + Duration::from_millis(50), 50), [11, 12]);
        assert_eq!(t.on_packet(start, 11), Arrival::Late);
        assert_eq!(asked(&mut t, start + Duration::from_millis(100), 50), [12]);
        assert_eq!(asked(&mut t, start + MAX_AGE, 50), [0u64; 0]);
        assert!(t.is_empty());
    }

    #[test]
    fn stops_after_the_last_try() {
        let start = Instant::now();
        let mut t = NackTracker::default();
        t.on_packet(start, 1);
        t.on_packet(start, 3);
        let mut total = 0;
        for tick in 0..90u32 {
            total += asked(&mut t, start + Duration::from_millis(10) * tick, 1).len();
        }
        assert_eq!(total, usize::from(MAX_TRIES));
    }

    #[test]
    fn a_break_is_not_asked_for() {
        let now = Instant::now();
        let mut t = NackTracker::default();
        t.on_packet(now, 1);
        assert_eq!(t.on_packet(now, 3), Arrival::Gap(1));
        assert_eq!(t.on_packet(now, 200), Arrival::Break);
        assert_eq!(asked(&mut t, now, 10), [0u64; 0]);
    }

    #[test]
    fn what_has_no_room_is_asked_for_next_time() {
        let now = Instant::now();
        let rtt = Duration::from_millis(50);
        let mut t = NackTracker::default();
        t.on_packet(now, 1);
        t.on_packet(now, 5);
        let mut asked = Vec::new();
        assert!(t.poll(now, rtt, 2, |i| asked.push(i)));
        assert!(!t.poll(now, rtt, 2, |i| asked.push(i)));
        assert_eq!(asked, [2, 3, 4]);
    }

    #[test]
    fn what_is_missing_is_bounded() {
        let now = Instant::now();
        let mut t = NackTracker::default();
        t.on_packet(now, 0);
        for i in 1..1_000u64 {
            t.on_packet(now, i * 50);
            assert!(t.missing.len() <= MAX_MISSING);
        }
    }
}
