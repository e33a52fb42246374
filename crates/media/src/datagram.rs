//! Datagrams that shards pass to the transports.

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;

use super::{EndpointId, ShardId};

/// A datagram that a shard passes to control: STUN from anyone, DTLS from validated addresses.
#[derive(Clone, Debug)]
pub struct TransportDatagram {
    /// The shard whose socket received it.
    pub shard: ShardId,
    /// The local address it was sent to (from pktinfo), with the port of the socket.
    pub local: SocketAddr,
    /// Its source address, which may be forged.
    pub remote: SocketAddr,
    /// `Some` when `remote` is bound to an endpoint (always for DTLS).
    pub endpoint: Option<EndpointId>,
    /// When the shard received it.
    pub received: Instant,
    /// Its bytes: at most 1500, or 20 KiB of DTLS.
    pub bytes: Bytes,
}

/// Events about transports, from the shards to control.
#[derive(Clone, Debug)]
pub enum TransportEvent {
    /// First byte 0..=3 (RFC 7983).
    Stun(TransportDatagram),
    /// First byte 20..=63, from an address that is bound to an endpoint.
    Dtls(TransportDatagram),
}
