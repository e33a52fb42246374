//! The bridge as a client of XMPP servers: it logs in, joins the rooms where focuses look for bridges
//! (breweries), publishes its statistics there in presence, and answers requests.
//!
//! `session` keeps the rooms and does no I/O; the driver passes stanzas and time to it, and reconnects for
//! ever. Media does not depend on any of it.

mod counts;
pub(crate) mod fuzz;
mod resource;
mod room;
mod rooms;
mod session;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use minidom::Element;
use tokio::{sync::watch, task::JoinHandle};

pub use super::cause::Cause;
pub use counts::MucCounts;

use super::{
    answers::Answers,
    driver::Driver,
    login::{Account, Session as Begun},
};
use crate::config::{SourcePattern, Xmpp, XmppClient};
use rooms::Rooms;

/// How long leaving may take: a server that does not answer learns from the closed connection.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Logs in and out again, and returns the address that the server assigned.
///
/// # Errors
/// The cause that an operator has to check.
pub async fn probe(client: &XmppClient) -> Result<String, Cause> {
    let account = Account::Client(Box::new(client.clone()), None);
    let mut entered = account.enter(None).await?;
    let _ = tokio::time::timeout(LEAVE_TIMEOUT, entered.wire.close()).await;
    match entered.session {
        Begun::New { jid, .. } => Ok(jid),
        // Nothing was there to go on with.
        Begun::Resumed(_) => Ok(String::new()),
    }
}

/// All connections as a user, each of which can come and go. Clones are the same. They end with
/// [`XmppClients::leave`], or with the runtime.
#[derive(Clone)]
pub struct XmppClients(Arc<Inner>);

struct Inner {
    answers: Arc<dyn Answers>,
    /// Who may send requests, where a client's configuration does not set it.
    authorized: Option<SourcePattern>,
    counts: MucCounts,
    stats: watch::Receiver<Element>,
    running: Mutex<BTreeMap<String, Running>>,
}

/// A client and its connection.
#[derive(Debug)]
struct Running {
    client: XmppClient,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for XmppClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("XmppClients").field(&self.list()).finish()
    }
}

impl XmppClients {
    /// Connects every client of the configuration, for ever. Must be called in a tokio runtime.
    ///
    /// `answers` answers requests, `stats` is published, `counts` is updated for these clients.
    pub fn start(
        config: &Xmpp,
        answers: Arc<dyn Answers>,
        stats: watch::Receiver<Element>,
        counts: MucCounts,
    ) -> Self {
        let clients = Self(Arc::new(Inner {
            answers,
            authorized: config.authorized.clone(),
            counts,
            stats,
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
        let resource = resource::of(&client);
        let driver = Driver {
            account: Account::Client(Box::new(client.clone()), Some(resource)),
            answers: self.0.answers.clone(),
            authorized: client.authorized.clone(),
            purpose: Rooms::new(&client, self.0.stats.clone(), self.0.counts.clone()),
            stop: stopped,
        };
        let task = tokio::spawn(driver.run());
        running.insert(client.id.clone(), Running { client, stop, task });
    }

    /// Leaves one, and returns whether there was one of this id.
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
                // A task that panicked has nothing to leave.
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, all).await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for running in lock(&self.running).values() {
            running.task.abort();
        }
    }
}

/// Locks; a panic elsewhere does not make the data wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
