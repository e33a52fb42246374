//! Entry points for fuzzing: the peers of a shard, and the projection of a source.

mod peer;
mod projection;
mod script;

pub use self::{peer::peer, projection::projection};

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target of this crate.
pub const TARGETS: &[(&str, Target)] = &[("peer", peer), ("projection", projection)];
