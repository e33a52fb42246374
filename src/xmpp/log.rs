//! Logs one line for each change of a connection, and for a new reason.

use super::{
    cause::Cause,
    login::{Account, Session},
};

/// An unchanged reason is logged again after this many attempts, about every five minutes.
const REMIND_AFTER: u32 = 75;

/// The logging state of one connection.
pub(super) struct Log {
    who: Who,
    server: String,
    last: Option<Cause>,
    attempts: u32,
}

enum Who {
    Client(String),
    Component(String),
}

impl Log {
    pub(super) fn new(account: &Account) -> Self {
        let (host, port) = account.server();
        let who = match account {
            Account::Client(client, _) => Who::Client(client.id.clone()),
            Account::Component(component) => Who::Component(component.jid()),
        };
        Self { who, server: format!("{host}:{port}"), last: None, attempts: 0 }
    }

    pub(super) fn entered(&mut self, session: &Session) {
        self.last = None;
        self.attempts = 0;
        let server = &self.server;
        match (&self.who, session) {
            (Who::Client(client), Session::New { jid, .. }) => {
                tracing::info!(client, server, jid, "XMPP: logged in");
            }
            (Who::Client(client), Session::Resumed(_)) => {
                tracing::info!(client, server, "XMPP: back in the same session");
            }
            (Who::Component(jid), _) => {
                tracing::info!(jid, server, "XMPP component: connected");
            }
        }
    }

    pub(super) fn left(&self) {
        match &self.who {
            Who::Client(client) => tracing::info!(client, "XMPP: left"),
            Who::Component(jid) => tracing::info!(jid, "XMPP component: left"),
        }
    }

    pub(super) fn failed(&mut self, cause: Cause) {
        self.attempts = self.attempts.saturating_add(1);
        let (server, attempts) = (&self.server, self.attempts);
        let tells = self.last.as_ref() != Some(&cause) || attempts % REMIND_AFTER == 0;
        match &self.who {
            Who::Client(client) if tells => {
                tracing::warn!(client, server, %cause, attempts, "XMPP: not connected, trying for ever");
            }
            Who::Client(client) => {
                tracing::debug!(client, server, %cause, attempts, "XMPP: not connected");
            }
            Who::Component(jid) if tells => {
                tracing::warn!(jid, server, %cause, attempts, "XMPP component: not connected, trying for ever");
            }
            Who::Component(jid) => {
                tracing::debug!(jid, server, %cause, attempts, "XMPP component: not connected");
            }
        }
        self.last = Some(cause);
    }
}
