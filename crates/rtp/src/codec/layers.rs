//! Layers within one encoding, in terms that a forwarder needs for any codec.
//!
//! A *target* is what a receiver may get of an encoding: everything up to one spatial and one
//! temporal layer (a decode target of the AV1 RTP specification, section 2). A frame has a set of
//! targets that include it, and of targets that become decodable with it. With these, a forwarder
//! can track for each receiver which targets are *intact* (everything that they need was forwarded)
//! without knowing the codec.
#![expect(clippy::arithmetic_side_effects, reason = "layers are clamped to the 16 bits of a set")]

use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not};

/// Number of spatial layers that are distinguished; a higher one counts as the last.
pub const MAX_SPATIAL: u8 = 4;
/// Number of temporal layers that are distinguished; a higher one counts as the last.
pub const MAX_TEMPORAL: u8 = 4;

/// A set of targets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Targets(u16);

impl Targets {
    /// No target.
    pub const NONE: Self = Self(0);
    /// Every target.
    pub const ALL: Self = Self(u16::MAX);

    /// The target of all layers up to these.
    #[inline]
    pub const fn one(spatial: u8, temporal: u8) -> Self {
        Self(1 << (4 * clamp(spatial, MAX_SPATIAL) + clamp(temporal, MAX_TEMPORAL)))
    }

    /// The targets of one spatial layer, from a temporal layer on.
    #[inline]
    pub const fn of_spatial(spatial: u8, temporal: u8) -> Self {
        let row = (0xf << clamp(temporal, MAX_TEMPORAL)) & 0xf;
        Self(row << (4 * clamp(spatial, MAX_SPATIAL)))
    }

    /// The targets of exactly one temporal layer, of any spatial layer.
    #[inline]
    pub const fn of_temporal(temporal: u8) -> Self {
        Self(0x1111 << clamp(temporal, MAX_TEMPORAL))
    }

    /// The targets up to a temporal layer, of any spatial layer.
    #[inline]
    pub const fn of_temporal_up_to(temporal: u8) -> Self {
        Self(0x1111 * (u16::MAX >> (15 - clamp(temporal, MAX_TEMPORAL))))
    }

    /// The targets from a spatial and a temporal layer on: those that include a frame of these layers when
    /// each spatial layer is predicted from the one below.
    #[inline]
    pub const fn from(spatial: u8, temporal: u8) -> Self {
        let row = (0xf << clamp(temporal, MAX_TEMPORAL)) & 0xf;
        let rows = row | row << 4 | row << 8 | row << 12;
        Self(rows & (u16::MAX << (4 * clamp(spatial, MAX_SPATIAL))))
    }

    /// The targets of all spatial layers up to one.
    #[inline]
    pub const fn up_to(spatial: u8) -> Self {
        Self(u16::MAX >> (12 - 4 * clamp(spatial, MAX_SPATIAL)))
    }

    /// Returns whether the set contains a target.
    #[inline]
    pub const fn has(self, spatial: u8, temporal: u8) -> bool {
        self.0 & Self::one(spatial, temporal).0 != 0
    }

    /// Returns whether the two sets have a target in common.
    #[inline]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether the set is empty.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As bits: bit `4 * spatial + temporal`.
    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The reverse of [`Self::bits`].
    #[inline]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The same targets one spatial layer higher.
    #[inline]
    const fn one_spatial_up(self) -> Self {
        Self(self.0 << 4)
    }

    /// Spatial and temporal layer of each target, from the lowest on.
    pub fn iter(self) -> impl Iterator<Item = (u8, u8)> {
        (0..16u8).filter(move |bit| self.0 >> bit & 1 == 1).map(|bit| (bit / 4, bit % 4))
    }
}

/// Limits a layer's number to the last one that is distinguished.
const fn clamp(layer: u8, count: u8) -> u8 {
    if layer < count { layer } else { count.saturating_sub(1) }
}

impl BitOr for Targets {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Targets {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Targets {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl BitOrAssign for Targets {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAndAssign for Targets {
    fn bitand_assign(&mut self, other: Self) {
        self.0 &= other.0;
    }
}

/// The layers of a packet's frame.
///
/// A forwarder keeps for each receiver the set of *intact* targets. It forwards a frame if the
/// receiver's target is intact and in [`Self::present`], or if the wanted target is among those
/// that the frame [`Self::opens`]. A forwarded frame adds what it opens to the intact targets; a
/// frame that is not forwarded removes [`Self::present`] from them. Everything it forwards can then
/// be decoded, as long as frames that were lost on the way in count as not forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLayers {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// The frame depends on no other frame.
    pub independent: bool,
    /// A target of [`Self::switch`] becomes intact only if the target of the next lower spatial
    /// layer, with the same temporal layer, is intact.
    pub upon_lower: bool,
    /// Targets that include the frame.
    pub present: Targets,
    /// The frame can be decoded if one of these is intact, or in any case if it is independent.
    pub needs: Targets,
    /// Targets that become intact with this frame, if it can be decoded.
    pub switch: Targets,
    /// How many frames ago the newest frame of any chain before this one was sent (section A.8.2: a
    /// chain contains the frames that decode targets cannot do without); 0 if unknown.
    pub chain: u8,
}

impl FrameLayers {
    /// A frame without dependencies, of an encoding without layers or of which nothing is known.
    pub const WHOLE: Self = Self {
        spatial: 0,
        temporal: 0,
        independent: true,
        upon_lower: false,
        present: Targets::ALL,
        needs: Targets::ALL,
        switch: Targets::ALL,
        chain: 0,
    };

    /// A frame of an encoding without layers that depends on the one before it.
    pub const DELTA: Self = Self { independent: false, switch: Targets::NONE, ..Self::WHOLE };

    /// Returns whether a receiver with these intact targets can decode the frame.
    #[inline]
    pub const fn is_decodable(&self, intact: Targets) -> bool {
        self.independent || self.needs.meets(intact)
    }

    /// The targets that become intact for a receiver with these intact targets, if the frame is
    /// forwarded to it; none if the frame cannot be decoded.
    #[inline]
    pub fn opens(&self, intact: Targets) -> Targets {
        if !self.is_decodable(intact) {
            Targets::NONE
        } else if self.upon_lower {
            self.switch & intact.one_spatial_up()
        } else {
            self.switch
        }
    }
}

impl Default for FrameLayers {
    fn default() -> Self {
        Self::WHOLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_targets() {
        assert_eq!(Targets::from(0, 0), Targets::ALL);
        let upper: Vec<_> = Targets::from(2, 2).iter().collect();
        assert_eq!(upper, [(2, 2), (2, 3), (3, 2), (3, 3)]);
        let row: Vec<_> = Targets::of_spatial(1, 1).iter().collect();
        assert_eq!(row, [(1, 1), (1, 2), (1, 3)]);
        assert!(Targets::from(1, 0).has(1, 0) && !Targets::from(1, 0).has(0, 3));
        assert!(Targets::one(1, 2).meets(Targets::from(0, 2)));
        assert!(!Targets::one(1, 1).meets(Targets::from(0, 2)));
        assert_eq!(Targets::one(7, 7), Targets::one(3, 3), "no layer is out of bounds");
        assert_eq!(Targets::from_bits(Targets::one(2, 1).bits()), Targets::one(2, 1));
        assert!((Targets::ALL & !Targets::ALL).is_empty());
        assert_eq!(Targets::up_to(3), Targets::ALL);
        assert_eq!(Targets::up_to(1).bits(), 0x00ff);
        let low: Vec<_> = (Targets::of_temporal_up_to(1) & Targets::up_to(1)).iter().collect();
        assert_eq!(low, [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(Targets::of_temporal_up_to(3), Targets::ALL);
        let column: Vec<_> = Targets::of_temporal(2).iter().collect();
        assert_eq!(column, [(0, 2), (1, 2), (2, 2), (3, 2)]);
    }

    #[test]
    fn a_packet_carries_twelve_bytes_of_layers() {
        assert!(size_of::<FrameLayers>() <= 12);
    }

    #[test]
    fn what_a_frame_opens() {
        assert_eq!(FrameLayers::WHOLE.opens(Targets::NONE), Targets::ALL);
        assert!(!FrameLayers::DELTA.is_decodable(Targets::NONE));
        assert!(FrameLayers::DELTA.is_decodable(Targets::one(2, 1)));
        assert!(FrameLayers::DELTA.opens(Targets::ALL).is_empty());
        let sync = FrameLayers {
            spatial: 1,
            upon_lower: true,
            needs: Targets::of_spatial(0, 0),
            switch: Targets::of_spatial(1, 0),
            ..FrameLayers::DELTA
        };
        let intact = Targets::one(0, 0) | Targets::one(0, 1);
        assert_eq!(sync.opens(intact), Targets::one(1, 0) | Targets::one(1, 1));
        assert!(sync.opens(Targets::one(1, 0)).is_empty());
    }
}
