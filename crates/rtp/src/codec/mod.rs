//! Payload descriptors: what a forwarder needs to know about a frame, read once per packet.
//!
//! Nothing here looks at the coded picture beyond the few header bytes with the keyframe flag and
//! size. With end-to-end encryption those may be garbage; descriptors stay readable, and a wrong
//! keyframe flag costs at most a keyframe request.

pub mod av1;
mod bits;
pub mod dd;
pub mod h264;
mod layers;
#[cfg(test)]
mod model;
pub mod red;
mod running;
pub mod vp8;
pub mod vp9;

pub use layers::{FrameLayers, MAX_SPATIAL, MAX_TEMPORAL, Targets};
pub use running::{RunningNumbers, Shift};

/// The video codecs whose payload is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VideoCodec {
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// RTP Payload Format for AV1 1.0.
    Av1,
}

/// A picture size in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Resolution {
    /// Width.
    pub width: u16,
    /// Height.
    pub height: u16,
}

/// What a packet says about its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameInfo {
    /// The packet starts a keyframe, or carries the parameter sets before one. Later packets of a
    /// keyframe do not say so.
    pub keyframe: bool,
    /// The packet may be the first of a frame. VP8, VP9 and the dependency descriptor say so
    /// exactly; H.264 and AV1 payloads only show that they do not continue a fragment.
    pub start: bool,
    /// The packet is the last of a frame: the marker bit, or for VP9 the last of a spatial layer.
    pub end: bool,
    /// Its layers.
    pub layers: FrameLayers,
    /// It has a sequence parameter set (H.264), which precedes the slices of a keyframe.
    pub parameters: bool,
    /// It has no data of the picture itself (only H.264's parameter sets, delimiters, supplemental
    /// information), so its layers are unknown: they are those of the packets behind it.
    pub prefix: bool,
    /// The running numbers in its payload descriptor.
    pub numbers: RunningNumbers,
    /// Frame heights of the spatial layers (the shorter sides), pixels, if the packet has them; 0:
    /// there is no such layer.
    pub heights: Option<[u16; MAX_SPATIAL as usize]>,
    /// Size of the largest picture, if the packet starts a keyframe with a size.
    pub resolution: Option<Resolution>,
}

/// Reads what `payload` (decrypted, without padding) says about its frame. `None` if it is empty or
/// malformed.
#[inline]
pub fn read(codec: VideoCodec, payload: &[u8], marker: bool) -> Option<FrameInfo> {
    match codec {
        VideoCodec::Vp8 => vp8::read(payload, marker),
        VideoCodec::Vp9 => vp9::read(payload, marker),
        VideoCodec::H264 => h264::read(payload, marker),
        VideoCodec::Av1 => av1::read(payload, marker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_panics(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            for (_, target) in crate::fuzz::TARGETS {
                target(&payload);
            }
        }
    }

    #[test]
    fn empty_payloads_say_nothing() {
        for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1] {
            assert_eq!(read(codec, &[], true), None);
        }
    }
}
