//! Typed configuration values, with JVB's defaults. [`super::load`] fills them from a file.

use std::{net::IpAddr, time::Duration};

use super::{Capture, Cc, Hash, Http, Load, Secret, StatsTransport, Xmpp};

/// The whole configuration. Nothing else in the process reads configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `videobridge.ice` and `ice4j.consent-freshness`.
    pub ice: Ice,
    /// `ice4j.harvest`: which local addresses are used and advertised.
    pub harvest: Harvest,
    /// `videobridge.entity-expiration`.
    pub expiration: Expiration,
    /// `videobridge.ep-connection-status`.
    pub connection_status: ConnectionStatus,
    /// `videobridge.speech-activity.recent-speakers-count`: number of former dominant speakers that clients
    /// are told. 10.
    pub recent_speakers: u32,
    /// `videobridge.speech-activity`: when clients are told that nobody speaks.
    pub silence: SilenceDetection,
    /// `jmt.dtls`.
    pub dtls: Dtls,
    /// `jmt.srtp`.
    pub srtp: Srtp,
    /// `videobridge.sctp`.
    pub sctp: Sctp,
    /// `jmt.keyframe`.
    pub keyframe: Keyframe,
    /// `jmt.audio.level`: how much silence is forwarded.
    pub audio_silence: AudioSilence,
    /// `jmt.audio.red`: how redundant audio is handled.
    pub redundancy: AudioRedundancy,
    /// `videobridge.loudest`: whose audio is forwarded.
    pub loudest: LoudestSpeakers,
    /// `videobridge.cc`.
    pub cc: Cc,
    /// `videobridge.ssrc-limit`.
    pub ssrc_limit: SsrcLimit,
    /// `videobridge.http-servers.private`.
    pub http: Http,
    /// `videobridge.http-servers.public`. Off.
    pub public_http: Http,
    /// `rialto.http`: access control of the private server.
    pub http_access: HttpAccess,
    /// `videobridge.websockets`.
    pub web_sockets: WebSockets,
    /// `videobridge.rest` and `videobridge.apis.rest`.
    pub rest: Rest,
    /// `videobridge.health`.
    pub health: Health,
    /// `videobridge.apis.xmpp-client`.
    pub xmpp: Xmpp,
    /// `videobridge.shutdown`.
    pub shutdown: Shutdown,
    /// `videobridge.version`.
    pub version: Version,
    /// `videobridge.stats`.
    pub stats: Stats,
    /// `videobridge.load-management`.
    pub load: Load,
    /// `videobridge.relay.enabled`, formerly `videobridge.octo.enabled`: enable relays to other bridges.
    /// Rialto does not have them yet. false.
    pub relays: bool,
    /// `videobridge.stats-filter-threshold`: in conferences with more endpoints than this, a client's
    /// statistics go only to clients that receive its audio or video. 20.
    pub stats_filter_threshold: u32,
    /// `jmt.debug.pcap`: packet captures.
    pub capture: Capture,
    /// `videobridge.initial-drain-mode`: start in drain mode, without asking for conferences. JVB: false.
    pub initial_drain_mode: bool,
    /// `videobridge.redact-remote-addresses`: hide participants' addresses in logs. JVB: true.
    pub redact_remote_addresses: bool,
    /// `rialto.tracing`: traces of requests.
    pub tracing: Tracing,
    /// `rialto`: settings that JVB does not have.
    pub engine: Engine,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ice: Ice::default(),
            harvest: Harvest::default(),
            expiration: Expiration::default(),
            connection_status: ConnectionStatus::default(),
            recent_speakers: 10,
            silence: SilenceDetection::default(),
            dtls: Dtls::default(),
            srtp: Srtp::default(),
            sctp: Sctp::default(),
            keyframe: Keyframe::default(),
            audio_silence: AudioSilence::default(),
            redundancy: AudioRedundancy::default(),
            loudest: LoudestSpeakers::default(),
            cc: Cc::default(),
            ssrc_limit: SsrcLimit::default(),
            http: Http::default(),
            public_http: Http::public(),
            http_access: HttpAccess::default(),
            web_sockets: WebSockets::default(),
            rest: Rest::default(),
            health: Health::default(),
            xmpp: Xmpp::default(),
            shutdown: Shutdown::default(),
            version: Version::default(),
            stats: Stats::default(),
            load: Load::default(),
            capture: Capture::default(),
            relays: false,
            stats_filter_threshold: 20,
            initial_drain_mode: false,
            redact_remote_addresses: true,
            tracing: Tracing::default(),
            engine: Engine::default(),
        }
    }
}

/// Limits on the SSRCs sent to a client whose SSRCs are rewritten (capability `ssrc-rewriting`). Each is a
/// track of the client, and a stream of up to 9 KiB in the bridge for each client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SsrcLimit {
    /// `video`: concurrent video SSRCs, however many the client asks for. 50.
    pub video: u16,
    /// `audio`: concurrent audio SSRCs; a new speaker replaces the one that has been silent longest. 50.
    pub audio: u16,
}

impl Default for SsrcLimit {
    fn default() -> Self {
        Self { video: 50, audio: 50 }
    }
}

/// ICE.
#[derive(Clone, PartialEq, Debug)]
pub struct Ice {
    /// `videobridge.ice.udp.port`: the one UDP port of all media. 10000; 0 lets the kernel choose.
    pub port: u16,
    /// `videobridge.ice.ufrag-prefix`: prefix of every local ufrag. Unset.
    pub ufrag_prefix: Option<String>,
    /// `videobridge.ice.advertise-private-candidates`: send private addresses to every client. true.
    pub advertise_private_candidates: bool,
    /// `videobridge.ice.resolve-remote-candidates`: resolve host names in candidates. false.
    pub resolve_remote_candidates: bool,
    /// `videobridge.ice.restart.*`.
    pub restart: IceRestart,
    /// `ice4j.consent-freshness.*`.
    pub consent: Consent,
}

impl Default for Ice {
    fn default() -> Self {
        Self {
            port: 10000,
            ufrag_prefix: None,
            advertise_private_candidates: true,
            resolve_remote_candidates: false,
            restart: IceRestart::default(),
            consent: Consent::default(),
        }
    }
}

/// ICE restarts (RFC 8445 section 9).
#[derive(Clone, PartialEq, Debug)]
pub struct IceRestart {
    /// Whether restarts requested by signalling are carried out. true.
    pub enabled: bool,
    /// How long the old transport still receives after the new one has taken over. 3 s.
    pub transition_window: Duration,
    /// How long the new transport may take to connect. 20 s.
    pub timeout: Duration,
}

impl Default for IceRestart {
    fn default() -> Self {
        Self {
            enabled: true,
            transition_window: Duration::from_secs(3),
            timeout: Duration::from_secs(20),
        }
    }
}

/// Consent freshness (RFC 7675).
#[derive(Clone, PartialEq, Debug)]
pub struct Consent {
    /// Interval of consent checks. 5 s.
    pub interval: Duration,
    /// Time before the first retransmission of a check. 500 ms.
    pub original_wait: Duration,
    /// Upper bound of the wait between retransmissions. 500 ms.
    pub max_wait: Duration,
    /// Retransmissions before consent counts as lost. 5.
    pub max_retransmissions: u32,
    /// Spread the interval over 0.8 to 1.2 of its length. true.
    pub randomize_interval: bool,
}

impl Default for Consent {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            original_wait: Duration::from_millis(500),
            max_wait: Duration::from_millis(500),
            max_retransmissions: 5,
            randomize_interval: true,
        }
    }
}

/// Which local addresses are used, and what is advertised for them.
#[derive(Clone, PartialEq, Debug)]
pub struct Harvest {
    /// `use-ipv6`. true.
    pub use_ipv6: bool,
    /// `use-link-local-addresses`. JVB sets it to false.
    pub use_link_local: bool,
    /// `allowed-addresses`: if not empty, only these.
    pub allowed_addresses: Vec<IpAddr>,
    /// `blocked-addresses`: never these.
    pub blocked_addresses: Vec<IpAddr>,
    /// `allowed-interfaces`: if not empty, only addresses of these.
    pub allowed_interfaces: Vec<String>,
    /// `blocked-interfaces`: never addresses of these.
    pub blocked_interfaces: Vec<String>,
    /// `udp.receive-buffer-size`, bytes; what the engine's socket buffers are by default. 10 MiB.
    pub receive_buffer: usize,
    /// `mapping.static-mappings`.
    pub static_mappings: Vec<StaticMapping>,
    /// `mapping.stun.addresses`: STUN servers (`host:port`) that are asked for this machine's public
    /// address.
    pub stun_servers: Vec<String>,
    /// `mapping.aws.enabled`: query Amazon's metadata service on Amazon's machines. true.
    pub aws: bool,
    /// `mapping.aws.force`: query it on all machines. false.
    pub aws_force: bool,
    /// Whether loopback addresses may be candidates. No key: `rialto dev` sets it; addresses listed in
    /// `allowed-addresses` are used in any case. false.
    pub loopback: bool,
}

impl Default for Harvest {
    fn default() -> Self {
        Self {
            use_ipv6: true,
            use_link_local: false,
            allowed_addresses: Vec::new(),
            blocked_addresses: Vec::new(),
            allowed_interfaces: Vec::new(),
            blocked_interfaces: Vec::new(),
            receive_buffer: 10 << 20,
            static_mappings: Vec::new(),
            stun_servers: Vec::new(),
            aws: true,
            aws_force: false,
            loopback: false,
        }
    }
}

/// A local address and the public address that maps to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticMapping {
    /// `local-address`.
    pub local: IpAddr,
    /// `public-address`.
    pub public: IpAddr,
    /// `local-port`: only candidates with this port are mapped.
    pub local_port: Option<u16>,
    /// `public-port`: advertised instead of the local port.
    pub public_port: Option<u16>,
    /// `name`, for logs.
    pub name: Option<String>,
}

/// When inactive conferences and endpoints expire.
#[derive(Clone, PartialEq, Debug)]
pub struct Expiration {
    /// Inactivity after which an endpoint or a conference expires. 1 min.
    pub timeout: Duration,
    /// Interval of the check. As `timeout` by default.
    pub check_interval: Duration,
}

impl Default for Expiration {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), check_interval: Duration::from_secs(60) }
    }
}

/// When an endpoint's connection counts as lost; the other endpoints are told.
#[derive(Clone, PartialEq, Debug)]
pub struct ConnectionStatus {
    /// Time after which an endpoint that has never sent anything counts as lost. 15 s.
    pub first_transfer_timeout: Duration,
    /// Time after which an endpoint that has stopped sending counts as lost. 8 s.
    pub max_inactivity: Duration,
    /// Interval of the check. 500 ms.
    pub check_interval: Duration,
}

impl Default for ConnectionStatus {
    fn default() -> Self {
        Self {
            first_transfer_timeout: Duration::from_secs(15),
            max_inactivity: Duration::from_secs(8),
            check_interval: Duration::from_millis(500),
        }
    }
}

/// DTLS.
#[derive(Clone, PartialEq, Debug)]
pub struct Dtls {
    /// Time after which a handshake has failed. 30 s.
    pub handshake_timeout: Duration,
    /// Hash function of the signalled certificate fingerprint. `sha-256`.
    pub local_fingerprint_hash: Hash,
    /// Hash functions accepted in a peer's fingerprint. sha-512, sha-384, sha-256, sha-1.
    pub accepted_fingerprint_hashes: Vec<Hash>,
}

impl Default for Dtls {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(30),
            local_fingerprint_hash: Hash::Sha256,
            accepted_fingerprint_hashes: Hash::ALL.to_vec(),
        }
    }
}

/// How much of a sender's silence is forwarded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AudioSilence {
    /// `discard-silence`: discard silent packets beyond the limit. true.
    pub discard: bool,
    /// `forwarded-silence-packets-limit`: consecutive silent packets that are forwarded. 3.
    pub forwarded: u32,
}

impl Default for AudioSilence {
    fn default() -> Self {
        Self { discard: true, forwarded: 3 }
    }
}

/// How redundant audio (RFC 2198) is handled for receivers that negotiated it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AudioRedundancy {
    /// `policy`: NOOP.
    pub policy: RedPolicy,
    /// `distance`: TWO.
    pub distance: RedDistance,
    /// `vad-only`: add redundancy only for packets in which the sender detected voice. true.
    pub vad_only: bool,
}

/// The handling of redundant audio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedPolicy {
    /// `NOOP`: forward redundancy unchanged.
    Noop,
    /// `STRIP`: remove redundancy for all receivers.
    Strip,
    /// `PROTECT_ALL`: add redundancy for receivers that lose packets.
    ProtectAll,
}

/// How many preceding packets are repeated in a redundant packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedDistance {
    /// `ONE`.
    One,
    /// `TWO`.
    Two,
}

impl Default for AudioRedundancy {
    fn default() -> Self {
        Self { policy: RedPolicy::Noop, distance: RedDistance::Two, vad_only: true }
    }
}

/// Whose audio is forwarded.
#[derive(Clone, PartialEq, Debug)]
pub struct LoudestSpeakers {
    /// `route-loudest-only`: forward only the audio of the loudest speakers. false.
    pub only: bool,
    /// `num-loudest`: number of loudest speakers in a conference. 3.
    pub speakers: u8,
    /// `always-route-dominant`: also forward the dominant speaker's audio. true.
    pub dominant: bool,
    /// `energy-expire-time`: a speaker that has been silent for this long is not one of the loudest. 150
    /// ms.
    pub expires: Duration,
    /// `energy-alpha-pct`: weight of a packet's level against the levels before it, percent. 50.
    pub alpha: u8,
}

impl Default for LoudestSpeakers {
    fn default() -> Self {
        Self {
            only: false,
            speakers: 3,
            dominant: true,
            expires: Duration::from_millis(150),
            alpha: 50,
        }
    }
}

/// SRTP.
#[derive(Clone, PartialEq, Debug)]
pub struct Srtp {
    /// Protection profiles that may be negotiated, best first, by their IANA names.
    pub protection_profiles: Vec<String>,
}

impl Default for Srtp {
    fn default() -> Self {
        Self {
            protection_profiles: ["SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_HMAC_SHA1_80"]
                .map(str::to_owned)
                .to_vec(),
        }
    }
}

/// SCTP, for the bridge channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sctp {
    /// Offer it to endpoints whose focus asks for it. true.
    pub enabled: bool,
    /// Maximum data channels of an endpoint. 1: the bridge uses only one.
    pub max_channels: u32,
}

impl Default for Sctp {
    fn default() -> Self {
        Self { enabled: true, max_channels: 1 }
    }
}

/// Limits on keyframe requests to senders.
#[derive(Clone, PartialEq, Debug)]
pub struct Keyframe {
    /// Minimum interval between a receiver's requests for a source. 200 ms.
    pub min_interval: Duration,
    /// Maximum of these requests in `max_request_interval`. 3.
    pub max_requests: u32,
    /// The window of `max_requests`. 10 s.
    pub max_request_interval: Duration,
    /// Minimum interval between all receivers' requests for a source. 200 ms.
    pub source_wide_min_interval: Duration,
    /// Maximum of these requests in `source_wide_max_request_interval`. 1.
    pub source_wide_max_requests: u32,
    /// The window of `source_wide_max_requests`. 200 ms.
    pub source_wide_max_request_interval: Duration,
}

impl Default for Keyframe {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_millis(200),
            max_requests: 3,
            max_request_interval: Duration::from_secs(10),
            source_wide_min_interval: Duration::from_millis(200),
            source_wide_max_requests: 1,
            source_wide_max_request_interval: Duration::from_millis(200),
        }
    }
}

/// Bridge channels over WebSockets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebSockets {
    /// `enabled`. false. Without the public server there are no WebSockets either.
    pub enabled: bool,
    /// `server-id`: identifies this bridge among others behind the same domain. `default-id`.
    pub server_id: String,
    /// `domains`, or `domain`: authorities (host, and port if needed) in the addresses that clients get.
    /// None.
    pub domains: Vec<String>,
    /// `tls`: the addresses are `wss:`. Default: whether the public server has TLS.
    pub tls: bool,
    /// `send-keepalive-pings`. true.
    pub pings: bool,
    /// `keepalive-ping-interval`. 15 s.
    pub ping_interval: Duration,
    /// `idle-timeout`: a client from which nothing has arrived for this long is disconnected. 60 s.
    pub idle_timeout: Duration,
}

impl WebSockets {
    /// Returns the prefixes of clients' WebSocket addresses, one for each domain.
    pub fn bases(&self) -> Vec<String> {
        let scheme = if self.tls { "wss" } else { "ws" };
        let base = |domain| format!("{scheme}://{domain}/colibri-ws/{}", self.server_id);
        self.domains.iter().map(base).collect()
    }
}

impl Default for WebSockets {
    fn default() -> Self {
        Self {
            enabled: false,
            server_id: "default-id".to_owned(),
            domains: Vec::new(),
            tls: false,
            pings: true,
            ping_interval: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// Which HTTP resources exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rest {
    /// `videobridge.apis.rest.enabled`: COLIBRI2 over HTTP and `/colibri/stats`. false.
    pub colibri: bool,
    /// `/debug`. true.
    pub debug: bool,
    /// `/colibri/drain`. true.
    pub drain: bool,
    /// `/about/health`. true.
    pub health: bool,
    /// `/metrics`. true.
    pub prometheus: bool,
    /// `/stats`, for collectors of conference statistics. true.
    pub rtcstats: bool,
    /// `videobridge.stats.transit-time.enable-prometheus`: export the forwarding delay under JVB's name
    /// too. false.
    pub transit_times: bool,
    /// `/colibri/shutdown`, if `colibri` too. false.
    pub shutdown: bool,
    /// `/about/version`. true.
    pub version: bool,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            colibri: false,
            debug: true,
            drain: true,
            health: true,
            prometheus: true,
            rtcstats: true,
            transit_times: false,
            shutdown: false,
            version: true,
        }
    }
}

/// Detection of silence in a conference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SilenceDetection {
    /// `enable-silence-detection`: tell clients that nobody speaks. false.
    pub enabled: bool,
    /// `silence-detection-timeout`: how long the dominant speaker must be silent first. 3 s.
    pub timeout: Duration,
}

impl Default for SilenceDetection {
    fn default() -> Self {
        Self { enabled: false, timeout: Duration::from_secs(3) }
    }
}

/// The health check.
#[derive(Clone, PartialEq, Debug)]
pub struct Health {
    /// Interval of checks. 1 min.
    pub interval: Duration,
    /// Age of the last check from which on health is a failure. 90 s.
    pub timeout: Duration,
    /// Duration of a check from which on it is a failure. 3 s.
    pub max_check_duration: Duration,
    /// A failure lasts until restart. false.
    pub sticky_failures: bool,
    /// Fail without a public address among the candidates. JVB: true.
    pub require_valid_address: bool,
    /// Fail when no STUN server has answered with the public address. false.
    pub require_stun: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(90),
            max_check_duration: Duration::from_secs(3),
            sticky_failures: false,
            require_valid_address: true,
            require_stun: false,
        }
    }
}

/// Graceful shutdown.
#[derive(Clone, PartialEq, Debug)]
pub struct Shutdown {
    /// Maximum wait for conferences to end. 24 h.
    pub graceful_max_duration: Duration,
    /// Shut down when at most this many participants are left. 0.
    pub graceful_min_participants: u32,
    /// Delay between announcing the shutdown and exiting. 1 min.
    pub shutting_down_delay: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            graceful_max_duration: Duration::from_secs(24 * 60 * 60),
            graceful_min_participants: 0,
            shutting_down_delay: Duration::from_secs(60),
        }
    }
}

/// What clients and statistics say about the version.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Version {
    /// Send the version to clients. false.
    pub announce: bool,
    /// `release`, as published in statistics. Unset.
    pub release: Option<String>,
}

/// Periodic statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Interval of measurements. 5 s.
    pub interval: Duration,
    /// Where the XMPP component publishes statistics. Nowhere.
    pub transports: Vec<StatsTransport>,
}

impl Default for Stats {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), transports: Vec::new() }
    }
}

/// `rialto.http`: access control of the private server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HttpAccess {
    /// `token`, or the content of the file `token-file` or of the variable `RIALTO_HTTP_TOKEN`: all
    /// requests but health need it as a bearer token (RFC 6750). None.
    pub token: Secret,
    /// `hosts`: names of the server in addition to its addresses and the machine's name. Requests with
    /// another name in `Host` are refused. None.
    pub hosts: Vec<String>,
}

/// `rialto.tracing`: traces of requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tracing {
    /// `otlp-endpoint`, or the variables `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: address of an OpenTelemetry collector that accepts traces over HTTP.
    /// Off.
    pub otlp_endpoint: Option<String>,
}

/// `rialto`: the packet engine and the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Engine {
    /// `rialto.shards`: engine threads; `None` is one per core.
    pub shards: Option<u16>,
    /// `rialto.engine.gso`: send bursts with `UDP_SEGMENT`. true.
    pub gso: bool,
    /// `rialto.engine.gro`: receive bursts with `UDP_GRO`. true.
    pub gro: bool,
    /// `rialto.engine.socket-buffer`: receive and send buffers of each socket, bytes. As
    /// `ice4j.harvest.udp.receive-buffer-size`.
    pub socket_buffer: usize,
    /// `rialto.engine.video-hold`: how long a video packet may wait for the rest of its frame. 3 ms.
    pub video_hold: Duration,
    /// `rialto.engine.audio-hold`: how long an audio packet may wait for packets of other talkers, if some
    /// are likely to arrive by then. 0: it does not wait.
    pub audio_hold: Duration,
    /// `rialto.max-conferences`: further conferences are refused. 10,000.
    pub max_conferences: u32,
    /// `rialto.max-endpoints` in all conferences: further endpoints are refused. 20,000.
    pub max_endpoints: u32,
    /// `rialto.sigterm-drain`: how long the process waits for conferences to end after SIGTERM. 0, as JVB:
    /// it exits at once.
    pub sigterm_drain: Duration,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            shards: None,
            gso: true,
            gro: true,
            socket_buffer: 10 << 20,
            video_hold: Duration::from_millis(3),
            audio_hold: Duration::ZERO,
            max_conferences: 10_000,
            max_endpoints: 20_000,
            sigterm_drain: Duration::ZERO,
        }
    }
}
