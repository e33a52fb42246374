//! The bridge as a user of XMPP servers: it logs in, joins the rooms where focuses look for bridges
//! (their breweries), says there how it is, and answers what a focus asks.
//!
//! `login` and `session` know the protocol and do no I/O; `connection` carries bytes and time to
//! them, and comes back for ever. Media does not depend on any of it.

mod connection;
mod counts;
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
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use minidom::Element;
use rand::Rng as _;
use tokio::{sync::watch, task::JoinHandle};

pub use counts::MucCounts;
pub use sasl::SaslError;

use super::iq::About;
use crate::{
    bridge::{Bridge, SelfReport},
    config::{Secret, SourcePattern, Xmpp, XmppClient, XmppSecurity},
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
    let wire::Established { mut wire, bound } = wire::establish(client, None).await?;
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
    /// The resource to bind; one of the server's choice otherwise.
    pub resource: Option<String>,
}

/// All connections as a user, each of which can come and go. Clones are the same. They end with
/// [`XmppClients::leave`], or with the runtime.
#[derive(Clone, Debug)]
pub struct XmppClients(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bridge: Bridge,
    about: About,
    /// Who may ask, where a client does not say it itself.
    authorized: Option<SourcePattern>,
    counts: MucCounts,
    stats: watch::Receiver<Element>,
    publisher: JoinHandle<()>,
    running: Mutex<BTreeMap<String, Running>>,
}

/// A client and its connection.
#[derive(Debug)]
struct Running {
    client: XmppClient,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl XmppClients {
    /// Connects every client of the configuration, for ever. Must be called in a tokio runtime.
    ///
    /// `counts` will be of these clients; `report` is what goes into presence; `about` is told to whom
    /// asks.
    pub fn start(config: &Xmpp, report: &SelfReport, about: &About, counts: MucCounts) -> Self {
        let publisher = Publisher {
            report: report.clone(),
            interval: config.presence_interval,
            whitelist: config.whitelist.clone(),
        };
        let (stats, published) = watch::channel(publisher.stats());
        let clients = Self(Arc::new(Inner {
            bridge: report.bridge().clone(),
            about: about.clone(),
            authorized: config.authorized.clone(),
            counts,
            stats: published,
            publisher: tokio::spawn(publisher.run(stats)),
            running: Mutex::default(),
        }));
        for client in &config.clients {
            clients.add(client.clone());
        }
        clients
    }

    /// Connects one more. One of the same id is left first, unless it is at the same server with the
    /// same account already.
    pub fn add(&self, mut client: XmppClient) {
        client.authorized = client.authorized.or_else(|| self.0.authorized.clone());
        let mut running = lock(&self.0.running);
        if let Some(old) = running.get(&client.id) {
            if old.client.is_same_account(&client) {
                return;
            }
            let _ = old.stop.send(true);
        }
        let (stop, stopped) = watch::channel(false);
        let connection = Connection {
            about: self.0.about.clone(),
            bridge: self.0.bridge.clone(),
            stats: self.0.stats.clone(),
            stop: stopped,
            counts: self.0.counts.clone(),
            state: self.0.counts.add(&client),
            client: client.clone(),
            resource: resource(),
        };
        let task = tokio::spawn(connection.run());
        running.insert(client.id.clone(), Running { client, stop, task });
    }

    /// Leaves one; whether there was one of this id.
    pub fn remove(&self, id: &str) -> bool {
        let Some(gone) = lock(&self.0.running).remove(id) else { return false };
        self.0.counts.remove(id);
        let _ = gone.stop.send(true);
        true
    }

    /// The ids of all.
    pub fn list(&self) -> Vec<String> {
        lock(&self.0.running).keys().cloned().collect()
    }

    /// What they are connected to.
    pub fn counts(&self) -> MucCounts {
        self.0.counts.clone()
    }

    /// Leaves rooms, closes streams, and waits a second for that at the longest.
    pub async fn leave(&self) {
        let running = std::mem::take(&mut *lock(&self.0.running));
        let all = async {
            for Running { stop, task, .. } in running.into_values() {
                let _ = stop.send(true);
                // One that panicked has nothing to leave.
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, all).await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.publisher.abort();
        for running in lock(&self.running).values() {
            running.task.abort();
        }
    }
}

/// A resource that nobody who does not share a room with us can guess.
fn resource() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// Locks; a panic elsewhere does not make the data wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
