//! Destinations of datagrams.

use std::net::{IpAddr, SocketAddr};

/// Where a datagram is sent to, and from which address and socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dest {
    /// Destination.
    pub remote: SocketAddr,
    /// Source address; the kernel chooses if `None`.
    pub local_ip: Option<IpAddr>,
    /// The socket to send on: an index into the addresses that the shard has bound.
    pub socket: u8,
}
