//! The packet-forwarding engine: shards, sockets, address table, mailboxes, timers.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

mod api;
pub mod arena;
mod audio;
pub mod core;
mod delay;
pub mod dest;
pub mod director;
pub mod egress;
#[cfg(feature = "sim")]
#[doc(hidden)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a fuzz target panics when an invariant is broken"
)]
pub mod fuzz;
mod handle;
pub mod ingress;
pub mod io;
pub mod mailbox;
#[cfg(feature = "sim")]
#[doc(hidden)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a network and clients for tests"
)]
pub mod sim;
mod slots;
mod start;
mod tap;
pub mod thread;

pub use api::*;
pub use audio::{AudioConfig, Loudest, RedPolicy, Redundancy, SilenceLimit};
pub use delay::{BOUNDS_US, DelayHistogram};
pub use handle::{Control, ControlSink, Engine, Recorder};
pub use start::{EngineThreads, Running, start};
pub use tap::{TAP_DEPTH, Tap, Tapped};
