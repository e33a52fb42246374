//! The bridge as a user of XMPP servers: it logs in, joins the rooms where focuses look for bridges
//! (their breweries), says there how it is, and answers what a focus asks.
//!
//! `login` and `session` know the protocol and do no I/O; `connection` carries bytes and time to
//! them, and comes back for ever. Media does not depend on any of it.

mod connection;
pub(crate) mod fuzz;
mod login;
mod publish;
mod room;
mod sasl;
mod session;
mod tls;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinHandle};

pub use sasl::SaslError;

use super::iq::About;
use crate::{
    bridge::SelfReport,
    config::{Secret, Xmpp, XmppClient, XmppSecurity},
    stats::Mucs,
};
use connection::Connection;
use publish::Publisher;

/// How long leaving may take: a server that does not answer learns from the closed connection.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no connection. Each says what an operator has to look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// DNS has no address of the host.
    #[error("the host name has no address: {0}")]
    Unresolved(String),
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// TLS did not begin, or the certificate is not good.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// TLS is required here and not offered there.
    #[error("the server offers no TLS, and SECURITY_MODE is required")]
    NoTls,
    /// No mechanism in common. PLAIN is only used over TLS, or where TLS is disabled.
    #[error("the server offers no way to log in that can be used here: {0:?}")]
    NoMechanism(String),
    /// The server does not take them.
    #[error("wrong user name or password")]
    Credentials,
    /// The server did its part of the login wrong.
    #[error("login failed: {0}")]
    Sasl(#[from] SaslError),
    /// The server does not serve the domain.
    #[error("the server does not know this domain (host-unknown): is DOMAIN right?")]
    HostUnknown,
    /// The server refused something else.
    #[error("{what} refused: {condition} {text}")]
    Refused {
        /// What.
        what: &'static str,
        /// The condition's name.
        condition: String,
        /// The server's words.
        text: String,
    },
    /// The server ended the stream and said why.
    #[error("the server ended the stream: {condition} {text}")]
    Stream {
        /// The condition's name.
        condition: String,
        /// The server's words.
        text: String,
    },
    /// What came is not XMPP as it should be.
    #[error("not understood: {0}")]
    Protocol(String),
    /// The login took too long.
    #[error("the server did not answer in time")]
    Timeout,
    /// The server does not answer pings.
    #[error("the server is silent")]
    Silent,
    /// The server does not take what is sent.
    #[error("the server does not read")]
    Slow,
    /// The connection or the stream was closed.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Logs in and out again: the address that the server gave.
///
/// # Errors
/// What an operator has to look at.
pub async fn probe(client: &XmppClient) -> Result<String, Cause> {
    let wire::Established { mut wire, bound } = wire::establish(client).await?;
    wire.close().await;
    Ok(bound.jid)
}

/// Who logs in, and how.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub domain: String,
    pub username: String,
    pub password: Secret,
    pub security: XmppSecurity,
}

/// What clients are connected to and where they are, for statistics. Clones show the same.
#[derive(Clone, Debug)]
pub struct MucCounts(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    clients: Vec<ClientState>,
    disconnects: AtomicU64,
    /// Since when no room is joined.
    absent: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
pub(super) struct ClientState {
    rooms: usize,
    connected: AtomicBool,
    joined: AtomicUsize,
}

impl ClientState {
    fn set(&self, connected: bool, joined: usize) {
        self.connected.store(connected, Ordering::Relaxed);
        self.joined.store(joined, Ordering::Relaxed);
    }
}

impl MucCounts {
    /// Of clients that are not connected yet.
    pub fn new(clients: &[XmppClient]) -> Self {
        let states = clients
            .iter()
            .map(|client| ClientState { rooms: client.rooms.len(), ..ClientState::default() });
        let clients: Vec<ClientState> = states.collect();
        let rooms: usize = clients.iter().map(|client| client.rooms).sum();
        let absent = Mutex::new((rooms > 0).then(now));
        Self(Arc::new(Counts { clients, disconnects: AtomicU64::new(0), absent }))
    }

    /// A client's state is another now.
    pub(super) fn set(&self, client: usize, connected: bool, joined: usize) {
        let Some(state) = self.0.clients.get(client) else { return };
        state.set(connected, joined);
        let anywhere = self.0.clients.iter().any(|c| c.joined.load(Ordering::Relaxed) > 0);
        let mut absent = self.0.absent.lock().unwrap_or_else(PoisonError::into_inner);
        *absent = if anywhere { None } else { absent.or_else(|| Some(now())) };
    }

    /// A connection was lost.
    pub(super) fn lost(&self) {
        self.0.disconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// As it is now.
    pub fn read(&self) -> Mucs {
        let absent = *self.0.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mucs = Mucs {
            clients_configured: self.0.clients.len(),
            disconnects: self.0.disconnects.load(Ordering::Relaxed),
            absent_for: absent.map(|since| now().saturating_duration_since(since)),
            ..Mucs::default()
        };
        for state in &self.0.clients {
            mucs.clients_connected += usize::from(state.connected.load(Ordering::Relaxed));
            mucs.configured += state.rooms;
            mucs.joined += state.joined.load(Ordering::Relaxed);
        }
        mucs
    }
}

/// All connections as a user. They end when this is dropped; [`XmppClients::leave`] is politer.
#[derive(Debug)]
pub struct XmppClients {
    stop: watch::Sender<bool>,
    connections: Vec<JoinHandle<()>>,
    publisher: JoinHandle<()>,
    counts: MucCounts,
}

impl XmppClients {
    /// Connects every client of the configuration, for ever. Must be called in a tokio runtime.
    ///
    /// `counts` is of these clients; `report` is what goes into presence; `about` is told to whom asks.
    pub fn start(config: &Xmpp, report: &SelfReport, about: &About, counts: MucCounts) -> Self {
        let (stop, stopped) = watch::channel(false);
        let publisher = Publisher {
            report: report.clone(),
            interval: config.presence_interval,
            whitelist: config.whitelist.clone(),
        };
        let (stats, published) = watch::channel(publisher.stats());
        let publisher = tokio::spawn(publisher.run(stats));
        let connections = config.clients.iter().enumerate().map(|(index, client)| {
            let connection = Connection {
                client: client.clone(),
                about: about.clone(),
                bridge: report.bridge().clone(),
                stats: published.clone(),
                stop: stopped.clone(),
                counts: counts.clone(),
                index,
            };
            tokio::spawn(connection.run())
        });
        let connections = connections.collect();
        Self { stop, connections, publisher, counts }
    }

    /// What they are connected to.
    pub fn counts(&self) -> MucCounts {
        self.counts.clone()
    }

    /// Leaves rooms, closes streams, and waits a second for that at the longest.
    pub async fn leave(&mut self) {
        let _ = self.stop.send(true);
        let connections = std::mem::take(&mut self.connections);
        let all = async {
            for connection in connections {
                // One that panicked has nothing to leave.
                let _ = connection.await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, all).await;
    }
}

impl Drop for XmppClients {
    fn drop(&mut self) {
        self.publisher.abort();
        for connection in &self.connections {
            connection.abort();
        }
    }
}

/// The time, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
