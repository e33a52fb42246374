//! The transport of one endpoint: its ICE agents, its addresses, its DTLS association.

mod addresses;
mod checks;
mod contest;
mod data;
mod debug;
mod media;
mod remote;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::RngCore;
use rialto_media::{EndpointId, TokenBucket};

use self::{
    addresses::Addresses,
    contest::Contests,
    media::{DtlsOutcome, Media},
};
use super::{
    certificate::Certificate,
    command::TransportCommand,
    fingerprint::{Fingerprint, Setup},
    hub::Shared,
    ice::{Agent, AgentParams, Pair},
    sctp,
    types::{ChannelText, FailReason, LocalTransport, Restart, TransportOptions, TransportUpdate},
};

/// Most failed handshakes per endpoint that are logged: anybody can cause them.
const MAX_LOGGED_FAILURES: u32 = 3;

/// One endpoint's transport.
pub(super) struct Session {
    endpoint: EndpointId,
    options: TransportOptions,
    certificate: Arc<Certificate>,
    /// Makes the ids of its candidates unique.
    tag: u64,
    /// The agent whose pair carries media.
    current: Agent,
    /// The agent of a restart until it has a pair, and when it is given up.
    next: Option<(Agent, Instant)>,
    /// A replaced agent, which still answers for a while.
    previous: Option<(Agent, Instant)>,
    generation: u32,
    addresses: Addresses,
    contests: Contests,
    /// The pair that the engine sends on.
    selected: Option<Pair>,
    peer_setup: Option<Setup>,
    media: Media,
    /// Whether ICE ever had a pair.
    established: bool,
    failed: Option<FailReason>,
    handshakes_failed: u32,
    connect_by: Option<Instant>,
    consent_timeout: Duration,
    /// When an authenticated request or answer last arrived.
    heard: Option<Instant>,
    /// Limits the rate of authenticated requests.
    requests: TokenBucket,
    /// The hub's timer for this session.
    pub scheduled: Option<Instant>,
}

impl Session {
    /// Creates a transport without a peer.
    pub(crate) fn new(
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
            contests: Contests::default(),
            selected: None,
            peer_setup: None,
            media: Media::default(),
            established: false,
            failed: None,
            handshakes_failed: 0,
            connect_by: None,
            consent_timeout: shared.config.consent_timeout,
            heard: None,
            requests: TokenBucket::default(),
            scheduled: None,
        }
    }

    /// The description to be signalled for the newest agent.
    pub(crate) fn describe(&self, shared: &Shared) -> LocalTransport {
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

    /// Creates a new agent beside the one that is in use.
    pub(crate) fn restart_ice(&mut self, now: Instant, shared: &mut Shared) -> Restart {
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

    /// When an authenticated request or answer last arrived, from any address.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        self.heard
    }

    /// The name in logs: `<conference id>/<endpoint id>`.
    pub(crate) fn label(&self) -> &Arc<str> {
        &self.options.label
    }

    /// Returns whether an address is bound to this endpoint.
    pub(crate) fn is_bound(&self, remote: SocketAddr) -> bool {
        self.addresses.contains(remote)
    }

    /// Handles a DTLS datagram from a bound address.
    pub(crate) fn on_dtls(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        datagram: &Bytes,
        shared: &mut Shared,
    ) {
        if self.failed.is_none() && !self.keep_for_claimant(remote, datagram) {
            let client = matches!(self.peer_setup, Some(Setup::Passive | Setup::Actpass));
            let verdict = self.media.on_datagram(
                now,
                datagram,
                client,
                &self.certificate,
                &shared.common.dtls,
            );
            shared.counters.dtls_alerts_ignored += self.media.take_ignored_alerts();
            self.conclude(verdict, shared);
            self.settle(now, shared);
        }
    }

    /// Allows the peer to set up SCTP and to open a data channel.
    pub(crate) fn offer_sctp(&mut self) {
        self.media.offer_sctp();
    }

    /// Sets up SCTP and opens a channel, as a client does.
    #[cfg(test)]
    pub(crate) fn connect_sctp(&mut self, now: Instant, shared: &mut Shared) {
        self.media.connect_sctp(now, &mut shared.counters);
        self.settle(now, shared);
    }

    /// Sends a text over the data channel.
    pub(crate) fn send_text(
        &mut self,
        now: Instant,
        text: &str,
        shared: &mut Shared,
    ) -> Result<(), sctp::SendError> {
        let result = self.media.send_text(now, text, &mut shared.counters);
        self.settle(now, shared);
        result
    }

    /// Handles the time passing.
    pub(crate) fn handle_timeout(&mut self, now: Instant, shared: &mut Shared) {
        if self.failed.is_some() {
            return;
        }
        for agent in self.agents_mut() {
            agent.handle_timeout(now);
        }
        let verdict = self.media.handle_timeout(now);
        self.conclude(verdict, shared);
        self.judge(now, shared);
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
    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        let consent = self.current.consent().map(|at| at + self.consent_timeout);
        let keep = self.selected.map(|(_, remote)| remote);
        let others = [
            consent,
            self.addresses.idle_at(keep),
            self.media.poll_timeout(),
            self.contests.poll_timeout(),
            self.connect_by,
            self.next.as_ref().map(|(_, by)| *by),
            self.previous.as_ref().map(|(_, until)| *until),
        ];
        let agents = self.agents_mut().filter_map(Agent::poll_timeout).min();
        others.into_iter().flatten().chain(agents).min()
    }

    /// Returns whether the hub's timer for that time is this session's current one.
    pub(crate) fn is_due(&self, at: Instant) -> bool {
        self.scheduled == Some(at)
    }

    /// Closes the transport: sends `close_notify` and releases the addresses.
    pub(crate) fn close(&mut self, shared: &mut Shared) {
        self.media.close();
        self.send_media(shared);
        let all = self.addresses.take();
        self.unbind(all, shared);
    }

    fn newest(&self) -> &Agent {
        self.next.as_ref().map_or(&self.current, |(agent, _)| agent)
    }

    fn agents_mut(&mut self) -> impl Iterator<Item = &mut Agent> {
        let others = [&mut self.next, &mut self.previous];
        let others = others.into_iter().flatten().map(|(agent, _)| agent);
        std::iter::once(&mut self.current).chain(others)
    }

    fn agent(&mut self, generation: u32) -> Option<&mut Agent> {
        self.agents_mut().find(|agent| agent.generation() == generation)
    }

    /// After each call: sends what the agents have to send, follows their choice of a pair, and
    /// drives DTLS.
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
            let verdict = self.media.start_client(now, &self.certificate, &shared.common.dtls);
            self.conclude(verdict, shared);
        }
        let verdict = self.media.verify();
        self.conclude(verdict, shared);
        self.exchange_data(now, shared);
        self.send_media(shared);
    }

    /// Drives the data channel, and reports its events.
    fn exchange_data(&mut self, now: Instant, shared: &mut Shared) {
        let endpoint = self.endpoint;
        for event in self.media.exchange(now, &mut shared.counters) {
            match event {
                sctp::SctpEvent::Opened => {
                    tracing::info!(endpoint = %self.options.label, "data channel opened");
                    shared.update(TransportUpdate::ChannelOpened { endpoint });
                }
                sctp::SctpEvent::Closed(why) => {
                    tracing::info!(endpoint = %self.options.label, why, "data channel closed");
                    shared.update(TransportUpdate::ChannelClosed { endpoint });
                }
                sctp::SctpEvent::Text(text) => {
                    match ChannelText::new(text, &shared.common.unread) {
                        Some(text) => {
                            shared.counters.channel_texts_received += 1;
                            shared.update(TransportUpdate::ChannelText { endpoint, text });
                        }
                        None => shared.counters.channel_texts_dropped += 1,
                    }
                }
                sctp::SctpEvent::Packet(_) => {}
            }
        }
    }

    /// Switches to a restarted agent once it has a pair.
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
            // Its address was released or lost; the next answer on it binds it again.
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
            shared.transmit(self.addresses.shard(remote), (local, remote), bytes);
        }
    }

    fn conclude(&mut self, verdict: DtlsOutcome, shared: &mut Shared) {
        let endpoint = self.endpoint;
        match verdict {
            DtlsOutcome::Nothing => {}
            DtlsOutcome::Ready(keys) => {
                shared.counters.dtls_succeeded += 1;
                let (profile, version) = (keys.profile, self.media.version());
                tracing::info!(endpoint = %self.options.label, ?profile, version, "DTLS connected");
                shared.command(TransportCommand::SetKeys(endpoint, keys));
                shared.update(TransportUpdate::Ready { endpoint });
            }
            DtlsOutcome::Closed => shared.update(TransportUpdate::Closed { endpoint }),
            DtlsOutcome::Again(why) => {
                shared.counters.dtls_restarted += 1;
                self.handshakes_failed = self.handshakes_failed.saturating_add(1);
                if self.handshakes_failed <= MAX_LOGGED_FAILURES {
                    let endpoint = &self.options.label;
                    tracing::info!(%endpoint, why, "DTLS handshake failed, waiting for another");
                }
            }
            DtlsOutcome::Failed(reason) => {
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
}

fn new_agent(
    endpoint: EndpointId,
    generation: u32,
    controlling: bool,
    shared: &mut Shared,
) -> Agent {
    let (ufrag, pwd) = shared.common.ufrags.credentials(endpoint, generation, &mut shared.rng);
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
