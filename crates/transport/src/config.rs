//! How transports are set up: what is advertised, and how long things may take.

use std::{net::IpAddr, time::Duration};

use super::fingerprint::Hash;

/// Settings of all transports. The durations' defaults are JVB's, where JVB has them.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Parts into which endpoints are divided, each with its own lock and task; `None`: as many as there
    /// are cores.
    pub hubs: Option<usize>,
    /// Interfaces that may be used; empty: all.
    pub allowed_interfaces: Vec<String>,
    /// Interfaces that may not be used.
    pub blocked_interfaces: Vec<String>,
    /// Addresses that may be used; empty: all.
    pub allowed_addresses: Vec<IpAddr>,
    /// Addresses that may not be used.
    pub blocked_addresses: Vec<IpAddr>,
    /// Use IPv6 addresses. Default: yes.
    pub use_ipv6: bool,
    /// Use link-local addresses (169.254.0.0/16, fe80::/10). Default: no.
    pub use_link_local: bool,
    /// Use loopback addresses on wildcard sockets. A socket bound to a loopback address uses it
    /// anyway. Default: no.
    pub loopback: bool,
    /// Signal private addresses (RFC 1918, RFC 4193) to every endpoint. Default: yes.
    pub advertise_private: bool,
    /// Public addresses of local ones (one-to-one NAT).
    pub static_mappings: Vec<StaticMapping>,
    /// What every ufrag begins with; at most 237 characters, so that a check's USERNAME has no more than
    /// the 508 bytes of RFC 8489 section 14.3. Characters that ICE does not allow in a
    /// ufrag (RFC 8445 section 5.3) become `/`.
    pub ufrag_prefix: String,
    /// Look up remote candidates that are host names, except mDNS names. Default: no.
    pub resolve_remote_candidates: bool,
    /// Do ICE restarts. Default: yes.
    pub restart_enabled: bool,
    /// How long the replaced agent still answers after the new one took over. Default: 3 s.
    pub restart_window: Duration,
    /// When a restart that does not connect is given up. Default: 20 s.
    pub restart_timeout: Duration,
    /// Interval of consent checks (RFC 7675 section 5.1). Default: 5 s.
    pub consent_interval: Duration,
    /// Consent ends after so long without an answer; RFC 7675 allows at most 30 s. Default: 15 s.
    pub consent_timeout: Duration,
    /// When an agent that found no pair is given up. Default: 60 s, since a client may answer late.
    pub connect_timeout: Duration,
    /// When a DTLS handshake is given up. Default: 30 s.
    pub dtls_timeout: Duration,
    /// Hash function of the fingerprint that is signalled. Default: sha-256.
    pub local_hash: Hash,
    /// Hash functions of peers' fingerprints that are believed. Default: all.
    pub accepted_hashes: Vec<Hash>,
}

/// A public address that is forwarded to a local one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticMapping {
    /// The address on this machine.
    pub local: IpAddr,
    /// Its port, if only one is mapped.
    pub local_port: Option<u16>,
    /// The address that clients use.
    pub public: IpAddr,
    /// Its port; `None`: the same as locally.
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
