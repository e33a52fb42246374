//! Configuration: HOCON as in `jvb.conf`, its schema, its defaults, and the origin of each value.
//!
//! [`load`] is the only reader of configuration in the process; every other part receives its part of
//! [`Config`].

mod capture;
mod cc;
mod component;
mod contradictions;
mod fuzz;
mod hash;
mod known;
mod legacy;
mod load;
mod load_management;
mod model;
mod reader;
mod schema;
mod servers;
pub mod units;
mod xmpp;

#[cfg(test)]
mod tests;

pub use capture::Capture;
pub use cc::{Bandwidth, Cc, ConnectionStats};
pub use component::{Component, SourcePattern, StatsDestination, StatsTransport};
pub(crate) use fuzz::{fuzz, fuzz_legacy};
pub use hash::Hash;
pub use load::{ConfigError, Loaded, Warning, load};
pub use load_management::{LastNReducer, Load, LoadMeasure};
pub use model::*;
pub use reader::{Effective, Invalid, Override};
pub use servers::{
    Http, PRIVATE, PUBLIC, ServerKeys, TLS_CIPHER_SUITES, TLS_PROTOCOLS, Tls, private_port_key,
    public_port_key, servers_collide,
};
pub use xmpp::{Secret, Xmpp, XmppClient, XmppSecurity};
