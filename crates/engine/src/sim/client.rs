//! A client of the simulated world: it sends its tracks, requests missing packets, answers
//! requests, and records what it receives.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rialto_media::{EndpointId, Extension, MediaType, SourceId, SourceSpec};
use rialto_rtp::{
    self as rtp, ExtSeq, RtpHeader, Seq, SeqUnwrapper,
    codec::red,
    rtcp::{ReportBlock, Rtcp, RtcpPackets, RtcpWriter, ntp},
    rtx,
};
use rialto_srtp::{RxContext, RxStream, TxContext};

use super::{
    ccfb::CongestionRecorder,
    codec::{Body, Decoder, Truth},
    media::{CodecNumbers, Numbering, Plain, Track},
};
use crate::ingress::twcc::{self, TwccRecorder};

/// Time until a missing packet is requested, and requested again.
const NACK_INTERVAL: Duration = Duration::from_millis(60);
/// Most requests for one packet.
const NACK_TRIES: u8 = 12;
/// A larger gap is a new start.
const MAX_GAP: u64 = 500;
/// The wall clock of every client at the start.
const WALL_CLOCK: Duration = Duration::from_secs(1_700_000_000);

/// The time in a client's receiver reference reports (RFC 3611 section 4.4).
pub const REFERENCE: u64 = 0x1122_3344_5566_7788;

/// What was received of one source.
#[derive(Debug)]
pub struct Incoming {
    /// The source.
    pub spec: SourceSpec,
    /// Every packet received, by its number in the receiver's space.
    pub got: BTreeMap<u64, (Body, u32)>,
    /// The codec's running numbers of the video among it.
    numbers: BTreeMap<u64, CodecNumbers>,
    /// Packets received as redundant audio, and blocks of other packets in them.
    pub redundant: (u32, u32),
    /// Sender reports: NTP time and RTP timestamp.
    pub reports: Vec<(u64, u32)>,
    /// The sender's CNAME, as last announced.
    pub cname: Option<String>,
    /// Whether it ended with a BYE.
    pub ended: bool,
    /// Its decoder, if it has layers.
    pub screen: Option<Decoder>,
    pub(super) mid: String,
    /// It is a slot: sources come and go in it.
    slot: bool,
    unwrapper: SeqUnwrapper,
    highest: Option<u64>,
    missing: BTreeMap<u64, (Instant, u8)>,
    last_report: Option<(u32, Instant)>,
}

/// Counts of RTCP from the bridge to a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// Packets requested again.
    pub nacks: u32,
    /// Requests for keyframes.
    pub keyframe_requests: u32,
    /// Transport-wide feedback packets.
    pub transport_feedback: u32,
    /// Packets that it reported as missing.
    pub told_missing: u32,
    /// Packets lost according to the last reports, over all streams.
    pub told_lost: u32,
    /// Report blocks about what the client sends.
    pub report_blocks: u32,
    /// Packets that could not be decrypted, or were not for us.
    pub refused: u32,
    /// Answers to [`REFERENCE`].
    pub round_trips: u32,
    /// Packets of which it had to ask more than once to be sent them again.
    pub asked_twice: u32,
}

/// A client of the simulated world.
#[derive(Debug)]
pub struct Client {
    /// Its endpoint.
    pub id: EndpointId,
    /// Where it is.
    pub addr: SocketAddr,
    /// What it negotiated.
    pub numbering: Numbering,
    /// It negotiated redundant audio too.
    pub red: bool,
    /// How long it waits before it requests a missing packet.
    pub asks_after: Duration,
    /// The loss that it claims in its reports, of 256.
    pub claims_loss: u8,
    /// What it sends.
    pub tracks: Vec<Track>,
    /// What it no longer sends.
    pub former: Vec<Track>,
    /// What it receives, by source.
    pub incoming: BTreeMap<SourceId, Incoming>,
    /// Counts of RTCP from the bridge.
    pub heard: Heard,
    /// Its SSRCs about which it got reception reports.
    pub reported: BTreeSet<u32>,
    /// If set, media is stored here as it arrived, decrypted, and not processed.
    pub tape: Option<Vec<Vec<u8>>>,
    pub(super) next_media: BTreeMap<SourceId, Instant>,
    pub(super) next_report: Instant,
    pub(super) next_nack: Instant,
    pub(super) next_feedback: Instant,
    /// Whether it sends the feedback that it negotiated.
    pub gives_feedback: bool,
    arrivals: TwccRecorder,
    /// It negotiated congestion control feedback (RFC 8888) instead.
    pub(super) congestion: Option<CongestionRecorder>,
    feedback_count: u8,
    tx: TxContext,
    pub(super) rx: RxContext,
    streams: HashMap<u32, Option<RxStream>>,
    pub(super) by_ssrc: HashMap<u32, (SourceId, bool)>,
    transport: u16,
    pub(super) start: Instant,
}

impl Client {
    pub(super) fn new(
        id: EndpointId,
        addr: SocketAddr,
        (tx, rx): (TxContext, RxContext),
        start: Instant,
        now: Instant,
    ) -> Self {
        Self {
            id,
            addr,
            numbering: Numbering(id.0 as u8),
            red: false,
            asks_after: Duration::from_millis(15),
            claims_loss: 0,
            tracks: Vec::new(),
            former: Vec::new(),
            incoming: BTreeMap::new(),
            heard: Heard::default(),
            reported: BTreeSet::new(),
            tape: None,
            next_media: BTreeMap::new(),
            next_report: now + Duration::from_millis(200),
            next_nack: now,
            next_feedback: now,
            gives_feedback: true,
            arrivals: TwccRecorder::new(now),
            congestion: None,
            feedback_count: 0,
            tx,
            rx,
            streams: HashMap::new(),
            by_ssrc: HashMap::new(),
            transport: 0,
            start,
        }
    }

    /// Expects packets under the SSRCs of a slot from now on. `of` stands for whichever source is
    /// in it.
    pub(super) fn expect_slot(&mut self, of: &SourceSpec, mid: &str) {
        self.expect(of, mid);
        if let Some(incoming) = self.incoming.get_mut(&of.id) {
            incoming.slot = true;
        }
    }

    pub(super) fn expect(&mut self, spec: &SourceSpec, mid: &str) {
        if let Some(encoding) = spec.encodings.first() {
            self.by_ssrc.insert(encoding.ssrc, (spec.id, false));
            if let Some(rtx) = encoding.rtx {
                self.by_ssrc.insert(rtx, (spec.id, true));
            }
        }
        self.incoming.entry(spec.id).or_insert_with(|| Incoming {
            spec: spec.clone(),
            got: BTreeMap::new(),
            numbers: BTreeMap::new(),
            redundant: (0, 0),
            reports: Vec::new(),
            cname: None,
            ended: false,
            screen: None,
            slot: false,
            mid: mid.to_owned(),
            unwrapper: SeqUnwrapper::new(),
            highest: None,
            missing: BTreeMap::new(),
            last_report: None,
        });
    }

    /// When it next has something to do.
    pub(super) fn next_timeout(&self) -> Instant {
        let media = self.next_media.values().min().copied();
        let own = [self.next_report, self.next_nack, self.next_feedback];
        media.into_iter().chain(own).min().unwrap_or(self.next_report)
    }

    /// Returns what it sends at `now`.
    pub(super) fn on_timeout(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let since = now - self.start;
        for track in &mut self.tracks {
            let Some(next) = self.next_media.get_mut(&track.spec.id).filter(|at| **at <= now)
            else {
                continue;
            };
            *next += track.interval();
            for plain in track.make_frame(since, &mut self.transport) {
                out.push(seal(&self.tx, &plain));
            }
        }
        if self.next_report <= now {
            self.next_report = now + Duration::from_millis(500);
            out.extend(self.report(now));
        }
        if self.next_nack <= now {
            self.next_nack = now + Duration::from_millis(20);
            out.extend(self.nacks(now));
            out.extend(self.keyframe_requests(now));
        }
        if self.next_feedback <= now {
            self.next_feedback = now + twcc::INTERVAL;
            out.extend(self.feedback(now));
        }
        out
    }

    /// Transport-wide feedback about arrivals since the last.
    fn feedback(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.gives_feedback {
            return None;
        }
        if let Some(mut recorder) = self.congestion.take() {
            let start = self.start;
            let report = self.rtcp(|w| recorder.report(now, start, w));
            self.congestion = Some(recorder);
            return report;
        }
        let (mut base, mut packets) = (None, Vec::new());
        self.arrivals.take(now, |first, arrivals| {
            (base, packets) = (Some(ExtSeq(first)), arrivals.to_vec());
            arrivals.len()
        });
        let (mut base, mut rest) = (base?, packets.as_slice());
        let mut count = self.feedback_count;
        let out = self.rtcp(|w| {
            while let Ok(taken) = w.transport_cc(1, 2, count, base, rest) {
                count = count.wrapping_add(1);
                let Some(last) = taken.checked_sub(1).and_then(|t| rest.get(t)) else { break };
                base = ExtSeq(last.seq.0 + 1);
                rest = rest.get(taken..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
            }
        });
        self.feedback_count = count;
        out
    }

    /// Stops sending media.
    pub fn fall_silent(&mut self) {
        self.next_media.clear();
    }

    /// Requests a keyframe of a source.
    pub fn ask_for_keyframe(&mut self, source: SourceId) -> Option<Vec<u8>> {
        let ssrc = self.incoming.get(&source)?.spec.encodings.first()?.ssrc;
        self.rtcp(|w| {
            let _ = w.receiver_report(1, &[]);
            let _ = w.pli(1, ssrc);
        })
    }

    /// Any compound packet, encrypted.
    pub fn rtcp(&mut self, write: impl FnOnce(&mut RtcpWriter<'_>)) -> Option<Vec<u8>> {
        let mut buf = vec![0; 1_400];
        let mut writer = RtcpWriter::new(&mut buf[..1_300]);
        write(&mut writer);
        let len = writer.len();
        let len = self.tx.seal_rtcp(&mut buf, len).ok()?;
        buf.truncate(len);
        Some(buf)
    }

    /// A packet, encrypted: for tests that make their own.
    pub fn seal(&self, plain: &Plain) -> Vec<u8> {
        seal(&self.tx, plain)
    }

    /// Any bytes encrypted as RTP under an index; `None` if they cannot be an SRTP packet.
    pub fn seal_anything(&self, plain: &[u8], index: u64) -> Option<Vec<u8>> {
        let header = RtpHeader::parse(plain).ok()?;
        let mut bytes = plain.to_vec();
        bytes.resize(plain.len() + self.tx.profile().rtp_overhead(), 0);
        let len = self.tx.seal_rtp(&mut bytes, header.len, plain.len(), index, header.ssrc).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }

    /// Any bytes encrypted as RTCP; `None` if they cannot be an SRTCP packet.
    pub fn seal_any_rtcp(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = plain.to_vec();
        bytes.resize(plain.len() + 64, 0);
        let len = self.tx.seal_rtcp(&mut bytes, plain.len()).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }

    /// Returns whether packets under an SSRC are for it.
    pub(super) fn expects(&self, ssrc: u32) -> bool {
        self.by_ssrc.contains_key(&ssrc)
    }

    fn report(&mut self, now: Instant) -> Option<Vec<u8>> {
        let since = now - self.start;
        let time = ntp::from_unix(WALL_CLOCK + since);
        let blocks: Vec<ReportBlock> = self
            .incoming
            .values()
            .filter_map(|i| {
                let (last_sr, at) = i.last_report.unwrap_or((0, now));
                Some(ReportBlock {
                    ssrc: i.spec.encodings.first()?.ssrc,
                    fraction_lost: self.claims_loss,
                    highest_seq: i.highest? as u32,
                    last_sr,
                    delay_since_last_sr: ntp::compact(now - at),
                    ..ReportBlock::default()
                })
            })
            .take(31)
            .collect();
        let mut reports = Vec::new();
        for track in &self.tracks {
            let timestamp = track.timestamp(since);
            reports.extend(track.totals().map(|(ssrc, p, o)| (ssrc, timestamp, p, o)));
        }
        self.rtcp(|w| {
            let _ = w.receiver_report(1, &blocks);
            for (ssrc, timestamp, packets, octets) in reports {
                let _ = w.sender_report(ssrc, time, timestamp, packets, octets, &[]);
            }
        })
    }

    fn nacks(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut asks = Vec::new();
        for i in self.incoming.values_mut().filter(|i| i.spec.media == MediaType::Video) {
            i.missing.retain(|_, (_, tries)| *tries < NACK_TRIES);
            let mut lost = Vec::new();
            for (number, (next, tries)) in &mut i.missing {
                if *next <= now {
                    self.heard.asked_twice += u32::from(*tries == 1);
                    (*next, *tries) = (now + NACK_INTERVAL, *tries + 1);
                    lost.push(Seq(*number as u16));
                }
            }
            let ssrc = i.spec.encodings.first()?.ssrc;
            if !lost.is_empty() {
                asks.push((ssrc, lost));
            }
        }
        if asks.is_empty() {
            return None;
        }
        self.rtcp(|w| {
            let _ = w.receiver_report(1, &[]);
            for (ssrc, lost) in asks {
                let _ = w.nack(1, ssrc, lost);
            }
        })
    }

    /// Handles a datagram from the bridge, and returns its immediate answers.
    ///
    /// # Panics
    /// If the bridge violates a guarantee: another payload type or MID than negotiated, an
    /// incomplete payload, a number used twice, a timestamp that runs backwards.
    pub(super) fn on_datagram(&mut self, now: Instant, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if rtp::is_rtcp(&bytes) {
            return self.on_rtcp(now, bytes);
        }
        if self.on_rtp(now, &mut bytes).is_none() {
            self.heard.refused += 1;
        }
        Vec::new()
    }

    fn on_rtp(&mut self, now: Instant, bytes: &mut [u8]) -> Option<()> {
        let header = RtpHeader::parse(bytes).expect("the bridge sends RTP");
        let (source, is_rtx) = *self.by_ssrc.get(&header.ssrc)?;
        let stream = self.streams.entry(header.ssrc).or_default();
        let opened = self.rx.open_rtp(stream, bytes, header.len).ok()?;
        let mut bytes = bytes.get_mut(..opened.len)?;
        if let Some(recorder) = &mut self.congestion {
            recorder.on_packet(now, header.ssrc, header.sequence);
        }
        let numbered = header.extensions(bytes);
        let id = self.numbering.extension(Extension::TransportCc);
        let number = numbered.into_iter().find(|e| e.id == id).map(|e| e.data);
        match number.and_then(rtp::ext::transport_seq) {
            Some(number) => self.arrivals.on_packet(now, number),
            None => assert!(
                !self.gives_feedback || self.congestion.is_some(),
                "a transport-wide number"
            ),
        }
        if let Some(tape) = &mut self.tape {
            tape.push(bytes.to_vec());
            return Some(());
        }
        let i = self.incoming.get_mut(&source)?;
        let video = i.spec.media == MediaType::Video;
        if is_rtx && header.payload_range(bytes).is_ok_and(|payload| payload.is_empty()) {
            return Some(());
        }
        if is_rtx {
            let codec = self.numbering.codec(header.payload_type).expect("a negotiated codec");
            assert_eq!(header.payload_type, self.numbering.rtx_of(codec), "payload type of RTX");
            let ssrc = i.spec.encodings.first()?.ssrc;
            let at = rtx::restore(bytes, &header, self.numbering.payload_type(codec), ssrc)?;
            bytes = bytes.get_mut(at..)?;
        }
        let header = RtpHeader::parse(bytes).expect("a restored header");
        if i.screen.is_some() {
            return i.show(now, now - self.start, self.numbering, &header, bytes);
        }
        let pt = if video { self.numbering.vp8() } else { self.numbering.opus() };
        let red = self.red && !video && header.payload_type == self.numbering.red();
        assert!(header.payload_type == pt || red, "payload type");
        let mid = self.numbering.extension(Extension::Mid);
        let found = header.extensions(bytes).find(|e| e.id == mid).map(|e| e.data);
        assert_eq!(found, Some(i.mid.as_bytes()), "MID");
        let mut payload = &bytes[header.payload_range(bytes).expect("sound padding")];
        if red {
            payload = i.take_redundant(payload, pt);
        }
        let body = if video { Body::of_video(payload) } else { Body::of_audio(payload) };
        let body = body.expect("a whole payload");
        assert!(i.slot || body.source == source.0, "the payload is the source's");
        let id = self.numbering.extension(Extension::DependencyDescriptor);
        let descriptor = header.extensions(bytes).find(|e| e.id == id).map(|e| e.data);
        let numbers = CodecNumbers::read(payload, descriptor.unwrap_or_default());
        let asks_at = now + self.asks_after;
        i.take(asks_at, header.sequence, header.timestamp, body, numbers.filter(|_| video));
        if self.asks_after.is_zero() && !i.missing.is_empty() {
            self.next_nack = now;
        }
        Some(())
    }

    fn on_rtcp(&mut self, now: Instant, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let Ok(len) = self.rx.open_rtcp(&mut bytes) else {
            self.heard.refused += 1;
            return Vec::new();
        };
        let mut out = Vec::new();
        for packet in RtcpPackets::new(&bytes[..len]) {
            match packet.expect("the bridge sends RTCP") {
                Rtcp::SenderReport { ssrc, ntp, rtp_ts, blocks, .. } => {
                    self.heard.report_blocks += blocks.count() as u32;
                    if let Some(i) =
                        self.by_ssrc.get(&ssrc).and_then(|(s, _)| self.incoming.get_mut(s))
                    {
                        i.reports.push((ntp, rtp_ts));
                        i.last_report = Some(((ntp >> 16) as u32, now));
                    }
                }
                Rtcp::ReceiverReport { blocks, .. } => {
                    for block in blocks {
                        self.heard.report_blocks += 1;
                        self.reported.insert(block.ssrc);
                        self.heard.told_lost += block.cumulative_lost.unsigned_abs();
                    }
                }
                Rtcp::Nack { media, lost, .. } => {
                    self.heard.nacks += 1;
                    for seq in lost {
                        let resent = self.tracks.iter_mut().find_map(|t| t.resend(media, seq));
                        out.extend(resent.map(|plain| seal(&self.tx, &plain)));
                    }
                }
                Rtcp::Pli { media, .. } => {
                    self.heard.keyframe_requests += 1;
                    self.tracks.iter_mut().for_each(|t| t.want_keyframe(media));
                }
                Rtcp::Sdes(chunks) => {
                    for (ssrc, name) in chunks {
                        let source = self.by_ssrc.get(&ssrc).map(|(source, _)| *source);
                        if let Some(i) = source.and_then(|s| self.incoming.get_mut(&s)) {
                            i.cname = name.map(|name| String::from_utf8_lossy(name).into_owned());
                        }
                    }
                }
                Rtcp::TransportCc(feedback) => {
                    self.heard.transport_feedback += 1;
                    let missing = feedback.statuses().filter(|(_, at)| at.is_none()).count();
                    self.heard.told_missing += missing as u32;
                }
                Rtcp::Bye(ssrcs) => {
                    for ssrc in ssrcs {
                        let source = self.by_ssrc.get(&ssrc).map(|(source, _)| *source);
                        if let Some(i) = source.and_then(|s| self.incoming.get_mut(&s)) {
                            i.ended = true;
                        }
                    }
                }
                // The block's kind and length, the SSRC it is for, and the middle of the time.
                Rtcp::Xr(body) => {
                    let answer = [5, 0, 0, 3, 0, 0, 0, 9, 0x33, 0x44, 0x55, 0x66];
                    assert_eq!(body.get(4..16), Some(answer.as_slice()));
                    self.heard.round_trips += 1;
                }
                _ => {}
            }
        }
        out
    }

    /// The media in one of its own datagrams, unless it is a retransmission.
    pub(super) fn sent_body(&self, datagram: &[u8]) -> Option<Body> {
        let header = RtpHeader::parse(datagram).ok().filter(|_| !rtp::is_rtcp(datagram))?;
        let sent = |t: &'_ Track| t.sent(header.ssrc, header.sequence).is_some();
        let track = self.tracks.iter().find(|t| sent(t))?;
        let plain = track.sent(header.ssrc, header.sequence)?;
        let payload = plain.bytes.get(plain.header_len..)?;
        if track.coder.is_some() {
            return Truth::read(payload).map(|truth| truth.body);
        }
        let video = header.payload_type == self.numbering.vp8();
        let red = header.payload_type == self.numbering.red();
        if video { Body::of_video(payload) } else { of_audio(payload, red) }
    }

    /// The media in a datagram of the bridge, if it is for this client; changes nothing.
    pub(super) fn peek(&self, datagram: &[u8]) -> Option<Body> {
        let mut bytes = datagram.to_vec();
        let header = RtpHeader::parse(&bytes).ok().filter(|_| !rtp::is_rtcp(datagram))?;
        let (source, is_rtx) = *self.by_ssrc.get(&header.ssrc)?;
        let mut stream = self.streams.get(&header.ssrc).cloned().flatten();
        let opened = self.rx.open_rtp(&mut stream, &mut bytes, header.len).ok()?;
        let incoming = self.incoming.get(&source)?;
        let video = incoming.spec.media == MediaType::Video;
        let bytes = bytes.get(..opened.len)?;
        let payload = bytes.get(header.payload_range(bytes).ok()?)?;
        if incoming.screen.is_some() {
            return Truth::read(payload).map(|truth| truth.body);
        }
        let payload = if is_rtx { payload.get(rtx::OSN_LEN..)? } else { payload };
        let red = header.payload_type == self.numbering.red();
        if video { Body::of_video(payload) } else { of_audio(payload, red) }
    }
}

/// Reads the payload of audio, or of its primary block if `red`.
fn of_audio(payload: &[u8], red: bool) -> Option<Body> {
    let primary = if red { red::blocks(payload).last()?.data } else { payload };
    Body::of_audio(primary)
}

impl Incoming {
    /// Returns the primary block of redundant audio. The others must be what was sent before, and
    /// all of this type.
    fn take_redundant<'a>(&mut self, payload: &'a [u8], pt: u8) -> &'a [u8] {
        let blocks: Vec<_> = red::blocks(payload).collect();
        let frames: Vec<_> = blocks
            .iter()
            .map(|block| {
                assert_eq!(block.payload_type, pt, "payload type of a block");
                Body::of_audio(block.data).expect("a whole block").frame
            })
            .collect();
        assert!(frames.windows(2).all(|two| two[0] + 1 == two[1]), "{frames:?}");
        self.redundant = (self.redundant.0 + 1, self.redundant.1 + blocks.len() as u32 - 1);
        blocks.last().expect("a sound packet").data
    }

    pub(super) fn take(
        &mut self,
        asks_at: Instant,
        seq: Seq,
        timestamp: u32,
        body: Body,
        numbers: Option<CodecNumbers>,
    ) {
        let ExtSeq(number) = self.unwrapper.update(seq);
        self.numbers.extend(numbers.map(|numbers| (number, numbers)));
        if let Some((had, at)) = self.got.insert(number, (body, timestamp)) {
            assert_eq!((had, at), (body, timestamp), "number {number} was used twice");
            return;
        }
        self.missing.remove(&number);
        if let Some(highest) = self.highest.filter(|h| number > *h && number - h < MAX_GAP) {
            for lost in highest + 1..number {
                self.missing.insert(lost, (asks_at, 0));
            }
        }
        self.highest = Some(self.highest.map_or(number, |h| h.max(number)));
    }

    /// Checks everything received against the guarantees of a projection: each packet once, in the
    /// sender's order under ascending numbers, timestamps that do not run backwards.
    ///
    /// # Panics
    /// If one is violated.
    pub fn check(&self) {
        let name = &self.spec.name;
        let mut seen = BTreeSet::new();
        for (body, _) in self.got.values() {
            assert!(seen.insert(*body), "{name}: {body:?} came under two numbers");
        }
        let entries: Vec<_> = self.got.values().collect();
        for pair in entries.windows(2) {
            let [(a, a_at), (b, b_at)] = pair else { continue };
            assert!(
                (a.frame, a.part) < (b.frame, b.part) || a.origin() != b.origin(),
                "{name}: {a:?} before {b:?}"
            );
            let begins = b.key && b.part == 0 || self.spec.media == MediaType::Audio;
            assert!(a.source == b.source || begins, "{name}: {b:?} begins without a keyframe");
            let step = b_at.wrapping_sub(*a_at) as i32;
            assert!(step >= 0, "{name}: time runs backwards by {step} at {b:?}");
        }
        self.check_numbers();
    }

    /// Checks that a directly following packet is of the same frame or of the next one, and that
    /// later ones have higher numbers: a decoder drops what seems to be late.
    fn check_numbers(&self) {
        let entries: Vec<_> = self.numbers.iter().collect();
        for pair in entries.windows(2) {
            let [(a, was), (b, is)] = pair else { continue };
            let (Some((before, _)), Some((body, _))) = (self.got.get(*a), self.got.get(*b)) else {
                continue;
            };
            let since = is.since(**was);
            let same = (before.origin(), before.frame) == (body.origin(), body.frame);
            let sound = match **b - **a {
                1 if same => since == [0; 3],
                1 if before.origin() != body.origin() => since == [1; 3],
                _ => since.iter().all(|ahead| *ahead < 1 << 14),
            };
            assert!(sound, "{}: {was:?} of {before:?}, then {is:?} of {body:?}", self.spec.name);
        }
    }
}

fn seal(tx: &TxContext, plain: &Plain) -> Vec<u8> {
    let mut bytes = plain.bytes.clone();
    let len = bytes.len();
    bytes.resize(len + tx.profile().rtp_overhead(), 0);
    let sealed = tx.seal_rtp(&mut bytes, plain.header_len, len, plain.index, plain.ssrc);
    bytes.truncate(sealed.expect("room for the tag"));
    bytes
}
