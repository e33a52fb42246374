//! Plans which packets of a stream leave now, and with which numbers.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits, and lengths of one datagram"
)]

use std::time::Duration;

use rialto_media::{Drop, DropCounters, Tables, encodings::EncodingMask};
use rialto_rtp::{codec::Targets, header::FIXED_LEN};

use super::{
    Stream,
    link::Link,
    poll::Clock,
    projection::Projected,
    redundancy::{Choice, Chosen, Form, Losses},
};
use crate::{
    DelayHistogram, Redundancy,
    egress::{
        SourceFeed,
        ring::{PacketRing, RingIndex},
        wire::{extension_len, sources_len},
    },
    ingress::PacketMeta,
    slots::{FeedSlot, OutStreamSlot},
};

/// Packets that differ by up to this many bytes are padded to equal size. Browsers split a frame
/// into packets that differ by a byte, and only packets of equal size can share a send.
const MAX_EQUALISING_PADDING: usize = 16;

/// Video that waited longer than this is of no use any more: the queue is dropped as a whole, and
/// the stream continues at a keyframe. A keyframe costs more than what it replaces, and may take
/// half a second itself on a link that has just become narrow: with a limit of 400 ms, streams went
/// from one keyframe to the next and never got through (`make links`, 5 to 1 Mbit/s).
const MAX_WAIT_MS: u32 = 1_000;

/// If another encoding's keyframe waits behind it, video that waited longer than this is dropped.
const MAX_WAIT_BEFORE_SWITCH_MS: u32 = 100;

/// Packets among which a switch looks for what else it needs: as many as may arrive within a round
/// trip, in which the keyframe's first packet was retransmitted.
const LOOK_BACK: u64 = 64;

/// Packets before the first slice of a picture: a delimiter, parameter sets, messages.
const MAX_PREFIXES: u64 = 8;

/// A packet that is about to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) stream: OutStreamSlot,
    pub(super) feed: FeedSlot,
    pub(super) ring: RingIndex,
    pub(super) projected: Projected,
    pub(super) encoding: u8,
    pub(super) payload_type: u8,
    pub(super) form: Form,
    pub(super) padding: u8,
    len: u16,
}

/// Plans what leaves of one stream.
pub(super) struct Planner<'a> {
    pub(super) slot: OutStreamSlot,
    pub(super) s: &'a mut Stream,
    pub(super) link: Option<&'a mut Link>,
    pub(super) tables: &'a Tables,
    pub(super) drops: &'a mut DropCounters,
    pub(super) paced: &'a mut DelayHistogram,
    pub(super) planned: &'a mut Vec<Planned>,
    pub(super) clock: Clock,
    pub(super) redundancy: Redundancy,
    pub(super) losses: Losses,
}

impl Planner<'_> {
    /// Plans the packets of one encoding. Returns whether some of them have to wait.
    #[inline]
    pub(super) fn encoding(&mut self, encoding: u8, ring: &PacketRing, can_wait: bool) -> bool {
        let mut next = self.s.next.get(usize::from(encoding)).copied().unwrap_or(0);
        let mut waits = false;
        while next < ring.head() {
            if can_wait && self.link.as_mut().is_some_and(|link| !link.allows(self.clock.now)) {
                waits = true;
                break;
            }
            if let Some((meta, _)) = ring.get(next) {
                let newest = next + 1 >= ring.head();
                let waits_for_next = newest && self.s.projection.may_end_picture(encoding, meta)
                    || meta.prefix && self.waits_for_picture(encoding, ring, next, meta);
                if waits_for_next {
                    // The next packet triggers this again.
                    break;
                }
                if self.s.projection.may_begin(encoding, meta) {
                    self.begin(encoding, ring, next, meta);
                } else {
                    self.packet(encoding, ring, next, meta);
                }
            }
            next += 1;
        }
        set_next(self.s, encoding, next);
        waits
    }

    /// Starts the encoding with the keyframe that the packet `at` belongs to, as a whole, and
    /// continues with all newer packets. Some of these may have been skipped, since they arrived
    /// before the keyframe's first packet, or before this encoding was chosen.
    #[cold]
    fn begin(&mut self, encoding: u8, ring: &PacketRing, at: RingIndex, one: &PacketMeta) {
        let recent = || {
            let places = at.saturating_sub(LOOK_BACK)..=at;
            places.filter_map(|place| Some((place, ring.get(place)?.0)))
        };
        let firsts = recent().filter(|(_, m)| m.keyframe && m.timestamp == one.timestamp);
        let Some((first, meta)) = firsts.min_by_key(|(_, m)| m.index) else { return };
        // The parameter sets of an H.264 keyframe, without which its slices are of no use, may
        // arrive behind its first slice. Everything before that must be known.
        let follows = |(_, m): (RingIndex, &PacketMeta)| m.index.wrapping_add(1) == meta.index;
        if !meta.start && !recent().any(follows) {
            return;
        }
        self.packet(encoding, ring, first, meta);
        for (place, newer) in recent().filter(|(_, newer)| newer.index > meta.index) {
            // A packet that was lost before one that came before the keyframe was lost before the
            // keyframe.
            let newer = PacketMeta { lost: Targets::NONE, ..*newer };
            self.packet(encoding, ring, place, &newer);
        }
    }

    /// Returns whether a packet without picture data has to wait: the picture that it belongs to
    /// has not arrived yet, and decides whether it is forwarded.
    #[cold]
    fn waits_for_picture(
        &self,
        encoding: u8,
        ring: &PacketRing,
        place: RingIndex,
        meta: &PacketMeta,
    ) -> bool {
        self.s.projection.depends_on_layers(encoding) && of_picture(ring, place, meta).is_none()
    }

    #[inline]
    fn packet(&mut self, encoding: u8, ring: &PacketRing, place: RingIndex, meta: &PacketMeta) {
        let known;
        let meta = if meta.prefix && self.s.projection.depends_on_layers(encoding) {
            known = of_picture(ring, place, meta).unwrap_or(*meta);
            &known
        } else {
            meta
        };
        let chosen = self.choose(ring, place, meta);
        let s = &mut *self.s;
        if meta.audio.included_only && !s.terms.included {
            return s.projection.skip(encoding, meta);
        }
        let Chosen { form, payload_type, payload_len } = match chosen {
            Ok(chosen) => chosen,
            Err(reason) => {
                self.drops.count(reason);
                return s.projection.skip(encoding, meta);
            }
        };
        let Some(mut projected) = s.projection.accept(encoding, meta) else { return };
        s.projection.mark(&mut projected, meta, ring.get(place + 1).map(|(next, _)| next));
        if meta.keyframe {
            s.keyframe = Some((projected.index, self.clock.now_ms));
            s.lost = false;
        }
        if s.waited {
            let waited = self.clock.now_ms.wrapping_sub(meta.arrival_ms);
            self.paced.record(Duration::from_millis(waited.into()));
        }
        let empty;
        let (meta, payload_len) = if projected.filler {
            empty = PacketMeta::default();
            (&empty, 0)
        } else {
            (meta, payload_len)
        };
        let len = FIXED_LEN
            + sources_len(meta)
            + extension_len(meta, self.tables, s.terms.mid.as_ref(), self.link.is_some())
            + payload_len;
        if let Some(link) = self.link.as_mut() {
            link.charge(len);
        }
        let (stream, feed, len) = (self.slot, s.feed, len as u16);
        self.planned.push(Planned {
            stream,
            feed,
            ring: place,
            projected,
            encoding,
            payload_type,
            form,
            padding: 0,
            len,
        });
    }

    /// Chooses the form in which the receiver gets a packet. The error says why it cannot have it.
    #[inline]
    fn choose(
        &self,
        ring: &PacketRing,
        place: RingIndex,
        meta: &PacketMeta,
    ) -> Result<Chosen, Drop> {
        let map = &*self.s.payload_types;
        if self.s.is_video() {
            let payload_type = map.media(meta.payload_type).ok_or(Drop::CodecNotNegotiated)?;
            let payload_len = usize::from(meta.payload_len);
            return Ok(Chosen { form: Form::AsSent, payload_type, payload_len });
        }
        let (rules, losses, now) = (self.redundancy, self.losses, self.clock.now);
        Choice { map, rules, losses, now }.form(ring, place, meta)
    }
}

/// Returns the description of a packet without picture data, completed with the layers of the
/// packets behind it. `None` if none has arrived yet.
#[cold]
fn of_picture(ring: &PacketRing, place: RingIndex, meta: &PacketMeta) -> Option<PacketMeta> {
    for at in place + 1..=place + MAX_PREFIXES {
        let (next, _) = ring.get(at)?;
        if next.timestamp != meta.timestamp {
            if next.index > meta.index {
                // There is none.
                break;
            }
        } else if !next.prefix {
            let keyframe = meta.keyframe && next.layers.independent;
            return Some(PacketMeta { layers: next.layers, keyframe, prefix: false, ..*meta });
        }
    }
    Some(*meta)
}

/// Drops everything that waits if it waited for too long, or if a keyframe of another encoding that
/// was chosen waits behind it; the stream continues at a keyframe. Returns how many packets are
/// dropped.
#[cold]
pub(super) fn catch_up(s: &mut Stream, feed: &SourceFeed, now_ms: u32) -> Option<u64> {
    let current = s.projection.current()?;
    let next = s.next.get(usize::from(current)).copied()?;
    let oldest = feed.packet(current, next);
    let age = oldest.map_or(0, |meta| now_ms.wrapping_sub(meta.arrival_ms));
    let late = |than: u32| age > than && age < u32::MAX / 2;
    let skipped =
        if late(MAX_WAIT_BEFORE_SWITCH_MS) && s.projection.waits() && s.keyframe_waits(feed) {
            skip_encoding(s, feed, current)
        } else if late(MAX_WAIT_MS) {
            let (wanted, _) = s.wanted();
            skip(s, feed, wanted)
        } else {
            return None;
        };
    s.cut(now_ms);
    Some(skipped)
}

/// Ends the encoding that a stream forwards, if something of it is missing that is not retransmitted while the keyframe of
/// another one is on its way. That keyframe stays, if it is there already. Returns how many packets are dropped.
pub(super) fn give_up(s: &mut Stream, feed: &SourceFeed, now_ms: u32) -> Option<u64> {
    let given_up = std::mem::take(&mut s.given_up) && s.projection.waits();
    let current = s.projection.current().filter(|_| given_up)?;
    let skipped = skip_encoding(s, feed, current);
    s.cut(now_ms);
    Some(skipped)
}

/// Skips everything in the ring of one encoding. Returns how many packets that skips.
fn skip_encoding(s: &mut Stream, feed: &SourceFeed, encoding: u8) -> u64 {
    let head = feed.head(encoding);
    let next = s.next.get_mut(usize::from(encoding));
    next.map_or(0, |next| head.saturating_sub(std::mem::replace(next, head)))
}

/// Skips everything in the rings of a source. Returns how many packets of the encodings in `wanted`
/// that skips.
pub(super) fn skip(s: &mut Stream, feed: &SourceFeed, wanted: EncodingMask) -> u64 {
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

pub(super) fn set_next(s: &mut Stream, encoding: u8, next: RingIndex) {
    if let Some(place) = s.next.get_mut(usize::from(encoding)) {
        *place = next;
    }
}

/// Pads neighbours of nearly equal size to the same size. The last of a run may be shorter.
pub(super) fn equalise(planned: &mut [Planned]) {
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
    use rialto_rtp::codec::FrameLayers;

    use super::*;
    use crate::egress::{ring::RingSize, wire::Shift};

    fn planned(lens: &[u16]) -> Vec<(u16, u8)> {
        let projected = Projected {
            index: 0,
            timestamp: 0,
            shift: Shift::default(),
            dropped: 0,
            marker: false,
            filler: false,
        };
        let mut all: Vec<_> = lens
            .iter()
            .map(|len| Planned {
                stream: OutStreamSlot::default(),
                feed: FeedSlot::default(),
                ring: 0,
                projected,
                encoding: 0,
                payload_type: 0,
                form: Form::AsSent,
                padding: 0,
                len: *len,
            })
            .collect();
        equalise(&mut all);
        all.iter().map(|p| (p.len, p.padding)).collect()
    }

    #[test]
    fn what_comes_before_the_slices_is_of_their_layers() {
        let meta = |index: u64, timestamp: u32, prefix: bool, temporal: u8| {
            let present = Targets::from(0, temporal);
            let layers = FrameLayers { temporal, present, ..FrameLayers::DELTA };
            PacketMeta { index, timestamp, layers, prefix, ..PacketMeta::default() }
        };
        let mut ring = PacketRing::new(RingSize::VIDEO);
        let first = meta(10, 0, true, 0);
        let at = ring.push(first, &[0]).unwrap();
        let temporal = |ring: &PacketRing| of_picture(ring, at, &first).map(|m| m.layers.temporal);
        assert_eq!(temporal(&ring), None, "it is not known yet");
        ring.push(meta(9, 7, false, 1), &[0]).unwrap();
        ring.push(meta(11, 0, true, 0), &[0]).unwrap();
        assert_eq!(temporal(&ring), None, "nor by what is late, or has no slice either");
        ring.push(meta(12, 0, false, 1), &[0]).unwrap();
        assert_eq!(temporal(&ring), Some(1));
        let sps = PacketMeta { keyframe: true, ..first };
        assert_eq!(
            of_picture(&ring, at, &sps).map(|m| (m.keyframe, m.prefix)),
            Some((false, false))
        );
        // A picture of which nothing else arrives.
        let last = meta(13, 1, true, 0);
        let at = ring.push(last, &[0]).unwrap();
        ring.push(meta(14, 2, false, 1), &[0]).unwrap();
        assert!(of_picture(&ring, at, &last).is_some_and(|m| m.layers == last.layers));
    }

    #[test]
    fn nearly_equal_packets_become_equal() {
        assert_eq!(planned(&[1099, 1099, 1100]), [(1099, 1), (1099, 1), (1100, 0)]);
        assert_eq!(planned(&[1100, 1099, 900]), [(1100, 0), (1099, 0), (900, 0)]);
        assert_eq!(planned(&[1100, 1099, 1100, 500]), [(1100, 0), (1099, 1), (1100, 0), (500, 0)]);
        assert_eq!(planned(&[]), []);
    }
}
