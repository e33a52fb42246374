//! What control and engine say to each other: identities, media descriptions, commands' payloads,
//! events. Plain values only; nothing here does I/O.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::delay::DelayHistogram;
use crate::ingress::{keyframe::KeyframeLimits, silence::SilenceLimit};

/// A participant's place in the engine. Never reused while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EndpointId(pub u32);

/// A sender's source (one camera, one microphone) in the engine. Never reused while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SourceId(pub u32);

/// One engine thread, `0..shards`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Audio or video, as signalled by `<media type>` and `<media-source type>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum MediaType {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// What a payload type carries, as far as the packet path must know.
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
    /// Anything else that was signalled: forwarded unread. Identified by the lower-cased encoding
    /// name, the clock rate and the number of channels, so that it can be matched at the receiver.
    Other {
        /// FNV-1a of the lower-cased encoding name.
        name_hash: u64,
    },
}

/// One negotiated payload type of an endpoint (both directions use the same number).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PayloadType {
    /// RTP payload type, 0..=127.
    pub pt: u8,
    /// What it carries.
    pub codec: Codec,
    /// Audio or video.
    pub media: MediaType,
    /// RTP clock, Hz.
    pub clock_rate: u32,
    /// `profile-level-id` for H.264, `profile-id` for VP9, lower-cased; empty otherwise. Payload
    /// types match between two endpoints when codec and profile match.
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
}

impl Extension {
    /// Number of kinds, for arrays indexed by `self as usize`.
    pub const COUNT: usize = 13;

    /// The extension that a signalled URI names, if the packet path knows it.
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
            _ => return None,
        })
    }
}

/// What an endpoint negotiated: payload types and header-extension ids, of both directions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MediaParams {
    /// Payload types by number; a number is listed once.
    pub payload_types: Vec<PayloadType>,
    /// Header extensions: (id 1..=255, kind). An id is listed once.
    pub extensions: Vec<(u8, Extension)>,
    /// One- and two-byte headers may be mixed (`extmap-allow-mixed`, RFC 8285 section 4.1.2).
    pub extmap_allow_mixed: bool,
    /// Receiver estimated maximum bitrate (`goog-remb`) was negotiated.
    pub remb: bool,
}

/// One RTP stream of a source: an encoding of a simulcast source, or the only one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodingSpec {
    /// The SSRC of the media packets.
    pub ssrc: u32,
    /// The SSRC of its retransmissions (FID group), if signalled.
    pub rtx: Option<u32>,
}

/// A signalled source of a sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceSpec {
    /// Its place in the engine.
    pub id: SourceId,
    /// Its name, such as `abcd1234-v0`; for logs and debug output.
    pub name: Arc<str>,
    /// Audio or video.
    pub media: MediaType,
    /// At least one and at most [`MAX_ENCODINGS`] encodings, lowest quality first (the order of the
    /// SIM group). The first one's SSRCs are what receivers see, as in JVB.
    pub encodings: Vec<EncodingSpec>,
}

/// Upper bound of encodings of a source.
pub const MAX_ENCODINGS: usize = 4;

/// An MID (RFC 9143), 1..=16 bytes of ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mid {
    len: u8,
    bytes: [u8; 16],
}

impl Mid {
    /// `None` when empty, longer than 16 bytes, or not printable ASCII.
    pub fn new(mid: &str) -> Option<Self> {
        let raw = mid.as_bytes();
        if raw.is_empty() || raw.len() > 16 || !raw.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes.get_mut(..raw.len())?.copy_from_slice(raw);
        Some(Self { len: raw.len() as u8, bytes })
    }

    /// The bytes to stamp.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mid({})", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// How a receiver gets a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// The MID to stamp, where the receiver negotiated the extension.
    pub mid: Option<Mid>,
    /// Encodings that are higher than this many pixels are not for it, while a lower one arrives;
    /// `None`: any is.
    pub max_height: Option<u16>,
}

/// What a new endpoint is to the engine.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// For logs: `<conference id>/<endpoint id>`.
    pub label: Arc<str>,
    /// The bridge's own SSRC for RTCP about audio (`jvb-a0`).
    pub audio_ssrc: u32,
    /// The bridge's own SSRC for RTCP about video (`jvb-v0`).
    pub video_ssrc: u32,
}

/// SRTP keys of both directions, from the DTLS exporter (RFC 5764 section 4.2).
#[derive(Clone)]
pub struct SrtpKeying {
    /// The negotiated protection profile.
    pub profile: crate::srtp::Profile,
    /// Master key and salt of what the peer sends, concatenated key then salt.
    pub receive: Vec<u8>,
    /// Master key and salt of what we send, concatenated key then salt.
    pub send: Vec<u8>,
}

impl fmt::Debug for SrtpKeying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeying").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// A datagram that a shard hands to control: STUN from anyone, DTLS from validated addresses.
#[derive(Clone, Debug)]
pub struct TransportDatagram {
    /// The shard on whose socket it landed.
    pub shard: ShardId,
    /// The local address it was sent to (from pktinfo), with the port of the socket.
    pub local: SocketAddr,
    /// Where it claims to come from.
    pub remote: SocketAddr,
    /// `Some` when `remote` is bound to an endpoint (always for DTLS).
    pub endpoint: Option<EndpointId>,
    /// When the shard received it.
    pub received: Instant,
    /// Its bytes, at most 1500.
    pub bytes: Bytes,
}

/// What shards tell control about transports.
#[derive(Clone, Debug)]
pub enum TransportEvent {
    /// First byte 0..=3 (RFC 7983).
    Stun(TransportDatagram),
    /// First byte 20..=63, from an address that is bound to an endpoint.
    Dtls(TransportDatagram),
}

/// What shards tell control about media.
#[derive(Clone, Debug)]
pub enum MediaEvent {
    /// A source's loudness since the last event, about every 100 ms while it speaks or was speaking.
    AudioLevel {
        /// The sender.
        endpoint: EndpointId,
        /// The source.
        source: SourceId,
        /// Loudest level of the interval, RFC 6464: 0 is loudest, 127 is silence (-dBov).
        level: u8,
    },
    /// About once a second, the counters of one shard and of the endpoints it is home to.
    Snapshot(Box<ShardSnapshot>),
}

/// Counters of one shard, by value.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// Which shard.
    pub shard: u16,
    /// Totals since the start.
    pub totals: ShardTotals,
    /// Packets dropped since the start, by reason (metric label).
    pub drops: Vec<(&'static str, u64)>,
    /// How long packets took through it, since the start.
    pub delays: DelayHistogram,
    /// The most that waited for it in its lanes since the last snapshot.
    pub waiting: Waiting,
    /// The part of the time since the last snapshot in which it did not sleep, 0..=1.
    pub busy: f32,
    /// The endpoints whose home it is.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// What waited for a shard, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Commands of control.
    pub commands: usize,
    /// Batches of other shards.
    pub batches: usize,
}

impl Waiting {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            commands: self.commands.max(other.commands),
            batches: self.batches.max(other.batches),
        }
    }
}

/// Totals of one shard since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Datagrams received.
    pub datagrams_received: u64,
    /// RTP packets accepted.
    pub rtp_received: u64,
    /// Bytes of them, as on the wire above UDP.
    pub rtp_bytes_received: u64,
    /// RTP packets sent (retransmissions included).
    pub rtp_sent: u64,
    /// Bytes of them.
    pub rtp_bytes_sent: u64,
    /// Retransmissions sent.
    pub retransmissions_sent: u64,
    /// Retransmissions that were asked for and no longer in the ring.
    pub retransmissions_missed: u64,
    /// RTCP compound packets received.
    pub rtcp_received: u64,
    /// RTCP compound packets sent.
    pub rtcp_sent: u64,
    /// Datagrams handed to another shard.
    pub handed_over: u64,
    /// Keyframes received.
    pub keyframes_received: u64,
    /// Keyframe requests sent to senders.
    pub keyframe_requests_sent: u64,
    /// Send calls.
    pub send_calls: u64,
    /// Datagrams handed to the kernel.
    pub datagrams_sent: u64,
    /// Datagrams that the kernel refused.
    pub send_errors: u64,
    /// Events dropped because control did not keep up.
    pub events_dropped: u64,
    /// Time with nothing to do, µs.
    pub asleep_us: u64,
    /// Times round that used up a budget, so that the next followed without sleep.
    pub budgets_hit: u64,
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// Time for which video streams arrived, each on its own, ms.
    pub video_ms: u64,
    /// Times that the layers of an arriving video changed: another frame height, or other encodings.
    pub layering_changes: u64,
    /// Statuses of transport-wide feedback on packets that were not sent with a number.
    pub feedback_unmatched: u64,
    /// Endpoints that sent a bitrate estimate (REMB) that they had not negotiated.
    pub spurious_rembs: u64,
}

/// Measurements of one endpoint over the last interval.
#[derive(Clone, Debug)]
pub struct EndpointSnapshot {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// When anything authenticated last came from it.
    pub last_received: Option<Instant>,
    /// Its RTP bitrate to us, bit/s.
    pub receive_bps: u64,
    /// Our RTP bitrate to it, bit/s.
    pub send_bps: u64,
    /// Its RTP packets to us per second.
    pub receive_pps: u64,
    /// Our RTP packets to it per second.
    pub send_pps: u64,
    /// Fraction of its packets that were lost on the way to us, 0..=1.
    pub receive_loss: f32,
    /// Fraction of our packets that it reported lost, 0..=1.
    pub send_loss: f32,
    /// Round trip, from receiver reports, if known.
    pub rtt: Option<Duration>,
    /// Total RTP packets and bytes received from it.
    pub received: (u64, u64),
    /// Total RTP packets and bytes sent to it.
    pub sent: (u64, u64),
    /// Its sources.
    pub sources: Vec<SourceSnapshot>,
    /// What it receives.
    pub subscriptions: Vec<SubscriptionSnapshot>,
}

/// Measurements of one source at its sender's home.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    /// The source.
    pub source: SourceId,
    /// Bitrate of each encoding, bit/s, in the order of [`SourceSpec::encodings`].
    pub encoding_bps: Vec<u64>,
    /// Frame height of each encoding as last seen in a keyframe, if the codec tells it.
    pub encoding_height: Vec<Option<u16>>,
}

/// Measurements of one subscription at its receiver's home.
#[derive(Clone, Debug)]
pub struct SubscriptionSnapshot {
    /// The source.
    pub source: SourceId,
    /// The encoding that is forwarded, if any.
    pub current: Option<u8>,
    /// The encoding that was decided.
    pub target: Option<u8>,
    /// Bitrate forwarded, bit/s.
    pub bps: u64,
    /// Packets forwarded in all.
    pub packets: u64,
    /// Retransmissions sent in all.
    pub retransmissions: u64,
}

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Addresses to bind; each shard binds all of them. `0.0.0.0:10000` and `[::]:10000` by default.
    /// Port 0: the first bind chooses, all others share it.
    pub bind: Vec<SocketAddr>,
    /// Engine threads.
    pub shards: u16,
    /// `SO_RCVBUF` and `SO_SNDBUF` to ask for, bytes.
    pub socket_buffer: usize,
    /// Use `UDP_SEGMENT` (switched off at run time where refused).
    pub gso: bool,
    /// Use `UDP_GRO`.
    pub gro: bool,
    /// How long a video packet may wait for company to its receiver. Audio never waits.
    pub video_hold: Duration,
    /// How often keyframes are asked for.
    pub keyframes: KeyframeLimits,
    /// How much silence is forwarded.
    pub silence: SilenceLimit,
    /// Seed of the engine's random choices (SSRCs, offsets).
    pub seed: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            bind: vec![
                SocketAddr::new(IpAddr::from([0u8; 4]), 10000),
                SocketAddr::new(IpAddr::from([0u8; 16]), 10000),
            ],
            shards: std::thread::available_parallelism().map_or(1, |n| n.get().min(256) as u16),
            socket_buffer: 10 << 20,
            gso: true,
            gro: true,
            video_hold: Duration::from_micros(250),
            keyframes: KeyframeLimits::default(),
            silence: SilenceLimit::default(),
            seed: 0,
        }
    }
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A UDP socket could not be bound.
    #[error("cannot bind UDP {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// A thread or an epoll instance could not be made.
    #[error("cannot start an engine thread: {0}")]
    Thread(#[from] std::io::Error),
}
