//! Handles two endpoints that claim one address: a client that reloaded comes back from the same
//! port as another endpoint, or somebody sends with a forged source address.
//!
//! An address is taken from its owner only when both hold:
//! - the other endpoint has answered a check there, which it cannot do without having received it;
//! - the owner, asked several times, does not answer there within [`VERDICT`].
//!
//! So a forged source takes nothing from anybody, a live owner keeps its address, and an owner that
//! is gone blocks its successor for half a second only. The two may be on different hubs: they
//! exchange [`Notice`]s.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rialto_media::{EndpointId, TransportDatagram};

use super::{
    super::{
        hub::{Inner, Notice, Pending, Shared},
        stun::Message,
    },
    Session,
};

/// How long a probed owner has to answer. The round trip is known to be shorter for nearly all.
const VERDICT: Duration = Duration::from_millis(500);
/// When an owner is probed, from the start of the contest.
const PROBES: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(120), Duration::from_millis(250)];
/// How long the other endpoint has to prove that it is there.
const PROOF: Duration = Duration::from_secs(2);
/// After an answer an owner is not probed again for this long.
const PEACE: Duration = Duration::from_secs(1);
/// An owner that was silent for this long, more than a consent interval and its jitter, is not
/// probed.
const OWNER_SILENCE: Duration = Duration::from_secs(7);
/// Most datagrams kept for the endpoint that gets the address: a flight of a ClientHello in pieces.
const MAX_KEPT: usize = 8;

/// Contests about addresses that involve an endpoint.
#[derive(Default)]
pub(super) struct Contests {
    current: Option<Contest>,
    peace_until: Option<Instant>,
    claim: Option<Claim>,
}

/// Another endpoint authenticated from an address of ours.
struct Contest {
    address: SocketAddr,
    claimant: EndpointId,
    proved: bool,
    since: Instant,
    /// Number of [`PROBES`] sent.
    asked: usize,
    /// Handshake records that arrived from there: the claimant's, since our handshake is over.
    kept: Vec<Bytes>,
}

/// An answer to us that arrived from another endpoint's address.
struct Claim {
    datagram: TransportDatagram,
    pending: Pending,
}

impl Contest {
    fn probe_at(&self) -> Option<Instant> {
        PROBES.get(self.asked).map(|after| self.since + *after)
    }

    fn ends_at(&self) -> Instant {
        self.since + if self.proved { VERDICT } else { PROOF }
    }
}

impl Contests {
    /// When [`Session::judge`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let contest = self.current.as_ref()?;
        contest.probe_at().into_iter().chain([contest.ends_at()]).min()
    }

    /// Keeps a handshake record for the claimant. Returns false if there is no contest about that
    /// address.
    fn keep(&mut self, address: SocketAddr, datagram: &Bytes) -> bool {
        let Some(contest) = self.current.as_mut().filter(|c| c.address == address) else {
            return false;
        };
        if contest.kept.len() < MAX_KEPT {
            contest.kept.push(datagram.clone());
        }
        true
    }
}

impl Session {
    /// Warns the owner: a request authenticated that came from its address.
    pub(super) fn suspect(&self, address: SocketAddr, owner: EndpointId, shared: &mut Shared) {
        let (claimant, proved) = (self.endpoint, false);
        shared.notify(Notice::Contest { owner, claimant, address, proved });
    }

    /// Claims an address: an answer authenticated that came from another endpoint's address. It is
    /// kept until the owner has released the address.
    pub(super) fn claim(
        &mut self,
        owner: EndpointId,
        datagram: &TransportDatagram,
        pending: Pending,
        shared: &mut Shared,
    ) {
        shared.counters.addresses_contested += 1;
        self.contests.claim = Some(Claim { datagram: datagram.clone(), pending });
        let (claimant, address) = (self.endpoint, datagram.remote);
        shared.notify(Notice::Contest { owner, claimant, address, proved: true });
    }

    /// Handles a claim of another endpoint to an address of this one. `proved`: it authenticated an
    /// answer.
    pub(crate) fn on_contest(
        &mut self,
        now: Instant,
        address: SocketAddr,
        claimant: EndpointId,
        proved: bool,
        shared: &mut Shared,
    ) {
        if self.failed.is_some() || !self.is_bound(address) {
            // If it were still listed as this one's, both would ask each other for ever.
            shared.common.owners.release(address, self.endpoint);
            shared.notify(Notice::Yielded { claimant, address, dtls: Vec::new() });
            return;
        }
        match &mut self.contests.current {
            Some(contest) if contest.address == address => {
                if proved && !contest.proved {
                    (contest.proved, contest.claimant) = (true, claimant);
                }
            }
            Some(_) => return,
            None if self.contests.peace_until.is_some_and(|until| now < until) => return,
            None => {
                let (since, kept) = (now, Vec::new());
                let contest = Contest { address, claimant, proved, since, asked: 0, kept };
                self.contests.current = Some(contest);
            }
        }
        self.judge(now, shared);
        self.settle(now, shared);
    }

    /// Handles the release of an address that this endpoint claims.
    pub(crate) fn on_yielded(
        &mut self,
        now: Instant,
        address: SocketAddr,
        dtls: &[Bytes],
        shared: &mut Shared,
    ) {
        let claim = self.contests.claim.take_if(|claim| claim.datagram.remote == address);
        if let Some(Claim { datagram, pending }) = claim
            && let Ok(message) = Message::parse(&datagram.bytes)
        {
            self.on_response(now, &datagram, &message, pending, shared);
        }
        for datagram in dtls {
            if self.is_bound(address) {
                self.on_dtls(now, address, datagram, shared);
            }
        }
    }

    /// Sends the probes that are due in a contest, or ends it.
    pub(super) fn judge(&mut self, now: Instant, shared: &mut Shared) {
        let Some(contest) = &mut self.contests.current else { return };
        let (address, since) = (contest.address, contest.since);
        let heard = self.addresses.heard(address);
        if heard.is_none_or(|heard| heard > since) {
            self.contests.current = None;
            self.contests.peace_until = Some(now + PEACE);
            return;
        }
        let silent = heard.is_some_and(|heard| now >= heard + OWNER_SILENCE);
        let gone = contest.proved && (silent || self.media.is_closed());
        if gone || now >= contest.ends_at() {
            if contest.proved {
                self.yield_address(now, shared);
            } else {
                self.contests.current = None;
            }
            return;
        }
        if contest.probe_at().is_some_and(|at| now >= at) {
            contest.asked += 1;
            self.probe(now, address, shared);
        }
    }

    /// Keeps a handshake record that arrived in a contest for the claimant, once our handshake is
    /// over.
    pub(super) fn keep_for_claimant(&mut self, address: SocketAddr, datagram: &Bytes) -> bool {
        is_plain_handshake(datagram)
            && self.media.is_ready()
            && self.contests.keep(address, datagram)
    }

    /// Ends the contest about an address that was released for another reason: its claimant need
    /// not wait.
    pub(super) fn abandon(&mut self, address: SocketAddr, shared: &mut Shared) {
        let contest = self.contests.current.take_if(|contest| contest.address == address);
        if let Some(Contest { claimant, kept, .. }) = contest {
            shared.notify(Notice::Yielded { claimant, address, dtls: kept });
        }
    }

    fn yield_address(&mut self, now: Instant, shared: &mut Shared) {
        let Some(address) = self.contests.current.as_ref().map(|contest| contest.address) else {
            return;
        };
        shared.counters.addresses_taken_over += 1;
        tracing::info!(endpoint = %self.label(), "its address is another endpoint's now");
        self.addresses.remove(address);
        self.unbind(vec![address], shared);
        // What is sent there would reach somebody else.
        if self.selected.is_some_and(|(_, remote)| remote == address) {
            self.current.drop_selected();
        }
        self.settle(now, shared);
    }

    /// Sends a check to see whether the peer is there.
    fn probe(&mut self, now: Instant, remote: SocketAddr, shared: &mut Shared) {
        let Some(local) = self.addresses.local(remote) else { return };
        let (endpoint, pair) = (self.endpoint, (local, remote));
        let shard = self.addresses.shard(remote);
        for agent in self.agents() {
            let transaction = shared.transaction();
            if let Some(bytes) = agent.probe(transaction) {
                let (generation, inner) = (agent.generation(), Inner::Probe);
                let pending = Pending { endpoint, generation, pair, sent: now, inner };
                shared.expect_response(transaction, pending);
                shared.transmit(shard, pair, bytes);
            }
        }
    }
}

/// Returns whether a DTLS record is of a handshake and not encrypted (RFC 6347 section 4.1): type
/// 22, epoch 0.
fn is_plain_handshake(record: &[u8]) -> bool {
    matches!(record, [22, _, _, 0, 0, ..])
}
