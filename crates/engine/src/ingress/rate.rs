//! Measures the bitrate and frame rate of an encoding where it is received.

use std::time::{Duration, Instant};

use rialto_media::MAX_ENCODINGS;

/// Length of a step of the measurement.
pub const STEP: Duration = Duration::from_millis(100);
/// Steps in the window: long enough for a frame rate, short enough to follow an encoder.
const STEPS: usize = 15;
/// An encoding is not measured before this many steps: most of it is its first keyframe.
const YOUNG: usize = 3;

/// The measurement of one encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second, including SRTP; 0: not measured yet.
    pub bps: u32,
    /// Frames per second.
    pub fps: u8,
}

impl Rate {
    /// Returns whether `now` differs enough to be reported to receivers' shards.
    pub fn differs(self, now: Self) -> bool {
        let tenth = self.bps / 10;
        (self.bps == 0) != (now.bps == 0)
            || self.bps.abs_diff(now.bps) > tenth
            || self.fps.abs_diff(now.fps) > 2
    }
}

/// The rates of all encodings of a source.
pub type Rates = [Rate; MAX_ENCODINGS];

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    bytes: u32,
    /// How many of these bytes are of keyframes.
    keyframe_bytes: u32,
    frames: u16,
}

/// Measures one encoding. A keyframe is many times as large as other frames and rare; counted like
/// them, it would make a layer look too expensive for seconds.
#[derive(Clone, Debug, Default)]
pub struct RateMeter {
    steps: [Step; STEPS],
    /// Completed steps, up to the length of the window.
    over: usize,
    now: Step,
    /// Timestamp of the keyframe that is arriving.
    keyframe: Option<u32>,
    rate: Rate,
}

impl RateMeter {
    /// Handles a packet of `len` bytes. `keyframe`: it begins a keyframe; `last`: it ends a frame.
    #[inline]
    pub fn on_packet(&mut self, len: usize, timestamp: u32, keyframe: bool, last: bool) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.now.bytes = self.now.bytes.saturating_add(len);
        if keyframe {
            self.keyframe = Some(timestamp);
        }
        if self.keyframe == Some(timestamp) {
            self.now.keyframe_bytes = self.now.keyframe_bytes.saturating_add(len);
        }
        self.now.frames = self.now.frames.saturating_add(u16::from(last));
    }

    /// Ends a step.
    pub fn step(&mut self) {
        self.steps.rotate_right(1);
        if let Some(first) = self.steps.first_mut() {
            *first = std::mem::take(&mut self.now);
        }
        let empty = self.steps.iter().all(|s| s.bytes == 0);
        self.over = if empty { 0 } else { self.over.saturating_add(1).min(STEPS) };
        self.rate = self.measure();
    }

    /// The current measurement.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    fn measure(&self) -> Rate {
        if self.over < YOUNG {
            return Rate::default();
        }
        let steps = || self.steps.iter().take(self.over);
        let sum =
            |of: fn(&Step) -> u32| steps().fold(0u64, |sum, s| sum.saturating_add(of(s).into()));
        let (all, keyframes) = (sum(|s| s.bytes), sum(|s| s.keyframe_bytes));
        let frames = sum(|s| s.frames.into());
        // A still screen may send nothing else.
        let bytes = if keyframes == all { all } else { all.saturating_sub(keyframes) };
        let over = u64::try_from(self.over).unwrap_or(1).max(1);
        let per_second = |n: u64| n.saturating_mul(10).checked_div(over).unwrap_or(0);
        Rate {
            bps: u32::try_from(per_second(bytes.saturating_mul(8))).unwrap_or(u32::MAX),
            fps: u8::try_from(per_second(frames)).unwrap_or(u8::MAX),
        }
    }
}

/// When the next step of the meters ends.
#[derive(Clone, Copy, Debug)]
pub struct StepClock(Instant);

impl StepClock {
    /// The first step ends one step after `now`.
    pub fn new(now: Instant) -> Self {
        Self(now)
    }

    /// Number of steps that ended by `now`, at most as many as the window has.
    pub fn take(&mut self, now: Instant) -> usize {
        let mut over = 0;
        while over < STEPS && now.saturating_duration_since(self.0) >= STEP {
            over = over.saturating_add(1);
            self.0 = self.0.checked_add(STEP).unwrap_or(now);
        }
        if over == STEPS {
            self.0 = now;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 25 frames a second of `len` bytes in two packets, with a keyframe of ten times as much at
    /// `keyframes`.
    fn run(meter: &mut RateMeter, ms: std::ops::Range<u32>, len: usize, keyframes: &[u32]) {
        for at in ms {
            if at % 40 == 0 {
                let keyframe = keyframes.contains(&at);
                let len = if keyframe { 10 * len } else { len };
                meter.on_packet(len / 2, at, keyframe, false);
                meter.on_packet(len / 2, at, false, true);
            }
            if at % 100 == 99 {
                meter.step();
            }
        }
    }

    #[test]
    fn a_keyframe_does_not_make_a_layer_dear() {
        let mut meter = RateMeter::default();
        run(&mut meter, 0..3_000, 5_000, &[0]);
        let Rate { bps, fps } = meter.rate();
        assert!((980_000..1_040_000).contains(&bps), "{bps}");
        assert!((24..=26).contains(&fps), "{fps}");
        run(&mut meter, 3_000..4_000, 5_000, &[3_200]);
        let bps = meter.rate().bps;
        assert!((930_000..1_040_000).contains(&bps), "{bps}");
    }

    #[test]
    fn what_has_just_begun_is_not_measured_and_what_has_ended_is_nothing() {
        let mut meter = RateMeter::default();
        run(&mut meter, 0..200, 5_000, &[0]);
        assert_eq!(meter.rate(), Rate::default());
        run(&mut meter, 200..1_000, 5_000, &[]);
        assert!(meter.rate().bps > 900_000);
        for _ in 0..STEPS {
            meter.step();
        }
        assert_eq!(meter.rate(), Rate::default());
    }

    #[test]
    fn steps_are_counted_however_late_they_are_looked_at() {
        let start = Instant::now();
        let mut clock = StepClock::new(start);
        let ms = Duration::from_millis;
        assert_eq!((clock.take(start + ms(99)), clock.take(start + ms(201))), (0, 2));
        assert_eq!(clock.take(start + ms(299)), 0);
        assert_eq!(clock.take(start + ms(60_000)), STEPS);
        assert_eq!(clock.take(start + ms(60_000)), 0);
    }
}
