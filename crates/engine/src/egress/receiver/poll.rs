//! What leaves to one receiver now, in this order: audio, what is sent again, video, probes. All of it is
//! written side by side, so that packets of one size leave in one send (`UDP_SEGMENT`), whichever
//! sources they are of.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits, and lengths of one datagram; the low bits of an index are its sequence number"
)]

use std::time::{Duration, Instant};

use rialto_bwe::Kind;
use rialto_media::{Drop, DropCounters, Mid, SourceId, Tables, encodings::EncodingMask};
use rialto_rtp::header::FIXED_LEN;
use rialto_srtp::TxContext;
use slotmap::SlotMap;

use super::{
    Receiver, Stream,
    allotment::Allotment,
    budget::ResendBudget,
    history::Sent,
    link::{Link, absolute_send_time},
    projection::Projected,
    queue::Again,
};
use crate::{
    DelayHistogram, ShardTotals, Tap,
    core::{Endpoint, MAX_DATAGRAM, Outbox},
    dest::Dest,
    egress::{
        Feed,
        ring::{PacketRing, RingIndex},
        wire::{Outgoing, Stamp, extension_len, sources_len, write_plain, write_rtp},
    },
    ingress::PacketMeta,
    slots::{FeedSlot, OutStreamSlot},
};

/// Packets that are within so many bytes of one another are padded to one size. Browsers cut a frame
/// into packets that differ by a byte, and only equal ones can share a send.
const MAX_EQUALISING_PADDING: usize = 16;

/// Video that waited longer is of no use any more: what waits is dropped whole, and the stream goes on at
/// a keyframe. A keyframe costs more than what it replaces, and may take half a second itself on a link
/// that has just become narrow: cut at 400 ms, streams went from one keyframe to the next and never got
/// through (`make links`, 5 to 1 Mbit/s).
const MAX_WAIT_MS: u32 = 1_000;

/// When another encoding's keyframe waits behind it, video that waited longer is left out.
const MAX_WAIT_BEFORE_SWITCH_MS: u32 = 100;

/// What is held back waits for so long at least.
const MIN_WAIT: Duration = Duration::from_millis(1);
/// Packets of probes that leave at a time.
const MAX_PROBE_PACKETS: usize = 32;
/// Payload of a packet that is padding only (RFC 3550 section 5.1: its length is one byte).
const PADDING: u8 = 255;
/// Recent packets among which a probe looks for one to send again.
const RECENT: u64 = 64;

/// A packet that will leave.
#[derive(Clone, Copy, Debug)]
struct Planned {
    stream: OutStreamSlot,
    feed: FeedSlot,
    ring: RingIndex,
    projected: Projected,
    encoding: u8,
    payload_type: u8,
    padding: u8,
    len: u16,
}

/// Memory that is used again for each receiver, and what the shard has to do afterwards.
#[derive(Debug)]
pub struct Scratch {
    planned: Vec<Planned>,
    blocked: Vec<OutStreamSlot>,
    /// Sources of which a receiver needs other encodings now, or a keyframe.
    pub switched: Vec<SourceId>,
    /// Streams of the receiver that need a keyframe, as what waited for too long was dropped.
    pub cut: Vec<OutStreamSlot>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            planned: Vec::with_capacity(1_024),
            blocked: Vec::new(),
            switched: Vec::new(),
            cut: Vec::new(),
        }
    }
}

/// What polling needs of the shard.
pub struct Poll<'a, O> {
    /// The sources.
    pub feeds: &'a mut SlotMap<FeedSlot, Feed>,
    /// What is dropped.
    pub drops: &'a mut DropCounters,
    /// What is sent.
    pub totals: &'a mut ShardTotals,
    /// How long the pacer held packets back.
    pub paced: &'a mut DelayHistogram,
    /// Memory.
    pub scratch: &'a mut Scratch,
    /// The time.
    pub now: Instant,
    /// The same, since the shard's epoch.
    pub since_epoch: Duration,
    /// Where it leaves.
    pub out: &'a mut O,
}

impl<O: Outbox> Poll<'_, O> {
    /// Writes what may leave now to one receiver. Returns when it should be polled again, if nothing is
    /// offered until then.
    pub fn receiver(&mut self, e: &mut Endpoint) -> Option<Instant> {
        e.receiver.queue.listed = false;
        if !e.receiver.is_ready() {
            self.discard(&mut e.receiver);
            return None;
        }
        self.audio(e);
        self.again(e);
        self.video(e);
        let link = e.receiver.link.as_mut()?;
        link.on_timeout(self.now);
        if link.probe().is_some() {
            self.probe(e);
        }
        let link = e.receiver.link.as_ref()?;
        let waits = !e.receiver.queue.is_empty();
        let next = waits.then(|| link.pacer.next_send(self.now));
        let next = next.into_iter().chain(link.next_timeout()).min()?;
        // Company makes packets cheap, and a probe that finds nothing to send must not spin.
        Some(next.max(self.now + MIN_WAIT))
    }

    fn now_ms(&self) -> u32 {
        self.since_epoch.as_millis() as u32
    }

    /// Nothing is projected, so that streams go on at a keyframe once the receiver is ready.
    fn discard(&mut self, receiver: &mut Receiver) {
        let now_ms = self.now_ms();
        receiver.queue.again.clear();
        let Receiver { queue, streams, .. } = receiver;
        for slot in queue.audio.drain(..).chain(queue.video.drain(..)) {
            let Some(s) = streams.get_mut(slot) else { continue };
            s.queued = false;
            let Some(feed) = self.feeds.get_mut(s.feed) else { continue };
            let before = s.wanted();
            let skipped = skip(s, feed, before.0);
            s.projection.pause(now_ms);
            if s.wanted() != before {
                feed.wanted.change(before, s.wanted());
                self.scratch.switched.push(s.source);
            }
            self.drops.add(Drop::ReceiverNotReady, skipped);
        }
    }

    fn audio(&mut self, e: &mut Endpoint) {
        if e.receiver.queue.audio.is_empty() {
            return;
        }
        let mut slots = std::mem::take(&mut e.receiver.queue.audio);
        for slot in slots.drain(..) {
            self.plan(e, slot, false);
        }
        e.receiver.queue.audio = slots;
        self.write(e, Kind::Audio);
    }

    fn video(&mut self, e: &mut Endpoint) {
        if e.receiver.queue.video.is_empty() {
            return;
        }
        let mut slots = std::mem::take(&mut e.receiver.queue.video);
        let paced = e.receiver.link.is_some();
        if paced && slots.len() > 1 {
            slots.sort_unstable_by_key(|slot| e.receiver.streams.get(*slot).map(|s| s.rank));
        }
        let mut blocked = std::mem::take(&mut self.scratch.blocked);
        for slot in slots.drain(..) {
            if self.plan(e, slot, paced) {
                blocked.push(slot);
            }
        }
        e.receiver.queue.video = std::mem::replace(&mut blocked, slots);
        self.scratch.blocked = blocked;
        equalise(&mut self.scratch.planned);
        self.write(e, Kind::Video);
    }

    /// Plans what a stream has to send. Returns whether something of it has to wait.
    fn plan(&mut self, e: &mut Endpoint, slot: OutStreamSlot, can_wait: bool) -> bool {
        let (now, now_ms) = (self.now, self.now_ms());
        let Endpoint { receiver, media, .. } = e;
        let Receiver { streams, link, .. } = receiver;
        let Self { feeds, drops, paced, scratch, .. } = self;
        let Some(s) = streams.get_mut(slot) else { return false };
        let Some(feed) = feeds.get_mut(s.feed) else { return false };
        let (before, wanted) = (s.projection.current(), s.wanted());
        if !s.waited {
            s.projection.reclaim(now_ms);
        } else if let Some(skipped) = catch_up(s, feed, now_ms) {
            drops.add(Drop::Late, skipped);
            scratch.cut.push(slot);
        }
        let (link, tables, planned) = (link.as_deref_mut(), &media.tables, &mut scratch.planned);
        let mut planner = Planner { slot, s, link, tables, drops, paced, planned, now, now_ms };
        // A switch goes to a packet that is newer than all of the old encoding, so the old one's
        // come first.
        let encodings = feed.info.spec.encodings.len() as u8;
        let order = before.into_iter().chain((0..encodings).filter(|e| Some(*e) != before));
        let mut waits = false;
        for encoding in order {
            let Some(source) = feed.encodings.get(usize::from(encoding)) else { continue };
            let gets = [planner.s.projection.current(), planner.s.projection.target()]
                .contains(&Some(encoding));
            if let (Some(ring), true) = (&source.ring, gets) {
                waits = planner.encoding(encoding, ring, can_wait);
            } else {
                set_next(planner.s, encoding, source.head());
            }
            if waits {
                break;
            }
        }
        let s = planner.s;
        (s.queued, s.waited) = (waits, waits);
        if s.wanted() != wanted {
            scratch.switched.push(s.source);
            feed.wanted.change(wanted, s.wanted());
        }
        waits
    }

    fn write(&mut self, e: &mut Endpoint, kind: Kind) {
        for at in 0..self.scratch.planned.len() {
            let Some(p) = self.scratch.planned.get(at).copied() else { continue };
            self.packet(e, &p, kind);
        }
        self.scratch.planned.clear();
    }

    /// What only this hop needs, of the next packet.
    fn stamp(&self, link: Option<&Link>) -> Stamp {
        let Some(link) = link else { return Stamp::default() };
        let send_time = Some(absolute_send_time(self.since_epoch));
        Stamp { number: link.next_number(), send_time }
    }

    /// Writes, seals and counts one packet.
    #[inline]
    fn packet(&mut self, e: &mut Endpoint, p: &Planned, kind: Kind) {
        let stamp = self.stamp(e.receiver.link.as_deref());
        let Some((to, s, link)) = Target::new(e, p.stream) else { return };
        let ring = self.feeds.get(p.feed).and_then(|f| f.ring(p.encoding));
        let Some((meta, packet)) = ring.and_then(|r| r.get(p.ring)) else { return };
        let Projected { index, timestamp, picture_id_delta, tl0_delta } = p.projected;
        let outgoing = Outgoing {
            index,
            timestamp,
            ssrc: s.ssrc,
            payload_type: p.payload_type,
            padding: p.padding,
            picture_id_delta,
            tl0_delta,
            original: None,
            stamp,
        };
        let written =
            emit(self.out, self.drops, &to, &outgoing, meta, packet, s.terms.mid.as_ref());
        let Some(len) = written else { return };
        self.totals.rtp_sent += 1;
        self.totals.rtp_bytes_sent += len as u64;
        to.sent.0 += 1;
        to.sent.1 += len as u64;
        to.resend.on_sent(len);
        if kind == Kind::Audio {
            to.allotment.on_audio(len);
        }
        if let Some(link) = link {
            link.on_sent(self.now, len, kind, link.probe());
        }
        s.projection.on_sent(index);
        s.packets = s.packets.wrapping_add(1);
        s.octets = s.octets.wrapping_add(u32::from(meta.payload_len));
        s.interval_bytes += len as u64;
        if s.is_video() {
            let sent = Sent {
                index,
                ring: p.ring as u32,
                timestamp,
                at_ms: self.since_epoch.as_millis() as u32,
                picture_id_delta,
                encoding: p.encoding,
                tl0_delta,
                padding: p.padding,
                stamp,
            };
            s.history.record(sent, s.resend_type(meta).is_none());
        }
    }

    /// What was asked for again, as far as it may leave now.
    fn again(&mut self, e: &mut Endpoint) {
        let now_ms = self.now_ms();
        while !e.receiver.queue.again.is_empty() {
            if e.receiver.link.as_mut().is_some_and(|link| !link.allows(self.now)) {
                return;
            }
            let Some(again) = e.receiver.queue.again.pop_front() else { return };
            if !e.receiver.resend.allows(now_ms) {
                self.drops.count(Drop::RetransmissionBudget);
                continue;
            }
            if let Some(len) = self.resend(e, &again, Kind::Retransmission)
                && let Some(link) = e.receiver.link.as_mut()
            {
                link.charge(len);
            }
        }
    }

    /// Sends a packet again from the ring: as RTX where negotiated (RFC 4588), else the same packet, byte
    /// for byte. Returns its length; `None`: it did not leave.
    fn resend(&mut self, e: &mut Endpoint, again: &Again, kind: Kind) -> Option<usize> {
        let stamp = self.stamp(e.receiver.link.as_deref());
        let Again { stream, sent } = again;
        let (to, s, link) = Target::new(e, *stream)?;
        let ring = self.feeds.get(s.feed).and_then(|f| f.ring(sent.encoding));
        let Some((meta, packet)) = ring.and_then(|r| r.get(r.nearest(sent.ring))) else {
            self.totals.retransmissions_missed += 1;
            return None;
        };
        let mut outgoing = Outgoing {
            index: sent.index,
            timestamp: sent.timestamp,
            ssrc: s.ssrc,
            payload_type: 0,
            padding: sent.padding,
            picture_id_delta: sent.picture_id_delta,
            tl0_delta: sent.tl0_delta,
            original: None,
            stamp: sent.stamp,
        };
        if let Some((ssrc, payload_type)) = s.resend_type(meta) {
            // A number of its own, used up when it leaves.
            outgoing = Outgoing {
                index: s.rtx_next,
                ssrc,
                payload_type,
                padding: 0,
                original: Some(sent.index as u16),
                stamp,
                ..outgoing
            };
        } else if let (Some(payload_type), Kind::Retransmission) =
            (s.payload_types.media(meta.payload_type), kind)
        {
            outgoing.payload_type = payload_type;
        } else {
            return None;
        }
        let len = emit(self.out, self.drops, &to, &outgoing, meta, packet, s.terms.mid.as_ref())?;
        self.totals.rtp_sent += 1;
        self.totals.rtp_bytes_sent += len as u64;
        to.sent.0 += 1;
        to.sent.1 += len as u64;
        s.interval_bytes += len as u64;
        if outgoing.original.is_some() {
            s.rtx_next += 1;
            if let Some(link) = link {
                link.on_sent(self.now, len, kind, link.probe());
            }
        }
        if kind == Kind::Retransmission {
            self.totals.retransmissions_sent += 1;
            to.resend.on_resent(len);
            s.retransmissions += 1;
        } else {
            self.totals.probes_sent += 1;
        }
        Some(len)
    }

    /// Packets that only find out what the path carries: recent ones again, else padding. They need a
    /// stream for retransmissions, where a receiver takes nothing for loss.
    fn probe(&mut self, e: &mut Endpoint) {
        let mut left = MAX_PROBE_PACKETS;
        let mut back = 0;
        while let Some(link) = e.receiver.link.as_mut()
            && let Some((_, bytes)) = link.pacer.probe_due(self.now)
        {
            let mut sent = 0;
            while sent < bytes && left > 0 {
                left -= 1;
                let Some(len) = self.probe_packet(e, &mut back) else { return };
                if let Some(link) = e.receiver.link.as_mut() {
                    link.charge(len);
                }
                sent += len;
            }
            if left == 0 {
                return;
            }
        }
    }

    fn probe_packet(&mut self, e: &mut Endpoint, back: &mut u64) -> Option<usize> {
        let (slot, s) =
            e.receiver.streams.iter().find(|(_, s)| s.probes && s.rtx_ssrc.is_some())?;
        let recent = (*back..RECENT).find_map(|at| {
            let sent = s.history.recent(at)?;
            *back = at + 1;
            Some(sent)
        });
        if let Some(sent) = recent {
            let again = Again { stream: slot, sent };
            if let Some(len) = self.resend(e, &again, Kind::Probe) {
                return Some(len);
            }
        }
        self.padding(e, slot)
    }

    /// A packet of padding only, on the stream of retransmissions.
    fn padding(&mut self, e: &mut Endpoint, slot: OutStreamSlot) -> Option<usize> {
        let stamp = self.stamp(e.receiver.link.as_deref());
        let (to, s, link) = Target::new(e, slot)?;
        let feed = self.feeds.get(s.feed)?;
        let mut payload_types = feed.encodings.iter().filter_map(|e| e.payload_type);
        let payload_type = payload_types.find_map(|pt| s.payload_types.rtx(pt))?;
        let outgoing = Outgoing {
            index: s.rtx_next,
            timestamp: 0,
            ssrc: s.rtx_ssrc?,
            payload_type,
            padding: PADDING,
            picture_id_delta: 0,
            tl0_delta: 0,
            original: None,
            stamp,
        };
        let meta = PacketMeta::default();
        let len = emit(self.out, self.drops, &to, &outgoing, &meta, &[], s.terms.mid.as_ref())?;
        s.rtx_next += 1;
        self.totals.rtp_sent += 1;
        self.totals.rtp_bytes_sent += len as u64;
        self.totals.probes_sent += 1;
        to.sent.0 += 1;
        to.sent.1 += len as u64;
        if let Some(link) = link {
            link.on_sent(self.now, len, Kind::Probe, link.probe());
        }
        Some(len)
    }
}

/// What of one stream leaves now.
struct Planner<'a> {
    slot: OutStreamSlot,
    s: &'a mut Stream,
    link: Option<&'a mut Link>,
    tables: &'a Tables,
    drops: &'a mut DropCounters,
    paced: &'a mut DelayHistogram,
    planned: &'a mut Vec<Planned>,
    now: Instant,
    now_ms: u32,
}

impl Planner<'_> {
    /// Plans the packets of one encoding. Returns whether some of them have to wait.
    #[inline]
    fn encoding(&mut self, encoding: u8, ring: &PacketRing, can_wait: bool) -> bool {
        let mut next = self.s.next.get(usize::from(encoding)).copied().unwrap_or(0);
        let mut waits = false;
        while next < ring.head() {
            if can_wait && self.link.as_mut().is_some_and(|link| !link.allows(self.now)) {
                waits = true;
                break;
            }
            if let Some((meta, _)) = ring.get(next) {
                self.packet(encoding, next, meta);
            }
            next += 1;
        }
        set_next(self.s, encoding, next);
        waits
    }

    #[inline]
    fn packet(&mut self, encoding: u8, ring: RingIndex, meta: &PacketMeta) {
        let s = &mut *self.s;
        let Some(payload_type) = s.payload_types.media(meta.payload_type) else {
            self.drops.count(Drop::CodecNotNegotiated);
            return s.projection.skip(encoding, meta);
        };
        let Some(projected) = s.projection.accept(encoding, meta) else { return };
        if meta.keyframe {
            s.keyframe = Some((projected.index, self.now_ms));
        }
        if s.waited {
            let waited = self.now_ms.wrapping_sub(meta.arrival_ms);
            self.paced.record(Duration::from_millis(waited.into()));
        }
        let len = FIXED_LEN
            + sources_len(meta)
            + extension_len(meta, self.tables, s.terms.mid.as_ref(), self.link.is_some())
            + usize::from(meta.payload_len);
        if let Some(link) = self.link.as_mut() {
            link.charge(len);
        }
        let (stream, feed, len) = (self.slot, s.feed, len as u16);
        self.planned.push(Planned {
            stream,
            feed,
            ring,
            projected,
            encoding,
            payload_type,
            padding: 0,
            len,
        });
    }
}

/// What waited for too long is dropped whole, and the stream goes on at a keyframe; so it does as soon as
/// the keyframe of another encoding waits that was decided. Returns how many packets are dropped.
#[cold]
fn catch_up(s: &mut Stream, feed: &Feed, now_ms: u32) -> Option<u64> {
    let current = s.projection.current()?;
    let next = s.next.get(usize::from(current)).copied()?;
    let oldest = feed.packet(current, next);
    let age = oldest.map_or(0, |meta| now_ms.wrapping_sub(meta.arrival_ms));
    let late = |than: u32| age > than && age < u32::MAX / 2;
    let skipped =
        if late(MAX_WAIT_BEFORE_SWITCH_MS) && s.projection.waits() && s.keyframe_waits(feed) {
            let head = feed.head(current);
            set_next(s, current, head);
            head.saturating_sub(next)
        } else if late(MAX_WAIT_MS) {
            let (wanted, _) = s.wanted();
            skip(s, feed, wanted)
        } else {
            return None;
        };
    s.projection.pause(now_ms);
    Some(skipped)
}

/// Where packets to one receiver go, and how.
struct Target<'a> {
    dest: &'a Dest,
    tx: &'a TxContext,
    tables: &'a Tables,
    tap: Option<&'a Tap>,
    sent: &'a mut (u64, u64),
    resend: &'a mut ResendBudget,
    allotment: &'a mut Allotment,
}

impl<'a> Target<'a> {
    #[inline]
    fn new(
        e: &'a mut Endpoint,
        stream: OutStreamSlot,
    ) -> Option<(Self, &'a mut Stream, Option<&'a mut Link>)> {
        let Endpoint { receiver, media, tap, .. } = e;
        let Receiver { streams, link, tx, dest, sent, resend, allotment, .. } = receiver;
        let (tx, dest, tap) = (tx.as_ref()?, dest.as_ref()?, tap.as_ref());
        let target = Self { dest, tx, tables: &media.tables, tap, sent, resend, allotment };
        Some((target, streams.get_mut(stream)?, link.as_deref_mut()))
    }
}

/// Writes and seals one packet. Returns its length; `None`: it did not leave.
#[inline]
fn emit(
    out: &mut impl Outbox,
    drops: &mut DropCounters,
    to: &Target<'_>,
    outgoing: &Outgoing,
    meta: &PacketMeta,
    packet: &[u8],
    mid: Option<&Mid>,
) -> Option<usize> {
    if let Some(tap) = to.tap {
        tap_sent(tap, to.tables, outgoing, meta, packet, mid);
    }
    let Some(buf) = out.reserve(to.dest, MAX_DATAGRAM) else {
        drops.count(Drop::SendQueueFull);
        return None;
    };
    let written = write_rtp(buf, outgoing, meta, packet, to.tables, mid, to.tx);
    out.commit(written.unwrap_or(0));
    if written.is_none() {
        drops.count(Drop::TooLarge);
    }
    written
}

/// Copies what an endpoint is sent, as it is inside SRTP: in the send buffer it is sealed as it is
/// written.
#[cold]
fn tap_sent(
    tap: &Tap,
    tables: &Tables,
    outgoing: &Outgoing,
    meta: &PacketMeta,
    packet: &[u8],
    mid: Option<&Mid>,
) {
    let mut plain = [0; MAX_DATAGRAM];
    let written = write_plain(&mut plain, outgoing, meta, packet, tables, mid);
    if let Some((_, len)) = written {
        tap.copy(true, plain.get(..len).unwrap_or_default());
    }
}

/// Everything that is there of a source is behind a stream. Returns how many packets of the encodings in
/// `wanted` that skips.
fn skip(s: &mut Stream, feed: &Feed, wanted: EncodingMask) -> u64 {
    let mut skipped = 0;
    for (at, (next, encoding)) in s.next.iter_mut().zip(&feed.encodings).enumerate() {
        let head = encoding.head();
        if wanted >> at & 1 == 1 {
            skipped += head.saturating_sub(*next);
        }
        *next = head;
    }
    skipped
}

fn set_next(s: &mut Stream, encoding: u8, next: RingIndex) {
    if let Some(place) = s.next.get_mut(usize::from(encoding)) {
        *place = next;
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
            .map(|len| Planned {
                stream: OutStreamSlot::default(),
                feed: FeedSlot::default(),
                ring: 0,
                projected,
                encoding: 0,
                payload_type: 0,
                padding: 0,
                len: *len,
            })
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
