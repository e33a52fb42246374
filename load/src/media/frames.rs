//! Frame sizes of a camera's encoder: roughly Gaussian delta frames, keyframes several times as
//! large, and a rate control that then brings the average back to the target.

use std::time::Duration;

use rand::Rng;

/// One encoded frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// It can be decoded without any other.
    pub key: bool,
    /// Payload bytes.
    pub size: usize,
}

/// Size of a keyframe relative to the mean: what libvpx makes of a talking head.
const KEYFRAME_FACTOR: f64 = 5.0;
/// Standard deviation of delta frames relative to the mean.
const SPREAD: f64 = 0.22;
/// Smallest frame relative to the mean.
const FLOOR: f64 = 0.25;
/// Smallest frame in bytes: descriptors and the stamp must fit.
const MIN_SIZE: f64 = 64.0;

/// The encoder's output, frame by frame.
#[derive(Clone, Debug)]
pub struct FrameModel {
    mean: f64,
    fps: f64,
    keyframe_every: u64,
    keyframe_gap: u64,
    since_keyframe: u64,
    wanted: bool,
    debt: f64,
}

impl FrameModel {
    /// An encoder that makes `bitrate` bit/s of payload in `fps` frames a second, with a keyframe at
    /// least every `keyframe_interval`.
    pub fn new(bitrate: u64, fps: u32, keyframe_interval: Duration) -> Self {
        let fps = f64::from(fps.max(1));
        let every = (keyframe_interval.as_secs_f64() * fps).round().max(1.0) as u64;
        Self {
            mean: bitrate as f64 / 8.0 / fps,
            fps,
            keyframe_every: every,
            keyframe_gap: (fps * 0.3) as u64,
            since_keyframe: every,
            wanted: true,
            debt: 0.0,
        }
    }

    /// Requests a keyframe (a receiver sent PLI or FIR). Requests within 300 ms of a keyframe wait,
    /// as in a real encoder.
    pub fn request_keyframe(&mut self) {
        self.wanted = true;
    }

    /// The next frame.
    pub fn next(&mut self, rng: &mut impl Rng) -> Frame {
        let asked = self.wanted && self.since_keyframe >= self.keyframe_gap;
        let key = asked || self.since_keyframe >= self.keyframe_every;
        let size = if key {
            self.wanted = false;
            self.since_keyframe = 0;
            self.mean * KEYFRAME_FACTOR * (1.0 + 0.1 * gauss(rng))
        } else {
            let repay = self.debt / (self.fps * 0.5);
            (self.mean * (1.0 + SPREAD * gauss(rng)) - repay).max(self.mean * FLOOR)
        };
        self.since_keyframe += 1;
        let size = size.max(MIN_SIZE);
        self.debt += size - self.mean;
        Frame { key, size: size as usize }
    }
}

/// About normal, mean 0, deviation 1, never beyond 6: the sum of twelve uniform numbers.
fn gauss(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// Splits a frame into equal packets of at most `max` bytes, sizes differing by at most one, larger
/// ones last, as browsers do.
pub fn split(size: usize, max: usize) -> impl Iterator<Item = usize> {
    let count = size.div_ceil(max.max(1)).max(1);
    let (base, larger) = (size / count, size % count);
    (0..count).map(move |i| base + usize::from(i >= count - larger))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn frames(count: usize, mut model: FrameModel) -> Vec<Frame> {
        let mut rng = StdRng::seed_from_u64(7);
        (0..count).map(|_| model.next(&mut rng)).collect()
    }

    #[test]
    fn the_average_is_the_bitrate() {
        let model = FrameModel::new(1_500_000, 30, Duration::from_secs(10));
        let sizes = frames(30 * 60, model);
        let bps = sizes.iter().map(|f| f.size).sum::<usize>() as f64 * 8.0 / 60.0;
        assert!((1_470_000.0..1_530_000.0).contains(&bps), "{bps}");
    }

    #[test]
    fn keyframes_come_first_periodically_and_large() {
        let sizes = frames(1000, FrameModel::new(1_500_000, 30, Duration::from_secs(10)));
        let keys: Vec<_> = (0..1000).filter(|&i| sizes[i].key).collect();
        assert_eq!(keys, [0, 300, 600, 900]);
        for key in keys {
            assert!(sizes[key].size > 4 * sizes[key + 1].size);
        }
    }

    #[test]
    fn a_request_makes_one_keyframe_and_a_storm_makes_few() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut model = FrameModel::new(1_500_000, 30, Duration::from_secs(100));
        let mut keys = 0;
        for _ in 0..300 {
            model.request_keyframe();
            keys += usize::from(model.next(&mut rng).key);
        }
        assert!((20..=34).contains(&keys), "{keys}");
        for _ in 0..30 {
            model.next(&mut rng);
        }
        assert!(!model.next(&mut rng).key);
        model.request_keyframe();
        assert!(model.next(&mut rng).key);
        assert!(!model.next(&mut rng).key);
    }

    #[test]
    fn splits_evenly() {
        assert_eq!(split(2500, 1000).collect::<Vec<_>>(), [833, 833, 834]);
        assert_eq!(split(1000, 1000).collect::<Vec<_>>(), [1000]);
        assert_eq!(split(0, 1000).collect::<Vec<_>>(), [0]);
        for size in 1..5000 {
            assert_eq!(split(size, 1100).sum::<usize>(), size);
            assert!(split(size, 1100).all(|part| part <= 1100));
        }
    }
}
