//! The running process: engine, transports, bridge and HTTP, put together and taken apart.

mod addresses;
mod map;
mod xmpp;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use rand::RngCore as _;
use rialto_engine::{self as engine, EngineThreads, StartError};
use rialto_transport::{self as transport, HubError, Transports};
use tokio_rustls::rustls::ServerConfig;

pub(crate) use map::{harvest_config, media_addresses, transport_config};
pub(crate) use xmpp::component_config;

use crate::{
    bridge::{Bridge, BridgeConfig, EngineCommands, HealthConfig},
    config::{self, Config, ServerKeys},
    focus,
    http::{self, ListenError, Server, TlsError, TlsPart},
};

/// What is beyond configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The embedded focus and its page.
    pub focus: bool,
    /// Media on this address only; on all addresses otherwise.
    pub media_address: Option<IpAddr>,
    /// Certificate chain and key, PEM: HTTPS instead of HTTP.
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
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key store of a server cannot be used.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
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

/// A key store that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {source}")]
pub struct KeyStoreError {
    /// The key that has to be changed.
    pub key: &'static str,
    /// Why.
    pub source: TlsError,
}

impl KeyStoreError {
    fn of(keys: &ServerKeys, source: TlsError) -> Self {
        let key = match source.part() {
            TlsPart::KeyStore => keys.key_store_path,
            TlsPart::Password => keys.key_store_password,
            TlsPart::ClientAuth => keys.need_client_auth,
            TlsPart::CipherSuites => keys.tls_cipher_suites,
        };
        Self { key, source }
    }
}

/// A bridge that serves, until [`Daemon::stop`] or until it is dropped.
#[derive(Debug)]
pub struct Daemon {
    // In the order in which they end.
    server: Option<Server>,
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
        let (mut tls, public_tls) = server_tls(config)?;
        if let Some((certificate, key)) = &options.tls {
            tls = Some(http::tls_config(certificate, key)?);
        }
        let listener = match config.http.listen() {
            Some(addr) => Some(http::bind(addr).await?),
            None => None,
        };
        let public = match public_address(config) {
            Some(addr) => Some(http::bind(addr).await.map_err(DaemonError::ListenPublic)?),
            None => None,
        };
        let running = engine::start(&map::engine_config(config, options.media_address))?;
        let media = running.engine.local_addrs().to_vec();
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let mut health = HealthConfig {
            sticky_failures: config.health.sticky_failures,
            absence: config.health.timeout,
            ..HealthConfig::default()
        };
        let settings = map::transport_config(config);
        let (transports, updates) =
            Transports::new(settings, EngineCommands::sink(running.engine.clone()), seed)?;
        if !options.focus {
            health.address_fault = addresses::watch(config, &transports).await;
        }
        tokio::spawn(transports.clone().run(running.transport_events));
        let bridge = Bridge::new(
            BridgeConfig { health, ..map::bridge_config(config) },
            running.engine,
            transports,
            running.media_events,
            updates,
        );
        let (report, connected) = xmpp::report(config, &bridge);
        let planes = xmpp::Planes::start(config, &report, connected, rand::rng().next_u64());
        let mut server = None;
        if let Some(listener) = listener {
            let mut router = http::router(report, Some(planes.clients().clone()), &config.rest);
            if options.focus {
                let limits = focus::RoomLimits::default();
                router = router.merge(focus::router(bridge.clone(), limits));
            }
            let what = "cannot serve HTTP";
            let started = Server::start(listener, router, tls)
                .map_err(|source| DaemonError::System { what, source })?;
            server = Some(started);
        }
        let mut public_server = None;
        if let Some(listener) = public {
            let router = http::web_sockets(bridge.clone(), &config.web_sockets);
            let what = "cannot serve WebSockets";
            let started = Server::start(listener, router, public_tls)
                .map_err(|source| DaemonError::System { what, source })?;
            public_server = Some(started);
        }
        tracing::info!(
            media = ?media,
            http = ?server.as_ref().map(Server::addr),
            web_sockets = ?public_server.as_ref().map(Server::addr),
            xmpp_clients = config.xmpp.clients.len(),
            xmpp_component = config.xmpp.component.is_some(),
            version = http::VERSION,
            "serving"
        );
        Ok(Self { server, public_server, planes, bridge, media, threads: running.threads })
    }

    /// The bridge, for those who ask it directly.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Where HTTP is served, with the real port; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::addr)
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

/// What the private and the public server speak, where they listen and have key stores.
pub(crate) fn server_tls(config: &Config) -> Result<(ServerTls, ServerTls), KeyStoreError> {
    let private = config.http.listen().is_some();
    let public = public_address(config).is_some();
    let read = |listens, http: &config::Http, keys| {
        let tls = if listens { http::server_tls(&http.tls) } else { Ok(None) };
        tls.map_err(|error| KeyStoreError::of(keys, error))
    };
    let private = read(private, &config.http, &config::PRIVATE)?;
    Ok((private, read(public, &config.public_http, &config::PUBLIC)?))
}

/// TLS of a server that has it.
type ServerTls = Option<Arc<ServerConfig>>;
