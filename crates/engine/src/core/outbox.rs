//! Where the core writes datagrams: the send buffer of the sockets, or a simulated network.

use crate::dest::Dest;

/// Accepts datagrams, which are written in place.
pub trait Outbox {
    /// Returns room for a datagram of up to `max_len` bytes, sending what was collected if there is
    /// none. `None` if it cannot be sent; the caller counts a drop.
    fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]>;

    /// Makes the first `len` bytes of the reservation a datagram; 0 discards it.
    fn commit(&mut self, len: usize);
}

/// An outbox that keeps every datagram, for tests and simulations.
#[derive(Debug, Default)]
pub struct Collected {
    /// The datagrams in order.
    pub datagrams: Vec<(Dest, Vec<u8>)>,
    pending: Option<(Dest, Vec<u8>)>,
}

impl Outbox for Collected {
    fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]> {
        self.pending = Some((*dest, vec![0; max_len]));
        self.pending.as_mut().map(|(_, bytes)| bytes.as_mut_slice())
    }

    fn commit(&mut self, len: usize) {
        if let Some((dest, mut bytes)) = self.pending.take()
            && len > 0
        {
            bytes.truncate(len);
            self.datagrams.push((dest, bytes));
        }
    }
}
