//! Configuration: HOCON as in `jvb.conf`, its schema, defaults, and where each value came from.

pub mod hocon;
mod model;

pub use model::*;
