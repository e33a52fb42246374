//! Joins per second: connectivity checks, a DTLS handshake and keys for each endpoint, through the
//! loops that serve the bridge. The clients are hubs without loops, on the same threads, and do as
//! much work as the bridge; nothing is lost and no socket is used.
//!
//! `JOINS=5000 cargo bench -p rialto-benches --bench joins` measures more of them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rialto_media::{EndpointId, ShardId, TransportDatagram, TransportEvent};
use rialto_transport::{
    CommandSink, Fingerprint, LocalTransport, RemoteCandidate, RemoteTransport, Setup,
    TransportCommand, TransportConfig, TransportOptions, TransportUpdate, Transports,
    hub::{Hub, Output},
};
use tokio::sync::{Semaphore, mpsc};

const SERVER: [SocketAddr; 1] = [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_000)];
/// Joins in progress at a time: enough that none has to wait for a round trip or for the pace of
/// checks.
const UNDER_WAY: usize = 128;
/// Threads, hubs.
const ROWS: [(usize, usize); 3] = [(1, 1), (2, 1), (2, 2)];

fn main() {
    let joins = std::env::var("JOINS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    println!("{joins} joins, clients on the same threads");
    println!("threads  hubs  joins/s");
    for (threads, hubs) in ROWS {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_time()
            .build()
            .expect("threads");
        let took = runtime.block_on(runtime.spawn(run(joins, hubs))).expect("no panic");
        let rate = f64::from(joins) / took.as_secs_f64();
        println!("{threads:>7}  {hubs:>4}  {rate:>7.0}");
    }
}

/// The link: each client has an address of its own.
struct Link(Vec<mpsc::UnboundedSender<Bytes>>);

impl CommandSink for Link {
    fn command(&self, command: TransportCommand) {
        if let TransportCommand::Transmit { remote, bytes, .. } = command
            && let IpAddr::V4(ip) = remote.ip()
        {
            let [_, _, high, low] = ip.octets();
            let client = usize::from(high) * 256 + usize::from(low);
            // A client that is done no longer listens.
            let _ = self.0.get(client).map(|inbox| inbox.send(bytes));
        }
    }

    fn local_addrs(&self) -> &[SocketAddr] {
        &SERVER
    }
}

fn address(client: u32) -> SocketAddr {
    let [_, _, high, low] = client.to_be_bytes();
    SocketAddr::from(([127, 1, high, low], 5000))
}

fn options(controlling: bool) -> TransportOptions {
    TransportOptions { controlling, label: Arc::from("bench"), private_addresses: true }
}

fn remote_of(local: LocalTransport, setup: Setup) -> RemoteTransport {
    let candidates = local.candidates.into_iter().map(|c| RemoteCandidate {
        foundation: c.foundation,
        component: c.component,
        protocol: c.protocol.to_owned(),
        priority: c.priority,
        ip: c.ip.to_string(),
        port: c.port,
        kind: c.kind,
    });
    RemoteTransport {
        ufrag: Some(local.ufrag),
        pwd: Some(local.pwd),
        candidates: candidates.collect(),
        fingerprints: vec![Fingerprint { setup: Some(setup), ..local.fingerprint }],
        ice_generation: None,
    }
}

async fn run(joins: u32, hubs: usize) -> Duration {
    let (mut links, mut inboxes) = (Vec::new(), Vec::new());
    for _ in 0..joins {
        let (link, inbox) = mpsc::unbounded_channel();
        links.push(link);
        inboxes.push(inbox);
    }
    let config = TransportConfig { hubs: Some(hubs), ..TransportConfig::default() };
    let (bridge, mut updates) =
        Transports::new(config, Arc::new(Link(links)), [1; 32]).expect("a certificate");
    let (events, received) = mpsc::channel(4096);
    let serving = tokio::spawn(bridge.clone().run(received));
    // Certificates of clients are not the bridge's work.
    let mut clients = Vec::new();
    for (client, inbox) in (0..joins).zip(inboxes) {
        let (config, now) = (TransportConfig::default(), Instant::now());
        let mut seed = [2; 32];
        seed[..4].copy_from_slice(&client.to_be_bytes());
        let unix_time = Duration::from_secs(1_800_000_000);
        let hub = Hub::new(config, vec![address(client)], seed, now, unix_time);
        clients.push((client, hub.expect("a certificate"), inbox));
    }

    let start = Instant::now();
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    for (client, hub, inbox) in clients {
        let permit = Arc::clone(&room).acquire_owned().await.expect("open");
        let (bridge, events) = (bridge.clone(), events.clone());
        tokio::spawn(async move {
            join(client, hub, inbox, &bridge, &events).await;
            drop(permit);
        });
    }
    let mut ready = 0;
    while ready < joins {
        match updates.recv().await {
            Some(TransportUpdate::Ready { .. }) => ready += 1,
            Some(TransportUpdate::Failed { reason, .. }) => panic!("{reason}"),
            Some(_) => {}
            None => panic!("the bridge ended"),
        }
    }
    let took = start.elapsed();
    drop(events);
    serving.await.expect("no panic");
    took
}

/// One client, from its signalling until it has keys.
async fn join(
    client: u32,
    mut hub: Hub,
    mut inbox: mpsc::UnboundedReceiver<Bytes>,
    bridge: &Transports,
    events: &mpsc::Sender<TransportEvent>,
) {
    let id = EndpointId(client);
    let offer = bridge.create(id, options(true));
    let now = Instant::now();
    let answer = hub.create(now, id, options(false));
    bridge.set_remote(id, remote_of(answer, Setup::Active));
    hub.set_remote(now, id, remote_of(offer, Setup::Passive));
    let mut keys = false;
    loop {
        while let Some(output) = hub.poll_output() {
            match output {
                Output::Command(TransportCommand::Transmit { local, remote, bytes, .. }) => {
                    let event = event(id, (remote, local), bytes);
                    let _ = events.send(event).await;
                }
                Output::Command(TransportCommand::SetKeys(..)) => keys = true,
                _ => {}
            }
        }
        if keys {
            return;
        }
        let timer = async {
            match hub.poll_timeout() {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(bytes) = inbox.recv() => {
                let event = event(id, (address(client), SERVER[0]), bytes);
                hub.on_event(Instant::now(), &event);
            }
            () = timer => hub.handle_timeout(Instant::now()),
        }
    }
}

fn event(id: EndpointId, (to, from): (SocketAddr, SocketAddr), bytes: Bytes) -> TransportEvent {
    let stun = bytes.first().is_some_and(|first| *first <= 3);
    let datagram = TransportDatagram {
        shard: ShardId(0),
        local: to,
        remote: from,
        endpoint: Some(id),
        received: Instant::now(),
        bytes,
    };
    if stun { TransportEvent::Stun(datagram) } else { TransportEvent::Dtls(datagram) }
}
