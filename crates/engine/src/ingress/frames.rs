//! Tracks the frame intervals of an encoding, to tell a slow encoding from one that has ended.

use std::time::{Duration, Instant};

/// A longer interval between two frames is a pause.
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// Tracks when the frames of an encoding arrive.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameClock {
    /// Timestamp of the last packet, and when the first packet of its frame arrived.
    last: Option<(u32, Instant)>,
    /// The shorter of the last two intervals between frames, so that a single late frame does not
    /// make the encoding look slow.
    pub(crate) interval: Duration,
    before: Duration,
    /// Number of frames of all encodings of the source at the last packet.
    pub of_all: u64,
}

impl FrameClock {
    /// Handles a packet; `of_all` counts the frames of all encodings.
    pub(crate) fn on_packet(&mut self, now: Instant, timestamp: u32, of_all: &mut u64) {
        let before = self.last.filter(|(last, _)| *last != timestamp).map(|(_, at)| at);
        if self.last.is_none() || before.is_some() {
            *of_all = of_all.wrapping_add(1);
            self.last = Some((timestamp, now));
        }
        if let Some(at) = before {
            let interval = now.saturating_duration_since(at).min(MAX_INTERVAL);
            self.interval = interval.min(self.before);
            self.before = interval;
        }
        self.of_all = *of_all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_long_intervals_in_a_row_are_a_slow_rhythm() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let (mut clock, mut of_all) = (FrameClock::default(), 0);
        for frame in 0..10u32 {
            for packet in 0..3 {
                clock.on_packet(start + ms(33) * frame + ms(packet), frame, &mut of_all);
            }
        }
        assert_eq!((of_all, clock.of_all), (10, 10));
        assert_eq!(clock.interval, ms(33));
        clock.on_packet(start + ms(4_297), 10, &mut of_all);
        assert_eq!(clock.interval, ms(33), "one is a stall");
        clock.on_packet(start + ms(8_297), 11, &mut of_all);
        assert_eq!(clock.interval, ms(4_000));
        clock.on_packet(start + ms(8_330), 12, &mut of_all);
        assert_eq!(clock.interval, ms(33));
    }
}
