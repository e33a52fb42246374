//! What is read once from a received packet and serves every receiver.

use rialto_media::Extension;

use super::AudioMeta;

/// Header-extension elements of a packet that may go on to receivers; the rest ends at the bridge.
pub const MAX_KEPT_EXTENSIONS: usize = 4;

/// One header-extension element, by its place in the packet.
#[derive(Clone, Copy, Debug)]
pub struct KeptExtension {
    /// What it is.
    pub kind: Extension,
    /// Its length, bytes.
    pub len: u8,
    /// Offset of its first byte in the packet.
    pub start: u16,
}

/// Where a VP8 payload descriptor holds the numbers that a switch between encodings must continue
/// (RFC 7741 section 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp8Place {
    /// Offset of the picture id from the payload's start, and its width in bits (7 or 15); width 0:
    /// there is none.
    pub picture_id_at: u8,
    /// 0, 7 or 15.
    pub picture_id_bits: u8,
    /// Offset of TL0PICIDX from the payload's start; 0: there is none.
    pub tl0_at: u8,
    /// TL0PICIDX as received.
    pub tl0: u8,
    /// Picture id as received.
    pub picture_id: u16,
}

/// The description of one packet in a ring, and beside one that crosses to another shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketMeta {
    /// The number under which it goes on: at first the SRTP packet index, `ROC << 16 | SEQ`, less what
    /// ended here since (`ingress::numbers`).
    pub index: u64,
    /// RTP timestamp as received.
    pub timestamp: u32,
    /// Arrival, milliseconds since the engine's epoch (wraps after 49 days; only differences count).
    pub arrival_ms: u32,
    /// Offset of the payload in the packet.
    pub payload_start: u16,
    /// Length of the payload without padding; 0: nothing but padding.
    pub payload_len: u16,
    /// Payload type as received.
    pub payload_type: u8,
    /// How many contributing sources follow the fixed header (RFC 3550 section 5.1), 0 to 15.
    pub csrc_count: u8,
    /// RTP marker.
    pub marker: bool,
    /// First packet of a keyframe, as far as the codec shows it.
    pub keyframe: bool,
    /// What the sender sent before it ended here: a decoder may lack what this packet refers to.
    pub resumes: bool,
    /// The codec is one in which keyframes are recognised.
    pub keyframes_known: bool,
    /// The stream has not shown one so far: end-to-end encryption or intra refresh may hide them.
    pub keyframes_hidden: bool,
    /// VP8's running numbers.
    pub vp8: Vp8Place,
    /// The frame number of the dependency descriptor, if there is one.
    pub frame_number: Option<u16>,
    /// What is particular to audio.
    pub audio: AudioMeta,
    /// Extensions to pass on.
    pub extensions: [Option<KeptExtension>; MAX_KEPT_EXTENSIONS],
}
