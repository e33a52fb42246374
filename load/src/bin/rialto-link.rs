//! `rialto-link`: puts a program behind an emulated network link.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use rialto_load::link::{args::Args, run};

/// The link could not be made, or broke.
const FAILED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = match Args::parse().options() {
        Ok(options) => options,
        Err(message) => return fail(USAGE, &message),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("cannot start: {error}")),
    };
    match runtime.block_on(run::run(options)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

fn fail(status: u8, message: &str) -> ExitCode {
    eprintln!("rialto-link: {message}");
    ExitCode::from(status)
}
