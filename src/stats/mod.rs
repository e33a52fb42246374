//! Values of statistics, and the system's figures about the process.

mod process;
mod values;

pub use process::Process;
pub use values::{Mucs, Number, Stat, Surroundings, timestamp};
