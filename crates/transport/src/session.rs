//! The transport of one endpoint: its agents, its addresses, its DTLS association.

mod addresses;
mod bucket;
mod data;
mod debug;
mod media;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rand::RngCore;
use rialto_media::{EndpointId, TransportDatagram};

use self::{
    addresses::{Address, Addresses},
    bucket::Bucket,
    media::{Media, Verdict},
};
use super::{
    certificate::Certificate,
    command::TransportCommand,
    fingerprint::{Fingerprint, Setup},
    hub::{Pending, Shared, WantedName},
    ice::{Agent, AgentParams, Pair},
    sctp,
    stun::{self, Message},
    types::{
        ChannelText, FailReason, LocalTransport, RemoteCandidate, RemoteTransport, Restart,
        TransportOptions, TransportUpdate,
    },
};

/// An address whose owner was silent for so long, more than a consent interval and its jitter, may go
/// to another endpoint that answers there.
const OWNER_SILENCE: Duration = Duration::from_secs(7);

/// Failed handshakes of an endpoint that the log tells of: anybody can cause them.
const MAX_TOLD: u32 = 3;

/// One endpoint's transport.
pub(super) struct Session {
    endpoint: EndpointId,
    options: TransportOptions,
    certificate: Arc<Certificate>,
    /// Makes the candidates' ids unique.
    tag: u64,
    /// The agent whose pair carries media.
    current: Agent,
    /// A restarted one, until it has a pair; and when it is given up.
    next: Option<(Agent, Instant)>,
    /// A replaced one, which still answers for a while.
    previous: Option<(Agent, Instant)>,
    generation: u32,
    addresses: Addresses,
    /// What the engine was told to send to.
    selected: Option<Pair>,
    peer_setup: Option<Setup>,
    media: Media,
    /// ICE had a pair at some time.
    established: bool,
    failed: Option<FailReason>,
    handshakes_failed: u32,
    connect_by: Option<Instant>,
    consent_timeout: Duration,
    /// When an authenticated request or answer last came.
    heard: Option<Instant>,
    /// Limits authenticated requests.
    bucket: Bucket,
    /// The hub's timer for this session.
    pub scheduled: Option<Instant>,
}

impl Session {
    /// A transport without a peer yet.
    pub fn new(
        endpoint: EndpointId,
        options: TransportOptions,
        certificate: Arc<Certificate>,
        shared: &mut Shared,
    ) -> Self {
        let current = new_agent(endpoint, 0, options.controlling, shared);
        Self {
            endpoint,
            options,
            certificate,
            tag: shared.rng.next_u64(),
            current,
            next: None,
            previous: None,
            generation: 0,
            addresses: Addresses::default(),
            selected: None,
            peer_setup: None,
            media: Media::default(),
            established: false,
            failed: None,
            handshakes_failed: 0,
            connect_by: None,
            consent_timeout: shared.config.consent_timeout,
            heard: None,
            bucket: Bucket::default(),
            scheduled: None,
        }
    }

    /// What is signalled for the newest agent.
    pub fn describe(&self, shared: &Shared) -> LocalTransport {
        let agent = self.newest();
        let setup = match self.peer_setup {
            None | Some(Setup::Holdconn) => Setup::Actpass,
            Some(Setup::Active) => Setup::Passive,
            Some(Setup::Passive | Setup::Actpass) => Setup::Active,
        };
        let fingerprint =
            Fingerprint { setup: Some(setup), ..self.certificate.fingerprint.clone() };
        LocalTransport {
            ufrag: agent.ufrag().to_owned(),
            pwd: agent.pwd().to_owned(),
            candidates: shared.candidates(self.options.private_addresses, self.tag),
            fingerprint,
            ice_generation: (agent.generation() > 0).then(|| agent.generation()),
        }
    }

    /// Adds what the peer signalled.
    pub fn set_remote(&mut self, now: Instant, remote: RemoteTransport, shared: &mut Shared) {
        if self.failed.is_some() {
            return;
        }
        for fingerprint in remote.fingerprints {
            if let (None, Some(setup)) = (self.peer_setup, fingerprint.setup) {
                self.peer_setup = Some(setup);
            }
            if shared.config.accepted_hashes.contains(&fingerprint.hash) {
                self.media.add_fingerprint(fingerprint);
            } else {
                let hash = fingerprint.hash.as_str();
                tracing::debug!(hash, "a fingerprint by this function is not accepted");
            }
        }
        let generation = self.addressed(remote.ice_generation, remote.ufrag.as_deref());
        let Some(agent) = self.agent(generation) else {
            shared.counters.candidates_ignored += remote.candidates.len() as u64;
            return;
        };
        if let (Some(ufrag), Some(pwd)) = (&remote.ufrag, &remote.pwd) {
            agent.set_remote(now, ufrag, pwd);
            if !self.established && self.connect_by.is_none() {
                self.connect_by = Some(now + shared.config.connect_timeout);
                shared.silence.expect(now);
            }
        }
        for candidate in remote.candidates {
            self.add_candidate(now, &candidate, generation, shared);
        }
        self.settle(now, shared);
    }

    /// What a look-up of a candidate's name found.
    pub fn add_resolved(
        &mut self,
        now: Instant,
        wanted: &WantedName,
        addrs: &[SocketAddr],
        shared: &mut Shared,
    ) {
        let generation = wanted.generation.unwrap_or(self.newest().generation());
        for addr in addrs {
            let added = self
                .agent(generation)
                .is_some_and(|a| a.add_candidate(now, *addr, wanted.kind, wanted.priority));
            shared.counters.candidates_ignored += u64::from(!added);
        }
        self.settle(now, shared);
    }

    /// Makes a new agent beside the one that is in use.
    pub fn restart_ice(&mut self, now: Instant, shared: &mut Shared) -> Restart {
        if !shared.config.restart_enabled || self.failed.is_some() {
            shared.counters.restarts_rejected += 1;
            return Restart::Refused;
        }
        if !self.established {
            shared.counters.restarts_not_established += 1;
            return Restart::NotEstablished(self.describe(shared));
        }
        if self.next.is_some() {
            shared.counters.restarts_superseded += 1;
        }
        self.generation += 1;
        let controlling = self.current.controlling();
        let agent = new_agent(self.endpoint, self.generation, controlling, shared);
        self.next = Some((agent, now + shared.config.restart_timeout));
        shared.counters.restarts_started += 1;
        tracing::info!(endpoint = %self.options.label, generation = self.generation, "ICE restart");
        Restart::Started(self.describe(shared))
    }

    /// Takes a STUN request whose ufrag names this endpoint.
    pub fn on_request(
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
        if !self.bucket.take(now) {
            shared.counters.stun_rate_limited += 1;
            return;
        }
        let pair = (datagram.local, datagram.remote);
        let taken = self
            .agent(generation)
            .is_some_and(|agent| agent.on_request(now, pair, message, &datagram.bytes));
        if !taken {
            shared.counters.stun_unauthenticated += 1;
            return;
        }
        shared.counters.stun_requests += 1;
        shared.count_check(datagram.local);
        // A request can be sent with a forged source: another endpoint's address does not move by it.
        let owner = shared.owners.get(&datagram.remote);
        if owner.is_none_or(|(owner, _)| *owner == self.endpoint) {
            self.bind(now, datagram, shared);
        }
        self.settle(now, shared);
    }

    /// Takes the response to a request of one of the agents.
    pub fn on_response(
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
        // Nor does the address of one that lives, even by an answer: transactions can be guessed.
        let owner = shared.owners.get(&datagram.remote);
        if owner.is_some_and(|&(id, heard)| id != self.endpoint && now < heard + OWNER_SILENCE) {
            shared.counters.addresses_contested += 1;
            return;
        }
        let taken = self
            .agent(pending.generation)
            .is_some_and(|agent| agent.on_response(now, pending.pair, message, &datagram.bytes));
        if !taken {
            shared.counters.stun_unauthenticated += 1;
            return;
        }
        shared.answered(&message.transaction);
        shared.counters.stun_responses += 1;
        if message.class == stun::Class::Error {
            self.settle(now, shared);
            return;
        }
        self.bind(now, datagram, shared);
        self.settle(now, shared);
        if self.selected == Some(pending.pair) {
            let rtt = datagram.received.saturating_duration_since(pending.sent);
            shared.command(TransportCommand::SetRtt(self.endpoint, rtt));
        }
    }

    /// When an authenticated request or answer last came, from any address.
    pub fn last_heard(&self) -> Option<Instant> {
        self.heard
    }

    /// For logs: `<conference id>/<endpoint id>`.
    pub fn label(&self) -> &Arc<str> {
        &self.options.label
    }

    /// Whether that address is bound to this endpoint.
    pub fn is_bound(&self, remote: SocketAddr) -> bool {
        self.addresses.contains(remote)
    }

    /// Takes a DTLS datagram from a bound address.
    pub fn on_dtls(&mut self, now: Instant, datagram: &[u8], shared: &mut Shared) {
        if self.failed.is_none() {
            let client = matches!(self.peer_setup, Some(Setup::Passive | Setup::Actpass));
            let verdict =
                self.media.on_datagram(now, datagram, client, &self.certificate, &shared.dtls);
            shared.counters.dtls_alerts_ignored += self.media.take_ignored_alerts();
            self.conclude(verdict, shared);
            self.settle(now, shared);
        }
    }

    /// From now on the peer may set up SCTP and open a data channel.
    pub fn offer_sctp(&mut self) {
        self.media.offer_sctp();
    }

    /// Sets up SCTP and opens a channel, as a client does.
    #[cfg(test)]
    pub fn connect_sctp(&mut self, now: Instant, shared: &mut Shared) {
        self.media.connect_sctp(now, &mut shared.counters);
        self.settle(now, shared);
    }

    /// Sends a text in the data channel.
    pub fn send_text(
        &mut self,
        now: Instant,
        text: &str,
        shared: &mut Shared,
    ) -> Result<(), sctp::SendError> {
        let result = self.media.send_text(now, text, &mut shared.counters);
        self.settle(now, shared);
        result
    }

    /// Another endpoint proved that it has this address now. The engine knows.
    pub fn forget_address(&mut self, remote: SocketAddr) {
        self.addresses.remove(remote);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, shared: &mut Shared) {
        if self.failed.is_some() {
            return;
        }
        for agent in self.agents_mut() {
            agent.handle_timeout(now);
        }
        let verdict = self.media.handle_timeout(now);
        self.conclude(verdict, shared);
        if self.connect_by.is_some_and(|by| now >= by) {
            shared.counters.ice_failed += 1;
            self.fail(FailReason::IceTimeout, shared);
        }
        if self.next.as_ref().is_some_and(|(_, by)| now >= *by) {
            self.next = None;
            shared.counters.restarts_failed += 1;
            tracing::info!(endpoint = %self.options.label, "ICE restart timed out");
        }
        if self.previous.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.previous = None;
        }
        let idle = self.addresses.take_idle(now, self.selected.map(|(_, remote)| remote));
        self.unbind(idle, shared);
        self.settle(now, shared);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        let consent = self.current.consent().map(|at| at + self.consent_timeout);
        let keep = self.selected.map(|(_, remote)| remote);
        let others = [
            consent,
            self.addresses.idle_at(keep),
            self.media.poll_timeout(),
            self.connect_by,
            self.next.as_ref().map(|(_, by)| *by),
            self.previous.as_ref().map(|(_, until)| *until),
        ];
        let agents = self.agents_mut().filter_map(Agent::poll_timeout).min();
        others.into_iter().flatten().chain(agents).min()
    }

    /// Whether the hub's timer of that time is this session's present one.
    pub fn is_due(&self, at: Instant) -> bool {
        self.scheduled == Some(at)
    }

    /// Ends it: says goodbye, gives the addresses back.
    pub fn close(&mut self, shared: &mut Shared) {
        self.media.close();
        self.send_media(shared);
        let all = self.addresses.take();
        self.unbind(all, shared);
    }

    fn newest(&self) -> &Agent {
        self.next.as_ref().map_or(&self.current, |(agent, _)| agent)
    }

    fn agents(&self) -> impl Iterator<Item = &Agent> {
        let others = [&self.next, &self.previous].into_iter().flatten().map(|(agent, _)| agent);
        std::iter::once(&self.current).chain(others)
    }

    fn agents_mut(&mut self) -> impl Iterator<Item = &mut Agent> {
        let others = [&mut self.next, &mut self.previous];
        let others = others.into_iter().flatten().map(|(agent, _)| agent);
        std::iter::once(&mut self.current).chain(others)
    }

    fn agent(&mut self, generation: u32) -> Option<&mut Agent> {
        self.agents_mut().find(|agent| agent.generation() == generation)
    }

    /// The generation of the agent that a signalled transport is for.
    fn addressed(&self, generation: Option<u32>, ufrag: Option<&str>) -> u32 {
        generation.unwrap_or_else(|| {
            // Trickled candidates of before a restart come with the old credentials.
            let old = ufrag.is_some() && self.current.remote_ufrag() == ufrag;
            if old { self.current.generation() } else { self.newest().generation() }
        })
    }

    fn add_candidate(
        &mut self,
        now: Instant,
        candidate: &RemoteCandidate,
        generation: u32,
        shared: &mut Shared,
    ) {
        let usable = candidate.component == 1 && candidate.protocol.eq_ignore_ascii_case("udp");
        let RemoteCandidate { ip, port, kind, priority, .. } = candidate;
        let added = usable
            && match ip.parse::<IpAddr>() {
                Ok(ip) => self.agent(generation).is_some_and(|agent| {
                    agent.add_candidate(now, SocketAddr::new(ip, *port), *kind, *priority)
                }),
                Err(_) if shared.config.resolve_remote_candidates && !is_mdns(ip) => shared
                    .want_name(WantedName {
                        endpoint: self.endpoint,
                        name: ip.clone(),
                        port: *port,
                        kind: *kind,
                        priority: *priority,
                        generation: Some(generation),
                    }),
                Err(_) => false,
            };
        shared.counters.candidates_ignored += u64::from(!added);
    }

    /// After anything happened: sends what the agents have to send, follows their choice of a pair,
    /// and drives DTLS.
    fn settle(&mut self, now: Instant, shared: &mut Shared) {
        if self.failed.is_some() {
            return;
        }
        self.send_checks(now, shared);
        self.cut_over(now, shared);
        self.check_consent(now, shared);
        self.follow_selection(now, shared);
        let client = matches!(self.peer_setup, Some(Setup::Passive | Setup::Actpass));
        if self.selected.is_some() && client {
            let verdict = self.media.start_client(now, &self.certificate, &shared.dtls);
            self.conclude(verdict, shared);
        }
        let verdict = self.media.verify();
        self.conclude(verdict, shared);
        self.exchange_data(now, shared);
        self.send_media(shared);
    }

    /// Drives the data channel, and tells what happened in it.
    fn exchange_data(&mut self, now: Instant, shared: &mut Shared) {
        let endpoint = self.endpoint;
        for event in self.media.exchange(now, &mut shared.counters) {
            match event {
                sctp::Event::Opened => {
                    tracing::info!(endpoint = %self.options.label, "data channel opened");
                    shared.update(TransportUpdate::ChannelOpened { endpoint });
                }
                sctp::Event::Closed => {
                    tracing::info!(endpoint = %self.options.label, "data channel closed");
                    shared.update(TransportUpdate::ChannelClosed { endpoint });
                }
                sctp::Event::Text(text) => match ChannelText::new(text, &shared.unread) {
                    Some(text) => {
                        shared.counters.channel_texts_received += 1;
                        shared.update(TransportUpdate::ChannelText { endpoint, text });
                    }
                    None => shared.counters.channel_texts_dropped += 1,
                },
                sctp::Event::Packet(_) => {}
            }
        }
    }

    fn send_checks(&mut self, now: Instant, shared: &mut Shared) {
        let (endpoint, addresses) = (self.endpoint, &self.addresses);
        let others = [&mut self.next, &mut self.previous];
        let others = others.into_iter().flatten().map(|(agent, _)| agent);
        for agent in std::iter::once(&mut self.current).chain(others) {
            shared.counters.role_conflicts += u64::from(agent.take_role_switch());
            while let Some((pair, bytes)) = agent.poll_transmit() {
                if let (true, Some(id)) = (stun::is_request(&bytes), stun::transaction_of(&bytes)) {
                    let generation = agent.generation();
                    shared.expect_response(id, Pending { endpoint, generation, pair, sent: now });
                } else if stun::is_error(&bytes) {
                    shared.counters.role_conflicts += 1;
                }
                let (local, remote) = pair;
                let shard = addresses.shard(remote);
                shared.command(TransportCommand::Transmit { shard, local, remote, bytes });
            }
        }
    }

    /// A restarted agent with a pair takes over.
    fn cut_over(&mut self, now: Instant, shared: &mut Shared) {
        if let Some((agent, _)) = self.next.take_if(|(agent, _)| agent.selected().is_some()) {
            let replaced = std::mem::replace(&mut self.current, agent);
            self.previous = Some((replaced, now + shared.config.restart_window));
            shared.counters.restarts_succeeded += 1;
        }
    }

    fn check_consent(&mut self, now: Instant, shared: &mut Shared) {
        let Some(consent) = self.current.consent() else { return };
        if now >= consent + self.consent_timeout {
            shared.counters.consent_lost += 1;
            tracing::info!(endpoint = %self.options.label, "consent lost");
            self.current.drop_selected();
        }
    }

    fn follow_selection(&mut self, now: Instant, shared: &mut Shared) {
        let mut selected = self.current.selected();
        if selected != self.selected && selected.is_some_and(|(_, to)| !self.is_bound(to)) {
            // Its address was given back or lost; the next answer on it binds it again.
            self.current.drop_selected();
            selected = None;
        }
        if selected == self.selected {
            return;
        }
        let endpoint = self.endpoint;
        let before = std::mem::replace(&mut self.selected, selected);
        let Some((local, remote)) = selected else {
            let all = self.addresses.take();
            self.unbind(all, shared);
            shared.update(TransportUpdate::Disconnected { endpoint });
            return;
        };
        shared.command(TransportCommand::Select { endpoint, remote, local });
        if let Some((_, old)) = before {
            shared.counters.address_changes += u64::from(old != remote);
            return;
        }
        if !self.established {
            self.established = true;
            self.connect_by = None;
            shared.counters.ice_succeeded += 1;
            shared.counters.ice_succeeded_relayed += u64::from(self.current.is_relayed());
            self.media.begin(now + shared.config.dtls_timeout);
        }
        tracing::info!(endpoint = %self.options.label, "ICE connected");
        shared.update(TransportUpdate::Connected { endpoint });
    }

    fn send_media(&mut self, shared: &mut Shared) {
        let Some((local, remote)) = self.selected else { return };
        for bytes in self.media.take_packets() {
            let shard = self.addresses.shard(remote);
            shared.command(TransportCommand::Transmit { shard, local, remote, bytes });
        }
    }

    fn conclude(&mut self, verdict: Verdict, shared: &mut Shared) {
        let endpoint = self.endpoint;
        match verdict {
            Verdict::Nothing => {}
            Verdict::Ready(keys) => {
                shared.counters.dtls_succeeded += 1;
                let (profile, version) = (keys.profile, self.media.version());
                tracing::info!(endpoint = %self.options.label, ?profile, version, "DTLS connected");
                shared.command(TransportCommand::SetKeys(endpoint, keys));
                shared.update(TransportUpdate::Ready { endpoint });
            }
            Verdict::Closed => shared.update(TransportUpdate::Closed { endpoint }),
            Verdict::Again(why) => {
                shared.counters.dtls_restarted += 1;
                self.handshakes_failed = self.handshakes_failed.saturating_add(1);
                if self.handshakes_failed <= MAX_TOLD {
                    let endpoint = &self.options.label;
                    tracing::info!(%endpoint, why, "DTLS handshake failed, waiting for another");
                }
            }
            Verdict::Failed(reason) => {
                shared.counters.dtls_failed += 1;
                let mismatch = reason == FailReason::FingerprintMismatch;
                shared.counters.dtls_fingerprint_mismatch += u64::from(mismatch);
                self.fail(reason, shared);
            }
        }
    }

    fn fail(&mut self, reason: FailReason, shared: &mut Shared) {
        if self.failed.is_some() {
            return;
        }
        let why = self.media.why();
        tracing::info!(endpoint = %self.options.label, %reason, why, "transport failed");
        self.failed = Some(reason);
        self.selected = None;
        self.media = Media::default();
        let all = self.addresses.take();
        self.unbind(all, shared);
        shared.update(TransportUpdate::Failed { endpoint: self.endpoint, reason });
    }

    /// Makes sure that the engine knows the address on which this datagram authenticated.
    fn bind(&mut self, now: Instant, datagram: &TransportDatagram, shared: &mut Shared) {
        let &TransportDatagram { local, remote, shard, .. } = datagram;
        let endpoint = self.endpoint;
        self.heard = Some(now);
        let before = shared.owners.insert(remote, (endpoint, now));
        if self.addresses.touch(now, remote, shard) {
            return;
        }
        if let Some((loser, _)) = before.filter(|(old, _)| *old != endpoint) {
            shared.lost.push((loser, remote));
            shared.command(TransportCommand::Unbind { endpoint: loser, remote });
        }
        let keep = self.selected.map(|(_, remote)| remote);
        let evicted = self.addresses.add(Address { remote, shard, heard: now }, keep);
        shared.counters.addresses_evicted += u64::from(evicted.is_some());
        self.unbind(evicted.into_iter().collect(), shared);
        shared.command(TransportCommand::Bind { endpoint, remote, local, shard });
    }

    /// Gives addresses back that are no longer in the list.
    fn unbind(&self, addresses: Vec<SocketAddr>, shared: &mut Shared) {
        for remote in addresses {
            if shared.owners.get(&remote).is_some_and(|(owner, _)| *owner == self.endpoint) {
                shared.owners.remove(&remote);
                shared.command(TransportCommand::Unbind { endpoint: self.endpoint, remote });
            }
        }
    }
}

fn new_agent(
    endpoint: EndpointId,
    generation: u32,
    controlling: bool,
    shared: &mut Shared,
) -> Agent {
    let (ufrag, pwd) = shared.ufrags.credentials(endpoint, generation, &mut shared.rng);
    Agent::new(AgentParams {
        ufrag,
        pwd,
        generation,
        controlling,
        tie_breaker: shared.rng.next_u64(),
        locals: Arc::clone(&shared.locals),
        consent_interval: shared.consent_interval(),
    })
}

/// mDNS names (RFC 6762) are for the peer's own network and are never looked up.
fn is_mdns(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("local"))
}
