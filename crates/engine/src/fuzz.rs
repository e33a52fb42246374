//! Entry points for fuzzing: peers of a shard.

mod peer;
mod script;

pub use self::peer::peer;

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target of this crate.
pub const TARGETS: &[(&str, Target)] = &[("peer", peer)];
