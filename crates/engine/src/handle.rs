//! The handle with which control commands the engine.
#![expect(clippy::disallowed_types, reason = "records what is sent, for tests of others")]

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rialto_media::{EndpointId, MediaParams, ShardId, SourceId, SourceSpec, SubscriptionParams};
use rialto_srtp::Keying;

use super::{
    api::{AllocationConstraints, EndpointSpec},
    tap::Tap,
};

/// Commands of control to the engine. They stay in order and none may be lost, except
/// [`Control::Transmit`], which is a datagram.
#[derive(Clone, Debug)]
pub enum Control {
    /// Adds an endpoint. The first [`Control::Bind`] chooses its home shard.
    AddEndpoint(EndpointId, EndpointSpec),
    /// Removes an endpoint with its addresses, keys, sources and subscriptions.
    RemoveEndpoint(EndpointId),
    /// Replaces the parameters that the endpoint negotiated.
    SetMedia(EndpointId, Arc<MediaParams>),
    /// Replaces the endpoint's sources. A source that is no longer listed ends: its receivers get
    /// an RTCP BYE, and its subscriptions end.
    SetSources(EndpointId, Vec<SourceSpec>),
    /// Sets force-mute. Packets of a muted endpoint are dropped before decryption.
    SetForceMute {
        /// The sender.
        endpoint: EndpointId,
        /// Drop its audio.
        audio: bool,
        /// Drop its video.
        video: bool,
    },
    /// Sets whether the endpoint is the dominant speaker of its conference.
    SetDominant(EndpointId, bool),
    /// Requests a keyframe of the endpoint's first video after a delay, before any receiver asks:
    /// receivers will soon want a larger picture of it.
    RequestKeyframeAhead {
        /// The sender.
        speaker: EndpointId,
        /// The delay.
        after: Duration,
    },
    /// Starts copying the endpoint's packets, decrypted, to a tap; `None` stops it.
    Tap(EndpointId, Option<Tap>),
    /// Subscribes the receiver to a source. Idempotent; new terms replace the old ones. The source
    /// may be signalled before or after.
    Subscribe {
        /// The receiver.
        receiver: EndpointId,
        /// The source.
        source: SourceId,
        /// How it is to be forwarded.
        terms: SubscriptionParams,
    },
    /// Ends a subscription.
    Unsubscribe {
        /// The receiver.
        receiver: EndpointId,
        /// The source.
        source: SourceId,
    },
    /// Replaces the receiver's constraints on video. Subscriptions decide which sources it may get
    /// at all.
    SetAllocation {
        /// The receiver.
        receiver: EndpointId,
        /// The constraints, in order of priority.
        wishes: Arc<AllocationConstraints>,
    },
    /// STUN from `remote` passed MESSAGE-INTEGRITY, so packets from there belong to this endpoint.
    /// The first `Bind` of an endpoint also makes `shard` its home and `remote` the address to send
    /// to.
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
        /// Source address. The engine sets the port.
        local: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// At most 1500 bytes.
        bytes: Bytes,
    },
}

/// Where [`Control`] commands go.
pub trait ControlSink: Send + Sync {
    /// Takes one command. Never blocks for longer than a mutex is held.
    fn control(&self, control: Control);
}

/// Control's handle to the engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    sink: Arc<dyn ControlSink>,
    local_addrs: Arc<[SocketAddr]>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("local_addrs", &self.local_addrs).finish_non_exhaustive()
    }
}

impl Engine {
    /// Creates a handle over a sink. `local_addrs` are the bound addresses (wildcards included)
    /// with their real ports.
    pub fn new(sink: Arc<dyn ControlSink>, local_addrs: Vec<SocketAddr>) -> Self {
        Self { sink, local_addrs: local_addrs.into() }
    }

    /// Creates a handle without an engine, and a recorder of the commands sent to it. For tests of
    /// control.
    pub fn detached(local_addrs: Vec<SocketAddr>) -> (Self, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        (Self::new(recorder.clone(), local_addrs), recorder)
    }

    /// The addresses that the sockets are bound to, with the real port.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Sends one command.
    pub fn send(&self, control: Control) {
        self.sink.control(control);
    }
}

/// Records the commands sent to a detached [`Engine`].
#[derive(Default, Debug)]
pub struct Recorder(Mutex<Vec<Control>>);

impl Recorder {
    /// Takes the commands recorded since the last call.
    pub fn take(&self) -> Vec<Control> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ControlSink for Recorder {
    fn control(&self, control: Control) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(control);
    }
}
