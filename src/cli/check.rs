//! `rialto check-config`: prints the effective configuration and checks this machine against it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use rialto_hocon::System;

use super::{
    Failure,
    machine::{self, Finding},
    print_error, servers,
};
use crate::{
    config::{self, ConfigError, Loaded},
    daemon,
};

/// Checks `file` and prints the result. Errors go to stderr, one line each.
pub(super) fn check_config(file: &Path, connect: bool) -> Result<ExitCode, Failure> {
    let loaded = match config::load(Some(file), &[], &System) {
        Ok(loaded) => loaded,
        Err(ConfigError::Invalid(invalid)) if invalid.len() > 1 => {
            for mistake in &invalid {
                print_error(&format!("rialto: configuration: {mistake}"));
            }
            return Ok(ExitCode::from(78));
        }
        Err(error) => return Err(error.into()),
    };
    // This error would prevent the start too.
    daemon::server_tls(&loaded.config)
        .map_err(|error| Failure::key_store(error, &loaded.effective))?;
    // A reader that closed the pipe (`| head`) is not an error of the configuration.
    let _ = io::stdout().write_all(report(&loaded).as_bytes());
    for warning in &loaded.warnings {
        let kind = if warning.is_note() { "note" } else { "warning" };
        print_error(&format!("{kind}: {warning}"));
    }
    let findings = machine::check(&loaded.config);
    for finding in &findings {
        let _ = writeln!(io::stdout(), "machine: {finding}");
    }
    let refused = findings.iter().any(Finding::is_refusal);
    if connect {
        let findings = servers::check(&loaded.config)?;
        for finding in &findings {
            let _ = writeln!(io::stdout(), "server:  {finding}");
        }
        if findings.iter().any(Finding::is_problem) {
            return Ok(ExitCode::from(78));
        }
    }
    Ok(if refused { ExitCode::from(78) } else { ExitCode::SUCCESS })
}

/// `key = value  # origin`, aligned, in the order of the keys.
fn report(loaded: &Loaded) -> String {
    let lines: Vec<(String, String)> = loaded
        .effective
        .iter()
        .map(|value| (format!("{} = {}", value.key, value.value), value.origin.to_string()))
        .collect();
    let width = lines.iter().map(|(left, _)| left.chars().count()).filter(|&n| n <= 72).max();
    let width = width.unwrap_or_default();
    lines.iter().fold(String::new(), |mut text, (left, origin)| {
        let _ = writeln!(text, "{left:width$}  # {origin}");
        text
    })
}
