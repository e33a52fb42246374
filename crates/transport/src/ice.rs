//! One ICE agent (RFC 8445), over the crate `is`.
//!
//! The crate handles candidate pairs, checks, roles and nomination. Around it, this file
//! - tracks *paths* (a local and a remote address between which something authenticated arrived)
//!   and selects the one for media: the pair that the crate nominates, before that the first
//!   validated one, and another validated one when the selected path falls silent or a controlling
//!   peer leaves it. The crate keeps a pair for 15 s and more after a client changed its network;
//! - measures consent on answers only (RFC 7675); the crate also counts requests;
//! - holds requests that arrive before the peer's credentials, answers them at once (RFC 8445
//!   section 7.3), and passes on the latest of each address when the credentials arrive;
//! - translates messages between the wire and the crate (`wire`);
//! - bounds what a peer can make grow: the crate keeps every address that it has ever seen.

mod path;
mod wire;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use is::{
    Candidate, IceAgent, IceAgentEvent, Protocol,
    stun::{StunMessage, StunPacket},
};

use self::{
    path::{Path, Paths},
    wire::Names,
};
use super::{
    stun::{self, Class, Message, Role, TransactionId, Writer},
    types::CandidateKind,
};

/// Most signalled candidates of the peer that are used.
const MAX_CANDIDATES: usize = 32;
/// Remote addresses that the crate may hold before it is recreated with those that are alive.
const MAX_ADMITTED: usize = 64;
/// Most mapped addresses that a peer may report to us.
const MAX_MAPPED: usize = 16;
/// Most requests held until the peer's credentials arrive.
const MAX_HELD: usize = 8;
/// A selected path that was silent for this long, while another one answered, is dead.
const SILENCE: Duration = Duration::from_secs(3);
/// A path that was silent for this long while another one answered is checked more often.
const SUSPICION: Duration = Duration::from_secs(1);
/// How long the selected path has to answer once it is under suspicion.
const RACE: Duration = Duration::from_secs(2);
/// A nominated pair must have answered within this time: a few consent intervals.
const FRESH: Duration = Duration::from_secs(20);
/// Interval of checks while a selected path is under suspicion.
const RACE_INTERVAL: Duration = Duration::from_millis(700);
/// PRIORITY of a check outside of the crate's own: it reveals no candidate, so the lowest.
const PROBE_PRIORITY: u32 = 1;
/// Interval of checks of one agent (RFC 8445 section 14.2 allows 5 ms).
const PACE: Duration = Duration::from_millis(20);

/// A local and a remote address.
pub(crate) type Pair = (SocketAddr, SocketAddr);

/// Parameters of a new agent.
#[derive(Clone, Debug)]
pub(crate) struct AgentParams {
    /// Our ufrag.
    pub ufrag: String,
    /// Our password.
    pub pwd: String,
    /// Number of the restart; 0 for the first agent.
    pub generation: u32,
    /// Whether we are the controlling side.
    pub controlling: bool,
    /// The tie-breaker (RFC 8445 section 16.1).
    pub tie_breaker: u64,
    /// Local addresses that can be used.
    pub locals: Arc<[SocketAddr]>,
    /// Interval of consent checks, with its jitter.
    pub consent_interval: Duration,
}

/// The peer's credentials.
#[derive(Clone, PartialEq, Eq)]
struct Remote {
    ufrag: String,
    pwd: String,
}

/// A datagram to send.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Local and remote address.
    pub pair: Pair,
    /// The datagram.
    pub bytes: Bytes,
    /// For a request: its transaction id on the wire, and the one by which the agent knows it.
    pub request: Option<(TransactionId, TransactionId)>,
    /// Whether it answers a role conflict.
    pub conflict: bool,
}

/// A sans-IO agent.
pub(crate) struct Agent {
    params: AgentParams,
    inner: IceAgent,
    remote: Option<Remote>,
    candidates: Vec<(Candidate, CandidateKind)>,
    /// Remote addresses that `inner` knows.
    known: Vec<SocketAddr>,
    /// Those of them that it was told to forget; it ignores them until they are added again.
    demoted: Vec<SocketAddr>,
    /// Addresses added to `inner` since it was created.
    admitted: usize,
    mapped: Vec<SocketAddr>,
    held: Vec<(Pair, Bytes)>,
    replies: VecDeque<(Pair, Bytes)>,
    paths: Paths,
    selected: Option<Pair>,
    /// Since when the selected path is under suspicion.
    racing: Option<Instant>,
    last_step: Option<Instant>,
    failed: bool,
    /// The role as last reported.
    role: bool,
}

impl Agent {
    /// Creates an agent without a peer.
    pub(crate) fn new(params: AgentParams) -> Self {
        let inner = inner_agent(&params);
        let role = params.controlling;
        Self {
            params,
            inner,
            remote: None,
            candidates: Vec::new(),
            known: Vec::new(),
            demoted: Vec::new(),
            admitted: 0,
            mapped: Vec::new(),
            held: Vec::new(),
            replies: VecDeque::new(),
            paths: Paths::default(),
            selected: None,
            racing: None,
            last_step: None,
            failed: false,
            role,
        }
    }

    /// Our ufrag.
    pub(crate) fn ufrag(&self) -> &str {
        &self.params.ufrag
    }

    /// Our password.
    pub(crate) fn pwd(&self) -> &str {
        &self.params.pwd
    }

    /// The number of its restart.
    pub(crate) fn generation(&self) -> u32 {
        self.params.generation
    }

    /// Returns whether we are the controlling side, after role conflicts.
    pub(crate) fn controlling(&self) -> bool {
        self.inner.controlling()
    }

    /// Returns whether it may use one of our addresses.
    pub(crate) fn uses(&self, local: SocketAddr) -> bool {
        self.params.locals.contains(&local)
    }

    /// Returns whether a conflict changed our role since the last call.
    pub(crate) fn take_role_switch(&mut self) -> bool {
        let controlling = self.inner.controlling();
        std::mem::replace(&mut self.role, controlling) != controlling
    }

    /// The peer's ufrag, once known.
    pub(crate) fn remote_ufrag(&self) -> Option<&str> {
        self.remote.as_ref().map(|r| r.ufrag.as_str())
    }

    /// The selected pair for media.
    pub(crate) fn selected(&self) -> Option<Pair> {
        self.selected
    }

    /// Returns whether the selected pair leads to a relay (TURN server) of the peer.
    pub(crate) fn is_relayed(&self) -> bool {
        self.selected.is_some_and(|(_, remote)| {
            self.candidates
                .iter()
                .any(|(c, kind)| *kind == CandidateKind::Relayed && c.addr() == remote)
        })
    }

    /// When a check on the selected pair was last answered.
    pub(crate) fn consent(&self) -> Option<Instant> {
        self.paths.get(self.selected?)?.answered
    }

    /// Gives up the selected pair. It is selected again when it answers.
    pub(crate) fn drop_selected(&mut self) {
        self.selected = None;
        self.paths.invalidate();
    }

    /// Sets the peer's credentials, and processes the held requests.
    pub(crate) fn set_remote(&mut self, now: Instant, ufrag: &str, pwd: &str) {
        let remote = Remote { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() };
        if self.remote.as_ref() == Some(&remote) {
            return;
        }
        self.inner.set_remote_credentials(wire::peer_creds());
        self.remote = Some(remote);
        for (pair, bytes) in std::mem::take(&mut self.held) {
            if let Ok(message) = Message::parse(&bytes) {
                self.on_request(now, pair, &message);
            }
        }
        self.step(now);
    }

    /// Adds a candidate of the peer. Returns false if it cannot be used, or there are too many.
    pub(crate) fn add_candidate(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        kind: CandidateKind,
        priority: u32,
    ) -> bool {
        if self.candidates.iter().any(|(known, _)| known.addr() == addr) {
            return true;
        }
        if self.candidates.len() >= MAX_CANDIDATES || !self.is_reachable(addr) {
            return false;
        }
        let foundation = self.candidates.len().to_string();
        let candidate = remote_candidate(foundation, addr, kind, priority);
        self.candidates.push((candidate.clone(), kind));
        self.known.push(addr);
        self.admitted += 1;
        self.guarded(|inner| inner.add_remote_candidate(candidate));
        self.step(now);
        true
    }

    /// Handles a request that has our ufrag and authenticated with our password. Returns false if
    /// it names another peer.
    pub(crate) fn on_request(&mut self, now: Instant, pair: Pair, message: &Message<'_>) -> bool {
        let Some(remote) = &self.remote else {
            self.hold(pair, message);
            return true;
        };
        if message.ufrags().is_none_or(|(_, theirs)| theirs != remote.ufrag.as_bytes()) {
            return false;
        }
        self.paths.request(now, pair, message.use_candidate, self.selected);
        self.admit(pair.1, message.priority.unwrap_or(1));
        self.feed(now, pair, message, message.transaction);
        self.supervise(now);
        self.step(now);
        true
    }

    /// Returns whether a response was written by the peer.
    pub(crate) fn is_of_peer(&self, message: &Message<'_>) -> bool {
        self.remote.as_ref().is_some_and(|remote| message.is_authentic(remote.pwd.as_bytes()))
    }

    /// Handles a response to the request `transaction` that this agent sent on `pair`. Returns
    /// false if it is not genuine.
    pub(crate) fn on_response(
        &mut self,
        now: Instant,
        pair: Pair,
        message: &Message<'_>,
        transaction: TransactionId,
    ) -> bool {
        if !self.is_of_peer(message) {
            return false;
        }
        if let Some(mapped) = message.mapped.filter(|mapped| !self.mapped.contains(mapped)) {
            if self.mapped.len() >= MAX_MAPPED {
                return false;
            }
            self.mapped.push(mapped);
        }
        if message.class == Class::Success {
            self.paths.response(now, pair, self.selected);
            if self.selected.is_none() {
                self.selected = Some(pair);
            }
        }
        self.feed(now, pair, message, transaction);
        self.supervise(now);
        self.step(now);
        true
    }

    /// Handles the time passing.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.supervise(now);
        self.last_step = None;
        self.step(now);
    }

    /// When [`Self::handle_timeout`] is due; `None` before the peer's credentials are known.
    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        if self.remote.is_none() || self.failed {
            return None;
        }
        let next = self.inner.poll_timeout();
        let verdict = self.racing.and_then(|since| {
            Some((self.paths.get(self.selected?)?.heard + SILENCE).max(since + RACE))
        });
        next.into_iter().chain(verdict).min()
    }

    /// The next datagram to send. `fresh` makes the transaction id of a request.
    pub(crate) fn poll_transmit(
        &mut self,
        mut fresh: impl FnMut() -> TransactionId,
    ) -> Option<Outgoing> {
        if let Some((pair, bytes)) = self.replies.pop_front() {
            return Some(Outgoing { pair, bytes, request: None, conflict: false });
        }
        loop {
            let transmit = self.inner.poll_transmit()?;
            let (pair, names) = ((transmit.source, transmit.destination), self.names()?);
            if let Some((bytes, request)) = wire::outward(&transmit.contents, names, &mut fresh) {
                let conflict = stun::is_error(&bytes);
                return Some(Outgoing { pair, bytes, request, conflict });
            }
        }
    }

    /// A check, outside of the crate's own, whether the peer is still there. `None` before the peer
    /// is known.
    pub(crate) fn probe(&self, transaction: TransactionId) -> Option<Bytes> {
        let role =
            Role { controlling: self.inner.controlling(), tie_breaker: self.params.tie_breaker };
        let names = self.names()?;
        Some(wire::check(names, transaction, |writer| writer.priority(PROBE_PRIORITY).role(role)))
    }

    /// For debug output: (local, remote, seconds since heard) of each path.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter()
    }

    /// Answers a request that arrived before the peer's credentials, and holds the latest one of
    /// each address.
    fn hold(&mut self, pair: Pair, message: &Message<'_>) {
        let reply = Writer::new(Class::Success, message.transaction).mapped(pair.1);
        self.replies.push_back((pair, reply.finish(self.params.pwd.as_bytes())));
        self.held.retain(|(held, _)| *held != pair);
        if self.held.len() >= MAX_HELD {
            self.held.remove(0);
        }
        if message.priority.is_some() {
            self.held.push((pair, Bytes::copy_from_slice(message.bytes())));
        }
    }

    /// Adds an address to `inner`, within limits.
    fn admit(&mut self, remote: SocketAddr, priority: u32) {
        let demoted = self.demoted.contains(&remote);
        if !demoted && self.known.contains(&remote) {
            return;
        }
        if self.admitted >= MAX_ADMITTED {
            self.rebuild();
        }
        self.admitted += 1;
        if self.demoted.contains(&remote) {
            self.demoted.retain(|addr| *addr != remote);
            let kind = CandidateKind::PeerReflexive;
            let candidate = remote_candidate("back".to_owned(), remote, kind, priority);
            self.guarded(|inner| inner.add_remote_candidate(candidate));
        }
        if !self.known.contains(&remote) {
            self.known.push(remote);
        }
    }

    /// Recreates `inner` with the addresses that are alive. It finds its pairs again within a round
    /// trip; the selected pair stays in use meanwhile.
    fn rebuild(&mut self) {
        self.params.controlling = self.inner.controlling();
        self.inner = inner_agent(&self.params);
        if self.remote.is_some() {
            self.inner.set_remote_credentials(wire::peer_creds());
        }
        self.known.clear();
        self.demoted.clear();
        self.mapped.clear();
        let signalled: Vec<Candidate> = self.candidates.iter().map(|(c, _)| c.clone()).collect();
        for candidate in signalled {
            self.known.push(candidate.addr());
            self.guarded(|inner| inner.add_remote_candidate(candidate));
        }
        if let Some((_, remote)) = self.selected.filter(|(_, r)| !self.known.contains(r)) {
            let kind = CandidateKind::PeerReflexive;
            let candidate = remote_candidate("selected".to_owned(), remote, kind, 1);
            self.known.push(remote);
            self.guarded(|inner| inner.add_remote_candidate(candidate));
        }
        self.admitted = self.known.len();
        self.racing = None;
    }

    fn names(&self) -> Option<Names<'_>> {
        let (ours, theirs) = (&self.params, self.remote.as_ref()?);
        let (ufrag, pwd) = (&ours.ufrag, &ours.pwd);
        Some(Names { ufrag, pwd, remote_ufrag: &theirs.ufrag, remote_pwd: &theirs.pwd })
    }

    fn feed(
        &mut self,
        now: Instant,
        (local, remote): Pair,
        message: &Message<'_>,
        transaction: TransactionId,
    ) {
        let Some(bytes) = wire::inward(message, transaction) else { return };
        self.guarded(|inner| {
            let Ok(message) = StunMessage::parse(&bytes) else { return };
            let (proto, source, destination) = (Protocol::Udp, remote, local);
            inner.handle_packet(now, StunPacket { proto, source, destination, message });
        });
        self.absorb(now);
    }

    /// Runs the crate's timer, unless it ran just now: checks are paced.
    fn step(&mut self, now: Instant) {
        let due = self.last_step.is_none_or(|last| now >= last + PACE / 4);
        if due && self.remote.is_some() {
            self.last_step = Some(now);
            self.guarded(|inner| inner.handle_timeout(now));
            self.absorb(now);
        }
    }

    /// Follows the crate's nomination, unless that pair has been silent: the crate keeps a pair for
    /// longer than its address stays bound.
    fn absorb(&mut self, now: Instant) {
        while let Some(event) = self.inner.poll_event() {
            if let IceAgentEvent::NominatedSend { source, destination, .. } = event {
                let pair = (source, destination);
                let answered = self.paths.get(pair).and_then(|path| path.answered);
                if answered.is_some_and(|at| now < at + FRESH) {
                    self.selected = Some(pair);
                }
            }
        }
    }

    /// Supervises the selected path: checks more often when another path is livelier, and leaves it
    /// when it is dead or a controlling peer has left it.
    fn supervise(&mut self, now: Instant) {
        let Some(selected) = self.selected else { return };
        let Some(path) = self.paths.get(selected) else { return };
        let rival = self.paths.rival(selected).filter(|r| r.heard > path.heard + SUSPICION);
        let dead = rival.filter(|_| self.race_lost(now, path));
        let left = self.paths.nominee().filter(|other| {
            !self.inner.controlling()
                && other.pair() != selected
                && other.nominated > path.nominated.map(|at| at + SILENCE)
        });
        let racing = rival.is_some();
        let replacement = dead.or(left).map(Path::pair);
        if racing != self.racing.is_some() {
            self.racing = racing.then_some(now);
            let interval = if racing { RACE_INTERVAL } else { self.params.consent_interval };
            self.inner.set_max_stun_rto(interval);
        }
        if let Some(replacement) = replacement {
            self.selected = Some(replacement);
            self.racing = None;
            self.inner.set_max_stun_rto(self.params.consent_interval);
            if replacement.1 != selected.1 {
                self.demote(selected.1);
            }
        }
    }

    /// Returns whether the suspect was silent for long enough, through several checks.
    fn race_lost(&self, now: Instant, suspect: &Path) -> bool {
        now >= suspect.heard + SILENCE && self.racing.is_some_and(|since| now >= since + RACE)
    }

    fn demote(&mut self, remote: SocketAddr) {
        let gone: Vec<_> = self.inner.remote_candidates().filter(|c| c.addr() == remote).collect();
        for candidate in gone {
            self.guarded(|inner| inner.invalidate_candidate(&candidate));
        }
        self.paths.forget(remote);
        if !self.demoted.contains(&remote) {
            self.demoted.push(remote);
        }
    }

    /// Returns whether any of our addresses can send there.
    fn is_reachable(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip();
        let fits = |local: &SocketAddr| {
            local.is_ipv4() == addr.is_ipv4() && (local.ip().is_loopback() || !ip.is_loopback())
        };
        addr.port() != 0
            && !ip.is_unspecified()
            && !ip.is_multicast()
            && !super::candidates::is_link_local(ip)
            && !self.params.locals.contains(&addr)
            && self.params.locals.iter().any(fits)
    }

    /// Calls the crate so that a panic in it ends one agent and not the loop.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut IceAgent) -> T) -> Option<T> {
        if self.failed {
            return None;
        }
        let inner = &mut self.inner;
        let result = catch_unwind(AssertUnwindSafe(|| call(inner)));
        self.failed = result.is_err();
        result.ok()
    }
}

fn inner_agent(params: &AgentParams) -> IceAgent {
    let mut inner = IceAgent::new(wire::our_creds());
    inner.set_controlling(params.controlling);
    inner.set_control_tie_breaker(params.tie_breaker);
    inner.set_timing_advance(PACE);
    inner.set_max_stun_rto(params.consent_interval);
    for local in params.locals.iter() {
        if let Ok(candidate) = Candidate::host(*local, Protocol::Udp) {
            inner.add_local_candidate(candidate);
        }
    }
    inner
}

fn remote_candidate(
    foundation: String,
    addr: SocketAddr,
    kind: CandidateKind,
    priority: u32,
) -> Candidate {
    let kind = match kind {
        CandidateKind::Host => is::CandidateKind::Host,
        CandidateKind::ServerReflexive => is::CandidateKind::ServerReflexive,
        CandidateKind::PeerReflexive => is::CandidateKind::PeerReflexive,
        CandidateKind::Relayed => is::CandidateKind::Relayed,
    };
    // RFC 8445 section 5.1.2: 1 to 2^31 - 1.
    let priority = priority.clamp(1, i32::MAX as u32);
    Candidate::from_parts(foundation, 1, Protocol::Udp, priority, addr, kind, None, None, None)
}
