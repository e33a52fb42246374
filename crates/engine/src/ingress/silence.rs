//! Which audio is silent, and how much of it is forwarded.

use rialto_rtp::ext::SILENCE;

/// How much silence is forwarded (`jmt.audio.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceLimit {
    /// `discard-silence`: true. Otherwise all of it.
    pub discard: bool,
    /// `forwarded-silence-packets-limit`: so many packets in a row. 3.
    pub forwarded: u32,
}

impl Default for SilenceLimit {
    fn default() -> Self {
        Self { discard: true, forwarded: 3 }
    }
}

/// Counts the silent packets of one stream that follow one another: a few are forwarded, as a client
/// needs them to end what it plays, and no more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SilenceRun(u32);

impl SilenceRun {
    /// Whether a silent packet that comes now is more than is forwarded.
    #[inline]
    pub(super) fn is_over(self, limit: SilenceLimit) -> bool {
        limit.discard && self.0 >= limit.forwarded
    }

    /// Whether a packet of this level (RFC 6464) is more silence than is forwarded.
    #[inline]
    pub(super) fn exceeds(&mut self, level: Option<u8>, limit: SilenceLimit) -> bool {
        self.0 = if level == Some(SILENCE) { self.0.saturating_add(1) } else { 0 };
        limit.discard && self.0 > limit.forwarded
    }
}
