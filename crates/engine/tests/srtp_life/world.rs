//! Peers around two shards, a bad network between them, and the watcher that sees everything that
//! leaves.

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rialto_engine::{
    Control, EndpointSpec,
    core::{Collected, Core, CoreConfig, PeerBatch, ShardCommand},
    director::{CommandSink, Director},
    sim::BRIDGE,
};
use rialto_media::{
    Codec, EncodingSpec, EndpointId, Extension, MediaParams, MediaType, Mid, PayloadType, ShardId,
    SourceId, SourceSpec, SubscriptionParams,
};
use rialto_rtp::{ExtWriter, RtpHeader, Seq, header, is_rtcp, rtcp::RtcpWriter};
use rialto_srtp::{Keying, Profile, TxContext};
use webrtc_srtp::{context::Context, protection_profile::ProtectionProfile};

const SHARDS: u16 = 2;
pub(crate) const PEERS: usize = 4;
/// A wider gap is not passed on.
const WIDEST_GAP: u64 = 100;
pub(crate) const LOUD: u8 = 30;
pub(crate) const SILENT: u8 = 127;

const OPUS: u8 = 111;
pub(crate) const VP8: u8 = 100;
pub(crate) const VP9: u8 = 101;
const RTX: u8 = 96;

struct Lanes<'a>(&'a mut Vec<(usize, ShardCommand)>);

impl CommandSink for Lanes<'_> {
    fn send(&mut self, shard: ShardId, command: ShardCommand) {
        self.0.push((usize::from(shard.0), command));
    }
}

pub(crate) struct Source {
    pub(crate) spec: SourceSpec,
    pub(crate) signalled: bool,
    pub(crate) pt: u8,
}

pub(crate) struct Peer {
    pub(crate) id: EndpointId,
    pub(crate) addr: SocketAddr,
    pub(crate) tx: TxContext,
    pub(crate) rx: Context,
    pub(crate) keying: Keying,
    /// The next index it sends under each SSRC, for the current key.
    pub(crate) next: HashMap<u32, u64>,
    pub(crate) sources: Vec<Source>,
    pub(crate) muted: bool,
    pub(crate) away: bool,
    /// Sources that it does not want.
    pub(crate) refuses: HashSet<SourceId>,
    /// The highest number it was sent under each SSRC, and how many below are missing.
    pub(crate) highest: HashMap<u32, u64>,
    pub(crate) missing: HashMap<u32, u64>,
    /// Packets in flight.
    pub(crate) on_the_way: Vec<Vec<u8>>,
    /// Packets decrypted, by SSRC.
    pub(crate) heard: HashMap<u32, u64>,
    pub(crate) variant: bool,
}

impl Peer {
    /// Of the four, one lacks VP9 and another lacks RTX.
    pub(crate) fn has(&self, pt: u8) -> bool {
        !(pt == VP9 && self.id.0 % 4 == 2 || pt == RTX && self.id.0 % 4 == 3)
    }

    pub(crate) fn extension(&self, kind: Extension) -> u8 {
        1 + u8::from((kind == Extension::Mid) == self.variant)
    }

    pub(crate) fn media(&self) -> MediaParams {
        let all = [
            (OPUS, Codec::Opus, MediaType::Audio, 48_000),
            (VP8, Codec::Vp8, MediaType::Video, 90_000),
            (VP9, Codec::Vp9, MediaType::Video, 90_000),
            (RTX, Codec::Rtx { apt: VP8 }, MediaType::Video, 90_000),
        ];
        let payload = |(pt, codec, media, clock_rate)| PayloadType {
            pt,
            codec,
            media,
            clock_rate,
            profile: String::new(),
            nack: media == MediaType::Video,
            pli: media == MediaType::Video,
            fir: false,
            transport_cc: false,
        };
        let kinds = [Extension::AudioLevel, Extension::Mid];
        MediaParams {
            payload_types: all.into_iter().filter(|t| self.has(t.0)).map(payload).collect(),
            extensions: kinds.map(|kind| (self.extension(kind), kind)).to_vec(),
            extmap_allow_mixed: true,
            congestion_feedback: false,
            remb: false,
        }
    }
}

fn keying(n: u32) -> Keying {
    let key = |salt: u8| {
        let mut key = vec![salt; 28];
        key[..4].copy_from_slice(&n.to_be_bytes());
        key
    };
    Keying { profile: Profile::AeadAes128Gcm, receive: key(1), send: key(2) }
}

fn contexts(keying: &Keying) -> (TxContext, Context) {
    let (key, salt) = keying.send.split_at(16);
    let profile = ProtectionProfile::AeadAes128Gcm;
    let rx = Context::new(key, salt, profile, None, None).unwrap();
    (TxContext::new(keying.profile, &keying.receive).unwrap(), rx)
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    /// Whether nothing is lost on the way to the peers.
    pub(crate) clear: bool,
    pub(crate) rng: StdRng,
    pub(crate) director: Director,
    pub(crate) cores: Vec<Core>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) keys: u32,
    pub(crate) ids: u32,
    /// What was encrypted under each number: key, SSRC, index.
    pub(crate) sealed: HashMap<(u32, u32, u64), u64>,
    /// Packets of each source that were lost or late on their way to the bridge.
    pub(crate) lost: HashMap<u32, u64>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let core = |shard| {
            let config = CoreConfig {
                shard: ShardId(shard),
                shards: SHARDS,
                sockets: vec![BRIDGE],
                video_hold: Duration::ZERO,
                bandwidth: rialto_engine::BandwidthConfig::default(),
                allocation: rialto_engine::AllocationConfig::default(),
                keyframes: rialto_engine::ingress::keyframe::KeyframeLimits::default(),
                audio: rialto_engine::AudioConfig::default(),
                seed,
            };
            Core::new(config, now)
        };
        let mut world = Self {
            now,
            start: now,
            clear: false,
            rng: StdRng::seed_from_u64(seed),
            director: Director::new(SHARDS),
            cores: (0..SHARDS).map(core).collect(),
            peers: Vec::new(),
            keys: 0,
            ids: 0,
            sealed: HashMap::new(),
            lost: HashMap::new(),
        };
        for at in 0..PEERS {
            let peer = world.new_peer();
            world.peers.push(peer);
            world.join(at);
        }
        world
    }

    pub(crate) fn pick(&mut self, range: Range<usize>) -> usize {
        self.rng.random_range(range)
    }

    pub(crate) fn control(&mut self, control: Control) {
        let mut commands = Vec::new();
        self.director.control(control, &mut Lanes(&mut commands));
        for (shard, command) in commands {
            let mut out = Collected::default();
            self.cores[shard].on_command(self.now, command, &mut out);
            self.after(shard, out);
        }
    }

    pub(crate) fn new_keying(&mut self) -> Keying {
        self.keys += 1;
        keying(self.keys)
    }

    pub(crate) fn new_peer(&mut self) -> Peer {
        self.ids += 1;
        let id = self.ids;
        let keying = self.new_keying();
        let (tx, rx) = contexts(&keying);
        let mut peer = Peer {
            id: EndpointId(id),
            addr: SocketAddr::from(([10, 1, 0, 1], id as u16)),
            tx,
            rx,
            keying,
            next: HashMap::new(),
            sources: Vec::new(),
            muted: false,
            away: false,
            refuses: HashSet::new(),
            highest: HashMap::new(),
            missing: HashMap::new(),
            on_the_way: Vec::new(),
            heard: HashMap::new(),
            variant: false,
        };
        for (media, encodings) in [(MediaType::Audio, 1), (MediaType::Video, 3)] {
            self.ids += 1;
            let base = self.ids << 8;
            let rtx = |n| (media == MediaType::Video).then_some(base + 0x80 + n);
            let spec = |n| EncodingSpec { ssrc: base + n, rtx: rtx(n) };
            let spec = SourceSpec {
                id: SourceId(self.ids),
                name: format!("s{}", self.ids).into(),
                media,
                encodings: (0..encodings).map(spec).collect(),
            };
            let pt = if media == MediaType::Audio { OPUS } else { VP8 };
            peer.sources.push(Source { spec, signalled: true, pt });
        }
        peer
    }

    pub(crate) fn join(&mut self, at: usize) {
        let p = &self.peers[at];
        let (id, media, keys) = (p.id, Arc::new(p.media()), p.keying.clone());
        let spec = EndpointSpec {
            conference: 0,
            label: Arc::from(format!("{}", id.0)),
            audio_ssrc: 0xa000_0000 + id.0,
            video_ssrc: 0xb000_0000 + id.0,
        };
        self.control(Control::AddEndpoint(id, spec));
        self.control(Control::SetMedia(id, media));
        self.bind(at);
        self.control(Control::SetKeys(id, keys));
        self.signal(at);
    }

    pub(crate) fn bind(&mut self, at: usize) {
        let (endpoint, remote) = (self.peers[at].id, self.peers[at].addr);
        let shard = ShardId(self.shard_of(at) as u16);
        self.control(Control::Bind { endpoint, remote, local: BRIDGE, shard });
        self.control(Control::Select { endpoint, remote, local: BRIDGE });
    }

    pub(crate) fn shard_of(&self, at: usize) -> usize {
        usize::from(self.peers[at].addr.port()) % self.cores.len()
    }

    /// Signals what a peer sends, and who receives what.
    pub(crate) fn signal(&mut self, at: usize) {
        let (id, sources) = (self.peers[at].id, &self.peers[at].sources);
        let specs = sources.iter().filter(|s| s.signalled).map(|s| s.spec.clone()).collect();
        self.control(Control::SetSources(id, specs));
        for receiver in 0..self.peers.len() {
            for sender in 0..self.peers.len() {
                for source in 0..self.peers[sender].sources.len() {
                    self.want(receiver, sender, source);
                }
            }
        }
    }

    pub(crate) fn want(&mut self, receiver: usize, sender: usize, source: usize) {
        let (id, source) = (self.peers[receiver].id, self.peers[sender].sources[source].spec.id);
        if sender == receiver {
            return;
        }
        if self.peers[receiver].refuses.contains(&source) {
            self.control(Control::Unsubscribe { receiver: id, source });
        } else {
            let terms = SubscriptionParams { mid: Mid::new("0"), ..SubscriptionParams::default() };
            self.control(Control::Subscribe { receiver: id, source, terms });
        }
    }

    /// Delivers a peer's datagram to the bridge, and moves what follows between the shards.
    pub(crate) fn deliver(&mut self, at: usize, mut bytes: Vec<u8>) {
        let (shard, from) = (self.shard_of(at), self.peers[at].addr);
        let mut out = Collected::default();
        self.cores[shard].on_datagram(self.now, BRIDGE, from, &mut bytes);
        self.cores[shard].flush(self.now, &mut out);
        self.after(shard, out);
    }

    pub(crate) fn after(&mut self, shard: usize, out: Collected) {
        for (dest, bytes) in out.datagrams {
            let peer = self.peers.iter().position(|p| p.addr == dest.remote);
            if let Some(peer) = peer {
                assert!(!self.peers[peer].away, "it has lost its address");
                self.sent_to(peer, bytes);
            }
        }
        self.cores[shard].events().for_each(drop);
        for to in 0..self.cores.len() {
            let mut batch = PeerBatch::new(ShardId(shard as u16));
            if self.cores[shard].take_peer(ShardId(to as u16), &mut batch) {
                let mut out = Collected::default();
                self.cores[to].on_peer(self.now, &mut batch);
                self.cores[to].flush(self.now, &mut out);
                self.after(to, out);
            }
        }
    }

    /// The watcher: sees everything that leaves.
    pub(crate) fn sent_to(&mut self, at: usize, bytes: Vec<u8>) {
        let p = &mut self.peers[at];
        if is_rtcp(&bytes) {
            p.rx.decrypt_rtcp(&bytes).expect("SRTCP");
            return;
        }
        let h = RtpHeader::parse(&bytes).unwrap();
        let seq = h.sequence;
        let index = match p.highest.get(&h.ssrc) {
            None => {
                assert!(seq.0 < 1 << 15, "a stream begins at {}", seq.0);
                u64::from(seq.0)
            }
            Some(highest) => {
                let ahead = seq.distance_from(Seq(*highest as u16));
                highest.checked_add_signed(ahead.into()).expect("no number before the first")
            }
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let number = (u32::from_be_bytes(*p.keying.send.first_chunk().unwrap()), h.ssrc, index);
        let before = self.sealed.insert(number, hasher.finish());
        assert!(before.is_none_or(|b| b == hasher.finish()), "sealed twice: {number:?}");
        if before.is_none() {
            let missing = p.missing.entry(h.ssrc).or_default();
            match p.highest.insert(h.ssrc, index) {
                Some(highest) if index < highest => {
                    p.highest.insert(h.ssrc, highest);
                    *missing = missing.saturating_sub(1);
                }
                Some(highest) => *missing += index - highest - 1,
                None => {}
            }
            let lost = self.lost.get(&(h.ssrc & !0xff)).copied().unwrap_or_default();
            assert!(*missing <= lost, "a gap that is not the network's: {number:?}");
        }
        p.on_the_way.push(bytes);
        let late = p.on_the_way.len() < 4 && self.rng.random_bool(0.3);
        if !late {
            self.arrive(at, if self.clear { 0.0 } else { 0.05 });
        }
    }

    /// Delivers what is in flight, in any order; some is lost.
    pub(crate) fn arrive(&mut self, at: usize, lose: f64) {
        let p = &mut self.peers[at];
        while !p.on_the_way.is_empty() {
            let next = self.rng.random_range(0..p.on_the_way.len());
            let bytes = p.on_the_way.swap_remove(next);
            if self.rng.random_bool(lose) {
                continue;
            }
            let h = RtpHeader::parse(&bytes).unwrap();
            let opened = p.rx.decrypt_rtp(&bytes);
            assert!(opened.is_ok(), "{at} cannot open {:x} {}: {opened:?}", h.ssrc, h.sequence.0);
            *p.heard.entry(h.ssrc).or_default() += 1;
        }
    }

    /// The next packet of an encoding; with `leap`, as many before it do not come.
    pub(crate) fn make(
        &mut self,
        (at, source, encoding): (usize, usize, usize),
        level: u8,
        leap: u64,
    ) -> Vec<u8> {
        let first = self.rng.random_range(0..1 << 16);
        let key = level < SILENT;
        let p = &mut self.peers[at];
        let s = &p.sources[source];
        let ssrc = s.spec.encodings[encoding].ssrc;
        let next = p.next.entry(ssrc).or_insert(first);
        *self.lost.entry(ssrc & !0xff).or_default() += leap.min(WIDEST_GAP);
        let index = *next + leap;
        *next = index + 1;
        let mut bytes = vec![0; 100];
        header::write_header(&mut bytes, true, s.pt, Seq(index as u16), index as u32, ssrc)
            .unwrap();
        header::set_extension_bit(&mut bytes, true);
        let mut writer = ExtWriter::new(&mut bytes[12..], true);
        let id = p.extension(Extension::AudioLevel);
        writer.push(id, &[level]).unwrap();
        let header_len = 12 + writer.finish();
        bytes.truncate(header_len);
        match s.pt {
            VP8 => bytes.extend([0x10, u8::from(!key), 0, 0, 0x9d, 1, 0x2a, 64, 1, 180, 0]),
            VP9 => bytes.push(if key { 0x0c } else { 0x4c }),
            _ => {}
        }
        bytes.extend(index.to_be_bytes());
        let len = bytes.len();
        bytes.resize(len + 16, 0);
        p.tx.seal_rtp(&mut bytes, header_len, len, index, ssrc).unwrap();
        bytes
    }

    pub(crate) fn lost(&mut self, at: usize, source: usize) {
        let ssrc = self.peers[at].sources[source].spec.encodings[0].ssrc;
        *self.lost.entry(ssrc & !0xff).or_default() += 1;
    }

    /// A peer sends packets of a source over a bad link.
    pub(crate) fn stream(&mut self, at: usize, source: usize, packets: u32, level: u8, leaps: u64) {
        if self.peers[at].away || !self.peers[at].sources[source].signalled {
            return;
        }
        let mut held: Vec<Vec<u8>> = Vec::new();
        for _ in 0..packets {
            for encoding in 0..self.peers[at].sources[source].spec.encodings.len() {
                let leap = u64::from(self.rng.random_bool(0.02));
                let leap = leap * self.rng.random_range(0..=leaps);
                let bytes = self.make((at, source, encoding), level, leap);
                if self.rng.random_bool(0.02) {
                    self.lost(at, source);
                    held.push(bytes);
                } else {
                    self.deliver(at, bytes);
                }
                if self.rng.random_bool(0.2)
                    && let Some(late) = held.pop()
                {
                    self.deliver(at, late);
                }
            }
            self.now += Duration::from_micros(500);
        }
    }

    /// Checks that everything that should be heard is heard, at once.
    pub(crate) fn judge(&mut self) {
        self.clear = true;
        self.pass(Duration::from_millis(30));
        for at in 0..self.peers.len() {
            for source in 0..self.peers[at].sources.len() {
                let before: Vec<_> = self.peers.iter().map(|p| p.heard.clone()).collect();
                if self.peers[at].away || !self.peers[at].sources[source].signalled {
                    continue;
                }
                for _ in 0..3 {
                    self.send_clear(at, source);
                }
                let (p, s) = (&self.peers[at], &self.peers[at].sources[source]);
                if p.muted {
                    continue;
                }
                let ssrc = s.spec.encodings[0].ssrc;
                for (to, before) in before.iter().enumerate() {
                    let r = &self.peers[to];
                    if to != at && !r.away && !r.refuses.contains(&s.spec.id) && r.has(s.pt) {
                        assert_ne!(
                            r.heard.get(&ssrc),
                            before.get(&ssrc),
                            "{to} hears {at}: {ssrc:x}"
                        );
                    }
                }
            }
        }
        self.clear = false;
    }

    /// Sends a frame over a good link.
    pub(crate) fn send_clear(&mut self, at: usize, source: usize) {
        for encoding in 0..self.peers[at].sources[source].spec.encodings.len() {
            let bytes = self.make((at, source, encoding), LOUD, 0);
            self.deliver(at, bytes);
        }
        for to in 0..self.peers.len() {
            self.arrive(to, 0.0);
        }
        self.now += Duration::from_millis(5);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        for shard in 0..self.cores.len() {
            let mut out = Collected::default();
            self.cores[shard].on_timeout(self.now, &mut out);
            self.after(shard, out);
        }
    }

    /// Removes a peer, or brings it back from another address.
    pub(crate) fn go_or_return(&mut self, at: usize) {
        self.arrive(at, 0.0);
        self.ids += 1;
        let p = &mut self.peers[at];
        p.away = !p.away;
        if p.away {
            let (endpoint, remote) = (p.id, p.addr);
            self.control(Control::Unbind { endpoint, remote });
        } else {
            p.addr.set_port(self.ids as u16);
            self.bind(at);
        }
    }

    /// Mutes a peer, or unmutes it.
    pub(crate) fn mute(&mut self, at: usize) {
        let p = &mut self.peers[at];
        p.muted = !p.muted;
        let (endpoint, muted) = (p.id, p.muted);
        self.control(Control::SetForceMute { endpoint, audio: muted, video: muted });
    }

    /// Ends a receiver's subscription to a source, or starts it again.
    pub(crate) fn refuse(&mut self, at: usize, sender: usize, source: usize) {
        let id = self.peers[sender].sources[source].spec.id;
        let refuses = &mut self.peers[at].refuses;
        if !refuses.remove(&id) {
            refuses.insert(id);
        }
        self.want(at, sender, source);
    }

    /// A receiver requests packets that it was sent lately, at random.
    pub(crate) fn nack(&mut self, at: usize, sender: usize) {
        let ssrc = self.peers[sender].sources[1].spec.encodings[0].ssrc;
        let Some(highest) = self.peers[at].highest.get(&ssrc).copied() else { return };
        let lost: Vec<_> = (0..20)
            .map(|_| Seq((highest.saturating_sub(self.rng.random_range(0..300))) as u16))
            .collect();
        let mut buf = vec![0; 400];
        let mut writer = RtcpWriter::new(&mut buf[..300]);
        writer.receiver_report(1, &[]).unwrap();
        writer.nack(1, ssrc, lost).unwrap();
        let len = writer.len();
        let len = self.peers[at].tx.seal_rtcp(&mut buf, len).unwrap();
        buf.truncate(len);
        if !self.peers[at].away {
            self.deliver(at, buf);
        }
    }

    pub(crate) fn new_keys(&mut self, at: usize) {
        self.arrive(at, 0.0);
        let keying = self.new_keying();
        let p = &mut self.peers[at];
        (p.tx, p.rx) = contexts(&keying);
        p.keying = keying.clone();
        p.next.clear();
        p.highest.clear();
        p.missing.clear();
        let id = p.id;
        self.control(Control::SetKeys(id, keying));
    }

    /// The same SSRCs under another name; who refused it still does.
    pub(crate) fn rename(&mut self, at: usize, source: usize) {
        self.ids += 1;
        let new = SourceId(self.ids);
        let old = std::mem::replace(&mut self.peers[at].sources[source].spec.id, new);
        for peer in self.peers.iter_mut().filter(|p| p.refuses.contains(&old)) {
            peer.refuses.insert(new);
        }
    }

    /// A peer leaves for good, and another one joins.
    pub(crate) fn replace(&mut self, at: usize) {
        self.arrive(at, 0.0);
        self.control(Control::RemoveEndpoint(self.peers[at].id));
        let peer = self.new_peer();
        self.peers[at] = peer;
        self.join(at);
    }
}
