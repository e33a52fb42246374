//! One shard's core as control would set it up, with its input and output: shared by the benches of
//! calls.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_engine::{
    AllocationConfig, AudioConfig, BandwidthConfig, EndpointSpec,
    arena::SendArena,
    core::{Core, CoreConfig, Outbox, ShardCommand},
    dest::Dest,
    egress::SourceInfo,
    ingress::keyframe::KeyframeLimits,
};
use rialto_media::{
    Codec, EncodingSpec, EndpointId, MediaParams, MediaType, PayloadType, ShardId, SourceId,
    SourceSpec,
};
use rialto_rtp::rtcp::{Arrival, RtcpWriter};
use rialto_srtp::{Keying, Profile, TxContext};
use rialto_sys::thread_cpu_time;

pub(crate) const PROFILE: Profile = Profile::AeadAes128Gcm;
const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 10_000);

/// As large as the engine's.
const BYTES: usize = 256 << 10;
const MESSAGES: usize = 512;

/// Where packets are sent, until it is emptied as a socket would be.
pub(crate) trait Sink: Outbox {
    /// Discards everything.
    fn empty(&mut self);
}

/// The engine's send arena.
pub(crate) struct Drained {
    pub(crate) arena: SendArena,
    /// Datagrams sent.
    pub(crate) datagrams: u64,
    /// Messages sent.
    pub(crate) messages: u64,
}

impl Drained {
    pub(crate) fn new() -> Self {
        Self { arena: SendArena::new(BYTES, MESSAGES, 1), datagrams: 0, messages: 0 }
    }
}

impl Sink for Drained {
    fn empty(&mut self) {
        self.datagrams += self.arena.datagrams() as u64;
        self.messages += self.arena.messages(0).len() as u64;
        self.arena.clear();
    }
}

impl Outbox for Drained {
    fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]> {
        if self.arena.is_full(max_len) {
            self.empty();
        }
        self.arena.reserve(*dest, max_len)
    }

    fn commit(&mut self, len: usize) {
        self.arena.commit(len);
    }
}

/// The only shard.
pub(crate) fn core(bandwidth: BandwidthConfig, now: Instant) -> Core {
    let config = CoreConfig {
        shard: ShardId(0),
        shards: 1,
        sockets: vec![LOCAL.into()],
        video_hold: Duration::from_micros(250),
        bandwidth,
        allocation: AllocationConfig::default(),
        keyframes: KeyframeLimits::default(),
        audio: AudioConfig::default(),
        seed: 1,
    };
    Core::new(config, now)
}

/// The commands for a connected endpoint.
pub(crate) fn endpoint(id: u32, media: &Arc<MediaParams>) -> [ShardCommand; 5] {
    let (endpoint, remote, local) = (EndpointId(id), remote(id), LOCAL.into());
    let spec = EndpointSpec {
        label: Arc::from(format!("bench/{id}")),
        conference: 0,
        audio_ssrc: 0xa000_0000 + id,
        video_ssrc: 0xb000_0000 + id,
    };
    [
        ShardCommand::AddEndpoint(endpoint, spec),
        ShardCommand::SetMedia(endpoint, media.clone()),
        ShardCommand::Bind { remote, endpoint, home: ShardId(0) },
        ShardCommand::Select { endpoint, remote, local },
        ShardCommand::SetKeys(endpoint, keying(id)),
    ]
}

/// The address of an endpoint.
pub(crate) fn remote(id: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, (id >> 8) as u8, id as u8], 40_000))
}

fn keying(id: u32) -> Keying {
    let len = PROFILE.key_len() + PROFILE.salt_len();
    let master = |salt: u8| (0..len).map(|at| (id >> (at % 2 * 8)) as u8 ^ salt).collect();
    Keying { profile: PROFILE, receive: master(0x55), send: master(0xaa) }
}

/// The sender context of an endpoint.
pub(crate) fn seal(id: u32) -> TxContext {
    TxContext::new(PROFILE, &keying(id).receive).expect("a good key")
}

/// A source of an endpoint.
pub(crate) fn source(
    id: u32,
    name: String,
    kind: MediaType,
    ssrcs: impl Iterator<Item = u32>,
    media: &Arc<MediaParams>,
) -> Arc<SourceInfo> {
    // As browsers negotiate video: packets are not kept for retransmission in their original form.
    let rtx = |ssrc: u32| (kind == MediaType::Video).then_some(ssrc ^ 0x4000_0000);
    let spec = SourceSpec {
        id: SourceId(id),
        name: Arc::from(name),
        media: kind,
        encodings: ssrcs.map(|ssrc| EncodingSpec { ssrc, rtx: rtx(ssrc) }).collect(),
    };
    let (media, cname) = (media.clone(), Arc::from("bench"));
    Arc::new(SourceInfo { spec, home: ShardId(0), media, cname, conference: 0 })
}

/// The command to route its packets to this shard.
pub(crate) fn route(source: &SourceInfo) -> ShardCommand {
    ShardCommand::AddRoute { source: source.spec.id, shard: ShardId(0), included: false }
}

pub(crate) fn payload_type(pt: u8, codec: Codec, media: MediaType, clock_rate: u32) -> PayloadType {
    let video = media == MediaType::Video;
    PayloadType {
        pt,
        codec,
        media,
        clock_rate,
        profile: String::new(),
        nack: video,
        pli: video,
        fir: video,
        transport_cc: true,
    }
}

/// An arrival time in ticks of transport-wide feedback.
pub(crate) fn ticks(at: Duration) -> i64 {
    (at.as_micros() / 250) as i64
}

/// Protected feedback packets about arrivals. `count` is that of the feedback packets so far.
pub(crate) fn feedback(seal: &mut TxContext, count: &mut u8, arrivals: &[Arrival]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut rest = arrivals;
    while let Some(first) = rest.first() {
        let mut packet = vec![0; 1_200];
        let mut writer = RtcpWriter::new(&mut packet[..1_100]);
        writer.receiver_report(1, &[]).expect("room");
        let written = writer.transport_cc(1, 1, *count, first.seq, rest);
        let len = writer.len();
        let sealed = seal.seal_rtcp(&mut packet, len).expect("room");
        packet.truncate(sealed);
        packets.push(packet);
        *count = count.wrapping_add(1);
        rest = &rest[written.expect("sound arrivals")..];
    }
    packets
}

/// Passes the feedback of receivers to the core, and returns the time that it took.
pub(crate) fn take_feedback(
    core: &mut Core,
    now: Instant,
    packets: &mut [(SocketAddr, Vec<u8>)],
) -> Duration {
    let start = thread_cpu_time();
    for (remote, packet) in packets {
        core.on_datagram(now, LOCAL.into(), *remote, packet);
    }
    thread_cpu_time().saturating_sub(start)
}

/// Does what a shard's loop does around packets from `remote`, and returns the time that it takes.
pub(crate) fn shard_loop<'a>(
    core: &mut Core,
    out: &mut impl Sink,
    now: Instant,
    remote: SocketAddr,
    packets: impl Iterator<Item = &'a mut [u8]>,
) -> Duration {
    let start = thread_cpu_time();
    while core.next_timeout() <= now {
        core.on_timeout(core.next_timeout(), out);
        out.empty();
    }
    for packet in packets {
        core.on_datagram(now, LOCAL.into(), remote, packet);
    }
    core.flush(now, out);
    out.empty();
    core.events().for_each(drop);
    thread_cpu_time().saturating_sub(start)
}
