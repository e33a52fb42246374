//! What a payload says about itself to a judge, behind the descriptor of its codec.

use rialto_media::Codec;

use crate::Body;

/// The running numbers of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Numbers {
    /// VP8 and VP9: modulo 2^15.
    pub picture_id: u16,
    /// VP8 and VP9: modulo 2^8.
    pub tl0: u8,
    /// Of the dependency descriptor, modulo 2^16.
    pub frame_number: u16,
}

/// The true properties of a packet's frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Truth {
    /// The packet's description. `frame` counts the frames of all layers of one encoding, `key` is
    /// true for each frame of a picture that refers to no other picture.
    pub body: Body,
    /// The codec.
    pub codec: Codec,
    /// The spatial layer.
    pub spatial: u8,
    /// The temporal layer.
    pub temporal: u8,
    /// Number of the encoding's picture.
    pub picture: u32,
    /// Its height, pixels.
    pub height: u16,
    /// The layers are independent of each other: a keyframe only ends references within its own
    /// layer.
    pub independent: bool,
    /// The RTP timestamp that its sender wrote.
    pub timestamp: u32,
    /// The running numbers that its sender wrote.
    pub numbers: Numbers,
    /// The frames of the same encoding that a decoder needs for it.
    pub refs: Vec<u32>,
}

const MAGIC: [u8; 2] = [0x5a, 0x17];
const CODECS: [Codec; 4] = [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264];
/// Length of content, check sum, magic.
const TAIL_LEN: usize = 8;

fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, b| (sum ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

impl Truth {
    /// Appends content of about `filler` bytes that ends with the truth.
    pub(crate) fn write(&self, out: &mut Vec<u8>, filler: usize) {
        let start = out.len();
        let body = self.body;
        out.extend_from_slice(&(filler as u16).to_be_bytes());
        let mut x = u64::from(body.frame) << 8 ^ u64::from(body.part) << 3 ^ 0x9e37_79b9 | 1;
        for _ in 0..filler {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            out.push((x >> 56) as u8);
        }
        out.extend_from_slice(&body.source.to_be_bytes());
        out.extend_from_slice(&body.frame.to_be_bytes());
        out.extend_from_slice(&[body.encoding, body.part, body.parts, u8::from(body.key)]);
        let codec = CODECS.iter().position(|c| *c == self.codec).expect("a codec with layers");
        out.extend_from_slice(&[codec as u8, self.spatial, self.temporal]);
        out.push(u8::from(self.independent));
        out.extend_from_slice(&self.picture.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.height.to_be_bytes());
        out.extend_from_slice(&self.numbers.picture_id.to_be_bytes());
        out.extend_from_slice(&self.numbers.frame_number.to_be_bytes());
        out.extend_from_slice(&[self.numbers.tl0, self.refs.len() as u8]);
        for number in &self.refs {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let content = &out[start..];
        let (len, sum) = (content.len() + TAIL_LEN, checksum(content));
        out.extend_from_slice(&(len as u16).to_be_bytes());
        out.extend_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&MAGIC);
    }

    /// Reads a payload from its end; `None` if it is incomplete.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (rest, tail) = payload.split_last_chunk::<TAIL_LEN>()?;
        let [l0, l1, c0, c1, c2, c3, m0, m1] = *tail;
        let len = usize::from(u16::from_be_bytes([l0, l1])).checked_sub(TAIL_LEN)?;
        let content = rest.get(rest.len().checked_sub(len)?..)?;
        if [m0, m1] != MAGIC || checksum(content) != u32::from_be_bytes([c0, c1, c2, c3]) {
            return None;
        }
        let mut at = Cursor(content);
        let filler = at.u16()?;
        at.skip(filler.into())?;
        let (source, frame) = (at.u32()?, at.u32()?);
        let [encoding, part, parts, key] = at.take()?;
        let [codec, spatial, temporal, independent] = at.take()?;
        let (picture, timestamp, height) = (at.u32()?, at.u32()?, at.u16()?);
        let (picture_id, frame_number) = (at.u16()?, at.u16()?);
        let [tl0, refs] = at.take()?;
        Some(Self {
            body: Body { source, encoding, frame, part, parts, key: key != 0 },
            codec: *CODECS.get(usize::from(codec))?,
            spatial,
            temporal,
            picture,
            height,
            independent: independent != 0,
            timestamp,
            numbers: Numbers { picture_id, tl0, frame_number },
            refs: (0..refs).map(|_| at.u32()).collect::<Option<_>>()?,
        })
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn skip(&mut self, n: usize) -> Option<()> {
        self.0 = self.0.get(n..)?;
        Some(())
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
}
