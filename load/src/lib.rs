//! Makes calls against a running bridge with COLIBRI2 over HTTP, with real ICE, DTLS and SRTP
//! clients, and measures what they cost it.
//!
//! The clients use another stack (the webrtc-rs crates) than the bridge. `plan` decides who sends
//! what; `client` joins one endpoint; `worker` threads carry the media of many; `call` holds a
//! whole call, `run` runs one by the clock, and `report` summarises the results.
//!
//! `link` is another tool: an emulated network link for programs of any kind.
#![forbid(unsafe_code)]

pub mod args;
pub mod call;
pub mod client;
pub mod colibri;
pub mod http;
pub mod layers;
pub mod link;
pub mod media;
pub mod nack;
pub mod plan;
pub mod procfs;
pub mod report;
pub mod run;
pub mod shared;
pub mod srtp;
pub mod track;
pub mod twcc;
pub mod units;
pub mod worker;
