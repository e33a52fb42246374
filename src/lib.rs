//! Rialto: a selective forwarding unit (SFU) that takes Jitsi Videobridge's place.
//!
//! Two planes: *control* (tokio: HTTP, conferences, ICE and DTLS) and *engine* (one OS thread per
//! core: sockets, SRTP, RTP). Control sends commands to the engine and receives events from it;
//! nothing else passes between them. `docs/architecture.md` walks a packet and an allocation through
//! both.
#![forbid(unsafe_code)]

pub mod bridge;
mod certificates;
pub mod channel;
pub mod cli;
pub mod colibri;
pub mod conference;
pub mod config;
pub mod daemon;
pub mod faces;
pub mod focus;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
#[doc(hidden)]
pub mod stats;
mod strict_json;
mod telemetry;
pub mod xmpp;
