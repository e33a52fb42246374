//! A projection whose source has layers, loses and reorders packets and leaps, while its receiver's
//! constraints change. Checks that the receiver's numbers stay in order and are never used twice,
//! that its timestamps, picture ids and frame numbers continue through switches, and that, if
//! everything arrives in order, each picture has one marker, on its last packet.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a fuzz target panics when an invariant is broken"
)]

use std::collections::{BTreeMap, VecDeque};

use rialto_rtp::codec::{FrameLayers, RunningNumbers, Targets};

use super::script::Script;
use crate::{
    egress::{
        allocation::LayerId,
        receiver::{
            numbers::FIRST,
            projection::{Projected, Projection},
        },
    },
    ingress::PacketMeta,
};

const ENCODINGS: usize = 2;
/// Most packets that are late.
const HELD: usize = 40;
/// Most pictures that a late packet is behind: for more, it is not recorded which were dropped.
const LATE: u16 = 50;

/// One encoding as its sender makes it. The first has spatial layers and picture ids that keep
/// their distances, the second has temporal layers only and picture ids without gaps.
struct Encoding {
    spatial: bool,
    index: u64,
    timestamp: u32,
    picture: u16,
    tl0: u8,
    frame: u16,
    /// The rest of its picture.
    packets: VecDeque<PacketMeta>,
}

impl Encoding {
    fn new(seed: u64) -> Self {
        Self {
            spatial: seed == 0,
            index: 100 + seed * 0xffff,
            timestamp: 7,
            picture: 0x7ff0,
            tl0: 0xf0,
            frame: 0xfff0,
            packets: VecDeque::new(),
        }
    }

    /// Its next packet.
    fn packet(&mut self, script: &mut Script<'_>, at_ms: u32) -> PacketMeta {
        if self.packets.is_empty() {
            self.begin_picture(script);
        }
        self.index += 1;
        let packet = self.packets.pop_front().unwrap_or_default();
        PacketMeta { index: self.index, arrival_ms: at_ms, ..packet }
    }

    /// A picture of some of the spatial layers, each of a few packets.
    fn begin_picture(&mut self, script: &mut Script<'_>) {
        let (kind, masks) = (script.any(), script.word());
        let keyframe = kind.trailing_zeros() >= 4;
        let temporal = if keyframe { 0 } else { kind >> 6 };
        self.timestamp = self.timestamp.wrapping_add(3_000);
        self.picture = self.picture.wrapping_add(1);
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal == 0));
        let layers = |spatial: &u8| {
            if self.spatial { keyframe || masks >> spatial & 1 == 1 } else { *spatial == 0 }
        };
        let mut layers: Vec<u8> = (0..3).filter(layers).collect();
        if layers.is_empty() {
            layers.push(0);
        }
        for spatial in layers {
            self.frame = self.frame.wrapping_add(1);
            let parts = 1 + (masks >> (4 + 2 * spatial) & 0b11);
            let layers = Self::layers((spatial, temporal), keyframe, masks >> (10 + spatial));
            for part in 0..parts {
                let packet = PacketMeta {
                    start: part == 0,
                    end: part + 1 == parts,
                    keyframe: keyframe && spatial == 0 && part == 0,
                    layers,
                    frame_number: Some(self.frame),
                    ..self.described()
                };
                self.packets.push_back(packet);
            }
        }
        if let Some(last) = self.packets.back_mut() {
            last.marker = true;
        }
    }

    fn layers((spatial, temporal): (u8, u8), keyframe: bool, masks: u16) -> FrameLayers {
        if keyframe && spatial == 0 {
            return FrameLayers::WHOLE;
        }
        let present = Targets::from(spatial, temporal);
        let switches = keyframe || masks & 1 == 1;
        let switch = if switches { Targets::of_spatial(spatial, temporal) } else { Targets::NONE };
        FrameLayers { spatial, temporal, present, needs: present, switch, ..FrameLayers::DELTA }
    }

    fn described(&self) -> PacketMeta {
        PacketMeta {
            timestamp: self.timestamp,
            payload_len: 100,
            keyframes_known: true,
            top: if self.spatial { 2 } else { 0 },
            numbers: RunningNumbers {
                picture_id_at: 2,
                picture_id_bits: 15,
                tl0_at: 4,
                tl0: self.tl0,
                picture_id: self.picture & 0x7fff,
                dense: !self.spatial,
            },
            ..PacketMeta::default()
        }
    }
}

/// From one switch to the next.
type Run = (Option<u8>, u64);

/// The numbers of a packet as its receiver sees them.
#[derive(Clone, Copy)]
struct Seen {
    run: Run,
    meta: PacketMeta,
    timestamp: u32,
    picture: u16,
    tl0: u8,
    frame: u16,
    marker: bool,
}

impl Seen {
    fn new(run: Run, meta: &PacketMeta, projected: &Projected) -> Self {
        let Projected { timestamp, shift, marker, .. } = *projected;
        Self {
            run,
            meta: *meta,
            timestamp,
            picture: meta.numbers.picture_id.wrapping_add(shift.picture_id) & 0x7fff,
            tl0: meta.numbers.tl0.wrapping_add(shift.tl0),
            frame: meta.frame_number.unwrap_or_default().wrapping_add(shift.frame_number),
            marker,
        }
    }

    /// What was added to a packet's timestamp, picture id, TL0PICIDX and frame number.
    fn added(&self) -> (u32, u16, u8, u16) {
        let Self { meta, .. } = self;
        (
            self.timestamp.wrapping_sub(meta.timestamp),
            self.picture.wrapping_sub(meta.numbers.picture_id) & 0x7fff,
            self.tl0.wrapping_sub(meta.numbers.tl0),
            self.frame.wrapping_sub(meta.frame_number.unwrap_or_default()),
        )
    }

    /// How far another packet is behind this one: timestamp, picture id, TL0PICIDX, frame number.
    fn ahead_of(&self, other: &Self) -> (i32, u16, u8, u16) {
        (
            self.timestamp.wrapping_sub(other.timestamp).cast_signed(),
            self.picture.wrapping_sub(other.picture) & 0x7fff,
            self.tl0.wrapping_sub(other.tl0),
            self.frame.wrapping_sub(other.frame),
        )
    }
}

/// What the receiver was sent.
#[derive(Default)]
struct Sent {
    /// What was sent under each number: since which switch, and its index.
    all: BTreeMap<u64, (Run, u64)>,
    /// The newest packet of all.
    newest: Option<Seen>,
    /// Everything has arrived in order since this switch.
    orderly: Option<Run>,
}

impl Sent {
    fn take(&mut self, run: Run, meta: &PacketMeta, projected: &Projected) {
        let index = projected.index;
        assert!(index >= FIRST);
        let before = self.all.insert(index, (run, meta.index));
        assert_eq!(before, None, "a number is used twice");
        let ordered = |other: Option<(&u64, &(Run, u64))>, less: bool| {
            other.is_none_or(|(_, (other, theirs))| *other != run || (*theirs < meta.index) == less)
        };
        assert!(ordered(self.all.range(..index).next_back(), true), "behind what is newer");
        assert!(ordered(self.all.range(index + 1..).next(), false), "before what is older");
        if projected.filler {
            assert!(!projected.marker, "a marker on what is of no picture");
            return;
        }
        let seen = Seen::new(run, meta, projected);
        match self.newest.filter(|newest| newest.run == run) {
            Some(newest) => self.goes_on(&newest, &seen),
            None => self.begins(&seen),
        }
        if self.newest.is_none_or(|n| n.run != run || n.meta.index < meta.index) {
            self.newest = Some(seen);
        }
    }

    /// Checks that at a switch all numbers continue from the newest.
    fn begins(&mut self, seen: &Seen) {
        self.orderly = Some(seen.run);
        let Some(newest) = self.newest else { return };
        let (timestamp, picture, tl0, frame) = seen.ahead_of(&newest);
        assert!(timestamp > 0, "time is turned back by {timestamp}");
        assert!((1..0x4000).contains(&picture), "picture ids leap by {picture}");
        assert!(tl0 < 0x80, "TL0PICIDX leaps by {tl0}");
        assert!((1..0x8000).contains(&frame), "frame numbers leap by {frame}");
    }

    /// Checks that within a run numbers keep their distances, except for picture ids of dropped
    /// pictures.
    fn goes_on(&mut self, newest: &Seen, seen: &Seen) {
        let (was, is) = (newest.added(), seen.added());
        assert_eq!((was.0, was.2, was.3), (is.0, is.2, is.3), "other distances");
        let (newer, older) =
            if seen.meta.index > newest.meta.index { (seen, newest) } else { (newest, seen) };
        let ids = [newer, older].map(|seen| seen.meta.numbers.picture_id);
        let theirs = ids[0].wrapping_sub(ids[1]) & 0x7fff;
        let ours = newer.ahead_of(older).1;
        if seen.meta.numbers.dense {
            assert!(ours <= theirs && (ours == 0) == (theirs == 0), "{ours} of {theirs} pictures");
        } else {
            assert_eq!(ours, theirs, "pictures name each other by distance");
        }
        if self.orderly != Some(seen.run) {
            return;
        }
        if seen.meta.numbers.dense {
            assert!(ours <= 1, "a gap among picture ids where none is missing");
        }
        let last = seen.timestamp != newest.timestamp;
        assert_eq!(newest.marker, last, "the marker of {:?} before {:?}", newest.meta, seen.meta);
    }
}

/// A projection, and packets of each encoding that wait for the next one.
struct Rig {
    projection: Projection,
    sent: Sent,
    waiting: [Option<PacketMeta>; ENCODINGS],
    /// The newest packet of each encoding that came.
    newest: [u64; ENCODINGS],
}

impl Rig {
    /// Delivers a packet that is not the next one of its encoding.
    fn deliver(&mut self, encoding: u8, meta: &PacketMeta) {
        let place = usize::from(encoding) % ENCODINGS;
        if let Some(waited) = self.waiting[place].take() {
            self.accept(encoding, &waited, Some(meta));
            if meta.index != waited.index + 1 {
                // The held-back packet should have come before this one: a switch that has just
                // begun does not know.
                self.disorder(encoding);
            }
        }
        self.newest[place] = self.newest[place].max(meta.index);
        if meta.lost != Targets::NONE {
            // It may end a picture whose marker was left to it, even that of a switch which has
            // just begun.
            self.disorder(encoding);
        }
        if self.projection.may_end_picture(encoding, meta) {
            self.waiting[place] = Some(*meta);
        } else {
            self.accept(encoding, meta, None);
        }
    }

    fn accept(&mut self, encoding: u8, meta: &PacketMeta, behind: Option<&PacketMeta>) {
        let next = self.projection.next_index();
        let Some(mut projected) = self.projection.accept(encoding, meta) else {
            assert!(self.projection.next_index() >= next);
            return;
        };
        self.projection.mark(&mut projected, meta, behind);
        self.projection.on_sent(projected.index);
        self.sent.take(self.projection.began(), meta, &projected);
        if meta.index < self.newest[usize::from(encoding) % ENCODINGS] {
            // Newer packets that arrived before it are not part of a switch that begins here.
            self.disorder(encoding);
        }
        assert!(projected.index < self.projection.next_index());
        assert!(!projected.filler || projected.index < next, "only what is late is a filler");
    }

    /// Records that packets of an encoding no longer arrive in order.
    fn disorder(&mut self, encoding: u8) {
        if self.projection.current() == Some(encoding) {
            self.sent.orderly = None;
        }
    }
}

/// Runs a script.
pub fn projection(data: &[u8]) {
    let mut script = Script(data);
    let mut encodings = [Encoding::new(0), Encoding::new(3)];
    let (projection, sent, waiting) =
        (Projection::new(90_000, FIRST), Sent::default(), [None; ENCODINGS]);
    let mut rig = Rig { projection, sent, waiting, newest: [0; ENCODINGS] };
    let mut held: Vec<(u8, PacketMeta)> = Vec::new();
    let mut at_ms = 0u32;
    rig.projection.set_target(Some(LayerId { encoding: 0, spatial: 3, temporal: 3 }), 0);
    while let Some(op) = script.byte() {
        let encoding = op & 1;
        let place = usize::from(encoding) % ENCODINGS;
        at_ms = at_ms.wrapping_add(u32::from(op & 0b11));
        match op >> 1 & 0b111 {
            0..=2 => {
                let mut meta = encodings[place].packet(&mut script, at_ms);
                if op & 0xf0 == 0xf0 {
                    meta.lost = Targets::from_bits(script.word());
                    rig.disorder(encoding);
                }
                let picture = meta.numbers.picture_id;
                held.retain(|(of, held)| {
                    let behind = picture.wrapping_sub(held.numbers.picture_id) & 0x7fff;
                    *of != encoding || behind < LATE
                });
                rig.deliver(encoding, &meta);
            }
            3 => {
                let meta = encodings[place].packet(&mut script, at_ms);
                if held.len() < HELD && op & 0x80 == 0 {
                    held.push((encoding, meta));
                }
                rig.disorder(encoding);
            }
            4 if !held.is_empty() => {
                let at = usize::from(script.any()) % held.len();
                let (encoding, meta) = held.swap_remove(at);
                rig.disorder(encoding);
                rig.deliver(encoding, &meta);
                rig.disorder(encoding);
            }
            5 => {
                let layer = script.any();
                let (spatial, temporal) = (layer & 0b11, layer >> 2 & 0b11);
                let target = LayerId { encoding, spatial, temporal };
                rig.projection.set_target((layer != 0xff).then_some(target), at_ms);
            }
            6 => rig.projection.pause(at_ms),
            _ => {
                encodings[place].index += u64::from(script.word());
                // What is held back is from before, which a sender's own numbers keep apart.
                held.retain(|(of, _)| *of != encoding);
                rig.disorder(encoding);
            }
        }
    }
    goes_on(&mut rig, &mut encodings[0], at_ms);
}

/// Whatever came before, a keyframe and what follows it reach receivers that want them.
fn goes_on(rig: &mut Rig, encoding: &mut Encoding, at_ms: u32) {
    encoding.packets.clear();
    // What waits for the next packet is older.
    rig.waiting = [None; ENCODINGS];
    rig.projection.set_target(Some(LayerId { encoding: 0, spatial: 3, temporal: 3 }), at_ms);
    rig.disorder(0);
    // A picture of all layers, a packet each, with and without what makes it a keyframe.
    for picture in 0..4 {
        let script = [u8::from(picture > 0), 0, 0b111];
        let before = rig.sent.all.len();
        for _ in 0..3 {
            let meta = encoding.packet(&mut Script(&script), at_ms);
            rig.deliver(0, &meta);
        }
        assert_eq!(rig.sent.all.len() - before, 3, "picture {picture}");
    }
    assert!(!rig.projection.waits());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_the_receiver_sees_goes_on_and_is_used_once(
            data in proptest::collection::vec(any::<u8>(), 0..4_000),
        ) {
            projection(&data);
        }
    }
}
