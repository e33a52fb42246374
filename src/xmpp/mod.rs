//! XMPP: connections to servers, on `tokio-xmpp` and `xmpp-parsers`.
//!
//! [`client`] is an occupant of the focus's room, [`component`] a component of a server; both use the same
//! driver. [`Answers`] answers their requests: this module does not depend on the bridge. Under the library's
//! stream, `bounds` enforces the [`Limits`] of stanzas.

mod acks;
mod answers;
mod bounded;
mod bounds;
mod cause;
pub mod client;
pub mod component;
mod connect;
mod driver;
mod life;
mod log;
mod login;
pub(crate) mod offline;
mod sasl;
mod stanza;
mod tls;
mod wire;

pub use answers::{Answer, Answers, Asked, Later};
pub use bounds::{Fault, Limits};
pub use offline::parse;
pub use stanza::Stanza;
pub(crate) use stanza::put;

#[cfg(test)]
mod tests;
