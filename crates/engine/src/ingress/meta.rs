//! Metadata of a received packet, read once for all receivers.

use rialto_media::Extension;
use rialto_rtp::codec::{FrameLayers, RunningNumbers, Targets};

use super::AudioMeta;

/// Most header extension elements of a packet that are passed on to receivers; the rest ends at the
/// bridge.
pub const MAX_KEPT_EXTENSIONS: usize = 4;

/// A header extension element, by its place in the packet.
#[derive(Clone, Copy, Debug)]
pub struct KeptExtension {
    /// Its kind.
    pub kind: Extension,
    /// Its length, bytes.
    pub len: u8,
    /// Offset of its first byte in the packet.
    pub start: u16,
}

/// The metadata of a packet, stored with it in a ring and sent with it to another shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketMeta {
    /// The number under which it is forwarded: the SRTP packet index, `ROC << 16 | SEQ`, less the
    /// packets that were dropped since the start (`ingress::numbers`).
    pub index: u64,
    /// RTP timestamp as received.
    pub timestamp: u32,
    /// Arrival, milliseconds since the engine's epoch (wraps after 49 days; only differences count).
    pub arrival_ms: u32,
    /// Offset of the payload in the packet.
    pub payload_start: u16,
    /// Length of the payload without padding; 0 for padding only.
    pub payload_len: u16,
    /// Payload type as received.
    pub payload_type: u8,
    /// Number of contributing sources after the fixed header (RFC 3550 section 5.1), 0 to 15.
    pub csrc_count: u8,
    /// RTP marker.
    pub marker: bool,
    /// First packet of a keyframe, as far as the codec shows it.
    pub keyframe: bool,
    /// Packets before it were dropped at the bridge: a decoder may lack what this packet refers to.
    pub resumes: bool,
    /// Frames of these targets before it were lost for good on the way to the bridge. Later packets
    /// refer to them, unless they make the targets decodable again.
    pub lost: Targets,
    /// Keyframes of the codec can be recognised.
    pub keyframes_known: bool,
    /// The stream has not shown a keyframe yet: end-to-end encryption or intra refresh may hide
    /// them.
    pub keyframes_hidden: bool,
    /// It is known to be the first packet of a frame.
    pub start: bool,
    /// It is the last packet of a frame, that is of one spatial layer of a picture.
    pub end: bool,
    /// The layers of its frame.
    pub layers: FrameLayers,
    /// Its layers are not known, since it has no picture data. The packets behind it show them.
    pub prefix: bool,
    /// The highest spatial layer of the encoding, as far as its descriptors say.
    pub top: u8,
    /// The running numbers of its payload descriptor.
    pub numbers: RunningNumbers,
    /// The frame number of the dependency descriptor, if there is one.
    pub frame_number: Option<u16>,
    /// Metadata of audio.
    pub audio: AudioMeta,
    /// Extensions to pass on.
    pub extensions: [Option<KeptExtension>; MAX_KEPT_EXTENSIONS],
}
