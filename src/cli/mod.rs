//! The command line: parses the arguments, runs the command, and returns its exit code.

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

/// Runs the command given on the command line.
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

/// Prints a line to standard output. A closed output is not an error.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line to standard error.
fn print_error(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
