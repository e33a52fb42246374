//! The private HTTP server: health, version, statistics, metrics, debug, and COLIBRI2 in JSON.

/// Version of this build, as told to people and to other programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
