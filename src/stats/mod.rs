//! Metrics, the redaction of addresses in logs, and the limit on log lines that a peer can cause.

mod log_limit;
mod redact;

pub use log_limit::LogLimit;
pub use redact::{Redacted, redact, redact_ip, set_redaction};
