//! What a receiver was sent lately: from the sequence number it saw to the packet's place in the ring.

use std::time::Duration;

/// Packets remembered per subscription; JVB's cache holds as many.
const SLOTS: usize = 512;

/// One packet that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Index it was sent under.
    pub index: u64,
    /// Its place in the ring of its encoding.
    pub ring: u64,
    /// RTP timestamp it was sent with.
    pub timestamp: u32,
    /// When it was last sent, milliseconds since the engine's epoch.
    pub at_ms: u32,
    /// Added to its VP8 picture id.
    pub picture_id_delta: u16,
    /// Which encoding it is of.
    pub encoding: u8,
    /// Added to its TL0PICIDX.
    pub tl0_delta: u8,
    /// Padding bytes it was sent with: a plain retransmission must be the same bytes.
    pub padding: u8,
    /// The slot holds a packet.
    pub used: bool,
}

/// Why a packet is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Never sent, or no longer remembered.
    Unknown,
    /// It was sent within the last round trip; the answer is on its way.
    TooSoon,
}

/// The last packets of one subscription. Its memory is allocated when the first is recorded.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Sent>);

impl History {
    /// Remembers a packet, forgetting the one `SLOTS` before.
    #[inline]
    pub fn record(&mut self, sent: Sent) {
        if self.0.is_empty() {
            self.0 = vec![Sent::default(); SLOTS];
        }
        if let Some(slot) = self.0.get_mut(sent.index as usize % SLOTS) {
            *slot = sent;
        }
    }

    /// The packet that the receiver saw under `sequence`, if it may be sent again at `now_ms`; marks
    /// it as sent then. Not again within min(0.9 RTT, RTT - 5 ms), as in JVB.
    pub fn resend(&mut self, sequence: u16, now_ms: u32, rtt: Duration) -> Result<Sent, Refused> {
        let slot = self
            .0
            .get_mut(usize::from(sequence) % SLOTS)
            .filter(|s| s.used && s.index as u16 == sequence)
            .ok_or(Refused::Unknown)?;
        let rtt = rtt.as_millis() as u32;
        let quiet = (rtt * 9 / 10).min(rtt.saturating_sub(5));
        if now_ms.wrapping_sub(slot.at_ms) < quiet {
            return Err(Refused::TooSoon);
        }
        slot.at_ms = now_ms;
        Ok(*slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn resends_once_a_round_trip() {
        let mut h = History::default();
        assert_eq!(h.resend(7, 0, RTT), Err(Refused::Unknown));
        h.record(Sent { index: 0x1_0007, ring: 3, at_ms: 1_000, used: true, ..Sent::default() });
        assert_eq!(h.resend(7, 1_089, RTT), Err(Refused::TooSoon));
        assert_eq!(h.resend(7, 1_090, RTT).unwrap().ring, 3);
        assert_eq!(h.resend(7, 1_100, RTT), Err(Refused::TooSoon));
        assert_eq!(h.resend(8, 1_100, RTT), Err(Refused::Unknown));
    }

    #[test]
    fn forgets_the_oldest() {
        let mut h = History::default();
        for index in 0..=SLOTS as u64 {
            h.record(Sent { index, used: true, ..Sent::default() });
        }
        assert_eq!(h.resend(0, 1_000, RTT), Err(Refused::Unknown));
        assert!(h.resend(1, 1_000, RTT).is_ok());
    }
}
