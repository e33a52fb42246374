//! Settings of transports: advertised addresses, and time limits.

use std::{net::IpAddr, time::Duration};

use super::fingerprint::Hash;

/// Settings of all transports. The defaults of durations are those of JVB, if JVB has them.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Number of hubs that endpoints are divided among, each with its own lock and task; `None`: as
    /// many as there are cores.
    pub hubs: Option<usize>,
    /// Interfaces that may be used; empty: all.
    pub allowed_interfaces: Vec<String>,
    /// Interfaces that may not be used.
    pub blocked_interfaces: Vec<String>,
    /// Addresses that may be used; empty: all.
    pub allowed_addresses: Vec<IpAddr>,
    /// Addresses that may not be used.
    pub blocked_addresses: Vec<IpAddr>,
    /// Use IPv6 addresses. Default true.
    pub use_ipv6: bool,
    /// Use link-local addresses (169.254.0.0/16, fe80::/10). Default false.
    pub use_link_local: bool,
    /// Use loopback addresses on wildcard sockets. A socket bound to a loopback address always uses
    /// it. Default false.
    pub loopback: bool,
    /// Advertise private addresses (RFC 1918, RFC 4193) to every endpoint. Default true.
    pub advertise_private: bool,
    /// Public addresses of local addresses (one-to-one NAT).
    pub static_mappings: Vec<StaticMapping>,
    /// Prefix of every ufrag; at most 237 characters, so that a check's USERNAME has no more than
    /// the 508 bytes of RFC 8489 section 14.3. Characters that ICE does not allow in a ufrag (RFC
    /// 8445 section 5.3) become `/`.
    pub ufrag_prefix: String,
    /// Look up remote candidates with host names, except mDNS names. Default false.
    pub resolve_remote_candidates: bool,
    /// Allow ICE restarts. Default true.
    pub restart_enabled: bool,
    /// How long a replaced agent still answers. Default 3 s.
    pub restart_window: Duration,
    /// After this time a restart that does not connect is given up. Default 20 s.
    pub restart_timeout: Duration,
    /// Interval of consent checks (RFC 7675 section 5.1). Default: 5 s.
    pub consent_interval: Duration,
    /// Consent expires after this time without an answer; RFC 7675 allows at most 30 s. Default 15
    /// s.
    pub consent_timeout: Duration,
    /// After this time an agent without a pair is given up. Default 60 s, since a client may answer
    /// late.
    pub connect_timeout: Duration,
    /// After this time a DTLS handshake is given up. Default 30 s.
    pub dtls_timeout: Duration,
    /// Hash function of the signalled fingerprint. Default sha-256.
    pub local_hash: Hash,
    /// Accepted hash functions of peers' fingerprints. Default all.
    pub accepted_hashes: Vec<Hash>,
}

/// A public address that is forwarded to a local address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticMapping {
    /// The address on this machine.
    pub local: IpAddr,
    /// The local port, if only one is mapped.
    pub local_port: Option<u16>,
    /// The address that clients use.
    pub public: IpAddr,
    /// The public port; `None`: the same as the local one.
    pub public_port: Option<u16>,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            hubs: None,
            allowed_interfaces: Vec::new(),
            blocked_interfaces: Vec::new(),
            allowed_addresses: Vec::new(),
            blocked_addresses: Vec::new(),
            use_ipv6: true,
            use_link_local: false,
            loopback: false,
            advertise_private: true,
            static_mappings: Vec::new(),
            ufrag_prefix: String::new(),
            resolve_remote_candidates: false,
            restart_enabled: true,
            restart_window: Duration::from_secs(3),
            restart_timeout: Duration::from_secs(20),
            consent_interval: Duration::from_secs(5),
            consent_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(60),
            dtls_timeout: Duration::from_secs(30),
            local_hash: Hash::Sha256,
            accepted_hashes: Hash::ALL.to_vec(),
        }
    }
}
