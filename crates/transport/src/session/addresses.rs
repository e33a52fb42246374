//! The addresses that are bound to one endpoint in the engine.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rialto_media::ShardId;

/// Addresses of one endpoint; the least recently heard one makes room.
const MAX_ADDRESSES: usize = 8;
/// An address that was silent for so long is given back.
const IDLE: Duration = Duration::from_secs(30);

/// A bound address.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// The peer's.
    pub remote: SocketAddr,
    /// Ours, to which it last sent.
    pub local: SocketAddr,
    /// The shard on whose socket it was last heard.
    pub shard: ShardId,
    /// When something authenticated last came from it.
    pub heard: Instant,
}

/// The bound addresses of an endpoint.
#[derive(Default, Debug)]
pub(super) struct Addresses(Vec<Address>);

impl Addresses {
    /// Whether that address is bound.
    pub(super) fn contains(&self, remote: SocketAddr) -> bool {
        self.0.iter().any(|address| address.remote == remote)
    }

    /// All.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Address> {
        self.0.iter()
    }

    /// Notes life. `false`: the address is not bound.
    pub(super) fn touch(&mut self, heard: &Address) -> bool {
        match self.0.iter_mut().find(|address| address.remote == heard.remote) {
            Some(address) => {
                *address = heard.clone();
                true
            }
            None => false,
        }
    }

    /// Adds an address that is not there yet, and gives the one that had to go.
    pub(super) fn add(&mut self, address: Address, keep: Option<SocketAddr>) -> Option<SocketAddr> {
        let mut evicted = None;
        if self.0.len() >= MAX_ADDRESSES {
            evicted = self
                .0
                .iter()
                .filter(|a| Some(a.remote) != keep)
                .min_by_key(|a| a.heard)
                .map(|a| a.remote);
            self.0.retain(|a| Some(a.remote) != evicted);
        }
        self.0.push(address);
        evicted
    }

    /// Takes one away.
    pub(super) fn remove(&mut self, remote: SocketAddr) {
        self.0.retain(|address| address.remote != remote);
    }

    /// Takes all away.
    pub(super) fn take(&mut self) -> Vec<SocketAddr> {
        self.0.drain(..).map(|address| address.remote).collect()
    }

    /// Takes away the silent ones, `keep` excepted.
    pub(super) fn take_idle(&mut self, now: Instant, keep: Option<SocketAddr>) -> Vec<SocketAddr> {
        let mut idle = Vec::new();
        self.0.retain(|address| {
            let stays = Some(address.remote) == keep || now < address.heard + IDLE;
            if !stays {
                idle.push(address.remote);
            }
            stays
        });
        idle
    }

    /// When [`Self::take_idle`] will next find something.
    pub(super) fn idle_at(&self, keep: Option<SocketAddr>) -> Option<Instant> {
        let others = self.0.iter().filter(|address| Some(address.remote) != keep);
        others.map(|address| address.heard + IDLE).min()
    }

    /// When something authenticated last came from that address, if it is bound.
    pub(super) fn heard(&self, remote: SocketAddr) -> Option<Instant> {
        Some(self.0.iter().find(|address| address.remote == remote)?.heard)
    }

    /// Our address to which that one last sent.
    pub(super) fn local(&self, remote: SocketAddr) -> Option<SocketAddr> {
        Some(self.0.iter().find(|address| address.remote == remote)?.local)
    }

    /// The shard to send from to that address; the one that was heard last for others.
    pub(super) fn shard(&self, remote: SocketAddr) -> ShardId {
        let exact = self.0.iter().find(|address| address.remote == remote);
        let latest = || self.0.iter().max_by_key(|address| address.heard);
        exact.or_else(latest).map_or(ShardId(0), |address| address.shard)
    }
}
