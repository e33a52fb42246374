//! The RTP header extensions that the packet path knows.

/// Header extensions that the packet path reads, writes or passes on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    AudioLevel,
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    Mid,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    AbsSendTime,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    TransportCc,
    /// `urn:3gpp:video-orientation`.
    VideoOrientation,
    /// The AV1 dependency descriptor.
    DependencyDescriptor,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`.
    AbsCaptureTime,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`.
    PlayoutDelay,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-content-type`.
    VideoContentType,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/color-space`.
    ColorSpace,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00`.
    VideoLayersAllocation,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    RtpStreamId,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    RepairedRtpStreamId,
    /// `urn:ietf:params:rtp-hdrext:framemarking` (RFC 9626).
    FrameMarking,
}

impl Extension {
    /// Number of kinds, for arrays indexed by `self as usize`.
    pub const COUNT: usize = 14;

    /// The extension with a signalled URI, if the packet path knows it.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Some(match uri {
            "urn:ietf:params:rtp-hdrext:ssrc-audio-level" => Self::AudioLevel,
            "urn:ietf:params:rtp-hdrext:sdes:mid" => Self::Mid,
            "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time" => Self::AbsSendTime,
            "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01" => {
                Self::TransportCc
            }
            "urn:3gpp:video-orientation" => Self::VideoOrientation,
            "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension" => {
                Self::DependencyDescriptor
            }
            "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time" => Self::AbsCaptureTime,
            "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay" => Self::PlayoutDelay,
            "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type" => {
                Self::VideoContentType
            }
            "http://www.webrtc.org/experiments/rtp-hdrext/color-space" => Self::ColorSpace,
            "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00" => {
                Self::VideoLayersAllocation
            }
            "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id" => Self::RtpStreamId,
            "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id" => Self::RepairedRtpStreamId,
            "urn:ietf:params:rtp-hdrext:framemarking" => Self::FrameMarking,
            _ => return None,
        })
    }
}
