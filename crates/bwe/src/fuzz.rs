//! Entry points of the fuzz targets of this crate, so that a stable toolchain can replay their corpora. A
//! target panics when an invariant is broken, and only then.

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target.
pub const TARGETS: &[(&str, Target)] = &[("bwe_feedback", feedback)];

/// Whatever a receiver says.
pub fn feedback(_data: &[u8]) {}
