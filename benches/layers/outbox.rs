//! The engine's send arena, emptied where a socket would send, and what each endpoint was sent.

use std::net::{IpAddr, SocketAddr};

use rialto_engine::{arena::SendArena, core::Outbox, dest::Dest};

/// As large as the engine's.
const BYTES: usize = 256 << 10;
const MESSAGES: usize = 512;

/// RTP packets that went to one endpoint.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// See the module's description.
pub(crate) struct Counted {
    arena: SendArena,
    to: usize,
    /// By endpoint.
    pub(crate) sent: Vec<Sent>,
}

impl Counted {
    pub(crate) fn new(endpoints: usize) -> Self {
        let arena = SendArena::new(BYTES, MESSAGES, 1);
        Self { arena, to: 0, sent: vec![Sent::default(); endpoints] }
    }

    /// Sends everything to nowhere.
    pub(crate) fn empty(&mut self) {
        self.arena.clear();
    }
}

impl Outbox for Counted {
    fn reserve(&mut self, dest: &Dest, max_len: usize) -> Option<&mut [u8]> {
        if self.arena.is_full(max_len) {
            self.empty();
        }
        self.to = endpoint(dest.remote);
        self.arena.reserve(*dest, max_len)
    }

    fn commit(&mut self, len: usize) {
        let start = self.arena.bytes_used();
        self.arena.commit(len);
        // RTCP has no transport-wide number (RFC 5761 section 4: types 192 to 223).
        let second = self.arena.bytes().get(start + 1);
        let is_rtp = second.is_some_and(|second| !(192..=223).contains(second));
        if let Some(sent) = self.sent.get_mut(self.to).filter(|_| is_rtp) {
            sent.packets += 1;
            sent.bytes += len as u64;
        }
    }
}

/// Where an endpoint is.
pub(crate) fn remote(id: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, (id >> 8) as u8, id as u8], 40_000))
}

/// Who is there.
fn endpoint(remote: SocketAddr) -> usize {
    match remote.ip() {
        IpAddr::V4(ip) => usize::from(u16::from_be_bytes([ip.octets()[2], ip.octets()[3]])),
        IpAddr::V6(_) => usize::MAX,
    }
}
