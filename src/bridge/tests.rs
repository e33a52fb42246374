//! The bridge over a detached engine, with pretended or real transports.

mod allocation;
mod channel;
mod data_channel;
mod errors;
mod life;
mod replay;
pub(crate) mod rig;
mod slots;
mod slow;
mod status;
mod storm;
