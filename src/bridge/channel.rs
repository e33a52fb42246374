//! Opens channels of endpoints, and handles their incoming messages.

use std::{
    fmt::Write as _,
    sync::{Arc, Weak},
};

use rialto_media::EndpointId;

use super::{Bridge, Inner, mailbox::Text, now, registry::Handle, task::Task};
use crate::{
    channel::{ChannelKind, Dropped, Opened, Outgoing, SocketEnd, ToBridge, ToClient},
    colibri::WebSocket,
};

/// An open channel. It ends when this is dropped.
#[derive(Debug)]
pub struct Channel {
    bridge: Weak<Inner>,
    pub(super) conference: Arc<Handle>,
    endpoint: EndpointId,
    kind: ChannelKind,
    opened: Opened,
}

impl Channel {
    /// Passes a message to the conference's task, which counts invalid ones. A message over the endpoint's
    /// rate limit is dropped here.
    pub fn received(&self, text: &str) {
        let Some(bridge) = self.bridge.upgrade() else { return };
        if !self.admits(&bridge, text.len()) {
            return;
        }
        let text = Text { endpoint: self.endpoint, kind: self.kind, body: text.into() };
        if !self.conference.mailbox.text(text) {
            bridge.channels.dropped(Dropped::RateLimited);
        }
    }

    /// Whether the endpoint's rate limit admits a message of this length.
    pub(super) fn admits(&self, bridge: &Inner, length: usize) -> bool {
        bridge.channels.admit(self.endpoint, self.kind, self.opened.serial, length, now())
    }

    /// Counts and drops a binary message.
    pub fn received_binary(&self, length: usize) {
        let Some(bridge) = self.bridge.upgrade() else { return };
        if self.admits(&bridge, length) {
            bridge.channels.dropped(Dropped::Malformed);
        }
    }

    /// Counts the end of a WebSocket that the bridge did not close.
    pub fn ended(&self, how: SocketEnd) {
        if let Some(bridge) = self.bridge.upgrade() {
            bridge.channels.web_socket_ended(how);
        }
    }

    /// What to send next, or the end, when there is one. May be dropped and called again.
    pub async fn next(&self) -> Outgoing {
        self.opened.outbox.next().await
    }

    /// What to send next, or the end; `None` when there is nothing yet.
    pub fn try_next(&self) -> Option<Outgoing> {
        self.opened.outbox.try_next()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Some(bridge) = self.bridge.upgrade() {
            bridge.channels.closed(self.endpoint, self.kind, self.opened.serial);
        }
    }
}

impl Bridge {
    /// Opens a channel of an endpoint by its signalled name. Another of its kind is replaced. `None`
    /// when there is no such endpoint.
    pub async fn open_channel(
        &self,
        meeting_id: &str,
        endpoint: &str,
        kind: ChannelKind,
    ) -> Option<Channel> {
        let handle = self.inner.registry.by_meeting(meeting_id)?;
        let endpoint = endpoint.to_owned();
        let opened = handle.mailbox.ask(move |task, bridge| {
            let id = task.conference.endpoint(&endpoint)?.engine_id;
            task.open_channel(bridge, id, kind)
        });
        opened.await?
    }

    /// Opens a WebSocket's channel: `conference` is the bridge's id for it, and `password` must be the one of
    /// the address that was signalled. `None` when any of them is wrong, whichever it is.
    pub async fn open_web_socket(
        &self,
        conference: &str,
        endpoint: &str,
        password: &str,
    ) -> Option<WebSocketPermit> {
        let conference = self.inner.registry.by_id(conference)?;
        let endpoint = endpoint.to_owned();
        let id = conference
            .mailbox
            .ask(move |task, _| Some(task.conference.endpoint(&endpoint)?.engine_id));
        let endpoint = id.await??;
        self.inner
            .channels
            .is_password(endpoint, password)
            .then_some(WebSocketPermit { conference, endpoint })
    }
}

/// Permission to open a WebSocket's channel once the WebSocket is established.
#[derive(Debug)]
pub struct WebSocketPermit {
    conference: Arc<Handle>,
    endpoint: EndpointId,
}

impl WebSocketPermit {
    /// Opens the channel. `None` when the endpoint has gone meanwhile.
    pub async fn open(self) -> Option<Channel> {
        let endpoint = self.endpoint;
        let opened = self
            .conference
            .mailbox
            .ask(move |task, bridge| task.open_channel(bridge, endpoint, ChannelKind::WebSocket));
        opened.await?
    }
}

impl Task {
    /// Opens a channel; another of its kind is replaced. `None` when there is no such endpoint.
    pub(super) fn open_channel(
        &mut self,
        bridge: &Arc<Inner>,
        endpoint: EndpointId,
        kind: ChannelKind,
    ) -> Option<Channel> {
        let opened = bridge.channels.open(endpoint, kind)?;
        if kind == ChannelKind::WebSocket {
            bridge.greet(endpoint);
        }
        tracing::info!(
            conference = %self.handle.id,
            meeting = %self.handle.meeting_id,
            endpoint = self.conference.by_engine_id(endpoint).map(|e| e.id.as_str()),
            ?kind,
            "channel opened"
        );
        self.change(bridge, |conference, effects| conference.channel_opened(endpoint, effects));
        let (bridge, conference) = (Arc::downgrade(bridge), self.handle.clone());
        Some(Channel { bridge, conference, endpoint, kind, opened })
    }

    /// Handles a text that passed the endpoint's rate limit.
    pub(super) fn take_text(
        &mut self,
        bridge: &Inner,
        endpoint: EndpointId,
        kind: ChannelKind,
        text: &str,
    ) {
        let message = match ToBridge::parse(text) {
            Ok(message) => message,
            Err(error) => {
                tracing::trace!(?endpoint, ?kind, %error, "channel message refused");
                bridge.channels.dropped(Dropped::Malformed);
                return;
            }
        };
        if message == ToBridge::Hello {
            bridge.greet(endpoint);
        }
        if message.is_for_all() && !bridge.channels.to_all(endpoint, text.len(), now()) {
            return;
        }
        if self.conference.by_engine_id(endpoint).is_none() {
            return;
        }
        let taken = self.change(bridge, |conference, effects| {
            conference.channel_message(endpoint, message, effects)
        });
        if let Err(why) = taken {
            bridge.channels.dropped(why);
        }
    }
}

impl Inner {
    fn greet(&self, endpoint: EndpointId) {
        let version = self.config.announced_version.as_deref();
        self.channels.send(endpoint, ToClient::Hello { version }.text());
    }

    /// Where an endpoint can open a WebSocket.
    pub(super) fn web_sockets(
        &self,
        handle: &Handle,
        name: &str,
        endpoint: EndpointId,
    ) -> Vec<WebSocket> {
        let Some(password) = self.channels.password(endpoint) else { return Vec::new() };
        let (conference, name) = (&handle.id, segment(name));
        let bases = self.config.web_sockets.iter();
        bases
            .map(|base| WebSocket::Url(format!("{base}/{conference}/{name}?pwd={password}")))
            .collect()
    }
}

/// A name as one segment of a path (RFC 3986 section 3.3).
fn segment(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_segments_of_a_path() {
        assert_eq!(segment("abcd1234"), "abcd1234");
        assert_eq!(segment("a/b?c d\u{e4}~"), "a%2Fb%3Fc%20d%C3%A4~");
    }
}
