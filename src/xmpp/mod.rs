//! What the bridge says over XMPP, without the connection: stanzas in, stanzas out. No I/O.
//!
//! [`StreamReader`] makes stanzas of bytes, within [`Limits`]. [`iq::handle`] answers a
//! request or says what to ask the bridge. [`presence::stats`] is what the bridge publishes.

pub mod component;
pub mod iq;
pub mod presence;
mod stanza;
mod stream;

pub use stanza::{Fault, Limits, Stanza, StanzaBuilder};
pub use stream::{STREAMS, StreamError, StreamEvent, StreamReader, parse};

#[cfg(test)]
mod tests;
