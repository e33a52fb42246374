//! Compares the libraries that could be used for ICE and DTLS.
//!
//! `make compare`, or `cargo run --release -- [ice|dtls]` in this directory.
//!
//! No sockets: datagrams are passed in memory. Times are CPU times of the working thread; memory is
//! the growth of the process's resident memory. Each library is measured in a process of its own,
//! so that none finds memory that another has left.

mod dtls;
mod ice;

use std::{env, fmt, fs, io, process::Command, time::Duration};

/// A comparison.
struct Part {
    name: &'static str,
    /// Names of the columns, with their units.
    columns: &'static [&'static str],
    rows: &'static [&'static str],
    /// Measures one of `rows`, in this process.
    measure: fn(&str) -> io::Result<Vec<Cell>>,
}

const PARTS: [Part; 2] = [ice::PART, dtls::PART];

fn main() -> io::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let part = arguments.first();
    for part in PARTS.iter().filter(|known| part.is_none_or(|part| part == known.name)) {
        match arguments.get(1) {
            Some(row) => print_row(row, &(part.measure)(row)?),
            None => table(part)?,
        }
    }
    Ok(())
}

/// The table in Markdown; each row comes from a child.
fn table(part: &Part) -> io::Result<()> {
    println!("\n| {} | {} |", part.name, part.columns.join(" | "));
    println!("|---|{}", "---|".repeat(part.columns.len()));
    for row in part.rows {
        let child = Command::new(env::current_exe()?).args([part.name, row]).status()?;
        if !child.success() {
            return Err(io::Error::other(format!("{row}: {child}")));
        }
    }
    Ok(())
}

fn print_row(name: &str, cells: &[Cell]) {
    let cells: Vec<_> = cells.iter().map(Cell::to_string).collect();
    println!("| {name} | {} |", cells.join(" | "));
}

/// A figure, and how many of its decimals mean something.
struct Cell(f64, usize);

impl Cell {
    /// The share of each of `of` in a total.
    fn share(total: u64, of: f64) -> Self {
        Self(total as f64 / of, 1)
    }

    /// Each one's share of `total`, µs.
    fn micros(total: Duration, of: f64, decimals: usize) -> Self {
        Self(total.as_secs_f64() * 1e6 / of, decimals)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.*}", self.1, self.0)
    }
}

/// Memory that the process has resident, KiB.
fn resident_kib() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| io::Error::other("no VmRSS"))
}
