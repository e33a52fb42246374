//! The bridge as a component of an XMPP server (XEP-0114): it has a domain of its own, answers
//! COLIBRI 1 there, and publishes how busy it is to a pubsub node.
//!
//! `session::Session` is the connection without I/O; [`Component`] gives it a socket, and another
//! one when that is lost.

mod driver;
pub(crate) mod fuzz;
mod link;
mod pubsub;
mod requests;
mod session;

use std::time::Duration;

use crate::config::{Secret, SourcePattern};

pub use driver::{Component, Services, probe};
pub use link::Link;
pub use session::Lost;

/// The namespace of stanzas between a component and its server.
pub const NAMESPACE: &str = "jabber:component:accept";

/// How the bridge is a component (`videobridge.apis.xmpp-component`).
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
    /// `secret`, which the server knows too.
    pub secret: Secret,
    /// Who may ask.
    pub allowed: Allowed,
    /// Where statistics go (`videobridge.stats.transports`).
    pub publish: Vec<Publish>,
}

/// Who may ask the component, by their full JIDs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// For conferences and health; everybody, when it is not said.
    pub ask: Option<SourcePattern>,
    /// For the end of the bridge; when it is not said, as `ask`, and nobody without that.
    pub shutdown: Option<SourcePattern>,
}

/// A place for statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// Between two of them.
    pub interval: Duration,
    /// Where.
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
    /// To the focus of every conference, unasked.
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

#[cfg(test)]
mod tests;
