//! The handle by which control speaks to the engine.
#![expect(clippy::disallowed_types, reason = "records what is sent, for tests of others")]

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rialto_media::{EndpointId, MediaParams, ShardId, SourceId, SourceSpec, Terms};
use rialto_srtp::Keying;

use super::{
    api::{EndpointSpec, Wishes},
    tap::Tap,
};

/// What control asks of the engine. Order is kept; none of these may be lost, except
/// [`Control::Transmit`], which is a datagram.
#[derive(Clone, Debug)]
pub enum Control {
    /// A participant exists. Its home shard is the one of its first [`Control::Bind`].
    AddEndpoint(EndpointId, EndpointSpec),
    /// The participant is gone: its addresses, keys, sources and subscriptions with it.
    RemoveEndpoint(EndpointId),
    /// Replaces what the endpoint negotiated.
    SetMedia(EndpointId, Arc<MediaParams>),
    /// Replaces the endpoint's sources. A source that is no longer there ends with an RTCP BYE to its
    /// receivers, and its subscriptions end.
    SetSources(EndpointId, Vec<SourceSpec>),
    /// Mute forced by signalling: the endpoint's packets are dropped before decryption.
    SetForceMute {
        /// The sender.
        endpoint: EndpointId,
        /// Drop audio.
        audio: bool,
        /// Drop video.
        video: bool,
    },
    /// The endpoint is the dominant speaker of its conference, or is no more.
    SetDominant(EndpointId, bool),
    /// A keyframe of the endpoint's first video is to be asked for so much later, though nobody has asked yet:
    /// receivers will soon want a larger picture of it.
    AskAhead {
        /// The sender.
        speaker: EndpointId,
        /// How much later.
        after: Duration,
    },
    /// The endpoint's packets are copied to there from now on, decrypted; `None`: no more.
    Tap(EndpointId, Option<Tap>),
    /// The receiver gets this source from now on (idempotent; new terms replace the old ones). The
    /// source may be signalled before or after.
    Subscribe {
        /// Who receives.
        receiver: EndpointId,
        /// What.
        source: SourceId,
        /// How.
        terms: Terms,
    },
    /// The receiver no longer gets this source.
    Unsubscribe {
        /// Who received.
        receiver: EndpointId,
        /// What.
        source: SourceId,
    },
    /// Replaces what the receiver wants of videos. Subscriptions say which it may get at all.
    SetAllocation {
        /// Who receives.
        receiver: EndpointId,
        /// What it wants, in the order of priority.
        wishes: Arc<Wishes>,
    },
    /// STUN from `remote` passed MESSAGE-INTEGRITY: what comes from there is this endpoint's. The
    /// first one also makes `shard` its home and `remote` the address to send to.
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
        /// Source address (its port is the engine's).
        local: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// At most 1500 bytes.
        bytes: Bytes,
    },
}

/// Where [`Control`] values go.
pub trait ControlSink: Send + Sync {
    /// Takes one. Never blocks for longer than a mutex is held.
    fn control(&self, control: Control);
}

/// The engine, as control sees it. Cheap to clone.
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
    /// A handle over any sink. `local_addrs`: the bound addresses (wildcards included), real ports.
    pub fn new(sink: Arc<dyn ControlSink>, local_addrs: Vec<SocketAddr>) -> Self {
        Self { sink, local_addrs: local_addrs.into() }
    }

    /// A handle without an engine behind it, and what was sent to it. For tests of control.
    pub fn detached(local_addrs: Vec<SocketAddr>) -> (Self, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        (Self::new(recorder.clone(), local_addrs), recorder)
    }

    /// The addresses that the sockets are bound to, with the port in use.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Sends one command.
    pub fn send(&self, control: Control) {
        self.sink.control(control);
    }
}

/// Collects what was sent to a detached [`Engine`].
#[derive(Default, Debug)]
pub struct Recorder(Mutex<Vec<Control>>);

impl Recorder {
    /// Takes what has come since the last call.
    pub fn take(&self) -> Vec<Control> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ControlSink for Recorder {
    fn control(&self, control: Control) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(control);
    }
}
