//! Bandwidth: what a receiver's link can carry, and which encoding of each source it gets.
//!
//! Today every receiver gets the highest encoding that is arriving; [`choose`] is the place where an
//! estimate and the receiver's constraints will enter.

/// Encodings of a source that are arriving, as bits: bit 0 is the lowest quality.
pub type EncodingMask = u8;

/// The encoding that a receiver should get of a source whose encodings in `active` are arriving.
/// `None` when nothing arrives.
pub fn choose(active: EncodingMask) -> Option<u8> {
    (active != 0).then(|| (EncodingMask::BITS - 1 - active.leading_zeros()) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_the_highest_that_arrives() {
        assert_eq!(choose(0), None);
        assert_eq!(choose(0b001), Some(0));
        assert_eq!(choose(0b101), Some(2));
    }
}
