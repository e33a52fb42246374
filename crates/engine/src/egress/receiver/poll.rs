//! Sends what may leave to one receiver now, in this order: audio, retransmissions, video, probes.
//! All of it is written side by side, so that packets of equal size leave in one send
//! (`UDP_SEGMENT`), whichever sources they belong to.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits, and lengths of one datagram; the low bits of an index are its sequence number"
)]

use std::time::{Duration, Instant};

use rialto_bwe::Kind;
use rialto_media::{Drop, DropCounters, SourceId};
use slotmap::SlotMap;

use super::{
    Receiver, Stream,
    emit::{Target, emit},
    history::Sent,
    link::{Link, absolute_send_time},
    plan::{Planned, Planner, catch_up, equalise, give_up, set_next, skip},
    projection::Projected,
    queue::Retransmission,
    redundancy::{Form, Remade},
};
use crate::{
    DelayHistogram, Redundancy, ShardTotals,
    core::{Endpoint, Outbox},
    egress::{
        SourceFeed,
        wire::{Outgoing, Shift, Stamp},
    },
    ingress::PacketMeta,
    slots::{FeedSlot, OutStreamSlot},
};

/// Shortest wait of packets that are held back.
const MIN_WAIT: Duration = Duration::from_millis(1);
/// Most probe packets that leave at a time.
const MAX_PROBE_PACKETS: usize = 32;
/// Payload of a padding-only packet (RFC 3550 section 5.1: its length is one byte).
const PADDING: u8 = 255;
/// Recent packets among which a probe looks for one to send again.
const RECENT: u64 = 64;

/// Memory that is reused for each receiver, and follow-up work for the shard.
#[derive(Debug)]
pub struct Scratch {
    planned: Vec<Planned>,
    blocked: Vec<OutStreamSlot>,
    /// Sources of which the receiver now needs other encodings, or a keyframe.
    pub switched: Vec<SourceId>,
    /// Streams of the receiver that need a keyframe, since packets that waited for too long were
    /// dropped.
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

/// The time of a tick in the forms that packets need, read once for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The time.
    pub now: Instant,
    /// Milliseconds since the shard's epoch (it wraps; only differences count).
    pub now_ms: u32,
    /// Absolute send time, 6.18 fixed point seconds.
    pub send_time: u32,
}

impl Clock {
    /// Creates the clock of a shard whose epoch was `since_epoch` ago.
    pub fn new(now: Instant, since_epoch: Duration) -> Self {
        let (now_ms, send_time) = (since_epoch.as_millis() as u32, absolute_send_time(since_epoch));
        Self { now, now_ms, send_time }
    }
}

/// The parts of a shard that polling needs.
pub struct Poll<'a, O> {
    /// The sources.
    pub feeds: &'a mut SlotMap<FeedSlot, SourceFeed>,
    /// Counters of dropped packets.
    pub drops: &'a mut DropCounters,
    /// Counters of sent packets.
    pub totals: &'a mut ShardTotals,
    /// How long the pacer held packets back.
    pub paced: &'a mut DelayHistogram,
    /// How redundant audio is handled.
    pub redundancy: Redundancy,
    /// Reused memory.
    pub scratch: &'a mut Scratch,
    /// The time.
    pub clock: Clock,
    /// Where packets are written.
    pub out: &'a mut O,
}

impl<O: Outbox> Poll<'_, O> {
    /// Sends what may leave now to one receiver. Returns when it should be polled again if nothing
    /// is offered until then.
    pub fn receiver(&mut self, e: &mut Endpoint) -> Option<Instant> {
        e.receiver.queue.listed = false;
        if !e.receiver.is_ready() {
            self.discard(&mut e.receiver);
            return None;
        }
        self.audio(e);
        self.retransmit_due(e);
        self.video(e);
        let link = e.receiver.link.as_mut()?;
        link.on_timeout(self.clock.now);
        if link.pacer.running_probe().is_some() {
            self.probe(e);
        }
        let link = e.receiver.link.as_ref()?;
        let waits = !e.receiver.queue.is_empty();
        let next = waits.then(|| link.pacer.next_send(self.clock.now));
        let copy = e.receiver.queue.next_copy();
        let next = [next, link.next_timeout(), copy].into_iter().flatten().min()?;
        // Packets that leave together are cheap, and a probe that finds nothing to send must not
        // spin.
        Some(next.max(self.clock.now + MIN_WAIT))
    }

    /// Drops everything unprojected, so that streams continue at a keyframe once the receiver is
    /// ready.
    fn discard(&mut self, receiver: &mut Receiver) {
        let now_ms = self.clock.now_ms;
        receiver.queue.clear_retransmissions();
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
        equalise(&mut self.scratch.planned);
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

    /// Plans what a stream has to send. Returns whether some of it has to wait.
    fn plan(&mut self, e: &mut Endpoint, slot: OutStreamSlot, can_wait: bool) -> bool {
        let clock = self.clock;
        let Endpoint { receiver, media, .. } = e;
        let Receiver { streams, link, audio_losses, .. } = receiver;
        let (redundancy, losses) = (self.redundancy, *audio_losses);
        let Self { feeds, drops, paced, scratch, .. } = self;
        let Some(s) = streams.get_mut(slot) else { return false };
        let Some(feed) = feeds.get_mut(s.feed) else { return false };
        let (before, wanted) = (s.projection.current(), s.wanted());
        if let Some(skipped) = give_up(s, feed, clock.now_ms) {
            drops.add(Drop::Late, skipped);
            scratch.cut.push(slot);
        } else if !s.waited {
            s.projection.reclaim(clock.now_ms);
        } else if let Some(skipped) = catch_up(s, feed, clock.now_ms) {
            drops.add(Drop::Late, skipped);
            scratch.cut.push(slot);
        }
        let (link, tables, planned) = (link.as_deref_mut(), &media.tables, &mut scratch.planned);
        let mut planner =
            Planner { slot, s, link, tables, drops, paced, planned, clock, redundancy, losses };
        // A switch goes to a packet that is newer than all of the old encoding, so the old
        // encoding's packets go first.
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

    /// The stamp of the next packet: header extensions for this hop only.
    fn stamp(&self, link: Option<&Link>) -> Stamp {
        let Some(link) = link else { return Stamp::default() };
        Stamp { number: link.next_number(), send_time: Some(self.clock.send_time) }
    }

    /// Writes, seals and counts one packet.
    #[inline]
    fn packet(&mut self, e: &mut Endpoint, p: &Planned, kind: Kind) {
        let stamp = self.stamp(e.receiver.link.as_deref());
        let Some((mut to, s, link)) = Target::new(e, p.stream) else { return };
        let ring = self.feeds.get(p.feed).and_then(|f| f.ring(p.encoding));
        let Some((ring, (meta, packet))) = ring.and_then(|r| Some((r, r.get(p.ring)?))) else {
            return;
        };
        let remade;
        let (meta, packet) = if p.form == Form::AsSent {
            (meta, packet)
        } else {
            let made = Remade::new(p.form, &s.payload_types, ring, p.ring);
            let Some(made) = made else { return self.drops.count(Drop::TooLarge) };
            remade = made;
            (&remade.meta, remade.bytes.as_slice())
        };
        let Projected { index, timestamp, shift, dropped, marker, filler } = p.projected;
        let empty;
        let meta = if filler {
            empty = PacketMeta::default();
            &empty
        } else {
            meta
        };
        let outgoing = Outgoing {
            index,
            timestamp,
            ssrc: s.ssrc,
            payload_type: p.payload_type,
            marker,
            padding: p.padding,
            shift,
            original: None,
            stamp,
        };
        let Self { out, drops, totals, .. } = self;
        let written = emit(*out, drops, totals, &mut to, &outgoing, meta, packet);
        let Some(len) = written else { return };
        to.resend.on_sent(len);
        if kind == Kind::Audio {
            to.allocation.on_audio(len);
        }
        if let Some(link) = link {
            link.on_sent(self.clock.now, len, kind, (outgoing.ssrc, index));
        }
        s.projection.on_sent(index);
        s.packets = s.packets.wrapping_add(1);
        s.octets = s.octets.wrapping_add(u32::from(meta.payload_len));
        s.interval_bytes += len as u64;
        if s.is_video() && !filler {
            let sent = Sent {
                index,
                ring: p.ring as u32,
                timestamp_delta: timestamp.wrapping_sub(meta.timestamp),
                at_ms: self.clock.now_ms,
                shift,
                dropped,
                marker,
                encoding: p.encoding,
                padding: p.padding,
                stamp,
            };
            s.history.record(sent, s.resend_type(meta).is_none());
        }
    }

    /// Sends requested retransmissions, as far as they may leave now.
    fn retransmit_due(&mut self, e: &mut Endpoint) {
        let now = self.clock.now;
        let rtt = e.receiver.round_trip();
        while !e.receiver.queue.retransmissions.is_empty() {
            if e.receiver.link.as_mut().is_some_and(|link| !link.allows(now)) {
                return;
            }
            let Some(retransmission) = e.receiver.queue.retransmissions.pop_front() else { return };
            if self.retransmit_once(e, &retransmission)
                && e.receiver.link.as_ref().is_some_and(|link| link.sends_copies(rtt))
                && e.receiver
                    .streams
                    .get(retransmission.stream)
                    .is_some_and(|s| s.rtx_ssrc.is_some())
            {
                e.receiver.queue.copy_later(now, retransmission);
            }
        }
        // A copy that has to wait is not worthwhile.
        while let Some(copy) = e.receiver.queue.take_copy(now) {
            let Endpoint { receiver: Receiver { link, streams, .. }, .. } = &mut *e;
            let counts = |s: &mut Stream| s.history.count_copy(copy.sent.index);
            if link.as_mut().is_some_and(|link| link.allows(now))
                && streams.get_mut(copy.stream).is_some_and(counts)
            {
                self.retransmit_once(e, &copy);
            }
        }
    }

    /// Retransmits a packet if the budget allows. Returns whether it left.
    fn retransmit_once(&mut self, e: &mut Endpoint, retransmission: &Retransmission) -> bool {
        if !e.receiver.resend.allows(self.clock.now_ms) {
            self.drops.count(Drop::RetransmissionBudget);
            return false;
        }
        let Some(len) = self.resend(e, retransmission, Kind::Retransmission) else { return false };
        if let Some(link) = e.receiver.link.as_mut() {
            link.charge(len);
        }
        true
    }

    /// Retransmits a packet from the ring: as RTX where negotiated (RFC 4588), else the same
    /// packet, byte for byte. Returns its length, or `None` if it did not leave.
    fn resend(
        &mut self,
        e: &mut Endpoint,
        retransmission: &Retransmission,
        kind: Kind,
    ) -> Option<usize> {
        let stamp = self.stamp(e.receiver.link.as_deref());
        let Retransmission { stream, sent } = retransmission;
        let (mut to, s, link) = Target::new(e, *stream)?;
        let ring = self.feeds.get(s.feed).and_then(|f| f.ring(sent.encoding));
        let Some((meta, packet)) = ring.and_then(|r| r.get(r.nearest(sent.ring))) else {
            self.totals.retransmissions_missed += 1;
            return None;
        };
        let mut outgoing = Outgoing {
            index: sent.index,
            timestamp: meta.timestamp.wrapping_add(sent.timestamp_delta),
            ssrc: s.ssrc,
            payload_type: 0,
            marker: sent.marker,
            padding: sent.padding,
            shift: sent.shift,
            original: None,
            stamp: sent.stamp,
        };
        if let Some((ssrc, payload_type)) = s.resend_type(meta) {
            // It has a number of its own, which is used up when it leaves.
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
        let Self { out, drops, totals, .. } = self;
        let len = emit(*out, drops, totals, &mut to, &outgoing, meta, packet)?;
        s.interval_bytes += len as u64;
        if outgoing.original.is_some() {
            s.rtx_next += 1;
            if let Some(link) = link {
                link.on_sent(self.clock.now, len, kind, (outgoing.ssrc, outgoing.index));
            }
        }
        if kind == Kind::Retransmission {
            self.totals.retransmissions_sent += 1;
            to.resend.on_resent(len);
            to.allocation.on_retransmitted(len);
            s.retransmissions += 1;
        } else {
            self.totals.probes_sent += 1;
        }
        Some(len)
    }

    /// Sends packets that only probe the bandwidth: recent packets again, else padding. They need a
    /// retransmission stream, where a gap does not look like loss to a receiver.
    fn probe(&mut self, e: &mut Endpoint) {
        let mut left = MAX_PROBE_PACKETS;
        let mut back = 0;
        while let Some(link) = e.receiver.link.as_mut()
            && let Some((_, bytes)) = link.pacer.probe_due(self.clock.now)
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
            e.receiver.streams.iter().find(|(_, s)| s.is_video() && s.rtx_ssrc.is_some())?;
        let recent = (*back..RECENT).find_map(|at| {
            let sent = s.history.recent(at)?;
            *back = at + 1;
            Some(sent)
        });
        if let Some(sent) = recent {
            let retransmission = Retransmission { stream: slot, sent };
            if let Some(len) = self.resend(e, &retransmission, Kind::Probe) {
                return Some(len);
            }
        }
        self.padding(e, slot)
    }

    /// Sends a padding-only packet on the retransmission stream.
    fn padding(&mut self, e: &mut Endpoint, slot: OutStreamSlot) -> Option<usize> {
        let stamp = self.stamp(e.receiver.link.as_deref());
        let (mut to, s, link) = Target::new(e, slot)?;
        let feed = self.feeds.get(s.feed)?;
        let mut payload_types = feed.encodings.iter().filter_map(|e| e.payload_type);
        let payload_type = payload_types.find_map(|pt| s.payload_types.rtx(pt))?;
        let outgoing = Outgoing {
            index: s.rtx_next,
            timestamp: 0,
            ssrc: s.rtx_ssrc?,
            payload_type,
            marker: false,
            padding: PADDING,
            shift: Shift::default(),
            original: None,
            stamp,
        };
        let meta = PacketMeta::default();
        let Self { out, drops, totals, .. } = self;
        let len = emit(*out, drops, totals, &mut to, &outgoing, &meta, &[])?;
        s.rtx_next += 1;
        self.totals.probes_sent += 1;
        if let Some(link) = link {
            link.on_sent(self.clock.now, len, Kind::Probe, (outgoing.ssrc, outgoing.index));
        }
        Some(len)
    }
}
