//! Tracks which packets of a stream are missing, and when to request them again (RFC 4585 generic
//! NACK).
//!
//! A missing packet is requested soon (10 ms later, which tolerates slight reordering), then once
//! per round trip, at most [`MAX_TRIES`] times and for [`MAX_AGE`]. A gap wider than [`MAX_GAP`] is
//! a break that only a keyframe can repair.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "an index has 48 bits, a gap is bounded"
)]

use std::time::{Duration, Instant};

use rialto_rtp::codec::Targets;

/// Most requests for one packet.
pub const MAX_TRIES: u8 = 10;
/// A packet that has been missing for longer would arrive too late for any jitter buffer.
pub const MAX_AGE: Duration = Duration::from_secs(1);
/// Widest gap that is requested, packets (as in JVB).
pub const MAX_GAP: u64 = 100;
/// Most packets missing at a time.
pub const MAX_MISSING: usize = 256;
/// Shortest time between two requests for the same packet.
const MIN_RETRY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Missing {
    index: u64,
    since: Instant,
    next: Instant,
    tries: u8,
    /// The targets that may include its frame.
    targets: Targets,
}

/// How a newly received packet relates to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far; nothing is missing before it.
    InOrder,
    /// The newest so far; this many before it are missing and will be requested.
    Gap(u64),
    /// So many are missing before it that they are given up.
    Break,
    /// Older than the newest and not seen before.
    Late,
}

/// Tracks the missing packets of a stream.
#[derive(Debug, Default)]
pub struct NackTracker {
    newest: Option<u64>,
    missing: Vec<Missing>,
    lost: Lost,
}

/// What was given up since the last keyframe.
#[derive(Debug, Default)]
struct Lost {
    /// The targets that may include a lost frame, and that no later packet has reported yet.
    unreported: Targets,
    /// Those that one has reported.
    reported: Targets,
    /// The newest packet of them.
    newest: u64,
}

impl Lost {
    fn add(&mut self, targets: Targets, index: u64) {
        self.unreported |= targets;
        self.newest = self.newest.max(index);
    }
}

impl NackTracker {
    /// Handles a packet that was not seen before.
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
            self.lost.add(Targets::ALL, index - 1);
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
            targets: Targets::ALL,
        }));
        Arrival::Gap(gap)
    }

    /// Limits the targets of what is missing from `first` on.
    pub fn attribute(&mut self, first: u64, targets: Targets) {
        for missing in self.missing.iter_mut().filter(|missing| missing.index >= first) {
            missing.targets &= targets;
        }
    }

    /// Handles a keyframe that begins with this packet: nothing older is needed any more, except
    /// for what a receiver that is behind may still show. A receiver that starts with a late
    /// keyframe must learn of losses behind it, even if others did.
    pub fn on_keyframe(&mut self, index: u64) {
        if index >= self.lost.newest {
            self.lost = Lost::default();
        }
        self.lost.unreported |= self.lost.reported;
        for missing in self.missing.iter_mut().filter(|missing| missing.index < index) {
            missing.targets = Targets::NONE;
        }
    }

    /// Takes the targets with frames that were given up before this packet, or behind it, and that
    /// no packet behind all of these has reported: a late keyframe does not repair what is newer.
    #[inline]
    pub fn take_lost(&mut self, index: u64) -> Targets {
        let Lost { unreported, newest, .. } = self.lost;
        if !unreported.is_empty() && index > newest {
            self.lost.reported |= unreported;
            self.lost.unreported = Targets::NONE;
        }
        unreported
    }

    /// Gives up packets that arrived but are dropped, up to an index.
    pub fn lose_until(&mut self, index: u64) {
        self.lost.add(Targets::ALL, index);
    }

    /// Returns whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// Forgets what is missing, because nobody wants the stream.
    pub fn clear(&mut self) {
        self.missing.clear();
        self.lost = Lost::default();
    }

    /// Starts anew: nothing before the next packet is missing.
    pub fn restart(&mut self) {
        self.newest = None;
        self.clear();
    }

    /// Calls `ask` for each packet that is due, oldest first, and for at most `most` of them.
    /// Returns whether others are due.
    pub fn poll(
        &mut self,
        now: Instant,
        rtt: Duration,
        most: usize,
        mut ask: impl FnMut(u64),
    ) -> bool {
        let lost = &mut self.lost;
        self.missing.retain(|m| {
            // The answer to the last request is awaited, too.
            let waits = m.tries < MAX_TRIES || m.next > now;
            let stays = waits && now.saturating_duration_since(m.since) < MAX_AGE;
            if !stays {
                lost.add(m.targets, m.index);
            }
            stays
        });
        let due = self.missing.iter_mut().filter(|m| m.next <= now && m.tries < MAX_TRIES);
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
    fn what_is_given_up_is_told_once_unless_a_keyframe_came_behind_it() {
        let start = Instant::now();
        let upper = Targets::from(0, 1);
        let lose = |key: Option<u64>| {
            let mut t = NackTracker::default();
            t.on_packet(start, 10);
            t.on_packet(start, 13);
            t.attribute(11, upper);
            assert!(t.take_lost(13).is_empty(), "it may still come");
            if let Some(key) = key {
                t.on_keyframe(key);
            }
            t.poll(start + MAX_AGE, MIN_RETRY, 0, |_| {});
            (t.take_lost(14), t.take_lost(15))
        };
        assert_eq!(lose(None), (upper, Targets::NONE));
        assert_eq!(lose(Some(13)), (Targets::NONE, Targets::NONE));
        assert_eq!(lose(Some(12)), (upper, Targets::NONE), "11 was before it, 12 was not");
        let mut t = NackTracker::default();
        t.on_packet(start, 1);
        t.on_packet(start, 3);
        t.poll(start + MAX_AGE, MIN_RETRY, 0, |_| {});
        t.on_keyframe(1);
        assert_eq!(t.take_lost(3), Targets::ALL, "a keyframe that is late mends nothing");
        t.on_packet(start, 300);
        assert_eq!(t.take_lost(300), Targets::ALL, "a break");
    }

    #[test]
    fn what_was_given_up_behind_a_late_keyframe_is_told_behind_it() {
        let mut t = NackTracker::default();
        t.lose_until(20);
        assert_eq!(t.take_lost(10), Targets::ALL, "to who is there");
        t.on_keyframe(10);
        assert_eq!((t.take_lost(10), t.take_lost(21)), (Targets::ALL, Targets::ALL));
        assert_eq!(t.take_lost(22), Targets::NONE);
        t.on_keyframe(11);
        assert_eq!(t.take_lost(23), Targets::ALL, "to who begins with another");
        t.lose_until(30);
        t.on_keyframe(30);
        assert_eq!(t.take_lost(31), Targets::NONE, "nothing behind it is missing");
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
