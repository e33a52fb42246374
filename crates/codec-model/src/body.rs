//! Self-describing simple payloads.

/// The description in a payload. The order is that of sending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Body {
    /// The source's id.
    pub source: u32,
    /// The encoding.
    pub encoding: u8,
    /// The frame, or the audio packet.
    pub frame: u32,
    /// The packet of the frame.
    pub part: u8,
    /// How many packets the frame has.
    pub parts: u8,
    /// Whether it is of a keyframe.
    pub key: bool,
}

const BODY_LEN: usize = 12;
/// Descriptor with a picture id of 15 bits and TL0PICIDX, before the frame's header.
const VP8_LEN: usize = 5;
const VP8_HEADER_LEN: usize = 10;

impl Body {
    /// Bytes that depend on the whole description.
    fn filler(self) -> impl Iterator<Item = u8> {
        let mut x = u64::from(self.source) << 40
            ^ u64::from(self.frame) << 8
            ^ u64::from(self.part) << 3
            ^ u64::from(self.encoding)
            | 1;
        std::iter::repeat_with(move || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 56) as u8
        })
    }

    /// Appends the description, and `len` bytes that depend on it.
    pub fn write(self, out: &mut Vec<u8>, len: usize) {
        out.extend_from_slice(&self.source.to_be_bytes());
        out.extend_from_slice(&self.frame.to_be_bytes());
        out.extend_from_slice(&[self.encoding, self.part, self.parts, u8::from(self.key)]);
        out.extend(self.filler().take(len));
    }

    /// Reads a payload after its descriptor; `None` if it is not what was sent.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (head, filler) = bytes.split_first_chunk::<BODY_LEN>()?;
        let [s0, s1, s2, s3, f0, f1, f2, f3, encoding, part, parts, key] = *head;
        let body = Self {
            source: u32::from_be_bytes([s0, s1, s2, s3]),
            encoding,
            frame: u32::from_be_bytes([f0, f1, f2, f3]),
            part,
            parts,
            key: key != 0,
        };
        body.filler().zip(filler).all(|(a, b)| a == *b).then_some(body)
    }

    /// The source and the encoding.
    pub fn origin(&self) -> (u32, u8) {
        (self.source, self.encoding)
    }

    /// Reads the payload of a video packet.
    pub fn of_video(payload: &[u8]) -> Option<Self> {
        let starts = payload.first()? & 0x10 != 0;
        let header = if starts { VP8_HEADER_LEN } else { 0 };
        Self::read(payload.get(VP8_LEN + header..)?)
    }

    /// Reads the payload of an audio packet.
    pub fn of_audio(payload: &[u8]) -> Option<Self> {
        Self::read(payload)
    }
}
