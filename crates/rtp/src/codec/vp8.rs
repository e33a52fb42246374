//! The VP8 payload descriptor and header (RFC 7741 sections 4.2 and 4.3).
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in one payload, each checked against its length when it is used"
)]

use super::{FrameInfo, FrameLayers, Resolution, RunningNumbers, Targets};

/// Reads what a packet says about its frame.
#[inline]
pub(super) fn read(payload: &[u8], marker: bool) -> Option<FrameInfo> {
    let vp8 = Vp8::parse(payload)?;
    Some(FrameInfo {
        keyframe: vp8.keyframe,
        start: vp8.starts_frame(),
        end: marker,
        layers: vp8.layers(),
        parameters: false,
        prefix: false,
        numbers: vp8.numbers,
        heights: None,
        resolution: vp8.resolution,
    })
}

/// The temporal layer of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Temporal {
    /// The layer, 0 to 3.
    pub tid: u8,
    /// The Y bit: the frame depends on base layer frames only, so that a receiver can switch up.
    pub sync: bool,
}

/// The descriptor of a VP8 packet, and the header of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vp8 {
    /// Length of the descriptor in bytes.
    pub len: usize,
    /// The S bit: the packet starts a partition.
    pub partition_start: bool,
    /// The partition index, 0 to 7.
    pub partition: u8,
    /// The N bit: no other frame depends on this one.
    pub non_reference: bool,
    /// The picture id, and the running index of base layer frames.
    pub numbers: RunningNumbers,
    /// The temporal layer, if present.
    pub temporal: Option<Temporal>,
    /// The temporal key frame index, if present.
    pub key_idx: Option<u8>,
    /// The packet starts a keyframe.
    pub keyframe: bool,
    /// Size of the keyframe that the packet starts.
    pub resolution: Option<Resolution>,
}

impl Vp8 {
    /// Parses a payload; `None` if it ends within the descriptor.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut vp8 = Self {
            len: 1,
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            non_reference: first & 0x20 != 0,
            numbers: RunningNumbers { dense: true, ..RunningNumbers::default() },
            temporal: None,
            key_idx: None,
            keyframe: false,
            resolution: None,
        };
        if first & 0x80 != 0 {
            vp8.parse_extension(payload)?;
        }
        if vp8.starts_frame() {
            vp8.parse_frame(payload);
        }
        Some(vp8)
    }

    /// The packet is the first one of its frame.
    #[inline]
    pub const fn starts_frame(&self) -> bool {
        self.partition_start && self.partition == 0
    }

    /// The frame's layers: temporal ones only (section 4.2). Spatial layers are encodings of their
    /// own, so a target of any spatial layer counts.
    ///
    /// The Y bit says that a frame depends on base frames only, and that no later frame depends on
    /// upper frames before it. Encoders set it even if frames of other upper layers still depend on
    /// older ones (libwebrtc with four layers). So it opens its own layer only, and only on top of
    /// an intact layer below it: a receiver goes up one layer at a time.
    #[inline]
    pub fn layers(&self) -> FrameLayers {
        if self.keyframe {
            return FrameLayers::WHOLE;
        }
        let Some(Temporal { tid: temporal @ 1.., sync }) = self.temporal else {
            return FrameLayers::DELTA;
        };
        let present = Targets::from(0, temporal);
        let (needs, switch) = if sync {
            (present | Targets::of_temporal(temporal - 1), Targets::of_temporal(temporal))
        } else {
            (present, Targets::NONE)
        };
        FrameLayers { temporal, present, needs, switch, ..FrameLayers::DELTA }
    }

    /// Reads the bytes after X, L, T and K: those that the second byte says are present.
    #[inline]
    fn parse_extension(&mut self, payload: &[u8]) -> Option<()> {
        let present = *payload.get(1)?;
        let mut at = 2;
        if present & 0x80 != 0 {
            at = self.numbers.read_picture_id(payload, at)?;
        }
        if present & 0x40 != 0 {
            at = self.numbers.read_tl0(payload, at)?;
        }
        if present & 0x30 != 0 {
            let byte = *payload.get(at)?;
            at += 1;
            if present & 0x20 != 0 {
                self.temporal = Some(Temporal { tid: byte >> 6, sync: byte & 0x20 != 0 });
            }
            if present & 0x10 != 0 {
                self.key_idx = Some(byte & 0x1f);
            }
        }
        self.len = at;
        Some(())
    }

    /// Reads the frame tag and, of a keyframe, start code and size (RFC 6386 section 9.1). A packet
    /// that is too short for them still has its descriptor.
    #[inline]
    fn parse_frame(&mut self, payload: &[u8]) {
        let Some([tag, rest @ ..]) = payload.get(self.len..) else { return };
        self.keyframe = tag & 1 == 0;
        if !self.keyframe {
            return;
        }
        if let [_, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = rest {
            // The upper two bits are the scale.
            self.resolution = Some(Resolution {
                width: u16::from_le_bytes([*w0, *w1]) & 0x3fff,
                height: u16::from_le_bytes([*h0, *h1]) & 0x3fff,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Shift;
    use super::super::model::{self, Coded, Random};
    use super::*;
    use proptest::prelude::*;

    /// RFC 7741 section 4.2: all fields, and a keyframe of 1280 by 720 behind them.
    const FULL: [u8; 16] = [
        0x90, 0xf0, 0x92, 0x34, 0x56, 0xa7, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x45, 0xd0,
        0x02,
    ];

    #[test]
    fn all_fields() {
        let vp8 = Vp8::parse(&FULL).unwrap();
        assert_eq!(vp8.len, 6);
        assert!(vp8.starts_frame() && vp8.keyframe && !vp8.non_reference);
        let numbers = vp8.numbers;
        assert_eq!((numbers.picture_id_at, numbers.picture_id_bits), (2, 15));
        assert_eq!((numbers.picture_id, numbers.tl0_at, numbers.tl0), (0x1234, 4, 0x56));
        assert!(numbers.dense);
        assert_eq!(vp8.temporal, Some(Temporal { tid: 2, sync: true }));
        assert_eq!(vp8.key_idx, Some(7));
        assert_eq!(vp8.resolution, Some(Resolution { width: 0x500, height: 720 }));
    }

    #[test]
    fn only_the_first_packet_tells_a_keyframe() {
        let mut later = FULL;
        later[0] = 0x80;
        assert!(!Vp8::parse(&later).unwrap().keyframe);
        later[0] = 0x91;
        assert!(!Vp8::parse(&later).unwrap().keyframe);
        let mut inter = FULL;
        inter[6] |= 1;
        let inter = Vp8::parse(&inter).unwrap();
        assert!(inter.starts_frame() && !inter.keyframe && inter.resolution.is_none());
    }

    #[test]
    fn truncated_descriptors_are_refused() {
        for len in 0..6 {
            assert_eq!(Vp8::parse(&FULL[..len]), None, "{len}");
        }
        assert!(!Vp8::parse(&FULL[..6]).unwrap().keyframe);
        assert!(Vp8::parse(&[0x10, 0]).unwrap().keyframe);
    }

    #[test]
    fn rewrites_in_place() {
        let mut payload = FULL;
        let vp8 = Vp8::parse(&payload).unwrap();
        vp8.numbers.patch(&mut payload, Shift { picture_id: 0x6dcc, tl0: 0xaf, frame_number: 9 });
        let again = Vp8::parse(&payload).unwrap();
        assert_eq!((again.numbers.picture_id, again.numbers.tl0), (0, 5), "both wrap");
        assert_eq!((again.len, again.temporal), (vp8.len, vp8.temporal));

        let mut narrow = [0x90, 0x80, 0x7f, 0x01];
        let vp8 = Vp8::parse(&narrow).unwrap();
        let shift = Shift { picture_id: 2, tl0: 1, frame_number: 0 };
        vp8.numbers.patch(&mut narrow, shift);
        assert_eq!(narrow, [0x90, 0x80, 0x01, 0x01], "it has no index of base layer frames");
        vp8.numbers.patch(&mut [], shift);
    }

    /// A descriptor with a temporal layer and the Y bit, and a frame behind it.
    fn packet(temporal: u8, sync: bool, keyframe: bool) -> [u8; 5] {
        let layer = temporal << 6 | u8::from(sync) << 5;
        [0x90, 0x20, layer, u8::from(!keyframe), 0]
    }

    fn layers(temporal: u8, sync: bool, keyframe: bool) -> FrameLayers {
        read(&packet(temporal, sync, keyframe), true).unwrap().layers
    }

    #[test]
    fn layers_of_a_frame() {
        assert_eq!(layers(0, false, true), FrameLayers::WHOLE);
        assert_eq!(layers(0, false, false), FrameLayers::DELTA);
        assert_eq!(layers(0, true, false), FrameLayers::DELTA, "Y means nothing in the base layer");
        let plain = layers(2, false, false);
        assert_eq!((plain.temporal, plain.present), (2, Targets::from(0, 2)));
        assert!(!plain.is_decodable(Targets::of_temporal(1)) && plain.switch.is_empty());
        let sync = layers(2, true, false);
        assert!(!sync.is_decodable(Targets::of_temporal(0)), "one layer at a time");
        assert_eq!(sync.opens(Targets::one(0, 1)), Targets::of_temporal(2));
    }

    #[test]
    fn a_frame_without_layers_depends_on_the_one_before() {
        // N, with and without the extension; a keyframe; a later partition of it.
        assert_eq!(read(&[0x30, 1], true).unwrap().layers, FrameLayers::DELTA);
        assert_eq!(read(&[0x90, 0x80, 0x12, 1], true).unwrap().layers, FrameLayers::DELTA);
        assert_eq!(read(&[0x10, 0], true).unwrap().layers, FrameLayers::WHOLE);
        let later = read(&[0x00, 0], true).unwrap();
        assert!(!later.start && !later.keyframe);
        let present = |layers: FrameLayers| (layers.spatial, layers.temporal, layers.present);
        assert_eq!(present(later.layers), present(FrameLayers::WHOLE));
    }

    /// Buffers of the frames of a period: the frame's temporal layer, the buffers that it depends
    /// on (0 to 2), and the one that it replaces. As in libwebrtc for 2, 3 and 4 layers.
    fn pattern(layers: u8) -> &'static [(u8, &'static [usize], Option<usize>)] {
        const BASE: (u8, &[usize], Option<usize>) = (0, &[0], Some(0));
        match layers {
            2 => &[BASE, (1, &[0], Some(1)), BASE, (1, &[0, 1], None)],
            3 => &[
                BASE,
                (2, &[0], None),
                (1, &[0], Some(1)),
                (2, &[0, 1], None),
                BASE,
                (2, &[0, 1], None),
                (1, &[0, 1], Some(1)),
                (2, &[0, 1], None),
            ],
            _ => &[
                BASE,
                (3, &[0], None),
                (2, &[0], Some(2)),
                (3, &[0, 2], None),
                (1, &[0], Some(1)),
                (3, &[0, 1, 2], None),
                (2, &[0, 1, 2], Some(2)),
                (3, &[0, 1, 2], None),
                BASE,
                (3, &[0, 1, 2], None),
                (2, &[0, 1, 2], Some(2)),
                (3, &[0, 1, 2], None),
                (1, &[0, 1], Some(1)),
                (3, &[0, 1, 2], None),
                (2, &[0, 1, 2], Some(2)),
                (3, &[0, 1, 2], None),
            ],
        }
    }

    fn coded(layers: u8, count: usize, random: &mut Random) -> Vec<(Coded, FrameLayers)> {
        let pattern = pattern(layers);
        let mut buffers = [0; 3];
        let mut position = 0;
        (0..count)
            .map(|n| {
                let key = n == 0 || random.below(80) == 0;
                if key {
                    position = 0;
                }
                let (temporal, from, replaced) = pattern[position % pattern.len()];
                position += 1;
                let mut refs: Vec<_> = from.iter().map(|buffer| buffers[*buffer]).collect();
                if key {
                    refs.clear();
                    buffers = [n; 3];
                } else if let Some(replaced) = replaced {
                    buffers[replaced] = n;
                }
                let frame = Coded::alone(temporal, refs, key);
                (frame, self::layers(temporal, temporal > 0 && from == [0], key))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn no_forwarded_frame_lacks_a_reference(seed: u64, layers in 2u8..=4) {
            let mut random = Random::new(seed);
            let frames = coded(layers, 400, &mut random);
            // A layer opens once per period of up to 16 frames.
            model::run(&frames, (1, layers), random, Some(64));
        }
    }
}
