//! Why the process ends, as one line and an exit code.

use std::process::ExitCode;

use crate::config::ConfigError;

/// What stops the process from starting. Each displays as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
}

impl Failure {
    /// 78 (`EX_CONFIG`, as JVB: its systemd unit does not restart on it) when the configuration must
    /// be changed first, 1 otherwise.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(78),
        }
    }
}
