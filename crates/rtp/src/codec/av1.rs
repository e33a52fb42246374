//! AV1: the aggregation header and the sequence header (RTP Payload Format for AV1, section 4.4).
//! The layers of a frame are in the dependency descriptor.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in one payload, each checked against its length when it is used"
)]

use super::bits::Bits;
use super::{FrameInfo, FrameLayers, Resolution};
use crate::leb128;

/// The OBU type of a sequence header (AV1 section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
/// Bytes of a length in a packet, at most.
const MAX_LEN_BYTES: usize = 4;

/// Reads what a packet says about its frame.
#[inline]
pub(super) fn read(payload: &[u8], marker: bool) -> Option<FrameInfo> {
    let av1 = Aggregation::parse(payload)?;
    let keyframe = av1.new_sequence;
    Some(FrameInfo {
        keyframe,
        start: !av1.continues,
        end: marker,
        layers: if keyframe { FrameLayers::WHOLE } else { FrameLayers::DELTA },
        resolution: if keyframe { resolution(payload) } else { None },
        ..FrameInfo::default()
    })
}

/// The aggregation header, the first byte of an AV1 payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aggregation {
    /// The Z bit: the first element continues one of the previous packet.
    pub continues: bool,
    /// The Y bit: the last element continues in the next packet.
    pub continued: bool,
    /// The W field: number of elements, 0 when each has a length.
    pub elements: u8,
    /// The N bit: the packet is the first of a coded video sequence, which starts with a keyframe.
    pub new_sequence: bool,
}

impl Aggregation {
    /// Parses a payload; `None` if it is empty.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        Some(Self {
            continues: first & 0x80 != 0,
            continued: first & 0x40 != 0,
            elements: (first >> 4) & 0x03,
            new_sequence: first & 0x08 != 0,
        })
    }
}

/// The largest frame size of the sequence header that a payload starts with; `None` if it starts
/// with something else, or the header is incomplete.
pub fn resolution(payload: &[u8]) -> Option<Resolution> {
    let elements = Aggregation::parse(payload)?.elements;
    let mut rest = payload.get(1..)?;
    // Only a single element comes without its length (section 4.3).
    if elements != 1 {
        let len = leb128(&mut rest, MAX_LEN_BYTES)?;
        rest = rest.get(..usize::try_from(len).ok()?)?;
    }
    let (header, mut rest) = rest.split_first()?;
    if (header >> 3) & 0x0f != SEQUENCE_HEADER {
        return None;
    }
    if header & 0x04 != 0 {
        rest = rest.get(1..)?;
    }
    if header & 0x02 != 0 {
        leb128(&mut rest, MAX_LEN_BYTES)?;
    }
    sequence_size(&mut Bits::new(rest))
}

/// Reads a sequence header up to the frame size (AV1 section 5.5.1).
fn sequence_size(bits: &mut Bits<'_>) -> Option<Resolution> {
    bits.read(4)?; // profile, still picture
    if bits.flag()? {
        bits.read(5)?; // level of a reduced still picture header
    } else {
        skip_operating_points(bits)?;
    }
    let width_bits = bits.read(4)? + 1;
    let height_bits = bits.read(4)? + 1;
    let width = bits.read(width_bits)?.checked_add(1)?;
    let height = bits.read(height_bits)?.checked_add(1)?;
    Some(Resolution { width: width.try_into().ok()?, height: height.try_into().ok()? })
}

/// Skips timing, decoder model and operating points.
fn skip_operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.read(32)?; // units in a tick
        bits.read(32)?; // time scale
        if bits.flag()? {
            bits.exp_golomb()?; // ticks per picture
        }
        if bits.flag()? {
            delay_bits = Some(bits.read(5)? + 1);
            bits.read(32)?; // units in a decoding tick
            bits.read(10)?; // two lengths
        }
    }
    let display_delay = bits.flag()?;
    for _ in 0..=bits.read(5)? {
        bits.read(12)?; // which layers
        if bits.read(5)? > 7 {
            bits.read(1)?; // tier
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.read(delay_bits)?;
            bits.read(delay_bits)?;
            bits.read(1)?; // low delay
        }
        if display_delay && bits.flag()? {
            bits.read(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregation_header() {
        let first = Aggregation::parse(&[0x18, 0x0a]).unwrap();
        assert!(first.new_sequence && !first.continues && !first.continued);
        assert_eq!(first.elements, 1);
        let middle = Aggregation::parse(&[0xd0]).unwrap();
        assert!(!middle.new_sequence && middle.continues && middle.continued);
        assert_eq!(Aggregation::parse(&[]), None);
    }

    #[test]
    fn frame_size_of_a_sequence_header() {
        // Profile 0, no timing, one operating point of level 8 and tier 0, 10 and 10 bits of size.
        let mut bits = String::from("000" /* profile */);
        bits += "00"; // still, reduced
        bits += "00"; // timing, display delay
        bits += "00000"; // one operating point
        bits += "000000000000010000"; // layers, level 8, tier
        bits += "10011001"; // 10 bits each
        bits += "1001111111"; // 640
        bits += "0101100111"; // 360
        let bytes: Vec<_> = bits
            .as_bytes()
            .chunks(8)
            .map(|byte| {
                byte.iter().fold(0, |value, bit| (value << 1) | (bit - b'0')) << (8 - byte.len())
            })
            .collect();
        let size = Some(Resolution { width: 640, height: 360 });
        let one = [&[0x18, 0x08][..], &bytes].concat();
        assert_eq!(resolution(&one), size);
        let len = bytes.len() as u8;
        let sized = [&[0x08, len + 2, 0x0a, len][..], &bytes, &[1, 0x30]].concat();
        assert_eq!(resolution(&sized), size);
        assert_eq!(resolution(&one[..one.len() - 1]), None);
        assert_eq!(resolution(&[0x18, 0x30, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
