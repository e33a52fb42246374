//! Slots of a receiver that their source has left: the next one goes on where it ended, so that a decoder
//! behind the slot's SSRC sees one stream, whoever is in it.

use rustc_hash::FxHashMap;

use super::{Stream, projection::Projection};

/// Slots that are remembered. A receiver has no more of audio and video together than it is configured to
/// have (`videobridge.ssrc-limit`), and control bounds that.
const MAX_SLOTS: usize = 4_096;

/// How far a slot has come, beside the numbers that
/// [`SsrcNumbers`](super::numbers::SsrcNumbers) keeps of every SSRC.
#[derive(Debug)]
pub struct Vacated {
    /// Whose running numbers the next source continues.
    pub projection: Projection,
    /// Packets and payload bytes that were sent, for sender reports (RFC 3550 section 6.4.1: they count
    /// on for as long as the SSRC stays).
    pub sent: (u32, u32),
}

/// The slots of one receiver that nothing is in, by SSRC.
#[derive(Debug, Default)]
pub struct VacatedSlots(FxHashMap<u32, Vacated>);

impl VacatedSlots {
    /// A stream has ended. If it was a slot's, what the next one needs is kept.
    pub fn keep(&mut self, gone: &Stream) {
        if gone.terms.slot.is_none() || self.0.len() >= MAX_SLOTS {
            return;
        }
        let vacated = Vacated { projection: gone.projection.clone(), sent: gone.sent() };
        self.0.insert(gone.ssrc, vacated);
    }

    /// How far the slot with this SSRC has come; it is in use from now on.
    pub fn take(&mut self, ssrc: u32) -> Option<Vacated> {
        self.0.remove(&ssrc)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether the slot with this SSRC is among them.
    pub fn contains(&self, ssrc: u32) -> bool {
        self.0.contains_key(&ssrc)
    }
}
