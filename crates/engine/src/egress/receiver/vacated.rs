//! Slots of a receiver without a source. The next source in a slot continues where the last one
//! ended, so that a decoder behind the slot's SSRC sees one stream, whichever source is in it.

use rustc_hash::FxHashMap;

use super::{Stream, projection::Projection};

/// Most slots that are remembered. A receiver has no more of audio and video together than
/// configured (`videobridge.ssrc-limit`), which control limits.
const MAX_SLOTS: usize = 4_096;

/// The state of a vacated slot, apart from the numbers that
/// [`SsrcNumbers`](super::numbers::SsrcNumbers) keeps of every SSRC.
#[derive(Debug)]
pub struct Vacated {
    /// The projection whose running numbers the next source continues.
    pub projection: Projection,
    /// Packets and payload bytes sent, for sender reports (RFC 3550 section 6.4.1: they continue as
    /// long as the SSRC stays).
    pub sent: (u32, u32),
}

/// The vacated slots of one receiver, by SSRC.
#[derive(Debug, Default)]
pub struct VacatedSlots(FxHashMap<u32, Vacated>);

impl VacatedSlots {
    /// Handles the end of a stream: if it was in a slot, keeps what the next source needs.
    pub fn keep(&mut self, gone: &Stream) {
        if gone.terms.slot.is_none() || self.0.len() >= MAX_SLOTS {
            return;
        }
        let vacated = Vacated { projection: gone.projection.clone(), sent: gone.sent() };
        self.0.insert(gone.ssrc, vacated);
    }

    /// Returns the state of the slot with this SSRC, which is in use from now on.
    pub fn take(&mut self, ssrc: u32) -> Option<Vacated> {
        self.0.remove(&ssrc)
    }

    /// Number of vacated slots.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the slot with this SSRC is vacated.
    pub fn contains(&self, ssrc: u32) -> bool {
        self.0.contains_key(&ssrc)
    }
}
