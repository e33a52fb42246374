//! A client's bridge channel, of which something is expected.

use std::{sync::Arc, time::Duration};

use rialto_load::client::channel;
use serde_json::Value;
use tokio::time::timeout;
use webrtc_util::Conn;

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open channel.
pub(crate) struct Channel(channel::Channel);

impl Channel {
    /// Opens it, as clients of Jitsi do.
    pub(crate) async fn open(conn: Arc<dyn Conn + Send + Sync>) -> Self {
        Self(channel::Channel::open(conn, PATIENCE).await.unwrap())
    }

    /// Sends a message.
    pub(crate) async fn say(&self, message: &Value) {
        self.0.say(message).await.unwrap();
    }

    /// The next message of a class.
    pub(crate) async fn hear(&self, class: &str) -> Value {
        loop {
            let read = timeout(PATIENCE, self.0.hear()).await;
            let message = read.unwrap_or_else(|_| panic!("no {class}")).unwrap();
            if message["colibriClass"] == class {
                return message;
            }
        }
    }
}
