//! The packet-forwarding engine: shards, sockets, address table, mailboxes, timers.

mod api;
pub mod arena;
mod handle;
pub mod io;
pub mod mailbox;
pub mod thread;

pub use api::*;
pub use handle::{Control, ControlSink, Engine, Recorder};
