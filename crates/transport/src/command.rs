//! What transports ask of whoever owns the sockets and the keys.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;

use rialto_media::{EndpointId, ShardId};
use rialto_srtp::Keying;

/// A command for the packet path. Order is kept for each endpoint; none may be lost, except
/// [`TransportCommand::Transmit`], which is a datagram.
#[derive(Clone, Debug)]
pub enum TransportCommand {
    /// STUN from `remote` passed MESSAGE-INTEGRITY: what comes from there is this endpoint's.
    Bind {
        /// The endpoint.
        endpoint: EndpointId,
        /// The validated address.
        remote: SocketAddr,
        /// The local address on which it was validated.
        local: SocketAddr,
        /// The shard on whose socket it landed.
        shard: ShardId,
    },
    /// The address is no longer this endpoint's (consent expired, agent replaced).
    Unbind {
        /// The endpoint.
        endpoint: EndpointId,
        /// The address.
        remote: SocketAddr,
    },
    /// Media to this endpoint goes to `remote` from `local` (the nominated pair).
    Select {
        /// The endpoint.
        endpoint: EndpointId,
        /// Where to send.
        remote: SocketAddr,
        /// The address to send from.
        local: SocketAddr,
    },
    /// DTLS is done.
    SetKeys(EndpointId, Keying),
    /// Round trip as STUN measured it.
    SetRtt(EndpointId, Duration),
    /// Send a STUN or DTLS datagram. May be dropped.
    Transmit {
        /// The socket to use; any will do.
        shard: ShardId,
        /// Source address (its port is the socket's).
        local: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// At most 1500 bytes.
        bytes: Bytes,
    },
}

/// Takes [`TransportCommand`]s, and knows the sockets.
pub trait CommandSink: Send + Sync {
    /// Takes one command. Never blocks for longer than a mutex is held.
    fn command(&self, command: TransportCommand);

    /// The addresses that the sockets are bound to (wildcards included), with the port in use.
    fn local_addrs(&self) -> &[SocketAddr];
}
