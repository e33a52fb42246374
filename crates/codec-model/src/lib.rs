//! Video with layers as browsers send it, and a browser's view of it: encoders without pictures,
//! and decoders that know the references of each frame.
//!
//! Each payload carries the truth about itself behind the descriptor of its codec, so that a judge
//! need not believe the descriptors that a bridge reads and rewrites. Nothing here uses the
//! bridge's own codec readers and writers.
#![forbid(unsafe_code)]

mod bits;
mod body;
mod decoder;
mod descriptor;
mod encoder;
mod judge;
mod pattern;
mod payload;
mod rate;
#[cfg(test)]
mod tests;
mod truth;

use rialto_media::Codec;

pub use body::Body;
pub use decoder::{Decoder, Packet, Shown};
pub use encoder::{Coded, Encoder};
pub use judge::{Network, Problem, Rule};
pub use pattern::Sent;
pub use rate::Rate;
pub use truth::{Numbers, Truth};

/// What a frame of an upper spatial layer refers to in the layer below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prediction {
    /// Nothing: the S-modes.
    Never,
    /// The same picture's frame, in key pictures only: K-SVC.
    AtKeyframes,
    /// The same picture's frame.
    Always,
}

/// How a sender encodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    /// Its name.
    pub name: &'static str,
    /// The codec.
    pub codec: Codec,
    /// Encodings, each under an SSRC of its own.
    pub encodings: u8,
    /// Spatial layers of each.
    pub spatial: u8,
    /// Temporal layers of each.
    pub temporal: u8,
    /// Prediction between spatial layers.
    pub prediction: Prediction,
    /// Upper temporal layers refer across base frames, so that not each base frame is a switching point.
    pub sticky: bool,
    /// Packets carry the dependency descriptor.
    pub descriptor: bool,
    /// VP9: each frame lists what it depends on.
    pub flexible: bool,
    /// Payloads are unreadable, but for a VP8 or VP9 payload descriptor.
    pub encrypted: bool,
}

const PLAIN: Mode = Mode {
    name: "",
    codec: Codec::Vp8,
    encodings: 1,
    spatial: 1,
    temporal: 1,
    prediction: Prediction::Always,
    sticky: false,
    descriptor: false,
    flexible: false,
    encrypted: false,
};

const fn vp8(name: &'static str, temporal: u8) -> Mode {
    Mode { name, encodings: 3, temporal, sticky: true, ..PLAIN }
}

const fn vp9(name: &'static str, spatial: u8, temporal: u8, prediction: Prediction) -> Mode {
    Mode { name, codec: Codec::Vp9, spatial, temporal, prediction, ..PLAIN }
}

const fn av1(name: &'static str, spatial: u8, temporal: u8, prediction: Prediction) -> Mode {
    let codec = Codec::Av1;
    Mode { name, codec, spatial, temporal, prediction, descriptor: true, ..PLAIN }
}

const fn h264(name: &'static str, temporal: u8) -> Mode {
    Mode { name, codec: Codec::H264, encodings: 3, temporal, ..PLAIN }
}

impl Mode {
    /// VP8, three encodings without temporal layers.
    pub const VP8_T1: Self = vp8("VP8 3xL1T1", 1);
    /// VP8, three encodings of two temporal layers.
    pub const VP8_T2: Self = vp8("VP8 3xL1T2", 2);
    /// VP8, three encodings of three temporal layers: what Chromium sends in Jitsi Meet.
    pub const VP8_T3: Self = vp8("VP8 3xL1T3", 3);
    /// VP8 beside a dependency descriptor: its own descriptor has but one byte.
    pub const VP8_DD: Self = Mode { descriptor: true, ..vp8("VP8 3xL1T3 DD", 3) };
    /// VP9 of temporal layers, with a group of pictures.
    pub const VP9_L1T3: Self = vp9("VP9 L1T3", 1, 3, Prediction::Always);
    /// VP9 of temporal layers that refer across base frames, with a group of pictures.
    pub const VP9_L1T3_STICKY: Self =
        Mode { name: "VP9 L1T3 sticky", sticky: true, ..Self::VP9_L1T3 };
    /// The same in flexible mode.
    pub const VP9_L1T3_FLEXIBLE: Self =
        Mode { name: "VP9 L1T3 sticky flexible", flexible: true, ..Self::VP9_L1T3_STICKY };
    /// VP9 with all layers.
    pub const VP9_L3T3: Self = vp9("VP9 L3T3", 3, 3, Prediction::Always);
    /// The same in flexible mode.
    pub const VP9_L3T3_FLEXIBLE: Self =
        Mode { name: "VP9 L3T3 flexible", flexible: true, ..Self::VP9_L3T3 };
    /// VP9 K-SVC: what Chromium sends in Jitsi Meet.
    pub const VP9_L3T3_KEY: Self = vp9("VP9 L3T3_KEY", 3, 3, Prediction::AtKeyframes);
    /// The same in flexible mode.
    pub const VP9_L3T3_KEY_FLEXIBLE: Self =
        Mode { name: "VP9 L3T3_KEY flexible", flexible: true, ..Self::VP9_L3T3_KEY };
    /// The same beside a dependency descriptor.
    pub const VP9_L3T3_KEY_DD: Self =
        Mode { name: "VP9 L3T3_KEY DD", descriptor: true, ..Self::VP9_L3T3_KEY };
    /// VP9 of two spatial layers.
    pub const VP9_L2T1: Self = vp9("VP9 L2T1", 2, 1, Prediction::Always);
    /// VP9 of independent layers under one SSRC.
    pub const VP9_S3T3: Self = vp9("VP9 S3T3", 3, 3, Prediction::Never);
    /// AV1 of temporal layers.
    pub const AV1_L1T3: Self = av1("AV1 L1T3", 1, 3, Prediction::Always);
    /// AV1 of temporal layers that refer across base frames.
    pub const AV1_L1T3_STICKY: Self =
        Mode { name: "AV1 L1T3 sticky", sticky: true, ..Self::AV1_L1T3 };
    /// AV1 with all layers.
    pub const AV1_L3T3: Self = av1("AV1 L3T3", 3, 3, Prediction::Always);
    /// AV1 K-SVC.
    pub const AV1_L3T3_KEY: Self = av1("AV1 L3T3_KEY", 3, 3, Prediction::AtKeyframes);
    /// AV1 of two spatial layers.
    pub const AV1_L2T1: Self = av1("AV1 L2T1", 2, 1, Prediction::Always);
    /// AV1 of independent layers under one SSRC.
    pub const AV1_S3T3: Self = av1("AV1 S3T3", 3, 3, Prediction::Never);
    /// AV1, three encodings.
    pub const AV1_SIMULCAST: Self =
        Mode { encodings: 3, ..av1("AV1 3xL1T3", 1, 3, Prediction::Always) };
    /// AV1 with all layers, of which only descriptors can be read.
    pub const AV1_ENCRYPTED: Self =
        Mode { name: "AV1 L3T3 encrypted", encrypted: true, ..Self::AV1_L3T3 };
    /// H.264, three encodings.
    pub const H264_T1: Self = h264("H.264 3xL1T1", 1);
    /// H.264, three encodings; nothing refers to the upper temporal layer, and `nal_ref_idc` says so.
    pub const H264_T2: Self = h264("H.264 3xL1T2", 2);
    /// H.264 beside a dependency descriptor.
    pub const H264_DD: Self = Mode { descriptor: true, ..h264("H.264 3xL1T3 DD", 3) };
    /// The same, of which only descriptors can be read.
    pub const H264_ENCRYPTED: Self =
        Mode { name: "H.264 3xL1T3 DD encrypted", encrypted: true, ..Self::H264_DD };

    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::VP8_T1,
        Self::VP8_T2,
        Self::VP8_T3,
        Self::VP8_DD,
        Self::VP9_L1T3,
        Self::VP9_L1T3_STICKY,
        Self::VP9_L1T3_FLEXIBLE,
        Self::VP9_L3T3,
        Self::VP9_L3T3_FLEXIBLE,
        Self::VP9_L3T3_KEY,
        Self::VP9_L3T3_KEY_FLEXIBLE,
        Self::VP9_L3T3_KEY_DD,
        Self::VP9_L2T1,
        Self::VP9_S3T3,
        Self::AV1_L1T3,
        Self::AV1_L1T3_STICKY,
        Self::AV1_L3T3,
        Self::AV1_L3T3_KEY,
        Self::AV1_L2T1,
        Self::AV1_S3T3,
        Self::AV1_SIMULCAST,
        Self::AV1_ENCRYPTED,
        Self::H264_T1,
        Self::H264_T2,
        Self::H264_DD,
        Self::H264_ENCRYPTED,
    ];

    /// Further ones, which few send.
    pub const MORE: [Self; 14] = [
        Self { descriptor: true, encodings: 1, ..vp8("VP8 L1T3 DD", 3) },
        Self { encodings: 1, ..vp8("VP8 L1T3", 3) },
        Self { name: "VP9 L1T3 DD", descriptor: true, ..Self::VP9_L1T3 },
        Self { name: "VP9 L3T3 DD", descriptor: true, ..Self::VP9_L3T3 },
        Self { name: "VP9 L2T1 DD", descriptor: true, ..Self::VP9_L2T1 },
        Self { name: "VP9 S3T3 DD", descriptor: true, ..Self::VP9_S3T3 },
        Self { encodings: 3, ..vp9("VP9 3xL1T3", 1, 3, Prediction::Always) },
        Self { encodings: 3, descriptor: true, ..vp9("VP9 3xL1T3 DD", 1, 3, Prediction::Always) },
        av1("AV1 L1T1", 1, 1, Prediction::Always),
        av1("AV1 L2T3", 2, 3, Prediction::Always),
        av1("AV1 L3T1", 3, 1, Prediction::Always),
        Self { encodings: 1, ..h264("H.264 L1T1", 1) },
        Self { encodings: 1, ..h264("H.264 L1T2", 2) },
        Self { encodings: 1, descriptor: true, ..h264("H.264 L1T3 DD", 3) },
    ];

    /// All that have names.
    pub fn named() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::MORE)
    }

    /// The mode of a name, such as `VP9 L3T3_KEY`: case does not matter, nor do points, and a slash is as
    /// good as a space.
    pub fn find(name: &str) -> Option<Self> {
        let plain = |name: &str| name.replace('.', "").replace('/', " ").to_ascii_lowercase();
        Self::named().find(|mode| plain(mode.name) == plain(name))
    }

    /// The height of a layer: the highest has 720 lines, and each below half as many.
    pub fn height(&self, encoding: u8, spatial: u8) -> u16 {
        720 >> (self.encodings + self.spatial - 2 - encoding - spatial)
    }

    /// All heights, ascending.
    pub fn heights(&self) -> Vec<u16> {
        (0..self.encodings)
            .flat_map(|e| (0..self.spatial).map(move |s| (e, s)))
            .map(|(e, s)| self.height(e, s))
            .collect()
    }
}
