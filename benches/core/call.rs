//! A call through one shard's core: endpoints, sources and subscriptions as control would set them up,
//! and frames that its senders protect.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_engine::{
    EndpointSpec,
    core::{Core, CoreConfig, ShardCommand},
    egress::SourceInfo,
};
use rialto_media::{
    Codec, EncodingSpec, EndpointId, Extension, MediaParams, MediaType, Mid, PayloadType, ShardId,
    SourceId, SourceSpec, Terms,
};
use rialto_rtp::{
    ExtSeq,
    rtcp::{Arrival, RtcpWriter},
};
use rialto_srtp::{Keying, Profile, TxContext};
use rialto_sys::thread_cpu_time;

use crate::outbox::Drained;

pub(crate) const PROFILE: Profile = Profile::AeadAes128Gcm;

/// Packets of a frame: 1.5 Mbit/s at 30 frames per second.
pub(crate) const FRAME: usize = 6;

/// Time between two frames of a sender.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);

/// Receivers say what has arrived after so many rounds, as browsers do each 100 ms at most.
const FEEDBACK_ROUNDS: u32 = 3;
/// From a receiver's core to the client.
const PATH: Duration = Duration::from_millis(20);
/// Links that carry everything, so that no pacer holds anything back.
const LINK_BPS: u64 = 20_000_000;

/// A forwarded packet before protection: fixed header, MID, payload.
pub(crate) const PACKET: usize = OUT_HEADER + PAYLOAD;
/// A fixed header and one-byte extensions with a MID of one character.
pub(crate) const OUT_HEADER: usize = 12 + 4 + 4;
pub(crate) const PAYLOAD: usize = 1_080;

/// A received packet's header: fixed part, one-byte extensions with abs-send-time and the
/// transport-wide number, as browsers put them on video.
const IN_HEADER: usize = 12 + 4 + 8;
const IN_LEN: usize = IN_HEADER + PAYLOAD + PROFILE.rtp_overhead();

const PT: u8 = 100;
/// The SSRC of the first participant's video.
const SSRC: u32 = 0x5eed_0000;
const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 10_000);

/// A participant that sends.
struct Sender {
    remote: SocketAddr,
    ssrc: u32,
    seal: TxContext,
    /// Index of its next packet.
    index: u64,
}

/// A participant that receives, and what has arrived since it last said so.
struct Receiver {
    id: u32,
    seal: TxContext,
    next: u64,
    arrivals: Vec<Arrival>,
    count: u8,
}

/// See the module's description.
pub(crate) struct Call {
    pub(crate) core: Core,
    pub(crate) out: Drained,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    rounds: u32,
    start: Instant,
    receivers_of_each: u64,
    pub(crate) now: Instant,
    frame: Vec<u8>,
}

impl Call {
    /// `senders` that get nothing, and `receivers` that get all of them.
    pub(crate) fn webinar(senders: u32, receivers: u32) -> Self {
        let all: Vec<_> = (senders..senders + receivers).collect();
        Self::new(senders + receivers, senders, |_| all.clone())
    }

    /// `people` who each get all others.
    pub(crate) fn meeting(people: u32) -> Self {
        Self::new(people, people, |sender| (0..people).filter(|p| *p != sender).collect())
    }

    fn new(endpoints: u32, senders: u32, receivers: impl Fn(u32) -> Vec<u32> + Copy) -> Self {
        let now = Instant::now();
        let config = CoreConfig {
            shard: ShardId(0),
            shards: 1,
            sockets: vec![LOCAL.into()],
            video_hold: Duration::from_micros(250),
            bandwidth: rialto_engine::BandwidthConfig {
                initial_bps: LINK_BPS,
                ..rialto_engine::BandwidthConfig::default()
            },
            allocation: rialto_engine::AllocationConfig::default(),
            keyframes: rialto_engine::ingress::keyframe::KeyframeLimits::default(),
            audio: rialto_engine::AudioConfig::default(),
            seed: 1,
        };
        let mut call = Self {
            core: Core::new(config, now),
            out: Drained::new(),
            senders: Vec::new(),
            receivers: Vec::new(),
            rounds: 0,
            start: now,
            receivers_of_each: 0,
            now,
            frame: vec![0; FRAME * IN_LEN],
        };
        let media = Arc::new(media());
        for id in 0..endpoints {
            call.add_endpoint(id, &media);
        }
        for id in 0..senders {
            let receivers = receivers(id);
            call.receivers_of_each = receivers.len() as u64;
            call.add_source(id, &receivers, &media);
        }
        // The first frames are keyframes, until everybody gets them.
        for _ in 0..3 {
            call.round_of(true);
        }
        let mut receiving: Vec<u32> = (0..senders).flat_map(receivers).collect();
        receiving.sort_unstable();
        receiving.dedup();
        // Everybody has been sent as much.
        let next = call.core.totals.rtp_sent.checked_div(receiving.len() as u64).unwrap_or(0);
        call.receivers = receiving.into_iter().map(|id| Receiver::new(id, next)).collect();
        call
    }

    pub(crate) fn command(&mut self, command: ShardCommand) {
        self.core.on_command(self.now, command, &mut self.out);
    }

    pub(crate) fn add_endpoint(&mut self, id: u32, media: &Arc<MediaParams>) {
        let (endpoint, remote, local) = (EndpointId(id), remote(id), LOCAL.into());
        let label = Arc::from(format!("bench/{id}"));
        let spec = EndpointSpec {
            label,
            conference: 0,
            audio_ssrc: 0xa000_0000 + id,
            video_ssrc: 0xb000_0000 + id,
        };
        self.command(ShardCommand::AddEndpoint(endpoint, spec));
        self.command(ShardCommand::SetMedia(endpoint, media.clone()));
        self.command(ShardCommand::Bind { remote, endpoint, home: ShardId(0) });
        self.command(ShardCommand::Select { endpoint, remote, local });
        self.command(ShardCommand::SetKeys(endpoint, keying(id)));
    }

    pub(crate) fn add_source(&mut self, id: u32, receivers: &[u32], media: &Arc<MediaParams>) {
        let source = source(id, media);
        let ssrc = SSRC + id;
        self.command(ShardCommand::SetSources(EndpointId(id), vec![source.spec.clone()]));
        self.command(ShardCommand::AddRoute { source: SourceId(id), shard: ShardId(0) });
        for receiver in receivers {
            self.subscribe(*receiver, &source);
        }
        let seal = TxContext::new(PROFILE, &keying(id).receive).expect("a good key");
        self.senders.push(Sender { remote: remote(id), ssrc, seal, index: 1 });
    }

    pub(crate) fn subscribe(&mut self, receiver: u32, source: &Arc<SourceInfo>) {
        self.command(ShardCommand::Subscribe {
            receiver: EndpointId(receiver),
            source: source.clone(),
            terms: Terms { mid: Mid::new("0"), ..Terms::default() },
        });
    }

    /// How many packets are forwarded in a round.
    pub(crate) fn forwarded(&self) -> u64 {
        self.senders.len() as u64 * FRAME as u64 * self.receivers_of_each
    }

    /// One frame of each sender, through ingress, route and egress, the timers that are due meanwhile,
    /// and what receivers say of earlier ones. Returns the time that it took, without that of making the frames.
    pub(crate) fn round(&mut self) -> Duration {
        let before = self.core.totals.rtp_sent;
        let time = self.round_of(false);
        assert_eq!(self.core.totals.rtp_sent - before, self.forwarded(), "all is forwarded");
        time
    }

    fn round_of(&mut self, keyframe: bool) -> Duration {
        let mut time = Duration::ZERO;
        for at in 0..self.senders.len() {
            self.now += FRAME_INTERVAL / self.senders.len() as u32;
            let Some(sender) = self.senders.get_mut(at) else { break };
            sender.write_frame(&mut self.frame, keyframe);
            let remote = sender.remote;
            let start = thread_cpu_time();
            self.shard_loop(remote);
            time += thread_cpu_time().saturating_sub(start);
            let arrival = (self.now + PATH).saturating_duration_since(self.start);
            for receiver in self.receivers.iter_mut().filter(|r| r.id as usize != at) {
                receiver.on_frame(arrival);
            }
        }
        self.rounds += 1;
        if self.rounds.is_multiple_of(FEEDBACK_ROUNDS) {
            time += self.feed_back();
        }
        time
    }

    /// Everybody says what has arrived.
    fn feed_back(&mut self) -> Duration {
        let all = self.receivers.iter_mut();
        let mut packets: Vec<_> = all
            .flat_map(|receiver| {
                let remote = remote(receiver.id);
                receiver.feedback().into_iter().map(move |packet| (remote, packet))
            })
            .collect();
        let start = thread_cpu_time();
        for (remote, packet) in &mut packets {
            self.core.on_datagram(self.now, LOCAL.into(), *remote, packet);
        }
        thread_cpu_time().saturating_sub(start)
    }

    /// What a shard's loop does around the frame that has come from `remote`.
    fn shard_loop(&mut self, remote: SocketAddr) {
        let Self { core, out, now, frame, .. } = self;
        while core.next_timeout() <= *now {
            core.on_timeout(core.next_timeout(), out);
            out.empty();
        }
        for packet in frame.chunks_exact_mut(IN_LEN) {
            core.on_datagram(*now, LOCAL.into(), remote, packet);
        }
        core.flush(*now, out);
        out.empty();
        core.events().for_each(drop);
    }
}

impl Receiver {
    fn new(id: u32, next: u64) -> Self {
        let seal = TxContext::new(PROFILE, &keying(id).receive).expect("a good key");
        Self { id, seal, next, arrivals: Vec::new(), count: 0 }
    }

    fn on_frame(&mut self, arrival: Duration) {
        for _ in 0..FRAME {
            let at = (arrival.as_micros() / 250) as i64;
            self.arrivals.push(Arrival { seq: ExtSeq(self.next), at });
            self.next += 1;
        }
    }

    /// Protected packets that report all that has arrived.
    fn feedback(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut rest = &self.arrivals[..];
        while let Some(first) = rest.first() {
            let mut packet = vec![0; 1_200];
            let mut writer = RtcpWriter::new(&mut packet[..1_100]);
            writer.receiver_report(1, &[]).expect("room");
            let written = writer.transport_cc(1, 1, self.count, first.seq, rest);
            let len = writer.len();
            let sealed = self.seal.seal_rtcp(&mut packet, len).expect("room");
            packet.truncate(sealed);
            packets.push(packet);
            self.count = self.count.wrapping_add(1);
            rest = &rest[written.expect("sound arrivals")..];
        }
        self.arrivals.clear();
        packets
    }
}

impl Sender {
    /// Fills `frame` with protected VP8 packets.
    fn write_frame(&mut self, frame: &mut [u8], keyframe: bool) {
        let timestamp = self.index as u32 / FRAME as u32 * 3_000;
        for (at, packet) in frame.chunks_exact_mut(IN_LEN).enumerate() {
            let marker = if at == FRAME - 1 { 0x80 } else { 0 };
            packet[..2].copy_from_slice(&[0x90, PT | marker]);
            packet[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
            packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
            packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
            packet[12..16].copy_from_slice(&[0xbe, 0xde, 0, 2]);
            packet[16..20].copy_from_slice(&[0x32, 0, 0, 0]);
            packet[20] = 0x51;
            packet[21..23].copy_from_slice(&(self.index as u16).to_be_bytes());
            packet[23] = 0;
            // RFC 7741: a descriptor with picture id and TL0PICIDX, then, in a keyframe, tag, start
            // code and size.
            let picture = 0x8000 | (self.index / FRAME as u64) as u16 & 0x7fff;
            let start = if at == 0 { 0x90 } else { 0x80 };
            packet[24..30].copy_from_slice(&[
                start,
                0xc0,
                (picture >> 8) as u8,
                picture as u8,
                0,
                u8::from(!keyframe),
            ]);
            packet[30..39].copy_from_slice(&[0, 0, 0x9d, 0x01, 0x2a, 0, 5, 0xd0, 2]);
            self.seal
                .seal_rtp(packet, IN_HEADER, IN_HEADER + PAYLOAD, self.index, self.ssrc)
                .expect("there is room");
            self.index += 1;
        }
    }
}

/// The video of a participant.
pub(crate) fn source(id: u32, media: &Arc<MediaParams>) -> Arc<SourceInfo> {
    let spec = SourceSpec {
        id: SourceId(id),
        name: Arc::from(format!("bench{id}-v0")),
        media: MediaType::Video,
        encodings: vec![EncodingSpec { ssrc: SSRC + id, rtx: None }],
    };
    let (media, cname) = (media.clone(), Arc::from("bench"));
    Arc::new(SourceInfo { spec, home: ShardId(0), media, cname, conference: 0 })
}

pub(crate) fn remote(id: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, (id >> 8) as u8, id as u8], 40_000))
}

fn keying(id: u32) -> Keying {
    let len = PROFILE.key_len() + PROFILE.salt_len();
    let master = |salt: u8| (0..len).map(|at| (id >> (at % 2 * 8)) as u8 ^ salt).collect();
    Keying { profile: PROFILE, receive: master(0x55), send: master(0xaa) }
}

pub(crate) fn media() -> MediaParams {
    MediaParams {
        payload_types: vec![PayloadType {
            pt: PT,
            codec: Codec::Vp8,
            media: MediaType::Video,
            clock_rate: 90_000,
            profile: String::new(),
            nack: true,
            pli: true,
            fir: true,
            transport_cc: true,
        }],
        extensions: vec![
            (1, Extension::Mid),
            (3, Extension::AbsSendTime),
            (5, Extension::TransportCc),
        ],
        extmap_allow_mixed: true,
        remb: false,
    }
}
