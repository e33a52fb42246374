//! Circular number spaces: sequence numbers (16 bit), timestamps (32 bit), and their extension to
//! numbers that do not wrap.

/// An RTP sequence number (RFC 3550 section 5.1). Arithmetic is modulo 2^16; there is no total
/// order, so compare with [`Seq::newer_than`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Seq(pub u16);

impl Seq {
    /// The number `n` after this one, modulo 2^16.
    #[inline]
    #[must_use]
    pub const fn wrapping_add(self, n: u16) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// The number `n` before this one, modulo 2^16.
    #[inline]
    #[must_use]
    pub const fn wrapping_sub(self, n: u16) -> Self {
        Self(self.0.wrapping_sub(n))
    }

    /// The next number, modulo 2^16.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        self.wrapping_add(1)
    }

    /// The shortest signed distance from `other` to this number: positive if this one is newer.
    /// Numbers exactly half the space apart count as older (RFC 1982 leaves them undefined).
    #[inline]
    pub const fn distance_from(self, other: Self) -> i16 {
        self.0.wrapping_sub(other.0) as i16
    }

    /// Returns whether this number comes after `other` by less than half the space (RFC 1982
    /// section 3.2).
    #[inline]
    pub const fn newer_than(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }
}

impl From<u16> for Seq {
    #[inline]
    fn from(value: u16) -> Self {
        Self(value)
    }
}

impl From<Seq> for u16 {
    #[inline]
    fn from(value: Seq) -> Self {
        value.0
    }
}

/// An RTP timestamp in units of the payload type's clock (RFC 3550 section 5.1), modulo 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// The time `ticks` later, modulo 2^32.
    #[inline]
    #[must_use]
    pub const fn wrapping_add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// The time `ticks` earlier, modulo 2^32.
    #[inline]
    #[must_use]
    pub const fn wrapping_sub(self, ticks: u32) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }

    /// The shortest signed distance from `other` to this time, in ticks.
    #[inline]
    pub const fn distance_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Returns whether this time is after `other` by less than half the space.
    #[inline]
    pub const fn newer_than(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }
}

/// An extended sequence number: the count of wraps in the upper bits (the roll-over counter of
/// RFC 3711 section 3.3.1), the sequence number in the lower 16. It never wraps in practice and is
/// totally ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ExtSeq(pub u64);

impl ExtSeq {
    /// The number `seq` of cycle `roc`.
    #[inline]
    pub const fn new(roc: u32, seq: Seq) -> Self {
        Self(((roc as u64) << 16) | seq.0 as u64)
    }

    /// The lower 16 bits, which are sent on the wire.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the sequence number")]
    pub const fn seq(self) -> Seq {
        Seq(self.0 as u16)
    }

    /// The upper bits: how often the sequence number wrapped, modulo 2^32.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the bits above are the roll-over counter")]
    pub const fn roc(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The next number.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The number `by` away, which may be negative (modulo 2^64).
    #[inline]
    #[must_use]
    pub const fn offset(self, by: i64) -> Self {
        Self(self.0.wrapping_add_signed(by))
    }

    /// The signed distance from `other` to this number: positive if this one is newer.
    #[inline]
    pub const fn distance_from(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }

    /// The number `n` before this one, `None` if that is below zero.
    #[inline]
    pub fn checked_sub(self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }
}

/// Extends the sequence numbers of one stream, tolerating loss and reordering of less than half the
/// space.
///
/// The first number is placed in cycle 1, so that packets older than the first one have extended
/// numbers too. That makes the result unsuitable as an SRTP index, which starts in cycle 0: SRTP
/// keeps its own (`srtp::RxStream`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SeqUnwrapper {
    highest: Option<ExtSeq>,
}

impl SeqUnwrapper {
    /// An unwrapper that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: None }
    }

    /// The extended number nearest to the highest one so far. Does not change the state.
    #[inline]
    pub fn peek(&self, seq: Seq) -> ExtSeq {
        match self.highest {
            None => ExtSeq::new(1, seq),
            Some(highest) => highest.offset(i64::from(seq.distance_from(highest.seq()))),
        }
    }

    /// Like [`Self::peek`], and records the number if it is the highest.
    #[inline]
    pub fn update(&mut self, seq: Seq) -> ExtSeq {
        let ext = self.peek(seq);
        if self.highest.is_none_or(|highest| ext > highest) {
            self.highest = Some(ext);
        }
        ext
    }

    /// The highest number so far.
    #[inline]
    pub const fn highest(&self) -> Option<ExtSeq> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn newer_than_wraps_and_is_strict() {
        assert!(Seq(0).newer_than(Seq(65535)));
        assert!(Seq(0x7fff).newer_than(Seq(0)));
        assert!(!Seq(0x8000).newer_than(Seq(0)) && !Seq(0).newer_than(Seq(0x8000)));
        assert!(!Seq(7).newer_than(Seq(7)));
        assert!(RtpTime(5).newer_than(RtpTime(u32::MAX)));
    }

    #[test]
    fn packets_before_the_first_have_numbers() {
        let mut unwrapper = SeqUnwrapper::new();
        let first = unwrapper.update(Seq(2));
        let before = unwrapper.update(Seq(65_534));
        assert_eq!(first.distance_from(before), 4);
        assert_eq!(unwrapper.highest(), Some(first));
        assert_eq!(before.roc(), 0);
    }

    proptest! {
        #[test]
        fn unwrapping_follows_the_sender(
            start in any::<u16>(),
            steps in proptest::collection::vec(-1000i64..2000, 1..400),
        ) {
            let origin = ExtSeq::new(1, Seq(start));
            let mut unwrapper = SeqUnwrapper::new();
            prop_assert_eq!(unwrapper.update(Seq(start)), origin);
            let mut highest = origin;
            for step in steps {
                let sent = highest.offset(step);
                prop_assert_eq!(unwrapper.peek(sent.seq()), sent);
                prop_assert_eq!(unwrapper.update(sent.seq()), sent);
                highest = highest.max(sent);
                prop_assert_eq!(unwrapper.highest(), Some(highest));
            }
        }
    }
}
