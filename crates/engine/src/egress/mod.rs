//! Sending. The packets of a source lie in rings, one copy per shard; each receiver is one object
//! that owns everything that is sent to one endpoint.

pub mod allocation;
mod info;
pub mod pace;
pub mod receiver;
pub mod report;
pub mod ring;
pub mod source;
pub mod wire;

pub use info::SourceInfo;
pub use receiver::{Receiver, Stream};
pub use source::SourceFeed;
