//! RTCP: handles the reports of senders and receivers, and writes feedback to senders.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits, and lengths of one datagram; the low bits of an index are its sequence number"
)]

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use rialto_bwe::FeedbackSummary;
use rialto_media::Drop;
use rialto_media::{MAX_ENCODINGS, MediaType, SourceId, encodings::EncodingMask};
use rialto_rtp::rtcp::{
    CongestionFeedback, ReportBlock, Rtcp, RtcpPackets, RtcpWriter, TransportCc, ntp, xr,
};

use super::{Core, Endpoint, MAX_DATAGRAM, Outbox, PeerItem, endpoint::Reference};
use crate::{
    ShardTotals,
    egress::receiver::{Receiver, history::Refused, link::Link, queue::Retransmission},
    ingress::keyframe::RequestLimit,
    slots::EndpointSlot,
};

/// Size of the buffer in which a compound packet is written before it is sealed.
pub(super) const MAX_RTCP: usize = 1_200;

/// Most sequence numbers that are retransmitted for one compound packet; an honest receiver does
/// not NACK more.
const MAX_NACKED: usize = 512;

/// Shortest time between two answers to a receiver's reference times.
const REFERENCE_INTERVAL: Duration = Duration::from_millis(200);

/// Writes a compound packet with `write`, seals it and sends it.
pub(super) fn send_rtcp(
    e: &mut Endpoint,
    out: &mut impl Outbox,
    totals: &mut ShardTotals,
    write: impl FnOnce(&mut RtcpWriter<'_>),
) {
    let (Some(tx), Some(dest)) = (e.receiver.tx.as_mut(), e.receiver.dest.as_ref()) else { return };
    let Some(buf) = out.reserve(dest, MAX_DATAGRAM) else { return };
    let Some(room) = buf.get_mut(..MAX_RTCP) else { return out.commit(0) };
    let mut writer = RtcpWriter::new(room);
    write(&mut writer);
    let len = writer.len();
    if let Some(tap) = e.tap.as_ref().filter(|_| len > 0) {
        tap.copy(true, buf.get(..len).unwrap_or_default());
    }
    let sealed = if len == 0 { None } else { tx.seal_rtcp(buf, len).ok() };
    out.commit(sealed.unwrap_or(0));
    totals.rtcp_sent += u64::from(sealed.is_some());
}

/// Sends a receiver an RTCP BYE for a source (RFC 3550 section 6.6).
pub(super) fn send_bye(
    e: &mut Endpoint,
    ssrc: u32,
    out: &mut impl Outbox,
    totals: &mut ShardTotals,
) {
    // The buffer has ample room, so the BYE always fits.
    send_rtcp(e, out, totals, |w| {
        let _ = w.receiver_report(ssrc, &[]);
        let _ = w.bye(&[ssrc]);
    });
}

impl Core {
    /// Handles an SRTCP packet of an endpoint whose home is this shard.
    pub(super) fn on_rtcp(&mut self, slot: EndpointSlot, bytes: &mut [u8]) {
        let now = self.now;
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let Some(rx) = e.sender.rx.as_mut() else { return self.drops.count(Drop::NoKeys) };
        let plain = match rx.open_rtcp(bytes) {
            Ok(len) => bytes.get(..len).unwrap_or_default(),
            Err(error) => return self.drops.count(crate::ingress::drop_reason(error)),
        };
        e.last_received = Some(now);
        if let Some(tap) = &e.tap {
            tap.copy(false, plain);
        }
        self.totals.rtcp_received += 1;
        // CNAMEs first, since the reports of the same packet are forwarded under them.
        for packet in RtcpPackets::new(plain).flatten() {
            if let Rtcp::Sdes(chunks) = packet {
                chunks.filter_map(|(ssrc, name)| Some((ssrc, name?))).for_each(|(ssrc, name)| {
                    e.sender.on_cname(ssrc, name);
                });
            }
        }
        let mut nacked = MAX_NACKED;
        for packet in RtcpPackets::new(plain) {
            match packet {
                Ok(packet) => self.on_rtcp_packet(slot, &packet, &mut nacked),
                Err(_) => self.drops.count(Drop::MalformedRtcp),
            }
        }
    }

    fn on_rtcp_packet(&mut self, slot: EndpointSlot, packet: &Rtcp<'_>, nacked: &mut usize) {
        match packet {
            Rtcp::SenderReport { ssrc, ntp, rtp_ts, blocks, .. } => {
                self.on_sender_report(slot, *ssrc, *ntp, *rtp_ts);
                blocks.clone().for_each(|b| self.on_report_block(slot, &b));
            }
            Rtcp::ReceiverReport { blocks, .. } => {
                blocks.clone().for_each(|b| self.on_report_block(slot, &b));
            }
            Rtcp::Nack { media, lost, .. } => {
                for lost in lost.clone() {
                    if *nacked == 0 {
                        break;
                    }
                    *nacked -= 1;
                    self.on_nack(slot, *media, lost.0);
                }
            }
            Rtcp::Pli { media, .. } => self.on_keyframe_request(slot, *media),
            Rtcp::Fir { requests, .. } => {
                for (ssrc, _) in requests.clone().take(16) {
                    self.on_keyframe_request(slot, ssrc);
                }
            }
            Rtcp::TransportCc(feedback) => self.on_transport_feedback(slot, feedback),
            Rtcp::CongestionFeedback(feedback) => self.on_congestion_feedback(slot, feedback),
            Rtcp::Remb { bitrate, .. } => self.on_remb(slot, *bitrate),
            Rtcp::Xr(body) => self.on_extended_report(slot, body),
            _ => {}
        }
    }

    /// Handles transport-wide feedback: which packets to a receiver arrived.
    fn on_transport_feedback(&mut self, slot: EndpointSlot, feedback: &TransportCc<'_>) {
        if !self.on_arrivals(slot, |link, now| link.on_transport_feedback(now, feedback)) {
            self.totals.feedback_unmatched += u64::from(feedback.count);
        }
    }

    /// Handles congestion control feedback (RFC 8888): which packets of each stream to a receiver
    /// arrived.
    fn on_congestion_feedback(&mut self, slot: EndpointSlot, feedback: &CongestionFeedback<'_>) {
        self.on_arrivals(slot, |link, now| link.on_congestion_feedback(now, feedback));
    }

    /// Passes arrivals to the estimator of the receiver's link. Returns false if it has no link.
    fn on_arrivals(
        &mut self,
        slot: EndpointSlot,
        take: impl FnOnce(&mut Link, Instant) -> FeedbackSummary,
    ) -> bool {
        let now = self.now;
        let Some(e) = self.endpoints.get_mut(slot) else { return false };
        let Some(link) = e.receiver.link.as_mut() else { return false };
        let summary = take(link, now);
        let queued = link.estimator.is_queued();
        let affords = e.receiver.affords_redundancy(now);
        let losses = &mut e.receiver.audio_losses;
        match affords {
            Some(false) => losses.forget(),
            Some(true) if !queued => losses.on_path(now, summary.lost, summary.known),
            _ => {}
        }
        self.totals.feedback_unmatched += u64::from(summary.unknown);
        self.link_changed(slot);
        true
    }

    /// Handles a receiver's own bandwidth estimate. An endpoint that sends it without having
    /// negotiated it is counted, once.
    fn on_remb(&mut self, slot: EndpointSlot, bps: u64) {
        let now = self.now;
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        if !e.media.tables.remb {
            if !std::mem::replace(&mut e.spurious_remb, true) {
                self.totals.spurious_rembs += 1;
            }
            return;
        }
        if let Some(link) = e.receiver.link.as_mut()
            && link.on_remb(now, bps)
        {
            self.link_changed(slot);
        }
    }

    /// Stores a receiver reference time. An endpoint that sends no media has no other way to learn
    /// its round-trip time, by which browsers size their jitter buffers; without it,
    /// retransmissions come too late to be shown.
    fn on_extended_report(&mut self, slot: EndpointSlot, body: &[u8]) {
        let now = self.now;
        let Some((ssrc, time)) = xr::receiver_reference_time(body) else { return };
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let lately = |at: Instant| now.saturating_duration_since(at) < REFERENCE_INTERVAL;
        if !e.reference_answered.is_some_and(lately) {
            e.reference = Some(Reference { ssrc, time: ntp::middle(time), at: now });
            self.set_urgent(slot);
        }
    }

    /// Handles a possible change of a receiver's estimate, or a probe that became due.
    fn link_changed(&mut self, slot: EndpointSlot) {
        self.estimate_changed(slot);
        self.list_receiver(slot);
    }

    fn on_report_block(&mut self, slot: EndpointSlot, block: &ReportBlock) {
        let now = self.now;
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let Some((_, s)) = e.receiver.stream_by_ssrc(block.ssrc) else { return };
        s.fraction_lost = block.fraction_lost;
        let (last_sr, audio) = (s.last_sr, !s.is_video());
        if audio && e.receiver.affords_redundancy(now) == Some(true) {
            e.receiver.audio_losses.on_report(now, block.fraction_lost);
        }
        if let Some(link) = e.receiver.link.as_mut() {
            link.estimator.on_receiver_report(now, block.fraction_lost, None);
            link.follow();
        }
        let Some((last_sr, at)) = last_sr else { return };
        if block.last_sr != last_sr || last_sr == 0 {
            return;
        }
        let delay = ntp::from_compact(block.delay_since_last_sr);
        if let Some(rtt) = now.saturating_duration_since(at).checked_sub(delay) {
            e.receiver.on_reported_round_trip(now, rtt);
        }
    }

    fn on_nack(&mut self, slot: EndpointSlot, ssrc: u32, sequence: u16) {
        let (now, now_ms) = (self.now, self.now_ms());
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let allowed = e.receiver.resend.allows(now_ms);
        // What was sent again waits in the queue of the path as well. A short one is none: a NACK that comes a little too
        // soon would be answered a round trip later, and the picture stop.
        let link = e.receiver.link.as_ref().filter(|link| link.estimator.is_queued());
        let queue = link.map(|link| link.estimator.queue());
        let rtt = e.receiver.round_trip().saturating_add(queue.unwrap_or_default());
        let Some(stream) = e.receiver.by_ssrc.get(&ssrc).copied() else { return };
        if !allowed {
            return self.drops.count(Drop::RetransmissionBudget);
        }
        let Receiver { streams, link, .. } = &mut e.receiver;
        let Some(s) = streams.get_mut(stream) else { return };
        let overflows = link.as_ref().is_some_and(|link| link.overflows(now));
        let premature =
            |first| link.as_mut().is_some_and(|link| link.premature_nacks.on_request(now, first));
        match s.history.resend(sequence, now_ms, rtt, premature) {
            Ok(sent) if s.is_moot(sent.index, now_ms, rtt) => {
                self.drops.count(Drop::Moot);
            }
            Ok(_) if overflows && s.projection.waits() => {
                s.given_up = true;
                self.drops.count(Drop::Moot);
                if e.receiver.offer(stream) {
                    self.ready.push(slot);
                }
            }
            Ok(sent) => {
                if e.receiver.queue.push_retransmission(Retransmission { stream, sent }) {
                    self.drops.count(Drop::RetransmissionBudget);
                }
                self.list_receiver(slot);
            }
            Err(Refused::Unknown) => self.totals.retransmissions_missed += 1,
            Err(Refused::Premature) => self.drops.count(Drop::PrematureNack),
            Err(Refused::TooSoon | Refused::TooOften) => self.drops.count(Drop::RepeatedNack),
        }
    }

    fn on_keyframe_request(&mut self, slot: EndpointSlot, ssrc: u32) {
        let (now, limit) = (self.now, self.config.keyframes.receiver);
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let Some((_, s)) = e.receiver.stream_by_ssrc(ssrc) else { return };
        if !s.is_video() {
            return;
        }
        let encoding = s.projection.target().or(s.projection.current());
        let source = s.source;
        if let Some(encoding) = encoding
            && s.keyframes.rtcp_limiter.allow(now, &limit)
        {
            s.lost = s.projection.waits();
            self.want_keyframe(source, encoding);
        }
    }

    /// Sends the keyframe requests that were scheduled before any receiver asked.
    pub(super) fn request_keyframes_ahead(&mut self) {
        let now = self.now;
        while let Some(Reverse((at, slot))) = self.ahead.peek().copied()
            && at <= now
        {
            self.ahead.pop();
            let e = self.endpoints.get_mut(slot);
            if e.is_some_and(|e| e.sender.request_keyframe_ahead(now)) {
                self.set_urgent(slot);
            }
        }
    }

    /// Requests keyframes of several encodings.
    pub(super) fn want_keyframes(&mut self, source: SourceId, encodings: EncodingMask) {
        for encoding in (0..MAX_ENCODINGS as u8).filter(|e| encodings >> e & 1 == 1) {
            self.want_keyframe(source, encoding);
        }
    }

    /// Requests a keyframe from the source's home shard.
    pub(super) fn want_keyframe(&mut self, source: SourceId, encoding: u8) {
        let now = self.now;
        if let Some(home) = self.source_homes.get(&source).copied() {
            let e = self.endpoints.get_mut(home);
            if e.is_some_and(|e| e.sender.want_keyframe(now, source, encoding)) {
                self.set_urgent(home);
            }
            return;
        }
        let feed = self.feed_slots.get(&source).and_then(|f| self.feeds.get(*f));
        if let Some(home) = feed.map(|f| f.info.home).filter(|h| *h != self.config.shard) {
            self.send_peer(home, PeerItem::Keyframe { source, encoding }, &[]);
        }
    }
}

/// Bytes that a report, a keyframe request and the header of the next packet need.
const ROOM: usize = 64;
/// Bytes of a NACK before its entries, and of an entry (RFC 4585 section 6.2.1).
const NACK_HEAD: usize = 12;
const NACK_ENTRY: usize = 4;

/// Writes feedback to a sender into one compound packet. Returns whether some is left for another
/// one.
pub(super) fn write_sender_feedback(
    e: &mut Endpoint,
    now: Instant,
    limit: &RequestLimit,
    w: &mut RtcpWriter<'_>,
    requests_sent: &mut u64,
) -> bool {
    let own = e.spec.video_ssrc;
    let reports = now >= e.next_report;
    // A compound packet starts with a report (RFC 3550 section 6.1).
    let begin = |w: &mut RtcpWriter<'_>| {
        if w.is_empty() {
            let _ = w.receiver_report(own, &[]);
        }
    };
    if reports {
        write_reports(e, now, w);
    }
    if let Some(Reference { ssrc, time, at }) = e.reference.take() {
        e.reference_answered = Some(now);
        begin(w);
        let delay = ntp::compact(now.saturating_duration_since(at));
        let _ = w.delay_since_reference(own, ssrc, time, delay);
    }
    let rtt = e.receiver.round_trip();
    for stream in e.sender.streams.values_mut() {
        if w.room() < ROOM {
            return true;
        }
        if stream.keyframes.poll(now, rtt, limit) {
            begin(w);
            *requests_sent += 1;
            if e.media.tables.pli || !e.media.tables.fir {
                let _ = w.pli(own, stream.ssrc);
            } else {
                e.fir_count = e.fir_count.wrapping_add(1);
                let _ = w.fir(own, &[(stream.ssrc, e.fir_count)]);
            }
        }
        if !stream.nack.is_empty() {
            let mut lost = [0u16; crate::ingress::nack::MAX_MISSING];
            let mut n = 0;
            let most = w.room().saturating_sub(ROOM + NACK_HEAD) / NACK_ENTRY;
            let left = stream.nack.poll(now, rtt, most, |index| {
                if let Some(place) = lost.get_mut(n) {
                    *place = index as u16;
                    n += 1;
                }
            });
            if n > 0 {
                begin(w);
                let media = e.sender.sources.get(stream.source).map(|s| s.spec.media);
                let from = if media == Some(MediaType::Audio) { e.spec.audio_ssrc } else { own };
                let lost = lost.iter().take(n).map(|s| rialto_rtp::Seq(*s));
                let _ = w.nack(from, stream.ssrc, lost);
            }
            if left {
                return true;
            }
        }
    }
    let Some(twcc) = e.sender.twcc.as_mut().filter(|t| t.is_due(now)) else { return false };
    if w.room() < ROOM {
        return true;
    }
    begin(w);
    let (media, count) = (e.sender.twcc_ssrc, &mut e.sender.twcc_count);
    twcc.take(now, |mut base, mut arrivals| {
        let all = arrivals.len();
        while !arrivals.is_empty() {
            let base_seq = rialto_rtp::ExtSeq(base);
            let Ok(taken) = w.transport_cc(own, media, *count, base_seq, arrivals) else {
                break;
            };
            *count = count.wrapping_add(1);
            let last = taken.checked_sub(1).and_then(|t| arrivals.get(t));
            base = last.map_or(base, |a| a.seq.0 + 1);
            arrivals = arrivals.get(taken..).unwrap_or_default();
        }
        all - arrivals.len()
    })
}

/// Writes receiver reports for every stream that has sent something (RFC 3550 section 6.4.2).
fn write_reports(e: &mut Endpoint, now: Instant, w: &mut RtcpWriter<'_>) {
    const BLOCKS: usize = 31;
    let Endpoint { sender, next_report, report_from, .. } = e;
    *next_report = now + super::timers::REPORT_INTERVAL;
    let mut blocks = [ReportBlock::default(); BLOCKS];
    let mut n = 0;
    let (first, end) = (*report_from, sender.streams.len());
    *report_from = 0;
    for turn in [first.min(end)..end, 0..first.min(end)] {
        let streams = sender.streams.values_mut().enumerate();
        for (at, stream) in streams.filter(|(at, _)| turn.contains(at)) {
            let Some(place) = blocks.get_mut(n) else {
                if *report_from == 0 {
                    *report_from = at;
                }
                break;
            };
            let Some(r) = stream.stats.report(now) else { continue };
            *place = ReportBlock {
                ssrc: stream.ssrc,
                fraction_lost: r.fraction_lost,
                cumulative_lost: r.cumulative_lost,
                highest_seq: r.highest,
                jitter: r.jitter,
                last_sr: r.last_sr,
                delay_since_last_sr: r.delay_since_last_sr,
            };
            n += 1;
        }
    }
    if n > 0 {
        let _ = w.receiver_report(e.spec.video_ssrc, blocks.get(..n).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rialto_media::MediaType;
    use rialto_rtp::{
        ExtSeq,
        rtcp::{Arrival, RtcpWriter},
    };

    use crate::sim::{World, WorldConfig};

    const SECOND: Duration = Duration::from_secs(1);

    /// A call of two in which one sends video of three encodings.
    fn a_call() -> World {
        let mut world = World::new(WorldConfig::default());
        world.join();
        world.join();
        world.publish(0, MediaType::Video, 3);
        world.run(2 * SECOND);
        world
    }

    /// Delivers a report of one client at once.
    fn report(world: &mut World, client: usize, write: impl FnOnce(&mut RtcpWriter<'_>)) {
        let client = &mut world.clients[client];
        let (from, mut bytes) = (client.addr, client.rtcp(write).unwrap());
        world.deliver(0, from, &mut bytes);
    }

    #[test]
    fn an_estimate_that_was_not_negotiated_is_counted_once_for_each_who_sends_it() {
        let mut world = a_call();
        let estimate = |w: &mut RtcpWriter<'_>| w.remb(1, 300_000, &[2]).unwrap();
        for expected in [1, 1] {
            report(&mut world, 1, estimate);
            assert_eq!(world.cores[0].totals.spurious_rembs, expected);
        }
        report(&mut world, 0, estimate);
        assert_eq!(world.cores[0].totals.spurious_rembs, 2);
    }

    #[test]
    fn an_estimate_that_was_negotiated_is_not_spurious() {
        let mut world = a_call();
        let mut media = world.clients[1].numbering.media();
        media.remb = true;
        let id = world.clients[1].id;
        world.control(crate::Control::SetMedia(id, std::sync::Arc::new(media)));
        report(&mut world, 1, |w| w.remb(1, 300_000, &[2]).unwrap());
        assert_eq!(world.cores[0].totals.spurious_rembs, 0);
    }

    #[test]
    fn each_status_of_feedback_on_what_was_never_sent_is_counted() {
        let mut world = a_call();
        let before = world.cores[0].totals.feedback_unmatched;
        let at = |seq, at| Arrival { seq: ExtSeq(seq), at };
        // One packet arrived, two are missing, one arrived.
        let arrivals = [at(30_000, 64), at(30_003, 70)];
        report(&mut world, 1, |w| {
            w.transport_cc(1, 2, 0, ExtSeq(30_000), &arrivals).unwrap();
        });
        assert_eq!(world.cores[0].totals.feedback_unmatched, before + 4);
    }

    #[test]
    fn a_keyframe_of_who_begins_to_speak_is_asked_for_ahead() {
        let mut world = a_call();
        let speaker = world.clients[0].id;
        let mut ask = |after_ms| {
            let before = world.clients[0].heard.keyframe_requests;
            let after = Duration::from_millis(after_ms);
            world.control(crate::Control::RequestKeyframeAhead { speaker, after });
            world.run(after);
            let early = world.clients[0].heard.keyframe_requests - before;
            world.run(Duration::from_millis(40));
            (early, world.clients[0].heard.keyframe_requests - before)
        };
        assert_eq!(ask(500), (0, 1), "not before its time");
        for _ in 0..3 {
            assert_eq!(ask(500), (0, 0), "one came within two seconds");
        }
        assert_eq!(ask(500), (0, 1));
    }

    #[test]
    fn who_only_receives_learns_its_round_trip() {
        let mut world = a_call();
        // RFC 3611 section 4.4; the client checks that this is what was answered.
        let mut question = [0x80, 207, 0, 4, 0, 0, 0, 9, 4, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        question[12..].copy_from_slice(&crate::sim::REFERENCE.to_be_bytes());
        let ask = |world: &mut World| {
            let from = world.clients[1].addr;
            let mut bytes = world.clients[1].seal_any_rtcp(&question).unwrap();
            world.deliver(0, from, &mut bytes);
            world.run(Duration::from_millis(50));
            world.clients[1].heard.round_trips
        };
        assert_eq!(ask(&mut world), 1);
        assert_eq!(ask(&mut world), 1, "within 200 ms");
        world.run(Duration::from_millis(200));
        assert_eq!(ask(&mut world), 2);
        assert_eq!(world.clients[0].heard.round_trips, 0);
    }

    #[test]
    fn encodings_that_go_and_return_change_the_layers() {
        let mut world = a_call();
        let changes = |world: &mut World| {
            world.run(3 * SECOND);
            world.cores[0].totals.layering_changes
        };
        let begun = changes(&mut world);
        for (silent, expected) in [(true, 1), (false, 2)] {
            world.clients[0].tracks[0].silence(2, silent);
            assert_eq!(changes(&mut world) - begun, expected, "silent: {silent}");
        }
        assert_eq!(changes(&mut world) - begun, 2, "and then nothing changes");
    }

    #[test]
    fn a_keyframe_is_one_whatever_number_of_packets_it_has() {
        let mut world = a_call();
        let begun = world.cores[0].totals.keyframes_received;
        assert!(begun >= 3, "each encoding begins with one");
        let at = world.clients[0].tracks[0].spec.encodings[1].ssrc;
        world.clients[0].tracks[0].want_keyframe(at);
        world.run(SECOND);
        assert_eq!(world.cores[0].totals.keyframes_received, begun + 1);
    }

    #[test]
    fn each_encoding_is_video_for_as_long_as_it_comes() {
        let mut world = a_call();
        let video_ms = |world: &mut World| {
            let before = world.cores[0].totals.video_ms;
            world.run(10 * SECOND);
            world.cores[0].totals.video_ms - before
        };
        let all = video_ms(&mut world);
        assert!((29_000..=31_000).contains(&all), "{all}");
        world.clients[0].tracks[0].silence(0, true);
        world.run(2 * SECOND);
        let two = video_ms(&mut world);
        assert!((19_000..=21_000).contains(&two), "{two}");
        world.clients[0].fall_silent();
        world.run(2 * SECOND);
        assert_eq!(video_ms(&mut world), 0);
    }
}
