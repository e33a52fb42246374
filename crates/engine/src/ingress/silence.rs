//! Decides how much silent audio is forwarded.

use rialto_rtp::ext::SILENCE;

/// How much silence is forwarded (`jmt.audio.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceLimit {
    /// `discard-silence`: drop silence beyond the limit; otherwise forward all. Default true.
    pub discard: bool,
    /// `forwarded-silence-packets-limit`: how many silent packets in a row are forwarded. Default
    /// 3.
    pub forwarded: u32,
}

impl Default for SilenceLimit {
    fn default() -> Self {
        Self { discard: true, forwarded: 3 }
    }
}

/// Counts consecutive silent packets of one stream. A few are forwarded, since a client needs them
/// to end its playback, and no more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SilenceRun(u32);

impl SilenceRun {
    /// Returns whether a silent packet that arrives now is to be dropped.
    #[inline]
    pub(super) fn is_over(self, limit: SilenceLimit) -> bool {
        limit.discard && self.0 >= limit.forwarded
    }

    /// Counts a packet of this level (RFC 6464). Returns whether it is silence beyond the limit.
    #[inline]
    pub(super) fn exceeds(&mut self, level: Option<u8>, limit: SilenceLimit) -> bool {
        self.0 = if level == Some(SILENCE) { self.0.saturating_add(1) } else { 0 };
        limit.discard && self.0 > limit.forwarded
    }
}
