//! One sender on its home shard: keys, streams, and the processing of received packets.
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
    Codec, Drop, EncodingSpec, HashKey, KeyedMap, MAX_ENCODINGS, MediaType, ShardId, SourceId,
    SourceSpec, Tables,
    encodings::{EncodingMask, Heights},
};
use rialto_rtp::{RtpHeader, codec::Resolution, vla::VideoLayersAllocation};
use rialto_srtp::RxContext;
use slotmap::SlotMap;

use super::{
    accepted::{Accepted, Opened},
    audio::{Gate, Verdict},
    inspect::{self, ExtensionInfo},
    layers::EncodingLayers,
    level::LoudestLevel,
    meta::PacketMeta,
    nack::Arrival,
    parked::Parked,
    rate::{Rate, Rates},
    retired::RetiredSsrcs,
    seen::SeenWindow,
    silence::SilenceLimit,
    stats::StreamStats,
    stream::{Stream, drop_reason, unwrap_rtx},
    twcc::TwccRecorder,
};
use crate::slots::{FeedSlot, SourceSlot, StreamSlot};

/// A keyframe is requested ahead of need only if none arrived for this long.
const AHEAD_INTERVAL: Duration = Duration::from_secs(2);

/// Longest CNAME that is passed on, bytes. Browsers' have 16 (RFC 7022).
pub const MAX_CNAME: usize = 64;

/// A source on its sender's home shard.
#[derive(Debug)]
pub struct LocalSource {
    /// The signalled source.
    pub spec: SourceSpec,
    /// Its entry for receivers on this shard, now or earlier.
    pub feed: Option<FeedSlot>,
    /// Shards with receivers, and the encodings that they need.
    pub routes: Vec<(ShardId, EncodingMask)>,
    /// Active encodings.
    pub active: EncodingMask,
    /// The height of each encoding.
    pub heights: Heights,
    /// The bitrate of each encoding, as last reported to receivers' shards.
    pub rates: Rates,
    /// The layers of each encoding, as last reported.
    pub layers: [EncodingLayers; MAX_ENCODINGS],
    /// The bitrates that the sender announces for its layers, if they are used.
    announced: Option<Box<VideoLayersAllocation>>,
    /// Its audio level.
    pub level: LoudestLevel,
    /// Whether a receiver asked for this audio source by name.
    pub included: bool,
    /// Number of frames of all its encodings.
    pub(super) frames: u64,
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
            announced: None,
            level: LoudestLevel::default(),
            included: false,
            frames: 0,
        }
    }

    /// Sets the frame size of an encoding. Returns the previous height if it was another.
    pub(super) fn resize(&mut self, encoding: u8, resolution: Resolution) -> Option<u16> {
        let height = self.heights.get_mut(usize::from(encoding))?;
        let now = resolution.width.min(resolution.height);
        let before = std::mem::replace(height, now);
        (before != now).then_some(before)
    }

    /// Handles the bitrates that the sender announces for its layers. Ignores what cannot be
    /// parsed.
    #[cold]
    fn announce(&mut self, allocation: &[u8]) {
        if let Some(allocation) = VideoLayersAllocation::parse(allocation) {
            match &mut self.announced {
                Some(announced) => **announced = allocation,
                none => *none = Some(Box::new(allocation)),
            }
        }
    }

    /// The bitrate of an encoding, given its measurement.
    fn cost(&self, encoding: u8, measured: Rate) -> Rate {
        let announced = self.announced.as_ref().and_then(|announced| {
            let (spatial, temporal) = announced.top(encoding)?;
            u32::try_from(announced.bps(encoding, spatial, temporal)?).ok()
        });
        Rate { bps: announced.unwrap_or(measured.bps), ..measured }
    }

    /// Applies the measurement of an encoding's layers. Returns whether receivers' shards are to be
    /// told.
    pub(super) fn measure_layers(&mut self, stream: &Stream) -> bool {
        let reported = self.layers.get_mut(usize::from(stream.encoding));
        let Some((reported, meters)) = reported.zip(stream.layers.as_ref()) else { return false };
        let announced = self.announced.as_deref();
        let news = meters
            .news(reported, |spatial, temporal| announced?.bps(stream.encoding, spatial, temporal));
        if let Some(news) = news {
            *reported = news;
        }
        news.is_some()
    }

    /// Returns whether anybody needs an encoding.
    #[inline]
    pub(super) fn is_wanted(&self, encoding: u8) -> bool {
        self.wanted() >> encoding & 1 == 1
    }

    /// Encodings that anybody needs.
    pub fn wanted(&self) -> EncodingMask {
        self.routes.iter().fold(0, |mask, (_, wanted)| mask | wanted)
    }
}

/// The receiving side of an endpoint.
#[derive(Debug, Default)]
pub struct Sender {
    /// Keys; `None` until the DTLS handshake is done.
    pub rx: Option<RxContext>,
    /// The encodings of all of its sources.
    pub streams: SlotMap<StreamSlot, Stream>,
    /// Its sources.
    pub sources: SlotMap<SourceSlot, LocalSource>,
    /// The stream of each SSRC, and whether the SSRC is that of its retransmissions.
    by_ssrc: KeyedMap<u32, (StreamSlot, bool)>,
    /// SSRCs that were signalled before under the current key.
    retired: RetiredSsrcs,
    /// The CNAME that the sender announced.
    pub cname: Option<Box<str>>,
    /// Force-mute of audio and of video.
    pub mute: (bool, bool),
    /// Whether it is the dominant speaker.
    pub dominant: bool,
    /// Arrival times for transport-wide feedback. Allocated when the first packet with a transport
    /// sequence number arrives.
    pub twcc: Option<Box<TwccRecorder>>,
    /// SSRC of the last packet with a transport sequence number.
    pub twcc_ssrc: u32,
    /// Number of feedback packets sent.
    pub twcc_count: u8,
    /// Changes of the layers of a video since the last snapshot: another frame height, or other
    /// active encodings.
    pub layering_changes: u64,
    /// Packets and bytes received.
    pub received: (u64, u64),
    /// The same counts at the last snapshot.
    pub received_before: (u64, u64),
    /// Packets of a stream that waited for a structure and are to be read now.
    pub(super) unparked: Option<(StreamSlot, Box<Parked>)>,
}

/// The context of a datagram: everything that is not in the packet itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// When it arrived.
    pub now: Instant,
    /// The same, since the engine's epoch.
    pub since_epoch: Duration,
    /// The sender's payload types and extension ids.
    pub tables: &'a Tables,
    /// How much silence is forwarded.
    pub silence: SilenceLimit,
    /// Whether the bitrates that senders announce for their layers are used.
    pub believes_costs: bool,
    /// The sender's round-trip time.
    pub rtt: Duration,
}

impl Sender {
    /// Sets the secret hash key of the map by SSRC, which must be empty.
    pub fn set_hash_key(&mut self, key: HashKey) {
        self.by_ssrc = KeyedMap::with_hasher(key);
    }

    /// Stores the CNAME that the sender announces for one of its streams (RFC 3550 section 6.5.1).
    /// The first one stays, and all of its sources are forwarded under it.
    pub fn on_cname(&mut self, ssrc: u32, cname: &[u8]) {
        let own = self.cname.is_none() && self.stream_by_ssrc(ssrc).is_some();
        if let Some(cname) = cname_text(cname).filter(|_| own) {
            self.cname = Some(cname.into());
        }
    }

    /// Replaces the sources. Sources with a known id and streams with a known SSRC keep their slot
    /// and their state. For streams that are removed, the state that belongs to the key is
    /// remembered: a roll-over counter or replay window that was lost could not be recovered.
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
        // Only now, so that nothing is removed that is signalled again.
        self.retired.trim();
    }

    /// Adds or updates one encoding of a source.
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
            new.recall(&mut self.retired);
            self.streams.insert(new)
        };
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.rtx != rtx {
            stream.rtx = rtx;
            stream.recall_rtx(&mut self.retired);
        }
        stream.source = source;
        stream.encoding = encoding;
        stream.is_video = media == MediaType::Video;
        self.by_ssrc.insert(ssrc, (slot, false));
        if let Some(rtx) = rtx {
            self.by_ssrc.insert(rtx, (slot, true));
        }
    }

    /// Removes the streams whose SSRC is no longer signalled, and remembers what must not be lost
    /// of them and of changed retransmission SSRCs.
    fn retire_streams(&mut self, specs: &[SourceSpec]) {
        self.streams.retain(|_, stream| {
            let mut signalled = specs.iter().flat_map(|spec| &spec.encodings);
            let stays = signalled.find(|encoding| encoding.ssrc == stream.ssrc);
            match stays {
                None => stream.retire(&mut self.retired),
                Some(encoding) if encoding.rtx != stream.rtx => {
                    stream.retire_rtx(&mut self.retired);
                }
                Some(_) => {}
            }
            stays.is_some()
        });
    }

    /// Sets new keys. Streams start anew under them; the numbers under which they are forwarded
    /// continue.
    pub fn set_keys(&mut self, rx: RxContext) {
        self.rx = Some(rx);
        self.retired.clear();
        self.cname = None;
        for stream in self.streams.values_mut() {
            stream.srtp = None;
            stream.srtp_rtx = None;
            stream.seen = SeenWindow::default();
            stream.nack.restart();
            stream.stats = StreamStats::default();
            stream.begin_anew();
        }
    }

    /// Handles an SRTP packet: finds its stream, decrypts it in place and reads its metadata.
    /// Returns the length of the decrypted packet, and where it goes. `None`: it waits for the
    /// structure that its dependency descriptor refers to. Call [`Self::take_unparked`] after each
    /// packet.
    ///
    /// # Errors
    /// The reason why it is dropped.
    #[inline]
    pub fn on_rtp(
        &mut self,
        cx: &Context<'_>,
        mut gate: Gate<'_>,
        packet: &mut [u8],
    ) -> Result<(usize, Option<Accepted>), Drop> {
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
        let info = extensions.read(&mut stream.dependencies, &mut source.level, &mut meta);
        let ExtensionInfo { number, loudness: level, allocation, .. } = info;
        if let Some(allocation) = allocation.filter(|_| cx.believes_costs) {
            source.announce(allocation);
        }
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
        let wanted = source.is_wanted(stream.encoding);
        let mut arrival = Arrival::InOrder;
        if pt.nack && wanted {
            arrival = stream.nack.on_packet(cx.now, meta.index);
        } else {
            // Nobody misses packets that are missing meanwhile.
            stream.nack.restart();
        }
        let broken = arrival == Arrival::Break;
        let arrived = (meta.index, if let Arrival::Gap(gap) = arrival { gap } else { 0 });
        if stream.is_parking() {
            let unparked = stream.unpark(cx.now, info.has_structure().then_some(meta.index));
            self.unparked = unparked.map(|unparked| (at, unparked));
        }
        if let Some(frame) = info.early().filter(|_| wanted && !broken)
            && stream.park(cx.now, (pt, frame), (&meta, packet, wire_len))
        {
            return Ok((packet.len(), None));
        }
        let ends = stream.settle(cx, &mut gate, verdict, (source.spec.id, level), &mut meta)?;
        let opened = Opened { pt, packet, info: &info, wire_len, arrived, broken, ends };
        Ok((packet.len(), Some(self.accept(cx, at, &opened, meta)?)))
    }

    /// Returns whether the sender needs feedback that cannot wait for the next report: missing
    /// packets, a keyframe, or transport-wide feedback about more packets than can be remembered.
    pub fn is_urgent(&self, now: Instant, rtt: Duration) -> bool {
        self.twcc.as_ref().is_some_and(|t| t.is_full())
            || self.streams.values().any(|stream| stream.is_urgent(now, rtt))
    }

    /// Handles a receiver's need of a keyframe of an encoding, if a request can help: not for
    /// audio, nor for what is muted or sends nothing. Returns whether one will be requested.
    pub fn want_keyframe(&mut self, now: Instant, id: SourceId, encoding: u8) -> bool {
        let muted = self.mute.1;
        let Some(stream) = self.stream_mut(id, encoding) else { return false };
        !muted && stream.can_be_asked(now) && stream.keyframes.want(now)
    }

    /// Requests a keyframe of the highest encoding of the first video, which may soon be needed,
    /// unless one arrived lately: people who take turns speaking must not cost a keyframe each
    /// time.
    pub fn request_keyframe_ahead(&mut self, now: Instant) -> bool {
        let videos = self.sources.values().filter(|s| s.spec.media == MediaType::Video);
        let Some(first) = videos.min_by_key(|s| s.spec.id) else { return false };
        let (id, active) = (first.spec.id, first.active);
        let Some(highest) = active.checked_ilog2().and_then(|at| u8::try_from(at).ok()) else {
            return false;
        };
        let came = |s: &mut Stream| s.keyframes.came_within(now, AHEAD_INTERVAL);
        if self.stream_mut(id, highest).is_none_or(came) {
            return false;
        }
        self.want_keyframe(now, id, highest)
    }

    /// Ends steps of the rate meters. Calls `changed` with the slot of each source whose bitrate
    /// differs from what receivers' shards were told.
    pub fn step_rates(&mut self, steps: usize, mut changed: impl FnMut(SourceSlot)) {
        for stream in self.streams.values_mut().filter(|stream| stream.is_video) {
            for _ in 0..steps {
                stream.meter.step();
                if let Some(layers) = &mut stream.layers {
                    layers.step();
                }
            }
            let Some(source) = self.sources.get_mut(stream.source) else { continue };
            let rate = source.cost(stream.encoding, stream.meter.rate());
            let Some(reported) = source.rates.get_mut(usize::from(stream.encoding)) else {
                continue;
            };
            if reported.differs(rate) {
                *reported = rate;
                changed(stream.source);
            }
            if source.measure_layers(stream) {
                changed(stream.source);
            }
        }
    }

    /// Expires encodings that have ended while others of their source continue. Calls `changed`
    /// with the slot of each affected source.
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

/// Returns a CNAME that can be passed on: it must be text, and not so long that it is a cost to
/// every receiver.
pub fn cname_text(cname: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(cname).ok()?;
    let good = (1..=MAX_CNAME).contains(&text.len()) && !text.chars().any(char::is_control);
    good.then_some(text)
}

/// The metadata from a packet's header, and where its payload is.
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
