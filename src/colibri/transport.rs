//! Transport parameters: ICE (XEP-0176), DTLS (XEP-0320), SCTP, bridge-channel addresses.

/// The namespace of [`IceUdp`]; its JSON form carries it too.
pub const ICE_UDP_NAMESPACE: &str = "urn:xmpp:jingle:transports:ice-udp:1";

/// The only SCTP port there is (RFC 8841 section 5.1 has it as the default).
pub const SCTP_PORT: u16 = 5000;

/// `<transport>` of an endpoint or relay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transport {
    /// The bridge is the controlling ICE agent.
    pub ice_controlling: bool,
    /// A socket of its own; means something only for relays.
    pub use_unique_port: bool,
    /// Restart ICE with new credentials.
    pub ice_restart: bool,
    /// ICE and DTLS parameters.
    pub ice_udp: Option<IceUdp>,
    /// An SCTP association for the bridge channel.
    pub sctp: Option<Sctp>,
}

/// `<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IceUdp {
    /// ICE user fragment.
    pub ufrag: Option<String>,
    /// ICE password.
    pub pwd: Option<String>,
    /// How often ICE was restarted, from the first restart on.
    pub ice_generation: Option<u32>,
    /// Candidates, all known or the new ones.
    pub candidates: Vec<Candidate>,
    /// The nominated remote candidate.
    pub remote_candidate: Option<Candidate>,
    /// Certificate fingerprints.
    pub fingerprints: Vec<Fingerprint>,
    /// Where the bridge channel is.
    pub web_sockets: Vec<WebSocket>,
    /// RTP and RTCP share the transport.
    pub rtcp_mux: bool,
}

/// An ICE candidate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Candidate {
    /// 1 for RTP, the only component here.
    pub component: u16,
    /// Foundation.
    pub foundation: String,
    /// Generation.
    pub generation: u32,
    /// Its id, unique in a session.
    pub id: Option<String>,
    /// Network index.
    pub network: Option<u32>,
    /// Priority.
    pub priority: u32,
    /// `udp`; others are ignored.
    pub protocol: String,
    /// `host`, `srflx`, `prflx` or `relay`.
    pub r#type: String,
    /// Address, or an mDNS name.
    pub ip: String,
    /// Port.
    pub port: u16,
    /// Base address of a reflexive or relayed candidate.
    pub rel_addr: Option<String>,
    /// Its port.
    pub rel_port: Option<u16>,
    /// `active`, `passive` or `so` for TCP.
    pub tcptype: Option<String>,
}

/// A certificate fingerprint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fingerprint {
    /// `sha-256` and the like.
    pub hash: Option<String>,
    /// `actpass`, `active` or `passive`.
    pub setup: Option<String>,
    /// Colon-separated hexadecimal.
    pub fingerprint: String,
    /// Header encryption (RFC 9335) is supported.
    pub cryptex: Option<bool>,
}

/// Where the bridge channel is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebSocket {
    /// Connect here.
    Url(String),
    /// The other side will connect.
    Active,
}

/// `<sctp>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sctp {
    /// The role that the sender of the request or answer gives the bridge.
    pub role: Option<SctpRole>,
    /// SCTP port.
    pub port: Option<u16>,
}

/// Who opens the association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SctpRole {
    /// The bridge.
    Client,
    /// The other side.
    Server,
}

impl SctpRole {
    /// The value of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// Reads the value of the attribute.
    pub fn parse(role: &str) -> Option<Self> {
        match role {
            "client" => Some(Self::Client),
            "server" => Some(Self::Server),
            _ => None,
        }
    }
}
