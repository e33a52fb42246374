//! The bridge channel: what clients and the bridge tell each other about the conference, in JSON,
//! over SCTP or a WebSocket.
//!
//! [`message`] reads and writes; [`Hub`] knows which channels an endpoint has open and queues what
//! goes out; what a message does to a conference is the conference's matter.

mod hub;
pub mod message;
mod outbox;
mod wishes;

pub use hub::{ChannelCounters, ChannelKind, Dropped, Hub, Opened, SocketEnd};
pub use message::{MappedSource, ToBridge, ToClient};
pub use outbox::{Close, Outbox, Outgoing};
pub use wishes::{Constraint, Limits, ReceiverConstraints};
