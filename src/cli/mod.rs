//! The command line: what is asked, and with which exit code it ends.

mod args;
mod check;
mod failure;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
pub use failure::Failure;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Command::CheckConfig { file } => check::check_config(&file),
        Command::Version => {
            println!("rialto {}", crate::http::VERSION);
            Ok(ExitCode::SUCCESS)
        }
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("rialto: {failure}");
            failure.exit_code()
        }
    }
}
