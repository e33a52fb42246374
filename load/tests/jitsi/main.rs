//! The whole of Jitsi over a real XMPP server: a focus finds the bridge by the node where it publishes
//! its load, answers clients' conference requests, makes rooms and owners, allocates channels at the
//! bridge's component address, and offers Jingle sessions; media flows between real clients.

mod client;
mod focus;
mod muc;
#[path = "../../../tests/xmpp/prosody.rs"]
mod prosody;
#[path = "../../../tests/xmpp/wire.rs"]
mod wire;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto::{
    config::{self, Override, StatsPlace, StatsTransport, hocon::System},
    daemon::{Daemon, Options},
    srtp::Profile,
};
use rialto_load::{
    client::{Conference, Joined, Joining, dtls::Identity},
    http::Bridge,
    plan::{Plan, Shape},
    shared::{MediaOptions, Shared},
    worker::{Command, Worker, client::ClientReport},
};

use focus::Load;
use prosody::{DOMAIN, NODE, PATIENCE, PUBSUB, Prosody, SECRET};

/// A bridge that is a component of the server, and nothing else.
async fn bridge(component_port: u16) -> Daemon {
    let setting = |key, value: &str| Override::text(key, value.to_owned(), "test");
    let overrides = [
        setting("videobridge.apis.xmpp-component.enabled", "true"),
        setting("videobridge.apis.xmpp-component.host", "127.0.0.1"),
        setting("videobridge.apis.xmpp-component.port", &component_port.to_string()),
        setting("videobridge.apis.xmpp-component.domain", DOMAIN),
        setting("videobridge.apis.xmpp-component.secret", SECRET),
        setting("videobridge.http-servers.private.port", "-1"),
        setting("videobridge.ice.udp.port", "0"),
        setting("rialto.shards", "2"),
    ];
    let mut config = config::load(None, &overrides, &System).unwrap().config;
    config.harvest.loopback = true;
    config.stats.transports = vec![StatsTransport {
        interval: Some(Duration::from_millis(100)),
        to: StatsPlace::Pubsub { service: PUBSUB.to_owned(), node: NODE.to_owned() },
    }];
    let loopback = "127.0.0.1".parse().unwrap();
    let options = Options { media_address: Some(loopback), ..Options::default() };
    Daemon::start(&config, &options).await.unwrap()
}

/// Clients of the load generator, whose signalling goes over XMPP.
struct Call {
    joining: Arc<Joining>,
    worker: Arc<Worker>,
    joined: Vec<Option<Joined>>,
}

impl Call {
    fn new(signalling: &str) -> Self {
        let shape = Shape { senders: 3, receivers: 0, video: Some(300_000), ..Shape::default() };
        let shared = Arc::new(Shared::new(Plan::new(shape), MediaOptions::default()));
        let worker = Arc::new(Worker::start(shared.clone(), 0).unwrap());
        let joining = Joining {
            shared,
            bridge: Bridge::new(signalling).unwrap(),
            identity: Identity::generate().unwrap(),
            profiles: vec![Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80],
            patience: PATIENCE,
        };
        Self { joining: Arc::new(joining), worker, joined: vec![None, None, None] }
    }

    /// These join at the same time.
    async fn join(&mut self, endpoints: &[usize]) {
        let mut joins = Vec::new();
        for &endpoint in endpoints {
            let (joining, worker) = (self.joining.clone(), self.worker.clone());
            joins.push(tokio::spawn(async move {
                let conference = Conference::new(endpoint);
                joining.join(endpoint, &conference, &worker).await.unwrap()
            }));
        }
        for (&endpoint, join) in endpoints.iter().zip(joins) {
            self.joined[endpoint] = Some(join.await.unwrap());
        }
    }

    fn id(&self, endpoint: usize) -> String {
        self.joining.shared.plan.endpoints[endpoint].id.clone()
    }

    /// Its transport ends without a word.
    async fn vanish(&mut self, endpoint: usize) {
        self.worker.send(Command::Vanish(endpoint));
        self.joined[endpoint].take().unwrap().vanish().await;
    }

    /// Waits until everybody here gets audio and video of everybody else here: packets beyond what they
    /// had before.
    async fn media(&self) {
        let before = self.clients().await;
        let old = |client: usize, source: usize| {
            let client = before.iter().find(|c| c.endpoint == client);
            let source = client.and_then(|c| c.sources.iter().find(|s| s.source == source));
            source.map_or(0, |source| source.unique)
        };
        let start = Instant::now();
        loop {
            let clients = self.clients().await;
            let flows = clients.iter().filter(|c| c.present).all(|client| {
                client.sources.iter().all(|source| {
                    let sender = self.joining.shared.plan.sources[source.source].endpoint;
                    self.joined[sender].is_none()
                        || source.unique > old(client.endpoint, source.source) + 20
                })
            });
            if flows {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{clients:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn clients(&self) -> Vec<ClientReport> {
        self.worker.report().await.unwrap().clients
    }
}

/// Waits until the node says so.
async fn published(load: &Load, participants: &str) {
    let start = Instant::now();
    while load.participants().as_deref() != Some(participants) {
        assert!(start.elapsed() < PATIENCE, "{:?}, not {participants}", load.participants());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conference_from_the_first_request_to_the_last_goodbye() {
    let Some((prosody, component_port)) = Prosody::with_component() else { return };
    let mut daemon = bridge(component_port).await;
    let load = Load::default();
    let focus = focus::start(prosody.port(), load.clone());
    published(&load, "0").await;
    let clients = client::serve(prosody.port()).await;
    let mut call = Call::new(&clients.url);
    // Nothing is allocated for the first alone: it waits for the second.
    call.join(&[0, 1]).await;
    published(&load, "2").await;
    call.media().await;
    call.join(&[2]).await;
    published(&load, "3").await;
    call.media().await;
    clients.leave(&call.id(1)).await;
    call.vanish(1).await;
    published(&load, "2").await;
    call.media().await;
    for endpoint in [0, 2] {
        clients.leave(&call.id(endpoint)).await;
    }
    published(&load, "0").await;
    assert_eq!(load.owners(), 1, "the first participant, and nobody else");
    load.stop();
    focus.join().unwrap();
    daemon.leave().await;
    drop(daemon.stop());
}
