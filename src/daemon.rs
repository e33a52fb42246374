//! The running process: starts and stops engine, transports, bridge and HTTP servers.

mod addresses;
mod map;
mod servers;
mod xmpp;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use rand::RngCore as _;
use rialto_engine::{self as engine, EngineThreads, StartError};
use rialto_transport::{self as transport, HubError, Transports};

pub(crate) use map::{harvest_config, media_addresses, transport_config};
pub(crate) use servers::server_tls;
pub(crate) use xmpp::component_config;

use crate::{
    bridge::{Bridge, BridgeConfig, EngineCommands, HealthConfig},
    config::{Config, ServerKeys},
    focus::{self, RoomLimits},
    http::{self, ListenError, Server, TlsError, TlsPart},
};

/// Options that are not configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Run the built-in focus and its page.
    pub focus: bool,
    /// Address of a separate server for the page. Without it the private server has the page too, which is
    /// for loopback only: whoever reaches that server can end conferences.
    pub page: Option<SocketAddr>,
    /// Receive media on this address only; on all addresses otherwise.
    pub media_address: Option<IpAddr>,
    /// Certificate chain and key of the page's server, PEM: HTTPS instead of HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Why the process could not start.
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
    /// The key store of a server cannot be used.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// The engine cannot start.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// Transports cannot be set up.
    #[error(transparent)]
    Transports(#[from] HubError),
    /// Any other system error.
    #[error("{what}: {source}")]
    System {
        /// The failed operation.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// A key store that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {source}")]
pub struct KeyStoreError {
    /// The key to change.
    pub key: &'static str,
    /// The reason.
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

/// Limit on the end of conferences. They end at once unless one is stuck, which must not keep the process
/// alive.
const EXPIRY: Duration = Duration::from_secs(2);

/// A running bridge. It serves until [`Daemon::stop`] or until it is dropped.
#[derive(Debug)]
pub struct Daemon {
    // Dropped in this order.
    server: Option<Server>,
    page_server: Option<Server>,
    public_server: Option<Server>,
    xmpp: xmpp::XmppConnections,
    bridge: Bridge,
    media: Vec<SocketAddr>,
    threads: EngineThreads,
}

impl Daemon {
    /// Starts everything. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// An address that is in use or not local, a certificate that cannot be used, or threads or sockets
    /// that the system refuses. Nothing is left running then.
    pub async fn start(config: &Config, options: &Options) -> Result<Self, DaemonError> {
        transport::set_redaction(config.redact_remote_addresses);
        // The most likely failures come first.
        let servers = servers::Servers::open(config, options)?;
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
        let xmpp = xmpp::XmppConnections::start(config, &report, connected, rand::rng().next_u64());
        let root = !options.focus || options.page.is_some();
        let clients = xmpp.clients().clone();
        let api = http::router(report, Some(clients), &config.rest, root);
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
        Ok(Self { server, page_server, public_server, xmpp, bridge, media, threads })
    }

    /// Returns the bridge.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Returns the private server's address with the real port; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::addr)
    }

    /// Returns the page's address with the real port; `None` when there is none.
    pub fn page_addr(&self) -> Option<SocketAddr> {
        self.page_server.as_ref().or(self.server.as_ref()).map(Server::addr)
    }

    /// Returns the public server's address with the real port; `None` when it is off.
    pub fn public_addr(&self) -> Option<SocketAddr> {
        self.public_server.as_ref().map(Server::addr)
    }

    /// Returns the addresses at which media is received, with the real port.
    pub fn media_addrs(&self) -> &[SocketAddr] {
        &self.media
    }

    /// Leaves rooms and XMPP servers, within about a second: no focus sends new conferences here.
    pub async fn leave(&mut self) {
        self.xmpp.leave().await;
    }

    /// Stops now: no more requests, and every conference expires. The engine runs until the returned value
    /// is dropped, which waits for its threads. Drop it after the runtime, so that no task takes the
    /// engine's end for a failure.
    #[must_use = "the engine runs until this is dropped"]
    pub async fn stop(self) -> EngineThreads {
        drop(self.server);
        drop(self.page_server);
        drop(self.public_server);
        drop(self.xmpp);
        if tokio::time::timeout(EXPIRY, self.bridge.expire_all()).await.is_err() {
            tracing::error!("a conference does not end");
        }
        self.threads
    }
}

/// Returns the address of the public server, if it is on.
pub(crate) fn public_address(config: &Config) -> Option<SocketAddr> {
    config.web_sockets.enabled.then(|| config.public_http.listen()).flatten()
}
