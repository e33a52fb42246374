//! Configuration: HOCON as in `jvb.conf`, its schema, defaults, and where each value came from.
//!
//! [`load`] is the only reader of configuration in the process; everything else is handed its part of
//! [`Config`].

mod component;
mod contradictions;
mod known;
mod legacy;
mod load;
mod model;
mod reader;
mod schema;
mod servers;
pub mod units;
mod xmpp;

#[cfg(test)]
mod tests;

pub use component::{Component, SourcePattern, StatsPlace, StatsTransport};
pub use load::{ConfigError, Loaded, Warning, load, load_bytes, load_legacy_bytes};
pub use model::*;
pub use reader::{Effective, Invalid, Override};
pub use servers::{Http, Tls, private_port_key, public_port_key};
pub use xmpp::{Secret, Xmpp, XmppClient, XmppSecurity};
