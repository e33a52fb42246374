//! The whole of Jitsi over a real XMPP server: a focus finds the bridge by the node where it publishes
//! its load, answers clients' conference requests, makes rooms and owners, allocates channels at the
//! bridge's component address, and offers Jingle sessions; media flows between real clients.

mod call;
mod channel;
mod client;
mod focus;
mod muc;
mod occupant;
#[path = "../../../tests/xmpp/prosody.rs"]
mod prosody;
#[path = "../../../tests/xmpp/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use rialto::{
    config::{self, Override, Secret, StatsDestination, StatsTransport, XmppClient, XmppSecurity},
    daemon::{Daemon, Options},
};
use rialto_hocon::System;

use call::Call;
use focus::Load;
use prosody::{DOMAIN, NODE, PASSWORD, PATIENCE, PUBSUB, Prosody, SECRET};

/// A bridge that is a component of the server, and nothing else.
async fn bridge(component_port: u16) -> Daemon {
    bridge_with(component_port, Vec::new()).await
}

async fn bridge_with(component_port: u16, clients: Vec<XmppClient>) -> Daemon {
    let setting = |key, value: &str| Override::text(key, value.to_owned(), "test");
    let overrides = [
        setting("videobridge.apis.xmpp-component.enabled", "true"),
        setting("videobridge.apis.xmpp-component.host", "127.0.0.1"),
        setting("videobridge.apis.xmpp-component.port", &component_port.to_string()),
        setting("videobridge.apis.xmpp-component.domain", DOMAIN),
        setting("videobridge.apis.xmpp-component.secret", SECRET),
        setting("videobridge.http-servers.private.port", "-1"),
        setting("videobridge.health.require-valid-address", "false"),
        setting("videobridge.ice.udp.port", "0"),
        setting("videobridge.sctp.enabled", "true"),
        setting("rialto.shards", "2"),
    ];
    let mut config = config::load(None, &overrides, &System).unwrap().config;
    config.harvest.loopback = true;
    config.xmpp.clients = clients;
    config.stats.transports = vec![StatsTransport {
        interval: Some(Duration::from_millis(100)),
        to: StatsDestination::Pubsub { service: PUBSUB.to_owned(), node: NODE.to_owned() },
    }];
    let loopback = "127.0.0.1".parse().unwrap();
    let options = Options { media_address: Some(loopback), ..Options::default() };
    Daemon::start(&config, &options).await.unwrap()
}

/// Waits until the node says so of a number.
async fn published(load: &Load, name: &str, wanted: impl Fn(u64) -> bool) {
    let start = Instant::now();
    while !load.stat(name).and_then(|said| said.parse().ok()).is_some_and(&wanted) {
        assert!(start.elapsed() < PATIENCE, "{name} is {:?}", load.stat(name));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the node says that there are so many.
async fn participants(load: &Load, count: u32) {
    published(load, "participants", |said| said == u64::from(count)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conference_from_the_first_request_to_the_last_goodbye() {
    let Some((prosody, component_port)) = Prosody::with_component() else { return };
    let mut daemon = bridge(component_port).await;
    let load = Load::default();
    let focus = focus::start(prosody.port(), load.clone());
    // The focus sees the bridge, and that it is idle.
    participants(&load, 0).await;
    assert_eq!(load.stat("bit_rate_upload").as_deref(), Some("0"));
    assert_eq!(load.stat("graceful_shutdown").as_deref(), Some("false"));
    let clients = client::serve(prosody.port()).await;
    let mut call = Call::new(&clients.url);
    // Nothing is allocated for the first alone: it waits for the second.
    call.join(&[0, 1]).await;
    participants(&load, 2).await;
    call.media().await;
    call.talk(0, 1).await;
    // Two videos of 300 kbit/s go out, and six when there are three.
    published(&load, "bit_rate_upload", |kbps| kbps > 300).await;
    published(&load, "videostreams", |streams| streams == 4).await;
    call.join(&[2]).await;
    participants(&load, 3).await;
    call.media().await;
    published(&load, "bit_rate_upload", |kbps| kbps > 900).await;
    published(&load, "videostreams", |streams| streams == 9).await;
    clients.leave(&call.id(1)).await;
    call.vanish(1).await;
    participants(&load, 2).await;
    published(&load, "bit_rate_upload", |kbps| kbps < 900).await;
    call.media().await;
    for endpoint in [0, 2] {
        clients.leave(&call.id(endpoint)).await;
    }
    participants(&load, 0).await;
    published(&load, "bit_rate_upload", |kbps| kbps == 0).await;
    published(&load, "conferences", |conferences| conferences == 0).await;
    let owners = load.owners();
    assert_eq!(owners.len(), 1, "the first participant, and nobody else");
    assert_eq!(clients.owners(), owners, "as the room told");
    load.stop();
    focus.join().unwrap();
    daemon.leave().await;
    drop(daemon.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_takes_no_call_with_it() {
    let Some((mut prosody, component_port)) = Prosody::with_component() else { return };
    let mut daemon = bridge(component_port).await;
    let load = Load::default();
    let focus = focus::start(prosody.port(), load.clone());
    participants(&load, 0).await;
    let clients = client::serve(prosody.port()).await;
    let mut call = Call::new(&clients.url);
    call.join(&[0, 1]).await;
    participants(&load, 2).await;
    call.media().await;
    load.stop();
    let focus = focus.join().unwrap();
    prosody.kill();
    call.media().await;
    // Nodes are gone with it: the bridge has to make its own again.
    prosody.forget_nodes();
    prosody.launch();
    let focus = focus.resume(prosody.port());
    participants(&load, 2).await;
    call.media().await;
    load.stop();
    let mut focus = focus.join().unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        let mut here = focus.endpoints();
        here.sort();
        focus.end();
        here
    });
    let mut ids = vec![call.id(0), call.id(1)];
    ids.sort();
    assert_eq!(ended.await.unwrap(), ids, "the conference was kept");
    assert_eq!(daemon.bridge().stats().endpoints, 0);
    daemon.leave().await;
    drop(daemon.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direction_stops_media_each_way() {
    let Some((prosody, component_port)) = Prosody::with_component() else { return };
    let mut daemon = bridge(component_port).await;
    let load = Load::default();
    let focus = focus::start(prosody.port(), load.clone());
    participants(&load, 0).await;
    let clients = client::serve(prosody.port()).await;
    let mut call = Call::new(&clients.url);
    call.join(&[0, 1]).await;
    call.media().await;
    load.stop();
    let mut focus = focus.join().unwrap();
    // Of the first one's audio channel: is it heard, and does it hear?
    for (direction, heard, hears) in [
        ("sendonly", false, true),
        ("recvonly", true, false),
        ("inactive", false, false),
        ("sendrecv", true, true),
    ] {
        let nick = call.id(0);
        let direct = move || {
            focus.direct_audio(&nick, direction);
            focus
        };
        focus = tokio::task::spawn_blocking(direct).await.unwrap();
        let (out, back) =
            tokio::join!(call.audio_beside_video(0, 1), call.audio_beside_video(1, 0));
        assert_eq!((out > 0, back > 0), (heard, hears), "{direction}: {out}, {back}");
    }
    daemon.leave().await;
    drop(daemon.stop());
}

/// The bridge in the brewery.
fn occupant(port: u16) -> XmppClient {
    XmppClient {
        authorized: None,
        id: "today".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        domain: DOMAIN.to_owned(),
        username: "jvb".to_owned(),
        password: Secret::new(PASSWORD),
        rooms: vec![occupant::BREWERY.to_owned()],
        nickname: occupant::NICK.to_owned(),
        verify_certificate: false,
        security: XmppSecurity::Required,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_control_planes_are_faces_of_one_bridge() {
    let Some((prosody, component_port)) = Prosody::with_component() else { return };
    let port = prosody.port();
    let mut daemon = bridge_with(component_port, vec![occupant(port)]).await;
    let load = Load::default();
    let focus = focus::start(port, load.clone());
    participants(&load, 0).await;
    let clients = client::serve(port).await;
    let mut older = Call::new(&clients.url);
    let mut newer = Call::new(&occupant::serve(port).await);
    assert_eq!(older.id(0), newer.id(0), "ids are a conference's own");
    tokio::join!(older.join(&[0, 1]), newer.join(&[0, 1]));
    tokio::join!(older.media(), newer.media());
    participants(&load, 4).await;
    published(&load, "conferences", |conferences| conferences == 2).await;
    // The older conference ends, and its namesakes in the newer one do not notice.
    for endpoint in [0, 1] {
        clients.leave(&older.id(endpoint)).await;
        older.vanish(endpoint).await;
    }
    participants(&load, 2).await;
    newer.media().await;
    load.stop();
    focus.join().unwrap();
    daemon.leave().await;
    drop(daemon.stop());
}

/// What clients of today are sent comes under the SSRCs of their slots, of which they hear over their
/// channels and from nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_with_slots_get_everybody_and_know_who_it_is() {
    let Some((prosody, component_port)) = Prosody::with_component() else { return };
    let port = prosody.port();
    let mut daemon = bridge_with(component_port, vec![occupant(port)]).await;
    let mut call = Call::new(&occupant::serve_slots(port).await);
    call.join(&[0, 1, 2]).await;
    call.media().await;
    for endpoint in 0..3 {
        let (slots, ssrcs) = call.slots(endpoint).await;
        assert_eq!(ssrcs, 2 + 2 * 2, "{slots:?}");
        let others = || (0..3).filter(|other| *other != endpoint).map(|other| call.id(other));
        for (kind, slots) in ["a", "v"].into_iter().zip([&slots[..2], &slots[2..]]) {
            let mut told: Vec<_> = slots.to_vec();
            told.sort_by_key(|[source, ..]| source.clone());
            let mut owners: Vec<_> = others().collect();
            owners.sort();
            for ([source, owner, mid], other) in told.iter().zip(owners) {
                assert_eq!((source, owner), (&format!("{other}-{kind}0"), &other));
                assert!([format!("{kind}0"), format!("{kind}1")].contains(mid), "{mid}");
            }
        }
    }
    call.media().await;
    daemon.leave().await;
    drop(daemon.stop());
}
