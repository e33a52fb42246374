//! One encoding of a source as it is received: the state that is kept from packet to packet.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits, and lengths of one datagram"
)]

use std::time::{Duration, Instant};

use rialto_media::{Codec, Drop, PtInfo, SourceId, Tables};
use rialto_rtp::{
    self as rtp, RtpHeader,
    codec::{
        FrameLayers, MAX_SPATIAL, Resolution,
        dd::{DependencyFrame, DependencyReader},
    },
};
use rialto_srtp::{RxContext, RxStream, SrtpError};

use super::{
    audio::{Gate, Unopened, Verdict},
    frames::FrameClock,
    gap::Edge,
    inspect::{self, EncodingInfo},
    keyframe::EncodingRequests,
    layers::LayerMeters,
    meta::PacketMeta,
    nack::NackTracker,
    numbers::ForwardNumbers,
    parked::{Parked, Unparked, Waited},
    rate::RateMeter,
    retired::{RetiredSsrcs, SsrcState},
    seen::SeenWindow,
    sender::{Context, LocalSource},
    silence::SilenceLimit,
    stats::StreamStats,
    twcc::nearest,
};
use crate::slots::SourceSlot;

/// Of packets that are dropped undecrypted, one is decrypted whenever its number is this far ahead
/// of the last authentic one. So the roll-over counter stays known however long that lasts, and
/// 28,000 more numbers may be lost in a row (RFC 3711 section 3.3.1 allows 32,767).
const OPEN_WHEN_AHEAD: i16 = 1 << 12;

/// An encoding that has sent nothing for this long may have ended.
const ENCODING_SILENT: Duration = Duration::from_secs(1);
/// It has ended if each of the others has sent this many frames since: a still screen is sent in
/// all encodings at once, every few seconds.
const FRAMES_WITHOUT: u64 = 3;
/// And if its silence is this many times as long as its last intervals between frames.
const INTERVALS_WITHOUT: u32 = 3;
/// A source that has sent nothing for this long is not asked for keyframes.
const SOURCE_SILENT: Duration = Duration::from_secs(10);

/// One encoding of a source as it is received.
#[derive(Debug)]
pub struct Stream {
    /// Its SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx: Option<u32>,
    /// The key of its source in [`super::Sender::sources`].
    pub source: SourceSlot,
    /// Its encoding.
    pub encoding: u8,
    /// Whether it carries video.
    pub is_video: bool,
    pub(super) srtp: Option<RxStream>,
    pub(super) srtp_rtx: Option<RxStream>,
    pub(super) seen: SeenWindow,
    /// Missing packets.
    pub nack: NackTracker,
    /// Counters for reports.
    pub stats: StreamStats,
    /// When a sender report about it was last accepted.
    pub reported: Option<Instant>,
    /// Keyframe requests.
    pub keyframes: EncodingRequests,
    /// When its last packet arrived.
    pub last_packet: Option<Instant>,
    pub(super) frames: FrameClock,
    /// Measures its bitrate.
    pub(super) meter: RateMeter,
    /// Whether it has shown a keyframe.
    keyframe_seen: bool,
    /// Frame height, from the last keyframe.
    pub height: Option<u16>,
    /// Measures its layers, if it has any.
    pub(super) layers: Option<Box<LayerMeters>>,
    /// Reads its dependency descriptors.
    pub(super) dependencies: DependencyReader,
    /// Packets that arrived before the structure that they refer to.
    parked: Option<Box<Parked>>,
    /// Its descriptors refer to a structure that it never sent.
    unstructured: bool,
    /// Its highest spatial layer, as far as its descriptors say.
    top: u8,
    /// Index of the newest packet with a structure.
    structured_at: Option<u64>,
    /// The newest packet.
    edge: Option<Edge>,
    /// Timestamp of the last unwanted packet, and the number of the newest one.
    passed: Option<(u32, u64)>,
    /// Clock of the last packet's payload type.
    pub clock_rate: u32,
    pub(super) numbers: ForwardNumbers,
}

impl Stream {
    pub(super) fn new(ssrc: u32, rtx: Option<u32>, source: SourceSlot, encoding: u8) -> Self {
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
            parked: None,
            unstructured: false,
            top: MAX_SPATIAL - 1,
            structured_at: None,
            edge: None,
            passed: None,
            clock_rate: 90_000,
            numbers: ForwardNumbers::default(),
        }
    }

    /// Assigns the number under which a packet is forwarded. Returns false if it is not forwarded.
    pub(super) fn number(
        &mut self,
        meta: &mut PacketMeta,
        level: Option<u8>,
        limit: SilenceLimit,
    ) -> bool {
        let level = level.filter(|_| !self.is_video);
        let forwarded = self.numbers.assign(meta.index, level, limit);
        if let Some(forwarded) = forwarded {
            meta.index = forwarded.number;
            meta.resumes = forwarded.resumes;
        }
        forwarded.is_some()
    }

    /// Parks a packet that refers to a structure that has not arrived yet. Returns false if it
    /// cannot wait.
    #[cold]
    pub(super) fn park(
        &mut self,
        now: Instant,
        (pt, frame): (&PtInfo, &DependencyFrame),
        (meta, packet, wire_len): (&PacketMeta, &[u8], usize),
    ) -> bool {
        let structured = frame.structured;
        // A stream that begins a keyframe without a structure never sends one.
        self.unstructured |=
            !structured && inspect::is_key_without_structure(pt, packet, meta, frame);
        let parks = (structured || !self.unstructured)
            && self.is_video
            && meta.payload_len > 0
            && self.parked.as_ref().is_none_or(|parked| parked.has_room());
        if parks {
            let new = || Box::new(Parked::new(Waited::none(now), structured));
            let parked = self.parked.get_or_insert_with(new);
            self.last_packet = Some(now);
            if !structured || !pt.nack {
                // Nothing shows that a structure before the first packet of all is missing, and
                // without retransmissions it never arrives.
                let _ = self.keyframes.want(now);
            }
            parked.push(*meta, packet, wire_len);
        }
        parks
    }

    /// Parks a packet again, if the structure that arrived is not the one that it refers to.
    /// Returns false if it has waited for long enough, and its frame is lost.
    #[cold]
    pub(super) fn park_again(&mut self, now: Instant, unparked: &Unparked<'_>) -> bool {
        let Unparked { meta, packet, wire_len, waited } = unparked;
        let has_room = self.parked.as_ref().is_none_or(|parked| parked.has_room());
        let stays = waited.may_wait() && has_room;
        if stays {
            let again = || Box::new(Parked::new(*waited, true));
            self.parked.get_or_insert_with(again).push(*meta, packet, *wire_len);
        } else {
            self.nack.lose_until(meta.index);
            let _ = self.keyframes.want(now);
        }
        stays
    }

    /// Returns the packets that waited for a structure, if it came with the packet of this index,
    /// or if it has to be given up: then their frames are lost.
    #[cold]
    pub(super) fn unpark(&mut self, now: Instant, came: Option<u64>) -> Option<Box<Parked>> {
        let parked = self.parked.as_ref()?;
        let ready = came.is_some() || self.unstructured && !parked.structured;
        if !ready && !parked.is_over(now) && parked.has_room() {
            return None;
        }
        let mut parked = self.parked.take()?;
        // Older packets refer to another structure, which has not arrived.
        parked.give_up_before(came.unwrap_or(0));
        if !ready {
            self.unstructured |= !parked.structured;
            parked.give_up_before(u64::MAX);
            self.nack.lose_until(parked.newest());
            let _ = self.keyframes.want(now);
        }
        Some(parked)
    }

    /// Tracks losses on the way to the bridge: what a gap of `gap` packets before this one may have
    /// contained, and which earlier gaps were given up by now.
    pub(super) fn follow_losses(&mut self, (index, gap): (u64, u64), meta: &mut PacketMeta) {
        let edge = Edge::new(index, meta);
        if meta.keyframe {
            self.nack.on_keyframe(index);
        }
        if let Some(before) = self.edge.filter(|edge| gap > 0 && edge.index + gap + 1 == index) {
            self.nack.attribute(before.index + 1, before.missing_before(&edge));
        }
        if self.edge.is_none_or(|edge| edge.index < index) {
            self.edge = Some(edge);
        }
        // A stream that shows no keyframes cannot show one that repairs it either.
        if self.keyframe_seen {
            meta.lost = self.nack.take_lost(index);
        }
    }

    /// Returns whether packets wait for a structure.
    #[inline]
    pub(super) fn is_parking(&self) -> bool {
        self.parked.is_some()
    }

    /// Handles an interruption: the next packet continues after the last forwarded one.
    pub(super) fn interrupt(&mut self) {
        (self.parked, self.edge) = (None, None);
        self.numbers.interrupt();
    }

    /// Starts anew under other keys, with new structures.
    pub(super) fn begin_anew(&mut self) {
        (self.dependencies, self.unstructured) = (DependencyReader::default(), false);
        self.interrupt();
    }

    /// Handles the rest of a frame whose first packets were dropped because nobody wanted them. It
    /// is no keyframe to begin with, since H.264's parameter sets come before it; neither is one
    /// that comes late, since what follows it was dropped.
    pub(super) fn mark_passed(&mut self, wanted: bool, meta: &mut PacketMeta) {
        if !wanted {
            let newest = self.passed.map_or(0, |(_, newest)| newest);
            self.passed = Some((meta.timestamp, newest.max(meta.index)));
        } else if let Some((timestamp, newest)) = self.passed
            && (timestamp == meta.timestamp || meta.index < newest)
        {
            meta.keyframe = false;
        }
    }

    /// An encrypted audio packet, with the state of its stream.
    #[inline]
    pub(super) fn unopened<'a>(
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

    /// Numbers a decrypted packet, or decides to drop it and returns why. In case of an error,
    /// nothing of it counts.
    #[inline]
    pub(super) fn settle(
        &mut self,
        cx: &Context<'_>,
        gate: &mut Gate<'_>,
        verdict: Verdict,
        (source, level): (SourceId, Option<u8>),
        meta: &mut PacketMeta,
    ) -> Result<Option<Drop>, Drop> {
        if let Verdict::Listen(reason) = verdict {
            self.numbers.pass();
            gate.record_dropped(cx.now, source, level);
            return Ok(Some(reason));
        }
        if !self.number(meta, level, cx.silence) {
            return if self.is_video { Err(Drop::Replayed) } else { Ok(Some(Drop::Silence)) };
        }
        meta.audio.included_only = verdict == Verdict::ForwardToIncluding;
        if verdict == Verdict::Forward && !self.is_video {
            meta.audio.energy = gate.record(cx.now, source, level);
        }
        Ok(None)
    }

    /// Applies what a packet shows of its codec. Returns the size of its frames if it says one, and
    /// whether the encoding has other layers than before.
    pub(super) fn see(
        &mut self,
        now: Instant,
        shown: &EncodingInfo,
        len: usize,
        meta: &mut PacketMeta,
    ) -> (Option<Resolution>, bool) {
        if !meta.keyframes_known {
            return (None, false);
        }
        // A late packet describes an earlier state.
        let newest = self.structured_at.is_none_or(|at| meta.index >= at);
        let heights = shown.heights.filter(|_| newest);
        if let Some(resolution) = shown.resolution.filter(|_| newest) {
            self.height = Some(resolution.height);
        }
        if meta.keyframe {
            self.keyframe_seen = true;
            self.keyframes.on_keyframe(now);
        }
        meta.keyframes_hidden = !self.keyframe_seen;
        if let Some(heights) = heights {
            self.top = inspect::top(heights);
            self.structured_at = Some(meta.index);
        }
        let own = shown.heights.filter(|_| !newest).map(inspect::top);
        meta.top = own.unwrap_or(self.top);
        let FrameLayers { spatial, temporal, .. } = meta.layers;
        let layered = spatial > 0 || temporal > 0 || shown.heights.is_some();
        if !layered && self.layers.is_none() {
            return (shown.resolution, false);
        }
        let layers = self.layers.get_or_insert_default();
        let mut changed = heights.is_some_and(|heights| layers.on_heights(heights));
        changed |= !meta.prefix && layers.on_packet(len, meta);
        (shown.resolution, changed)
    }

    /// Handles a packet that is dropped whatever its content. It is decrypted only if that is
    /// needed to keep the roll-over counter known.
    pub(super) fn pass_over(
        &mut self,
        rx: Option<&RxContext>,
        (header, is_rtx): (&RtpHeader, bool),
        packet: &mut [u8],
        reason: Drop,
    ) -> Drop {
        let muted = reason == Drop::ForceMuted;
        // Its header alone says that it is not to be heard.
        let unheard = matches!(reason, Drop::Silence | Drop::NotLoudest | Drop::Unwanted);
        if unheard && self.srtp.as_ref().is_some_and(|s| s.ahead(header.sequence.0) > 0) {
            self.numbers.pass();
            self.stats.pass();
            self.nack.restart();
        }
        if muted && !is_rtx {
            // Muted packets must not be requested later either.
            self.interrupt();
            self.nack.restart();
        }
        let state = if is_rtx { &mut self.srtp_rtx } else { &mut self.srtp };
        let follow = state.as_ref().is_none_or(|s| s.ahead(header.sequence.0) >= OPEN_WHEN_AHEAD);
        // A stray audio packet (a dialled digit) is no reason for a gap, if it is authentic.
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

    /// Stores the state that must outlive its signalling.
    pub(super) fn retire(&mut self, retired: &mut RetiredSsrcs) {
        if let Some(srtp) = self.srtp.take() {
            let (seen, numbers) = (self.seen.clone(), self.numbers);
            retired.put(self.ssrc, SsrcState { srtp, seen, numbers });
        }
        self.retire_rtx(retired);
    }

    pub(super) fn retire_rtx(&mut self, retired: &mut RetiredSsrcs) {
        if let Some((ssrc, srtp)) = self.rtx.zip(self.srtp_rtx.take()) {
            let (seen, numbers) = (SeenWindow::default(), ForwardNumbers::default());
            retired.put(ssrc, SsrcState { srtp, seen, numbers });
        }
    }

    /// Restores the state of its SSRC under the same key.
    pub(super) fn recall(&mut self, retired: &mut RetiredSsrcs) {
        if let Some(before) = retired.take(self.ssrc) {
            self.srtp = Some(before.srtp);
            self.seen = before.seen;
            self.numbers = before.numbers;
            self.numbers.interrupt();
        }
        self.recall_rtx(retired);
    }

    pub(super) fn recall_rtx(&mut self, retired: &mut RetiredSsrcs) {
        self.srtp_rtx = self.rtx.and_then(|rtx| retired.take(rtx)).map(|before| before.srtp);
    }

    pub(super) fn is_urgent(&self, now: Instant, rtt: Duration) -> bool {
        !self.nack.is_empty() || self.keyframes.is_due(now, rtt)
    }

    /// Returns whether a keyframe can be requested: it is a video that sent something lately.
    pub(super) fn can_be_asked(&self, now: Instant) -> bool {
        let lately = |at| now.saturating_duration_since(at) < SOURCE_SILENT;
        self.is_video && self.last_packet.is_some_and(lately)
    }

    /// Returns whether it has ended while the source's other encodings continue. `frames` counts
    /// frames of all encodings; `others` is the number of other active encodings.
    pub(super) fn has_ended(&self, now: Instant, frames: u64, others: u32) -> bool {
        let Some(last) = self.last_packet else { return true };
        let silence = now.saturating_duration_since(last);
        silence >= ENCODING_SILENT
            && silence >= self.frames.interval.saturating_mul(INTERVALS_WITHOUT)
            && frames.saturating_sub(self.frames.of_all)
                >= FRAMES_WITHOUT * u64::from(others.max(1))
    }
}

/// The reason under which an SRTP error is counted.
pub fn drop_reason(error: SrtpError) -> Drop {
    match error {
        SrtpError::Replay | SrtpError::TooOld => Drop::Replayed,
        SrtpError::Short => Drop::MalformedRtp,
        _ => Drop::Unauthenticated,
    }
}

/// Restores the header of the original packet (RFC 4588 section 4) and returns its payload type.
pub(super) fn unwrap_rtx<'t>(
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
        // It is from before.
        return Err(Drop::Replayed);
    }
    meta.index = nearest(newest, original.0);
    meta.payload_start += rtp::rtx::OSN_LEN as u16;
    meta.payload_len = meta.payload_len.saturating_sub(rtp::rtx::OSN_LEN as u16);
    meta.payload_type = apt;
    tables.payload_type(apt).ok_or(Drop::UnknownPayloadType)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A retransmitted structure of an older keyframe arrives after that of a newer one.
    #[test]
    fn an_older_structure_that_comes_late_is_not_the_newest() {
        let mut stream = Stream::new(1, None, SourceSlot::default(), 0);
        let mut see = |index: u64, keyframe: bool, heights: Option<[u16; 4]>| {
            let mut meta = PacketMeta {
                index,
                keyframe,
                keyframes_known: true,
                timestamp: index as u32 * 3_000,
                payload_len: 100,
                ..PacketMeta::default()
            };
            stream.see(
                Instant::now(),
                &EncodingInfo { heights, ..EncodingInfo::default() },
                100,
                &mut meta,
            );
            meta.top
        };
        assert_eq!(see(20, true, Some([180, 360, 720, 0])), 2);
        assert_eq!(see(10, true, Some([180, 0, 0, 0])), 0);
        assert_eq!(see(21, false, None), 2);
    }

    #[test]
    fn under_other_keys_structures_of_before_describe_nothing() {
        let mut stream = Stream::new(1, None, SourceSlot::default(), 0);
        // One template and decode target, without chains: a keyframe of number 300, and a frame
        // behind it.
        let key = [0xc0, 1, 44, 0x80, 0, 0xe0];
        assert!(stream.dependencies.read(&key).is_some_and(|frame| frame.layers.is_some()));
        let next = |stream: &mut Stream| stream.dependencies.read(&[0xc0, 1, 45]).unwrap();
        assert!(next(&mut stream).layers.is_some());
        stream.unstructured = true;
        stream.begin_anew();
        assert!(!next(&mut stream).structured && next(&mut stream).early && !stream.unstructured);
    }

    #[test]
    fn a_keyframe_is_asked_for_at_once_where_a_structure_is_not_sent_again() {
        let now = Instant::now();
        let asks = |nack: bool| {
            let (media, codec) = (rialto_media::MediaType::Video, Codec::Av1);
            let pt = PtInfo { media, codec, clock_rate: 90_000, nack };
            let mut stream = Stream::new(1, None, SourceSlot::default(), 0);
            stream.is_video = true;
            let read = stream.dependencies.read(&[0xc0, 0, 7]).unwrap();
            let frame = DependencyFrame { structured: true, ..read };
            let meta = PacketMeta { payload_len: 1, ..PacketMeta::default() };
            assert!(stream.park(now, (&pt, &frame), (&meta, &[0], 1)));
            stream.keyframes.is_wanted()
        };
        assert!(asks(false) && !asks(true), "what is sent again needs none");
    }
}
