//! VP8 payload descriptors and frame headers (RFC 7741) as an encoder with three temporal layers
//! writes them.

/// Longest prefix that [`Descriptor::write`] makes: descriptor and keyframe header.
pub const MAX_PREFIX: usize = 16;

/// What the first bytes of a VP8 packet say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// This packet begins the frame.
    pub start: bool,
    /// The frame is a keyframe.
    pub key: bool,
    /// Picture id, 15 bits.
    pub picture: u16,
    /// Number of the last temporal base layer picture.
    pub tl0: u8,
    /// Temporal layer, 0..=2.
    pub temporal: u8,
    /// Number of the last keyframe, 5 bits.
    pub key_index: u8,
    /// Frame width, pixels; written in keyframes.
    pub width: u16,
    /// Frame height, pixels; written in keyframes.
    pub height: u16,
}

impl Descriptor {
    /// Appends the descriptor (section 4.2) and, in the frame's first packet, the VP8 frame header
    /// (section 4.3; for a keyframe with start code and size, RFC 6386 section 9.1).
    pub fn write(&self, out: &mut Vec<u8>) {
        let not_reference = self.temporal == 2;
        out.push(0x80 | (u8::from(not_reference) << 5) | (u8::from(self.start) << 4));
        out.push(0xf0); // I, L, T and K are present
        out.extend_from_slice(&(0x8000 | self.picture).to_be_bytes());
        out.push(self.tl0);
        out.push((self.temporal << 6) | (self.key_index & 0x1f));
        if !self.start {
            return;
        }
        // Frame tag: inverse key bit, version 0, shown, a first partition of 100 bytes.
        let tag: u32 = u32::from(!self.key) | (1 << 4) | (100 << 5);
        out.extend_from_slice(&tag.to_le_bytes()[..3]);
        if self.key {
            out.extend_from_slice(&[0x9d, 0x01, 0x2a]);
            out.extend_from_slice(&(self.width & 0x3fff).to_le_bytes());
            out.extend_from_slice(&(self.height & 0x3fff).to_le_bytes());
        }
    }
}

/// Whether a payload begins a keyframe.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let start = |first: u8| first & 0x17 == 0x10;
    match payload.first() {
        Some(&first) if start(first) => {}
        _ => return false,
    }
    let frame = descriptor_len(payload).and_then(|len| payload.get(len));
    frame.is_some_and(|tag| tag & 1 == 0)
}

/// Length of the payload descriptor, if it is whole.
fn descriptor_len(payload: &[u8]) -> Option<usize> {
    let mut len = 1;
    if payload.first()? & 0x80 != 0 {
        let present = *payload.get(1)?;
        len += 1;
        if present & 0x80 != 0 {
            len += if payload.get(len)? & 0x80 != 0 { 2 } else { 1 };
        }
        len += usize::from(present & 0x40 != 0);
        len += usize::from(present & 0x30 != 0);
    }
    Some(len)
}

/// The order of temporal layers in a group of four frames.
pub const TEMPORAL_PATTERN: [u8; 4] = [0, 2, 1, 2];

#[cfg(test)]
mod tests {
    use rtp::{codecs::vp8::Vp8Packet, packetizer::Depacketizer};

    use super::*;

    fn descriptor(start: bool, key: bool) -> Descriptor {
        Descriptor {
            start,
            key,
            picture: 0x1234,
            tl0: 200,
            temporal: 2,
            key_index: 7,
            width: 1280,
            height: 720,
        }
    }

    #[test]
    fn another_reader_agrees() {
        let mut out = Vec::new();
        descriptor(true, true).write(&mut out);
        out.extend_from_slice(&[0; 50]);
        let mut foreign = Vp8Packet::default();
        let frame = foreign.depacketize(&out.clone().into()).unwrap();
        assert_eq!((foreign.s, foreign.pid, foreign.n), (1, 0, 1));
        assert_eq!(foreign.picture_id, 0x1234);
        assert_eq!((foreign.tl0_pic_idx, foreign.tid, foreign.key_idx), (200, 2, 7));
        assert_eq!(frame[0] & 1, 0);
        assert_eq!(&frame[3..6], [0x9d, 0x01, 0x2a]);
        assert_eq!(&frame[6..10], [0x00, 0x05, 0xd0, 0x02]);
        assert!(out.len() - 50 <= MAX_PREFIX);
    }

    #[test]
    fn keyframe_starts_are_seen() {
        for (start, key) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut out = Vec::new();
            descriptor(start, key).write(&mut out);
            out.push(0);
            assert_eq!(starts_keyframe(&out), start && key);
        }
        assert!(!starts_keyframe(&[]));
        assert!(!starts_keyframe(&[0x90]));
        assert!(!starts_keyframe(&[0x90, 0x80, 0x80]));
    }
}
