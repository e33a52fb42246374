//! COLIBRI 1 on top of the bridge: the [`Adapter`] keeps the state that COLIBRI2 does not have (channels,
//! their ids, the owner of a conference), and sends the bridge requests in COLIBRI2's types.

mod adapter;
mod channel;
pub(crate) mod fuzz;
mod plan;
#[cfg(test)]
mod tests;

pub use adapter::{Adapter, Refusal};
