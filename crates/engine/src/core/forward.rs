//! From the rings to the receivers: receiver by receiver, so that the packets of a frame that go to
//! one address lie side by side and leave in one send (`UDP_SEGMENT`).

use rialto_media::{Drop, DropCounters};
use rialto_media::{MediaType, Mid};
use rialto_rtp::header::FIXED_LEN;
use slotmap::SlotMap;

use super::{Core, Endpoint, MAX_DATAGRAM, Outbox};
use crate::{
    ShardTotals,
    egress::{
        Feed, Subscription,
        history::Sent,
        projection::Projected,
        ring::{PacketRing, RingIndex},
        wire::{Outgoing, extension_len, sources_len, write_plain, write_rtp},
    },
    ingress::PacketMeta,
    slots::{EndpointSlot, FeedSlot},
};

/// Packets that are within so many bytes of one another are padded to one size. Browsers cut a frame
/// into packets that differ by a byte, and only equal ones can share a send.
const MAX_EQUALISING_PADDING: usize = 16;

/// A packet that one receiver will get.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    ring: RingIndex,
    projected: Projected,
    payload_type: u8,
    padding: u8,
    len: u16,
}

/// Memory that is used again for each receiver.
#[derive(Debug)]
pub struct Scratch {
    planned: Vec<Planned>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { planned: Vec::with_capacity(1_024) }
    }
}

/// What the functions of this file share, borrowed from the core apart from feeds.
pub(super) struct Forwarder<'a, O> {
    pub(super) endpoints: &'a mut SlotMap<EndpointSlot, Endpoint>,
    pub(super) drops: &'a mut DropCounters,
    pub(super) totals: &'a mut ShardTotals,
    pub(super) scratch: &'a mut Scratch,
    pub(super) now_ms: u32,
    pub(super) out: &'a mut O,
}

impl Core {
    /// Flushes every feed whose packets must leave now.
    pub(super) fn flush_due(&mut self, out: &mut impl Outbox) {
        let now = self.now;
        let mut i = 0;
        while let Some(slot) = self.dirty.get(i).copied() {
            let due = self.feeds.get(slot).and_then(|f| f.due);
            if due.is_some_and(|due| due > now) {
                i += 1;
                continue;
            }
            self.dirty.swap_remove(i);
            if due.is_some() {
                self.flush_feed(slot, out);
            }
        }
    }

    fn flush_feed(&mut self, slot: FeedSlot, out: &mut impl Outbox) {
        let now_ms = self.now_ms();
        let Some(feed) = self.feeds.get_mut(slot) else { return };
        let came = feed.since.take();
        self.leaving = self.leaving.into_iter().chain(came).min();
        let mut forwarder = Forwarder {
            endpoints: &mut self.endpoints,
            drops: &mut self.drops,
            totals: &mut self.totals,
            scratch: &mut self.scratch,
            now_ms,
            out,
        };
        let switched = forwarder.feed(feed);
        let source = feed.info.spec.id;
        if switched {
            self.tell_wanted(source, false);
        }
    }
}

impl<O: Outbox> Forwarder<'_, O> {
    /// Gives the fresh packets of a feed to its receivers. Returns whether one of them changed to
    /// another encoding.
    fn feed(&mut self, feed: &mut Feed) -> bool {
        let mut switched = false;
        let video = feed.info.spec.media == MediaType::Video;
        for s in &mut feed.subscriptions {
            let (before, wanted) = (s.projection.current(), s.wanted());
            // A switch goes to a packet that is newer than all of the old encoding, so the old one's
            // come first.
            let order = before
                .into_iter()
                .chain((0..feed.info.spec.encodings.len() as u8).filter(|e| Some(*e) != before));
            for encoding in order {
                let Some(source) = feed.encodings.get(usize::from(encoding)) else { continue };
                let range = source.fresh_range();
                if let Some(ring) = source.ring.as_ref().filter(|_| !range.is_empty()) {
                    self.receiver(s, encoding, ring, range, video);
                }
            }
            if s.projection.current() != before {
                switched = true;
                feed.wanted.change(wanted, s.wanted());
            }
        }
        for source in &mut feed.encodings {
            source.fresh = source.fresh_range().end;
        }
        feed.due = None;
        switched
    }

    /// Gives packets of one encoding to one receiver.
    fn receiver(
        &mut self,
        s: &mut Subscription,
        encoding: u8,
        ring: &PacketRing,
        range: std::ops::Range<RingIndex>,
        video: bool,
    ) {
        let wanted = Some(encoding);
        if s.projection.current() != wanted && s.projection.target() != wanted {
            return;
        }
        let Some(e) = self.endpoints.get_mut(s.receiver) else { return };
        if e.receiver.tx.is_none() || e.receiver.dest.is_none() {
            // Nothing is projected, so that the receiver goes on at a keyframe once it is ready.
            s.projection.pause(self.now_ms);
            return self.drops.add(Drop::ReceiverNotReady, range.end - range.start);
        }
        s.projection.reclaim(self.now_ms);
        let planned = &mut self.scratch.planned;
        planned.clear();
        for at in range {
            let Some((meta, _)) = ring.get(at) else { continue };
            let Some(payload_type) = s.payload_types.media(meta.payload_type) else {
                self.drops.count(Drop::CodecNotNegotiated);
                s.projection.skip(encoding, meta);
                continue;
            };
            let Some(projected) = s.projection.accept(encoding, meta) else { continue };
            let len = FIXED_LEN
                + sources_len(meta)
                + extension_len(meta, &e.media.tables, s.terms.mid.as_ref())
                + usize::from(meta.payload_len);
            let len = len as u16;
            planned.push(Planned { ring: at, projected, payload_type, padding: 0, len });
        }
        if video {
            equalise(planned);
        }
        for i in 0..self.scratch.planned.len() {
            let Some(p) = self.scratch.planned.get(i).copied() else { continue };
            self.packet(s, encoding, ring, &p, video);
        }
    }

    /// Writes, seals and counts one packet.
    #[inline]
    fn packet(
        &mut self,
        s: &mut Subscription,
        encoding: u8,
        ring: &PacketRing,
        p: &Planned,
        video: bool,
    ) {
        let Some(e) = self.endpoints.get_mut(s.receiver) else { return };
        let (Some(tx), Some(dest)) = (e.receiver.tx.as_ref(), e.receiver.dest.as_ref()) else {
            return;
        };
        let Some((meta, packet)) = ring.get(p.ring) else { return };
        let outgoing = Outgoing {
            index: p.projected.index,
            timestamp: p.projected.timestamp,
            ssrc: s.ssrc,
            payload_type: p.payload_type,
            padding: p.padding,
            picture_id_delta: p.projected.picture_id_delta,
            tl0_delta: p.projected.tl0_delta,
            original: None,
        };
        if e.tap.is_some() {
            tap_sent(e, &outgoing, meta, packet, s.terms.mid.as_ref());
        }
        let room = self.out.reserve(dest, MAX_DATAGRAM);
        let Some(buf) = room else { return self.drops.count(Drop::SendQueueFull) };
        let written =
            write_rtp(buf, &outgoing, meta, packet, &e.media.tables, s.terms.mid.as_ref(), tx);
        let Some(len) = written else {
            self.out.commit(0);
            return self.drops.count(Drop::TooLarge);
        };
        self.out.commit(len);
        self.totals.rtp_sent += 1;
        self.totals.rtp_bytes_sent += len as u64;
        e.receiver.sent.0 += 1;
        e.receiver.sent.1 += len as u64;
        s.projection.on_sent(p.projected.index);
        e.receiver.resend.on_sent(len);
        s.packets = s.packets.wrapping_add(1);
        s.octets = s.octets.wrapping_add(u32::from(meta.payload_len));
        s.interval_bytes += len as u64;
        if video {
            s.history.record(Sent {
                index: p.projected.index,
                ring: p.ring as u32,
                timestamp: p.projected.timestamp,
                at_ms: self.now_ms,
                picture_id_delta: p.projected.picture_id_delta,
                encoding,
                tl0_delta: p.projected.tl0_delta,
                padding: p.padding,
            });
        }
    }

    /// Answers a NACK for one sequence number from the ring: as RTX where negotiated (RFC 4588), else
    /// the same packet again, byte for byte.
    pub(super) fn resend(&mut self, feed: &mut Feed, at: usize, sent: &Sent) -> bool {
        let Some(s) = feed.subscriptions.get_mut(at) else { return false };
        let ring = feed.encodings.get(usize::from(sent.encoding)).and_then(|f| f.ring.as_ref());
        let Some((meta, packet)) = ring.and_then(|r| r.get(r.nearest(sent.ring))) else {
            return false;
        };
        let Some(e) = self.endpoints.get_mut(s.receiver) else { return false };
        let (Some(tx), Some(dest)) = (e.receiver.tx.as_ref(), e.receiver.dest.as_ref()) else {
            return false;
        };
        let rtx = s.rtx_ssrc.zip(s.payload_types.rtx(meta.payload_type));
        let plain = s.payload_types.media(meta.payload_type);
        let mut outgoing = Outgoing {
            index: sent.index,
            timestamp: sent.timestamp,
            ssrc: s.ssrc,
            payload_type: 0,
            padding: sent.padding,
            picture_id_delta: sent.picture_id_delta,
            tl0_delta: sent.tl0_delta,
            original: None,
        };
        match (rtx, plain) {
            (Some((ssrc, payload_type)), _) => {
                // A number of its own, used up when it leaves.
                outgoing = Outgoing {
                    index: s.rtx_next,
                    ssrc,
                    payload_type,
                    padding: 0,
                    original: Some(sent.index as u16),
                    ..outgoing
                };
            }
            (None, Some(payload_type)) => outgoing.payload_type = payload_type,
            (None, None) => return false,
        }
        if e.tap.is_some() {
            tap_sent(e, &outgoing, meta, packet, s.terms.mid.as_ref());
        }
        let Some(buf) = self.out.reserve(dest, MAX_DATAGRAM) else {
            self.drops.count(Drop::SendQueueFull);
            return true;
        };
        let written =
            write_rtp(buf, &outgoing, meta, packet, &e.media.tables, s.terms.mid.as_ref(), tx);
        self.out.commit(written.unwrap_or(0));
        let Some(len) = written else { return true };
        s.rtx_next += u64::from(outgoing.original.is_some());
        self.totals.rtp_sent += 1;
        self.totals.rtp_bytes_sent += len as u64;
        self.totals.retransmissions_sent += 1;
        e.receiver.sent.0 += 1;
        e.receiver.sent.1 += len as u64;
        e.receiver.resend.on_resent(len);
        s.retransmissions += 1;
        s.interval_bytes += len as u64;
        true
    }
}

/// Copies what an endpoint is sent, as it is inside SRTP: in the send buffer it is sealed as it is
/// written.
#[cold]
fn tap_sent(
    e: &Endpoint,
    outgoing: &Outgoing,
    meta: &PacketMeta,
    packet: &[u8],
    mid: Option<&Mid>,
) {
    let mut plain = [0; MAX_DATAGRAM];
    let written = write_plain(&mut plain, outgoing, meta, packet, &e.media.tables, mid);
    if let (Some(tap), Some((_, len))) = (&e.tap, written) {
        tap.copy(true, plain.get(..len).unwrap_or_default());
    }
}

/// Pads neighbours of nearly the same size to the same size. The last of a run may be shorter.
fn equalise(planned: &mut [Planned]) {
    let mut rest = planned;
    while let Some(first) = rest.first() {
        let (mut min, mut max) = (first.len, first.len);
        let run = rest
            .iter()
            .take_while(|p| {
                let (low, high) = (min.min(p.len), max.max(p.len));
                let fits = usize::from(high - low) <= MAX_EQUALISING_PADDING;
                if fits {
                    (min, max) = (low, high);
                }
                fits
            })
            .count();
        let (now, later) = rest.split_at_mut(run.max(1));
        let last = now.len() - 1;
        for p in now.iter_mut().take(last) {
            p.padding = (max - p.len) as u8;
        }
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(lens: &[u16]) -> Vec<(u16, u8)> {
        let projected = Projected { index: 0, timestamp: 0, picture_id_delta: 0, tl0_delta: 0 };
        let mut all: Vec<_> = lens
            .iter()
            .map(|len| Planned { ring: 0, projected, payload_type: 0, padding: 0, len: *len })
            .collect();
        equalise(&mut all);
        all.iter().map(|p| (p.len, p.padding)).collect()
    }

    #[test]
    fn nearly_equal_packets_become_equal() {
        assert_eq!(planned(&[1099, 1099, 1100]), [(1099, 1), (1099, 1), (1100, 0)]);
        assert_eq!(planned(&[1100, 1099, 900]), [(1100, 0), (1099, 0), (900, 0)]);
        assert_eq!(planned(&[1100, 1099, 1100, 500]), [(1100, 0), (1099, 1), (1100, 0), (500, 0)]);
        assert_eq!(planned(&[]), []);
    }
}
