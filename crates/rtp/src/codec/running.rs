//! Numbers in a payload descriptor that count frames, and their modification in copies of a packet.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "they are among the first ten bytes of a payload"
)]

/// The running numbers in a payload descriptor, and where they are. VP8 (RFC 7741 section 4.2) and
/// VP9 (RFC 9628 section 4.2) have the same two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningNumbers {
    /// Offset of the picture id from the payload's start.
    pub picture_id_at: u8,
    /// Its width: 7 or 15 bits; 0: there is none.
    pub picture_id_bits: u8,
    /// Offset of TL0PICIDX from the payload's start; 0: there is none.
    pub tl0_at: u8,
    /// TL0PICIDX as received.
    pub tl0: u8,
    /// Picture id as received.
    pub picture_id: u16,
    /// A receiver takes a missing picture id for a lost frame (VP8), so frames that are not
    /// forwarded must leave no gap. Otherwise (VP9) frames refer to each other by distance, and the
    /// distances must stay.
    pub dense: bool,
}

/// What is added to a codec's running numbers in a receiver's copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// Added to the picture id, modulo its width.
    pub picture_id: u16,
    /// Added to TL0PICIDX.
    pub tl0: u8,
    /// Added to the frame number of a dependency descriptor (AV1 RTP section A.8.3). A browser that
    /// was offered the extension sends it with other codecs too, with VP8 in place of a picture id.
    pub frame_number: u16,
}

impl RunningNumbers {
    /// Returns whether nothing is added.
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.picture_id_bits == 0 && self.tl0_at == 0
    }

    /// Reads a picture id of one or two bytes at an offset; returns the offset after it.
    #[inline]
    pub(super) fn read_picture_id(&mut self, payload: &[u8], at: usize) -> Option<usize> {
        let high = *payload.get(at)?;
        let wide = high & 0x80 != 0;
        self.picture_id_at = at as u8;
        self.picture_id_bits = if wide { 15 } else { 7 };
        self.picture_id = u16::from(high);
        if wide {
            self.picture_id = u16::from_be_bytes([high & 0x7f, *payload.get(at + 1)?]);
        }
        Some(if wide { at + 2 } else { at + 1 })
    }

    /// The largest value of the picture id, if there is one.
    #[inline]
    pub const fn picture_id_mask(&self) -> u16 {
        if self.picture_id_bits == 7 { 0x7f } else { 0x7fff }
    }

    /// Reads TL0PICIDX at an offset; returns the offset after it.
    #[inline]
    pub(super) fn read_tl0(&mut self, payload: &[u8], at: usize) -> Option<usize> {
        self.tl0 = *payload.get(at)?;
        self.tl0_at = at as u8;
        Some(at + 1)
    }

    /// Changes the numbers in a copy of the payload that they were read from.
    #[inline]
    pub fn patch(&self, payload: &mut [u8], shift: Shift) {
        let at = usize::from(self.picture_id_at);
        let id = self.picture_id.wrapping_add(shift.picture_id);
        match self.picture_id_bits {
            15 => {
                if let Some(bytes) = payload.get_mut(at..at + 2) {
                    bytes.copy_from_slice(&(0x8000 | (id & 0x7fff)).to_be_bytes());
                }
            }
            7 => {
                if let Some(byte) = payload.get_mut(at) {
                    *byte = (id & 0x7f) as u8;
                }
            }
            _ => {}
        }
        if self.tl0_at != 0
            && let Some(byte) = payload.get_mut(usize::from(self.tl0_at))
        {
            *byte = self.tl0.wrapping_add(shift.tl0);
        }
    }
}
