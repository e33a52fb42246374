//! The command line: what is asked, and with which exit code it ends.

mod args;
mod check;
mod failure;
mod machine;
mod notify;
mod serve;
mod servers;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
pub use failure::Failure;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(run) => serve::run(&run),
        Command::Dev(dev) => serve::dev(&dev),
        Command::CheckConfig { file, connect } => check::check_config(&file, connect),
        Command::Version => {
            println!("rialto {}", crate::http::VERSION);
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|failure| {
        eprintln!("rialto: {failure}");
        failure.exit_code()
    })
}
