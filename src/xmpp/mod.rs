//! What the bridge says over XMPP, without the connection: stanzas in, stanzas out. No I/O.
//!
//! [`StanzaBuilder`] makes elements of what a parser finds, within [`Limits`]. [`iq::handle`] answers a
//! request or says what to ask the bridge. [`presence::stats`] is what the bridge publishes.

pub mod iq;
pub mod presence;
mod stanza;

pub use stanza::{Fault, Limits, ParseError, Stanza, StanzaBuilder, parse};

#[cfg(test)]
mod tests;
