//! A hub serves many transports: it finds the transport of each datagram and runs their timers.
//!
//! STUN requests are attributed by the ufrag, which names its owner; responses by the transaction
//! id; DTLS by the endpoint that the packet path found bound to the address. A process has several
//! hubs, each with a part of the endpoints. What they share is in `Common`; messages between the
//! transports of two endpoints are [`Notice`]s. Sans-IO.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rialto_media::{EndpointId, ShardId, TransportDatagram, TransportEvent};
use rustc_hash::FxHashMap;

use super::{
    candidates,
    certificate::CertificateError,
    command::TransportCommand,
    common::{Common, Identity},
    config::{StaticMapping, TransportConfig},
    dtls,
    ice::Pair,
    sctp::SendError,
    session::Session,
    silence::Unreachable,
    stun::{Class, Message, TransactionId},
    types::{
        CandidateKind, LocalTransport, RemoteTransport, Restart, TransportCounters,
        TransportOptions, TransportUpdate,
    },
};

/// A response that arrives later than this is of no use.
const TRANSACTION_LIFE: Duration = Duration::from_secs(10);
/// Most local addresses for which checks are counted separately.
const MAX_CHECKED: usize = 64;
/// Shortest time between two timer calls of a session, whatever it asks for.
const MIN_STEP: Duration = Duration::from_millis(1);
/// Timers served in one call, so that callers of other methods get their turn. The rest stay due.
const TIMERS_AT_ONCE: usize = 256;
/// Most host names that wait to be looked up; more are ignored.
const MAX_NAMES: usize = 64;

/// An output of the hub.
#[derive(Debug)]
pub enum Output {
    /// A command for the packet path.
    Command(TransportCommand),
    /// An update for the conferences.
    Update(TransportUpdate),
    /// A notice for [`Hub::on_notice`] of the hub of that endpoint, which may be this one.
    Notice(Notice),
}

/// A message from one endpoint's transport to another's.
#[derive(Debug)]
pub enum Notice {
    /// Another endpoint authenticated from an address of this endpoint.
    Contest {
        /// The endpoint that has the address.
        owner: EndpointId,
        /// The endpoint that also seems to be there.
        claimant: EndpointId,
        /// The address.
        address: SocketAddr,
        /// Whether the claimant answered a check there.
        proved: bool,
    },
    /// The address that this endpoint claims is free now.
    Yielded {
        /// The endpoint that claims it.
        claimant: EndpointId,
        /// The address.
        address: SocketAddr,
        /// DTLS datagrams that arrived from there meanwhile.
        dtls: Vec<Bytes>,
    },
}

impl Notice {
    /// The endpoint that the notice is for.
    pub fn to(&self) -> EndpointId {
        match self {
            Self::Contest { owner, .. } => *owner,
            Self::Yielded { claimant, .. } => *claimant,
        }
    }
}

/// Why transports cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The network interfaces cannot be listed.
    #[error("cannot list network interfaces: {0}")]
    Interfaces(io::Error),
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The DTLS library refuses its settings.
    #[error("cannot set up DTLS: {0}")]
    Dtls(dimpl::Error),
}

/// A remote candidate with a host name.
#[derive(Clone, Debug)]
pub struct WantedName {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its kind.
    pub kind: CandidateKind,
    /// Its priority.
    pub priority: u32,
    /// The generation of the agent that it is for.
    pub generation: Option<u32>,
}

/// The transports of a part of the endpoints, without sockets and clocks.
pub struct Hub {
    sessions: FxHashMap<EndpointId, Session>,
    timers: BinaryHeap<Reverse<(Instant, EndpointId)>>,
    shared: Shared,
}

/// State that the sessions of a hub share.
pub(super) struct Shared {
    pub common: Arc<Common>,
    pub config: TransportConfig,
    pub locals: Arc<[SocketAddr]>,
    pub rng: StdRng,
    pub counters: TransportCounters,
    /// Authenticated checks, by the local address that received them.
    pub checks: BTreeMap<SocketAddr, u64>,
    pub names: Vec<WantedName>,
    /// The hub's number.
    index: usize,
    pending: FxHashMap<TransactionId, Pending>,
    expiry: VecDeque<(Instant, TransactionId)>,
    outputs: VecDeque<Queued>,
}

/// An entry in the queue for [`Hub::poll_output`].
enum Queued {
    Output(Output),
    /// An address becomes free once all earlier entries were sent.
    Release(SocketAddr, EndpointId),
}

/// A request of ours that may still be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub endpoint: EndpointId,
    pub generation: u32,
    pub pair: Pair,
    pub sent: Instant,
    pub inner: Inner,
}

/// What a request of ours means to the agent that sent it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inner {
    /// A check, with the transaction id by which the agent knows it.
    Check(TransactionId),
    /// A check whether the peer is still there; the agent does not know of it.
    Probe,
}

impl Shared {
    /// Counts an authenticated check. Interface addresses come and go, so their number is bounded.
    pub(crate) fn count_check(&mut self, local: SocketAddr) {
        if self.checks.len() < MAX_CHECKED || self.checks.contains_key(&local) {
            *self.checks.entry(local).or_default() += 1;
        }
    }
}

impl Hub {
    /// Creates the only hub of a process. `locals` are the addresses that can be used, the best
    /// first; `unix_time` is the time since 1970 at `now`.
    pub fn new(
        config: TransportConfig,
        locals: Vec<SocketAddr>,
        seed: [u8; 32],
        now: Instant,
        unix_time: Duration,
    ) -> Result<Self, HubError> {
        let mut rng = StdRng::from_seed(seed);
        let identity = Identity::generate(&config, unix_time, &mut rng)?;
        Ok(Self::with_identity(config, locals, rng, (now, unix_time), identity))
    }

    /// Creates it with an existing identity.
    pub(crate) fn with_identity(
        config: TransportConfig,
        locals: Vec<SocketAddr>,
        mut rng: StdRng,
        times: (Instant, Duration),
        identity: Identity,
    ) -> Self {
        let seed = rng.random();
        let common = Common::with_identity(&config, 1, rng, times, identity);
        Self::part(common, 0, config, locals, seed)
    }

    /// Creates hub number `index` of several. The hubs of a process have different seeds.
    pub(super) fn part(
        common: Arc<Common>,
        index: usize,
        config: TransportConfig,
        locals: Vec<SocketAddr>,
        seed: [u8; 32],
    ) -> Self {
        let shared = Shared {
            common,
            config,
            locals: locals.into(),
            rng: StdRng::from_seed(seed),
            counters: TransportCounters::default(),
            checks: BTreeMap::new(),
            names: Vec::new(),
            index,
            pending: FxHashMap::default(),
            expiry: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        Self { sessions: FxHashMap::default(), timers: BinaryHeap::new(), shared }
    }

    /// Replaces the addresses that can be used, for agents that are created from now on.
    pub fn set_locals(&mut self, locals: Vec<SocketAddr>) {
        if *self.shared.locals != *locals {
            tracing::info!(addresses = locals.len(), "local addresses changed");
            self.shared.locals = locals.into();
        }
    }

    /// Replaces the public addresses of local ones, for agents that are created from now on.
    pub fn set_mappings(&mut self, mappings: Vec<StaticMapping>) {
        self.shared.config.static_mappings = mappings;
    }

    /// See [`super::Transports::create`].
    pub fn create(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        options: TransportOptions,
    ) -> LocalTransport {
        let certificate = self.shared.common.certificate(now);
        let shared = &mut self.shared;
        let session = self
            .sessions
            .entry(endpoint)
            .or_insert_with(|| Session::new(endpoint, options, certificate, shared));
        session.describe(&self.shared)
    }

    /// See [`super::Transports::set_remote`].
    pub fn set_remote(&mut self, now: Instant, endpoint: EndpointId, remote: RemoteTransport) {
        self.touch(now, endpoint, |session, shared| session.set_remote(now, remote, shared));
    }

    /// See [`super::Transports::restart_ice`].
    pub fn restart_ice(&mut self, now: Instant, endpoint: EndpointId) -> Restart {
        let restarted =
            self.touch(now, endpoint, |session, shared| session.restart_ice(now, shared));
        restarted.unwrap_or_else(|| {
            self.shared.counters.restarts_rejected += 1;
            Restart::Refused
        })
    }

    /// See [`super::Transports::describe`].
    pub fn describe(&self, endpoint: EndpointId) -> Option<LocalTransport> {
        self.sessions.get(&endpoint).map(|session| session.describe(&self.shared))
    }

    /// See [`super::Transports::offer_sctp`].
    pub fn offer_sctp(&mut self, endpoint: EndpointId) {
        if let Some(session) = self.sessions.get_mut(&endpoint) {
            session.offer_sctp();
        }
    }

    /// See [`super::Transports::send_text`].
    pub fn send_text(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        text: &str,
    ) -> Result<(), SendError> {
        let sent =
            self.touch(now, endpoint, |session, shared| session.send_text(now, text, shared));
        sent.unwrap_or(Err(SendError::NotOpen))
    }

    /// See [`super::Transports::remove`].
    pub fn remove(&mut self, endpoint: EndpointId) {
        if let Some(mut session) = self.sessions.remove(&endpoint) {
            session.close(&mut self.shared);
        }
    }

    /// See [`super::Transports::debug`].
    pub fn debug(&self, now: Instant, endpoint: EndpointId) -> Option<serde_json::Value> {
        self.sessions.get(&endpoint).map(|session| session.debug(now))
    }

    /// See [`super::Transports::last_heard`].
    pub fn last_heard(&self, endpoint: EndpointId) -> Option<Instant> {
        self.sessions.get(&endpoint)?.last_heard()
    }

    /// See [`super::Transports::label`].
    pub fn label(&self, endpoint: EndpointId) -> Option<Arc<str>> {
        Some(Arc::clone(self.sessions.get(&endpoint)?.label()))
    }

    /// Totals since the start.
    pub fn counters(&self) -> TransportCounters {
        self.shared.counters
    }

    /// Authenticated connectivity checks, by the local address that received them.
    pub fn checks(&self) -> Vec<(SocketAddr, u64)> {
        self.shared.checks.iter().map(|(local, count)| (*local, *count)).collect()
    }

    /// Number of transports.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Returns whether there are no transports.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Handles a datagram from the engine.
    pub fn on_event(&mut self, now: Instant, event: &TransportEvent) {
        self.shared.forget_old_requests(now);
        match event {
            TransportEvent::Stun(datagram) => self.on_stun(now, datagram),
            TransportEvent::Dtls(datagram) => {
                let session = datagram.endpoint.and_then(|id| Some((id, self.sessions.get(&id)?)));
                match session {
                    Some((id, session)) if session.is_bound(datagram.remote) => {
                        let whole = dtls::whole::is_well_formed(&datagram.bytes);
                        self.shared.counters.dtls_malformed += u64::from(!whole);
                        self.touch(now, id, |session, shared| {
                            session.on_dtls(now, datagram.remote, &datagram.bytes, shared);
                        });
                    }
                    _ => self.shared.counters.dtls_dropped += 1,
                }
            }
        }
    }

    /// Handles the time passing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.shared.forget_old_requests(now);
        for _ in 0..TIMERS_AT_ONCE {
            let Some(&Reverse((at, endpoint))) = self.timers.peek() else { break };
            if at > now {
                break;
            }
            self.timers.pop();
            // A timer that was moved forward leaves its old entry behind.
            if let Some(session) = self.sessions.get_mut(&endpoint).filter(|s| s.is_due(at)) {
                session.scheduled = None;
                self.touch(now, endpoint, |session, shared| session.handle_timeout(now, shared));
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|&Reverse((at, _))| at)
    }

    /// The next output. To be drained after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            match self.shared.outputs.pop_front()? {
                Queued::Output(output) => return Some(output),
                Queued::Release(address, endpoint) => {
                    self.shared.common.owners.release(address, endpoint);
                }
            }
        }
    }

    /// Handles a notice from another endpoint's transport.
    pub fn on_notice(&mut self, now: Instant, notice: Notice) {
        match notice {
            Notice::Contest { owner, claimant, address, proved } => {
                let judged = self.touch(now, owner, |session, shared| {
                    session.on_contest(now, address, claimant, proved, shared);
                });
                if judged.is_none() {
                    // The endpoint is gone, and its addresses with it.
                    self.shared.common.owners.release(address, owner);
                    self.shared.notify(Notice::Yielded { claimant, address, dtls: Vec::new() });
                }
            }
            Notice::Yielded { claimant, address, dtls } => {
                self.touch(now, claimant, |session, shared| {
                    session.on_yielded(now, address, &dtls, shared);
                });
            }
        }
    }

    /// Returns whether host names wait to be looked up.
    pub fn has_names(&self) -> bool {
        !self.shared.names.is_empty()
    }

    /// Takes the host names to look up.
    pub fn take_names(&mut self) -> Vec<WantedName> {
        std::mem::take(&mut self.shared.names)
    }

    /// Returns a report if no connectivity checks arrive; once, until one does.
    pub fn poll_unreachable(&mut self, now: Instant) -> Option<Unreachable> {
        self.shared.common.silence().poll(now)
    }

    /// Our advertised addresses.
    pub fn advertised(&self) -> Vec<SocketAddr> {
        self.shared.candidates(true, 0).iter().map(|c| SocketAddr::new(c.ip, c.port)).collect()
    }

    /// Handles the result of a look-up.
    pub fn add_resolved(&mut self, now: Instant, wanted: &WantedName, addrs: &[SocketAddr]) {
        self.touch(now, wanted.endpoint, |session, shared| {
            session.add_resolved(now, wanted, addrs, shared);
        });
    }

    fn on_stun(&mut self, now: Instant, datagram: &TransportDatagram) {
        self.shared.common.silence().heard();
        let counters = &mut self.shared.counters;
        let Ok(message) = Message::parse(&datagram.bytes) else {
            counters.stun_malformed += 1;
            return;
        };
        match message.class {
            Class::Request => {
                let owner = message.ufrags();
                let owner = owner.and_then(|(ours, _)| self.shared.common.ufrags.owner(ours));
                let Some(owner) = owner.filter(|owner| self.sessions.contains_key(owner)) else {
                    counters.stun_unknown += 1;
                    return;
                };
                self.touch(now, owner, |session, shared| {
                    session.on_request(now, datagram, &message, shared);
                });
            }
            Class::Success | Class::Error => {
                let pending = self.shared.pending.get(&message.transaction).copied();
                let Some(pending) = pending.filter(|p| p.pair == (datagram.local, datagram.remote))
                else {
                    counters.stun_unmatched += 1;
                    return;
                };
                self.touch(now, pending.endpoint, |session, shared| {
                    session.on_response(now, datagram, &message, pending, shared);
                });
            }
            // RFC 8445 section 11: it only keeps a NAT binding open, and gets no answer.
            Class::Indication => {}
        }
    }

    /// Calls a session, then updates its timer.
    fn touch<T>(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        call: impl FnOnce(&mut Session, &mut Shared) -> T,
    ) -> Option<T> {
        let session = self.sessions.get_mut(&endpoint)?;
        let result = call(session, &mut self.shared);
        if let Some(at) = session.poll_timeout() {
            let at = at.max(now + MIN_STEP);
            if session.scheduled.is_none_or(|scheduled| at < scheduled) {
                session.scheduled = Some(at);
                self.timers.push(Reverse((at, endpoint)));
            }
        }
        Some(result)
    }
}

impl Shared {
    /// Queues a command for the packet path.
    pub(crate) fn command(&mut self, command: TransportCommand) {
        self.outputs.push_back(Queued::Output(Output::Command(command)));
    }

    /// Queues a datagram.
    pub(crate) fn transmit(&mut self, shard: ShardId, (local, remote): Pair, bytes: Bytes) {
        self.command(TransportCommand::Transmit { shard, local, remote, bytes });
    }

    /// Unbinds an address from the endpoint. It is free for others once the packet path was told.
    pub(crate) fn release(&mut self, endpoint: EndpointId, remote: SocketAddr) {
        self.command(TransportCommand::Unbind { endpoint, remote });
        self.outputs.push_back(Queued::Release(remote, endpoint));
    }

    /// Queues a notice to another endpoint's transport.
    pub(crate) fn notify(&mut self, notice: Notice) {
        self.outputs.push_back(Queued::Output(Output::Notice(notice)));
    }

    /// A transaction id for a new request.
    pub(crate) fn transaction(&mut self) -> TransactionId {
        self.common.transaction(self.index, &mut self.rng)
    }

    /// Queues an update for the conferences.
    pub(crate) fn update(&mut self, update: TransportUpdate) {
        self.outputs.push_back(Queued::Output(Output::Update(update)));
    }

    /// Stores a request until its response arrives.
    pub(crate) fn expect_response(&mut self, transaction: TransactionId, pending: Pending) {
        self.expiry.push_back((pending.sent + TRANSACTION_LIFE, transaction));
        self.pending.insert(transaction, pending);
    }

    /// Removes a request that was answered.
    pub(crate) fn answered(&mut self, transaction: &TransactionId) {
        self.pending.remove(transaction);
    }

    /// Queues a name to look up. Returns false if there are too many.
    pub(crate) fn want_name(&mut self, wanted: WantedName) -> bool {
        let room = self.names.len() < MAX_NAMES;
        if room {
            self.names.push(wanted);
        }
        room
    }

    /// Our candidates.
    pub(crate) fn candidates(
        &self,
        private_too: bool,
        tag: u64,
    ) -> Vec<super::types::LocalCandidate> {
        candidates::describe(&self.config, &self.locals, private_too, tag)
    }

    /// A consent interval. They vary by up to 20 % (RFC 7675 section 5.1), so that agents that
    /// started together do not check together for ever.
    pub(crate) fn consent_interval(&mut self) -> Duration {
        self.config.consent_interval.mul_f64(self.rng.random_range(0.8..1.2))
    }

    fn forget_old_requests(&mut self, now: Instant) {
        while let Some(&(at, transaction)) = self.expiry.front() {
            if at > now {
                break;
            }
            self.expiry.pop_front();
            self.pending.remove(&transaction);
        }
    }
}

#[cfg(test)]
mod tests;
