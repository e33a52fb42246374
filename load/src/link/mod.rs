//! An emulated network link: a namespace behind a bottleneck, for programs that know nothing of it.
//!
//! [`model`] is one direction, without I/O; [`host`] makes the namespace and its devices; [`carry`]
//! takes packets from one device to the other by the clock.

pub mod args;
pub mod carry;
pub mod counts;
pub mod host;
pub mod model;
pub mod run;
pub mod settings;
