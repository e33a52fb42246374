//! The receiving side of a client: packets of each source, and what is missing.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rialto_codec_model::{Mode, Packet};
use rialto_rtp::Seq;
use rtcp::{reception_report::ReceptionReport, sender_report::SenderReport};
use rustc_hash::FxHashMap;

use super::{
    Context,
    screen::{Figures, Screen, Wanted},
};
use crate::{
    colibri,
    media::{
        packet::Parsed,
        stamp::{self, Stamp},
        vp8,
    },
    nack::Nacker,
    plan::Media,
    shared::Shared,
    track::{Arrival, Tracker, Unwrapper},
};

/// How often a keyframe is requested until one arrives.
const KEYFRAME_RETRY: Duration = Duration::from_millis(500);

/// The receiving side of a client.
pub struct Receiver {
    endpoint: usize,
    /// The source (an index in `sources`) that last arrived under an SSRC.
    owners: FxHashMap<u32, usize>,
    sources: Vec<Reception>,
    /// From a source (index into the plan) to its index in `sources`.
    places: FxHashMap<usize, usize>,
    /// Packets without a stamp: padding, probes.
    pub unstamped: u64,
}

/// One source, as this client receives it.
pub struct Reception {
    /// Index into the plan.
    pub source: usize,
    media: Media,
    /// Packets of each encoding, by their stamps.
    encodings: Vec<Encoding>,
    /// The RTP streams in which it arrived; with bridges that keep SSRCs, one.
    rtp: Vec<Inbound>,
    /// Totals.
    pub totals: ReceptionTotals,
    last_pli: Option<Instant>,
    /// Its mode and what would be seen of it, if it has layers.
    layers: Option<(Mode, Box<Screen>)>,
}

struct Encoding {
    stream: usize,
    tracker: Tracker,
}

/// Counters of one source at one receiver.
#[derive(Clone, Copy, Default, Debug)]
pub struct ReceptionTotals {
    /// Packets, retransmissions included.
    pub packets: u64,
    /// Bytes of them, above UDP.
    pub bytes: u64,
    /// Retransmissions with a payload.
    pub retransmissions: u64,
    /// Packets that arrived after they had been requested again.
    pub recovered: u64,
    /// When the first packet arrived, nanoseconds of the run's clock.
    pub first: Option<u64>,
    /// When the first keyframe began, nanoseconds of the run's clock.
    pub keyframe: Option<u64>,
    /// The source ended (RTCP BYE).
    pub goodbye: bool,
}

/// An RTP stream from the bridge.
struct Inbound {
    ssrc: u32,
    unwrapper: Unwrapper,
    tracker: Tracker,
    nacker: Nacker,
    jitter: f64,
    transit: Option<f64>,
    /// The origin of arrival times.
    first: Instant,
    /// Middle of the NTP time of the last sender report, and when it arrived.
    report: Option<(u32, Instant)>,
    reported: (u64, u64),
}

/// A decrypted RTP packet and its arrival.
pub struct Arrived<'a> {
    /// The plain packet.
    pub packet: &'a [u8],
    /// Its header.
    pub header: &'a Parsed,
    /// When it was read.
    pub at: Instant,
}

impl Receiver {
    /// The receiving half of an endpoint.
    pub fn new(endpoint: usize, shared: &Shared) -> Self {
        let plan = &shared.plan;
        let sources: Vec<_> =
            plan.received_by(endpoint).map(|source| Reception::new(source, shared)).collect();
        let places = sources.iter().enumerate().map(|(place, s)| (s.source, place)).collect();
        Self { endpoint, owners: FxHashMap::default(), sources, places, unstamped: 0 }
    }

    /// Handles a packet. Returns whether something is missing now.
    pub fn rtp(&mut self, arrived: &Arrived<'_>, context: &mut Context) -> bool {
        let header = arrived.header;
        let payload = arrived.packet.get(header.payload.clone()).unwrap_or_default();
        let stamp = Stamp::read(payload);
        let plan = &context.shared.plan;
        let stream = stamp.map(|s| s.stream as usize);
        let stream = stream.or_else(|| plan.ssrcs.get(&header.ssrc).map(|role| role.stream));
        let source = stream.and_then(|stream| Some(plan.streams.get(stream)?.source));
        let place = source.and_then(|source| self.places.get(&source));
        let Some(&place) = place else {
            self.unstamped += 1;
            return false;
        };
        let rtx = header.pt == colibri::RTX;
        let before = if rtx { None } else { self.owners.insert(header.ssrc, place) };
        if let Some(other) = before.filter(|before| *before != place)
            && let Some(other) = self.sources.get_mut(other)
        {
            // It lost its slot.
            other.restart();
        }
        let Some(source) = self.sources.get_mut(place) else { return false };
        if stamp.is_none() {
            self.unstamped += 1;
        }
        if source.layers.is_some() {
            let (wish, age) = context.shared.wish(self.endpoint, arrived.at);
            let measuring = context.shared.measuring.load(Ordering::Relaxed);
            source.show(arrived, payload, Wanted { wish, age, measuring }, &context.shared);
        }
        source.rtp(arrived, payload, stamp, context)
    }

    /// The packets to request again now: (SSRC, sequence numbers).
    pub fn missing(&mut self, now: Instant) -> Vec<(u32, Vec<u16>)> {
        let streams = self.sources.iter_mut().flat_map(|source| &mut source.rtp);
        let due = streams.map(|stream| (stream.ssrc, stream.nacker.due(now)));
        due.filter(|(_, seqs)| !seqs.is_empty()).collect()
    }

    /// Returns whether anything is missing.
    pub fn is_missing(&self) -> bool {
        self.sources.iter().flat_map(|s| &s.rtp).any(|stream| !stream.nacker.is_empty())
    }

    /// SSRCs of video that has had no keyframe so far; each is returned twice a second.
    pub fn undecodable(&mut self, now: Instant) -> Vec<u32> {
        self.sources.iter_mut().filter_map(|source| source.wants_keyframe(now)).collect()
    }

    /// SSRCs of video with layers that is frozen; each is returned twice a second.
    pub fn stuck(&mut self, now: Duration) -> Vec<u32> {
        self.sources.iter_mut().filter_map(|source| source.is_stuck(now)).collect()
    }

    /// Judges the packets that are old enough.
    pub fn settle(&mut self, now: Duration) {
        let screens = self.sources.iter_mut().filter_map(|source| source.layers.as_mut());
        screens.for_each(|(_, screen)| screen.settle(now));
    }

    /// Reception reports about everything received.
    pub fn reports(&mut self, now: Instant) -> Vec<ReceptionReport> {
        let streams = self.sources.iter_mut().flat_map(|source| &mut source.rtp);
        streams.map(|stream| stream.report(now)).collect()
    }

    /// Handles the bridge's report about a stream.
    pub fn sender_report(&mut self, report: &SenderReport, now: Instant) {
        let mut streams = self.sources.iter_mut().flat_map(|source| &mut source.rtp);
        if let Some(stream) = streams.find(|stream| stream.ssrc == report.ssrc) {
            stream.report = Some(((report.ntp_time >> 16) as u32, now));
        }
    }

    /// Handles the end of a stream.
    pub fn goodbye(&mut self, ssrc: u32, shared: &Shared) {
        let planned = shared.plan.ssrcs.get(&ssrc).and_then(|r| shared.plan.streams.get(r.stream));
        for source in &mut self.sources {
            let by_plan = planned.is_some_and(|stream| stream.source == source.source);
            if by_plan || source.rtp.iter().any(|stream| stream.ssrc == ssrc) {
                source.totals.goodbye = true;
            }
        }
    }

    /// The received sources.
    pub fn sources(&self) -> &[Reception] {
        &self.sources
    }
}

impl Reception {
    fn new(source: usize, shared: &Shared) -> Self {
        let plan = &shared.plan.sources[source];
        let encoding = |stream| Encoding { stream, tracker: Tracker::default() };
        Self {
            source,
            media: plan.media,
            encodings: plan.streams.clone().map(encoding).collect(),
            rtp: Vec::new(),
            totals: ReceptionTotals::default(),
            last_pli: None,
            layers: shared.plan.shape.layers.filter(|_| plan.media == Media::Video).map(|mode| {
                let lossy = shared.media.drop_received > 0.0 || shared.media.drop_sent > 0.0;
                (mode, Box::new(Screen::new(shared.plan.shape.wishes.len(), lossy)))
            }),
        }
    }

    /// Passes a packet of a video with layers to the model of its decoder.
    fn show(&mut self, arrived: &Arrived<'_>, payload: &[u8], wanted: Wanted, shared: &Shared) {
        let Some((mode, screen)) = &mut self.layers else { return };
        let header = arrived.header;
        let rtx = header.pt == colibri::RTX;
        let (seq, payload) = match (rtx, payload.split_first_chunk::<2>()) {
            (false, _) => (header.seq, payload),
            (true, Some((original, payload))) => (u16::from_be_bytes(*original), payload),
            (true, None) => return,
        };
        let packet = Packet {
            seq: Seq(seq),
            timestamp: header.timestamp,
            marker: header.marker,
            codec: mode.codec,
            payload: payload.get(..payload.len().saturating_sub(stamp::LEN)).unwrap_or_default(),
            descriptor: header.extension(arrived.packet, colibri::DESCRIPTOR),
        };
        let now = Duration::from_nanos(shared.nanos(arrived.at));
        let ssrc = (!rtx).then_some(header.ssrc);
        if screen.take(now, ssrc, &packet, arrived.packet.len(), wanted) {
            self.totals.keyframe.get_or_insert(now.as_nanos() as u64);
        }
    }

    fn restart(&mut self) {
        if let Some((_, screen)) = &mut self.layers {
            screen.restart();
        }
    }

    /// The SSRC of a video with layers if it is frozen.
    fn is_stuck(&mut self, now: Duration) -> Option<u32> {
        let (_, screen) = self.layers.as_mut()?;
        let ssrc = self.rtp.last()?.ssrc;
        screen.asks_for_keyframe(now).then_some(ssrc)
    }

    /// What would be seen of a video with layers.
    pub fn screen(&self) -> Option<&Figures> {
        self.layers.as_ref().map(|(_, screen)| screen.figures())
    }

    fn rtp(
        &mut self,
        arrived: &Arrived<'_>,
        payload: &[u8],
        stamp: Option<Stamp>,
        context: &mut Context,
    ) -> bool {
        let now = context.shared.nanos(arrived.at);
        let rtx = arrived.header.pt == colibri::RTX;
        self.totals.packets += 1;
        self.totals.bytes += arrived.packet.len() as u64;
        let (skipped, late) = if rtx {
            self.totals.retransmissions += u64::from(stamp.is_some());
            self.retransmitted(payload);
            (false, true)
        } else {
            self.original(arrived)
        };
        let Some(stamp) = stamp else { return skipped };
        self.totals.first.get_or_insert(now);
        let plain = self.media == Media::Video && self.layers.is_none();
        if plain && self.totals.keyframe.is_none() {
            let media = if rtx { payload.get(2..).unwrap_or_default() } else { payload };
            if vp8::starts_keyframe(media) {
                self.totals.keyframe = Some(now);
            }
        }
        let counted = self.count(stamp, &context.shared);
        if counted && !late && context.shared.measuring.load(Ordering::Relaxed) {
            let latency = now.saturating_sub(stamp.sent).max(1);
            context.latency.saturating_record(latency);
            context.recent.saturating_record(latency);
        }
        skipped
    }

    /// Tracks the RTP sequence. Returns whether numbers were skipped, and whether this one had
    /// been.
    fn original(&mut self, arrived: &Arrived<'_>) -> (bool, bool) {
        let ssrc = arrived.header.ssrc;
        let known = self.rtp.iter().position(|stream| stream.ssrc == ssrc);
        let at = known.unwrap_or_else(|| {
            self.rtp.push(Inbound::new(ssrc, arrived.at));
            self.rtp.len() - 1
        });
        let clock = if self.media == Media::Audio { 48_000.0 } else { 90_000.0 };
        let Some(stream) = self.rtp.get_mut(at) else { return (false, false) };
        stream.follow_jitter(arrived.header.timestamp, arrived.at, clock);
        let number = stream.unwrapper.unwrap(arrived.header.seq);
        match stream.tracker.insert(number) {
            Arrival::Ahead { missing: 0 } => (false, false),
            Arrival::Ahead { missing } => {
                // Only video is requested again, as in browsers.
                let ask = self.media == Media::Video;
                if ask {
                    stream.nacker.skipped(number - missing, number, arrived.at);
                }
                (ask, false)
            }
            Arrival::Late => {
                let recovered = stream.nacker.arrived(number);
                self.totals.recovered += u64::from(recovered);
                (false, recovered)
            }
            Arrival::Duplicate | Arrival::Ancient => (false, true),
        }
    }

    /// A retransmission (RFC 4588) fills the gap in the stream that it belongs to.
    fn retransmitted(&mut self, payload: &[u8]) {
        let Some(&original) = payload.first_chunk::<2>() else { return };
        let Some(stream) = self.rtp.last_mut() else { return };
        let number = stream.unwrapper.unwrap(u16::from_be_bytes(original));
        if stream.tracker.insert(number) == Arrival::Late {
            self.totals.recovered += u64::from(stream.nacker.arrived(number));
        }
    }

    /// Counts the packet once. Returns whether it was new.
    fn count(&mut self, stamp: Stamp, shared: &Shared) -> bool {
        let stream = stamp.stream as usize;
        let state = shared.streams.get(stream);
        if state.is_none_or(|state| stamp.index >= state.end.load(Ordering::Acquire)) {
            return false;
        }
        let Some(encoding) = self.encodings.iter_mut().find(|e| e.stream == stream) else {
            return false;
        };
        matches!(encoding.tracker.insert(stamp.index), Arrival::Ahead { .. } | Arrival::Late)
    }

    fn wants_keyframe(&mut self, now: Instant) -> Option<u32> {
        let plain = self.media == Media::Video && self.layers.is_none();
        let waits = plain && self.totals.keyframe.is_none();
        let ssrc = self.rtp.last()?.ssrc;
        if !waits || self.last_pli.is_some_and(|last| now < last + KEYFRAME_RETRY) {
            return None;
        }
        self.last_pli = Some(now);
        Some(ssrc)
    }

    /// Unique packets, packets that should have arrived, and packets that arrived twice, up to
    /// where the source ended. A source with several encodings, or layers, is counted by RTP
    /// sequence numbers, because a bridge forwards one encoding at a time, and only the wanted
    /// layers.
    pub fn arrivals(&self, shared: &Shared) -> (u64, u64, u64) {
        let unique = self.encodings.iter().map(|e| e.tracker.unique).sum::<u64>();
        let duplicates = self.encodings.iter().map(|e| e.tracker.duplicates).sum();
        let expected = match self.encodings.as_slice() {
            [only] if self.layers.is_none() => {
                only.tracker.expected(shared.stream_end(only.stream))
            }
            _ => unique + self.rtp.iter().map(|stream| stream.tracker.lost(0)).sum::<u64>(),
        };
        (unique, expected, duplicates)
    }

    /// Packets that have not arrived although later ones have; by RTP sequence numbers for
    /// simulcast and layers.
    pub fn gaps(&self) -> u64 {
        match self.encodings.as_slice() {
            [only] if self.layers.is_none() => only.tracker.lost(0),
            _ => self.rtp.iter().map(|stream| stream.tracker.lost(0)).sum(),
        }
    }

    /// Unique packets of each encoding.
    pub fn encodings(&self) -> Vec<u64> {
        self.encodings.iter().map(|e| e.tracker.unique).collect()
    }
}

impl Inbound {
    fn new(ssrc: u32, first: Instant) -> Self {
        Self {
            ssrc,
            first,
            unwrapper: Unwrapper::default(),
            tracker: Tracker::default(),
            nacker: Nacker::default(),
            jitter: 0.0,
            transit: None,
            report: None,
            reported: (0, 0),
        }
    }

    /// RFC 3550 section 6.4.1.
    fn follow_jitter(&mut self, timestamp: u32, at: Instant, clock: f64) {
        let arrival = at.saturating_duration_since(self.first).as_secs_f64() * clock;
        let transit = arrival - f64::from(timestamp);
        if let Some(last) = self.transit.replace(transit) {
            let change = (transit - last).abs();
            if change < clock {
                self.jitter += (change - self.jitter) / 16.0;
            }
        }
    }

    fn report(&mut self, now: Instant) -> ReceptionReport {
        let (expected, unique) = (self.tracker.expected(0), self.tracker.unique);
        let (expected_before, unique_before) =
            std::mem::replace(&mut self.reported, (expected, unique));
        let interval = expected.saturating_sub(expected_before);
        let lost = interval.saturating_sub(unique.saturating_sub(unique_before));
        let (lsr, delay) = self.report.map_or((0, 0), |(ntp, at)| {
            let delay = now.saturating_duration_since(at).as_secs_f64() * 65_536.0;
            (ntp, delay as u32)
        });
        ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: (lost * 256).checked_div(interval).unwrap_or(0).min(255) as u8,
            total_lost: self.tracker.lost(0).min(0x7f_ffff) as u32,
            last_sequence_number: self.tracker.next().saturating_sub(1) as u32,
            jitter: self.jitter as u32,
            last_sender_report: lsr,
            delay,
        }
    }
}
