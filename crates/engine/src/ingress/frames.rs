//! The rhythm of an encoding's frames, by which a slow encoding is told from one that has ended.

use std::time::{Duration, Instant};

/// A longer interval between two frames is a pause.
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// When the frames of an encoding come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameClock {
    /// Timestamp of the last packet, and when the first of its frame came.
    last: Option<(u32, Instant)>,
    /// The longest of the late intervals between two frames.
    pub interval: Duration,
    /// Frames of all encodings of the source by the last packet.
    pub of_all: u64,
}

impl FrameClock {
    /// Takes a packet; `of_all` counts the frames of all encodings.
    pub(crate) fn on_packet(&mut self, now: Instant, timestamp: u32, of_all: &mut u64) {
        let before = self.last.filter(|(last, _)| *last != timestamp).map(|(_, at)| at);
        if self.last.is_none() || before.is_some() {
            *of_all = of_all.wrapping_add(1);
            self.last = Some((timestamp, now));
        }
        if let Some(at) = before {
            let interval = now.saturating_duration_since(at).min(MAX_INTERVAL);
            // A longer one counts at once, shorter ones by and by.
            let less = self.interval.saturating_sub(interval).checked_div(8).unwrap_or_default();
            self.interval = interval.max(self.interval.saturating_sub(less));
        }
        self.of_all = *of_all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_interval_counts_at_once_and_is_forgotten_by_and_by() {
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
        assert_eq!(clock.interval, ms(4_000));
        for frame in 11..60u32 {
            clock.on_packet(start + ms(4_297) + ms(33) * (frame - 10), frame, &mut of_all);
        }
        assert!(clock.interval < ms(50), "{:?}", clock.interval);
    }
}
