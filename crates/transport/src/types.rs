//! Inputs and outputs of transports: descriptions, updates, counters.

use std::{
    fmt,
    net::IpAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rialto_media::EndpointId;

use super::fingerprint::Fingerprint;

/// Settings of a new transport.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// The bridge is the controlling side of ICE (Jicofo always asks for it).
    pub controlling: bool,
    /// The name in logs: `<conference id>/<endpoint id>`.
    pub label: Arc<str>,
    /// Advertise private addresses to this endpoint, whatever the configuration says.
    pub private_addresses: bool,
}

/// Our side of a transport, to be signalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalTransport {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// Our candidates, best first.
    pub candidates: Vec<LocalCandidate>,
    /// Fingerprint of the certificate that this endpoint's DTLS uses (sha-256). Its `setup` is
    /// [`Setup::Actpass`](super::Setup::Actpass) until the peer's role is known, then the opposite
    /// of the peer's.
    pub fingerprint: Fingerprint,
    /// Number of ICE restarts; `None` before the first.
    pub ice_generation: Option<u32>,
}

/// Kind of a candidate (RFC 8445 section 5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CandidateKind {
    /// Address of a network interface.
    Host,
    /// Address in front of a NAT.
    ServerReflexive,
    /// Address that a check revealed.
    PeerReflexive,
    /// Address of a TURN server.
    Relayed,
}

impl CandidateKind {
    /// The name in SDP and Jingle: `host`, `srflx`, `prflx`, `relay`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        }
    }

    /// Parses the name in SDP and Jingle.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "host" => Self::Host,
            "srflx" => Self::ServerReflexive,
            "prflx" => Self::PeerReflexive,
            "relay" => Self::Relayed,
            _ => return None,
        })
    }
}

/// A candidate of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCandidate {
    /// Same for candidates of one kind and base address (RFC 8445 section 5.1.1.3).
    pub foundation: String,
    /// Always 1: RTP and RTCP share a port.
    pub component: u16,
    /// Always `udp`.
    pub protocol: &'static str,
    /// RFC 8445 section 5.1.2.
    pub priority: u32,
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Kind.
    pub kind: CandidateKind,
    /// The local address of a server-reflexive candidate.
    pub related: Option<(IpAddr, u16)>,
    /// Unique within the bridge.
    pub id: String,
    /// Always 0, as in JVB: a restart is signalled by `ice_generation`.
    pub generation: u32,
    /// Always 0.
    pub network: u32,
}

/// A signalled candidate of the peer. Unusable ones (other protocols, host names if these are not
/// looked up, components other than 1) are ignored and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// Foundation.
    pub foundation: String,
    /// Component; only 1 is used.
    pub component: u16,
    /// Protocol, any case; only UDP is used.
    pub protocol: String,
    /// Priority.
    pub priority: u32,
    /// Address or host name.
    pub ip: String,
    /// Port.
    pub port: u16,
    /// Kind.
    pub kind: CandidateKind,
}

/// The peer's side of a transport, as signalled; may arrive in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteTransport {
    /// ICE user name fragment. Changed credentials do not restart anything by themselves: they go
    /// to the newest agent that has none, or replace those of the newest.
    pub ufrag: Option<String>,
    /// ICE password.
    pub pwd: Option<String>,
    /// Candidates to add.
    pub candidates: Vec<RemoteCandidate>,
    /// Fingerprints to add.
    pub fingerprints: Vec<Fingerprint>,
    /// The restart that this is an answer to; `None`: the newest agent.
    pub ice_generation: Option<u32>,
}

/// The result of a request for an ICE restart (semantics of `ice-restart` in COLIBRI2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// There is no established transport to restart; the existing one continues unchanged.
    NotEstablished(LocalTransport),
    /// New credentials, and a generation of at least 1. Media continues over the old pair until the
    /// new agent has one.
    Started(LocalTransport),
    /// Restarts are disabled, or the transport is gone: the reply has no transport.
    Refused,
}

/// A change of a transport's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportUpdate {
    /// ICE has a usable pair (again, if after [`TransportUpdate::Disconnected`]).
    Connected {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// DTLS is done, the certificate matched, and the engine has the keys.
    Ready {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// The transport has failed for good: the endpoint is to be expired.
    Failed {
        /// The endpoint.
        endpoint: EndpointId,
        /// Why.
        reason: FailReason,
    },
    /// Consent was lost (RFC 7675). The peer may come back, by itself or by a restart.
    Disconnected {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// The peer closed DTLS.
    Closed {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// The peer opened its data channel.
    ChannelOpened {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A text arrived on the data channel.
    ChannelText {
        /// The endpoint.
        endpoint: EndpointId,
        /// At most 65 536 bytes.
        text: ChannelText,
    },
    /// The data channel was closed, or its association lost. The peer may open another one.
    ChannelClosed {
        /// The endpoint.
        endpoint: EndpointId,
    },
}

/// A text of a data channel. While it waits to be read it counts towards a limit that all
/// transports share, so that a slow reader loses texts instead of using memory.
#[derive(Clone)]
pub struct ChannelText(Arc<Counted>);

struct Counted {
    text: String,
    unread: Arc<AtomicUsize>,
}

/// Most bytes of texts that wait to be read, including what each text costs in memory.
const MAX_UNREAD: usize = 16 * 1024 * 1024;
const TEXT_OVERHEAD: usize = 128;

impl ChannelText {
    /// Counts a text in `unread` until its last clone is dropped. `None` if too much waits already.
    pub fn new(text: String, unread: &Arc<AtomicUsize>) -> Option<Self> {
        let cost = text.len() + TEXT_OVERHEAD;
        let room = |unread: usize| unread.checked_add(cost).filter(|sum| *sum <= MAX_UNREAD);
        unread.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        Some(Self(Arc::new(Counted { text, unread: Arc::clone(unread) })))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.unread.fetch_sub(self.text.len() + TEXT_OVERHEAD, Ordering::Relaxed);
    }
}

impl Deref for ChannelText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl PartialEq for ChannelText {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ChannelText {}

/// Shows its length only: what people say to each other does not belong into logs.
impl fmt::Debug for ChannelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// Why a transport failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailReason {
    /// No candidate pair worked in time.
    #[error("ICE found no usable pair")]
    IceTimeout,
    /// The DTLS handshake took too long.
    #[error("the DTLS handshake timed out")]
    DtlsTimeout,
    /// The DTLS handshake failed.
    #[error("the DTLS handshake failed")]
    DtlsHandshake,
    /// The peer's certificate matches none of the signalled fingerprints.
    #[error("the certificate does not match a signalled fingerprint")]
    FingerprintMismatch,
    /// DTLS negotiated no SRTP profile that we support.
    #[error("no common SRTP profile")]
    NoSrtpProfile,
}

/// Declares counters, and how to add them.
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl $name {
            /// Adds the counters of another hub.
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counters! {
    /// Totals since the start.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    TransportCounters {
        /// Agents that never found a pair.
        ice_failed,
        /// Agents that found one.
        ice_succeeded,
        /// Of these, with a relay of the peer.
        ice_succeeded_relayed,
        /// Handshakes that failed, for any reason.
        dtls_failed,
        /// Handshakes that completed.
        dtls_succeeded,
        /// Plaintext alerts, which anybody could have sent, and which were ignored.
        dtls_alerts_ignored,
        /// Handshakes that failed while another one may still succeed.
        dtls_restarted,
        /// Certificates without a matching fingerprint (part of `dtls_failed`).
        dtls_fingerprint_mismatch,
        /// Restarts begun.
        restarts_started,
        /// Restarts whose agent took over.
        restarts_succeeded,
        /// Restarts that did not connect in time.
        restarts_failed,
        /// Restarts requested before the transport was established.
        restarts_not_established,
        /// Restarts refused.
        restarts_rejected,
        /// Restarts replaced by a newer one.
        restarts_superseded,
        /// Consent expiries.
        consent_lost,
        /// Changes of the selected pair to another remote address.
        address_changes,
        /// Role conflicts (RFC 8445 section 7.3.1.1), whichever side gave way.
        role_conflicts,
        /// STUN requests that authenticated.
        stun_requests,
        /// STUN responses that authenticated.
        stun_responses,
        /// STUN that does not parse, or whose FINGERPRINT is wrong.
        stun_malformed,
        /// STUN requests for no transport of ours.
        stun_unknown,
        /// STUN whose MESSAGE-INTEGRITY or USERNAME is wrong.
        stun_unauthenticated,
        /// STUN responses to no request of ours, or from another address than we asked.
        stun_unmatched,
        /// STUN requests dropped because one endpoint sent too many.
        stun_rate_limited,
        /// STUN requests with unknown mandatory attributes, answered with 420.
        stun_unknown_attributes,
        /// STUN to a local address that may not be used.
        stun_wrong_local,
        /// DTLS datagrams for endpoints that are gone, or whose address is not theirs.
        dtls_dropped,
        /// DTLS datagrams of endpoints that do not consist of complete records.
        dtls_malformed,
        /// Remote candidates that were ignored.
        candidates_ignored,
        /// Answers dropped because they came from the address of another live endpoint.
        addresses_contested,
        /// Addresses that moved to another endpoint which proved that it is there, since the owner
        /// was silent.
        addresses_taken_over,
        /// Addresses unbound because an endpoint had too many.
        addresses_evicted,
        /// SCTP associations set up.
        sctp_connected,
        /// SCTP associations that ended otherwise than with their DTLS.
        sctp_lost,
        /// Of these, because a peer's packet made the library panic.
        sctp_panics,
        /// Data channels opened.
        channels_opened,
        /// Data channels refused because the endpoint had one.
        channels_refused,
        /// Texts sent in data channels.
        channel_texts_sent,
        /// Texts received in data channels.
        channel_texts_received,
        /// Received texts that were dropped because too many wait to be read.
        channel_texts_dropped,
        /// Received binary messages, which are dropped: the bridge uses text.
        channel_binary,
        /// Messages that were too long and closed their channel.
        channel_too_long,
        /// Messages outside of a channel, or malformed.
        channel_malformed,
        /// Application data dropped: no SCTP was signalled, or the peer was not verified.
        application_data_dropped,
        /// Datagrams dropped because a hub fell behind.
        datagrams_dropped,
    }
}
