//! What control and engine say to each other: identities, media descriptions, commands' payloads,
//! events. Plain values only; nothing here does I/O.
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

/// What a new endpoint is to the engine.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// For logs: `<conference id>/<endpoint id>`.
    pub label: Arc<str>,
    /// Its conference: those whose voices compete to be heard have the same.
    pub conference: u64,
    /// The bridge's own SSRC for RTCP about audio (`jvb-a0`).
    pub audio_ssrc: u32,
    /// The bridge's own SSRC for RTCP about video (`jvb-v0`).
    pub video_ssrc: u32,
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
    /// What a receiver gets of the videos that it wants has changed: a layer, a reason, or the estimate
    /// of its link by enough. About every 100 ms at most, the first time at once.
    Allocated(Box<Allocation>),
}

/// What a receiver wants of videos; the answer to it is an [`Allocation`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// In the order of priority, at most [`MAX_WISHES`]. A source of which the receiver has a subscription
    /// and that is not among them comes after them.
    pub sources: Vec<Wish>,
    /// What the receiver wants its link to be taken for, bit/s.
    pub assumed_bandwidth_bps: Option<u64>,
}

/// Upper bound of the wishes of a receiver.
pub const MAX_WISHES: usize = 1_000;

/// What a receiver wants of one video.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// The source.
    pub source: SourceId,
    /// What it shows.
    pub kind: VideoKind,
    /// At most so high, pixels; `None`: any height.
    pub max_height: Option<u16>,
    /// It is on stage.
    pub on_stage: bool,
    /// It is selected.
    pub selected: bool,
    /// Its sender has muted it, or is muted.
    pub muted: bool,
}

/// What a receiver gets of the videos that it wants: all of them each time, so that an event that is lost
/// is made good by the next.
#[derive(Clone, PartialEq, Debug)]
pub struct Allocation {
    /// Who receives.
    pub receiver: EndpointId,
    /// What its link is estimated to carry, bit/s, if that is known.
    pub estimate_bps: Option<u64>,
    /// What is to be sent to it, bit/s.
    pub target_bps: u64,
    /// What would be sent over a link that carries everything, bit/s.
    pub ideal_bps: u64,
    /// By how much what is sent exceeds the estimate on purpose, bit/s.
    pub oversend_bps: u64,
    /// Sources that arrive and get nothing because the link carries no more.
    pub suspended: usize,
    /// Each source.
    pub sources: Vec<SourceAllocation>,
}

/// What a receiver gets of one source, and why no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceAllocation {
    /// The source.
    pub source: SourceId,
    /// The layer that it would get over a link that carries everything.
    pub wanted: Option<LayerId>,
    /// How high that is, pixels, where known.
    pub wanted_height: Option<u16>,
    /// The layer that was decided.
    pub target: Option<LayerId>,
    /// How high that is, pixels, where known.
    pub target_height: Option<u16>,
    /// The layer that is forwarded by now.
    pub sent: Option<LayerId>,
    /// Why it gets no more.
    pub reason: Reason,
    /// Since when that is the reason.
    pub since: Instant,
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
    /// How long pacers held video back that could not leave when it came, since the start.
    pub pacing: DelayHistogram,
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
    /// Packets sent only to find out what a path carries.
    pub probes_sent: u64,
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
    /// Bitrate of each encoding, bit/s, in the order of [`SourceSpec::encodings`](rialto_media::SourceSpec::encodings).
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
    /// How long a video packet may wait for the rest of its frame, where that is likely to come by then.
    /// Audio never waits.
    pub video_hold: Duration,
    /// How often keyframes are asked for.
    pub keyframes: KeyframeLimits,
    /// How audio is forwarded.
    pub audio: AudioConfig,
    /// How a receiver's bandwidth is shared among its sources.
    pub allocation: AllocationConfig,
    /// Bounds of the estimates of receivers' links.
    pub bandwidth: BandwidthConfig,
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
    /// A thread or an epoll instance could not be made.
    #[error("cannot start an engine thread: {0}")]
    Thread(#[from] std::io::Error),
}
