//! How long a packet waits for further packets. Packets that leave together cost a third of what
//! they cost one by one, but a packet that waits in vain is late for nothing.
#![expect(clippy::arithmetic_side_effects, reason = "a duration is divided by a constant")]

use std::time::{Duration, Instant};

/// The shortest wait that is worthwhile: a burst arrives in several reads of the socket.
const LEAST: Duration = Duration::from_micros(250);
/// Initial value of the estimate, and its limits.
const BEGIN: Duration = Duration::from_micros(500);
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(20);
/// This many further packets make up for the timer that ends the wait: with one in 3 ms, both cost
/// as much together as one by one (docs/decisions.md).
const WORTH: u32 = 2;
/// Speech that is older than this says nothing about who speaks now.
const FORGET: Duration = Duration::from_secs(10);

/// Estimates the pace at which the packets of a frame arrive.
#[derive(Clone, Copy, Debug)]
pub struct ArrivalPace {
    /// About half of the gaps between reads are shorter than this.
    gap: Duration,
    /// Arrival time and timestamp of the last packet.
    last: Option<(Instant, u32)>,
}

impl Default for ArrivalPace {
    fn default() -> Self {
        Self { gap: BEGIN, last: None }
    }
}

impl ArrivalPace {
    /// Handles a packet of the frame with this timestamp. The median follows each gap by an eighth,
    /// so that pauses between the bursts of a sender do not hide how close the packets of a burst
    /// are.
    #[inline]
    pub fn on_packet(&mut self, now: Instant, timestamp: u32) {
        if let Some((last, frame)) = self.last.replace((now, timestamp))
            && frame == timestamp
            && last < now
        {
            let gap = now.saturating_duration_since(last);
            let step = self.gap / 8;
            let next = if gap > self.gap {
                self.gap.saturating_add(step)
            } else {
                self.gap.saturating_sub(step)
            };
            self.gap = next.clamp(SHORTEST, LONGEST);
        }
    }

    /// Handles a packet of any speaker of a conference; speakers have no frames in common.
    #[inline]
    pub fn on_speech(&mut self, now: Instant) {
        self.on_packet(now, 0);
    }

    /// Returns whether the last packet is so old that the estimate is worthless.
    pub fn is_over(&self, now: Instant) -> bool {
        self.last.is_none_or(|(last, _)| now.saturating_duration_since(last) > FORGET)
    }

    /// How long an audio packet waits for packets of other speakers: `most`, or not at all if none
    /// is likely to arrive. Speakers are independent, so a short gap promises no other.
    #[inline]
    pub fn speech_hold(&self, most: Duration) -> Duration {
        if self.gap > most { Duration::ZERO } else { most }
    }

    /// How long to wait for the next packet of the frame, at most `most`. Zero if fewer than
    /// `WORTH` packets are likely to arrive in that time.
    #[inline]
    pub fn hold(&self, most: Duration) -> Duration {
        let wait = self.gap.saturating_mul(WORTH);
        if wait > most { Duration::ZERO } else { wait.max(LEAST.min(most)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(3);

    fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// Frames whose packets arrive at these times, µs.
    fn after(frames: u32, packets: &[u64]) -> ArrivalPace {
        let (mut pace, start) = (ArrivalPace::default(), Instant::now());
        for frame in 0..frames {
            for at in packets {
                let at = start + us(33_000) * frame + us(*at);
                pace.on_packet(at, frame * 3_000);
            }
        }
        pace
    }

    #[test]
    fn the_next_packet_of_a_paced_frame_is_waited_for_if_it_comes_in_time() {
        let hold = |gap: u64| {
            let packets: Vec<u64> = (0..5).map(|n| n * gap).collect();
            after(30, &packets).hold(MOST)
        };
        assert_eq!(hold(10), us(250), "a burst");
        assert!((us(700)..us(1_300)).contains(&hold(500)), "{:?}", hold(500));
        assert!((us(1_700)..MOST).contains(&hold(1_100)), "{:?}", hold(1_100));
        assert_eq!(hold(2_000), Duration::ZERO);
    }

    #[test]
    fn pauses_between_bursts_do_not_count() {
        // Chromium's pacer sends five milliseconds' worth at once.
        let pace = after(30, &[0, 30, 60, 90, 5_000, 5_030, 5_060, 5_090]);
        assert_eq!(pace.hold(MOST), us(250));
        let singles = after(30, &[0, 0, 5_000, 5_000, 10_000, 10_000]);
        assert_eq!(singles.hold(MOST), Duration::ZERO, "what came in one read needed no wait");
    }

    #[test]
    fn many_who_talk_are_company_and_few_are_not() {
        let most = Duration::from_millis(1);
        let talk = |talkers: u64| {
            let (mut pace, start) = (ArrivalPace::default(), Instant::now());
            for packet in 0..talkers * 50 {
                pace.on_speech(start + us(packet * 20_000 / talkers));
            }
            (pace.speech_hold(most), pace.is_over(start + us(1_500_000)))
        };
        assert_eq!(talk(3), (Duration::ZERO, false));
        assert_eq!(talk(30), (most, false));
        assert!(ArrivalPace::default().is_over(Instant::now()));
    }

    #[test]
    fn nothing_is_waited_for_longer_than_allowed() {
        for most in [0, 100, 250, 3_000].map(us) {
            for gap in [1, 100, 1_000, 10_000] {
                let packets: Vec<u64> = (0..5).map(|n| n * gap).collect();
                assert!(after(30, &packets).hold(most) <= most);
            }
        }
    }
}
