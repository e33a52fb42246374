//! One message of a send call.

use std::net::{IpAddr, SocketAddr};

/// A datagram, or several of equal length (the last may be shorter) that leave in one call to the
/// network stack. Its bytes lie in a buffer that is passed beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Destination.
    pub remote: SocketAddr,
    /// Source address to put on it, in the family of `remote`; `None` leaves the choice to the kernel.
    pub local_ip: Option<IpAddr>,
    /// Where the bytes begin.
    pub start: usize,
    /// How many there are, 1..=65,507.
    pub len: usize,
    /// Length of each datagram but the last, bytes; 0 when there is one datagram.
    pub segment_size: u16,
}

impl Message {
    /// The bytes in `buffer`; empty when they do not lie within.
    pub fn bytes<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        self.start.checked_add(self.len).and_then(|end| buffer.get(self.start..end)).unwrap_or(&[])
    }

    /// The datagrams in `buffer`, in order.
    pub fn segments<'a>(&self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes(buffer);
        let size = if self.segment_size == 0 { bytes.len() } else { self.segment_size.into() };
        bytes.chunks(size.max(1))
    }

    /// How many datagrams it is.
    pub fn count(&self) -> usize {
        if self.segment_size == 0 { 1 } else { self.len.div_ceil(self.segment_size.into()) }
    }
}
