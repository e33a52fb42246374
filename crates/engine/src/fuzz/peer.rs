//! A validated peer with keys that sends anything, while signalling changes around it.
//!
//! The first byte chooses shards and protection profile. Each following step is one byte that
//! chooses the step, then its parameters: authentic but wrong RTP and RTCP, what anybody can send,
//! commands of control about the peer and about a third endpoint that comes and goes, and time.
//! Whatever the script does, two others hear each other; everybody can decrypt everything they are
//! sent; the cores stay consistent; and what the peer makes the bridge send stays within the table
//! of docs/budgets.md.

mod budget;
mod call;
mod person;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rialto_media::{Codec, Extension, MediaType, SourceId, SourceSpec};
use rialto_rtp::{
    Seq, header,
    rtcp::{Arrival, ReportBlock, RtcpWriter, ccfb::Fate},
};
use rialto_srtp::Profile;

use self::{
    budget::Spent,
    call::{ALICE, AUDIO, AUDIO_SSRC, BOB, Call, VIDEO, VIDEO_RTX, VIDEO_SSRC, source},
    person::{RTT, Traffic},
};
use super::script::Script;
use crate::Control;

const MALLORY: usize = 2;
const CAROL: usize = 3;
/// Time until the two have received media from each other.
const HEAD: Duration = Duration::from_millis(50);
/// Time for everything that was caused to be sent.
const TAIL: Duration = Duration::from_millis(300);
const MAX_STEPS: usize = 200;
/// Most time that a script may let pass.
const MAX_TIME: Duration = Duration::from_millis(2_500);
/// Most datagrams that a script may send.
const MAX_DATAGRAMS: u64 = 400;
/// Most repetitions of a packet.
const MAX_REPEATS: u8 = 15;

/// The SSRCs of the peer's audio, camera and screen, and of their retransmissions.
const VOICE: u32 = 0x0c00_0001;
const CAMERA: [u32; 3] = [0x0d00_0001, 0x0d00_0002, 0x0d00_0003];
const CAMERA_RTX: [u32; 3] = [0x0d00_0101, 0x0d00_0102, 0x0d00_0103];
const SCREEN: u32 = 0x0e00_0001;
/// All of them.
const OWN: [u32; 8] =
    [VOICE, CAMERA[0], CAMERA[1], CAMERA[2], SCREEN, CAMERA_RTX[0], CAMERA_RTX[1], CAMERA_RTX[2]];

/// Runs a script.
pub fn peer(data: &[u8]) {
    let mut script = Script(data);
    let how = script.any();
    let mut play = Play::new(how);
    for _ in 0..MAX_STEPS {
        let Some(step) = script.byte() else { break };
        play.step(step, &mut script);
    }
    play.end();
}

struct Play {
    call: Call,
    profile: Profile,
    spent: Spent,
    /// The number of the peer's next packet, by its index in [`OWN`].
    next: [u64; OWN.len()],
    /// The last datagram that the peer sent.
    last: Vec<u8>,
    /// Number of the peer's endpoint and sources: it may leave and come back.
    lives: u32,
    /// Ids of endpoints and keys used so far.
    ids: u32,
    present: bool,
    carol: bool,
}

impl Play {
    fn new(how: u8) -> Self {
        let profile = Profile::ALL[usize::from(how >> 1) % Profile::ALL.len()];
        let mut call = Call::new(1 + u16::from(how & 1), profile);
        call.join(profile);
        for source in [AUDIO, VIDEO] {
            call.subscribe(MALLORY, source, None);
        }
        let (next, last) = ([60_000; OWN.len()], Vec::new());
        let mut play = Self {
            call,
            profile,
            spent: Spent::default(),
            next,
            last,
            lives: 0,
            ids: 100,
            present: true,
            carol: false,
        };
        play.all_want(&[ALICE, BOB]);
        play.signal(7, 3);
        play.call.run(HEAD);
        play
    }

    /// The ids of the peer's sources.
    fn sources(&self) -> [SourceId; 3] {
        [0, 1, 2].map(|n| SourceId(10 + self.lives * 3 + n))
    }

    /// Subscribes these endpoints to all that the peer sends.
    fn all_want(&mut self, who: &[usize]) {
        for at in who {
            for source in self.sources() {
                self.call.subscribe(*at, source, None);
            }
        }
    }

    /// Signals the peer's sources in `mask`, with this number of encodings of its camera; above 3
    /// they have no retransmissions.
    fn signal(&mut self, mask: u8, encodings: u8) {
        let [voice, camera, screen] = self.sources();
        let rtx = encodings & 4 == 0;
        let layers = CAMERA.into_iter().zip(CAMERA_RTX.map(|ssrc| rtx.then_some(ssrc)));
        let layers: Vec<_> = layers.take(usize::from(encodings & 3).max(1)).collect();
        let all: [SourceSpec; 3] = [
            source(voice, MediaType::Audio, &[(VOICE, None)]),
            source(camera, MediaType::Video, &layers),
            source(screen, MediaType::Video, &[(SCREEN, None)]),
        ];
        let named = all.into_iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1);
        let id = self.call.people[MALLORY].id;
        self.call.control(Control::SetSources(id, named.map(|(_, spec)| spec).collect()));
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step & 15 {
            0 | 1 => self.pass(Duration::from_millis(u64::from(script.any()) * 4)),
            2..=5 => self.rtp(step >> 4, script),
            6..=9 => self.rtcp(step >> 4, script),
            10 => self.anything(step >> 4, script),
            11 => {
                let mut again = self.last.clone();
                for _ in 0..(script.any() & MAX_REPEATS) {
                    self.call_arrive(self.own_address(), &mut again);
                }
            }
            12 => self.forge(step >> 4, script),
            _ => {
                self.spent.signals += 1;
                self.control(step >> 4, script);
                self.call.cores.iter().for_each(crate::core::Core::assert_consistent);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        if self.call.elapsed() + time <= MAX_TIME {
            self.call.run(time);
        }
    }

    fn own_address(&self) -> SocketAddr {
        self.call.people[MALLORY].at.unwrap_or_else(|| SocketAddr::from(([10, 1, 0, 3], 5_002)))
    }

    /// Delivers a datagram; everything that may happen to it must be visible.
    fn call_arrive(&mut self, from: SocketAddr, bytes: &mut [u8]) {
        if self.spent.datagrams.packets < MAX_DATAGRAMS {
            self.spent.datagrams.add(bytes.len());
            let before = self.traces();
            self.call.arrive(from, bytes);
            assert!(self.traces() > before, "neither counted nor passed on");
        }
    }

    fn traces(&self) -> u64 {
        let of_core = |core: &crate::core::Core| {
            let t = &core.totals;
            let dropped: u64 = core.drops.all().map(|(_, n)| n).sum();
            dropped + t.rtp_received + t.rtcp_received + t.events_dropped
        };
        self.call.cores.iter().map(of_core).sum::<u64>() + self.call.transport_events
    }

    /// RTP of the peer: the stream, the numbers and the payload may be wrong.
    fn rtp(&mut self, how: u8, script: &mut Script<'_>) {
        let what = script.any();
        let stream = usize::from(what & 7);
        let mut buf = [0; 1_500];
        let len = self.write_rtp(&mut buf, stream, what, how, script);
        let step = script.any() as i8;
        // Steps of one, small leaps both ways, and leaps that a roll-over counter can follow.
        let by = match step {
            -16..=16 => i64::from(step),
            _ => i64::from(step) * 250,
        };
        let more = if how & 8 == 0 { 0 } else { script.any() & MAX_REPEATS };
        for n in 0..=more {
            let by = if n == 0 { by } else { 0 };
            let index = self.next[stream].saturating_add_signed(by);
            self.next[stream] = index + 1;
            buf[2..4].copy_from_slice(&(index as u16).to_be_bytes());
            self.send_rtp(&buf, len, index);
        }
    }

    fn write_rtp(
        &self,
        buf: &mut [u8; 1_500],
        stream: usize,
        what: u8,
        how: u8,
        script: &mut Script<'_>,
    ) -> usize {
        let numbering = self.call.people[MALLORY].numbering;
        let pt = match stream {
            _ if what & 0x08 != 0 => script.any() & 0x7f,
            0 => numbering.opus(),
            1..5 => numbering.vp8(),
            _ => numbering.rtx(),
        };
        let now = self.call.elapsed().as_millis() as u32;
        let time = now.wrapping_mul(90).wrapping_add(u32::from(script.any()) << 8);
        header::write_header(buf, what & 0x80 != 0, pt, Seq(0), time, OWN[stream]).expect("room");
        let mut len = 12;
        if what & 0x20 != 0 {
            header::set_extension_bit(buf, true);
            let profile = if what & 0x40 == 0 { 0xbede_u16 } else { 0x1000 };
            let elements = script.bytes();
            let words = elements.len().div_ceil(4);
            buf[12..14].copy_from_slice(&profile.to_be_bytes());
            buf[14..16].copy_from_slice(&(words as u16).to_be_bytes());
            buf[16..16 + elements.len()].copy_from_slice(elements);
            len = 16 + 4 * words;
        } else if what & 0x40 != 0 {
            // A number that the transport-wide feedback is about, and a level.
            header::set_extension_bit(buf, true);
            let [high, low] = script.word().to_be_bytes();
            let id = |kind| numbering.extension(kind) << 4;
            let (cc, level) = (id(Extension::TransportCc) | 1, id(Extension::AudioLevel));
            buf[12..16].copy_from_slice(&[0xbe, 0xde, 0, 2]);
            buf[16..24].copy_from_slice(&[cc, high, low, level, low, 0, 0, 0]);
            len = 24;
        }
        if what & 0x10 != 0 {
            let height = 90 << (how & 7);
            len += call::vp8(&mut buf[len..], script.word(), how & 1 == 0, height);
        }
        if stream >= 5 {
            buf[len..len + 2].copy_from_slice(&script.word().to_be_bytes());
            len += 2;
        }
        let rest = script.bytes();
        buf[len..len + rest.len()].copy_from_slice(rest);
        len + rest.len()
    }

    fn send_rtp(&mut self, plain: &[u8], len: usize, index: u64) {
        let mut sealed = [0; 1_500];
        sealed[..len].copy_from_slice(&plain[..len]);
        if let Some(len) = self.call.people[MALLORY].seal(&mut sealed, len, index) {
            self.spent.rtp.add(len);
            self.send(&mut sealed[..len]);
        }
    }

    fn send(&mut self, bytes: &mut [u8]) {
        self.last.clear();
        self.last.extend_from_slice(bytes);
        self.call_arrive(self.own_address(), bytes);
    }

    /// An SSRC that means something to the bridge, or nothing.
    fn ssrc(script: &mut Script<'_>) -> u32 {
        let known = [AUDIO_SSRC, VIDEO_SSRC, VIDEO_SSRC + 1, VIDEO_RTX, VIDEO_RTX + 1];
        match usize::from(script.any() & 15) {
            n @ 0..5 => known[n],
            n @ 5..13 => OWN[n - 5],
            n => n as u32,
        }
    }

    /// A compound packet of the peer, with false values.
    fn rtcp(&mut self, how: u8, script: &mut Script<'_>) {
        let mut buf = [0; 1_400];
        let mut writer = RtcpWriter::new(&mut buf[..1_300]);
        for _ in 0..=how & 7 {
            self.write_rtcp(&mut writer, script);
        }
        let len = writer.len();
        let more = if how & 8 == 0 { 0 } else { script.any() & MAX_REPEATS };
        for _ in 0..=more {
            self.send_rtcp(&buf, len);
        }
    }

    fn write_rtcp(&self, w: &mut RtcpWriter<'_>, script: &mut Script<'_>) {
        let what = script.any();
        let (n, ssrc) = (what >> 4, Self::ssrc(script));
        let number = |script: &mut Script<'_>| u32::from(script.word());
        // What does not fit is left out.
        let _ = match what & 15 {
            0 | 1 => {
                let [blocks, report] = [0, 1].map(|_| self.report_block(script));
                let blocks = [blocks; 2];
                let ntp = u64::from(number(script)) << 32;
                let _ = w.sender_report(ssrc, ntp, number(script), 1, 1, &blocks[..1]);
                w.receiver_report(ssrc, &[report])
            }
            2 => w.receiver_report(ssrc, &[self.report_block(script); 3]),
            3..6 => {
                // Backwards from the newest number, or from anywhere.
                let newest = self.call.people[MALLORY].heard(ssrc).and_then(|h| h.last);
                let newest = newest.map_or(0, |(index, _)| index as u16);
                let from = newest.wrapping_sub(u16::from(script.any()));
                let most = (u16::from(n) << 6) + 1;
                w.nack(1, ssrc, (0..most).map(|n| Seq(from.wrapping_add(n))))
            }
            6 | 7 => w.pli(1, ssrc),
            8 => w.fir(1, &[(ssrc, n), (Self::ssrc(script), n), (ssrc, script.any())]),
            9 => w.remb(1, u64::from(number(script)) << n, &[ssrc]),
            10 => {
                let base = u64::from(number(script));
                let seq = rialto_rtp::ExtSeq(base + u64::from(n));
                let at = i64::from(number(script));
                let arrivals = [Arrival { seq, at }];
                w.transport_cc(1, ssrc, n, rialto_rtp::ExtSeq(base), &arrivals).map(|_| ())
            }
            11 | 12 => {
                let name = String::from_utf8_lossy(script.bytes());
                w.sdes_cname(ssrc, &name)
            }
            13 => w.bye(&[ssrc, Self::ssrc(script)]),
            14 => {
                // Any claims about packets up to some after the newest, of one stream twice.
                let newest = self.call.people[MALLORY].heard(ssrc).and_then(|h| h.last);
                let newest = newest.map_or(0, |(index, _)| index as u16);
                let first = Seq(newest.wrapping_sub(u16::from(script.any())));
                let fates: Vec<Fate> = (0..4 * n)
                    .map(|_| match script.any() {
                        0..100 => Fate::Lost,
                        100..120 => Fate::ReceivedSometime,
                        at => Fate::Received(u16::from(at) << 5),
                    })
                    .collect();
                let blocks = [(ssrc, first, &fates[..]), (ssrc, first.wrapping_add(1), &fates[..])];
                w.congestion_feedback(1, &blocks, number(script) << n)
            }
            _ => w.receiver_report(ssrc, &[]),
        };
    }

    /// A report with any claims about a stream, including that the bridge's last report was held
    /// back.
    fn report_block(&self, script: &mut Script<'_>) -> ReportBlock {
        let ssrc = Self::ssrc(script);
        let claim = script.word();
        let last_sr = match claim & 3 {
            0 => u32::from(claim) << 8,
            _ => self.call.people[MALLORY].last_report,
        };
        ReportBlock {
            ssrc,
            last_sr,
            delay_since_last_sr: u32::from(script.word()) << (claim & 15),
            fraction_lost: claim as u8,
            highest_seq: claim.into(),
            ..ReportBlock::default()
        }
    }

    fn send_rtcp(&mut self, plain: &[u8; 1_400], len: usize) {
        let mut sealed = *plain;
        if let Some(len) = self.call.people[MALLORY].seal_rtcp(&mut sealed, len) {
            self.spent.rtcp.add(len);
            self.send(&mut sealed[..len]);
        }
    }

    /// Any bytes, encrypted as what they look like, with an SSRC that may mean something.
    fn anything(&mut self, how: u8, script: &mut Script<'_>) {
        let (bytes, ssrc) = (script.bytes(), Self::ssrc(script));
        let mut buf = [0; 1_400];
        buf[..bytes.len()].copy_from_slice(bytes);
        if how & 1 == 0 {
            let at = 4 * usize::from(how >> 1);
            buf[at..at + 4].copy_from_slice(&ssrc.to_be_bytes());
            return self.send_rtcp(&buf, bytes.len());
        }
        buf[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let index = u64::from(buf[2]) << 8 | u64::from(buf[3]);
        let mut plain = [0; 1_500];
        plain[..1_400].copy_from_slice(&buf);
        self.send_rtp(&plain, bytes.len().max(12), index);
    }

    /// Datagrams that need no keys: from a stranger, the peer or another's address; new, or a copy
    /// of an earlier one, perhaps modified.
    fn forge(&mut self, how: u8, script: &mut Script<'_>) {
        let stranger = SocketAddr::from(([10, 9, 9, 9], 9));
        let choice = script.any();
        let other = usize::from(choice >> 2 & 1);
        let from = match choice & 3 {
            0 => stranger,
            1 => self.own_address(),
            _ => self.call.people[other].at.unwrap_or(stranger),
        };
        let mut bytes = match how & 3 {
            0 | 1 => script.bytes().to_vec(),
            2 => self.last.clone(),
            _ => self.call.overheard[other].clone(),
        };
        if how & 4 != 0 {
            let at = usize::from(script.any()) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= script.any() | 1;
            }
        }
        if how & 8 != 0 {
            bytes.truncate(script.any().into());
        }
        self.call_arrive(from, &mut bytes);
    }

    /// A command of control about the peer, or about a third endpoint.
    fn control(&mut self, what: u8, script: &mut Script<'_>) {
        let id = self.call.people[MALLORY].id;
        let choice = script.any();
        match what {
            0 | 1 => self.signal(choice & 7, choice >> 3 & 7),
            2 => {
                let (audio, video) = (choice & 1 != 0, choice & 2 != 0);
                self.call.control(Control::SetForceMute { endpoint: id, audio, video });
            }
            3 => {
                self.ids += 1;
                let keys = self.call.people[MALLORY].rekey(self.ids);
                self.call.control(Control::SetKeys(id, keys));
            }
            4 if self.present => self.call.bind(MALLORY, address(choice)),
            5 => {
                let remote = address(choice);
                let person = &mut self.call.people[MALLORY];
                person.at = person.at.filter(|at| *at != remote);
                self.call.control(Control::Unbind { endpoint: id, remote });
            }
            6 | 7 => {
                let source = if choice & 1 == 0 { AUDIO } else { VIDEO };
                let height = (choice & 2 == 0).then(|| 90 << (choice >> 2 & 3));
                self.call.subscribe(MALLORY, source, height);
            }
            8 => {
                let source = if choice & 1 == 0 { AUDIO } else { VIDEO };
                self.call.control(Control::Unsubscribe { receiver: id, source });
            }
            9 => {
                let source = self.sources()[usize::from(choice >> 1) % 3];
                self.call.subscribe(usize::from(choice & 1), source, Some(90 << (choice >> 4)));
            }
            10 => {
                let source = self.sources()[usize::from(choice >> 1) % 3];
                let receiver = self.call.people[usize::from(choice & 1)].id;
                self.call.control(Control::Unsubscribe { receiver, source });
            }
            11 => self.carol_comes_or_goes(choice),
            12 => self.negotiate(choice),
            13 => self.leave_or_return(),
            _ => {
                let rtt = RTT + Duration::from_millis(choice.into());
                self.call.control(Control::SetRtt(id, rtt));
            }
        }
    }

    fn carol_comes_or_goes(&mut self, choice: u8) {
        self.carol = !self.carol;
        if !self.carol {
            let id = self.call.people[CAROL].id;
            self.call.control(Control::RemoveEndpoint(id));
            self.call.people[CAROL].at = None;
            return;
        }
        if self.call.people.len() == CAROL {
            self.call.join(self.profile);
        } else {
            self.ids += 1;
            self.call.people[CAROL].id = rialto_media::EndpointId(self.ids);
            let keys = self.call.people[CAROL].rekey(self.ids);
            let media = Arc::new(self.call.people[CAROL].numbering.media());
            self.call.enter(CAROL, media);
            self.call.control(Control::SetKeys(self.call.people[CAROL].id, keys));
        }
        for source in [AUDIO, VIDEO] {
            self.call.subscribe(CAROL, source, (choice & 1 == 0).then_some(180));
        }
        self.all_want(&[CAROL]);
    }

    /// Changes what the peer negotiated: no retransmissions, no VP8, FIR, REMB, no transport-wide
    /// feedback.
    fn negotiate(&mut self, choice: u8) {
        let person = &mut self.call.people[MALLORY];
        let mut media = person.numbering.media();
        person.repeats_are_fine |= choice & 3 != 0;
        media.payload_types.retain(|pt| match pt.codec {
            Codec::Rtx { .. } => choice & 1 == 0,
            Codec::Vp8 => choice & 2 == 0,
            _ => true,
        });
        for pt in &mut media.payload_types {
            (pt.pli, pt.fir) = (pt.pli && choice & 4 == 0, choice & 8 != 0);
            pt.nack &= choice & 16 == 0;
        }
        media.remb = choice & 32 != 0;
        if choice & 64 != 0 {
            media.extensions.retain(|(_, kind)| *kind != Extension::TransportCc);
            media.payload_types.iter_mut().for_each(|pt| pt.transport_cc = false);
            media.congestion_feedback = choice & 128 != 0;
        }
        let id = person.id;
        self.call.control(Control::SetMedia(id, Arc::new(media)));
    }

    /// Removes the peer's endpoint, or adds it again as another one with the same SSRCs.
    fn leave_or_return(&mut self) {
        let id = self.call.people[MALLORY].id;
        self.present = !self.present;
        if !self.present {
            self.call.control(Control::RemoveEndpoint(id));
            self.call.people[MALLORY].at = None;
            return;
        }
        self.ids += 1;
        self.lives += 1;
        let person = &mut self.call.people[MALLORY];
        person.id = rialto_media::EndpointId(self.ids);
        let (keys, media) = (person.rekey(self.ids), Arc::new(person.numbering.media()));
        self.call.enter(MALLORY, media);
        self.call.control(Control::SetKeys(self.call.people[MALLORY].id, keys));
        for source in [AUDIO, VIDEO] {
            self.call.subscribe(MALLORY, source, None);
        }
        let carol = if self.carol { CAROL } else { ALICE };
        self.all_want(&[ALICE, BOB, carol]);
        self.signal(7, 3);
    }

    /// Ends the script, and checks the counts.
    fn end(mut self) {
        self.call.run(TAIL);
        self.call.cores.iter().for_each(crate::core::Core::assert_consistent);
        let seen = |n| self.call.people[ALICE].traffic(VIDEO_SSRC + n);
        let frames = self.call.honest / 3;
        let shown = seen(0).packets + seen(1).packets;
        // The first keyframes may come before any receiver is known to want them.
        assert!(shown + 4 > frames, "Alice saw {shown} of {frames} frames");
        self.spent.judge(&self.call, MALLORY);
    }
}

/// One of the addresses that the peer may have.
fn address(choice: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, 3], 5_002 + u16::from(choice & 3)))
}

impl Spent {
    /// What an endpoint received of the peer's media.
    fn of(call: &Call, who: usize) -> Traffic {
        let media = OWN.iter().filter(|ssrc| !CAMERA_RTX.contains(ssrc));
        Self::under(call, who, media)
    }

    /// Probes sent to an endpoint on the streams of the peer's retransmissions: only the peer
    /// requests retransmissions.
    fn probes(call: &Call, who: usize) -> Traffic {
        Self::under(call, who, CAMERA_RTX.iter())
    }

    fn under<'a>(call: &Call, who: usize, ssrcs: impl Iterator<Item = &'a u32>) -> Traffic {
        let all = ssrcs.map(|ssrc| call.people[who].traffic(*ssrc));
        all.fold(Traffic::default(), |sum, t| Traffic {
            packets: sum.packets + t.packets,
            bytes: sum.bytes + t.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn estimates_that_leap_are_within_the_budget() {
        // REMB in place of transport-wide feedback; then, every 4 ms, much less or much more.
        let mut script = vec![0, 0xcd, 0x60];
        for _ in 0..49 {
            script.extend([0x06, 0x49, 0, 0x30, 0, 0, 1, 0x06, 0x69, 0, 0x30, 0, 0, 1]);
        }
        super::peer(&script);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn others_hear_each_other_and_the_budgets_hold(
            data in prop::collection::vec(any::<u8>(), 0..512),
        ) {
            super::peer(&data);
        }
    }
}
