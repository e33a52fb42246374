//! Bridge channels over real WebSockets, to a whole process on loopback.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rialto::{
    colibri::{ConferenceModified, WebSocket, json},
    config::{self, Config},
    daemon::{Daemon, Options},
};
use rialto_engine::EngineThreads;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, protocol::CloseFrame},
};

/// Everything here takes milliseconds; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const MEETING: &str = "a-meeting";

struct Bridge {
    daemon: Daemon,
}

impl Bridge {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.http.port = None;
        config.public_http.port = Some(0);
        config.public_http.host = "127.0.0.1".parse().unwrap();
        config.ice.port = 0;
        config.harvest.loopback = true;
        config.engine.shards = Some(1);
        config.web_sockets = config::WebSockets {
            enabled: true,
            server_id: "jvb1".to_owned(),
            domains: vec!["meet.example.com".to_owned()],
            tls: true,
            ..config::WebSockets::default()
        };
        change(&mut config);
        let options = Options { media_address: "127.0.0.1".parse().ok(), ..Options::default() };
        Self { daemon: Daemon::start(&config, &options).await.unwrap() }
    }

    async fn ask(&self, request: Value) -> ConferenceModified {
        let request = json::read_conference_modify(request.to_string().as_bytes(), None).unwrap();
        self.daemon.bridge().modify(request).await.unwrap()
    }

    /// Creates an endpoint; where its WebSocket is, as signalled.
    async fn create(&self, endpoint: &str, first: bool) -> String {
        let answer = self.ask(creation(endpoint, first)).await;
        let ice = answer.endpoints[0].transport.as_ref().unwrap().ice_udp.as_ref().unwrap();
        match ice.web_sockets.as_slice() {
            [WebSocket::Url(url)] => url.clone(),
            other => panic!("{other:?}"),
        }
    }

    async fn expire(&self, endpoint: &str) {
        self.ask(json!({"meeting-id": MEETING, "endpoints": [{"id": endpoint, "expire": true}]}))
            .await;
    }

    /// The address as the web server in front of the bridge asks for it.
    fn behind_proxy(&self, url: &str) -> String {
        let path = url.strip_prefix("wss://meet.example.com").unwrap_or_else(|| panic!("{url}"));
        format!("ws://{}{path}", self.daemon.public_addr().unwrap())
    }

    async fn connect(&self, url: &str) -> Result<Client, u16> {
        match timeout(PATIENCE, connect_async(self.behind_proxy(url))).await.unwrap() {
            Ok((socket, _)) => Ok(Client { socket }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Two endpoints with channels, and their addresses.
    async fn two(&self) -> ([Client; 2], [String; 2]) {
        let urls = [self.create("alice", true).await, self.create("bob", false).await];
        let mut clients =
            [self.connect(&urls[0]).await.unwrap(), self.connect(&urls[1]).await.unwrap()];
        for client in &mut clients {
            client.greeted().await;
        }
        (clients, urls)
    }

    /// The engine's threads end after the runtime's last task.
    async fn stop(self) -> EngineThreads {
        self.daemon.stop().await
    }
}

/// A request that creates an endpoint, and with `first` the conference.
fn creation(endpoint: &str, first: bool) -> Value {
    json!({
        "meeting-id": MEETING,
        "create": first,
        "endpoints": [{
            "id": endpoint,
            "create": true,
            "medias": [{ "type": "audio", "payload-types": [{ "id": "111", "name": "opus" }] }],
            "transport": { "ice-controlling": true },
            "capabilities": ["source-names"],
        }],
    })
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        timeout(PATIENCE, self.socket.next()).await.unwrap().unwrap().unwrap()
    }

    async fn heard(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn greeted(&mut self) {
        assert_eq!(self.heard().await, json!({"colibriClass": "ServerHello"}));
        let forwarded = json!({"colibriClass": "ForwardedSources", "forwardedSources": []});
        assert_eq!(self.heard().await, forwarded);
    }

    async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Message::Close(Some(CloseFrame { code, reason })) => (code.into(), reason.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn endpoints_talk_to_each_other() {
    let bridge = Bridge::start(|_| {}).await;
    let ([mut alice, mut bob], _) = bridge.two().await;
    alice.send(json!({"colibriClass": "ClientHello"})).await;
    assert_eq!(alice.heard().await, json!({"colibriClass": "ServerHello"}));
    let payload = json!({"type": "hi", "n": [1, 1.5, null, "\u{1f600}"]});
    alice
        .send(json!({
            "colibriClass": "EndpointMessage", "to": "bob", "from": "eve", "msgPayload": payload,
        }))
        .await;
    let expected = json!({
        "colibriClass": "EndpointMessage", "to": "bob", "from": "alice", "msgPayload": payload,
    });
    assert_eq!(bob.heard().await, expected);
    // What is wrong is ignored, and the channel stays.
    bob.send(json!(["no", "message"])).await;
    bob.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    bob.send(json!({"colibriClass": "EndpointMessage", "to": "", "n": 1})).await;
    let expected = json!({"colibriClass": "EndpointMessage", "to": "", "from": "bob", "n": 1});
    assert_eq!(alice.heard().await, expected);
    let counters = bridge.daemon.bridge().stats().channels;
    assert_eq!((counters.web_socket_received, counters.dropped[0]), (5, 2));
    let threads = bridge.stop().await;
    for mut client in [alice, bob] {
        assert_eq!(client.closed().await, (1001, "endpoint closed".to_owned()));
    }
    drop(threads);
}

#[tokio::test]
async fn a_second_socket_replaces_the_first() {
    let bridge = Bridge::start(|_| {}).await;
    let ([mut alice, mut bob], [url, _]) = bridge.two().await;
    let mut again = bridge.connect(&url).await.unwrap();
    again.greeted().await;
    assert_eq!(alice.closed().await, (1000, "replaced".to_owned()));
    bob.send(json!({"colibriClass": "EndpointMessage", "to": "alice"})).await;
    assert_eq!(again.heard().await["from"], "bob");
    drop(bridge.stop().await);
}

#[tokio::test]
async fn expiry_closes_and_the_address_is_worth_nothing_then() {
    let bridge = Bridge::start(|_| {}).await;
    let ([mut alice, mut bob], [url, _]) = bridge.two().await;
    bridge.expire("alice").await;
    assert_eq!(alice.closed().await, (1001, "endpoint closed".to_owned()));
    assert_eq!(bridge.connect(&url).await.err(), Some(403));
    bridge.ask(json!({"meeting-id": MEETING, "expire": true})).await;
    assert_eq!(bob.closed().await, (1001, "endpoint closed".to_owned()));
    drop(bridge.stop().await);
}

#[tokio::test]
async fn strangers_are_refused() {
    let bridge = Bridge::start(|_| {}).await;
    let url = bridge.create("alice", true).await;
    let (address, password) = url.split_once("?pwd=").unwrap();
    let (base, _) = address.rsplit_once('/').unwrap();
    let (server, conference) = base.rsplit_once('/').unwrap();
    assert_eq!(password.len(), 24);
    for wrong in [
        format!("{address}?pwd=x{password}"),
        format!("{address}?pwd={}", &password[1..]),
        format!("{address}?pwd="),
        format!("{address}?pwd=%ff&pwd={password}"),
        address.to_owned(),
        format!("{base}/bob?pwd={password}"),
        format!("{server}/0123456789abcdef/alice?pwd={password}"),
        format!("{server}/{MEETING}/alice?pwd={password}"),
    ] {
        assert_eq!(bridge.connect(&wrong).await.err(), Some(403), "{wrong}");
    }
    for wrong in [
        format!("wss://meet.example.com/colibri-ws/jvb2/{conference}/alice?pwd={password}"),
        format!("{base}?pwd={password}"),
        format!("{address}/more?pwd={password}"),
        "wss://meet.example.com/about/health".to_owned(),
        "wss://meet.example.com/colibri-relay-ws/jvb1/x/y?pwd=z".to_owned(),
    ] {
        assert_eq!(bridge.connect(&wrong).await.err(), Some(404), "{wrong}");
    }
    assert!(bridge.connect(&url).await.is_ok());
    drop(bridge.stop().await);
}

#[tokio::test]
async fn a_socket_is_pinged_and_a_silent_one_is_closed() {
    let bridge = Bridge::start(|config| {
        config.web_sockets.ping_interval = Duration::from_millis(200);
        config.web_sockets.idle_timeout = Duration::from_millis(700);
    })
    .await;
    let url = bridge.create("alice", true).await;
    let mut alice = bridge.connect(&url).await.unwrap();
    alice.greeted().await;
    // Reading answers: more pings come than fit into the time that silence may last.
    for _ in 0..8 {
        assert!(matches!(alice.next().await, Message::Ping(_)));
    }
    drop(alice);

    let bridge_of_the_silent = Bridge::start(|config| {
        config.web_sockets.pings = false;
        config.web_sockets.idle_timeout = Duration::from_millis(200);
    })
    .await;
    let url = bridge_of_the_silent.create("alice", true).await;
    let mut alice = bridge_of_the_silent.connect(&url).await.unwrap();
    alice.greeted().await;
    assert_eq!(alice.closed().await, (1001, "idle timeout".to_owned()));
    drop((bridge.stop().await, bridge_of_the_silent.stop().await));
}

#[tokio::test]
async fn how_sockets_end_is_counted() {
    let bridge = Bridge::start(|_| {}).await;
    let url = bridge.create("alice", true).await;
    let ended = async |closed: u64, lost: u64, errors: u64| {
        let all = || {
            let c = bridge.daemon.bridge().stats().channels;
            (c.web_sockets_closed, c.web_sockets_lost, c.web_socket_errors)
        };
        let counted = async {
            while all() != (closed, lost, errors) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("{:?}", all()));
    };
    let close = |code: u16| Some(CloseFrame { code: code.into(), reason: "".into() });
    for (n, frame) in (1..).zip([None, close(1000), close(1001)]) {
        let mut alice = bridge.connect(&url).await.unwrap();
        alice.greeted().await;
        alice.socket.close(frame).await.unwrap();
        ended(n, 0, 0).await;
    }
    let mut alice = bridge.connect(&url).await.unwrap();
    alice.greeted().await;
    alice.socket.close(close(4000)).await.unwrap();
    ended(3, 1, 0).await;
    let mut alice = bridge.connect(&url).await.unwrap();
    alice.greeted().await;
    drop(alice);
    ended(3, 2, 1).await;
    // One that is replaced, and one that expires with its endpoint, end by us.
    let mut alice = bridge.connect(&url).await.unwrap();
    alice.greeted().await;
    let mut again = bridge.connect(&url).await.unwrap();
    assert_eq!(alice.closed().await.0, 1000);
    again.greeted().await;
    bridge.expire("alice").await;
    assert_eq!(again.closed().await.0, 1001);
    ended(3, 2, 1).await;
    drop(bridge.stop().await);
}

/// An address for each domain, as the configuration has them.
#[tokio::test]
async fn every_domain_is_told() {
    let bridge = Bridge::start(|config| {
        config.web_sockets.domains = vec!["a.example.com".into(), "b.example.com:8443".into()];
        config.web_sockets.tls = false;
    })
    .await;
    let answer = bridge.ask(creation("alice", true)).await;
    let ice = answer.endpoints[0].transport.as_ref().unwrap().ice_udp.as_ref().unwrap();
    let [WebSocket::Url(a), WebSocket::Url(b)] = ice.web_sockets.as_slice() else {
        panic!("{:?}", ice.web_sockets)
    };
    assert!(a.starts_with("ws://a.example.com/colibri-ws/jvb1/"), "{a}");
    assert_eq!(a.replace("a.example.com", "b.example.com:8443"), *b);
    drop(bridge.stop().await);
}

#[tokio::test]
async fn a_flood_harms_nobody_else() {
    let bridge = Bridge::start(|_| {}).await;
    let ([mut alice, bob], [url, _]) = bridge.two().await;
    let (mut bob, mut bobs_ear) = bob.socket.split();
    let received = tokio::spawn(async move {
        let mut received = 0;
        while let Some(Ok(Message::Text(text))) = bobs_ear.next().await {
            if text.contains("ServerHello") {
                break;
            }
            received += 1;
        }
        received
    });
    let long = Message::text(format!(
        r#"{{"colibriClass":"EndpointMessage","to":"","x":"{}"}}"#,
        "x".repeat(60 << 10)
    ));
    for _ in 0..200 {
        alice.socket.send(long.clone()).await.unwrap();
    }
    bob.send(Message::text(r#"{"colibriClass":"ClientHello"}"#)).await.unwrap();
    let received = timeout(PATIENCE, received).await.unwrap().unwrap();
    assert!(received < 200, "{received}");
    let too_long = Message::text("x".repeat((64 << 10) + 1));
    let mut again = bridge.connect(&url).await.unwrap();
    again.greeted().await;
    again.socket.send(too_long).await.unwrap();
    assert_eq!(again.closed().await, (1009, "message too long".to_owned()));
    assert!(bridge.daemon.bridge().stats().channels.dropped[1] > 0);
    drop(bridge.stop().await);
}
