//! Channels of endpoints: opening them, and what comes in.

use std::{
    fmt::Write as _,
    sync::{Arc, Weak},
};

use rialto_media::EndpointId;

use super::{Bridge, Inner, lock, now, registry::Handle};
use crate::{
    channel::{ChannelKind, Dropped, Opened, Outgoing, SocketEnd, ToBridge, ToClient},
    colibri::WebSocket,
};

/// An open channel. It ends when this is dropped.
#[derive(Debug)]
pub struct Channel {
    bridge: Weak<Inner>,
    endpoint: EndpointId,
    kind: ChannelKind,
    opened: Opened,
}

impl Channel {
    /// A message came. What is wrong with it is counted.
    pub fn received(&self, text: &str) {
        if let Some(bridge) = self.bridge.upgrade() {
            bridge.channel_received(self, text);
        }
    }

    /// Something came that is no text.
    pub fn received_binary(&self, length: usize) {
        let Some(bridge) = self.bridge.upgrade() else { return };
        let serial = self.opened.serial;
        if bridge.channels.heard(self.endpoint, self.kind, serial, length, now()) {
            bridge.channels.dropped(Dropped::Malformed);
        }
    }

    /// The WebSocket ended, and not because the channel did.
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
    pub fn open_channel(
        &self,
        meeting_id: &str,
        endpoint: &str,
        kind: ChannelKind,
    ) -> Option<Channel> {
        let handle = self.inner.by_meeting(meeting_id)?;
        let id = handle.read(|c| c.endpoint(endpoint).map(|e| e.engine_id))??;
        self.inner.open_channel(id, kind)
    }

    /// Opens a WebSocket's channel: `conference` is the bridge's id for it, and `password` must be the
    /// one of the address that was signalled. `None` when any of it is wrong: which, is not told.
    pub fn open_web_socket(
        &self,
        conference: &str,
        endpoint: &str,
        password: &str,
    ) -> Option<WebSocketPermit> {
        let handle = lock(&self.inner.registry).by_id(conference)?;
        let id = handle.read(|c| c.endpoint(endpoint).map(|e| e.engine_id))??;
        self.inner
            .channels
            .is_password(id, password)
            .then(|| WebSocketPermit { bridge: self.clone(), endpoint: id })
    }
}

/// Leave to open the channel of a WebSocket, when it is there.
#[derive(Debug)]
pub struct WebSocketPermit {
    bridge: Bridge,
    endpoint: EndpointId,
}

impl WebSocketPermit {
    /// Opens the channel. `None` when the endpoint has gone meanwhile.
    pub fn open(self) -> Option<Channel> {
        self.bridge.inner.open_channel(self.endpoint, ChannelKind::WebSocket)
    }
}

impl Inner {
    /// Opens a channel; another of its kind is replaced. `None` when there is no such endpoint.
    pub(super) fn open_channel(
        self: &Arc<Self>,
        endpoint: EndpointId,
        kind: ChannelKind,
    ) -> Option<Channel> {
        let opened = self.channels.open(endpoint, kind)?;
        if kind == ChannelKind::WebSocket {
            self.greet(endpoint);
        }
        self.with_endpoint(endpoint, |conference, effects| {
            tracing::info!(
                conference = %conference.identity().id,
                meeting = %conference.identity().meeting_id,
                endpoint = conference.by_engine_id(endpoint).map(|e| e.id.as_str()),
                ?kind,
                "channel opened"
            );
            conference.channel_opened(endpoint, effects);
        });
        Some(Channel { bridge: Arc::downgrade(self), endpoint, kind, opened })
    }

    fn channel_received(&self, channel: &Channel, text: &str) {
        let (endpoint, kind, serial) = (channel.endpoint, channel.kind, channel.opened.serial);
        if !self.channels.heard(endpoint, kind, serial, text.len(), now()) {
            return;
        }
        let message = match ToBridge::parse(text) {
            Ok(message) => message,
            Err(error) => {
                tracing::trace!(?endpoint, ?kind, %error, "channel message refused");
                self.channels.dropped(Dropped::Malformed);
                return;
            }
        };
        if message == ToBridge::Hello {
            self.greet(endpoint);
        }
        if message.is_for_all() && !self.channels.to_all(endpoint, text.len(), now()) {
            return;
        }
        self.with_endpoint(endpoint, |conference, effects| {
            if let Err(why) = conference.channel_message(endpoint, message, effects) {
                self.channels.dropped(why);
            }
        });
    }

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
