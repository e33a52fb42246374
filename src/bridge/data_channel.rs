//! Data channels: the transports' news of them into [`Channel`]s, and what these have to say back.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rialto_media::EndpointId;
use rialto_transport::SendError;
use tokio::task::AbortHandle;

use super::{Bridge, Inner, channel::Channel};
use crate::channel::{ChannelKind, Outgoing};

/// How soon a text is tried again when the peer does not take what was sent before. Meanwhile texts wait
/// in the channel's bounded queue.
const RETRY: Duration = Duration::from_millis(100);

/// An open data channel. The task that sends ends with it.
pub(super) struct DataChannel {
    channel: Arc<Channel>,
    sender: AbortHandle,
}

impl Drop for DataChannel {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

impl Bridge {
    /// Whether endpoints may have data channels.
    pub fn has_sctp(&self) -> bool {
        self.inner.config.sctp
    }
}

impl Inner {
    /// The peer opened its data channel.
    pub(super) fn data_channel_opened(self: &Arc<Self>, endpoint: EndpointId) {
        let Some(channel) = self.open_channel(endpoint, ChannelKind::Sctp).map(Arc::new) else {
            return;
        };
        let sender = tokio::spawn(send_all(Arc::downgrade(self), endpoint, Arc::clone(&channel)));
        let opened = DataChannel { channel, sender: sender.abort_handle() };
        self.data_channels.insert(endpoint, opened);
        // It may have been removed while this was going on.
        if !self.routes.contains_key(&endpoint) {
            self.data_channels.remove(&endpoint);
        }
    }

    /// A text came in it.
    pub(super) fn data_channel_text(&self, endpoint: EndpointId, text: &str) {
        // Not kept locked: an answer may end the channel.
        let channel = self.data_channels.get(&endpoint).map(|open| Arc::clone(&open.channel));
        if let Some(channel) = channel {
            channel.received(text);
        }
    }

    /// It is closed.
    pub(super) fn data_channel_closed(&self, endpoint: EndpointId) {
        self.data_channels.remove(&endpoint);
    }
}

/// Sends what is queued, until the channel ends.
async fn send_all(bridge: Weak<Inner>, endpoint: EndpointId, channel: Arc<Channel>) {
    while let Outgoing::Text(text) = channel.next().await {
        loop {
            let Some(bridge) = bridge.upgrade() else { return };
            match bridge.transports.send_text(endpoint, &text) {
                Err(SendError::Full) => drop(bridge),
                // Of a channel that is not open any more this task hears soon.
                Ok(()) | Err(SendError::NotOpen | SendError::TooLong) => break,
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}
