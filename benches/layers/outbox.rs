//! Counts what is sent to each endpoint.

use std::net::{IpAddr, SocketAddr};

use rialto_engine::{core::Outbox, dest::Dest};

use crate::rig::{Drained, Sink};

/// RTP packets sent to one endpoint.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// See the module's description.
pub(crate) struct Counted {
    out: Drained,
    to: usize,
    /// By endpoint.
    pub(crate) sent: Vec<Sent>,
}

impl Counted {
    pub(crate) fn new(endpoints: usize) -> Self {
        Self { out: Drained::new(), to: 0, sent: vec![Sent::default(); endpoints] }
    }
}

impl Sink for Counted {
    fn empty(&mut self) {
        self.out.empty();
    }
}

impl Outbox for Counted {
    fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]> {
        self.to = endpoint(dest.remote);
        self.out.reserve(dest, max_len)
    }

    fn commit(&mut self, len: usize) {
        let start = self.out.arena.bytes_used();
        self.out.commit(len);
        // RTCP has no transport sequence number (RFC 5761 section 4: types 192 to 223).
        let second = self.out.arena.bytes().get(start + 1);
        let is_rtp = second.is_some_and(|second| !(192..=223).contains(second));
        if let Some(sent) = self.sent.get_mut(self.to).filter(|_| is_rtp) {
            sent.packets += 1;
            sent.bytes += len as u64;
        }
    }
}

/// The endpoint at an address.
fn endpoint(remote: SocketAddr) -> usize {
    match remote.ip() {
        IpAddr::V4(ip) => usize::from(u16::from_be_bytes([ip.octets()[2], ip.octets()[3]])),
        IpAddr::V6(_) => usize::MAX,
    }
}
