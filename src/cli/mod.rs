//! The command line: what is asked, and with which exit code it ends.

mod args;
mod check;
mod container;
mod failure;
mod health;
mod log;
mod machine;
mod manual;
mod notify;
mod serve;
mod servers;
pub(crate) mod top;
mod traces;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;

use args::{Args, Command};
pub use failure::Failure;

/// What `--version` prints: the version, the commit and how it was built.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RIALTO_BUILD"), ")");

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(run) => serve::run(&run),
        Command::Dev(dev) => serve::dev(&dev),
        Command::CheckConfig { file, connect } => check::check_config(&file, connect),
        Command::Container { print } => container::run(print),
        Command::Health { address } => health::ask(&address),
        Command::Top(top) => top::run(&top),
        Command::Completions { shell } => {
            manual::completions(shell);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => manual::pages(directory.as_deref()),
        Command::Version => {
            print_line(&format!("rialto {VERSION}"));
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|failure| {
        print_error(&format!("rialto: {failure}"));
        failure.exit_code()
    })
}

/// A line for who may not be there to read it, which is no reason to fail.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on standard error.
fn print_error(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
