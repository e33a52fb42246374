//! The packet-forwarding engine: shards, sockets, address table, mailboxes, timers.
#![forbid(unsafe_code)]

mod api;
pub mod arena;
pub mod core;
mod delay;
pub mod dest;
pub mod director;
pub mod egress;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod fuzz;
mod handle;
pub mod ingress;
pub mod io;
pub mod mailbox;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
mod slots;
mod start;
mod tap;
pub mod thread;

pub use api::*;
pub use delay::{BOUNDS_US, DelayHistogram};
pub use handle::{Control, ControlSink, Engine, Recorder};
pub use start::{EngineThreads, Running, start};
pub use tap::{TAP_DEPTH, Tap, Tapped};
