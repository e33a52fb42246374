//! Commands of transports to the owner of sockets and keys.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;

use rialto_media::{EndpointId, ShardId};
use rialto_srtp::Keying;

/// A command for the packet path. Commands stay in order per endpoint and none may be lost, except
/// [`TransportCommand::Transmit`], which is a datagram.
#[derive(Clone, Debug)]
pub enum TransportCommand {
    /// STUN from `remote` passed MESSAGE-INTEGRITY, so packets from there belong to this endpoint.
    Bind {
        /// The endpoint.
        endpoint: EndpointId,
        /// The validated address.
        remote: SocketAddr,
        /// The local address on which it was validated.
        local: SocketAddr,
        /// The shard whose socket received it.
        shard: ShardId,
    },
    /// The address no longer belongs to this endpoint (consent expired, or the agent was replaced).
    Unbind {
        /// The endpoint.
        endpoint: EndpointId,
        /// The address.
        remote: SocketAddr,
    },
    /// Send media for this endpoint to `remote` from `local` (the nominated pair).
    Select {
        /// The endpoint.
        endpoint: EndpointId,
        /// The address to send to.
        remote: SocketAddr,
        /// The address to send from.
        local: SocketAddr,
    },
    /// Sets the SRTP keys after the DTLS handshake.
    SetKeys(EndpointId, Keying),
    /// Sets the round-trip time that STUN measured.
    SetRtt(EndpointId, Duration),
    /// Sends a STUN or DTLS datagram. May be dropped.
    Transmit {
        /// The shard that sends it; any will do.
        shard: ShardId,
        /// Source address (its port is the socket's).
        local: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// At most 1500 bytes.
        bytes: Bytes,
    },
}

/// Receives [`TransportCommand`]s, and knows the addresses of the sockets.
pub trait CommandSink: Send + Sync {
    /// Takes one command. Never blocks for longer than a mutex is held.
    fn command(&self, command: TransportCommand);

    /// The addresses that the sockets are bound to (wildcards included), with the real port.
    fn local_addrs(&self) -> &[SocketAddr];
}
