//! What is published of the bridge, the redaction of addresses in logs, and the limit on log lines that a peer can cause.

mod log_limit;
mod older;
mod process;
mod published;
mod redact;

pub use log_limit::LogLimit;
pub use older::older;
pub use process::Process;
pub use published::{Mucs, Number, Stat, Surroundings, published, timestamp};
pub use redact::{Redacted, redact, redact_ip, set_redaction};
