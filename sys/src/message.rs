//! One message of a send call.

use std::net::{IpAddr, SocketAddr};

/// A datagram, or several of equal length (the last may be shorter), passed to the network stack at
/// once. Its bytes are in a buffer that is passed separately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Destination.
    pub remote: SocketAddr,
    /// Source address to put on it, in the family of `remote`; `None` leaves the choice to the kernel.
    pub local_ip: Option<IpAddr>,
    /// Where the bytes begin.
    pub start: usize,
    /// Number of bytes, 1..=65,507.
    pub len: usize,
    /// Length of each datagram but the last, bytes; 0 for a single datagram.
    pub segment_size: u16,
}

impl Message {
    /// The bytes in `buffer`; empty if they are out of its range.
    pub fn bytes<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        self.start.checked_add(self.len).and_then(|end| buffer.get(self.start..end)).unwrap_or(&[])
    }

    /// The datagrams in `buffer`, in order.
    pub fn segments<'a>(&self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes(buffer);
        let size = if self.segment_size == 0 { bytes.len() } else { self.segment_size.into() };
        bytes.chunks(size.max(1))
    }

    /// Number of datagrams.
    pub fn count(&self) -> usize {
        if self.segment_size == 0 { 1 } else { self.len.div_ceil(self.segment_size.into()) }
    }
}
