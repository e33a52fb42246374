//! The bridge channel: the messages about the conference that clients and the bridge exchange, in JSON, over
//! SCTP or a WebSocket.
//!
//! [`message`] parses and writes messages; [`Hub`] keeps the open channels of each endpoint and queues
//! outgoing messages. The conference handles the messages themselves.

mod constraints;
mod hub;
pub mod message;
mod outbox;

pub use constraints::{Constraint, Limits, ReceiverConstraints};
pub use hub::{ChannelCounters, ChannelKind, Dropped, Hub, Opened, SocketEnd};
pub use message::{MappedSource, ToBridge, ToClient};
pub use outbox::{Close, Outbox, Outgoing};
