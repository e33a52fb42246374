//! A client's bridge channel: SCTP of another stack over its DTLS, and the data channel in it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::timeout;
use webrtc_data::data_channel::{Config, DataChannel};
use webrtc_sctp::association::{self, Association};
use webrtc_util::Conn;

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open channel.
pub(crate) struct Channel {
    data: DataChannel,
    _association: Arc<Association>,
}

impl Channel {
    /// Opens it, as clients of Jitsi do.
    pub(crate) async fn open(conn: Arc<dyn Conn + Send + Sync>) -> Self {
        let config = association::Config {
            net_conn: conn,
            max_receive_buffer_size: 0,
            max_message_size: 0,
            name: "client".to_owned(),
            local_port: 5000,
            remote_port: 5000,
            mtu: 1200,
        };
        let association = timeout(PATIENCE, Association::client(config)).await.unwrap().unwrap();
        let association = Arc::new(association);
        let config = Config {
            label: "JVB data channel".to_owned(),
            protocol: "http://jitsi.org/protocols/colibri".to_owned(),
            ..Config::default()
        };
        let data = DataChannel::dial(&association, 0, config).await.unwrap();
        Self { data, _association: association }
    }

    /// Sends a message.
    pub(crate) async fn say(&self, message: &Value) {
        let text = Bytes::from(message.to_string());
        self.data.write_data_channel(&text, true).await.unwrap();
    }

    /// The next message of a class.
    pub(crate) async fn hear(&self, class: &str) -> Value {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = timeout(PATIENCE, self.data.read_data_channel(&mut buffer)).await;
            let (length, text) = read.unwrap_or_else(|_| panic!("no {class}")).unwrap();
            assert!(text, "only texts");
            let message: Value = serde_json::from_slice(&buffer[..length]).unwrap();
            if message["colibriClass"] == class {
                return message;
            }
        }
    }
}
