//! COLIBRI 1 on top of the bridge: the [`Adapter`] keeps what this protocol has and COLIBRI2 has not
//! (channels, their ids, whose a conference is), and asks the bridge in COLIBRI2's types.

mod adapter;
mod channel;
pub(crate) mod fuzz;
mod plan;
#[cfg(test)]
mod tests;

pub use adapter::{Adapter, Refusal};
