//! The VP8 payload descriptor and header (RFC 7741 sections 4.2 and 4.3).
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "offsets in one payload, each checked against its length when it is used"
)]

use super::{Resolution, RunningNumbers};

/// A field and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<T> {
    /// Offset in the payload.
    pub offset: usize,
    /// The value.
    pub value: T,
}

/// A picture id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PictureId {
    /// Offset in the payload.
    pub offset: usize,
    /// The value: 15 bits when `wide`, else 7.
    pub value: u16,
    /// It takes two bytes.
    pub wide: bool,
}

/// The temporal layer of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Temporal {
    /// The layer, 0 to 3.
    pub tid: u8,
    /// The Y bit: the frame depends on base layer frames only, so that a receiver can switch up.
    pub sync: bool,
}

/// The descriptor of a VP8 packet, and what the header of the frame says.
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
    /// The picture id, if present.
    pub picture_id: Option<PictureId>,
    /// The running index of base layer frames, if present.
    pub tl0_pic_idx: Option<Field<u8>>,
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
    /// Reads a payload; `None` when it ends within the descriptor.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut vp8 = Self {
            len: 1,
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            non_reference: first & 0x20 != 0,
            picture_id: None,
            tl0_pic_idx: None,
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

    /// The numbers that run from frame to frame.
    #[inline]
    pub fn numbers(&self) -> RunningNumbers {
        let mut numbers = RunningNumbers { dense: true, ..RunningNumbers::default() };
        if let Some(id) = self.picture_id {
            numbers.picture_id_at = id.offset as u8;
            numbers.picture_id_bits = if id.wide { 15 } else { 7 };
            numbers.picture_id = id.value;
        }
        if let Some(tl0) = self.tl0_pic_idx {
            numbers.tl0_at = tl0.offset as u8;
            numbers.tl0 = tl0.value;
        }
        numbers
    }

    /// The bytes after X, L, T and K: whatever the second byte says is present.
    #[inline]
    fn parse_extension(&mut self, payload: &[u8]) -> Option<()> {
        let present = *payload.get(1)?;
        let mut at = 2;
        if present & 0x80 != 0 {
            let high = *payload.get(at)?;
            let wide = high & 0x80 != 0;
            let value = if wide {
                u16::from_be_bytes([high & 0x7f, *payload.get(at + 1)?])
            } else {
                u16::from(high)
            };
            self.picture_id = Some(PictureId { offset: at, value, wide });
            at += if wide { 2 } else { 1 };
        }
        if present & 0x40 != 0 {
            self.tl0_pic_idx = Some(Field { offset: at, value: *payload.get(at)? });
            at += 1;
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

    /// The frame tag and, of a keyframe, start code and size (RFC 6386 section 9.1). A packet too
    /// short for them still has its descriptor.
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

    /// Overwrites the picture id in `payload`, in as many bytes as it has there. False, and no
    /// change, when this descriptor has none or `payload` is not its packet.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "seven bits, masked")]
    pub fn write_picture_id(&self, payload: &mut [u8], value: u16) -> bool {
        let Some(id) = self.picture_id else { return false };
        let Some(field) = payload.get_mut(id.offset..) else { return false };
        match field {
            [high, low, ..] if id.wide => {
                [*high, *low] = (value | 0x8000).to_be_bytes();
                true
            }
            [byte, ..] if !id.wide => {
                *byte = value as u8 & 0x7f;
                true
            }
            _ => false,
        }
    }

    /// Overwrites the base layer index in `payload`. False, and no change, when there is none.
    #[inline]
    pub fn write_tl0_pic_idx(&self, payload: &mut [u8], value: u8) -> bool {
        let field = self.tl0_pic_idx.and_then(|field| payload.get_mut(field.offset));
        match field {
            Some(byte) => {
                *byte = value;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(vp8.picture_id, Some(PictureId { offset: 2, value: 0x1234, wide: true }));
        assert_eq!(vp8.tl0_pic_idx, Some(Field { offset: 4, value: 0x56 }));
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
        assert!(vp8.write_picture_id(&mut payload, 0x7fff));
        assert!(vp8.write_tl0_pic_idx(&mut payload, 9));
        let again = Vp8::parse(&payload).unwrap();
        assert_eq!(again.picture_id.unwrap().value, 0x7fff);
        assert_eq!(again.tl0_pic_idx.unwrap().value, 9);
        assert_eq!((again.len, again.temporal), (vp8.len, vp8.temporal));

        let mut narrow = [0x90, 0x80, 0x7f, 0x01];
        let vp8 = Vp8::parse(&narrow).unwrap();
        assert!(vp8.write_picture_id(&mut narrow, 0x81));
        assert_eq!(Vp8::parse(&narrow).unwrap().picture_id.unwrap().value, 1);
        assert!(!vp8.write_tl0_pic_idx(&mut narrow, 1));
        assert!(!vp8.write_picture_id(&mut [], 1));
    }
}
