//! A call that is cheap to set up: cores in virtual time, a network without delay, and clients that
//! send just enough to show that they are heard.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{
    EncodingSpec, EndpointId, Extension, MediaParams, MediaType, Mid, ShardId, SourceId,
    SourceSpec, SubscriptionParams,
};
use rialto_rtp::{ExtWriter, Seq, header, rtcp::RtcpWriter};
use rialto_srtp::Profile;

use super::person::{Person, RTT, keying};
use crate::{
    Control, EndpointSpec, MediaEvent,
    core::{ControlEvent, Core, CoreConfig, Outbox, PeerBatch, ShardCommand},
    dest::Dest,
    director::{CommandSink, Director},
    sim::BRIDGE,
};

/// Interval of audio packets, and of video frames.
const INTERVAL: Duration = Duration::from_millis(200);
/// Interval of reports of honest clients, in rounds.
const REPORTS: u64 = 3;
/// The client that sends audio, and the one that sends video.
pub(super) const ALICE: usize = 0;
pub(super) const BOB: usize = 1;
pub(super) const AUDIO: SourceId = SourceId(1);
pub(super) const VIDEO: SourceId = SourceId(2);
pub(super) const AUDIO_SSRC: u32 = 0x0a00_0001;
pub(super) const VIDEO_SSRC: u32 = 0x0b00_0001;
pub(super) const VIDEO_RTX: u32 = 0x0b00_0101;
/// Encodings of the video.
const ENCODINGS: u32 = 2;

/// Datagrams to be sent, one after the other.
#[derive(Default)]
struct Leaving {
    room: Vec<u8>,
    bytes: Vec<u8>,
    datagrams: Vec<(SocketAddr, usize)>,
    to: Option<SocketAddr>,
}

impl Outbox for Leaving {
    fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]> {
        self.to = Some(dest.remote);
        if self.room.len() < max_len {
            self.room.resize(max_len, 0);
        }
        self.room.get_mut(..max_len)
    }

    fn commit(&mut self, len: usize) {
        if let Some(to) = self.to.take().filter(|_| len > 0) {
            self.bytes.extend_from_slice(&self.room[..len]);
            self.datagrams.push((to, len));
        }
    }
}

/// Counts of events for conferences, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events {
    pub(super) levels: u64,
    pub(super) snapshots: u64,
    pub(super) allocations: u64,
}

struct Lanes<'a>(&'a mut Vec<(usize, ShardCommand)>);

impl CommandSink for Lanes<'_> {
    fn send(&mut self, shard: ShardId, command: ShardCommand) {
        self.0.push((usize::from(shard.0), command));
    }
}

/// See the module's description.
pub(super) struct Call {
    pub(super) now: Instant,
    pub(super) cores: Vec<Core>,
    pub(super) people: Vec<Person>,
    /// Events for conferences.
    pub(super) events: Events,
    /// Events for transports.
    pub(super) transport_events: u64,
    /// Packets of media that those who behave have sent.
    pub(super) honest: u64,
    /// The last datagrams of Alice and Bob.
    pub(super) overheard: [Vec<u8>; 2],
    start: Instant,
    director: Director,
    out: Leaving,
    spare: PeerBatch,
    commands: Vec<(usize, ShardCommand)>,
    next_media: Instant,
    ticks: u64,
    keyframes_given: u64,
}

impl Call {
    /// Alice sends audio to Bob, and he sends video to her.
    pub(super) fn new(shards: u16, profile: Profile) -> Self {
        let now = Instant::now();
        let core = |shard| {
            let config = CoreConfig {
                shard: ShardId(shard),
                shards,
                sockets: vec![BRIDGE],
                video_hold: Duration::from_millis(3),
                bandwidth: crate::BandwidthConfig::default(),
                allocation: crate::AllocationConfig::default(),
                keyframes: crate::ingress::keyframe::KeyframeLimits::default(),
                audio: crate::AudioConfig {
                    hold: Duration::ZERO,
                    redundancy: crate::Redundancy {
                        policy: crate::RedPolicy::Protect,
                        ..Default::default()
                    },
                    loudest: crate::Loudest { only: true, ..Default::default() },
                    ..Default::default()
                },
                seed: 1,
            };
            Core::new(config, now)
        };
        let mut call = Self {
            now,
            cores: (0..shards).map(core).collect(),
            people: Vec::new(),
            events: Events::default(),
            transport_events: 0,
            honest: 0,
            overheard: [Vec::new(), Vec::new()],
            start: now,
            director: Director::new(shards),
            out: Leaving::default(),
            spare: PeerBatch::new(ShardId(0)),
            commands: Vec::new(),
            next_media: now,
            ticks: 0,
            keyframes_given: 0,
        };
        for _ in [ALICE, BOB] {
            call.join(profile);
        }
        let audio = source(AUDIO, MediaType::Audio, &[(AUDIO_SSRC, None)]);
        let encodings: Vec<_> =
            (0..ENCODINGS).map(|n| (VIDEO_SSRC + n, Some(VIDEO_RTX + n))).collect();
        let video = source(VIDEO, MediaType::Video, &encodings);
        call.control(Control::SetSources(call.people[ALICE].id, vec![audio]));
        call.control(Control::SetSources(call.people[BOB].id, vec![video]));
        call.subscribe(BOB, AUDIO, None);
        call.subscribe(ALICE, VIDEO, None);
        call
    }

    /// Adds a validated client with keys.
    pub(super) fn join(&mut self, profile: Profile) -> usize {
        let at = self.people.len();
        let id = at as u32 + 1;
        self.people.push(Person::new(id, profile));
        let media = Arc::new(self.people[at].numbering.media());
        self.enter(at, media);
        self.control(Control::SetKeys(EndpointId(id), keying(profile, id)));
        at
    }

    /// Creates a client's endpoint, and binds its address.
    pub(super) fn enter(&mut self, at: usize, media: Arc<MediaParams>) {
        let id = self.people[at].id;
        let label = Arc::from("fuzz/peer");
        let (audio_ssrc, video_ssrc) = (0xa000_0000 + id.0, 0xb000_0000 + id.0);
        self.control(Control::AddEndpoint(
            id,
            EndpointSpec { label, conference: 0, audio_ssrc, video_ssrc },
        ));
        self.control(Control::SetMedia(id, media));
        self.bind(at, SocketAddr::from(([10, 1, 0, at as u8 + 1], 5_000 + at as u16)));
        self.control(Control::SetRtt(id, RTT));
    }

    /// Moves a client to another address, which is validated.
    pub(super) fn bind(&mut self, at: usize, remote: SocketAddr) {
        let (endpoint, shard) = (self.people[at].id, ShardId(self.shard_of(remote) as u16));
        self.people[at].at = Some(remote);
        self.control(Control::Bind { endpoint, remote, local: BRIDGE, shard });
        self.control(Control::Select { endpoint, remote, local: BRIDGE });
    }

    /// Subscribes a client to a source.
    pub(super) fn subscribe(&mut self, at: usize, source: SourceId, max_height: Option<u16>) {
        let terms = SubscriptionParams {
            mid: Mid::new(&format!("m{}", source.0)),
            max_height,
            ..SubscriptionParams::default()
        };
        let receiver = self.people[at].id;
        self.control(Control::Subscribe { receiver, source, terms });
    }

    /// Passes a command of control to the bridge.
    pub(super) fn control(&mut self, control: Control) {
        let mut commands = std::mem::take(&mut self.commands);
        self.director.control(control, &mut Lanes(&mut commands));
        for (shard, command) in commands.drain(..) {
            self.cores[shard].on_command(self.now, command, &mut self.out);
        }
        self.commands = commands;
        self.settle();
    }

    /// Delivers a datagram to the shard that its address selects.
    pub(super) fn arrive(&mut self, from: SocketAddr, bytes: &mut [u8]) {
        let shard = self.shard_of(from);
        let core = &mut self.cores[shard];
        core.on_datagram(self.now, BRIDGE, from, bytes);
        core.flush(self.now, &mut self.out);
        self.settle();
    }

    fn shard_of(&self, addr: SocketAddr) -> usize {
        usize::from(addr.port()) % self.cores.len()
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let cores = self.cores.iter().map(Core::next_timeout);
            let next = cores.fold(self.next_media, Instant::min);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if self.next_media <= self.now {
                self.next_media = self.now + INTERVAL;
                self.honest_media();
            }
            for shard in 0..self.cores.len() {
                if self.cores[shard].next_timeout() <= self.now {
                    self.cores[shard].on_timeout(self.now, &mut self.out);
                    self.settle();
                }
            }
        }
        self.now = end;
    }

    /// Delivers everything that was sent, with its consequences.
    fn settle(&mut self) {
        for _ in 0..16 {
            self.distribute();
            let mut busy = false;
            for from in 0..self.cores.len() {
                for to in 0..self.cores.len() {
                    if self.cores[from].take_peer(ShardId(to as u16), &mut self.spare) {
                        busy = true;
                        let core = &mut self.cores[to];
                        core.on_peer(self.now, &mut self.spare);
                        core.flush(self.now, &mut self.out);
                    }
                }
            }
            for core in &mut self.cores {
                for event in core.events() {
                    match event {
                        ControlEvent::Media(MediaEvent::AudioLevel { .. }) => {
                            self.events.levels += 1;
                        }
                        ControlEvent::Media(MediaEvent::Snapshot(_)) => self.events.snapshots += 1,
                        ControlEvent::Media(MediaEvent::Allocated(_)) => {
                            self.events.allocations += 1;
                        }
                        ControlEvent::Transport(_) => self.transport_events += 1,
                    }
                }
            }
            if !busy && self.out.datagrams.is_empty() {
                return;
            }
        }
        panic!("shards answer each other without end");
    }

    fn distribute(&mut self) {
        let Leaving { bytes, datagrams, .. } = &mut self.out;
        let mut rest = bytes.as_mut_slice();
        for (to, len) in datagrams.drain(..) {
            let (datagram, others) = rest.split_at_mut(len);
            rest = others;
            let person = self.people.iter_mut().find(|p| p.at == Some(to));
            person.unwrap_or_else(|| panic!("sent to {to}, who is nobody")).take(datagram);
        }
        bytes.clear();
    }

    /// Sends one packet of audio and one frame of video, and a report now and then.
    fn honest_media(&mut self) {
        self.ticks += 1;
        let body = (self.ticks as u32).to_be_bytes();
        let (mut buf, at) = ([0; 128], self.ticks);
        let len = write_audio(&mut buf, &self.people[ALICE], at, body);
        self.honest_packet(ALICE, &mut buf, len);
        let heard = self.people[BOB].heard(AUDIO_SSRC).expect("audio never waits");
        assert_eq!(heard.last, Some((at, body)), "and nobody makes others lose any");

        let key = self.ticks == 1 || self.people[BOB].keyframe_requests > self.keyframes_given;
        self.keyframes_given = self.people[BOB].keyframe_requests;
        for encoding in 0..ENCODINGS {
            let len = write_video(&mut buf, &self.people[BOB], (encoding, at, key), body);
            self.honest_packet(BOB, &mut buf, len);
        }
        if self.ticks % REPORTS == 1 {
            self.honest_report(ALICE, AUDIO_SSRC);
            self.honest_report(BOB, VIDEO_SSRC);
        }
    }

    fn honest_packet(&mut self, who: usize, buf: &mut [u8], len: usize) {
        self.honest += 1;
        let len = self.people[who].seal(buf, len, self.ticks).expect("a good packet");
        let from = self.people[who].at.expect("who behaves stays where it is");
        self.overheard[who].clear();
        self.overheard[who].extend_from_slice(&buf[..len]);
        self.arrive(from, &mut buf[..len]);
    }

    fn honest_report(&mut self, who: usize, ssrc: u32) {
        let mut buf = [0; 128];
        let mut writer = RtcpWriter::new(&mut buf);
        let (time, ticks) = (self.ticks << 32, self.ticks as u32);
        writer.sender_report(ssrc, time, ticks, ticks, ticks, &[]).expect("room");
        let len = writer.len();
        let len = self.people[who].seal_rtcp(&mut buf, len).expect("room for the tag");
        let from = self.people[who].at.expect("who behaves stays where it is");
        self.arrive(from, &mut buf[..len]);
    }
}

/// A source as it is signalled: SSRC and RTX SSRC of each encoding.
pub(super) fn source(
    id: SourceId,
    media: MediaType,
    encodings: &[(u32, Option<u32>)],
) -> SourceSpec {
    let encodings = encodings.iter().map(|(ssrc, rtx)| EncodingSpec { ssrc: *ssrc, rtx: *rtx });
    SourceSpec { id, name: "fuzz".into(), media, encodings: encodings.collect() }
}

/// Writes an audio packet; returns its length.
fn write_audio(buf: &mut [u8], who: &Person, at: u64, body: [u8; 4]) -> usize {
    let (pt, time) = (who.numbering.opus(), at as u32 * 9_600);
    header::write_header(buf, false, pt, Seq(at as u16), time, AUDIO_SSRC).expect("room");
    header::set_extension_bit(buf, true);
    let mut writer = ExtWriter::new(&mut buf[12..], false);
    writer.push(who.numbering.extension(Extension::AudioLevel), &[0x94]).expect("room");
    let len = 12 + writer.finish();
    buf[len..len + 4].copy_from_slice(&body);
    len + 4
}

/// Writes a frame of VP8 in one packet; returns its length.
fn write_video(
    buf: &mut [u8],
    who: &Person,
    (encoding, at, key): (u32, u64, bool),
    body: [u8; 4],
) -> usize {
    let (pt, time) = (who.numbering.vp8(), at as u32 * 18_000);
    header::write_header(buf, true, pt, Seq(at as u16), time, VIDEO_SSRC + encoding).expect("room");
    let len = vp8(&mut buf[12..], at as u16, key, 180 << encoding);
    buf[12 + len..16 + len].copy_from_slice(&body);
    16 + len
}

/// Writes the header of a VP8 frame; returns its length.
pub(super) fn vp8(buf: &mut [u8], picture: u16, key: bool, height: u16) -> usize {
    let [high, low] = (0x8000 | picture).to_be_bytes();
    let [h0, h1] = height.to_le_bytes();
    let inter = u8::from(!key);
    let head = [0x90, 0xc0, high, low, low, inter, 0, 0, 0x9d, 0x01, 0x2a, 64, 1, h0, h1];
    buf[..head.len()].copy_from_slice(&head);
    head.len()
}
