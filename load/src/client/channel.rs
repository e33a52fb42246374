//! A client's bridge channel: SCTP over its DTLS, and the data channel in it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{task::AbortHandle, time::timeout};
use webrtc_data::data_channel::{Config, DataChannel};
use webrtc_sctp::association::{self, Association};
use webrtc_util::Conn;

/// Both ends use this port, as in Jitsi.
const PORT: u16 = 5000;
/// Bytes of a message, at most.
const MAX_MESSAGE: usize = 64 * 1024;

/// An open bridge channel.
pub struct Channel {
    data: DataChannel,
    _association: Arc<Association>,
}

impl Channel {
    /// Opens the channel as Jitsi's clients do, within `patience`.
    pub async fn open(
        conn: Arc<dyn Conn + Send + Sync>,
        patience: Duration,
    ) -> Result<Self, String> {
        let config = association::Config {
            net_conn: conn,
            max_receive_buffer_size: 0,
            max_message_size: 0,
            name: "client".to_owned(),
            local_port: PORT,
            remote_port: PORT,
            mtu: 1200,
        };
        let association = timeout(patience, Association::client(config)).await;
        let association = association
            .map_err(|_| format!("no SCTP association within {} s", patience.as_secs_f64()))?
            .map_err(|error| error.to_string())?;
        let association = Arc::new(association);
        let config = Config {
            label: "JVB data channel".to_owned(),
            protocol: "http://jitsi.org/protocols/colibri".to_owned(),
            ..Config::default()
        };
        let data = DataChannel::dial(&association, 0, config).await;
        let data = data.map_err(|error| error.to_string())?;
        Ok(Self { data, _association: association })
    }

    /// Sends a message.
    pub async fn say(&self, message: &Value) -> Result<(), String> {
        let text = Bytes::from(message.to_string());
        let written = self.data.write_data_channel(&text, true).await;
        written.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The next message.
    pub async fn hear(&self) -> Result<Value, String> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let read = self.data.read_data_channel(&mut buffer).await;
        let (length, _) = read.map_err(|error| error.to_string())?;
        serde_json::from_slice(buffer.get(..length).unwrap_or_default())
            .map_err(|error| error.to_string())
    }
}

/// The constraints for all videos at this height.
fn constraints(height: u16) -> Value {
    json!({
        "colibriClass": "ReceiverVideoConstraints",
        "lastN": -1,
        "defaultConstraints": { "maxHeight": height },
    })
}

/// The heights that a client requests, one after the other.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The first height.
    pub first: u16,
    /// The time until the next height, the interval, and the further heights, repeated.
    pub later: Option<(tokio::time::Instant, Duration, Vec<u16>)>,
}

/// Sends a client's constraints, and keeps changing them until the handle is aborted.
pub async fn keep_wishing(channel: Channel, wishes: Wishes) -> Result<AbortHandle, String> {
    channel.say(&constraints(wishes.first)).await?;
    let task = tokio::spawn(async move {
        let listen = async {
            // The bridge's messages are not used, but have to be read.
            while channel.hear().await.is_ok() {}
        };
        let speak = async {
            let Some((mut due, every, heights)) = wishes.later else {
                return std::future::pending().await;
            };
            for height in heights.iter().cycle() {
                tokio::time::sleep_until(due).await;
                due += every;
                if channel.say(&constraints(*height)).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(listen, speak);
    });
    Ok(task.abort_handle())
}
