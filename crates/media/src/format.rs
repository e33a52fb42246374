//! What an endpoint negotiated: payload types and header extensions.

use super::Extension;

/// Audio or video, as signalled by `<media type>` and `<media-source type>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum MediaType {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// What a payload type carries, as far as the packet path needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    /// Opus (RFC 7587).
    Opus,
    /// Redundant audio (RFC 2198).
    Red,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// AV1.
    Av1,
    /// H.264 (RFC 6184).
    H264,
    /// Retransmission (RFC 4588) of the payload type `apt`.
    Rtx {
        /// The payload type of the original packets.
        apt: u8,
    },
    /// Anything else that was signalled, forwarded unread. Identified by the lower-cased encoding
    /// name, the clock rate and the number of channels, so that it can be matched at the receiver.
    Other {
        /// FNV-1a of the lower-cased encoding name.
        name_hash: u64,
    },
}

/// One negotiated payload type of an endpoint (both directions use the same number).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PayloadType {
    /// RTP payload type, 0..=127.
    pub pt: u8,
    /// What it carries.
    pub codec: Codec,
    /// Audio or video.
    pub media: MediaType,
    /// RTP clock, Hz.
    pub clock_rate: u32,
    /// For H.264 the result of [`h264::format`](crate::h264::format), for VP9 the `profile-id`;
    /// empty otherwise. Payload types match between two endpoints if codec and profile match.
    pub profile: String,
    /// Generic NACK (RFC 4585) was negotiated.
    pub nack: bool,
    /// Picture loss indication was negotiated.
    pub pli: bool,
    /// Full intra request (RFC 5104) was negotiated.
    pub fir: bool,
    /// Transport-wide congestion control feedback was negotiated.
    pub transport_cc: bool,
}

/// What an endpoint negotiated: payload types and header-extension ids, of both directions.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MediaParams {
    /// Payload types by number; a number is listed once.
    pub payload_types: Vec<PayloadType>,
    /// Header extensions: (id 1..=255, kind). An id is listed once.
    pub extensions: Vec<(u8, Extension)>,
    /// One- and two-byte headers may be mixed (`extmap-allow-mixed`, RFC 8285 section 4.1.2).
    pub extmap_allow_mixed: bool,
    /// Congestion control feedback (RFC 8888, `ack ccfb`) was negotiated.
    pub congestion_feedback: bool,
    /// Receiver estimated maximum bitrate (`goog-remb`) was negotiated.
    pub remb: bool,
}
