//! RTP header extensions (RFC 8285): reads both forms, writes the smaller one that fits, and reads
//! the few elements that a forwarder needs.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use thiserror::Error;

use super::{ExtensionBlock, be16, be24, put};

/// Profile word of the one-byte form (RFC 8285 section 4.2).
pub const ONE_BYTE: u16 = 0xbede;
/// Profile word of the two-byte form; its lower four bits are free (RFC 8285 section 4.3).
pub const TWO_BYTE: u16 = 0x1000;
/// Elements that [`ExtWriter`] takes before it has to change forms.
const MAX_ONE_BYTE_ELEMENTS: usize = 16;

/// One element of a header extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ext<'a> {
    /// The negotiated id: 1 to 14 in the one-byte form, 1 to 255 in the two-byte form.
    pub id: u8,
    /// Offset of `data` in the packet.
    pub start: usize,
    /// The value.
    pub data: &'a [u8],
}

/// Iterates over the elements of a header extension, skipping padding.
///
/// It ends early, after the elements before it, at id 15 or at padding with a length in the
/// one-byte form (RFC 8285 section 4.2), and at an element that is longer than the block. Unknown
/// profiles have no elements.
#[derive(Clone, Default, Debug)]
pub struct ExtIter<'a> {
    packet: &'a [u8],
    at: usize,
    two_byte: bool,
}

impl<'a> ExtIter<'a> {
    /// The elements of `block` in `packet`.
    #[inline]
    pub fn new(packet: &'a [u8], block: ExtensionBlock) -> Self {
        let two_byte = block.profile & 0xfff0 == TWO_BYTE;
        match packet.get(..block.end) {
            Some(packet) if two_byte || block.profile == ONE_BYTE => {
                Self { packet, at: block.start, two_byte }
            }
            _ => Self::default(),
        }
    }

    fn end(&mut self) -> Option<Ext<'a>> {
        self.at = self.packet.len();
        None
    }
}

impl<'a> Iterator for ExtIter<'a> {
    type Item = Ext<'a>;

    #[inline]
    fn next(&mut self) -> Option<Ext<'a>> {
        let mut first = *self.packet.get(self.at)?;
        while first == 0 {
            self.at += 1;
            first = *self.packet.get(self.at)?;
        }
        let (id, start, len) = if self.two_byte {
            let Some(len) = self.packet.get(self.at + 1) else { return self.end() };
            (first, self.at + 2, usize::from(*len))
        } else {
            (first >> 4, self.at + 1, usize::from(first & 0x0f) + 1)
        };
        if !self.two_byte && (id == 0 || id == 15) {
            return self.end();
        }
        let Some(data) = self.packet.get(start..start + len) else { return self.end() };
        self.at = start + len;
        Some(Ext { id, start, data })
    }
}

/// Why an element was not written. Earlier elements stay valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ExtError {
    /// The buffer has no room.
    #[error("no room for the header extension")]
    Full,
    /// Only the two-byte form can carry it, and that was not negotiated.
    #[error("the element needs the two-byte form")]
    NeedsTwoByte,
    /// Id 0, or more than 255 bytes.
    #[error("not an id or a length that a header extension can have")]
    Invalid,
}

/// Writes a header extension block: profile, length, elements, padding.
///
/// It uses the one-byte form until an element has an id over 14, no bytes or more than 16; then, if
/// the two-byte form was negotiated (`extmap-allow-mixed`, RFC 8285 section 4.1.2), it converts what
/// it wrote so far.
#[derive(Debug)]
pub struct ExtWriter<'a> {
    buf: &'a mut [u8],
    at: usize,
    allow_two_byte: bool,
    two_byte: bool,
    count: usize,
    starts: [u16; MAX_ONE_BYTE_ELEMENTS],
}

impl<'a> ExtWriter<'a> {
    /// Creates a writer at the start of `buf`, which is where the block goes: after the fixed
    /// header and the contributing sources.
    #[inline]
    pub fn new(buf: &'a mut [u8], allow_two_byte: bool) -> Self {
        Self {
            buf,
            at: 4,
            allow_two_byte,
            two_byte: false,
            count: 0,
            starts: [0; MAX_ONE_BYTE_ELEMENTS],
        }
    }

    /// Allows the two-byte form from here on, whatever was negotiated.
    pub const fn allow_two_byte(&mut self) {
        self.allow_two_byte = true;
    }

    /// Appends an element and returns the offset of its value in the block. The offset stays valid
    /// unless a later element changes the form.
    ///
    /// # Errors
    /// [`ExtError`]; nothing has changed then.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 255 bytes of data, and a block of at most 65,535 words"
    )]
    pub fn push(&mut self, id: u8, data: &[u8]) -> Result<usize, ExtError> {
        if id == 0 || data.len() > 255 {
            return Err(ExtError::Invalid);
        }
        let fits_one_byte =
            id <= 14 && (1..=16).contains(&data.len()) && self.count < MAX_ONE_BYTE_ELEMENTS;
        if !self.two_byte && !fits_one_byte {
            // One more byte for each element that is converted, and this one.
            if !self.allow_two_byte {
                return Err(ExtError::NeedsTwoByte);
            }
            if self.at + self.count + 2 + data.len() > self.room() {
                return Err(ExtError::Full);
            }
            self.convert()?;
        }
        let head = if self.two_byte { 2 } else { 1 };
        let start = self.at + head;
        let end = start + data.len();
        if end > self.room() {
            return Err(ExtError::Full);
        }
        if self.two_byte {
            put(self.buf, self.at, &[id, data.len() as u8]).ok_or(ExtError::Full)?;
        } else {
            let len = (data.len() as u8).wrapping_sub(1) & 0x0f;
            put(self.buf, self.at, &[(id << 4) | len]).ok_or(ExtError::Full)?;
            if let Some(slot) = self.starts.get_mut(self.count) {
                *slot = self.at as u16;
            }
        }
        put(self.buf, start, data).ok_or(ExtError::Full)?;
        self.count += 1;
        self.at = end;
        Ok(start)
    }

    /// The same for a value whose length is known at compile time, at a third of the cost.
    ///
    /// # Errors
    /// [`ExtError`]; nothing has changed then.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 16 bytes, and offsets in one packet"
    )]
    pub fn push_array<const N: usize>(&mut self, id: u8, data: [u8; N]) -> Result<usize, ExtError> {
        let one_byte = !self.two_byte && matches!(id, 1..=14) && matches!(N, 1..=16);
        let (at, end) = (self.at, self.at + 1 + N);
        let place = if end <= self.room() { self.buf.get_mut(at..end) } else { None };
        match (place, self.starts.get_mut(self.count)) {
            (Some([head, value @ ..]), Some(slot)) if one_byte => {
                *head = id << 4 | (N - 1) as u8;
                value.copy_from_slice(&data);
                *slot = at as u16;
                self.count += 1;
                self.at = end;
                Ok(at + 1)
            }
            _ => self.push(id, &data),
        }
    }

    /// Overwrites bytes of the element that was appended last, from an offset in the block on.
    ///
    /// # Errors
    /// [`ExtError::Full`]: they do not end within what was written.
    #[inline]
    pub fn patch(&mut self, at: usize, data: &[u8]) -> Result<(), ExtError> {
        let end = at.checked_add(data.len()).filter(|end| *end <= self.at);
        end.and_then(|_| put(self.buf, at, data)).ok_or(ExtError::Full)
    }

    /// Completes the block and returns its length in bytes: 0 when there are no elements (and the
    /// extension bit must stay clear), else a multiple of 4.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the room for a block is bounded by its count of words"
    )]
    pub fn finish(self) -> usize {
        if self.count == 0 {
            return 0;
        }
        let end = self.at.next_multiple_of(4);
        let words = ((end - 4) / 4) as u16;
        let profile = if self.two_byte { TWO_BYTE } else { ONE_BYTE };
        if let Some(padding) = self.buf.get_mut(self.at..end) {
            padding.fill(0);
        }
        let [p0, p1] = profile.to_be_bytes();
        let [w0, w1] = words.to_be_bytes();
        // There is room: an element was written after these four bytes.
        let _ = put(self.buf, 0, &[p0, p1, w0, w1]);
        end
    }

    /// Bytes that may be used: whole words, no more than the length field can express.
    #[inline]
    fn room(&self) -> usize {
        (self.buf.len() & !3).min(4 + 4 * usize::from(u16::MAX))
    }

    /// Rewrites the one-byte elements as two-byte ones, from the last to the first, because each
    /// moves by the number of elements up to and including itself.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 16 bytes of data in the one-byte form"
    )]
    fn convert(&mut self) -> Result<(), ExtError> {
        for n in (0..self.count).rev() {
            let start = usize::from(*self.starts.get(n).ok_or(ExtError::Full)?);
            let head = *self.buf.get(start).ok_or(ExtError::Full)?;
            let len = usize::from(head & 0x0f) + 1;
            let to = start + n;
            if to + 2 + len > self.buf.len() {
                return Err(ExtError::Full);
            }
            self.buf.copy_within(start + 1..start + 1 + len, to + 2);
            put(self.buf, to, &[head >> 4, len as u8]).ok_or(ExtError::Full)?;
        }
        self.at += self.count;
        self.two_byte = true;
        Ok(())
    }
}

/// An audio level (RFC 6464 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AudioLevel {
    /// Level in -dBov: 0 is the loudest, 127 silence.
    pub level: u8,
    /// The sender's voice activity flag.
    pub voice: bool,
}

/// Returns whether a frame marking (RFC 9626 section 3.1) says that the packet starts an
/// independent frame.
#[inline]
pub fn starts_independent_frame(data: &[u8]) -> bool {
    const START: u8 = 0x80;
    const INDEPENDENT: u8 = 0x20;
    data.first().is_some_and(|first| first & (START | INDEPENDENT) == START | INDEPENDENT)
}

/// The level of digital silence, -127 dBov (RFC 6464 section 3).
pub const SILENCE: u8 = 127;

/// Reads an audio level element (RFC 6464).
#[inline]
pub fn audio_level(data: &[u8]) -> Option<AudioLevel> {
    let byte = *data.first()?;
    Some(AudioLevel { level: byte & 0x7f, voice: byte & 0x80 != 0 })
}

/// Reads a transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
#[inline]
pub fn transport_seq(data: &[u8]) -> Option<u16> {
    be16(data, 0)
}

/// Reads an absolute send time: 24 bits of seconds as 6.18 fixed point, wrapping every 64 s.
#[inline]
pub fn abs_send_time(data: &[u8]) -> Option<u32> {
    be24(data, 0)
}

/// Reads a media identification tag, MID (RFC 9143 section 15), or an RTP stream id (RFC 8852).
#[inline]
pub fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(block: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let block_desc = ExtensionBlock {
            profile: be16(block, 0).unwrap(),
            start: 4,
            end: 4 + 4 * usize::from(be16(block, 2).unwrap()),
        };
        ExtIter::new(block, block_desc)
            .inspect(|e| assert_eq!(&block[e.start..e.start + e.data.len()], e.data))
            .map(|e| (e.id, e.data.to_vec()))
            .collect()
    }

    #[test]
    fn one_byte_form_with_padding_between() {
        let block = [0xbe, 0xde, 0, 2, 0x10, 0xaa, 0, 0, 0x21, 1, 2, 0];
        assert_eq!(read(&block), [(1, vec![0xaa]), (2, vec![1, 2])]);
    }

    #[test]
    fn stops_where_the_rfc_says() {
        // Id 15, padding with a length, an element over the end: only what came before counts.
        assert_eq!(read(&[0xbe, 0xde, 0, 1, 0x10, 1, 0xf0, 1]), [(1, vec![1])]);
        assert_eq!(read(&[0xbe, 0xde, 0, 1, 0x10, 1, 0x01, 0x20]), [(1, vec![1])]);
        assert_eq!(read(&[0xbe, 0xde, 0, 1, 0x10, 1, 0x27, 1]), [(1, vec![1])]);
        assert_eq!(read(&[0x10, 0, 0, 1, 1, 1, 9, 2]), [(1, vec![9])]);
        assert_eq!(
            read(&[0x10, 5, 0, 2, 200, 0, 0, 15, 3, 1, 2, 3]),
            [(200, vec![]), (15, vec![1, 2, 3])]
        );
        assert_eq!(read(&[0xab, 0xcd, 0, 1, 0x10, 1, 0, 0]), []);
    }

    #[test]
    fn two_byte_form_only_when_needed_and_allowed() {
        let mut buf = [0xff; 64];
        let mut writer = ExtWriter::new(&mut buf, false);
        assert_eq!(writer.push(1, &[7]), Ok(5));
        assert_eq!(writer.push(15, &[7]), Err(ExtError::NeedsTwoByte));
        assert_eq!(writer.push(0, &[7]), Err(ExtError::Invalid));
        assert_eq!(writer.push(14, &[0; 16]), Ok(7));
        assert_eq!(writer.finish(), 24);
        assert_eq!(read(&buf), [(1, vec![7]), (14, vec![0; 16])]);
        assert_eq!(buf[23], 0);

        let mut writer = ExtWriter::new(&mut buf, true);
        writer.push(3, &[1, 2]).unwrap();
        writer.push(4, &[3]).unwrap();
        writer.push(20, &[]).unwrap();
        writer.push(5, &[4; 20]).unwrap();
        let len = writer.finish();
        assert_eq!(len % 4, 0);
        assert_eq!(buf[..2], [0x10, 0]);
        assert_eq!(
            read(&buf[..len]),
            [(3, vec![1, 2]), (4, vec![3]), (20, vec![]), (5, vec![4; 20])]
        );
        assert_eq!(ExtWriter::new(&mut buf, true).finish(), 0);
    }

    #[test]
    fn readers() {
        assert_eq!(audio_level(&[0x9e]), Some(AudioLevel { level: 30, voice: true }));
        assert_eq!(audio_level(&[]), None);
        assert_eq!(transport_seq(&[1, 2]), Some(0x102));
        assert_eq!(transport_seq(&[1]), None);
        assert_eq!(abs_send_time(&[1, 2, 3]), Some(0x1_0203));
        assert_eq!(text(b"audio"), Some("audio"));
        assert_eq!(text(&[0xff]), None);
    }

    proptest! {
        #[test]
        fn reads_back_what_was_written(
            elements in proptest::collection::vec(
                (0u8..=20, proptest::collection::vec(any::<u8>(), 0..20)), 0..20),
            mixed in any::<bool>(),
            room in 0usize..200,
        ) {
            let mut buf = vec![0xee; room];
            let mut writer = ExtWriter::new(&mut buf, mixed);
            let mut kept = Vec::new();
            for (id, data) in elements {
                let written = match *data.as_slice() {
                    [a, b] => writer.push_array(id, [a, b]),
                    [a, b, c] => writer.push_array(id, [a, b, c]),
                    _ => writer.push(id, &data),
                };
                if written.is_ok() {
                    kept.push((id, data));
                }
            }
            let len = writer.finish();
            prop_assert!(len <= room && len.is_multiple_of(4));
            prop_assert_eq!(len == 0, kept.is_empty());
            if len > 0 {
                prop_assert_eq!(read(&buf[..len]), kept);
            }
        }
    }
}
