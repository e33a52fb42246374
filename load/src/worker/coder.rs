//! The encoder of a video with layers, at its sender.

use std::time::Duration;

use rialto_codec_model::{Coded, Encoder, Rate};

use crate::{media::stamp, plan::Shape};

/// Approximate payload bytes of a packet: leaves room for a large dependency descriptor below an
/// MTU of 1200.
const MAX_PAYLOAD: usize = 1_000;

/// An encoder, and its periodic keyframes.
pub(crate) struct Coder {
    encoder: Encoder,
    keyframe_interval: Duration,
    next_keyframe: Duration,
}

impl Coder {
    /// The encoder of a source; `None`: the call has no layers.
    pub(crate) fn new(source: usize, shape: &Shape) -> Option<Self> {
        let mode = shape.layers?;
        let mut encoder = Encoder::new(mode, source as u32, shape.seed);
        let (bps, fps) = (shape.video.unwrap_or_default(), f64::from(shape.fps.max(1)));
        encoder.rate = Some(Rate { bps, fps, payload: MAX_PAYLOAD });
        encoder.tail_len = stamp::LEN;
        let keyframe_interval = shape.keyframe_interval;
        Some(Self { encoder, keyframe_interval, next_keyframe: keyframe_interval })
    }

    /// The packets of the next picture.
    pub(crate) fn picture(&mut self, now: Duration, timestamp: u32) -> Vec<Coded> {
        if now >= self.next_keyframe {
            self.next_keyframe = now + self.keyframe_interval;
            self.encoder.want_keyframes();
        }
        let coded = self.encoder.picture(now, timestamp);
        self.encoder.sent.clear();
        coded
    }

    /// Requests a keyframe of an encoding.
    pub(crate) fn want_keyframe(&mut self, encoding: usize) {
        self.encoder.want_keyframe(encoding);
    }
}
