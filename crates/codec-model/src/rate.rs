//! The frame sizes of an encoder with a bitrate.

use rand::{Rng as _, rngs::StdRng};

use crate::{Mode, Prediction, pattern::LayerFrame};

/// Size of a keyframe relative to a mean frame of its layer.
const KEYFRAME_FACTOR: f64 = 4.0;
/// Smallest frame relative to the mean.
const FLOOR: f64 = 0.35;
/// Frames over which the excess of a keyframe is saved again.
const REPAY: f64 = 20.0;
/// Shares of the bitrate up to each layer of half the height of the next, as Jitsi's encodings have them.
const SHARES: [f64; 3] = [0.13, 0.33, 1.0];
/// What a payload has beside its filler, about.
const OVERHEAD: usize = 110;
/// Most packets of a frame: a receiver keeps a bit for each.
const MAX_PARTS: usize = 120;

/// A bitrate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// Payload bit/s of all layers of the highest encoding.
    pub bps: u64,
    /// Pictures per second.
    pub fps: f64,
    /// Bytes of a packet's payload, at most.
    pub payload: usize,
}

impl Rate {
    /// The number of packets of a frame, and the filler of each. `debt` is the excess of its layer
    /// so far.
    pub(crate) fn cut(
        &self,
        mode: &Mode,
        encoding: u8,
        frame: &LayerFrame,
        debt: &mut f64,
        rng: &mut StdRng,
    ) -> (u8, usize) {
        let mean = self.bps as f64 / 8.0 / self.fps * share(mode, encoding, frame.spatial);
        let wanted = if frame.key {
            mean * KEYFRAME_FACTOR
        } else {
            let weight = temporal_weight(mode, frame.temporal) * rng.random_range(0.8..1.2);
            (mean * weight - *debt / REPAY).max(mean * FLOOR)
        };
        *debt += wanted - mean;
        let parts = (wanted as usize).div_ceil(self.payload.max(1)).clamp(1, MAX_PARTS);
        let room = self.payload.saturating_sub(OVERHEAD);
        let filler = (wanted as usize / parts).saturating_sub(OVERHEAD).min(room);
        (parts as u8, filler)
    }
}

/// A spatial layer's own share of the highest encoding's bitrate.
fn share(mode: &Mode, encoding: u8, spatial: u8) -> f64 {
    let below = usize::from(mode.encodings - 1 - encoding);
    let share = |spatial: u8| SHARES[2 - usize::from(mode.spatial - 1 - spatial)];
    let own = match (spatial, mode.prediction) {
        (0, _) => share(0),
        (_, Prediction::Never) => share(spatial),
        _ => share(spatial) - share(spatial - 1),
    };
    let all: f64 = match mode.prediction {
        Prediction::Never => (0..mode.spatial).map(share).sum(),
        _ => 1.0,
    };
    own / all * SHARES[2 - below]
}

/// Upper temporal layers have smaller frames.
fn temporal_weight(mode: &Mode, temporal: u8) -> f64 {
    match (mode.temporal, temporal) {
        (1, _) | (3, 1) => 1.0,
        (2, 0) => 1.25,
        (2, _) => 0.75,
        (_, 0) => 1.6,
        _ => 0.7,
    }
}
