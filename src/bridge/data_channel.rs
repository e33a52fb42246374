//! Data channels: connects the transports' events to [`Channel`]s, and sends the channels' messages.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rialto_media::EndpointId;
use rialto_transport::SendError;
use tokio::task::AbortHandle;

use super::{Bridge, Inner, channel::Channel, task::Task};
use crate::channel::{ChannelKind, Outgoing};

/// How soon a text is retried when the peer does not accept earlier data. Meanwhile texts wait in the
/// channel's bounded queue.
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

impl Task {
    /// The peer opened its data channel.
    pub(super) fn data_channel_opened(&mut self, bridge: &Arc<Inner>, endpoint: EndpointId) {
        let opened = self.open_channel(bridge, endpoint, ChannelKind::Sctp);
        let Some(channel) = opened.map(Arc::new) else { return };
        let sender = tokio::spawn(send_all(Arc::downgrade(bridge), endpoint, Arc::clone(&channel)));
        let opened = DataChannel { channel, sender: sender.abort_handle() };
        self.data_channels.insert(endpoint, opened);
    }

    /// Handles a text that came over it.
    pub(super) fn data_channel_text(&mut self, bridge: &Inner, endpoint: EndpointId, text: &str) {
        let Some(open) = self.data_channels.get(&endpoint) else { return };
        if open.channel.admits(bridge, text.len()) {
            self.take_text(bridge, endpoint, ChannelKind::Sctp, text);
        }
    }
}

/// Sends what is queued, until the channel ends.
async fn send_all(bridge: Weak<Inner>, endpoint: EndpointId, channel: Arc<Channel>) {
    while let Outgoing::Text(text) = channel.next().await {
        loop {
            let Some(bridge) = bridge.upgrade() else { return };
            match bridge.transports.send_text(endpoint, &text) {
                Err(SendError::Full) => drop(bridge),
                // If the channel has closed, this task ends soon.
                Ok(()) | Err(SendError::NotOpen | SendError::TooLong) => break,
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}
