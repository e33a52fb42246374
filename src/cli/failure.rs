//! Errors that end the process, each with one line of text and an exit code.

use std::{io, net::SocketAddr, process::ExitCode};

use rialto_engine::StartError;
use rialto_hocon::Origin;

use crate::{
    config::{ConfigError, Effective},
    daemon::{DaemonError, KeyStoreError},
    http::ListenError,
};

/// An error that prevents the start. Each displays as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// An address cannot be bound.
    #[error("{}", address(protocol, *addr, source, change_port, change_address))]
    Address {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: io::Error,
        /// The flag or key that sets the port.
        change_port: &'static str,
        /// The flag or key that sets the address.
        change_address: &'static str,
    },
    /// The key store of a server cannot be used.
    #[error("HTTPS: {origin}{error}")]
    KeyStore {
        /// The position of the key, with a separator for the message.
        origin: String,
        /// The key, and the reason.
        error: Box<KeyStoreError>,
    },
    /// The certificate cannot be used.
    #[error("HTTPS: {0}")]
    Tls(#[from] crate::http::TlsError),
    /// The control API would be reachable from a network without a token.
    #[error(
        "--api {0} is open to others than this machine: put a token that requests have to show into \
         RIALTO_HTTP_TOKEN"
    )]
    NoToken(SocketAddr),
    /// The token of the control API would be too short.
    #[error(
        "--api {0} is open to others than this machine: the token in RIALTO_HTTP_TOKEN needs at least \
         {MIN_TOKEN} characters (openssl rand -hex 16)"
    )]
    ShortToken(SocketAddr),
    /// The control API and the page would have the same port.
    #[error(
        "--api {api} has the port of the page, {page}, on an address that overlaps: choose another port \
         by --api or --port"
    )]
    Overlap {
        /// The address of the control API.
        api: SocketAddr,
        /// The address of the page.
        page: SocketAddr,
    },
    /// Any other system error.
    #[error("{0}")]
    Other(String),
}

/// Minimum length, in characters, of the token of a control API that is reachable from a network: 64 bits
/// in hexadecimal.
pub(super) const MIN_TOKEN: usize = 16;

/// The flags or keys that change the addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remedies<'a> {
    /// The effective configuration with origins.
    pub effective: &'a [Effective],
    /// The private server.
    pub private: Listener,
    /// The public server.
    pub public: Listener,
    /// The page's server.
    pub page: Listener,
    pub udp_port: &'static str,
    pub udp_address: &'static str,
}

/// The flags or keys that set the address of an HTTP server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    pub port: &'static str,
    pub address: &'static str,
}

impl Failure {
    /// 78 (`EX_CONFIG`, as JVB: its systemd unit does not restart on it) when the configuration must
    /// be changed first, 1 otherwise.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::Tls(_)
            | Self::KeyStore { .. }
            | Self::NoToken(_)
            | Self::ShortToken(_)
            | Self::Overlap { .. } => ExitCode::from(78),
            Self::Address { .. } | Self::Other(_) => ExitCode::FAILURE,
        }
    }

    pub(super) fn start(error: DaemonError, remedies: Remedies<'_>) -> Self {
        match error {
            DaemonError::Listen(error) => Self::listen(error, remedies.private),
            DaemonError::ListenPublic(error) => Self::listen(error, remedies.public),
            DaemonError::ListenPage(error) => Self::listen(error, remedies.page),
            DaemonError::Engine(StartError::Bind { addr, source }) => Self::Address {
                protocol: "UDP",
                addr,
                source,
                change_port: remedies.udp_port,
                change_address: remedies.udp_address,
            },
            DaemonError::Tls(error) => Self::Tls(error),
            DaemonError::KeyStore(error) => Self::key_store(error, remedies.effective),
            other => Self::Other(other.to_string()),
        }
    }

    /// Makes the error of a key store, with the position of the key if a file sets it.
    pub(super) fn key_store(error: KeyStoreError, effective: &[Effective]) -> Self {
        let written = effective.iter().find(|value| value.key == error.key);
        let written = written.filter(|value| value.origin != Origin::Default);
        let origin = written.map_or(String::new(), |value| format!("{}: ", value.origin));
        Self::KeyStore { origin, error: Box::new(error) }
    }

    fn listen(ListenError { addr, source }: ListenError, remedy: Listener) -> Self {
        let (change_port, change_address) = (remedy.port, remedy.address);
        Self::Address { protocol: "TCP", addr, source, change_port, change_address }
    }
}

fn address(
    protocol: &str,
    addr: SocketAddr,
    source: &io::Error,
    change_port: &str,
    change_address: &str,
) -> String {
    let (ip, port) = (addr.ip(), addr.port());
    match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{protocol} port {port} on {ip} is in use: stop what uses it, or choose another by \
             {change_port}"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{protocol} port {port} on {ip} is not permitted to this user: choose one above 1023 by \
             {change_port}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{ip} is not an address of this machine: choose one by {change_address}")
        }
        _ => format!("cannot use {protocol} {addr}: {source}"),
    }
}
