//! Configuration: HOCON as in `jvb.conf`, its schema, defaults, and where each value came from.

mod model;

pub use model::*;
