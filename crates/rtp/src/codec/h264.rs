//! H.264 packets (RFC 6184 section 5): keyframes, and the size in a sequence parameter set.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in one payload, each checked against its length when it is used"
)]

use super::bits::Bits;
use super::{FrameInfo, FrameLayers, Resolution, Targets};

/// NAL unit types (RFC 6184 section 5.4, H.264 table 7-1).
const FIRST_SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Reads what a packet says about its frame.
#[inline]
pub(super) fn read(payload: &[u8], marker: bool) -> Option<FrameInfo> {
    let nal = inspect(payload)?;
    Some(FrameInfo {
        keyframe: nal.keyframe,
        start: nal.start,
        end: marker,
        layers: nal.layers(),
        parameters: nal.parameters,
        prefix: nal.start && nal.slice.is_none(),
        resolution: nal.resolution,
        ..FrameInfo::default()
    })
}

/// The contents of an H.264 packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct H264 {
    /// It has, or starts, an IDR slice, or a sequence parameter set that no other slice follows.
    pub keyframe: bool,
    /// It starts a NAL unit. Only timestamps show which one is the first of a frame.
    pub start: bool,
    /// Size in its sequence parameter set.
    pub resolution: Option<Resolution>,
    /// It has a sequence parameter set, or starts one.
    pub parameters: bool,
    /// The first slice in it, complete or not.
    pub slice: Option<Slice>,
}

/// The header of a slice's NAL unit (H.264 section 7.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slice {
    /// The slice is of an IDR picture, which depends on no other.
    pub idr: bool,
    /// Other pictures may depend on this one (`nal_ref_idc` is not 0).
    pub reference: bool,
}

impl H264 {
    /// The frame's layers: pictures that no other depends on are the upper one of two temporal layers. All
    /// slices of a picture agree about that (H.264 section 7.4.1).
    ///
    /// Parameter sets without a slice announce an IDR picture. Other units without a slice
    /// (supplemental information, delimiters) belong to an unknown frame; they count as base layer
    /// until a slice shows it ([`FrameInfo::prefix`]).
    #[inline]
    pub fn layers(&self) -> FrameLayers {
        match self.slice {
            Some(Slice { idr: true, .. }) => FrameLayers::WHOLE,
            Some(Slice { reference: false, .. }) => {
                let present = Targets::from(0, 1);
                FrameLayers { temporal: 1, present, needs: present, ..FrameLayers::DELTA }
            }
            None if self.parameters => FrameLayers::WHOLE,
            // Nothing depends on pictures of the upper layer that a receiver missed.
            _ => FrameLayers { switch: Targets::from(0, 1), ..FrameLayers::DELTA },
        }
    }

    fn settle(mut self) -> Self {
        self.keyframe = self.start && self.slice.map_or(self.parameters, |slice| slice.idr);
        self
    }
}

/// Parses a packet: a single NAL unit, an aggregate (STAP-A), or a fragment (FU-A). `None` if it is
/// empty or truncated.
#[inline]
pub fn inspect(payload: &[u8]) -> Option<H264> {
    let (first, rest) = payload.split_first()?;
    let read = match first & 0x1f {
        STAP_A => aggregate(rest),
        FU_A => {
            let header = *rest.first()?;
            // The reference bits of the whole unit are in the indicator, its type in the header.
            let unit = unit((first & 0x60) | (header & 0x1f));
            H264 { start: header & 0x80 != 0, ..unit }
        }
        _ => single(payload),
    };
    Some(read.settle())
}

/// Reads the first byte of a NAL unit.
fn unit(first: u8) -> H264 {
    let nal_type = first & 0x1f;
    let slice = matches!(nal_type, FIRST_SLICE..=IDR)
        .then_some(Slice { idr: nal_type == IDR, reference: first & 0x60 != 0 });
    H264 { start: true, parameters: nal_type == SPS, slice, ..H264::default() }
}

fn single(nal: &[u8]) -> H264 {
    let Some((first, body)) = nal.split_first() else { return H264::default() };
    let unit = unit(*first);
    let resolution = if unit.parameters { resolution(body) } else { None };
    H264 { resolution, ..unit }
}

/// Reads the complete NAL units of a STAP-A (section 5.7.1).
fn aggregate(mut rest: &[u8]) -> H264 {
    let mut all = H264 { start: true, ..H264::default() };
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let Some((nal, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len))) else {
            break;
        };
        let one = single(nal);
        all.parameters |= one.parameters;
        all.slice = all.slice.or(one.slice);
        all.resolution = all.resolution.or(one.resolution);
        rest = tail;
    }
    all
}

/// The cropped size in a sequence parameter set without its first byte (H.264 section 7.3.2.1.1).
/// `None` if it is malformed or larger than 65,535.
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
    use super::super::model::{self, Coded, Random};
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn layers_of_a_picture() {
        let layers = |payload: &[u8]| inspect(payload).unwrap().layers();
        assert_eq!(layers(&[0x65, 1]), FrameLayers::WHOLE);
        assert_eq!(layers(&[0x7c, 0x85]), FrameLayers::WHOLE);
        assert_eq!(layers(&[0x7c, 0x05]), FrameLayers::WHOLE, "the middle of an IDR slice");
        let base = layers(&[0x41, 1]);
        assert!(!base.independent && base.temporal == 0);
        assert_eq!(base.opens(Targets::one(0, 0)), Targets::from(0, 1));
        for upper in [&[0x01, 1][..], &[0x1c, 0x81], &[0x1c, 0x01], &[0x1c, 0x41]] {
            let upper = layers(upper);
            assert_eq!((upper.temporal, upper.present), (1, Targets::from(0, 1)));
            assert!(!upper.is_decodable(Targets::one(0, 0)) && upper.switch.is_empty());
        }
        // Supplemental information has no reference bits, though pictures may depend on what
        // follows.
        assert_eq!(layers(&[0x06, 1]).temporal, 0);
        assert_eq!(layers(&[0x18, 0, 2, 0x06, 5, 0, 2, 0x01, 9]).temporal, 1);
    }

    #[test]
    fn what_comes_before_the_slices_does_not_know_its_layers() {
        let prefix = |payload: &[u8]| read(payload, false).unwrap().prefix;
        for unit in [&[0x06, 1][..], &[0x09, 0x10], &[0x68, 1], &SPS_VGA, &[0x18, 0, 2, 0x06, 5]] {
            assert!(prefix(unit), "{unit:x?}");
        }
        for slice in [&[0x41, 1][..], &[0x01, 1], &[0x65, 1], &[0x18, 0, 2, 0x06, 5, 0, 2, 0x01, 9]]
        {
            assert!(!prefix(slice), "{slice:x?}");
        }
        assert!(!prefix(&[0x1c, 0x81]) && !prefix(&[0x1c, 0x46]), "fragments");
    }

    #[test]
    fn parameter_sets_announce_a_keyframe_unless_another_slice_follows() {
        let alone = inspect(&SPS_VGA).unwrap();
        assert!(alone.keyframe && alone.layers().independent);
        let mut stap = vec![0x78, 0, SPS_VGA.len() as u8];
        stap.extend(SPS_VGA);
        stap.extend([0, 2, 0x41, 9]);
        let refreshed = inspect(&stap).unwrap();
        assert!(!refreshed.keyframe && !refreshed.layers().independent);
        assert!(refreshed.resolution.is_some());
        assert_eq!(inspect(&[0x68, 1]).unwrap().layers().opens(Targets::NONE), Targets::NONE);
    }

    proptest! {
        /// Pictures depend on the newest reference picture.
        #[test]
        fn no_forwarded_picture_lacks_a_reference(seed: u64) {
            let mut random = Random::new(seed);
            let mut newest = 0;
            let frames: Vec<_> = (0..400)
                .map(|n| {
                    let key = n == 0 || random.below(80) == 0;
                    let upper = !key && random.below(2) == 0;
                    let first = if key { 0x65 } else if upper { 0x01 } else { 0x41 };
                    let refs = if key { Vec::new() } else { vec![newest] };
                    if !upper {
                        newest = n;
                    }
                    let frame = Coded::alone(u8::from(upper), refs, key);
                    (frame, inspect(&[first, 0]).unwrap().layers())
                })
                .collect();
            model::run(&frames, (1, 2), random, Some(30));
        }
    }
}
