//! A call through one shard's core: endpoints, sources and subscriptions as control would set them
//! up, and frames that their senders protect.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_engine::{
    BandwidthConfig,
    core::{Core, ShardCommand},
    egress::SourceInfo,
};
use rialto_media::{Codec, EndpointId, Extension, MediaParams, MediaType, Mid, SubscriptionParams};
use rialto_rtp::{ExtSeq, rtcp::Arrival};
use rialto_srtp::TxContext;

use crate::rig::{self, Drained, PROFILE};

/// Packets of a frame: 1.5 Mbit/s at 30 frames per second.
pub(crate) const FRAME: usize = 6;

/// Time between two frames of a sender.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);

/// Receivers send feedback after this many rounds, as browsers do every 100 ms at most.
const FEEDBACK_ROUNDS: u32 = 3;
/// Delay from a receiver's core to the client.
const PATH: Duration = Duration::from_millis(20);
/// Links so fast that no pacer holds anything back.
const LINK_BPS: u64 = 20_000_000;

/// A forwarded packet before protection: fixed header, MID, payload.
pub(crate) const PACKET: usize = OUT_HEADER + PAYLOAD;
/// A fixed header and one-byte extensions with a MID of one character.
pub(crate) const OUT_HEADER: usize = 12 + 4 + 4;
pub(crate) const PAYLOAD: usize = 1_080;

/// A received packet's header: fixed part, one-byte extensions with abs-send-time and the transport
/// sequence number, as browsers send them on video.
const IN_HEADER: usize = 12 + 4 + 8;
const IN_LEN: usize = IN_HEADER + PAYLOAD + PROFILE.rtp_overhead();

const PT: u8 = 100;
/// The SSRC of the first participant's video.
const SSRC: u32 = 0x5eed_0000;

/// An endpoint that sends.
struct Sender {
    remote: SocketAddr,
    ssrc: u32,
    seal: TxContext,
    /// Index of its next packet.
    index: u64,
}

/// An endpoint that receives, and what has arrived since its last feedback.
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
    /// `senders` that receive nothing, and `receivers` that receive all of them.
    pub(crate) fn webinar(senders: u32, receivers: u32) -> Self {
        let all: Vec<_> = (senders..senders + receivers).collect();
        Self::new(senders + receivers, senders, |_| all.clone())
    }

    /// `people` who each receive all others.
    pub(crate) fn meeting(people: u32) -> Self {
        Self::new(people, people, |sender| (0..people).filter(|p| *p != sender).collect())
    }

    fn new(endpoints: u32, senders: u32, receivers: impl Fn(u32) -> Vec<u32> + Copy) -> Self {
        let now = Instant::now();
        let bandwidth = BandwidthConfig { initial_bps: LINK_BPS, ..BandwidthConfig::default() };
        let mut call = Self {
            core: rig::core(bandwidth, now),
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
        // Everybody was sent the same amount.
        let next = call.core.totals.rtp_sent.checked_div(receiving.len() as u64).unwrap_or(0);
        call.receivers = receiving.into_iter().map(|id| Receiver::new(id, next)).collect();
        call
    }

    pub(crate) fn command(&mut self, command: ShardCommand) {
        self.core.on_command(self.now, command, &mut self.out);
    }

    pub(crate) fn add_endpoint(&mut self, id: u32, media: &Arc<MediaParams>) {
        for command in rig::endpoint(id, media) {
            self.command(command);
        }
    }

    pub(crate) fn add_source(&mut self, id: u32, receivers: &[u32], media: &Arc<MediaParams>) {
        let source = source(id, media);
        let ssrc = SSRC + id;
        self.command(ShardCommand::SetSources(EndpointId(id), vec![source.spec.clone()]));
        self.command(rig::route(&source));
        for receiver in receivers {
            self.subscribe(*receiver, &source);
        }
        let (remote, seal) = (rig::remote(id), rig::seal(id));
        self.senders.push(Sender { remote, ssrc, seal, index: 1 });
    }

    pub(crate) fn subscribe(&mut self, receiver: u32, source: &Arc<SourceInfo>) {
        self.command(ShardCommand::Subscribe {
            receiver: EndpointId(receiver),
            source: source.clone(),
            terms: SubscriptionParams { mid: Mid::new("0"), ..SubscriptionParams::default() },
        });
    }

    /// Number of packets forwarded per round.
    pub(crate) fn forwarded(&self) -> u64 {
        self.senders.len() as u64 * FRAME as u64 * self.receivers_of_each
    }

    /// Runs one frame of each sender through ingress, route and egress, with the timers that become
    /// due and the feedback of receivers. Returns the time that it took, without that of making the
    /// frames.
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
            let packets = self.frame.chunks_exact_mut(IN_LEN);
            time +=
                rig::shard_loop(&mut self.core, &mut self.out, self.now, sender.remote, packets);
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

    /// Sends the feedback of all receivers.
    fn feed_back(&mut self) -> Duration {
        let all = self.receivers.iter_mut();
        let mut packets: Vec<_> = all
            .flat_map(|receiver| {
                let remote = rig::remote(receiver.id);
                receiver.feedback().into_iter().map(move |packet| (remote, packet))
            })
            .collect();
        rig::take_feedback(&mut self.core, self.now, &mut packets)
    }
}

impl Receiver {
    fn new(id: u32, next: u64) -> Self {
        Self { id, seal: rig::seal(id), next, arrivals: Vec::new(), count: 0 }
    }

    fn on_frame(&mut self, arrival: Duration) {
        for _ in 0..FRAME {
            self.arrivals.push(Arrival { seq: ExtSeq(self.next), at: rig::ticks(arrival) });
            self.next += 1;
        }
    }

    /// Protected feedback packets about everything that has arrived.
    fn feedback(&mut self) -> Vec<Vec<u8>> {
        let packets = rig::feedback(&mut self.seal, &mut self.count, &self.arrivals);
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
    let ssrcs = std::iter::once(SSRC + id);
    rig::source(id, format!("bench{id}-v0"), MediaType::Video, ssrcs, media)
}

pub(crate) fn media() -> MediaParams {
    MediaParams {
        payload_types: vec![
            rig::payload_type(PT, Codec::Vp8, MediaType::Video, 90_000),
            rig::payload_type(PT + 1, Codec::Rtx { apt: PT }, MediaType::Video, 90_000),
        ],
        extensions: vec![
            (1, Extension::Mid),
            (3, Extension::AbsSendTime),
            (5, Extension::TransportCc),
        ],
        extmap_allow_mixed: true,
        congestion_feedback: false,
        remb: false,
    }
}
