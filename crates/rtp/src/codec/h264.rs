//! H.264 packets (RFC 6184 section 5): keyframes, and the size in a sequence parameter set.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in one payload, each checked against its length when it is used"
)]

use super::Resolution;
use super::bits::Bits;

/// NAL unit types (RFC 6184 section 5.4, H.264 table 7-1).
const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// What an H.264 packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct H264 {
    /// It has, or starts, an IDR slice or a sequence parameter set.
    pub keyframe: bool,
    /// It starts a NAL unit. Which one is the first of a frame only timestamps tell.
    pub start: bool,
    /// Size in its sequence parameter set.
    pub resolution: Option<Resolution>,
}

/// Reads a packet: a single NAL unit, an aggregate (STAP-A), or a fragment (FU-A). `None` when it is
/// empty or cut short.
#[inline]
pub fn inspect(payload: &[u8]) -> Option<H264> {
    let (first, rest) = payload.split_first()?;
    match first & 0x1f {
        STAP_A => Some(aggregate(rest)),
        FU_A => {
            let header = *rest.first()?;
            let start = header & 0x80 != 0;
            Some(H264 { keyframe: start && is_key(header & 0x1f), start, resolution: None })
        }
        _ => Some(single(payload)),
    }
}

fn is_key(nal_type: u8) -> bool {
    matches!(nal_type, IDR | SPS)
}

fn single(nal: &[u8]) -> H264 {
    let nal_type = nal.first().map_or(0, |first| first & 0x1f);
    let resolution = if nal_type == SPS { nal.get(1..).and_then(resolution) } else { None };
    H264 { keyframe: is_key(nal_type), start: true, resolution }
}

/// The NAL units of a STAP-A (section 5.7.1), as far as they are whole.
fn aggregate(mut rest: &[u8]) -> H264 {
    let mut all = H264 { start: true, ..H264::default() };
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let Some((nal, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len))) else {
            break;
        };
        let one = single(nal);
        all.keyframe |= one.keyframe;
        all.resolution = all.resolution.or(one.resolution);
        rest = tail;
    }
    all
}

/// The cropped size in a sequence parameter set without its first byte (H.264 section 7.3.2.1.1).
/// `None` when it is malformed or larger than 65,535.
fn resolution(sps: &[u8]) -> Option<Resolution> {
    let mut bits = Bits::with_emulation_prevention(sps);
    let profile = bits.read(8)?;
    bits.read(16)?; // constraints, level
    bits.exp_golomb()?; // id
    let mut chroma = 1;
    let mut separate_planes = 0;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.exp_golomb()?;
        if chroma == 3 {
            separate_planes = bits.read(1)?;
        }
        bits.exp_golomb()?; // luma depth
        bits.exp_golomb()?; // chroma depth
        bits.read(1)?; // transform bypass
        if bits.read(1)? == 1 {
            skip_scaling_lists(&mut bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    bits.exp_golomb()?; // frame number length
    skip_picture_order(&mut bits)?;
    bits.exp_golomb()?; // reference frames
    bits.read(1)?; // gaps allowed
    let width_in_blocks = bits.exp_golomb()?.checked_add(1)?;
    let height_in_units = bits.exp_golomb()?.checked_add(1)?;
    let frames_only = bits.read(1)?;
    if frames_only == 0 {
        bits.read(1)?; // adaptive
    }
    bits.read(1)?; // direct inference
    let fields = 2 - frames_only;
    let mut width = width_in_blocks.checked_mul(16)?;
    let mut height = height_in_units.checked_mul(16)?.checked_mul(fields)?;
    if bits.read(1)? == 1 {
        let planes = if separate_planes == 1 { 0 } else { chroma };
        let (unit_x, unit_y) = match planes {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let x = bits.exp_golomb()?.checked_add(bits.exp_golomb()?)?.checked_mul(unit_x)?;
        let y = bits.exp_golomb()?.checked_add(bits.exp_golomb()?)?.checked_mul(unit_y * fields)?;
        width = width.checked_sub(x)?;
        height = height.checked_sub(y)?;
    }
    Some(Resolution { width: width.try_into().ok()?, height: height.try_into().ok()? })
}

fn skip_scaling_lists(bits: &mut Bits<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if bits.read(1)? == 0 {
            continue;
        }
        let entries = if list < 6 { 16 } else { 64 };
        let (mut last, mut next) = (8i32, 8i32);
        for _ in 0..entries {
            if next != 0 {
                next = last.wrapping_add(bits.signed_exp_golomb()?) & 0xff;
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?;
        }
        1 => {
            bits.read(1)?;
            bits.exp_golomb()?;
            bits.exp_golomb()?;
            // Section 7.4.2.1.1 allows at most 255.
            let cycle = bits.exp_golomb()?;
            for _ in 0..u8::try_from(cycle).ok()? {
                bits.exp_golomb()?;
            }
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A baseline parameter set of 640 by 480, and a high one of 1920 by 1080 (cropped from 1088).
    const SPS_VGA: [u8; 9] = [0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x3d, 0xa1];
    const SPS_HD: [u8; 27] = [
        0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00,
        0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58,
    ];

    #[test]
    fn sizes() {
        let hd = inspect(&SPS_HD).unwrap();
        assert!(hd.keyframe && hd.start);
        assert_eq!(hd.resolution, Some(Resolution { width: 1920, height: 1080 }));
        let vga = inspect(&SPS_VGA).unwrap();
        assert_eq!(vga.resolution, Some(Resolution { width: 640, height: 480 }));
        for len in 1..5 {
            assert_eq!(inspect(&SPS_HD[..len]).unwrap().resolution, None);
        }
    }

    #[test]
    fn keyframes_in_each_packetisation() {
        assert!(inspect(&[0x65, 1, 2]).unwrap().keyframe);
        assert!(!inspect(&[0x41, 1, 2]).unwrap().keyframe);
        assert!(!inspect(&[0x68, 1, 2]).unwrap().keyframe);

        let mut stap = vec![0x78, 0, SPS_VGA.len() as u8];
        stap.extend(SPS_VGA);
        stap.extend([0, 2, 0x68, 0xce]);
        let read = inspect(&stap).unwrap();
        assert!(read.keyframe);
        assert_eq!(read.resolution.map(|r| r.height), Some(480));
        assert!(!inspect(&[0x78, 0, 2, 0x41, 0, 0, 9]).unwrap().keyframe);

        assert_eq!(inspect(&[0x7c]), None);
        let start = inspect(&[0x7c, 0x85, 0]).unwrap();
        assert!(start.keyframe && start.start);
        let middle = inspect(&[0x7c, 0x05, 0]).unwrap();
        assert!(!middle.keyframe && !middle.start);
        assert!(!inspect(&[0x7c, 0x81, 0]).unwrap().keyframe);
    }
}
