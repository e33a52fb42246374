//! What is read once from a received packet and serves every receiver.

use rialto_media::Extension;
use rialto_rtp::codec::{FrameLayers, RunningNumbers, Targets};

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
    /// Frames of these targets were lost on the way to the bridge before it, for good: what comes after refers to
    /// them, unless it opens the targets anew.
    pub lost: Targets,
    /// The codec is one in which keyframes are recognised.
    pub keyframes_known: bool,
    /// The stream has not shown one so far: end-to-end encryption or intra refresh may hide them.
    pub keyframes_hidden: bool,
    /// It is known to be the first packet of a frame.
    pub start: bool,
    /// Last packet of a frame: of one spatial layer of a picture.
    pub end: bool,
    /// The layers of its frame.
    pub layers: FrameLayers,
    /// They are not known: nothing of the picture is in it. The packets behind it tell them.
    pub prefix: bool,
    /// The highest spatial layer of the encoding, as far as its descriptors tell.
    pub top: u8,
    /// The running numbers of its payload descriptor.
    pub numbers: RunningNumbers,
    /// The frame number of the dependency descriptor, if there is one.
    pub frame_number: Option<u16>,
    /// What is particular to audio.
    pub audio: AudioMeta,
    /// Extensions to pass on.
    pub extensions: [Option<KeptExtension>; MAX_KEPT_EXTENSIONS],
}
