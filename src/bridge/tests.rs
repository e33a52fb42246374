//! The bridge over a detached engine, with pretended or real transports.

mod errors;
mod life;
mod replay;
mod rig;
mod storm;
