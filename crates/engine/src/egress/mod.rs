//! Per receiver: projection, SSRC rewriting, packet history, retransmission, sealing.

pub mod allocation;
pub mod budget;
pub mod feed;
pub mod history;
mod info;
pub mod numbers;
pub mod projection;
pub mod receiver;
pub mod report;
pub mod ring;
pub mod wire;

pub use feed::Feed;
pub use info::SourceInfo;
pub use receiver::{Receiver, Subscription};
