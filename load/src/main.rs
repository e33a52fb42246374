//! `rialto-load`: makes calls against a running bridge and prints what they cost.
#![forbid(unsafe_code)]

use std::{io::Write, path::Path, process::ExitCode};

use clap::Parser;
use rialto_load::{
    args::Args,
    report::Report,
    run::{self, RunError},
};

/// Somebody did not get everything.
const INCOMPLETE: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// The bridge refused or could not be reached.
const REFUSED: u8 = 3;
/// The bridge died, or media stopped.
const DIED: u8 = 4;

fn main() -> ExitCode {
    let args = Args::parse();
    let options = match args.options() {
        Ok(options) => options,
        Err(message) => return fail(USAGE, &message),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(INCOMPLETE, &format!("cannot start: {error}")),
    };
    match runtime.block_on(run::run(options)) {
        Ok(report) => finish(&report, args.json.as_deref()),
        Err(error @ RunError::Pid(_)) => fail(USAGE, &error.to_string()),
        Err(error @ (RunError::Call(_) | RunError::Nobody { signalling: true, .. })) => {
            fail(REFUSED, &error.to_string())
        }
        Err(error @ (RunError::Nobody { .. } | RunError::Interrupted)) => {
            fail(INCOMPLETE, &error.to_string())
        }
    }
}

fn finish(report: &Report, json: Option<&Path>) -> ExitCode {
    let to_stdout = json == Some(Path::new("-"));
    if !to_stdout {
        print!("{report}");
    }
    if let Some(path) = json
        && let Err(message) = write_json(report, path, to_stdout)
    {
        return fail(INCOMPLETE, &message);
    }
    if let Some(reason) = &report.ended_early {
        return fail(DIED, reason);
    }
    match report.complaint() {
        Some(complaint) => fail(INCOMPLETE, &complaint),
        None => ExitCode::SUCCESS,
    }
}

fn write_json(report: &Report, path: &Path, to_stdout: bool) -> Result<(), String> {
    let mut text = serde_json::to_string_pretty(report).map_err(|e| e.to_string())?;
    text.push('\n');
    let written = if to_stdout {
        std::io::stdout().write_all(text.as_bytes())
    } else {
        std::fs::write(path, text)
    };
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn fail(status: u8, message: &str) -> ExitCode {
    eprintln!("rialto-load: {message}");
    ExitCode::from(status)
}
