//! Statistics as values, what the system says of the process, and the limit on log lines that a peer
//! can cause.

mod log_limit;
mod process;
mod values;

pub use log_limit::LogLimit;
pub use process::Process;
pub use values::{Mucs, Number, Stat, Surroundings, timestamp};
