//! The payload formats of the codecs: RFC 7741 (VP8), RFC 9628 (VP9), RFC 6184 (H.264), the RTP
//! Payload Format for AV1.

use rialto_media::Codec;

use crate::{
    Mode, Truth,
    bits::{BitReader, BitWriter},
    pattern::{LayerFrame, Pattern},
};

/// NAL unit types of RFC 6184 section 5.2.
const STAP_A: u8 = 0x18;
const FU_A: u8 = 0x1c;

/// How an H.264 frame is split into packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Fragments of one slice (FU-A).
    Fragments,
    /// A slice in each packet.
    Slices,
}

/// The parts of a payload.
pub(crate) struct Recipe<'a> {
    pub(crate) mode: &'a Mode,
    pub(crate) frame: &'a LayerFrame,
    pub(crate) truth: &'a Truth,
    /// VP9: the active spatial layers, when this packet has a scalability structure.
    pub(crate) structure: Option<u8>,
    /// VP9: how many pictures back the frame refers, to other pictures.
    pub(crate) picture_diffs: &'a [u8],
    pub(crate) cut: Cut,
    /// Bytes of content besides the truth.
    pub(crate) filler: usize,
    /// Zero bytes at the end.
    pub(crate) tail_len: usize,
    /// The start of an encrypted payload.
    pub(crate) noise: &'a [u8],
}

impl Recipe<'_> {
    fn is_first(&self) -> bool {
        self.truth.body.part == 0
    }

    fn is_last(&self) -> bool {
        self.truth.body.part + 1 == self.truth.body.parts
    }

    fn size(&self) -> (u16, u16) {
        (self.truth.height / 9 * 16, self.truth.height)
    }

    /// The payload.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.mode.codec {
            Codec::Vp8 => self.vp8(&mut out),
            Codec::Vp9 => self.vp9(&mut out),
            _ if self.mode.encrypted => out.extend_from_slice(self.noise),
            Codec::Av1 => self.av1(&mut out),
            _ => return self.h264(),
        }
        self.content(&mut out);
        out
    }

    fn content(&self, out: &mut Vec<u8>) {
        self.truth.write(out, self.filler);
        out.resize(out.len() + self.tail_len, 0);
    }

    /// RFC 7741 sections 4.2 and 4.3.
    fn vp8(&self, out: &mut Vec<u8>) {
        let Truth { numbers, temporal, .. } = self.truth;
        let start = u8::from(self.is_first()) << 4 | u8::from(self.frame.discardable) << 5;
        if self.mode.descriptor {
            // Chromium has the rest in the header extension.
            out.push(start);
        } else {
            let layers = self.mode.temporal > 1;
            out.extend_from_slice(&[0x80 | start, if layers { 0xe0 } else { 0x80 }]);
            out.extend_from_slice(&(0x8000 | numbers.picture_id).to_be_bytes());
            if layers {
                let sync = u8::from(self.frame.sync);
                out.extend_from_slice(&[numbers.tl0, temporal << 6 | sync << 5]);
            }
        }
        if self.is_first() {
            out.extend_from_slice(&[u8::from(!self.frame.key) | 0x10, 0, 0]);
            if self.frame.key {
                let (width, height) = self.size();
                out.extend_from_slice(&[0x9d, 0x01, 0x2a]);
                out.extend(width.to_le_bytes().into_iter().chain(height.to_le_bytes()));
            }
        }
    }

    /// RFC 9628 section 4.2.
    fn vp9(&self, out: &mut Vec<u8>) {
        let Truth { numbers, temporal, spatial, .. } = self.truth;
        let predicted = !self.picture_diffs.is_empty();
        let flags = [
            true, // I
            predicted,
            true, // L
            self.mode.flexible,
            self.is_first(),
            self.is_last(),
            self.structure.is_some(),
            !self.frame.used_above, // Z
        ];
        out.push(flags.iter().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
        out.extend_from_slice(&(0x8000 | numbers.picture_id).to_be_bytes());
        let (up, down) = (u8::from(self.frame.up_switch), u8::from(self.frame.inter_layer));
        out.push(temporal << 5 | up << 4 | spatial << 1 | down);
        if !self.mode.flexible {
            out.push(numbers.tl0);
        } else if predicted {
            for (at, diff) in self.picture_diffs.iter().enumerate() {
                out.push(diff << 1 | u8::from(at + 1 < self.picture_diffs.len()));
            }
        }
        if let Some(layers) = self.structure {
            self.vp9_structure(layers, out);
        }
    }

    /// RFC 9628 section 4.2.1.
    fn vp9_structure(&self, layers: u8, out: &mut Vec<u8>) {
        let grouped = !self.mode.flexible;
        out.push((layers - 1) << 5 | 0x10 | u8::from(grouped) << 3);
        for spatial in 0..layers {
            let height = self.mode.height(self.truth.body.encoding, spatial);
            out.extend_from_slice(&(height / 9 * 16).to_be_bytes());
            out.extend_from_slice(&height.to_be_bytes());
        }
        if grouped {
            let group = group(self.mode);
            out.push(group.len() as u8);
            for (temporal, up, diffs) in group {
                out.push(temporal << 5 | u8::from(up) << 4 | (diffs.len() as u8) << 2);
                out.extend(diffs);
            }
        }
    }

    /// AV1 RTP section 4: an aggregation header and one or two OBU elements.
    fn av1(&self, out: &mut Vec<u8>) {
        let sequence = self.is_first() && self.frame.key && self.truth.refs.is_empty();
        let (z, y) = (!self.is_first(), !self.is_last());
        let elements = 1 + u8::from(sequence);
        out.push(u8::from(z) << 7 | u8::from(y) << 6 | elements << 4 | u8::from(sequence) << 3);
        if sequence {
            let (width, height) = self.size();
            let header = sequence_header(width, height);
            out.push(header.len() as u8 + 1);
            out.push(1 << 3);
            out.extend(header);
        }
        if self.is_first() {
            // OBU_FRAME with the extension for layers.
            out.extend_from_slice(&[
                6 << 3 | 4,
                self.truth.temporal << 5 | self.truth.spatial << 3,
            ]);
        }
    }

    /// Returns whether the first packet of a picture has a message (SEI) and no slice, as encoders
    /// send timing.
    fn begins_with_message(&self) -> bool {
        self.truth.body.parts > 1 && self.frame.number.is_multiple_of(3)
    }

    /// RFC 6184 section 5.
    fn h264(&self) -> Vec<u8> {
        let (part, parts) = (self.truth.body.part, self.truth.body.parts);
        let key = self.frame.key;
        let importance: u8 = match (key, self.truth.temporal) {
            (true, _) => 3,
            _ if self.frame.discardable => 0,
            (_, 0) => 2,
            _ => 1,
        };
        let slice = importance << 5 | if key { 5 } else { 1 };
        let mut content = Vec::new();
        self.content(&mut content);
        if key && part == 0 {
            // With the slice if there is no other packet, otherwise with a message (SEI).
            let last = [&[if parts == 1 { slice } else { 6 }][..], &content].concat();
            let (width, height) = self.size();
            return aggregate(&[&parameter_set(width, height), &[0x68, 0xce, 0x3c, 0x80], &last]);
        }
        let first = u8::from(key || self.begins_with_message());
        if part < first {
            return [&[6][..], &content].concat();
        }
        if parts - first == 1 || self.cut == Cut::Slices {
            return [&[slice][..], &content].concat();
        }
        let (start, end) = (u8::from(part == first), u8::from(self.is_last()));
        [&[slice & 0xe0 | FU_A, start << 7 | end << 6 | slice & 0x1f][..], &content].concat()
    }
}

/// STAP-A (RFC 6184 section 5.7.1).
fn aggregate(units: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![3 << 5 | STAP_A];
    for unit in units {
        out.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        out.extend_from_slice(unit);
    }
    out
}

/// A sequence parameter set of constrained baseline (H.264 section 7.3.2.1.1).
fn parameter_set(width: u16, height: u16) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.put(0x67_42_c0_1f, 32);
    let blocks = |pixels: u16| u32::from(pixels).div_ceil(16);
    // Id, frame numbers of four bits, no order of its own, one reference.
    for value in [0, 0, 2, 1] {
        w.put_exp_golomb(value);
    }
    w.put(0, 1);
    w.put_exp_golomb(blocks(width) - 1);
    w.put_exp_golomb(blocks(height) - 1);
    w.put(0b11, 2);
    let crop = (blocks(height) * 16 - u32::from(height)) / 2;
    let crop_width = (blocks(width) * 16 - u32::from(width)) / 2;
    w.put(1, 1);
    for value in [0, crop_width, 0, crop] {
        w.put_exp_golomb(value);
    }
    w.put(0b01, 2);
    w.finish()
}

/// The start of a sequence header (AV1 section 5.5.1): profile, one operating point, size.
fn sequence_header(width: u16, height: u16) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.put(0, 3 + 2 + 2 + 5);
    w.put(0, 12);
    w.put(8, 5);
    w.put(0, 1);
    w.put(15, 4);
    w.put(15, 4);
    w.put(u32::from(width) - 1, 16);
    w.put(u32::from(height) - 1, 16);
    w.put(1, 1);
    w.finish()
}

/// The group of pictures of VP9's non-flexible mode: temporal layer, U bit, how far back it refers.
fn group(mode: &Mode) -> Vec<(u8, bool, Vec<u8>)> {
    let mut pattern = Pattern::new(Mode { spatial: 1, ..*mode }, 0, 0);
    let len = mode.cycle().len();
    let frames: Vec<LayerFrame> =
        (0..2 * len).flat_map(|_| pattern.next_picture(false, None)).collect();
    let picture = |f: &LayerFrame| {
        (f.temporal, f.up_switch, f.refs.iter().map(|r| (f.number - r) as u8).collect())
    };
    frames[len..].iter().map(picture).collect()
}

/// The contents of a payload descriptor, as far as there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Described {
    pub(crate) picture_id: Option<u16>,
    pub(crate) tl0: Option<u8>,
    pub(crate) temporal: Option<u8>,
    pub(crate) spatial: Option<u8>,
}

/// Reads the payload descriptor of VP8 or VP9; `None` if it is truncated.
pub(crate) fn describe(codec: Codec, payload: &[u8]) -> Option<Described> {
    let bits = BitReader::new(payload);
    match codec {
        Codec::Vp8 => describe_vp8(bits),
        Codec::Vp9 => describe_vp9(bits),
        _ => Some(Described::default()),
    }
}

fn describe_vp8(mut bits: BitReader<'_>) -> Option<Described> {
    let mut described = Described::default();
    let extended = bits.flag()?;
    bits.take(7)?;
    if !extended {
        return Some(described);
    }
    let has = bits.take(8)?;
    if has & 0x80 != 0 {
        described.picture_id = Some(picture_id(&mut bits)?);
    }
    if has & 0x40 != 0 {
        described.tl0 = Some(bits.take(8)? as u8);
    }
    if has & 0x20 != 0 {
        described.temporal = Some(bits.take(2)? as u8);
    }
    Some(described)
}

fn describe_vp9(mut bits: BitReader<'_>) -> Option<Described> {
    let mut described = Described::default();
    let has = bits.take(8)?;
    if has & 0x80 != 0 {
        described.picture_id = Some(picture_id(&mut bits)?);
    }
    if has & 0x20 != 0 {
        described.temporal = Some(bits.take(3)? as u8);
        bits.take(1)?;
        described.spatial = Some(bits.take(3)? as u8);
        bits.take(1)?;
        if has & 0x10 == 0 {
            described.tl0 = Some(bits.take(8)? as u8);
        }
    }
    Some(described)
}

fn picture_id(bits: &mut BitReader<'_>) -> Option<u16> {
    let wide = bits.flag()?;
    Some(bits.take(if wide { 15 } else { 7 })? as u16)
}
