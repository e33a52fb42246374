//! Connectivity checks of the peer and of ours, and the addresses on which they authenticate.

use std::{net::SocketAddr, time::Instant};

use rialto_media::{Rate, TransportDatagram};

use super::{
    super::{
        command::TransportCommand,
        hub::{Inner, Pending, Shared},
        ice::Agent,
        stun::{Class, Message, Writer},
    },
    Session,
    addresses::Address,
};

/// Requests of one endpoint that are answered. A browser with several interfaces sends some 20 a second while it
/// connects.
const REQUESTS: Rate = Rate::per_second(50, 100);

impl Session {
    /// Handles a STUN request whose ufrag names this endpoint.
    pub(crate) fn on_request(
        &mut self,
        now: Instant,
        datagram: &TransportDatagram,
        message: &Message<'_>,
        shared: &mut Shared,
    ) {
        let ours = message.ufrags().map(|(ours, _)| ours).unwrap_or_default();
        let Some(agent) = self.agents().find(|agent| agent.ufrag().as_bytes() == ours) else {
            shared.counters.stun_unknown += 1;
            return;
        };
        if self.failed.is_some() {
            return;
        }
        if !message.is_authentic(agent.pwd().as_bytes()) {
            shared.counters.stun_unauthenticated += 1;
            return;
        }
        if !agent.uses(datagram.local) {
            shared.counters.stun_wrong_local += 1;
            return;
        }
        let generation = agent.generation();
        if !self.requests.take(&REQUESTS, 1, now) {
            shared.counters.stun_rate_limited += 1;
            return;
        }
        if !message.unknown().is_empty() {
            self.refuse(generation, datagram, message, shared);
            return;
        }
        let pair = (datagram.local, datagram.remote);
        let taken =
            self.agent(generation).is_some_and(|agent| agent.on_request(now, pair, message));
        if !taken {
            shared.counters.stun_unauthenticated += 1;
            return;
        }
        shared.counters.stun_requests += 1;
        shared.count_check(datagram.local);
        // A request can be sent with a forged source, so it does not move an address from another
        // endpoint.
        match shared.common.owners.of(datagram.remote) {
            Some(owner) if owner != self.endpoint => self.suspect(datagram.remote, owner, shared),
            _ => {
                self.bind(now, datagram, shared);
            }
        }
        self.judge(now, shared);
        self.settle(now, shared);
    }

    /// Handles the response to a request of one of the agents.
    pub(crate) fn on_response(
        &mut self,
        now: Instant,
        datagram: &TransportDatagram,
        message: &Message<'_>,
        pending: Pending,
        shared: &mut Shared,
    ) {
        if self.failed.is_some() {
            return;
        }
        let genuine = self.agent(pending.generation).is_some_and(|a| a.is_of_peer(message));
        if !genuine {
            shared.counters.stun_unauthenticated += 1;
            return;
        }
        let success = message.class == Class::Success;
        let owner = shared.common.owners.of(datagram.remote).filter(|id| *id != self.endpoint);
        if let Some(owner) = owner.filter(|_| success) {
            self.claim(owner, datagram, pending, shared);
            return;
        }
        if let Inner::Check(transaction) = pending.inner {
            let taken = self
                .agent(pending.generation)
                .is_some_and(|agent| agent.on_response(now, pending.pair, message, transaction));
            if !taken {
                shared.counters.stun_unauthenticated += 1;
                return;
            }
        }
        shared.answered(&message.transaction);
        shared.counters.stun_responses += 1;
        if success && self.bind(now, datagram, shared) {
            self.judge(now, shared);
        }
        self.settle(now, shared);
        if success && self.selected == Some(pending.pair) {
            let rtt = datagram.received.saturating_duration_since(pending.sent);
            shared.command(TransportCommand::SetRtt(self.endpoint, rtt));
        }
    }

    /// Answers a request with unknown mandatory attributes (RFC 8489 section 6.3.1). It has
    /// authenticated, and counts towards the limit of requests.
    fn refuse(
        &mut self,
        generation: u32,
        datagram: &TransportDatagram,
        message: &Message<'_>,
        shared: &mut Shared,
    ) {
        shared.counters.stun_unknown_attributes += 1;
        let pair = (datagram.local, datagram.remote);
        let pwd = self.agent(generation).map(|agent| agent.pwd().to_owned()).unwrap_or_default();
        let answer = Writer::new(Class::Error, message.transaction)
            .error(420, "Unknown Attribute")
            .unknown_attributes(message.unknown())
            .finish(pwd.as_bytes());
        shared.transmit(datagram.shard, pair, answer);
    }

    /// Sends what the agents have to send.
    pub(super) fn send_checks(&mut self, now: Instant, shared: &mut Shared) {
        let (endpoint, addresses) = (self.endpoint, &self.addresses);
        let others = [&mut self.next, &mut self.previous];
        let others = others.into_iter().flatten().map(|(agent, _)| agent);
        for agent in std::iter::once(&mut self.current).chain(others) {
            shared.counters.role_conflicts += u64::from(agent.take_role_switch());
            let generation = agent.generation();
            while let Some(out) = agent.poll_transmit(|| shared.transaction()) {
                let pair = out.pair;
                if let Some((transaction, inner)) = out.request {
                    let inner = Inner::Check(inner);
                    let pending = Pending { endpoint, generation, pair, sent: now, inner };
                    shared.expect_response(transaction, pending);
                }
                shared.counters.role_conflicts += u64::from(out.conflict);
                shared.transmit(addresses.shard(pair.1), pair, out.bytes);
            }
        }
    }

    /// Binds the address on which this datagram authenticated. Returns false if another endpoint
    /// has it.
    fn bind(&mut self, now: Instant, datagram: &TransportDatagram, shared: &mut Shared) -> bool {
        let &TransportDatagram { local, remote, shard, .. } = datagram;
        let endpoint = self.endpoint;
        self.heard = Some(now);
        let address = Address { remote, local, shard, heard: now };
        if self.addresses.touch(&address) {
            return true;
        }
        if shared.common.owners.claim(remote, endpoint).is_err() {
            return false;
        }
        let keep = self.selected.map(|(_, remote)| remote);
        let evicted = self.addresses.add(address, keep);
        shared.counters.addresses_evicted += u64::from(evicted.is_some());
        self.unbind(evicted.into_iter().collect(), shared);
        shared.command(TransportCommand::Bind { endpoint, remote, local, shard });
        true
    }

    /// Releases addresses that were removed from the list.
    pub(super) fn unbind(&mut self, addresses: Vec<SocketAddr>, shared: &mut Shared) {
        for remote in addresses {
            shared.release(self.endpoint, remote);
            self.abandon(remote, shared);
        }
    }

    /// All agents, the one in use first.
    pub(super) fn agents(&self) -> impl Iterator<Item = &Agent> {
        let others = [&self.next, &self.previous].into_iter().flatten().map(|(agent, _)| agent);
        std::iter::once(&self.current).chain(others)
    }
}
