//! The state of each pair of addresses of an agent.

use std::{net::SocketAddr, time::Instant};

use super::Pair;

/// Most paths of one agent. The least recently heard one is evicted, never the selected.
const MAX_PATHS: usize = 12;

/// A pair of addresses on which something authenticated arrived.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// When a request or a response last arrived.
    pub heard: Instant,
    /// When a response to a check of ours last arrived: the path works both ways.
    pub answered: Option<Instant>,
    /// When a controlling peer last sent USE-CANDIDATE.
    pub nominated: Option<Instant>,
}

impl Path {
    /// Its addresses.
    pub(crate) fn pair(&self) -> Pair {
        (self.local, self.remote)
    }
}

/// The paths of an agent.
#[derive(Default, Debug)]
pub(super) struct Paths(Vec<Path>);

impl Paths {
    /// The path of a pair.
    pub(super) fn get(&self, pair: Pair) -> Option<&Path> {
        self.0.iter().find(|path| path.pair() == pair)
    }

    /// Iterates over all paths.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter()
    }

    /// Records a request of the peer.
    pub(super) fn request(
        &mut self,
        now: Instant,
        pair: Pair,
        nominated: bool,
        keep: Option<Pair>,
    ) {
        let path = self.touch(now, pair, keep);
        if nominated {
            path.nominated = Some(now);
        }
    }

    /// Records a response of the peer.
    pub(super) fn response(&mut self, now: Instant, pair: Pair, keep: Option<Pair>) {
        self.touch(now, pair, keep).answered = Some(now);
    }

    /// The liveliest validated path that was answered after `selected` was last heard.
    pub(super) fn rival(&self, selected: Pair) -> Option<&Path> {
        let heard = self.get(selected)?.heard;
        self.0
            .iter()
            .filter(|path| path.pair() != selected && path.answered > Some(heard))
            .max_by_key(|path| path.heard)
    }

    /// The validated path that a controlling peer nominated last.
    pub(super) fn nominee(&self) -> Option<&Path> {
        self.0.iter().filter(|path| path.answered.is_some()).max_by_key(|path| path.nominated)
    }

    /// Removes the paths to an address.
    pub(super) fn forget(&mut self, remote: SocketAddr) {
        self.0.retain(|path| path.remote != remote);
    }

    /// Marks all paths as never answered.
    pub(super) fn invalidate(&mut self) {
        for path in &mut self.0 {
            path.answered = None;
        }
    }

    fn touch(&mut self, now: Instant, pair: Pair, keep: Option<Pair>) -> &mut Path {
        let index = self.0.iter().position(|path| path.pair() == pair).unwrap_or_else(|| {
            if self.0.len() >= MAX_PATHS {
                self.evict(keep);
            }
            let (local, remote) = pair;
            self.0.push(Path { local, remote, heard: now, answered: None, nominated: None });
            self.0.len() - 1
        });
        let path = &mut self.0[index];
        path.heard = now;
        path
    }

    fn evict(&mut self, keep: Option<Pair>) {
        let oldest = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, path)| Some(path.pair()) != keep)
            .min_by_key(|(_, path)| path.heard)
            .map(|(index, _)| index);
        if let Some(index) = oldest {
            self.0.swap_remove(index);
        }
    }
}
