use std::collections::HashMap;

use bytes::Bytes;
use rialto_media::{ShardId, TransportDatagram};
use tokio::sync::mpsc::Sender;

use super::*;
use crate::{Fingerprint, RemoteCandidate, Setup, TransportCommand};

const ID: EndpointId = EndpointId(5);

/// An engine that passes what it sends to the other side's loop.
struct Wire {
    peer: Sender<TransportEvent>,
    /// Addresses that the other side's engine has bound, for its DTLS.
    peer_bound: Arc<Mutex<HashMap<SocketAddr, EndpointId>>>,
    bound: Arc<Mutex<HashMap<SocketAddr, EndpointId>>>,
    keys: UnboundedSender<EndpointId>,
    local: [SocketAddr; 1],
}

impl CommandSink for Wire {
    fn command(&self, command: TransportCommand) {
        match command {
            TransportCommand::Bind { endpoint, remote, .. } => {
                self.bound.lock().unwrap().insert(remote, endpoint);
            }
            TransportCommand::SetKeys(endpoint, _) => self.keys.send(endpoint).unwrap(),
            TransportCommand::Transmit { local, remote, bytes, .. } => {
                self.transmit(local, remote, bytes);
            }
            _ => {}
        }
    }

    fn local_addrs(&self) -> &[SocketAddr] {
        &self.local
    }
}

impl Wire {
    fn transmit(&self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let endpoint = self.peer_bound.lock().unwrap().get(&from).copied();
        let stun = bytes.first().is_some_and(|first| *first <= 3);
        let (shard, received) = (ShardId(0), Instant::now());
        let datagram =
            TransportDatagram { shard, local: to, remote: from, endpoint, received, bytes };
        // A full queue drops, as in the engine.
        let _ = match (stun, endpoint) {
            (true, _) => self.peer.try_send(TransportEvent::Stun(datagram)),
            (false, Some(_)) => self.peer.try_send(TransportEvent::Dtls(datagram)),
            (false, None) => Ok(()),
        };
    }
}

/// Sockets that send nothing.
struct Nowhere([SocketAddr; 1]);

impl CommandSink for Nowhere {
    fn command(&self, _: TransportCommand) {}

    fn local_addrs(&self) -> &[SocketAddr] {
        &self.0
    }
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

/// The loop wakes for calls, datagrams and timers: two of them connect.
#[tokio::test]
async fn two_loops_connect() {
    let addrs: [SocketAddr; 2] = ["127.0.0.1:7001", "127.0.0.1:7002"].map(|a| a.parse().unwrap());
    let (keys, mut ready) = mpsc::unbounded_channel();
    let (to_a, events_a) = mpsc::channel(64);
    let (to_b, events_b) = mpsc::channel(64);
    let bound: [Arc<Mutex<HashMap<_, _>>>; 2] = Default::default();
    let side = |own: usize, peer: Sender<TransportEvent>| {
        let wire = Wire {
            peer,
            peer_bound: Arc::clone(&bound[1 - own]),
            bound: Arc::clone(&bound[own]),
            keys: keys.clone(),
            local: [addrs[own]],
        };
        // Several hubs, and the endpoint is not on the first.
        let config = TransportConfig { hubs: Some(3), ..TransportConfig::default() };
        let (transports, updates) =
            Transports::new(config, Arc::new(wire), [own as u8; 32]).unwrap();
        let controlling = own == 0;
        let label = Arc::from("conf/ep");
        let options = TransportOptions { controlling, label, private_addresses: true };
        let local = transports.create(ID, options);
        (transports, updates, local)
    };
    let (a, mut updates, local_a) = side(0, to_b);
    let (b, _updates, local_b) = side(1, to_a);
    tokio::spawn(a.clone().run(events_a));
    tokio::spawn(b.clone().run(events_b));
    a.set_remote(ID, remote_of(local_b, Setup::Active));
    b.set_remote(ID, remote_of(local_a, Setup::Passive));
    assert_eq!(ready.recv().await, Some(ID));
    assert_eq!(ready.recv().await, Some(ID));
    assert_eq!(updates.recv().await, Some(TransportUpdate::Connected { endpoint: ID }));
    assert_eq!(updates.recv().await, Some(TransportUpdate::Ready { endpoint: ID }));
    assert_eq!(a.debug(ID).unwrap()["dtls"]["ready"], true);
    a.remove(ID);
    assert!(a.is_empty());
    assert_eq!(a.restart_ice(ID), Restart::Refused);
}

/// Subscribers see addresses come and go, and endpoints get the current mappings.
#[tokio::test]
async fn addresses_and_their_mappings_change() {
    let sink = Arc::new(Nowhere(["127.0.0.1:7003".parse().unwrap()]));
    let (transports, _updates) =
        Transports::new(TransportConfig::default(), sink, [3; 32]).unwrap();
    let mut addresses = transports.addresses();
    let usable = addresses.borrow().to_vec();
    transports.set_addresses(&usable);
    assert!(!addresses.has_changed().unwrap(), "nothing is new");
    let local: SocketAddr = "192.0.2.9:7003".parse().unwrap();
    transports.set_addresses(&[local]);
    assert!(addresses.has_changed().unwrap());
    assert_eq!(**addresses.borrow_and_update(), [local]);
    let public = "198.51.100.4".parse().unwrap();
    let mapping = StaticMapping { local: local.ip(), local_port: None, public, public_port: None };
    transports.set_mappings(&[mapping]);
    let label = Arc::from("conf/ep");
    let options = TransportOptions { controlling: true, label, private_addresses: true };
    let told = transports.create(ID, options).candidates;
    assert_eq!(told.iter().map(|c| c.ip).collect::<Vec<_>>(), [local.ip(), public]);
}
