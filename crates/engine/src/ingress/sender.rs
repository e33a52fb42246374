//! One sender on its home shard: keys, streams, and what is read from a packet on its way in.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits, and lengths of one datagram"
)]

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rialto_media::{
    Codec, Drop, EncodingSpec, HashKey, KeyedMap, MAX_ENCODINGS, MediaType, PtInfo, ShardId,
    SourceId, SourceSpec, Tables,
    encodings::{EncodingMask, Heights},
};
use rialto_rtp::{
    self as rtp, RtpHeader,
    codec::{FrameLayers, MAX_SPATIAL, Resolution, dd::DependencyReader},
};
use rialto_srtp::{RxContext, RxStream, SrtpError};
use slotmap::SlotMap;

use super::{
    Red,
    audio::{Gate, Unopened, Verdict},
    frames::FrameClock,
    inspect::{self, Shown, Told},
    keyframe::EncodingRequests,
    layers::{EncodingLayers, LayerMeters},
    level::LoudestLevel,
    meta::PacketMeta,
    nack::{Arrival, NackTracker},
    numbers::ForwardNumbers,
    rate::{RateMeter, Rates},
    remembered::{Remembered, RememberedStreams},
    seen::SeenWindow,
    silence::SilenceLimit,
    stats::StreamStats,
    twcc::{TwccRecorder, nearest},
};
use crate::slots::{FeedSlot, SourceSlot, StreamSlot};

/// Of packets that are dropped unopened, one is opened whenever its number is so far ahead of the last
/// authentic one: the roll-over counter stays known however long that lasts, and 28,000 more numbers
/// may be lost in a row (RFC 3711 section 3.3.1 bears 32,767).
const OPEN_WHEN_AHEAD: i16 = 1 << 12;

/// Longest CNAME that is sent on, bytes. Browsers' have 16 (RFC 7022).
pub const MAX_CNAME: usize = 64;

/// An encoding that has sent nothing for so long may no longer arrive.
const ENCODING_SILENT: Duration = Duration::from_secs(1);
/// It does not when each of the others has sent so many frames since: a still screen is sent in all
/// encodings at once, every few seconds.
const FRAMES_WITHOUT: u64 = 3;
/// And when its silence is so many times as long as its last intervals between frames.
const INTERVALS_WITHOUT: u32 = 3;
/// Nobody who has sent nothing for so long is asked for keyframes.
const SOURCE_SILENT: Duration = Duration::from_secs(10);

/// One encoding of a source, as it comes in.
#[derive(Debug)]
pub struct Stream {
    /// Its SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx: Option<u32>,
    /// Where its source is in [`Sender::sources`].
    pub source: SourceSlot,
    /// Which of the source's encodings.
    pub encoding: u8,
    /// Whether it carries video.
    pub is_video: bool,
    srtp: Option<RxStream>,
    srtp_rtx: Option<RxStream>,
    seen: SeenWindow,
    /// What is missing.
    pub nack: NackTracker,
    /// Counts for reports.
    pub stats: StreamStats,
    /// When a sender report about it was last taken for its receivers.
    pub reported: Option<Instant>,
    /// Requests for keyframes.
    pub keyframes: EncodingRequests,
    /// When its last packet came.
    pub last_packet: Option<Instant>,
    frames: FrameClock,
    /// What it costs.
    meter: RateMeter,
    /// It has shown a keyframe.
    keyframe_seen: bool,
    /// Frame height, from the last keyframe.
    pub height: Option<u16>,
    /// Its layers, if it has any.
    layers: Option<Box<LayerMeters>>,
    /// What its dependency descriptors refer to.
    dependencies: DependencyReader,
    /// Its highest spatial layer, as far as its descriptors tell.
    top: u8,
    /// Timestamp of the last packet that nobody wanted.
    passed: Option<u32>,
    /// Clock of the last packet's payload type.
    pub clock_rate: u32,
    numbers: ForwardNumbers,
}

impl Stream {
    fn new(ssrc: u32, rtx: Option<u32>, source: SourceSlot, encoding: u8) -> Self {
        Self {
            ssrc,
            rtx,
            source,
            encoding,
            is_video: false,
            srtp: None,
            srtp_rtx: None,
            seen: SeenWindow::default(),
            nack: NackTracker::default(),
            stats: StreamStats::default(),
            reported: None,
            keyframes: EncodingRequests::default(),
            last_packet: None,
            frames: FrameClock::default(),
            meter: RateMeter::default(),
            keyframe_seen: false,
            height: None,
            layers: None,
            dependencies: DependencyReader::default(),
            top: MAX_SPATIAL - 1,
            passed: None,
            clock_rate: 90_000,
            numbers: ForwardNumbers::default(),
        }
    }

    /// Gives a packet the number under which it goes on. False: it does not.
    fn number(&mut self, meta: &mut PacketMeta, level: Option<u8>, limit: SilenceLimit) -> bool {
        let level = level.filter(|_| !self.is_video);
        let forwarded = self.numbers.give(meta.index, level, limit);
        if let Some(forwarded) = forwarded {
            meta.index = forwarded.number;
            meta.resumes = forwarded.resumes;
        }
        forwarded.is_some()
    }

    /// The rest of a frame whose first packets ended here, as nobody wanted them yet, is no keyframe to
    /// begin with: H.264's parameter sets come before it.
    fn mark_passed(&mut self, wanted: bool, meta: &mut PacketMeta) {
        if !wanted {
            self.passed = Some(meta.timestamp);
        } else if self.passed == Some(meta.timestamp) {
            meta.keyframe = false;
        }
    }

    /// A packet of audio before it is opened, and what is known of it.
    #[inline]
    fn unopened<'a>(
        &self,
        cx: &Context<'a>,
        header: &'a RtpHeader,
        packet: &'a [u8],
        source: &LocalSource,
        dominant: bool,
    ) -> Unopened<'a> {
        Unopened {
            now: cx.now,
            tables: cx.tables,
            header,
            packet,
            source: source.spec.id,
            wanted: source.wanted() != 0,
            included: source.included,
            dominant,
            silent: self.numbers.ends_silence(cx.silence),
            heard: self.last_packet,
        }
    }

    /// An opened packet is numbered, or ends here. Returns why it does; the error: nothing of it counts.
    #[inline]
    fn settle(
        &mut self,
        cx: &Context<'_>,
        gate: &mut Gate<'_>,
        verdict: Verdict,
        (source, level): (SourceId, Option<u8>),
        meta: &mut PacketMeta,
    ) -> Result<Option<Drop>, Drop> {
        if let Verdict::Listen(reason) = verdict {
            self.numbers.pass();
            gate.overhear(cx.now, source, level);
            return Ok(Some(reason));
        }
        if !self.number(meta, level, cx.silence) {
            return if self.is_video { Err(Drop::Replayed) } else { Ok(Some(Drop::Silence)) };
        }
        meta.audio.included_only = verdict == Verdict::ForwardToIncluding;
        if verdict == Verdict::Forward && !self.is_video {
            meta.audio.energy = gate.hear(cx.now, source, level);
        }
        Ok(None)
    }

    /// Takes what a packet shows of its codec. Returns the size of its frames if it tells one, and whether
    /// the encoding has other layers than before.
    fn see(
        &mut self,
        now: Instant,
        shown: &Shown,
        len: usize,
        meta: &mut PacketMeta,
    ) -> (Option<Resolution>, bool) {
        if !meta.keyframes_known {
            return (None, false);
        }
        if let Some(resolution) = shown.resolution {
            self.height = Some(resolution.height);
        }
        if meta.keyframe {
            self.keyframe_seen = true;
            self.keyframes.on_keyframe(now);
        }
        meta.keyframes_hidden = !self.keyframe_seen;
        if let Some(heights) = shown.heights {
            self.top = inspect::top(heights);
        }
        meta.top = self.top;
        let FrameLayers { spatial, temporal, .. } = meta.layers;
        let layered = spatial > 0 || temporal > 0 || shown.heights.is_some();
        if !layered && self.layers.is_none() {
            return (shown.resolution, false);
        }
        let layers = self.layers.get_or_insert_default();
        let mut changed = shown.heights.is_some_and(|heights| layers.on_heights(heights));
        changed |= layers.on_packet(len, meta);
        (shown.resolution, changed)
    }

    /// Takes a packet that ends here and whose content does not matter. It is opened only when that is
    /// needed to keep the roll-over counter known.
    fn pass_over(
        &mut self,
        rx: Option<&RxContext>,
        (header, is_rtx): (&RtpHeader, bool),
        packet: &mut [u8],
        reason: Drop,
    ) -> Drop {
        let muted = reason == Drop::ForceMuted;
        // By its header alone it is not to be heard.
        let unheard = matches!(reason, Drop::Silence | Drop::NotLoudest | Drop::Unwanted);
        if unheard && self.srtp.as_ref().is_some_and(|s| s.ahead(header.sequence.0) > 0) {
            self.numbers.pass();
            self.stats.pass();
            self.nack.restart();
        }
        if muted && !is_rtx {
            // What is muted must not be asked for later either.
            self.numbers.interrupt();
            self.nack.restart();
        }
        let state = if is_rtx { &mut self.srtp_rtx } else { &mut self.srtp };
        let follow = state.as_ref().is_none_or(|s| s.ahead(header.sequence.0) >= OPEN_WHEN_AHEAD);
        // A stray packet of audio (a dialled digit) is no reason for a gap, if it is authentic.
        let stray = !muted && !unheard && !is_rtx && !self.is_video;
        if !follow && !stray {
            return reason;
        }
        let Some(rx) = rx else { return reason };
        match rx.open_rtp(state, packet, header.len) {
            Ok(_) => {
                if stray {
                    self.numbers.interrupt();
                }
                reason
            }
            Err(error) => drop_reason(error),
        }
    }

    /// Leaves what must outlive its signalling.
    fn retire(&mut self, remembered: &mut RememberedStreams) {
        if let Some(srtp) = self.srtp.take() {
            let (seen, numbers) = (self.seen.clone(), self.numbers);
            remembered.put(self.ssrc, Remembered { srtp, seen, numbers });
        }
        self.retire_rtx(remembered);
    }

    fn retire_rtx(&mut self, remembered: &mut RememberedStreams) {
        if let Some((ssrc, srtp)) = self.rtx.zip(self.srtp_rtx.take()) {
            let (seen, numbers) = (SeenWindow::default(), ForwardNumbers::default());
            remembered.put(ssrc, Remembered { srtp, seen, numbers });
        }
    }

    /// Continues what was known of its SSRC under the same key.
    fn recall(&mut self, remembered: &mut RememberedStreams) {
        if let Some(before) = remembered.take(self.ssrc) {
            self.srtp = Some(before.srtp);
            self.seen = before.seen;
            self.numbers = before.numbers;
            self.numbers.interrupt();
        }
        self.recall_rtx(remembered);
    }

    fn recall_rtx(&mut self, remembered: &mut RememberedStreams) {
        self.srtp_rtx = self.rtx.and_then(|rtx| remembered.take(rtx)).map(|before| before.srtp);
    }

    fn is_urgent(&self, now: Instant, rtt: Duration) -> bool {
        !self.nack.is_empty() || self.keyframes.is_due(now, rtt)
    }

    /// Whether a keyframe can be asked for: a video of which something came lately.
    fn can_be_asked(&self, now: Instant) -> bool {
        let lately = |at| now.saturating_duration_since(at) < SOURCE_SILENT;
        self.is_video && self.last_packet.is_some_and(lately)
    }

    /// Whether it has ended while the source's others go on. `frames`: of all encodings; `others`: how
    /// many arrive beside it.
    fn has_ended(&self, now: Instant, frames: u64, others: u32) -> bool {
        let Some(last) = self.last_packet else { return true };
        let silence = now.saturating_duration_since(last);
        silence >= ENCODING_SILENT
            && silence >= self.frames.interval.saturating_mul(INTERVALS_WITHOUT)
            && frames.saturating_sub(self.frames.of_all)
                >= FRAMES_WITHOUT * u64::from(others.max(1))
    }
}

/// A source, at its sender's home.
#[derive(Debug)]
pub struct LocalSource {
    /// What was signalled.
    pub spec: SourceSpec,
    /// Where its receivers on this shard are, or were.
    pub feed: Option<FeedSlot>,
    /// Shards with receivers, and which encodings they need.
    pub routes: Vec<(ShardId, EncodingMask)>,
    /// Encodings that arrive.
    pub active: EncodingMask,
    /// How high each encoding is.
    pub heights: Heights,
    /// What each encoding costs, as last told to receivers' shards.
    pub rates: Rates,
    /// The layers within each encoding, as last told.
    pub layers: [EncodingLayers; MAX_ENCODINGS],
    /// Its loudness.
    pub level: LoudestLevel,
    /// Audio that a receiver asked for by name.
    pub included: bool,
    /// Frames of all its encodings.
    frames: u64,
}

impl LocalSource {
    fn new(spec: SourceSpec) -> Self {
        Self {
            spec,
            feed: None,
            routes: Vec::new(),
            active: 0,
            heights: Heights::default(),
            rates: Rates::default(),
            layers: Default::default(),
            level: LoudestLevel::default(),
            included: false,
            frames: 0,
        }
    }

    /// An encoding has frames of this size. Returns the height that they had before, if that was another.
    fn resize(&mut self, encoding: u8, resolution: Resolution) -> Option<u16> {
        let height = self.heights.get_mut(usize::from(encoding))?;
        let now = resolution.width.min(resolution.height);
        let before = std::mem::replace(height, now);
        (before != now).then_some(before)
    }

    /// Takes what was measured of the layers of an encoding. Returns whether receivers' shards are to hear of
    /// it.
    fn measure_layers(&mut self, stream: &Stream) -> bool {
        let told = self.layers.get_mut(usize::from(stream.encoding));
        let Some((told, meters)) = told.zip(stream.layers.as_ref()) else { return false };
        let news = meters.news(told);
        if let Some(news) = news {
            *told = news;
        }
        news.is_some()
    }

    /// Encodings that anybody needs.
    pub fn wanted(&self) -> EncodingMask {
        self.routes.iter().fold(0, |mask, (_, wanted)| mask | wanted)
    }
}

/// A packet that is to be routed.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Where its source is in [`Sender::sources`].
    pub source: SourceSlot,
    /// The source.
    pub id: SourceId,
    /// Which of its encodings.
    pub encoding: u8,
    /// What was read from it.
    pub meta: PacketMeta,
    /// Length of the plain packet in the buffer.
    pub len: usize,
    /// The encoding did not arrive before this packet, or had another height.
    pub changed: bool,
    /// A gap that only a keyframe mends.
    pub broken: bool,
    /// It is not forwarded, and why.
    pub ends: Option<Drop>,
    /// The sender is to be told something soon: see [`Sender::is_urgent`].
    pub urgent: bool,
}

/// The receiving side of an endpoint.
#[derive(Debug, Default)]
pub struct Sender {
    /// Keys; none before the handshake is over.
    pub rx: Option<RxContext>,
    /// The encodings of all of its sources.
    pub streams: SlotMap<StreamSlot, Stream>,
    /// Its sources.
    pub sources: SlotMap<SourceSlot, LocalSource>,
    /// The stream of an SSRC, and whether that is the one of its retransmissions.
    by_ssrc: KeyedMap<u32, (StreamSlot, bool)>,
    /// What was signalled before under the present key.
    remembered: RememberedStreams,
    /// What the sender calls itself.
    pub cname: Option<Box<str>>,
    /// Mute forced by signalling: audio, video.
    pub mute: (bool, bool),
    /// It is the dominant speaker.
    pub dominant: bool,
    /// Arrival times for the transport-wide feedback; allocated when the first numbered packet comes.
    pub twcc: Option<Box<TwccRecorder>>,
    /// SSRC of the last packet with a transport-wide number.
    pub twcc_ssrc: u32,
    /// Count of feedback packets sent.
    pub twcc_count: u8,
    /// Times that the layers of a video changed, since the last snapshot: another frame height, or
    /// other encodings that arrive.
    pub layering_changes: u64,
    /// Packets and bytes received.
    pub received: (u64, u64),
    /// The same at the last snapshot.
    pub received_before: (u64, u64),
}

/// Everything about a datagram that is not in the packet itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// When it came.
    pub now: Instant,
    /// The same, since the engine's epoch.
    pub since_epoch: Duration,
    /// The sender's numbers.
    pub tables: &'a Tables,
    /// How much silence is forwarded.
    pub silence: SilenceLimit,
    /// The sender's round trip.
    pub rtt: Duration,
}

impl Sender {
    /// Gives the map of SSRCs its secret. It must be empty.
    pub fn set_hash_key(&mut self, key: HashKey) {
        self.by_ssrc = KeyedMap::with_hasher(key);
    }

    /// Keeps the CNAME that the sender gives one of its streams (RFC 3550 section 6.5.1); the first
    /// one stays. It is what all of its sources are sent on under.
    pub fn on_cname(&mut self, ssrc: u32, cname: &[u8]) {
        let own = self.cname.is_none() && self.stream_by_ssrc(ssrc).is_some();
        if let Some(cname) = cname_text(cname).filter(|_| own) {
            self.cname = Some(cname.into());
        }
    }

    /// Replaces the sources. Those whose id stays and streams whose SSRC stays keep their slot and their
    /// state, and what a key is used with is remembered of streams that leave: a roll-over counter or
    /// replay window that was lost could not be found again.
    pub fn set_sources(&mut self, specs: Vec<SourceSpec>) {
        self.retire_streams(&specs);
        self.sources.retain(|_, source| specs.iter().any(|spec| spec.id == source.spec.id));
        self.by_ssrc.clear();
        for spec in specs {
            let known = self.sources.iter_mut().find(|(_, source)| source.spec.id == spec.id);
            let (media, encodings) = (spec.media, spec.encodings.clone());
            let slot = if let Some((slot, source)) = known {
                source.spec = spec;
                slot
            } else {
                self.sources.insert(LocalSource::new(spec))
            };
            for (encoding, signalled) in encodings.iter().enumerate() {
                self.set_stream(slot, encoding as u8, media, signalled);
            }
        }
        // Only now, so that nothing is forgotten that is signalled.
        self.remembered.trim();
    }

    /// Signals one encoding of the source in a slot.
    fn set_stream(
        &mut self,
        source: SourceSlot,
        encoding: u8,
        media: MediaType,
        signalled: &EncodingSpec,
    ) {
        let EncodingSpec { ssrc, rtx } = *signalled;
        let known = self.streams.iter().find(|(_, stream)| stream.ssrc == ssrc);
        let slot = if let Some(slot) = known.map(|(slot, _)| slot) {
            slot
        } else {
            let mut new = Stream::new(ssrc, rtx, source, encoding);
            new.recall(&mut self.remembered);
            self.streams.insert(new)
        };
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.rtx != rtx {
            stream.rtx = rtx;
            stream.recall_rtx(&mut self.remembered);
        }
        stream.source = source;
        stream.encoding = encoding;
        stream.is_video = media == MediaType::Video;
        self.by_ssrc.insert(ssrc, (slot, false));
        if let Some(rtx) = rtx {
            self.by_ssrc.insert(rtx, (slot, true));
        }
    }

    /// Removes the streams whose SSRC leaves. Of them, and of retransmissions under another SSRC than
    /// will be signalled, what must not be lost is remembered.
    fn retire_streams(&mut self, specs: &[SourceSpec]) {
        self.streams.retain(|_, stream| {
            let mut signalled = specs.iter().flat_map(|spec| &spec.encodings);
            let stays = signalled.find(|encoding| encoding.ssrc == stream.ssrc);
            match stays {
                None => stream.retire(&mut self.remembered),
                Some(encoding) if encoding.rtx != stream.rtx => {
                    stream.retire_rtx(&mut self.remembered);
                }
                Some(_) => {}
            }
            stays.is_some()
        });
    }

    /// New keys. Streams begin anew under them; the numbers under which they go on do not.
    pub fn set_keys(&mut self, rx: RxContext) {
        self.rx = Some(rx);
        self.remembered.clear();
        self.cname = None;
        for stream in self.streams.values_mut() {
            stream.srtp = None;
            stream.srtp_rtx = None;
            stream.seen = SeenWindow::default();
            stream.nack.restart();
            stream.stats = StreamStats::default();
            stream.numbers.interrupt();
        }
    }

    /// Takes an SRTP packet: finds its stream, opens it in place, reads what there is to read.
    ///
    /// # Errors
    /// The reason for which it is dropped.
    #[inline]
    pub fn on_rtp(
        &mut self,
        cx: &Context<'_>,
        mut gate: Gate<'_>,
        packet: &mut [u8],
    ) -> Result<Accepted, Drop> {
        let header = RtpHeader::parse(packet).map_err(|_| Drop::MalformedRtp)?;
        let &(at, is_rtx) = self.by_ssrc.get(&header.ssrc).ok_or(Drop::UnknownSsrc)?;
        let stream = self.streams.get_mut(at).ok_or(Drop::UnknownSsrc)?;
        let source = self.sources.get_mut(stream.source).ok_or(Drop::UnknownSsrc)?;
        let muted = match source.spec.media {
            MediaType::Audio => self.mute.0,
            MediaType::Video => self.mute.1,
        };
        let pt = cx.tables.payload_type(header.payload_type).filter(|pt| {
            pt.media == source.spec.media && matches!(pt.codec, Codec::Rtx { .. }) == is_rtx
        });
        let Some(pt) = pt.filter(|_| !muted) else {
            let reason = if pt.is_some() { Drop::ForceMuted } else { Drop::UnknownPayloadType };
            return Err(stream.pass_over(self.rx.as_ref(), (&header, is_rtx), packet, reason));
        };
        let mut verdict = Verdict::Forward;
        if !stream.is_video && !is_rtx {
            let unopened = stream.unopened(cx, &header, packet, source, self.dominant);
            verdict = gate.judge(&unopened);
            if let Verdict::Drop(reason) = verdict {
                unopened.record_arrival(self.twcc.as_deref_mut());
                return Err(stream.pass_over(self.rx.as_ref(), (&header, is_rtx), packet, reason));
            }
        }
        let rx = self.rx.as_ref().ok_or(Drop::NoKeys)?;
        let state = if is_rtx { &mut stream.srtp_rtx } else { &mut stream.srtp };
        let opened = rx.open_rtp(state, packet, header.len).map_err(drop_reason)?;
        let wire_len = packet.len();
        self.received.0 += 1;
        self.received.1 += wire_len as u64;
        let packet = packet.get(..opened.len).ok_or(Drop::MalformedRtp)?;
        let payload = header.payload_range(packet).map_err(|_| Drop::MalformedRtp)?;
        let mut meta = PacketMeta {
            index: opened.index,
            arrival_ms: cx.since_epoch.as_millis() as u32,
            ..described(&header, &payload)
        };
        let extensions = inspect::Extensions { tables: cx.tables, header: &header, packet };
        let told = extensions.read(&mut stream.dependencies, &mut source.level, &mut meta);
        let Told { number, loudness: level, .. } = told;
        if let Some(sequence) = number {
            self.twcc_ssrc = header.ssrc;
            self.twcc
                .get_or_insert_with(|| Box::new(TwccRecorder::new(cx.now)))
                .on_packet(cx.now, sequence);
        }
        let pt = if is_rtx {
            unwrap_rtx(cx.tables, stream, pt, packet, &mut meta)?
        } else {
            let (index, at) = (meta.index, meta.timestamp);
            stream.stats.on_packet(cx.since_epoch, index, at, pt.clock_rate, wire_len);
            pt
        };
        if !stream.seen.mark(meta.index) {
            return Err(Drop::Duplicate);
        }
        stream.clock_rate = pt.clock_rate;
        let bit = 1u8 << stream.encoding;
        let wanted = source.wanted() & bit != 0;
        let mut broken = false;
        if pt.nack && wanted {
            broken = stream.nack.on_packet(cx.now, meta.index) == Arrival::Break;
        }
        let ends = stream.settle(cx, &mut gate, verdict, (source.spec.id, level), &mut meta)?;
        meta.audio.red = Red::read(pt, packet, &meta, cx.tables);
        let shown = inspect::read(pt, packet, &told, &mut meta);
        stream.mark_passed(wanted, &mut meta);
        let (resolution, relayered_within) = stream.see(cx.now, &shown, wire_len, &mut meta);
        stream.last_packet = Some(cx.now);
        stream.frames.on_packet(cx.now, meta.timestamp, &mut source.frames);
        stream.meter.on_packet(wire_len, meta.timestamp, meta.keyframe, meta.marker);
        let mut changed = source.active & bit == 0;
        // The first of all begins the video; it changes nothing of it.
        let mut relayered = changed && source.active != 0;
        if relayered_within {
            changed |= source.measure_layers(stream);
        }
        source.active |= bit;
        if let Some(before) = resolution.and_then(|r| source.resize(stream.encoding, r)) {
            changed = true;
            relayered |= before != 0;
        }
        self.layering_changes += u64::from(relayered);
        let incomplete = broken || meta.resumes && wanted;
        if incomplete && meta.keyframes_known && !meta.keyframe {
            let _ = stream.keyframes.want(cx.now);
        }
        let urgent =
            stream.is_urgent(cx.now, cx.rtt) || self.twcc.as_ref().is_some_and(|t| t.is_full());
        Ok(Accepted {
            source: stream.source,
            id: source.spec.id,
            encoding: stream.encoding,
            meta,
            len: opened.len,
            changed,
            broken,
            ends,
            urgent,
        })
    }

    /// Whether there is something to ask of the sender that cannot wait for the next report: packets
    /// that are missing, a keyframe, or transport-wide feedback on more packets than can be remembered.
    pub fn is_urgent(&self, now: Instant, rtt: Duration) -> bool {
        self.twcc.as_ref().is_some_and(|t| t.is_full())
            || self.streams.values().any(|stream| stream.is_urgent(now, rtt))
    }

    /// Wants a keyframe of an encoding, where asking can help: not of audio, of what is muted, or of what
    /// sends nothing. Returns whether it does.
    pub fn want_keyframe(&mut self, now: Instant, id: SourceId, encoding: u8) -> bool {
        let muted = self.mute.1;
        let Some(stream) = self.stream_mut(id, encoding) else { return false };
        !muted && stream.can_be_asked(now) && stream.keyframes.want(now)
    }

    /// Steps of the rate meters are over. Calls `changed` with the slot of each source that costs something
    /// else than receivers' shards were told.
    pub fn step_rates(&mut self, steps: usize, mut changed: impl FnMut(SourceSlot)) {
        for stream in self.streams.values_mut().filter(|stream| stream.is_video) {
            for _ in 0..steps {
                stream.meter.step();
                if let Some(layers) = &mut stream.layers {
                    layers.step();
                }
            }
            let Some(source) = self.sources.get_mut(stream.source) else { continue };
            let Some(told) = source.rates.get_mut(usize::from(stream.encoding)) else { continue };
            let rate = stream.meter.rate();
            if told.differs(rate) {
                *told = rate;
                changed(stream.source);
            }
            if source.measure_layers(stream) {
                changed(stream.source);
            }
        }
    }

    /// Forgets encodings that have ended while others of their source go on. Calls `changed` with the
    /// slot of each source that is touched.
    pub fn expire_encodings(&mut self, now: Instant, mut changed: impl FnMut(SourceSlot)) {
        for (slot, source) in &mut self.sources {
            let at = source.active;
            if at == 0 {
                continue;
            }
            let others = at.count_ones().saturating_sub(1);
            let mut active = 0;
            for encoding in &source.spec.encodings {
                let stream =
                    self.by_ssrc.get(&encoding.ssrc).and_then(|(at, _)| self.streams.get(*at));
                let alive = stream.filter(|s| {
                    at >> s.encoding & 1 == 1 && !s.has_ended(now, source.frames, others)
                });
                if let Some(stream) = alive {
                    active |= 1u8 << stream.encoding;
                }
            }
            // The only encoding of a source stays the one to wait for.
            if active != at && source.spec.encodings.len() > 1 {
                source.active = active;
                self.layering_changes += u64::from(active != 0);
                changed(slot);
            }
        }
    }

    /// The source with an id.
    pub fn source_mut(&mut self, id: SourceId) -> Option<&mut LocalSource> {
        self.sources.values_mut().find(|s| s.spec.id == id)
    }

    /// The stream of one encoding of a source.
    pub fn stream_mut(&mut self, id: SourceId, encoding: u8) -> Option<&mut Stream> {
        let ssrc = self
            .sources
            .values()
            .find(|s| s.spec.id == id)?
            .spec
            .encodings
            .get(usize::from(encoding))?
            .ssrc;
        self.stream_by_ssrc(ssrc)
    }

    /// The stream of a media SSRC.
    pub fn stream_by_ssrc(&mut self, ssrc: u32) -> Option<&mut Stream> {
        let &(at, rtx) = self.by_ssrc.get(&ssrc)?;
        if rtx { None } else { self.streams.get_mut(at) }
    }
}

/// A CNAME that can be sent on: text, and not so long that it costs every receiver.
pub fn cname_text(cname: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(cname).ok()?;
    let good = (1..=MAX_CNAME).contains(&text.len()) && !text.chars().any(char::is_control);
    good.then_some(text)
}

/// The reason that a refusal of SRTP is counted under.
pub fn drop_reason(error: SrtpError) -> Drop {
    match error {
        SrtpError::Replay | SrtpError::TooOld => Drop::Replayed,
        SrtpError::Short => Drop::MalformedRtp,
        _ => Drop::Unauthenticated,
    }
}

/// What a packet's header says of it, and where its payload is.
#[inline]
fn described(header: &RtpHeader, payload: &Range<usize>) -> PacketMeta {
    PacketMeta {
        timestamp: header.timestamp,
        payload_start: payload.start as u16,
        payload_len: payload.len() as u16,
        payload_type: header.payload_type,
        marker: header.marker,
        csrc_count: header.csrc_count,
        ..PacketMeta::default()
    }
}

/// Restores the description of the original packet (RFC 4588 section 4) and returns its payload type.
fn unwrap_rtx<'t>(
    tables: &'t Tables,
    stream: &Stream,
    rtx: &PtInfo,
    packet: &[u8],
    meta: &mut PacketMeta,
) -> Result<&'t PtInfo, Drop> {
    let start = usize::from(meta.payload_start);
    let payload = packet.get(start..start + usize::from(meta.payload_len));
    let Some(original) = payload.and_then(rtp::rtx::original_seq) else {
        return Err(Drop::RtxProbe);
    };
    let Codec::Rtx { apt } = rtx.codec else { return Err(Drop::UnknownPayloadType) };
    // Nothing can be restored before the stream itself was seen: its roll-over counter is unknown.
    let newest = stream.seen.newest().ok_or(Drop::RtxProbe)?;
    if stream.numbers.is_interrupted() {
        // It is of the time before.
        return Err(Drop::Replayed);
    }
    meta.index = nearest(newest, original.0);
    meta.payload_start += rtp::rtx::OSN_LEN as u16;
    meta.payload_len = meta.payload_len.saturating_sub(rtp::rtx::OSN_LEN as u16);
    meta.payload_type = apt;
    tables.payload_type(apt).ok_or(Drop::UnknownPayloadType)
}
