//! Collects the audio level of a source (RFC 6464) for control.
#![expect(clippy::arithmetic_side_effects, reason = "a packet at a time since the last look")]

use rialto_rtp::ext::SILENCE;

/// The loudest level since it was last taken.
#[derive(Clone, Copy, Debug)]
pub struct LoudestLevel {
    loudest: u8,
    packets: u32,
    reported: u8,
}

impl Default for LoudestLevel {
    fn default() -> Self {
        Self { loudest: SILENCE, packets: 0, reported: SILENCE }
    }
}

impl LoudestLevel {
    /// Records a packet's level: 0 is loudest, 127 silence.
    #[inline]
    pub fn record(&mut self, level: u8) {
        self.loudest = self.loudest.min(level);
        self.packets += 1;
    }

    /// Returns the loudest level of the interval, if packets arrived and it is worth reporting: the
    /// source speaks, or has just stopped.
    pub fn take(&mut self) -> Option<u8> {
        let level = if self.packets == 0 { SILENCE } else { self.loudest };
        let worth_reporting = level != SILENCE || self.reported != SILENCE;
        *self = Self { reported: level, ..Self::default() };
        worth_reporting.then_some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_loudest_and_then_the_end() {
        let mut l = LoudestLevel::default();
        assert_eq!(l.take(), None);
        l.record(50);
        l.record(30);
        l.record(40);
        assert_eq!(l.take(), Some(30));
        assert_eq!(l.take(), Some(127));
        assert_eq!(l.take(), None);
        l.record(127);
        assert_eq!(l.take(), None);
    }
}
