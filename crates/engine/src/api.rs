//! The types that control and the engine exchange: identities, media descriptions, command payloads
//! and events. Plain values only; nothing here does I/O.
#![expect(clippy::cast_possible_truncation, reason = "compared with 256 before")]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{EndpointId, SourceId};

pub use crate::egress::allocation::{
    Config as AllocationConfig, Cut, Kind as VideoKind, LayerId, Reason,
};
use crate::ingress::keyframe::KeyframeLimits;
use crate::{AudioConfig, delay::DelayHistogram};
pub use rialto_bwe::Config as BandwidthConfig;

/// Describes a new endpoint to the engine.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// Name used in logs: `<conference id>/<endpoint id>`.
    pub label: Arc<str>,
    /// Identifies the conference. Loudest-speaker selection compares endpoints of the same
    /// conference.
    pub conference: u64,
    /// The bridge's own SSRC for RTCP about audio (`jvb-a0`).
    pub audio_ssrc: u32,
    /// The bridge's own SSRC for RTCP about video (`jvb-v0`).
    pub video_ssrc: u32,
}

/// Events about media, from the shards to control.
#[derive(Clone, Debug)]
pub enum MediaEvent {
    /// The loudness of a source since the last event. Sent about every 100 ms while the source is
    /// or was speaking.
    AudioLevel {
        /// The sender.
        endpoint: EndpointId,
        /// The source.
        source: SourceId,
        /// Loudest level of the interval as in RFC 6464, in -dBov: 0 is loudest, 127 is silence.
        level: u8,
    },
    /// Counters of one shard and of the endpoints whose home it is, about once a second.
    Snapshot(Box<ShardSnapshot>),
    /// The allocation of a receiver changed: a layer, a reason, or its bandwidth estimate by enough
    /// to report. Sent at once the first time, then at most about every 100 ms.
    Allocated(Box<Allocation>),
}

/// A receiver's constraints on video. The engine answers with an [`Allocation`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllocationConstraints {
    /// Constraints per source in order of priority, at most [`MAX_CONSTRAINED_SOURCES`]. Subscribed sources that
    /// are not listed follow after these.
    pub sources: Vec<SourceConstraint>,
    /// The bandwidth that the receiver asks the bridge to assume for its link, bit/s.
    pub assumed_bandwidth_bps: Option<u64>,
}

/// Most sources that one receiver may list.
pub const MAX_CONSTRAINED_SOURCES: usize = 1_000;

/// A receiver's constraint on one video source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceConstraint {
    /// The source.
    pub source: SourceId,
    /// Camera or screen.
    pub kind: VideoKind,
    /// Maximum frame height, pixels; `None` is unlimited.
    pub max_height: Option<u16>,
    /// The source is on stage.
    pub on_stage: bool,
    /// The source is selected.
    pub selected: bool,
    /// The sender muted the source, or is force-muted.
    pub muted: bool,
}

/// What a receiver gets of its videos. Each event lists all of them, so the next one makes up for a
/// lost one.
#[derive(Clone, PartialEq, Debug)]
pub struct Allocation {
    /// The receiver.
    pub receiver: EndpointId,
    /// Estimated bandwidth of its link, bit/s, if known.
    pub estimate_bps: Option<u64>,
    /// Bitrate of the allocated layers, bit/s.
    pub target_bps: u64,
    /// Bitrate that unlimited bandwidth would allow, bit/s.
    pub ideal_bps: u64,
    /// How far the allocation deliberately exceeds the estimate, bit/s.
    pub oversend_bps: u64,
    /// Number of active sources that get nothing for lack of bandwidth.
    pub suspended: usize,
    /// The allocation of each source.
    pub sources: Vec<SourceAllocation>,
}

/// What a receiver gets of one source, and why it does not get more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceAllocation {
    /// The source.
    pub source: SourceId,
    /// The layer that unlimited bandwidth would allow.
    pub wanted: Option<LayerId>,
    /// Frame height of that layer, pixels, if known.
    pub wanted_height: Option<u16>,
    /// The layer that was allocated.
    pub target: Option<LayerId>,
    /// Frame height of that layer, pixels, if known.
    pub target_height: Option<u16>,
    /// The layer that is being forwarded now.
    pub sent: Option<LayerId>,
    /// Why the source does not get a higher layer.
    pub reason: Reason,
    /// When that reason began.
    pub since: Instant,
}

/// A copy of the counters of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// Which shard.
    pub shard: u16,
    /// Totals since the start.
    pub totals: ShardTotals,
    /// Packets dropped since the start, by reason (metric label).
    pub drops: Vec<(&'static str, u64)>,
    /// How long packets spent in the shard, since the start.
    pub delays: DelayHistogram,
    /// How long pacers delayed video that could not leave on arrival, since the start.
    pub pacing: DelayHistogram,
    /// Longest queues in front of the shard since the last snapshot.
    pub waiting: Waiting,
    /// Fraction of the time since the last snapshot that the shard was awake, 0..=1.
    pub busy: f32,
    /// The endpoints whose home it is.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// Longest queues in front of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Commands from control.
    pub commands: usize,
    /// Batches from other shards.
    pub batches: usize,
}

impl Waiting {
    /// Returns the field-wise maximum.
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
    /// Bytes of those packets, counted above UDP.
    pub rtp_bytes_received: u64,
    /// RTP packets sent (retransmissions included).
    pub rtp_sent: u64,
    /// Bytes of those packets.
    pub rtp_bytes_sent: u64,
    /// Retransmissions sent.
    pub retransmissions_sent: u64,
    /// Requested retransmissions that were no longer in the ring.
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
    /// System calls that sent something.
    pub send_calls: u64,
    /// Datagrams that the kernel accepted.
    pub datagrams_sent: u64,
    /// Datagrams that the kernel refused.
    pub send_errors: u64,
    /// Events dropped because control fell behind.
    pub events_dropped: u64,
    /// Time asleep, µs.
    pub asleep_us: u64,
    /// Ticks that used up a budget, so that the next tick followed without sleep.
    pub budgets_hit: u64,
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// Total time during which video streams were active, summed over streams, ms.
    pub video_ms: u64,
    /// Changes of the layers of a video: another frame height, or other active encodings.
    pub layering_changes: u64,
    /// Transport-wide feedback statuses about packets that were not sent with a transport sequence
    /// number.
    pub feedback_unmatched: u64,
    /// Packets sent only to probe for bandwidth.
    pub probes_sent: u64,
    /// Endpoints that sent a REMB bitrate estimate without having negotiated it.
    pub spurious_rembs: u64,
}

/// Measurements of one endpoint over the last interval.
#[derive(Clone, Debug)]
pub struct EndpointSnapshot {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// When the last authenticated packet arrived from it.
    pub last_received: Option<Instant>,
    /// RTP bitrate received from it, bit/s.
    pub receive_bps: u64,
    /// RTP bitrate sent to it, bit/s.
    pub send_bps: u64,
    /// RTP packets received from it per second.
    pub receive_pps: u64,
    /// RTP packets sent to it per second.
    pub send_pps: u64,
    /// Fraction of its packets that were lost before they reached the bridge, 0..=1.
    pub receive_loss: f32,
    /// Fraction of the packets sent to it that it reported lost, 0..=1.
    pub send_loss: f32,
    /// Round-trip time from receiver reports, if known.
    pub rtt: Option<Duration>,
    /// Total RTP packets and bytes received from it.
    pub received: (u64, u64),
    /// Total RTP packets and bytes sent to it.
    pub sent: (u64, u64),
    /// Its sources.
    pub sources: Vec<SourceSnapshot>,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionSnapshot>,
}

#[cfg(any(test, feature = "sim"))]
impl EndpointSnapshot {
    /// Measurements of an endpoint that neither sent nor got anything.
    pub fn silent(endpoint: EndpointId) -> Self {
        Self {
            endpoint,
            last_received: None,
            receive_bps: 0,
            send_bps: 0,
            receive_pps: 0,
            send_pps: 0,
            receive_loss: 0.0,
            send_loss: 0.0,
            rtt: None,
            received: (0, 0),
            sent: (0, 0),
            sources: Vec::new(),
            subscriptions: Vec::new(),
        }
    }
}

/// Measurements of one source, taken on its sender's home shard.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    /// The source.
    pub source: SourceId,
    /// Bitrate of each encoding, bit/s, in the order of [`SourceSpec::encodings`](rialto_media::SourceSpec::encodings).
    pub encoding_bps: Vec<u64>,
    /// Frame height of each encoding in its last keyframe, if the codec says it.
    pub encoding_height: Vec<Option<u16>>,
}

/// Measurements of one subscription, taken on its receiver's home shard.
#[derive(Clone, Debug)]
pub struct SubscriptionSnapshot {
    /// The source.
    pub source: SourceId,
    /// The encoding that is forwarded, if any.
    pub current: Option<u8>,
    /// The encoding that was allocated.
    pub target: Option<u8>,
    /// Forwarded bitrate, bit/s.
    pub bps: u64,
    /// Total packets forwarded.
    pub packets: u64,
    /// Total retransmissions sent.
    pub retransmissions: u64,
}

/// Configuration of the engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Addresses to bind, by default `0.0.0.0:10000` and `[::]:10000`. Every shard binds all of
    /// them. With port 0 the first bind chooses a port and all others share it.
    pub bind: Vec<SocketAddr>,
    /// Number of shards, each with a thread of its own.
    pub shards: u16,
    /// `SO_RCVBUF` and `SO_SNDBUF` to request, bytes.
    pub socket_buffer: usize,
    /// Use `UDP_SEGMENT`. Switched off at run time where the kernel refuses it.
    pub gso: bool,
    /// Use `UDP_GRO`.
    pub gro: bool,
    /// How long a video packet may wait for the rest of its frame, if the rest is likely to arrive
    /// in that time. Audio never waits for this.
    pub video_hold: Duration,
    /// Rate limits of keyframe requests.
    pub keyframes: KeyframeLimits,
    /// How audio is forwarded.
    pub audio: AudioConfig,
    /// How a receiver's bandwidth is allocated to its sources.
    pub allocation: AllocationConfig,
    /// Limits of the bandwidth estimates.
    pub bandwidth: BandwidthConfig,
    /// Seed for the engine's random choices (SSRCs, offsets).
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
            video_hold: Duration::from_millis(3),
            keyframes: KeyframeLimits::default(),
            audio: AudioConfig::default(),
            allocation: AllocationConfig::default(),
            bandwidth: BandwidthConfig::default(),
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
    /// A thread or an epoll instance could not be created.
    #[error("cannot start an engine thread: {0}")]
    Thread(#[from] std::io::Error),
}
