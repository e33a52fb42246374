//! Where the core writes what leaves: a socket's send arena, or a simulated network.

use crate::dest::Dest;

/// Takes datagrams, written in place.
pub trait Outbox {
    /// Room for a datagram of up to `max_len` bytes; makes room by sending what is there. `None` when
    /// it cannot be sent: the caller counts a drop.
    fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]>;

    /// The first `len` bytes of the reservation are a datagram; 0 gives it up.
    fn commit(&mut self, len: usize);
}

/// An outbox that keeps every datagram, for tests and simulations.
#[derive(Debug, Default)]
pub struct Collected {
    /// What was sent, in order.
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
