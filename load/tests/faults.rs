//! Media does not notice what becomes of the XMPP server: it hangs, dies and comes back during a call.

#[path = "../../tests/xmpp/prosody.rs"]
mod prosody;

use std::time::{Duration, Instant};

use rialto::{
    bridge::Bridge,
    config::{self, Override, Secret, StatsDestination, StatsTransport, XmppClient, XmppSecurity},
    daemon::{Daemon, Options},
};
use rialto_hocon::System;

use rialto_load::{
    call::{Call, CallOptions},
    plan::Shape,
};

use prosody::{DOMAIN, NODE, PASSWORD, PATIENCE, PUBSUB, Prosody, SECRET};

/// A bridge that is a client and a component of the server, and takes conferences over HTTP.
async fn bridge(prosody: &Prosody, component_port: u16) -> (Daemon, String) {
    let setting = |key, value: &str| Override::text(key, value.to_owned(), "test");
    let overrides = [
        setting("videobridge.apis.rest.enabled", "true"),
        setting("videobridge.apis.xmpp-component.enabled", "true"),
        setting("videobridge.apis.xmpp-component.host", "127.0.0.1"),
        setting("videobridge.apis.xmpp-component.port", &component_port.to_string()),
        setting("videobridge.apis.xmpp-component.domain", DOMAIN),
        setting("videobridge.apis.xmpp-component.secret", SECRET),
        setting("videobridge.http-servers.private.port", "0"),
        setting("videobridge.ice.udp.port", "0"),
        setting("rialto.shards", "2"),
    ];
    let mut config = config::load(None, &overrides, &System).unwrap().config;
    config.harvest.loopback = true;
    config.stats.transports = vec![StatsTransport {
        interval: None,
        to: StatsDestination::Pubsub { service: PUBSUB.to_owned(), node: NODE.to_owned() },
    }];
    config.xmpp.clients = vec![XmppClient {
        authorized: None,
        id: "test".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: prosody.port(),
        domain: DOMAIN.to_owned(),
        username: "jvb".to_owned(),
        password: Secret::new(PASSWORD),
        rooms: vec![format!("jvbbrewery@internal.{DOMAIN}")],
        nickname: "jvb".to_owned(),
        verify_certificate: false,
        security: XmppSecurity::Required,
    }];
    let loopback = "127.0.0.1".parse().unwrap();
    let options = Options { media_address: Some(loopback), ..Options::default() };
    let daemon = Daemon::start(&config, &options).await.unwrap();
    let url = format!("http://{}", daemon.http_addr().unwrap());
    (daemon, url)
}

/// Waits until everybody has got more of every source than now.
async fn media(call: &Call) {
    let unique = |clients: &[rialto_load::worker::client::ClientReport]| -> Vec<u64> {
        clients.iter().flat_map(|client| client.sources.iter().map(|s| s.unique)).collect()
    };
    let before = unique(&call.clients().await);
    assert!(!before.is_empty());
    let start = Instant::now();
    while !unique(&call.clients().await).iter().zip(&before).all(|(now, old)| *now > old + 20) {
        assert!(start.elapsed() < PATIENCE, "media has stopped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the metrics say that it is in its room, or that it is not.
async fn in_room(url: &str, wanted: bool, call: &Call) {
    let http = url.trim_start_matches("http://").to_owned();
    let start = Instant::now();
    loop {
        let joined = stat(&http, "mucs_joined");
        if (joined == 1) == wanted {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{joined} rooms");
        // All the while.
        media(call).await;
    }
}

/// A number of `/colibri/stats`.
fn stat(http: &str, name: &str) -> u64 {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(http).unwrap();
    write!(stream, "GET /colibri/stats HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let stats: serde_json::Value = serde_json::from_str(body).unwrap();
    stats[name].as_u64().unwrap_or_else(|| panic!("no {name} in {body}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_flows_while_the_xmpp_server_hangs_and_dies() {
    let Some((mut prosody, component_port)) = Prosody::with_component() else { return };
    let (daemon, url) = bridge(&prosody, component_port).await;
    let shape = Shape { senders: 2, receivers: 0, video: Some(300_000), ..Shape::default() };
    let options =
        CallOptions { bridge: url.clone(), shape, patience: PATIENCE, ..CallOptions::default() };
    let mut call = Call::new(options).unwrap();
    call.join_all().await;
    assert!(call.failures.is_empty(), "{:?}", call.failures);
    media(&call).await;
    in_room(&url, true, &call).await;
    prosody.signal("STOP");
    in_room(&url, false, &call).await;
    prosody.signal("CONT");
    in_room(&url, true, &call).await;
    for _ in 0..2 {
        prosody.kill();
        in_room(&url, false, &call).await;
        prosody.launch();
        in_room(&url, true, &call).await;
    }
    call.end().await.unwrap();
    let bridge: &Bridge = daemon.bridge();
    assert_eq!(bridge.stats().conferences, 0);
    drop(daemon.stop());
}
