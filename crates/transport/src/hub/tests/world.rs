//! Two hubs, the bridge's and a client's, with a model of the engine at each and a link between them,
//! under virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rialto_media::ShardId;
use rialto_srtp::Keying;

use super::super::*;
use crate::{Fingerprint, RemoteCandidate, Setup};

pub(super) const BRIDGE: usize = 0;
pub(super) const CLIENT: usize = 1;

/// One end: a hub, its engine's state, and its updates.
pub(super) struct Side {
    pub hub: Hub,
    pub bound: BTreeMap<SocketAddr, EndpointId>,
    pub selected: BTreeMap<EndpointId, Pair>,
    pub keys: BTreeMap<EndpointId, Keying>,
    pub updates: Vec<TransportUpdate>,
    pub rtt: Option<Duration>,
    pub sent: usize,
    /// Notices for endpoints on another hub.
    pub notices: Vec<Notice>,
}

/// A datagram in flight.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    order: u64,
    to_side: usize,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

pub(super) struct World {
    pub now: Instant,
    pub sides: [Side; 2],
    /// Another client behind the socket of the first: both get what arrives there.
    pub ghost: Option<Side>,
    pub rng: StdRng,
    /// Probability that a datagram is lost.
    pub loss: f64,
    /// Probability that a datagram arrives twice.
    pub duplication: f64,
    /// Delay of each datagram: different delays reorder.
    pub delay: std::ops::Range<u64>,
    /// Address of the client as the bridge sees it, in place of its own.
    pub nat: BTreeMap<SocketAddr, SocketAddr>,
    /// Datagrams for which this returns true are lost: (to which side, from, to, bytes).
    pub filter: fn(usize, SocketAddr, SocketAddr, &[u8]) -> bool,
    flying: BinaryHeap<Reverse<Flying>>,
    order: u64,
}

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn hub(locals: &[&str], config: TransportConfig, seed: u8, now: Instant) -> Hub {
    let locals = locals.iter().map(|local| addr(local)).collect();
    Hub::new(config, locals, [seed; 32], now, Duration::from_secs(1_800_000_000)).unwrap()
}

pub(super) fn options(controlling: bool) -> TransportOptions {
    TransportOptions { controlling, label: Arc::from("conf/alice"), private_addresses: false }
}

impl Side {
    pub(super) fn new(hub: Hub) -> Self {
        Self {
            hub,
            bound: BTreeMap::new(),
            selected: BTreeMap::new(),
            keys: BTreeMap::new(),
            updates: Vec::new(),
            rtt: None,
            sent: 0,
            notices: Vec::new(),
        }
    }

    pub(super) fn saw(&self, update: &TransportUpdate) -> bool {
        self.updates.contains(update)
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let endpoint = self.bound.get(&from).copied();
        let datagram = TransportDatagram {
            shard: ShardId(from.port() % 4),
            local: to,
            remote: from,
            endpoint,
            received: now,
            bytes: Bytes::copy_from_slice(bytes),
        };
        let event = match bytes.first() {
            Some(0..=3) => TransportEvent::Stun(datagram),
            Some(20..=63) if endpoint.is_some() => TransportEvent::Dtls(datagram),
            _ => return,
        };
        self.hub.on_event(now, &event);
    }

    /// Executes the hub's outputs, and returns the datagrams that it sends.
    fn drain(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr, Bytes)> {
        let mut sent = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Update(update) => self.updates.push(update),
                Output::Notice(notice) if self.hub.sessions.contains_key(&notice.to()) => {
                    self.hub.on_notice(now, notice);
                }
                Output::Notice(notice) => self.notices.push(notice),
                Output::Command(TransportCommand::Bind { endpoint, remote, .. }) => {
                    let before = self.bound.insert(remote, endpoint);
                    assert_eq!(before, None, "{remote} was bound already");
                }
                Output::Command(TransportCommand::Unbind { endpoint, remote }) => {
                    assert_eq!(self.bound.remove(&remote), Some(endpoint));
                }
                Output::Command(TransportCommand::Select { endpoint, remote, local }) => {
                    assert_eq!(self.bound.get(&remote), Some(&endpoint), "selected but not bound");
                    self.selected.insert(endpoint, (local, remote));
                }
                Output::Command(TransportCommand::SetKeys(endpoint, keys)) => {
                    self.keys.insert(endpoint, keys);
                }
                Output::Command(TransportCommand::SetRtt(_, rtt)) => self.rtt = Some(rtt),
                Output::Command(TransportCommand::Transmit { local, remote, bytes, .. }) => {
                    self.sent += 1;
                    sent.push((local, remote, bytes));
                }
            }
        }
        sent
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let config = TransportConfig::default;
        let bridge = hub(&["192.0.2.1:10000"], config(), seed as u8, now);
        let client = hub(&["10.0.0.7:5000"], config(), !(seed as u8), now);
        Self::with_hubs(seed, now, bridge, client)
    }

    pub(super) fn with_hubs(seed: u64, now: Instant, bridge: Hub, client: Hub) -> Self {
        Self {
            now,
            sides: [Side::new(bridge), Side::new(client)],
            ghost: None,
            rng: StdRng::seed_from_u64(seed),
            loss: 0.0,
            duplication: 0.0,
            delay: 20..21,
            nat: BTreeMap::new(),
            filter: |_, _, _, _| false,
            flying: BinaryHeap::new(),
            order: 0,
        }
    }

    /// Creates the endpoint at both sides and signals everything. `setup`: the client's answer.
    pub(super) fn connect(&mut self, id: EndpointId, setup: Setup) {
        self.create(id, true, false);
        self.signal(id, setup);
    }

    pub(super) fn create(&mut self, id: EndpointId, bridge_controls: bool, client_controls: bool) {
        let now = self.now;
        self.sides[BRIDGE].hub.create(now, id, options(bridge_controls));
        self.sides[CLIENT].hub.create(now, id, options(client_controls));
    }

    pub(super) fn signal(&mut self, id: EndpointId, setup: Setup) {
        // The bridge offers actpass; the client's choice is its answer, so its hub is told the
        // opposite.
        let opposite = if setup == Setup::Active { Setup::Passive } else { Setup::Active };
        let offer = self.offer(BRIDGE, id, opposite);
        let answer = self.offer(CLIENT, id, setup);
        self.signal_to(CLIENT, id, offer);
        self.signal_to(BRIDGE, id, answer);
    }

    /// What `side` signals about itself.
    pub(super) fn offer(&self, side: usize, id: EndpointId, setup: Setup) -> RemoteTransport {
        let local = self.sides[side].hub.describe(id).unwrap();
        let candidates = local.candidates.iter().map(|c| RemoteCandidate {
            foundation: c.foundation.clone(),
            component: 1,
            protocol: "udp".to_owned(),
            priority: c.priority,
            ip: c.ip.to_string(),
            port: c.port,
            kind: c.kind,
        });
        RemoteTransport {
            ufrag: Some(local.ufrag),
            pwd: Some(local.pwd),
            // The bridge never reaches a client behind a NAT by its host candidates.
            candidates: if side == BRIDGE { candidates.collect() } else { Vec::new() },
            fingerprints: vec![Fingerprint { setup: Some(setup), ..local.fingerprint }],
            ice_generation: local.ice_generation,
        }
    }

    pub(super) fn signal_to(&mut self, side: usize, id: EndpointId, remote: RemoteTransport) {
        let now = self.now;
        self.sides[side].hub.set_remote(now, id, remote);
        self.drain(side);
    }

    /// The client sets up SCTP and opens a channel.
    pub(super) fn connect_sctp(&mut self, id: EndpointId) -> bool {
        let connect = |world: &mut Self| {
            let (hub, now) = (&mut world.sides[CLIENT].hub, world.now);
            hub.touch(now, id, |session, shared| session.connect_sctp(now, shared));
            world.drain(CLIENT);
        };
        connect(self);
        let connected = self.until(30, |w| w.sides[CLIENT].hub.counters().sctp_connected > 0);
        if connected {
            connect(self);
        }
        connected
    }

    pub(super) fn send_text(
        &mut self,
        side: usize,
        id: EndpointId,
        text: &str,
    ) -> Result<(), SendError> {
        let result = self.sides[side].hub.send_text(self.now, id, text);
        self.drain(side);
        result
    }

    pub(super) fn remove(&mut self, side: usize, id: EndpointId) {
        self.sides[side].hub.remove(id);
        self.drain(side);
    }

    /// Runs for a time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
        self.now = end;
    }

    /// Runs until the condition holds, at most until `end`. Returns whether it held.
    pub(super) fn run_until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        self.drain(BRIDGE);
        self.drain(CLIENT);
        while !done(self) {
            let flying = self.flying.peek().map(|Reverse(f)| f.at);
            let sides = self.sides.iter().chain(&self.ghost);
            let timers = sides.filter_map(|side| side.hub.poll_timeout());
            let Some(next) = timers.chain(flying).min().filter(|next| *next <= end) else {
                return false;
            };
            self.now = self.now.max(next);
            self.step();
        }
        true
    }

    pub(super) fn until(&mut self, seconds: u64, done: impl FnMut(&Self) -> bool) -> bool {
        self.run_until(self.now + Duration::from_secs(seconds), done)
    }

    pub(super) fn until_ready(&mut self, id: EndpointId, seconds: u64) -> bool {
        self.until(seconds, |w| w.sides.iter().all(|s| s.keys.contains_key(&id)))
    }

    fn step(&mut self) {
        while self.flying.peek().is_some_and(|Reverse(f)| f.at <= self.now) {
            if let Some(Reverse(flying)) = self.flying.pop() {
                self.deliver(flying.to_side, flying.from, flying.to, &flying.bytes);
            }
        }
        for side in [BRIDGE, CLIENT] {
            let hub = &mut self.sides[side].hub;
            if hub.poll_timeout().is_some_and(|at| at <= self.now) {
                hub.handle_timeout(self.now);
            }
            self.drain(side);
        }
        if let Some(mut ghost) = self.ghost.take() {
            if ghost.hub.poll_timeout().is_some_and(|at| at <= self.now) {
                ghost.hub.handle_timeout(self.now);
            }
            self.drain_ghost(ghost);
        }
    }

    fn drain_ghost(&mut self, mut ghost: Side) {
        let sent = ghost.drain(self.now);
        self.ghost = Some(ghost);
        for (local, remote, bytes) in sent {
            self.send(CLIENT, local, remote, &bytes);
        }
    }

    /// What a shard does with a datagram.
    pub(super) fn deliver(
        &mut self,
        to_side: usize,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        if let Some(mut ghost) = self.ghost.take_if(|_| to_side == CLIENT) {
            ghost.receive(self.now, from, to, bytes);
            self.drain_ghost(ghost);
        }
        self.sides[to_side].receive(self.now, from, to, bytes);
        self.drain(to_side);
    }

    fn drain(&mut self, from_side: usize) {
        for (local, remote, bytes) in self.sides[from_side].drain(self.now) {
            self.send(from_side, local, remote, &bytes);
        }
    }

    fn send(&mut self, from_side: usize, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let (from, to) = if from_side == CLIENT {
            (self.nat.get(&from).copied().unwrap_or(from), to)
        } else {
            // A NAT that was replaced lets nothing back in; neither does an unknown address.
            let inside = self.nat.iter().find(|(_, outside)| **outside == to).map(|(i, _)| *i);
            (from, inside.unwrap_or(to))
        };
        let to_side = 1 - from_side;
        let hidden = to_side == CLIENT && !self.sides[CLIENT].hub.shared.locals.contains(&to);
        if hidden || (self.filter)(to_side, from, to, bytes) || self.rng.random_bool(self.loss) {
            return;
        }
        let copies = if self.rng.random_bool(self.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.now + Duration::from_millis(self.rng.random_range(self.delay.clone()));
            self.order += 1;
            let (order, bytes) = (self.order, bytes.to_vec());
            self.flying.push(Reverse(Flying { at, order, to_side, from, to, bytes }));
        }
    }
}
