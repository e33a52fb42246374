//! What the bridge knows of the SSRCs that a sender no longer signals.
//!
//! Roll-over counter and replay window belong to an SSRC for as long as the key (RFC 3711 section
//! 3.2.3), whatever signalling says: a camera that is switched off and on again continues its numbers.

use std::collections::VecDeque;

use rialto_srtp::RxStream;

use super::{numbers::ForwardNumbers, seen::SeenWindow};

/// SSRCs that are remembered under one key, beside those signalled now: four times as many as may be
/// signalled at once. 170 KiB at most.
const MAX_REMEMBERED: usize = 512;

/// The state of one SSRC, of which at least one packet was authentic.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Roll-over counter and replay window.
    pub srtp: RxStream,
    /// What came either way, plain and as RTX; empty for the SSRC of retransmissions.
    pub seen: SeenWindow,
    /// How far its numbers have come.
    pub numbers: ForwardNumbers,
}

/// The SSRCs that were signalled before, the one that left first in front.
#[derive(Debug, Default)]
pub struct RememberedStreams(VecDeque<(u32, Remembered)>);

impl RememberedStreams {
    /// Remembers an SSRC that is no longer signalled.
    pub fn put(&mut self, ssrc: u32, state: Remembered) {
        self.0.retain(|(other, _)| *other != ssrc);
        self.0.push_back((ssrc, state));
    }

    /// What is remembered of an SSRC that is signalled now.
    pub fn take(&mut self, ssrc: u32) -> Option<Remembered> {
        let at = self.0.iter().position(|(other, _)| *other == ssrc)?;
        self.0.remove(at).map(|(_, state)| state)
    }

    /// Forgets those that left first, beyond the bound.
    pub fn trim(&mut self) {
        let excess = self.0.len().saturating_sub(MAX_REMEMBERED);
        self.0.drain(..excess);
    }

    /// New keys: nothing that was known holds under them.
    pub fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}
