//! A whole call in virtual time, without sockets and threads: a director, the cores of some shards,
//! clients with keys of their own, and a network between them. One seed gives one run.
//!
//! For tests, benches and fuzzing; the daemon does not use it.

mod ccfb;
mod client;
mod layers;
mod link;
mod media;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{
    EncodingSpec, EndpointId, Extension, MediaType, Mid, ShardId, SlotSsrcs, SourceId, SourceSpec,
    SubscriptionParams,
};
use rialto_rtp::{self as rtp, RtpHeader, SeqUnwrapper};
use rialto_srtp::{Keying, Profile, RxContext, TxContext};

use ccfb::CongestionRecorder;

pub use client::{Client, Heard, Incoming, REFERENCE};
pub use link::{Bottleneck, Link, Weather};
pub use media::{AUDIO_INTERVAL, LOWEST_HEIGHT, Numbering, Plain, Track, VIDEO_INTERVAL};
pub use rialto_codec_model::{self as codec, Body};

use crate::{
    Control, EndpointSpec,
    core::{Collected, ControlEvent, Core, CoreConfig, PeerBatch, ShardCommand},
    director::{CommandSink, Director},
};

/// The bridge's address.
pub const BRIDGE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 10_000);
/// Delay of a batch from one shard to another.
const BETWEEN_SHARDS: Duration = Duration::from_micros(50);

/// The id under which [`Client::incoming`] has what arrives in a slot.
pub fn slot_id(slot: u32) -> SourceId {
    SourceId(0x8000_0000 + slot)
}

/// The SSRCs of a slot, the same for every client.
fn slot_ssrcs(slot: u32, media: MediaType) -> SlotSsrcs {
    let ssrc = 0xf000_0000 + 2 * slot;
    SlotSsrcs { ssrc, rtx: (media == MediaType::Video).then_some(ssrc + 1) }
}

/// Configuration of a world.
#[derive(Clone, Copy, Debug)]
pub struct WorldConfig {
    /// Shards of the bridge.
    pub shards: u16,
    /// Seed of all that is random.
    pub seed: u64,
    /// The network, each way.
    pub weather: Weather,
    /// A client's datagrams arrive on any shard, rather than on one that its address selects.
    pub scatter: bool,
    /// SRTP profile of all clients.
    pub profile: Profile,
    /// Limits and initial value of the bandwidth estimates.
    pub bandwidth: crate::BandwidthConfig,
    /// How audio is forwarded.
    pub audio: crate::AudioConfig,
    /// How bandwidth is allocated.
    pub allocation: crate::AllocationConfig,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            seed: 1,
            weather: Weather::FINE,
            scatter: false,
            profile: Profile::AeadAes128Gcm,
            bandwidth: crate::BandwidthConfig::default(),
            audio: crate::AudioConfig::default(),
            allocation: crate::AllocationConfig::default(),
        }
    }
}

enum Arrival {
    Bridge { shard: usize, from: SocketAddr, bytes: Vec<u8> },
    Client { client: usize, bytes: Vec<u8> },
    Peer { shard: usize, batch: PeerBatch },
}

/// A simulated call.
pub struct World {
    /// The current time.
    pub now: Instant,
    /// All clients; those that left stay, and are silent.
    pub clients: Vec<Client>,
    /// The cores of the shards.
    pub cores: Vec<Core>,
    /// Events from the shards to control.
    pub events: Vec<ControlEvent>,
    /// Media that the network lost on the way to the bridge.
    pub lost_up: BTreeSet<Body>,
    /// Media that the network lost on the way to a client.
    pub lost_down: BTreeSet<(usize, Body)>,
    /// Bottlenecks on the way to clients.
    pub bottlenecks: BTreeMap<usize, Bottleneck>,
    config: WorldConfig,
    start: Instant,
    director: Director,
    up: Link,
    down: Link,
    arrivals: BinaryHeap<Reverse<(Instant, u64)>>,
    pending: BTreeMap<u64, Arrival>,
    next_arrival: u64,
    next_source: u32,
    gone: Vec<bool>,
    lose: (usize, u32),
    /// What was encrypted under each number of each key, to check that none is used twice.
    sealed: HashMap<(usize, u32, u64), u64>,
    numbers: HashMap<(usize, u32), SeqUnwrapper>,
    /// What the bridge sent of each source with layers.
    wire: layers::Wires,
    /// Whether the paths to the bridge neither lose nor reorder.
    orderly: bool,
}

struct Lanes<'a>(&'a mut Vec<(usize, ShardCommand)>);

impl CommandSink for Lanes<'_> {
    fn send(&mut self, shard: ShardId, command: ShardCommand) {
        self.0.push((usize::from(shard.0), command));
    }
}

impl World {
    /// Creates a bridge without clients.
    pub fn new(config: WorldConfig) -> Self {
        let now = Instant::now();
        let core = |shard| {
            let config = CoreConfig {
                shard: ShardId(shard),
                shards: config.shards,
                sockets: vec![BRIDGE],
                video_hold: Duration::from_millis(3),
                bandwidth: config.bandwidth,
                allocation: config.allocation,
                keyframes: crate::ingress::keyframe::KeyframeLimits::default(),
                audio: config.audio,
                seed: config.seed,
            };
            Core::new(config, now)
        };
        Self {
            now,
            clients: Vec::new(),
            cores: (0..config.shards).map(core).collect(),
            events: Vec::new(),
            lost_up: BTreeSet::new(),
            lost_down: BTreeSet::new(),
            bottlenecks: BTreeMap::new(),
            config,
            start: now,
            director: Director::new(config.shards),
            up: Link::new(config.weather, config.seed),
            down: Link::new(config.weather, !config.seed),
            arrivals: BinaryHeap::new(),
            pending: BTreeMap::new(),
            next_arrival: 0,
            next_source: 1,
            gone: Vec::new(),
            lose: (0, 0),
            sealed: HashMap::new(),
            numbers: HashMap::new(),
            wire: layers::Wires::default(),
            orderly: config.weather.is_orderly() && !config.scatter,
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Passes a command of control to the bridge.
    pub fn control(&mut self, control: Control) {
        let mut commands = Vec::new();
        self.director.control(control, &mut Lanes(&mut commands));
        for (shard, command) in commands {
            let mut out = Collected::default();
            self.cores[shard].on_command(self.now, command, &mut out);
            self.after(shard, out);
        }
    }

    /// Adds a client with a validated address and keys.
    pub fn join(&mut self) -> usize {
        let at = self.clients.len();
        let id = EndpointId(at as u32 + 1);
        let label = Arc::from(format!("sim/{at}"));
        let (audio_ssrc, video_ssrc) = (0xa000_0000 + id.0, 0xb000_0000 + id.0);
        self.control(Control::AddEndpoint(
            id,
            EndpointSpec { label, conference: 1, audio_ssrc, video_ssrc },
        ));
        let addr = SocketAddr::from(([10, 1, 0, at as u8 + 1], 5_000 + at as u16));
        let profile = self.config.profile;
        let len = profile.key_len() + profile.salt_len();
        let (theirs, ours) = (vec![0x10 + at as u8; len], vec![0x90 + at as u8; len]);
        let tx = TxContext::new(profile, &theirs).expect("a good key");
        let rx = RxContext::new(profile, &ours).expect("a good key");
        let client = Client::new(id, addr, (tx, rx), self.start, self.now);
        self.control(Control::SetMedia(id, Arc::new(client.numbering.media())));
        self.clients.push(client);
        self.gone.push(false);
        self.bind(at, addr);
        self.control(Control::SetKeys(id, Keying { profile, receive: theirs, send: ours }));
        self.control(Control::SetRtt(id, 2 * self.config.weather.delay));
        at
    }

    /// Lets a client negotiate redundant audio too.
    pub fn negotiate_red(&mut self, client: usize) {
        let c = &mut self.clients[client];
        c.red = true;
        let (id, media) = (c.id, c.numbering.media_with_red());
        self.control(Control::SetMedia(id, Arc::new(media)));
    }

    /// Lets a client negotiate congestion control feedback (RFC 8888) instead of transport-wide
    /// feedback.
    pub fn negotiate_congestion_feedback(&mut self, client: usize) {
        let c = &mut self.clients[client];
        c.congestion = Some(CongestionRecorder::default());
        let mut media = c.numbering.media();
        media.payload_types.iter_mut().for_each(|pt| pt.transport_cc = false);
        media.extensions.retain(|(_, kind)| *kind != Extension::TransportCc);
        media.congestion_feedback = true;
        let id = c.id;
        self.control(Control::SetMedia(id, Arc::new(media)));
    }

    /// Moves the client to another address, which is validated.
    pub fn bind(&mut self, client: usize, addr: SocketAddr) {
        self.clients[client].addr = addr;
        let endpoint = self.clients[client].id;
        let shard = ShardId(self.shard_of(addr) as u16);
        self.control(Control::Bind { endpoint, remote: addr, local: BRIDGE, shard });
        self.control(Control::Select { endpoint, remote: addr, local: BRIDGE });
    }

    /// A client begins to send a source with this number of encodings; everybody else receives it.
    pub fn publish(&mut self, client: usize, media: MediaType, encodings: usize) -> SourceId {
        let id = self.publish_to_nobody(client, media, encodings);
        let track = self.clients[client].tracks.last().expect("it has just been published");
        let spec = track.spec.clone();
        for receiver in 0..self.clients.len() {
            if receiver != client && !self.gone[receiver] {
                self.subscribe(receiver, &spec);
            }
        }
        id
    }

    /// A client begins to send a source with this number of encodings.
    pub fn publish_to_nobody(
        &mut self,
        client: usize,
        media: MediaType,
        encodings: usize,
    ) -> SourceId {
        let id = SourceId(self.next_source);
        self.next_source += 1;
        let base = 0x0100_0000 * id.0;
        let encodings = (0..encodings as u32)
            .map(|n| EncodingSpec {
                ssrc: base + n,
                rtx: (media == MediaType::Video).then_some(base + 0x100 + n),
            })
            .collect();
        let spec = SourceSpec { id, name: format!("s{}", id.0).into(), media, encodings };
        self.publish_again(client, &spec);
        id
    }

    /// A client begins to send a source that its receivers already know.
    pub fn publish_again(&mut self, client: usize, spec: &SourceSpec) {
        // Close to the end of the numbers, so that they wrap.
        let first = 65_400 + self.up.pick(100) as u16;
        let mid = Mid::new("0").expect("a good MID");
        let (c, now) = (&mut self.clients[client], self.now);
        let mut track = Track::new(spec.clone(), c.numbering, mid, first);
        for before in &c.former {
            track.continue_from(before);
        }
        c.tracks.push(track);
        c.next_media.insert(spec.id, now);
        self.signal_sources(client);
    }

    /// A client stops sending a source.
    pub fn unpublish(&mut self, client: usize, source: SourceId) {
        let c = &mut self.clients[client];
        c.former.extend(c.tracks.extract_if(.., |t| t.spec.id == source));
        self.clients[client].next_media.remove(&source);
        self.signal_sources(client);
    }

    fn signal_sources(&mut self, client: usize) {
        let c = &self.clients[client];
        let (id, specs) = (c.id, c.tracks.iter().map(|t| t.spec.clone()).collect());
        self.control(Control::SetSources(id, specs));
    }

    /// Subscribes a client to a source.
    pub fn subscribe(&mut self, receiver: usize, spec: &SourceSpec) {
        let mid = format!("m{}", spec.id.0);
        self.clients[receiver].expect(spec, &mid);
        self.expect_layers(receiver, spec.id);
        let (receiver, source) = (self.clients[receiver].id, spec.id);
        let terms = SubscriptionParams { mid: Mid::new(&mid), ..SubscriptionParams::default() };
        self.control(Control::Subscribe { receiver, source, terms });
    }

    /// A client asks for a source by name.
    pub fn include(&mut self, receiver: usize, source: SourceId) {
        let receiver = self.clients[receiver].id;
        let mid = Mid::new(&format!("m{}", source.0));
        let terms = SubscriptionParams { mid, included: true, ..SubscriptionParams::default() };
        self.control(Control::Subscribe { receiver, source, terms });
    }

    /// Puts a source into one of a client's slots. A slot belongs to audio or to video for good.
    pub fn fill_slot(&mut self, receiver: usize, slot: u32, spec: &SourceSpec) {
        let ssrcs = slot_ssrcs(slot, spec.media);
        let mid = format!("{}{slot}", if spec.media == MediaType::Audio { 'a' } else { 'v' });
        let of = SourceSpec {
            id: slot_id(slot),
            name: format!("slot {slot}").into(),
            media: spec.media,
            encodings: vec![EncodingSpec { ssrc: ssrcs.ssrc, rtx: ssrcs.rtx }],
        };
        self.clients[receiver].expect_slot(&of, &mid);
        let (receiver, source) = (self.clients[receiver].id, spec.id);
        let terms = SubscriptionParams {
            mid: Mid::new(&mid),
            slot: Some(ssrcs),
            ..SubscriptionParams::default()
        };
        self.control(Control::Subscribe { receiver, source, terms });
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, receiver: usize, source: SourceId) {
        let receiver = self.clients[receiver].id;
        self.control(Control::Unsubscribe { receiver, source });
    }

    /// Limits the height of a source for a receiver.
    pub fn bound(&mut self, receiver: usize, source: SourceId, max_height: Option<u16>) {
        let receiver = self.clients[receiver].id;
        let terms = SubscriptionParams {
            mid: Mid::new(&format!("m{}", source.0)),
            max_height,
            ..SubscriptionParams::default()
        };
        self.control(Control::Subscribe { receiver, source, terms });
    }

    /// Removes a client.
    pub fn leave(&mut self, client: usize) {
        self.gone[client] = true;
        self.control(Control::RemoveEndpoint(self.clients[client].id));
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next_event().filter(|at| *at <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn next_event(&self) -> Option<Instant> {
        let clients = self.clients.iter().zip(&self.gone).filter(|(_, gone)| !**gone);
        let clients = clients.map(|(c, _)| c.next_timeout());
        let cores = self.cores.iter().map(Core::next_timeout);
        let arrival = self.arrivals.peek().map(|Reverse((at, _))| *at);
        clients.chain(cores).chain(arrival).min()
    }

    fn step(&mut self) {
        while let Some(Reverse((at, _))) = self.arrivals.peek()
            && *at <= self.now
            && let Some(Reverse((_, id))) = self.arrivals.pop()
            && let Some(arrival) = self.pending.remove(&id)
        {
            self.arrive(arrival);
        }
        for shard in 0..self.cores.len() {
            if self.cores[shard].next_timeout() <= self.now {
                let mut out = Collected::default();
                self.cores[shard].on_timeout(self.now, &mut out);
                self.after(shard, out);
            }
        }
        for client in 0..self.clients.len() {
            if !self.gone[client] && self.clients[client].next_timeout() <= self.now {
                for datagram in self.clients[client].on_timeout(self.now) {
                    self.send(client, &datagram);
                }
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Bridge { shard, from, mut bytes } => {
                self.deliver(shard, from, &mut bytes);
            }
            Arrival::Client { client, bytes } if !self.gone[client] => {
                for answer in self.clients[client].on_datagram(self.now, bytes) {
                    self.send(client, &answer);
                }
            }
            Arrival::Client { .. } => {}
            Arrival::Peer { shard, mut batch } => {
                let mut out = Collected::default();
                self.cores[shard].on_peer(self.now, &mut batch);
                self.cores[shard].flush(self.now, &mut out);
                self.after(shard, out);
            }
        }
    }

    /// Delivers a datagram to a shard at once.
    pub fn deliver(&mut self, shard: usize, from: SocketAddr, bytes: &mut [u8]) {
        let mut out = Collected::default();
        self.cores[shard].on_datagram(self.now, BRIDGE, from, bytes);
        self.cores[shard].flush(self.now, &mut out);
        self.after(shard, out);
    }

    /// Loses the next media datagrams that a client sends.
    pub fn lose_next(&mut self, client: usize, datagrams: u32) {
        self.lose = (client, datagrams);
    }

    /// Sends a datagram of a client over the network.
    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        let from = self.clients[client].addr;
        let mut arrivals = self.up.carry(self.now);
        if self.lose.0 == client && self.lose.1 > 0 && !rtp::is_rtcp(bytes) {
            self.lose.1 -= 1;
            arrivals.clear();
        }
        if arrivals.is_empty() {
            self.lost_up.extend(self.clients[client].sent_body(bytes));
        }
        for at in arrivals {
            let n = self.cores.len();
            let shard = if self.config.scatter { self.up.pick(n) } else { self.shard_of(from) };
            self.schedule(at, Arrival::Bridge { shard, from, bytes: bytes.to_vec() });
        }
    }

    /// Sends the output of a shard.
    fn after(&mut self, shard: usize, out: Collected) {
        for (dest, bytes) in out.datagrams {
            let client = self.clients.iter().rposition(|c| c.addr == dest.remote);
            let Some(client) = client.filter(|c| !self.gone[*c]) else { continue };
            self.check_nonce(client, &bytes);
            self.watch(client, &bytes);
            let through = match self.bottlenecks.get_mut(&client) {
                Some(bottleneck) => bottleneck.pass(self.now, bytes.len()),
                None => Some(self.now),
            };
            let arrivals = through.map_or_else(Vec::new, |at| self.down.carry(at));
            if arrivals.is_empty()
                && let Some(body) = self.clients[client].peek(&bytes)
            {
                self.lost_down.insert((client, body));
            }
            for at in arrivals {
                self.schedule(at, Arrival::Client { client, bytes: bytes.clone() });
            }
        }
        for to in 0..self.cores.len() {
            let mut batch = PeerBatch::new(ShardId(shard as u16));
            if self.cores[shard].take_peer(ShardId(to as u16), &mut batch) {
                self.schedule(self.now + BETWEEN_SHARDS, Arrival::Peer { shard: to, batch });
            }
        }
        self.events.extend(self.cores[shard].events());
    }

    /// Checks that no (SSRC, index) is used twice with other bytes under one key (RFC 3711 section
    /// 9.1). Only for what a client expects: other senders may use numbers that leap.
    fn check_nonce(&mut self, client: usize, bytes: &[u8]) {
        if rtp::is_rtcp(bytes) {
            return;
        }
        let header = RtpHeader::parse(bytes).expect("the bridge sends RTP");
        if !self.clients[client].expects(header.ssrc) {
            return;
        }
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let unwrapper = self.numbers.entry((client, header.ssrc)).or_default();
        let key = (client, header.ssrc, unwrapper.update(header.sequence).0);
        let first = *self.sealed.entry(key).or_insert(hasher.finish());
        assert_eq!(first, hasher.finish(), "an index was used twice: {key:?}");
    }

    fn schedule(&mut self, at: Instant, arrival: Arrival) {
        self.arrivals.push(Reverse((at, self.next_arrival)));
        self.pending.insert(self.next_arrival, arrival);
        self.next_arrival += 1;
    }

    /// The shard on which datagrams of an address arrive.
    pub fn shard_of(&self, addr: SocketAddr) -> usize {
        usize::from(addr.port()) % self.cores.len()
    }
}
