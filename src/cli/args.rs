//! The arguments.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A selective forwarding unit that takes Jitsi Videobridge's place.
#[derive(Parser, Debug)]
#[command(name = "rialto", version = crate::http::VERSION, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Print every value that a configuration file leads to, where each comes from, and what has no
    /// effect. Exits with 0, or with 78 when `run` would refuse the file.
    CheckConfig {
        /// The file (HOCON, as jvb.conf).
        file: PathBuf,
    },
    /// Print the version.
    Version,
}
