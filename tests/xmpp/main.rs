//! The bridge at a real Prosody, with a focus written for the test.

mod causes;
mod check;
mod compare;
mod component;
mod focus;
mod here;
mod life;
mod order;
mod prosody;
mod replay;
mod wire;
