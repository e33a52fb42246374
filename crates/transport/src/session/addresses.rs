//! The addresses that are bound to one endpoint in the engine.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rialto_media::ShardId;

/// Most addresses of one endpoint; the least recently heard one is evicted.
const MAX_ADDRESSES: usize = 8;
/// An address that was silent for this long is released.
const IDLE: Duration = Duration::from_secs(30);

/// A bound address.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// The peer's address.
    pub remote: SocketAddr,
    /// Our address, to which it last sent.
    pub local: SocketAddr,
    /// The shard whose socket last received from it.
    pub shard: ShardId,
    /// When something authenticated last arrived from it.
    pub heard: Instant,
}

/// The bound addresses of an endpoint.
#[derive(Default, Debug)]
pub(super) struct Addresses(Vec<Address>);

impl Addresses {
    /// Returns whether an address is bound.
    pub(super) fn contains(&self, remote: SocketAddr) -> bool {
        self.0.iter().any(|address| address.remote == remote)
    }

    /// Iterates over all.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Address> {
        self.0.iter()
    }

    /// Records that something arrived from an address. Returns false if the address is not bound.
    pub(super) fn touch(&mut self, heard: &Address) -> bool {
        match self.0.iter_mut().find(|address| address.remote == heard.remote) {
            Some(address) => {
                *address = heard.clone();
                true
            }
            None => false,
        }
    }

    /// Adds a new address, and returns the one that was evicted for it.
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

    /// Removes an address.
    pub(super) fn remove(&mut self, remote: SocketAddr) {
        self.0.retain(|address| address.remote != remote);
    }

    /// Removes all addresses.
    pub(super) fn take(&mut self) -> Vec<SocketAddr> {
        self.0.drain(..).map(|address| address.remote).collect()
    }

    /// Removes the silent ones, except `keep`.
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

    /// When something authenticated last arrived from an address, if it is bound.
    pub(super) fn heard(&self, remote: SocketAddr) -> Option<Instant> {
        Some(self.0.iter().find(|address| address.remote == remote)?.heard)
    }

    /// Our address to which it last sent.
    pub(super) fn local(&self, remote: SocketAddr) -> Option<SocketAddr> {
        Some(self.0.iter().find(|address| address.remote == remote)?.local)
    }

    /// The shard from which to send to an address; for unknown ones, the shard that was heard last.
    pub(super) fn shard(&self, remote: SocketAddr) -> ShardId {
        let exact = self.0.iter().find(|address| address.remote == remote);
        let latest = || self.0.iter().max_by_key(|address| address.heard);
        exact.or_else(latest).map_or(ShardId(0), |address| address.shard)
    }
}
