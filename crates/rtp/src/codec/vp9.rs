//! The VP9 payload descriptor (RFC 9628 section 4.2).
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in one payload, each checked against its length when it is used"
)]

use super::super::be16;
use super::{
    FrameInfo, FrameLayers, MAX_SPATIAL, MAX_TEMPORAL, Resolution, RunningNumbers, Targets,
};

/// Reads what a packet says about its frame.
#[inline]
pub(super) fn read(payload: &[u8], _marker: bool) -> Option<FrameInfo> {
    let vp9 = Vp9::parse(payload)?;
    Some(FrameInfo {
        keyframe: vp9.starts_keyframe(),
        start: vp9.begin,
        end: vp9.end,
        layers: vp9.layers(),
        parameters: false,
        prefix: false,
        numbers: vp9.numbers,
        heights: vp9.heights,
        resolution: vp9.resolution,
    })
}

/// The layer indices of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layer {
    /// Temporal layer, 0 to 7.
    pub tid: u8,
    /// Spatial layer, 0 to 7.
    pub sid: u8,
    /// The U bit: the receiver can switch up to this temporal layer here.
    pub switching_up: bool,
    /// The D bit: the frame depends on the spatial layer below, of the same picture.
    pub inter_layer: bool,
}

/// The descriptor of a VP9 packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vp9 {
    /// Length of the descriptor in bytes.
    pub len: usize,
    /// The P bit: the frame depends on earlier pictures.
    pub inter_predicted: bool,
    /// The B bit: the first packet of a frame (one spatial layer of a picture).
    pub begin: bool,
    /// The E bit: the last packet of a frame.
    pub end: bool,
    /// The Z bit: no higher spatial layer depends on this frame.
    pub not_reference: bool,
    /// The F bit: the mode in which each frame lists what it depends on.
    pub flexible: bool,
    /// The picture id, and the running index of base layer pictures.
    pub numbers: RunningNumbers,
    /// The layer indices, if present.
    pub layer: Option<Layer>,
    /// The packet carries a scalability structure.
    pub has_structure: bool,
    /// Size of the largest spatial layer in the scalability structure.
    pub resolution: Option<Resolution>,
    /// The shorter side of each spatial layer in the scalability structure; 0: there is no such layer.
    pub heights: Option<[u16; MAX_SPATIAL as usize]>,
}

impl Vp9 {
    /// Parses a payload; `None` if it ends within the descriptor.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut vp9 = Self {
            len: 1,
            inter_predicted: first & 0x40 != 0,
            begin: first & 0x08 != 0,
            end: first & 0x04 != 0,
            not_reference: first & 0x01 != 0,
            flexible: first & 0x10 != 0,
            numbers: RunningNumbers::default(),
            layer: None,
            has_structure: first & 0x02 != 0,
            resolution: None,
            heights: None,
        };
        if first & 0x80 != 0 {
            vp9.len = vp9.numbers.read_picture_id(payload, vp9.len)?;
        }
        if first & 0x20 != 0 {
            vp9.parse_layer(payload)?;
        }
        if vp9.flexible && vp9.inter_predicted {
            vp9.skip_references(payload)?;
        }
        if vp9.has_structure {
            vp9.parse_structure(payload)?;
        }
        Some(vp9)
    }

    /// The packet is the first one of a frame without dependencies: the lowest layer of a keyframe,
    /// or any layer of one if layers do not depend on each other. The lowest layer sent need not be
    /// 0.
    #[inline]
    pub fn starts_keyframe(&self) -> bool {
        self.begin && self.is_independent()
    }

    #[inline]
    fn is_independent(&self) -> bool {
        !self.inter_predicted && self.layer.is_none_or(|layer| !layer.inter_layer)
    }

    /// The frame's layers, from the P, D, U and Z bits (section 4.2).
    ///
    /// - Z: no frame of a higher spatial layer depends on this one, in this picture or later, so
    ///   that only the targets of its own spatial layer include it. With P and D each picture is
    ///   predicted from the layer below, and Z only says that the encoder leaves out the layers
    ///   above for now: receivers of more see this one meanwhile.
    /// - Without P and D it depends on nothing. A keyframe's lowest layer makes everything intact.
    /// - Without P but with D, a receiver of the next lower spatial layer can switch up here. The
    ///   temporal layer that it reaches depends on what it has of the lower one.
    /// - U: later pictures of higher temporal layers depend on no picture of such layers before this one.
    #[inline]
    pub fn layers(&self) -> FrameLayers {
        let Some(Layer { tid, sid: spatial, switching_up, inter_layer }) = self.layer else {
            return if self.inter_predicted { FrameLayers::DELTA } else { FrameLayers::WHOLE };
        };
        // Without P, TID has to be 0.
        let temporal = if self.inter_predicted { tid } else { 0 };
        let own = Targets::of_spatial(spatial, temporal);
        let alone = self.not_reference && !(self.inter_predicted && inter_layer);
        let present = if alone { own } else { Targets::from(spatial, temporal) };
        let frame = FrameLayers {
            // Higher ones count as the last that is distinguished.
            spatial: spatial.min(MAX_SPATIAL - 1),
            temporal: temporal.min(MAX_TEMPORAL - 1),
            independent: false,
            upon_lower: inter_layer,
            present,
            needs: if self.not_reference { own } else { present },
            switch: Targets::NONE,
            chain: 0,
        };
        match (self.inter_predicted, inter_layer) {
            (false, false) => {
                FrameLayers { independent: true, needs: Targets::ALL, switch: present, ..frame }
            }
            (false, true) => {
                let lower = Targets::of_spatial(spatial.saturating_sub(1), temporal);
                FrameLayers { needs: present | lower, switch: own, ..frame }
            }
            (true, _) if switching_up => FrameLayers { switch: own, ..frame },
            (true, _) => frame,
        }
    }

    #[inline]
    fn take(&mut self, payload: &[u8]) -> Option<u8> {
        let byte = *payload.get(self.len)?;
        self.len += 1;
        Some(byte)
    }

    #[inline]
    fn parse_layer(&mut self, payload: &[u8]) -> Option<()> {
        let byte = self.take(payload)?;
        self.layer = Some(Layer {
            tid: byte >> 5,
            sid: (byte >> 1) & 0x07,
            switching_up: byte & 0x10 != 0,
            inter_layer: byte & 0x01 != 0,
        });
        if !self.flexible {
            self.len = self.numbers.read_tl0(payload, self.len)?;
        }
        Some(())
    }

    /// Skips up to three reference differences, each of which says whether another follows.
    #[inline]
    fn skip_references(&mut self, payload: &[u8]) -> Option<()> {
        for _ in 0..3 {
            if self.take(payload)? & 0x01 == 0 {
                return Some(());
            }
        }
        // A third that announces a fourth is malformed.
        (*payload.get(self.len - 1)? & 0x01 == 0).then_some(())
    }

    /// The scalability structure (section 4.2.1): sizes of the layers, and a group of pictures.
    fn parse_structure(&mut self, payload: &[u8]) -> Option<()> {
        let head = self.take(payload)?;
        let layers = usize::from(head >> 5) + 1;
        if head & 0x10 != 0 {
            let mut heights = [0; MAX_SPATIAL as usize];
            for n in 0..layers {
                let at = self.len + 4 * n;
                let (width, height) = (be16(payload, at)?, be16(payload, at + 2)?);
                // The layers come in ascending order, but nothing enforces it.
                let area = |r: Resolution| u32::from(r.width) * u32::from(r.height);
                let size = Resolution { width, height };
                if self.resolution.is_none_or(|largest| area(size) > area(largest)) {
                    self.resolution = Some(size);
                }
                // A higher layer counts as the last that is distinguished.
                let last = heights.len() - 1;
                if let Some(of_layer) = heights.get_mut(n.min(last)) {
                    *of_layer = width.min(height);
                }
            }
            self.heights = Some(heights);
            self.len += 4 * layers;
        }
        if head & 0x08 != 0 {
            let pictures = self.take(payload)?;
            for _ in 0..pictures {
                let references = (self.take(payload)? >> 2) & 0x03;
                self.len += usize::from(references);
            }
        }
        (self.len <= payload.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{self, Coded, InterLayer, Svc};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keyframe_with_structure_of_three_layers() {
        let payload = [
            0xaa, 0x92, 0x34, 0x00, 0x07, // I L B V, picture id, layer 0, base layer index
            0x58, 1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208, // 3 layers with sizes, group
            2, 0x00, 0x54, 1, // two pictures, the second with one reference
            0xff,
        ];
        let vp9 = Vp9::parse(&payload).unwrap();
        assert_eq!(vp9.len, payload.len() - 1);
        assert!(vp9.starts_keyframe() && vp9.begin && !vp9.end);
        let numbers = vp9.numbers;
        assert_eq!((numbers.picture_id_at, numbers.picture_id_bits), (1, 15));
        assert_eq!((numbers.picture_id, numbers.tl0_at, numbers.tl0), (0x1234, 4, 7));
        assert_eq!(vp9.resolution, Some(Resolution { width: 1280, height: 720 }));
        assert_eq!(vp9.heights, Some([180, 360, 720, 0]));
        let mut copy = payload;
        let shift = super::super::Shift { picture_id: 0x7000, tl0: 3, frame_number: 0 };
        vp9.numbers.patch(&mut copy, shift);
        let shifted = Vp9::parse(&copy).unwrap().numbers;
        assert_eq!((shifted.picture_id, shifted.tl0), (0x0234, 10));
        assert!(!shifted.dense);
        for len in 0..payload.len() - 1 {
            assert_eq!(Vp9::parse(&payload[..len]), None, "{len}");
        }
    }

    #[test]
    fn upper_layers_and_later_packets_start_no_keyframe() {
        let at = |first: u8, layer: u8| Vp9::parse(&[first, layer, 0]).unwrap();
        assert!(at(0x28, 0x00).starts_keyframe());
        assert!(!at(0x28, 0x03).starts_keyframe());
        assert!(!at(0x20, 0x00).starts_keyframe());
        assert!(!at(0x68, 0x00).starts_keyframe());
        let layer = at(0x28, 0xb5).layer.unwrap();
        assert_eq!((layer.tid, layer.sid), (5, 2));
        assert!(layer.switching_up && layer.inter_layer);
    }

    #[test]
    fn references_of_flexible_mode() {
        assert_eq!(Vp9::parse(&[0x50, 0x03, 0x02]).unwrap().len, 3);
        assert_eq!(Vp9::parse(&[0x50, 0x03, 0x03, 0x02]).unwrap().len, 4);
        assert_eq!(Vp9::parse(&[0x50, 0x03, 0x03, 0x03, 0x02]), None);
        assert_eq!(Vp9::parse(&[0x70, 0x00, 0x02]).unwrap().numbers.tl0_at, 0);
    }

    #[test]
    fn layers_of_a_frame() {
        let layers = |first: u8, layer: u8| Vp9::parse(&[first, layer, 0]).unwrap().layers();
        // A keyframe's base layer, and the layer upon it.
        let base = layers(0x28, 0x00);
        assert!(base.independent && base.opens(Targets::NONE) == Targets::ALL);
        let upper = layers(0x28, 0x03);
        assert!(!upper.independent && !upper.is_decodable(Targets::NONE));
        let lower = Targets::one(0, 0) | Targets::one(0, 1);
        assert_eq!(upper.opens(lower), Targets::one(1, 0) | Targets::one(1, 1));
        // Layers that nothing above depends on.
        let own = layers(0x29, 0x02);
        assert!(own.independent);
        assert_eq!((own.present, own.switch), (Targets::of_spatial(1, 0), own.present));
        let highest_for_now = layers(0x69, 0x23);
        assert_eq!(highest_for_now.present, Targets::from(1, 1));
        // Temporal layer 1 of the middle layer, with and without U.
        let plain = layers(0x68, 0x23);
        assert_eq!((plain.spatial, plain.temporal), (1, 1));
        assert_eq!(plain.present, Targets::from(1, 1));
        assert!(plain.switch.is_empty() && !plain.is_decodable(Targets::of_spatial(0, 0)));
        assert_eq!(layers(0x68, 0x30).opens(Targets::one(0, 1)), Targets::of_spatial(0, 1));
        assert!(layers(0x68, 0x30).opens(Targets::one(0, 0)).is_empty());
    }

    #[test]
    fn a_frame_without_layers_depends_on_the_one_before() {
        assert_eq!(Vp9::parse(&[0x08]).unwrap().layers(), FrameLayers::WHOLE);
        assert_eq!(Vp9::parse(&[0xc8, 0x11]).unwrap().layers(), FrameLayers::DELTA);
        assert!(Vp9::parse(&[0x08]).unwrap().numbers.is_none());
    }

    /// The descriptor of a frame as libwebrtc writes it.
    fn descriptor(frame: &Coded, mode: InterLayer) -> [u8; 3] {
        let own = frame.refs.len() > usize::from(frame.upon_lower);
        let mut first = 0x28;
        first |= if own { 0x40 } else { 0 };
        first |= u8::from(!frame.for_upper);
        // It says that layers depend on each other whenever they may.
        let predicted = mode == InterLayer::On || mode == InterLayer::OnKey && frame.key;
        let upon_lower = predicted && !frame.starts_picture;
        let layer = frame.temporal << 5
            | u8::from(frame.up) << 4
            | frame.spatial << 1
            | u8::from(upon_lower);
        [first, layer, 0]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_forwarded_frame_lacks_a_reference(
            seed: u64, spatial in 1u8..=3, temporal in 1u8..=3, mode in 0u8..3, chained: bool,
        ) {
            let (svc, mode, random) = Svc::drawn(seed, (spatial, temporal), mode, chained);
            let frames: Vec<_> = svc
                .frames
                .into_iter()
                .map(|frame| {
                    let vp9 = Vp9::parse(&descriptor(&frame, mode)).unwrap();
                    let layers = vp9.layers();
                    (frame, layers)
                })
                .collect();
            // With U in each picture, and temporal layers only, there is always a way up.
            let within = (!chained && spatial == 1).then_some(8);
            model::run(&frames, (spatial, temporal), random, within);
        }
    }
}
