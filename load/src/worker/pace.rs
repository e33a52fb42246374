//! Schedules the frames and packets of a source. Has no clock of its own.

use std::time::{Duration, Instant};

/// A source that is this many frames late skips them rather than send them in one burst.
const BEHIND: u32 = 10;

/// The schedule of one source's frames and packets.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// Time between packets, if a frame is spread.
    packet: Option<Duration>,
    next_frame: Instant,
    next_packet: Instant,
}

impl Pace {
    /// Frames every `interval` from `start` on; their packets at once, or every `packet`.
    pub(super) fn new(interval: Duration, packet: Option<Duration>, start: Instant) -> Self {
        Self { interval, packet, next_frame: start, next_packet: start }
    }

    /// Takes the frame that is due, and returns how late it is. `left`: packets of earlier frames
    /// are not sent yet.
    pub(super) fn frame(&mut self, now: Instant, left: bool) -> Option<Duration> {
        let late = now.checked_duration_since(self.next_frame)?;
        if !left {
            // Time without packets earns no credit.
            self.next_packet = self.next_packet.max(now);
        }
        self.next_frame += self.interval;
        if now > self.next_frame + self.interval * BEHIND {
            self.next_frame = now + self.interval;
        }
        Some(late)
    }

    /// Returns how many packets may be sent now, and counts them.
    pub(super) fn packets(&mut self, now: Instant) -> usize {
        let Some(packet) = self.packet else { return usize::MAX };
        let Some(late) = now.checked_duration_since(self.next_packet) else { return 0 };
        // A late timer allows more packets, but not more than a frame's time of them.
        let owed = late.min(self.interval).as_nanos() / packet.as_nanos().max(1) + 1;
        let owed = u32::try_from(owed).unwrap_or(u32::MAX);
        self.next_packet = (self.next_packet + packet * owed).max(now);
        owed as usize
    }

    /// When to call again. `left`: some packets are not sent yet.
    pub(super) fn next(&self, left: bool) -> Instant {
        if left { self.next_packet.min(self.next_frame) } else { self.next_frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(33);
    const PACKET: Duration = Duration::from_millis(4);

    /// When packets go, with frames of `each` packets.
    fn run(mut pace: Pace, start: Instant, each: usize, until: Duration) -> Vec<Duration> {
        let (mut now, mut pending, mut sent) = (start, 0, Vec::new());
        while now < start + until {
            if pace.frame(now, pending > 0).is_some() {
                pending += each;
            }
            let go = pace.packets(now).min(pending);
            pending -= go;
            sent.extend(std::iter::repeat_n(now - start, go));
            now = pace.next(pending > 0);
        }
        sent
    }

    #[test]
    fn a_frame_goes_at_once_without_a_pace() {
        let start = Instant::now();
        let sent = run(Pace::new(FRAME, None, start), start, 3, FRAME * 2);
        assert_eq!(sent, [Duration::ZERO; 3].into_iter().chain([FRAME; 3]).collect::<Vec<_>>());
    }

    #[test]
    fn packets_are_spread_and_all_of_them_go() {
        let start = Instant::now();
        let sent = run(Pace::new(FRAME, Some(PACKET), start), start, 5, FRAME * 3);
        assert_eq!(sent.len(), 15);
        assert!(sent.windows(2).all(|pair| pair[1] >= pair[0] + PACKET), "{sent:?}");
    }

    #[test]
    fn a_frame_longer_than_its_time_delays_the_next_ones_packets() {
        let start = Instant::now();
        let sent = run(Pace::new(FRAME, Some(PACKET), start), start, 10, FRAME * 4);
        // 33 ms hold eight packets and a bit: nothing bursts, nothing is lost but time.
        assert_eq!(sent.len(), 33);
    }

    #[test]
    fn frames_far_behind_are_skipped() {
        let start = Instant::now();
        let mut pace = Pace::new(FRAME, None, start);
        let now = start + Duration::from_secs(10);
        assert_eq!(pace.frame(now, false), Some(Duration::from_secs(10)));
        assert_eq!(pace.frame(now, false), None);
        assert_eq!(pace.next(false), now + FRAME);
    }
}
