//! XMPP: what the bridge says, and the connections over which it says it.
//!
//! [`client`] is an occupant of the focus's room, [`component`] a component of a server. [`StreamReader`] makes stanzas of bytes, within [`Limits`]. [`iq::handle`] answers a
//! request or says what to ask the bridge. [`presence::stats`] is what the bridge publishes.

pub mod client;
pub mod component;
mod connect;
pub mod iq;
pub mod presence;
mod stanza;
mod stream;
mod trim;

pub use stanza::{Fault, Limits, Stanza, StanzaBuilder};
pub use stream::{STREAMS, StreamError, StreamEvent, StreamReader, parse};

#[cfg(test)]
mod tests;
