//! Statistics as values, and what the system says of the process.

mod process;
mod values;

pub use process::Process;
pub use values::{Mucs, Number, Stat, Surroundings, timestamp};
