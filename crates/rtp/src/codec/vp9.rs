//! The VP9 payload descriptor (RFC 9628 section 4.2).
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in one payload, each checked against its length when it is used"
)]

use super::super::be16;
use super::Resolution;
use super::vp8::{Field, PictureId};

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
    /// The picture id, if present.
    pub picture_id: Option<PictureId>,
    /// The layer indices, if present.
    pub layer: Option<Layer>,
    /// The running index of base layer pictures, if present.
    pub tl0_pic_idx: Option<Field<u8>>,
    /// The packet carries a scalability structure.
    pub has_structure: bool,
    /// Size of the largest spatial layer in the scalability structure.
    pub resolution: Option<Resolution>,
}

impl Vp9 {
    /// Reads a payload; `None` when it ends within the descriptor.
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
            picture_id: None,
            layer: None,
            tl0_pic_idx: None,
            has_structure: first & 0x02 != 0,
            resolution: None,
        };
        if first & 0x80 != 0 {
            vp9.parse_picture_id(payload)?;
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

    /// The packet is the first one of a keyframe: its picture depends on no other and this is its
    /// lowest layer.
    #[inline]
    pub fn starts_keyframe(&self) -> bool {
        self.begin
            && !self.inter_predicted
            && self.layer.is_none_or(|layer| layer.sid == 0 && !layer.inter_layer)
    }

    #[inline]
    fn take(&mut self, payload: &[u8]) -> Option<u8> {
        let byte = *payload.get(self.len)?;
        self.len += 1;
        Some(byte)
    }

    #[inline]
    fn parse_picture_id(&mut self, payload: &[u8]) -> Option<()> {
        let offset = self.len;
        let high = self.take(payload)?;
        let wide = high & 0x80 != 0;
        let value = if wide {
            u16::from_be_bytes([high & 0x7f, self.take(payload)?])
        } else {
            u16::from(high)
        };
        self.picture_id = Some(PictureId { offset, value, wide });
        Some(())
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
            let offset = self.len;
            self.tl0_pic_idx = Some(Field { offset, value: self.take(payload)? });
        }
        Some(())
    }

    /// Up to three reference differences, each saying whether another follows.
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
            for n in 0..layers {
                let at = self.len + 4 * n;
                let (width, height) = (be16(payload, at)?, be16(payload, at + 2)?);
                // The layers come in ascending order, but nothing checks that they do.
                let area = |r: Resolution| u32::from(r.width) * u32::from(r.height);
                let size = Resolution { width, height };
                if self.resolution.is_none_or(|largest| area(size) > area(largest)) {
                    self.resolution = Some(size);
                }
            }
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
    use super::*;

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
        assert_eq!(vp9.picture_id, Some(PictureId { offset: 1, value: 0x1234, wide: true }));
        assert_eq!(vp9.tl0_pic_idx, Some(Field { offset: 4, value: 7 }));
        assert_eq!(vp9.resolution, Some(Resolution { width: 1280, height: 720 }));
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
        assert_eq!(Vp9::parse(&[0x70, 0x00, 0x02]).unwrap().tl0_pic_idx, None);
    }
}
