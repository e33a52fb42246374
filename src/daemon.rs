//! The running process: engine, transports, bridge and HTTP, put together and taken apart.

mod addresses;
mod servers;
mod xmpp;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
};

use rand::RngCore as _;
use rialto_engine::{
    self as engine, EngineConfig, EngineThreads, StartError,
    ingress::keyframe::{KeyframeLimits, RequestLimit},
};
use rialto_transport::{self as transport, HubError, StaticMapping, TransportConfig, Transports};

pub(crate) use servers::server_tls;
pub(crate) use xmpp::component_config;

use crate::{
    bridge::{Bridge, BridgeConfig, EngineCommands, HealthConfig, ShutdownConfig},
    channel::Limits,
    config::{self, Config},
    focus::{self, RoomLimits},
    http::{self, ListenError, Server, TlsError},
};

/// What is beyond configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The embedded focus and its page.
    pub focus: bool,
    /// The page on a server of its own, here. Otherwise the private server has it too, which is for
    /// loopback only: who reaches that server can end conferences.
    pub page: Option<SocketAddr>,
    /// Media on this address only; on all addresses otherwise.
    pub media_address: Option<IpAddr>,
    /// Certificate chain and key of the page's server, PEM: HTTPS instead of HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// What stopped the start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The private server cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The public server cannot listen.
    #[error(transparent)]
    ListenPublic(ListenError),
    /// The page's server cannot listen.
    #[error(transparent)]
    ListenPage(ListenError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The engine cannot start.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// Transports cannot be set up.
    #[error(transparent)]
    Transports(#[from] HubError),
    /// Anything else of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// A bridge that serves, until [`Daemon::stop`] or until it is dropped.
#[derive(Debug)]
pub struct Daemon {
    // In the order in which they end.
    server: Option<Server>,
    page_server: Option<Server>,
    public_server: Option<Server>,
    planes: xmpp::Planes,
    bridge: Bridge,
    media: Vec<SocketAddr>,
    threads: EngineThreads,
}

impl Daemon {
    /// Starts everything. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// An address that is in use or not ours, a certificate that cannot be used, or a system that
    /// refuses threads or sockets. Nothing is left running then.
    pub async fn start(config: &Config, options: &Options) -> Result<Self, DaemonError> {
        transport::set_redaction(config.redact_remote_addresses);
        // What fails most easily comes first.
        let servers = servers::Servers::open(config, options).await?;
        let running = engine::start(&engine_config(config, options.media_address))?;
        let media = running.engine.local_addrs().to_vec();
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let mut health = HealthConfig {
            sticky_failures: config.health.sticky_failures,
            absence: config.health.timeout,
            ..HealthConfig::default()
        };
        let settings = transport_config(config);
        let (transports, updates) =
            Transports::new(settings, EngineCommands::sink(running.engine.clone()), seed)?;
        if !options.focus {
            health.address_fault = addresses::watch(config, &transports).await;
        }
        tokio::spawn(transports.clone().run(running.transport_events));
        let bridge = Bridge::new(
            BridgeConfig { health, ..bridge_config(config) },
            running.engine,
            transports,
            running.media_events,
            updates,
        );
        let (report, connected) = xmpp::report(config, &bridge);
        let planes = xmpp::Planes::start(config, &report, connected, rand::rng().next_u64());
        let api = http::router(report, Some(planes.clients().clone()), &config.rest);
        let page = options.focus.then(|| focus::router(bridge.clone(), RoomLimits::default()));
        let channels = http::web_sockets(bridge.clone(), &config.web_sockets);
        let [server, page_server, public_server] = servers.start(config, api, page, channels)?;
        tracing::info!(
            media = ?media,
            http = ?server.as_ref().map(Server::addr),
            page = ?page_server.as_ref().map(Server::addr),
            web_sockets = ?public_server.as_ref().map(Server::addr),
            xmpp_clients = config.xmpp.clients.len(),
            xmpp_component = config.xmpp.component.is_some(),
            version = http::VERSION,
            "serving"
        );
        let threads = running.threads;
        Ok(Self { server, page_server, public_server, planes, bridge, media, threads })
    }

    /// The bridge, for those who ask it directly.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Where HTTP is served, with the real port; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::addr)
    }

    /// Where the page is, with the real port; `None` when there is none.
    pub fn page_addr(&self) -> Option<SocketAddr> {
        self.page_server.as_ref().or(self.server.as_ref()).map(Server::addr)
    }

    /// Where WebSockets are taken, with the real port; `None` when there are none.
    pub fn public_addr(&self) -> Option<SocketAddr> {
        self.public_server.as_ref().map(Server::addr)
    }

    /// Where media is received, with the real port.
    pub fn media_addrs(&self) -> &[SocketAddr] {
        &self.media
    }

    /// Leaves rooms and XMPP servers, within a second or so: nobody is sent here any more.
    pub async fn leave(&mut self) {
        self.planes.leave().await;
    }

    /// Ends now: no more requests, and every conference expires. The engine goes on until what this
    /// gives is dropped, which waits for its threads. Drop it after the runtime, so that nothing
    /// there takes the engine's end for a fault.
    #[must_use = "the engine runs until this is dropped"]
    pub fn stop(self) -> EngineThreads {
        drop(self.server);
        drop(self.page_server);
        drop(self.public_server);
        drop(self.planes);
        self.bridge.expire_all();
        self.threads
    }
}

/// Where WebSockets are taken, if they are.
pub(crate) fn public_address(config: &Config) -> Option<SocketAddr> {
    config.web_sockets.enabled.then(|| config.public_http.listen()).flatten()
}

/// Where media is received. `address`: there only.
pub(crate) fn media_addresses(config: &Config, address: Option<IpAddr>) -> Vec<SocketAddr> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    match address {
        Some(address) if !address.is_unspecified() => addresses = vec![address],
        _ if !config.harvest.use_ipv6 || !has_ipv6() => addresses.truncate(1),
        _ => {}
    }
    addresses.into_iter().map(|ip| SocketAddr::new(ip, config.ice.port)).collect()
}

fn engine_config(config: &Config, address: Option<IpAddr>) -> EngineConfig {
    let defaults = EngineConfig::default();
    EngineConfig {
        bind: media_addresses(config, address),
        shards: config.engine.shards.unwrap_or(defaults.shards),
        socket_buffer: config.engine.socket_buffer,
        gso: config.engine.gso,
        gro: config.engine.gro,
        video_hold: config.engine.video_hold,
        keyframes: keyframe_limits(&config.keyframe),
        silence: config.audio_silence,
        seed: rand::rng().next_u64(),
    }
}

fn keyframe_limits(config: &config::Keyframe) -> KeyframeLimits {
    KeyframeLimits {
        receiver: RequestLimit {
            min_interval: config.min_interval,
            max: config.max_requests as usize,
            window: config.max_request_interval,
        },
        source: RequestLimit {
            min_interval: config.source_wide_min_interval,
            max: config.source_wide_max_requests as usize,
            window: config.source_wide_max_request_interval,
        },
    }
}

/// Whether the kernel has IPv6: containers often do not.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

pub(crate) fn transport_config(config: &Config) -> TransportConfig {
    let (ice, harvest) = (&config.ice, &config.harvest);
    let defaults = TransportConfig::default();
    let named = harvest.allowed_addresses.iter().any(IpAddr::is_loopback);
    let mappings = harvest.static_mappings.iter().map(|mapping| StaticMapping {
        local: mapping.local,
        local_port: mapping.local_port,
        public: mapping.public,
        public_port: mapping.public_port,
    });
    TransportConfig {
        allowed_interfaces: harvest.allowed_interfaces.clone(),
        blocked_interfaces: harvest.blocked_interfaces.clone(),
        allowed_addresses: harvest.allowed_addresses.clone(),
        blocked_addresses: harvest.blocked_addresses.clone(),
        use_ipv6: harvest.use_ipv6,
        use_link_local: harvest.use_link_local,
        loopback: harvest.loopback || named,
        advertise_private: ice.advertise_private_candidates,
        static_mappings: mappings.collect(),
        ufrag_prefix: ice.ufrag_prefix.clone().unwrap_or_default(),
        resolve_remote_candidates: ice.resolve_remote_candidates,
        restart_enabled: ice.restart.enabled,
        restart_window: ice.restart.transition_window,
        restart_timeout: ice.restart.timeout,
        consent_interval: ice.consent.interval,
        consent_timeout: consent_timeout(&ice.consent).unwrap_or(defaults.consent_timeout),
        dtls_timeout: config.dtls.handshake_timeout,
        local_hash: config.dtls.local_fingerprint_hash,
        accepted_hashes: config.dtls.accepted_fingerprint_hashes.clone(),
        ..defaults
    }
}

/// How long consent lasts without an answer, when the operator has said how often a check is sent
/// again: the longest interval, then each wait. RFC 7675 section 5.1 ends it after 30 s.
fn consent_timeout(consent: &config::Consent) -> Option<std::time::Duration> {
    let longest = std::time::Duration::from_secs(30);
    (*consent != config::Consent::default()).then(|| {
        let waits = consent.max_wait.saturating_mul(consent.max_retransmissions);
        let interval = consent.interval.saturating_mul(6) / 5;
        interval.saturating_add(consent.original_wait).saturating_add(waits).min(longest)
    })
}

fn bridge_config(config: &Config) -> BridgeConfig {
    let defaults = EngineConfig::default();
    BridgeConfig {
        sctp: config.sctp.enabled,
        expiration_timeout: config.expiration.timeout,
        expiration_check_interval: config.expiration.check_interval,
        initial_drain: config.initial_drain_mode,
        shutdown: ShutdownConfig {
            graceful_max: config.shutdown.graceful_max_duration,
            min_participants: config.shutdown.graceful_min_participants as usize,
            delay: config.shutdown.shutting_down_delay,
        },
        initial_last_n: config.cc.initial_last_n,
        limits: Limits {
            initial_max_height: Some(config.cc.initial_max_height).filter(|height| *height >= 0),
            default_max_height: config.cc.default_max_height,
            last_n: usize::try_from(config.cc.jvb_last_n).ok(),
        },
        stats_filter_threshold: config.stats_filter_threshold as usize,
        recent_speakers: config.recent_speakers as usize,
        silence_after: config.silence.enabled.then_some(config.silence.timeout),
        first_transfer_timeout: config.connection_status.first_transfer_timeout,
        max_inactivity: config.connection_status.max_inactivity,
        activity_check_interval: config.connection_status.check_interval,
        web_sockets: web_socket_bases(config),
        announced_version: config.version.announce.then(|| xmpp::version(config).to_owned()),
        capture: config.capture.clone(),
        load: config.load,
        release: config.version.release.clone(),
        shards: config.engine.shards.unwrap_or(defaults.shards),
        max_conferences: config.engine.max_conferences as usize,
        max_endpoints: config.engine.max_endpoints as usize,
        seed: rand::rng().next_u64(),
        ..BridgeConfig::default()
    }
}

/// What WebSocket addresses begin with; none when nothing serves them.
fn web_socket_bases(config: &Config) -> Vec<String> {
    if public_address(config).is_some() { config.web_sockets.bases() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use rialto_engine::ingress::silence::SilenceLimit;

    use rialto_transport as transport;

    struct Text(&'static str);

    impl rialto_hocon::Source for Text {
        fn read(&self, path: &Path) -> io::Result<String> {
            let here = path == Path::new("jvb.conf");
            if here { Ok(self.0.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn configured(text: &'static str) -> Config {
        config::load(Some(Path::new("jvb.conf")), &[], &Text(text)).unwrap().config
    }

    #[test]
    fn the_defaults_of_the_parts_are_those_of_the_configuration() {
        let config = Config::default();
        assert_eq!(keyframe_limits(&config.keyframe), KeyframeLimits::default());
        let (ours, theirs) = (bridge_config(&config), BridgeConfig::default());
        assert_eq!(ours.first_transfer_timeout, theirs.first_transfer_timeout);
        assert_eq!(ours.max_inactivity, theirs.max_inactivity);
        assert_eq!(ours.activity_check_interval, theirs.activity_check_interval);
        assert_eq!(ours.expiration_timeout, theirs.expiration_timeout);
        assert_eq!(ours.recent_speakers, theirs.recent_speakers);
        assert_eq!(ours.silence_after, theirs.silence_after);
        let (ours, theirs) = (transport_config(&config), TransportConfig::default());
        assert_eq!(
            (ours.local_hash, ours.accepted_hashes),
            (theirs.local_hash, theirs.accepted_hashes)
        );
        assert_eq!(ours.consent_timeout, theirs.consent_timeout);
        assert_eq!(ours.restart_window, theirs.restart_window);
        assert_eq!(ours.restart_timeout, theirs.restart_timeout);
        assert_eq!(ours.dtls_timeout, theirs.dtls_timeout);
    }

    #[test]
    fn what_is_configured_reaches_the_parts() {
        let config = configured(
            "videobridge {\n\
               ep-connection-status { first-transfer-timeout = 7 s, max-inactivity-limit = 6 s\n\
                 check-interval = 100 ms }\n\
               entity-expiration { timeout = 50 s, check-interval = 40 s }\n\
               speech-activity { recent-speakers-count = 3, enable-silence-detection = true\n\
                 silence-detection-timeout = 2 s }\n\
               cc { initial-last-n = 4, jvb-last-n = 5 }\n\
               ice { ufrag-prefix = \"a:\", resolve-remote-candidates = true\n\
                 advertise-private-candidates = false\n\
                 restart { enabled = false, transition-window = 1 s, timeout = 2 s } }\n\
               initial-drain-mode = true, version { announce = true, release = r1 }\n\
               shutdown { graceful-shutdown-max-duration = 3 h, shutting-down-delay = 9 s\n\
                 graceful-shutdown-min-participants = 2 }\n\
             }\n\
             jmt { audio.level { discard-silence = false, forwarded-silence-packets-limit = 5 }\n\
               dtls { handshake-timeout = 8 s, local-fingerprint-hash-function = sha-512\n\
                 accepted-fingerprint-hash-functions = [ sha-256 ] }\n\
               keyframe { min-interval = 100 ms, max-requests = 9, max-request-interval = 5 s\n\
                 source-wide-min-interval = 50 ms, source-wide-max-requests = 2\n\
                 source-wide-max-request-interval = 1 s } }\n\
             ice4j { consent-freshness.interval = 4 s\n\
               harvest { use-ipv6 = false, use-link-local-addresses = true } }\n",
        );
        let (second, milli) = (Duration::from_secs(1), Duration::from_millis(1));
        let bridge = bridge_config(&config);
        assert_eq!(bridge.first_transfer_timeout, 7 * second);
        assert_eq!(bridge.max_inactivity, 6 * second);
        assert_eq!(bridge.activity_check_interval, 100 * milli);
        assert_eq!(bridge.expiration_timeout, 50 * second);
        assert_eq!(bridge.expiration_check_interval, 40 * second);
        assert_eq!((bridge.recent_speakers, bridge.initial_last_n), (3, 4));
        assert_eq!(bridge.silence_after, Some(2 * second));
        let silence = SilenceLimit { discard: false, forwarded: 5 };
        assert_eq!(engine_config(&config, None).silence, silence);
        assert_eq!(bridge.limits.last_n, Some(5));
        assert!(bridge.initial_drain && bridge.announced_version.is_some());
        assert_eq!(bridge.release.as_deref(), Some("r1"));
        assert_eq!(bridge.shutdown.graceful_max, 3 * 3600 * second);
        assert_eq!((bridge.shutdown.delay, bridge.shutdown.min_participants), (9 * second, 2));
        let transport = transport_config(&config);
        assert!(transport.resolve_remote_candidates && !transport.advertise_private);
        assert!(!transport.restart_enabled && !transport.use_ipv6 && transport.use_link_local);
        assert_eq!((transport.restart_window, transport.restart_timeout), (second, 2 * second));
        assert_eq!((transport.consent_interval, transport.dtls_timeout), (4 * second, 8 * second));
        assert_eq!(transport.ufrag_prefix, "a:");
        assert_eq!(transport.local_hash, transport::Hash::Sha512);
        assert_eq!(transport.accepted_hashes, [transport::Hash::Sha256]);
        let limit = |min_interval, max, window| RequestLimit { min_interval, max, window };
        let limits = KeyframeLimits {
            receiver: limit(100 * milli, 9, 5 * second),
            source: limit(50 * milli, 2, second),
        };
        assert_eq!(keyframe_limits(&config.keyframe), limits);
    }
}
