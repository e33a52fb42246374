//! A projection whose source has layers, loses packets, reorders them and leaps, while its receiver's
//! wishes change: the numbers of the receiver stay in order and are never used twice.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a fuzz target panics when an invariant is broken"
)]

use std::collections::BTreeMap;

use rialto_rtp::codec::{FrameLayers, RunningNumbers, Targets};

use super::script::Script;
use crate::{
    egress::{
        allocation::LayerId,
        receiver::{numbers::FIRST, projection::Projection},
    },
    ingress::PacketMeta,
};

const ENCODINGS: usize = 2;
/// Packets that are late, at most.
const HELD: usize = 40;

/// One encoding as its sender makes it.
#[derive(Clone, Copy)]
struct Encoding {
    index: u64,
    timestamp: u32,
    picture: u16,
    frame: u16,
    layers: FrameLayers,
    left: u8,
}

impl Encoding {
    fn new(seed: u64) -> Self {
        Self {
            index: 100 + seed * 0xffff,
            timestamp: 7,
            picture: 0x7ff0,
            frame: 0xfff0,
            layers: FrameLayers::WHOLE,
            left: 0,
        }
    }

    /// Its next packet.
    fn packet(&mut self, script: &mut Script<'_>, at_ms: u32) -> PacketMeta {
        let first = self.left == 0;
        let mut keyframe = false;
        if first {
            let kind = script.any();
            keyframe = kind.trailing_zeros() >= 4;
            self.begin_frame(kind, keyframe, script.word());
        }
        self.left -= 1;
        self.index += 1;
        PacketMeta {
            index: self.index,
            timestamp: self.timestamp,
            arrival_ms: at_ms,
            payload_len: 100,
            keyframe,
            keyframes_known: true,
            end: self.left == 0,
            marker: self.left == 0 && self.layers.spatial == 2,
            layers: self.layers,
            top: 2,
            numbers: RunningNumbers {
                picture_id_at: 2,
                picture_id_bits: 15,
                tl0_at: 4,
                tl0: self.picture as u8,
                picture_id: self.picture & 0x7fff,
                dense: true,
            },
            frame_number: Some(self.frame),
            ..PacketMeta::default()
        }
    }

    fn begin_frame(&mut self, kind: u8, keyframe: bool, masks: u16) {
        let (spatial, temporal) = (kind >> 4 & 0b11, kind >> 6);
        self.frame = self.frame.wrapping_add(1);
        self.left = 1 + (kind & 0b11);
        if keyframe || spatial <= self.layers.spatial {
            self.timestamp = self.timestamp.wrapping_add(3_000);
            self.picture = self.picture.wrapping_add(1);
        }
        let present = Targets::from(spatial, temporal);
        self.layers = if keyframe {
            FrameLayers::WHOLE
        } else {
            let switch = Targets::from_bits(masks) & present;
            FrameLayers {
                spatial,
                temporal,
                present,
                needs: present,
                switch,
                upon_lower: masks & 1 == 1,
                ..FrameLayers::DELTA
            }
        };
    }
}

/// What the receiver was sent.
#[derive(Default)]
struct Sent {
    /// From the numbers to what came under them: since which switch it goes on, and its index.
    all: BTreeMap<u64, (Run, u64)>,
}

/// From one switch to the next.
type Run = (Option<u8>, u64);

impl Sent {
    fn take(&mut self, run: Run, meta: &PacketMeta, index: u64) {
        assert!(index >= FIRST);
        let before = self.all.insert(index, (run, meta.index));
        assert_eq!(before, None, "a number is used twice");
        let ordered = |other: Option<(&u64, &(Run, u64))>, less: bool| {
            other.is_none_or(|(_, (other, theirs))| *other != run || (*theirs < meta.index) == less)
        };
        assert!(ordered(self.all.range(..index).next_back(), true), "behind what is newer");
        assert!(ordered(self.all.range(index + 1..).next(), false), "before what is older");
    }
}

/// See the module's description.
pub fn projection(data: &[u8]) {
    let mut script = Script(data);
    let mut encodings = [Encoding::new(0), Encoding::new(3)];
    let mut projection = Projection::new(90_000, FIRST);
    let mut sent = Sent::default();
    let mut held: Vec<(u8, PacketMeta)> = Vec::new();
    let mut at_ms = 0u32;
    projection.set_target(Some(LayerId { encoding: 0, spatial: 3, temporal: 3 }), 0);
    while let Some(op) = script.byte() {
        let encoding = op & 1;
        let place = usize::from(encoding) % ENCODINGS;
        at_ms = at_ms.wrapping_add(u32::from(op & 0b11));
        match op >> 1 & 0b111 {
            0..=2 => {
                let meta = encodings[place].packet(&mut script, at_ms);
                deliver(&mut projection, &mut sent, encoding, &meta);
            }
            3 => {
                let meta = encodings[place].packet(&mut script, at_ms);
                if held.len() < HELD && op & 0x80 == 0 {
                    held.push((encoding, meta));
                }
            }
            4 if !held.is_empty() => {
                let at = usize::from(script.any()) % held.len();
                let (encoding, meta) = held.swap_remove(at);
                deliver(&mut projection, &mut sent, encoding, &meta);
            }
            5 => {
                let layer = script.any();
                let (spatial, temporal) = (layer & 0b11, layer >> 2 & 0b11);
                let target = LayerId { encoding, spatial, temporal };
                projection.set_target((layer != 0xff).then_some(target), at_ms);
            }
            6 => projection.pause(at_ms),
            _ => {
                encodings[place].index += u64::from(script.word());
                // What is held back is of the time before, which a sender's own numbers keep apart.
                held.retain(|(of, _)| *of != encoding);
            }
        }
    }
}

fn deliver(projection: &mut Projection, sent: &mut Sent, encoding: u8, meta: &PacketMeta) {
    let next = projection.next_index();
    let Some(projected) = projection.accept(encoding, meta) else {
        assert!(projection.next_index() >= next);
        return;
    };
    projection.on_sent(projected.index);
    sent.take(projection.began(), meta, projected.index);
    assert!(projected.index < projection.next_index());
    assert!(!projected.filler || projected.index < next, "only what is late is a filler");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_stay_in_order_and_are_used_once(
            data in proptest::collection::vec(any::<u8>(), 0..4_000),
        ) {
            projection(&data);
        }
    }
}
