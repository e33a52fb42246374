//! The encodings of a source as a set, and the choice of one for a height.

use crate::MAX_ENCODINGS;

/// Active encodings of a source as bits: bit 0 is the lowest quality.
pub type EncodingMask = u8;

/// Frame height of each encoding of a source, pixels: the shorter side, so that a camera held upright
/// counts as the same camera. 0: not known yet.
pub type Heights = [u16; MAX_ENCODINGS];

/// Supposed height of the lowest encoding while none is known; each further one has twice as much.
/// Browsers send this for a camera, and JVB assumes it.
const LOWEST: u32 = 180;

/// The mask of one encoding, or the empty mask.
pub fn bit(encoding: Option<u8>) -> EncodingMask {
    encoding.and_then(|encoding| EncodingMask::checked_shl(1, encoding.into())).unwrap_or(0)
}

/// Chooses the encoding that a receiver should get from those in `active`: the best that is not
/// higher than `max_height` (`None`: no limit), or the lowest if all are higher. `None` if no
/// encoding is active.
pub fn choose(active: EncodingMask, heights: Heights, max_height: Option<u16>) -> Option<u8> {
    let arriving = |encoding: &u8| active >> encoding & 1 == 1;
    let encodings = || (0..MAX_ENCODINGS as u8).filter(arriving);
    let bound = max_height.map_or(u32::MAX, u32::from);
    // Of equally high encodings the last is the better one; a group may list its streams in any
    // order.
    encodings()
        .filter(|encoding| height(heights, *encoding) <= bound)
        .max_by_key(|encoding| height(heights, *encoding))
        .or_else(|| encodings().min_by_key(|encoding| height(heights, *encoding)))
}

/// The height of an encoding if known, or derived from the nearest one whose height is known.
fn height(heights: Heights, encoding: u8) -> u32 {
    let at = usize::from(encoding);
    let known = heights.iter().enumerate().filter(|(_, height)| **height > 0);
    match known.min_by_key(|(other, _)| other.abs_diff(at)) {
        Some((other, height)) if other <= at => u32::from(*height) << (at - other),
        Some((other, height)) => u32::from(*height) >> (other - at),
        None => LOWEST << at,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAMERA: Heights = [180, 360, 720, 0];

    #[test]
    fn chooses_the_highest_that_arrives() {
        assert_eq!(choose(0, CAMERA, None), None);
        assert_eq!(choose(0b001, CAMERA, None), Some(0));
        assert_eq!(choose(0b101, CAMERA, None), Some(2));
    }

    #[test]
    fn chooses_what_fits_or_else_the_lowest() {
        let all = |heights, bound| choose(0b111, heights, Some(bound));
        assert_eq!(all(CAMERA, 2160), Some(2));
        assert_eq!(all(CAMERA, 720), Some(2));
        assert_eq!(all(CAMERA, 719), Some(1));
        assert_eq!(all(CAMERA, 180), Some(0));
        assert_eq!(all(CAMERA, 90), Some(0));
        assert_eq!(choose(0b110, CAMERA, Some(180)), Some(1), "the lowest that arrives");
        assert_eq!(choose(0b100, CAMERA, Some(180)), Some(2), "rather than none");
        assert_eq!(all([720, 720, 720, 0], 720), Some(2), "equal ones differ in quality");
        assert_eq!(all([720, 720, 720, 0], 180), Some(0));
    }

    #[test]
    fn the_height_decides_whatever_the_order_of_the_group() {
        for heights in [[720, 360, 180, 0], [360, 720, 180, 0], [180, 720, 360, 0]] {
            let chosen = |bound| heights[usize::from(choose(0b111, heights, bound).unwrap())];
            assert_eq!(chosen(None), 720);
            assert_eq!(chosen(Some(719)), 360);
            assert_eq!(chosen(Some(100)), 180);
        }
    }

    #[test]
    fn what_is_not_known_follows_from_what_is() {
        assert_eq!(choose(0b111, [0; 4], Some(360)), Some(1));
        assert_eq!(choose(0b111, [0, 0, 1080, 0], Some(540)), Some(1));
        assert_eq!(choose(0b111, [270, 0, 0, 0], Some(540)), Some(1));
        assert_eq!(choose(1, [0; 4], Some(90)), Some(0), "a single one");
    }

    proptest! {
        #[test]
        fn something_that_arrives_is_chosen_whenever_anything_does(
            active in 0u8..16,
            heights: [u16; MAX_ENCODINGS],
            bound: Option<u16>,
        ) {
            match choose(active, heights, bound) {
                None => prop_assert_eq!(active, 0),
                Some(encoding) => prop_assert!(active >> encoding & 1 == 1),
            }
        }
    }
}
