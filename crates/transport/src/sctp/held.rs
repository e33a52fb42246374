//! Tracks which of the peer's datagrams are still in memory because a fragment in them waits.
//!
//! The library does not copy fragments: one waiting byte keeps the whole datagram in which it
//! arrived. The advertised window counts payload only, so the memory behind it is counted here.

use bytes::Bytes;

/// Memory of a fragment apart from its bytes.
const FRAGMENT: usize = 256;
/// Type of a DATA chunk (RFC 9260 section 3.3.1).
const DATA: u8 = 0;

/// The datagrams.
#[derive(Default)]
pub(super) struct HeldDatagrams {
    datagrams: Vec<(Bytes, usize)>,
    bytes: usize,
}

impl HeldDatagrams {
    /// Adds a datagram that is also passed to the library.
    pub(super) fn add(&mut self, datagram: &Bytes) {
        let fragments = fragments(datagram);
        if fragments > 0 {
            let cost = datagram.len() + fragments * FRAGMENT;
            self.datagrams.push((datagram.clone(), cost));
            self.bytes += cost;
        }
    }

    /// Drops those that nobody else holds.
    pub(super) fn release(&mut self) {
        self.datagrams.retain(|(datagram, _)| !datagram.is_unique());
        self.bytes = self.datagrams.iter().map(|(_, cost)| cost).sum();
    }

    /// Memory used by waiting datagrams.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Number of DATA chunks in a packet.
fn fragments(packet: &[u8]) -> usize {
    let mut rest = packet.get(12..).unwrap_or_default();
    let mut fragments = 0;
    while let [kind, _, high, low, ..] = *rest {
        fragments += usize::from(kind == DATA);
        let length = usize::from(u16::from_be_bytes([high, low])).max(4).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_data_chunks() {
        let mut packet = vec![0; 12];
        packet.extend([0, 3, 0, 17, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 9, 0, 0, 0]);
        packet.extend([3, 0, 0, 4]);
        packet.extend([0, 3, 0, 0]);
        assert_eq!(fragments(&packet), 2);
        assert_eq!(fragments(&packet[..11]), 0);
    }

    #[test]
    fn forgets_what_nobody_holds() {
        let mut held = HeldDatagrams::default();
        let datagram = Bytes::copy_from_slice(&[0; 28]);
        held.add(&datagram);
        let slice = datagram.slice(20..21);
        drop(datagram);
        held.release();
        assert!(held.bytes() >= 28);
        drop(slice);
        held.release();
        assert_eq!(held.bytes(), 0);
    }
}
