//! The packet-forwarding engine: shards, sockets, address table, mailboxes, timers.

mod api;
mod handle;

pub use api::*;
pub use handle::{Control, ControlSink, Engine, Recorder};
