//! The packet-forwarding engine: shards, sockets, address table, mailboxes, timers.

mod api;
pub mod arena;
pub mod core;
pub mod director;
mod handle;
pub mod io;
pub mod mailbox;
mod slab;
mod start;
pub mod thread;

pub use api::*;
pub use handle::{Control, ControlSink, Engine, Recorder};
pub use start::{EngineThreads, Running, start};
