//! A call through one shard's core, with endpoints that send video with layers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_codec_model::Mode;
use rialto_engine::{
    BandwidthConfig,
    core::{Core, ShardCommand},
    egress::SourceInfo,
};
use rialto_media::{Codec, EndpointId, Extension, MediaParams, MediaType, Mid, SubscriptionParams};

use crate::{
    outbox::Counted,
    receiver::Receiver,
    rig,
    sender::{FPS, Sender},
};

/// The first participant's SSRCs.
pub(crate) const VIDEO_SSRC: u32 = 0x5eed_0000;
pub(crate) const AUDIO_SSRC: u32 = 0x5eee_0000;
/// The id of the first participant's audio.
const AUDIO: u32 = 0x8000;

/// Payload types.
pub(crate) mod pt {
    pub(crate) const VIDEO: u8 = 45;
    pub(crate) const RTX: u8 = 46;
    pub(crate) const OPUS: u8 = 111;
}

/// Ids of header extensions.
pub(crate) mod ext {
    pub(crate) const MID: u8 = 1;
    pub(crate) const ABS_SEND_TIME: u8 = 3;
    pub(crate) const TRANSPORT_CC: u8 = 5;
    pub(crate) const AUDIO_LEVEL: u8 = 6;
    pub(crate) const DESCRIPTOR: u8 = 8;
}

/// Links so fast that no pacer holds anything back.
const LINK_BPS: u64 = 200_000_000;
/// Bitrate of a video, bit/s.
const VIDEO_BPS: u64 = 1_500_000;
/// Receivers send feedback after this many rounds, as browsers do every 100 ms.
const FEEDBACK_ROUNDS: u32 = 3;
/// Rounds before the measurement, with keyframes for receivers that wait for one.
const HEAD: u32 = 90;
const KEYFRAME_ROUNDS: u32 = 15;
/// Height of a tile.
const TILE: u16 = 180;

/// How packets are selected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Select {
    /// The codec is unknown: all packets are forwarded.
    Unread,
    /// All layers are requested.
    All,
    /// 720 lines of one video for its first receiver, tiles of 180 for the others.
    Wished,
}

/// The endpoints of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Number of senders.
    pub(crate) senders: u32,
    /// Number of endpoints.
    pub(crate) people: u32,
    /// Videos per receiver; a sender receives those of the next senders.
    pub(crate) each: u32,
    /// Whether they send audio too.
    pub(crate) audio: bool,
    /// One of this many receivers has a link of this bandwidth only.
    pub(crate) congested: Option<(u32, u64)>,
}

impl Shape {
    /// The senders that an endpoint receives, the most important first.
    fn wanted(&self, receiver: u32) -> impl Iterator<Item = u32> {
        let (senders, from) =
            (self.senders, if receiver < self.senders { receiver + 1 } else { 0 });
        (from..from + self.each).map(move |sender| sender % senders)
    }

    /// The endpoints that receive anything.
    fn receivers(&self) -> std::ops::Range<u32> {
        if self.senders == self.people { 0..self.people } else { self.senders..self.people }
    }
}

/// The result of a round.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Round {
    pub(crate) time: Duration,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
}

/// See the module's description.
pub(crate) struct Call {
    core: Core,
    out: Counted,
    shape: Shape,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    rounds: u32,
    start: Instant,
    now: Instant,
}

impl Call {
    pub(crate) fn new(shape: Shape, mode: Mode, select: Select) -> Self {
        let now = Instant::now();
        let bandwidth = BandwidthConfig {
            initial_bps: LINK_BPS,
            max_bps: LINK_BPS,
            ..BandwidthConfig::default()
        };
        let mut call = Self {
            core: rig::core(bandwidth, now),
            out: Counted::new(shape.people as usize),
            shape,
            senders: Vec::new(),
            receivers: Vec::new(),
            rounds: 0,
            start: now,
            now,
        };
        let media = Arc::new(media(mode.codec, select));
        for id in 0..shape.people {
            for command in rig::endpoint(id, &media) {
                call.command(command);
            }
        }
        for id in 0..shape.senders {
            call.add_sender(id, mode, &media);
        }
        for id in shape.receivers() {
            call.add_receiver(id, select, &mode, &media);
        }
        for round in 0..HEAD {
            if round.is_multiple_of(KEYFRAME_ROUNDS) {
                for sender in &mut call.senders {
                    sender.encoder.want_keyframes();
                }
            }
            call.round();
        }
        call
    }

    fn command(&mut self, command: ShardCommand) {
        self.core.on_command(self.now, command, &mut self.out);
    }

    fn add_sender(&mut self, id: u32, mode: Mode, media: &Arc<MediaParams>) {
        let mut sources = vec![video(id, &mode, media)];
        sources.extend(self.shape.audio.then(|| audio(id, media)));
        let specs = sources.iter().map(|source| source.spec.clone()).collect();
        self.command(ShardCommand::SetSources(EndpointId(id), specs));
        for source in &sources {
            self.command(rig::route(source));
        }
        self.senders.push(Sender::new(id, mode, VIDEO_BPS));
    }

    fn add_receiver(&mut self, id: u32, select: Select, mode: &Mode, media: &Arc<MediaParams>) {
        let shape = self.shape;
        // Of many endpoints that receive one video each, one has it on stage.
        let on_stage = shape.each > 1 || id == shape.receivers().start;
        for (place, sender) in shape.wanted(id).enumerate() {
            let low = select == Select::Wished && !(place == 0 && on_stage);
            let max_height = low.then_some(TILE);
            let terms = SubscriptionParams {
                mid: Mid::new("0"),
                max_height,
                ..SubscriptionParams::default()
            };
            let mut sources = vec![video(sender, mode, media)];
            sources.extend(shape.audio.then(|| audio(sender, media)));
            for source in sources {
                let receiver = EndpointId(id);
                self.command(ShardCommand::Subscribe { receiver, source, terms });
            }
        }
        let congested = shape.congested.filter(|(nth, _)| id.is_multiple_of(*nth));
        self.receivers.push(Receiver::new(id, congested.map(|(_, bps)| bps)));
    }

    /// Runs a picture of each sender, with its audio, through ingress, route and egress, with the
    /// timers that become due and the feedback of receivers. The time is that of the core alone.
    pub(crate) fn round(&mut self) -> Round {
        let mut round = Round::default();
        let before = self.core.totals.rtp_sent;
        let interval = Duration::from_secs_f64(1.0 / FPS);
        for at in 0..self.senders.len() {
            self.now += interval / self.senders.len() as u32;
            let since = self.now - self.start;
            let sender = &mut self.senders[at];
            let mut packets = sender.picture(since);
            if self.shape.audio {
                // 50 packets a second, beside 30 pictures.
                let count = if self.rounds.is_multiple_of(3) { 1 } else { 2 };
                packets.extend((0..count).map(|_| sender.audio()));
            }
            round.packets_in += packets.len() as u64;
            let remote = sender.remote;
            let packets = packets.iter_mut().map(Vec::as_mut_slice);
            round.time += rig::shard_loop(&mut self.core, &mut self.out, self.now, remote, packets);
        }
        let since = self.now - self.start;
        for receiver in &mut self.receivers {
            receiver.on_sent(self.out.sent[receiver.id as usize], since);
        }
        self.rounds += 1;
        if self.rounds.is_multiple_of(FEEDBACK_ROUNDS) {
            round.time += self.feed_back(since);
        }
        round.packets_out = self.core.totals.rtp_sent - before;
        round
    }

    /// Packets lost on congested links.
    pub(crate) fn lost(&self) -> u64 {
        self.receivers.iter().map(|receiver| receiver.lost).sum()
    }

    /// Sends the feedback of all receivers.
    fn feed_back(&mut self, since: Duration) -> Duration {
        let mut packets: Vec<_> = Vec::new();
        for receiver in &mut self.receivers {
            let remote = rig::remote(receiver.id);
            packets.extend(receiver.feedback(since).into_iter().map(|packet| (remote, packet)));
        }
        rig::take_feedback(&mut self.core, self.now, &mut packets)
    }
}

fn video(id: u32, mode: &Mode, media: &Arc<MediaParams>) -> Arc<SourceInfo> {
    let ssrcs = (0..u32::from(mode.encodings)).map(|at| VIDEO_SSRC + 4 * id + at);
    rig::source(id, format!("bench{id}-v0"), MediaType::Video, ssrcs, media)
}

fn audio(id: u32, media: &Arc<MediaParams>) -> Arc<SourceInfo> {
    let ssrcs = std::iter::once(AUDIO_SSRC + id);
    rig::source(AUDIO + id, format!("bench{id}-a0"), MediaType::Audio, ssrcs, media)
}

fn media(codec: Codec, select: Select) -> MediaParams {
    let unread = select == Select::Unread;
    let codec = if unread { Codec::Other { name_hash: 7 } } else { codec };
    let mut extensions = vec![
        (ext::MID, Extension::Mid),
        (ext::ABS_SEND_TIME, Extension::AbsSendTime),
        (ext::TRANSPORT_CC, Extension::TransportCc),
        (ext::AUDIO_LEVEL, Extension::AudioLevel),
    ];
    extensions.extend((!unread).then_some((ext::DESCRIPTOR, Extension::DependencyDescriptor)));
    MediaParams {
        payload_types: vec![
            rig::payload_type(pt::VIDEO, codec, MediaType::Video, 90_000),
            rig::payload_type(pt::RTX, Codec::Rtx { apt: pt::VIDEO }, MediaType::Video, 90_000),
            rig::payload_type(pt::OPUS, Codec::Opus, MediaType::Audio, 48_000),
        ],
        extensions,
        extmap_allow_mixed: true,
        congestion_feedback: false,
        remb: false,
    }
}
