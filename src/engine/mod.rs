//! The packet-forwarding engine: shards, sockets, address table, mailboxes, timers.

mod api;
pub mod arena;
pub mod core;
mod delay;
pub mod director;
mod handle;
pub mod io;
pub mod mailbox;
mod slab;
mod start;
mod tap;
pub mod thread;

pub use api::*;
pub use delay::{BOUNDS_US, DelayHistogram};
pub use handle::{Control, ControlSink, Engine, Recorder};
pub use start::{EngineThreads, Running, start};
pub use tap::{TAP_DEPTH, Tap, Tapped};
