//! What is published of the bridge, and the limit on log lines that a peer can cause.

mod log_limit;
mod older;
mod process;
mod published;

pub use log_limit::LogLimit;
pub use older::older;
pub use process::Process;
pub use published::{Mucs, Number, Stat, Surroundings, published, timestamp};
