//! Where datagrams go.

use std::net::{IpAddr, SocketAddr};

/// Where a datagram goes, and from where.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dest {
    /// Destination.
    pub remote: SocketAddr,
    /// Source address to put on it; `None` leaves the choice to the kernel.
    pub local_ip: Option<IpAddr>,
    /// The shard's socket to use, an index into the addresses that it has bound.
    pub socket: u8,
}
