//! The bridge as a component of an XMPP server (XEP-0114): it has its own domain, answers requests there, and
//! publishes statistics to a pubsub node.
//!
//! `session` decides what is published and does no I/O; the driver passes stanzas and time to it, and
//! reconnects for ever.

pub(crate) mod fuzz;
mod link;
mod pubsub;
mod session;

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{answers::Answers, cause::Cause, driver::Driver, login::Account};
use crate::config::{Secret, SourcePattern};
use session::Session;

pub use link::Link;
pub use session::Statistics;

/// How long leaving may take.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// The configuration of the component (`videobridge.apis.xmpp-component`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ComponentConfig {
    /// `host`: of the XMPP server. The domain, or `localhost` without one.
    pub host: String,
    /// `port`. 5275; Prosody's is 5347.
    pub port: u16,
    /// `domain`: of the XMPP server. Unset: the component's JID is the subdomain alone.
    pub domain: Option<String>,
    /// `subdomain`. `jitsi-videobridge`.
    pub subdomain: String,
    /// `secret`, shared with the server.
    pub secret: Secret,
    /// Who may ask.
    pub allowed: Allowed,
    /// Where statistics go (`videobridge.stats.transports`).
    pub publish: Vec<Publish>,
}

/// Who may ask the component, by their full JIDs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// For conferences and health; unset: everybody.
    pub ask: Option<SourcePattern>,
    /// For the shutdown of the bridge; unset: as `ask`, or nobody without that.
    pub shutdown: Option<SourcePattern>,
}

/// A destination of statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// The interval.
    pub interval: Duration,
    /// The destination.
    pub to: Place,
}

/// Where statistics go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A node of a pubsub service (XEP-0060), which is made when it is not there.
    Node {
        /// The service's JID.
        service: String,
        /// The node.
        node: String,
    },
    /// Pushed to the focus of every conference.
    Focus,
}

impl ComponentConfig {
    /// The component's JID.
    pub fn jid(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{}.{domain}", self.subdomain),
            None => self.subdomain.clone(),
        }
    }
}

/// The component. It ends when this is dropped.
#[derive(Debug)]
pub struct Component {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Component {
    /// Connects and serves, for ever. Must be called in a tokio runtime.
    ///
    /// `answers` answers requests, `statistics` is published, `link` reports whether the component is
    /// connected.
    pub fn start(
        config: ComponentConfig,
        answers: Arc<dyn Answers>,
        statistics: Arc<dyn Statistics>,
        link: Link,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let driver = Driver {
            answers,
            authorized: None,
            purpose: Session::new(&config.publish, statistics, link),
            account: Account::Component(Box::new(config)),
            stop: stopped,
        };
        Self { stop, task: tokio::spawn(driver.run()) }
    }

    /// Leaves the server, and waits for that for a second at the longest.
    pub async fn leave(&mut self) {
        self.stop.send_replace(true);
        let _ = timeout(LEAVE_TIME, &mut self.task).await;
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Logs in with the secret and disconnects, for a check of the configuration.
///
/// # Errors
/// Why the server does not let the component in.
pub async fn probe(config: &ComponentConfig) -> Result<(), Cause> {
    let account = Account::Component(Box::new(config.clone()));
    let mut entered = account.enter(None).await?;
    let _ = timeout(LEAVE_TIME, entered.wire.close()).await;
    Ok(())
}

#[cfg(test)]
mod tests;
