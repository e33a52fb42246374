//! The bridge's interface to transports, in the types of signalling.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use rialto_media::EndpointId;
use rialto_transport::{SendError, TransportCounters};
use serde_json::Value;

use crate::{colibri::IceUdp, conference::CreateTransport};

/// The answer to a restart, described for signalling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestartAnswer {
    /// New credentials and a generation: the restart goes on.
    Started(IceUdp),
    /// Nothing was established that could be restarted: the transport as it was.
    NotEstablished(IceUdp),
    /// No restart; the answer has no transport.
    Refused,
}

/// Transports of endpoints, as signalling sees them. None of these wait.
pub trait TransportPort: Send + Sync + 'static {
    /// Makes a transport.
    ///
    /// `label`, for logs: `<conference id>/<endpoint id>`.
    fn create(&self, endpoint: EndpointId, create: CreateTransport, label: Arc<str>);
    /// Applies the peer's signalled parameters.
    fn set_remote(&self, endpoint: EndpointId, remote: &IceUdp);
    /// Begins a restart.
    fn restart_ice(&self, endpoint: EndpointId) -> RestartAnswer;
    /// Our side of the transport, as it is now.
    fn describe(&self, endpoint: EndpointId) -> Option<IceUdp>;
    /// Allows the peer to set up SCTP and open a data channel.
    fn offer_sctp(&self, _endpoint: EndpointId) {}
    /// Sends a text in the data channel.
    ///
    /// # Errors
    /// When there is none that is open, the text is too long, or too much waits already.
    fn send_text(&self, _endpoint: EndpointId, _text: &str) -> Result<(), SendError> {
        Err(SendError::NotOpen)
    }
    /// Closes the transport.
    fn remove(&self, endpoint: EndpointId);
    /// Debug output.
    fn debug(&self, endpoint: EndpointId) -> Value;
    /// Totals.
    fn counters(&self) -> TransportCounters;
    /// Connectivity checks of peers that authenticated, by the local address that they came to.
    fn checks(&self) -> Vec<(SocketAddr, u64)> {
        Vec::new()
    }
    /// When an authenticated answer or request of ICE last came; `None`: never, or not known.
    fn last_activity(&self, _endpoint: EndpointId) -> Option<Instant> {
        None
    }
}
