//! One table of the last results of the other benches, with the two ratios that must hold.
//!
//! Criterion's estimates are in the target directory, as are the results of `engine`. A ratio that
//! does not hold is marked, but is no error: other load on the machine may be the reason.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Limit for the core's time per forwarded packet, relative to the raw cipher.
const MAX_CORE: f64 = 1.6;
/// Least fraction of a bare loop's rate that the engine forwards.
const MIN_ENGINE: f64 = 0.5;

fn main() -> io::Result<()> {
    // `cargo test --benches` has nothing to summarise.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let target = target_dir()?;
    println!("\n{:<62} {:>12} {:>10}   ratio", "one core", "packets/s", "ns/packet");
    core(&target.join("criterion"))?;
    engine(&target.join("bench/engine.json"))?;
    println!("\n{:<62} {:>12} {:>10}", "parts", "1/s", "ns");
    parts(&target.join("criterion"))
}

/// The executable is `<target>/release/deps/summary-…`.
fn target_dir() -> io::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let target = executable.ancestors().nth(3).map(Path::to_owned);
    target.ok_or_else(|| io::Error::other("not in a target directory"))
}

/// A line of a table.
fn line(name: &str, ns: f64, ratio: impl fmt::Display) {
    println!("{name:<62} {:>12.0} {ns:>10.0}   {ratio}", 1e9 / ns);
}

fn held(held: bool, bound: &str) -> String {
    format!("{} ({bound})", if held { "held" } else { "NOT HELD" })
}

fn core(criterion: &Path) -> io::Result<()> {
    for shape in ["1 to 20", "1 to 300", "10 to 10"] {
        let group = criterion.join(format!("core_1100_{shape}"));
        let raw = per_element(&group.join("raw cipher"))?;
        let ours = per_element(&group.join("rialto"))?;
        let ratio = ours / raw;
        line(&format!("raw cipher: AES-128-GCM, 1100 B ({shape})"), raw, "");
        let verdict = held(ratio <= MAX_CORE, "at most 1.6 of the raw cipher");
        line(&format!("core: {shape}"), ours, format!("{ratio:.2} {verdict}"));
    }
    Ok(())
}

fn engine(file: &Path) -> io::Result<()> {
    let rows = json(file)?;
    for row in rows.as_array().into_iter().flatten() {
        let number = |name: &str| row.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let (cpu, bare) = (number("cpu_ns"), number("bare_ns"));
        let full = row.get("full_load") == Some(&Value::Bool(true));
        let shape = row.get("shape").and_then(Value::as_str).unwrap_or_default();
        if full {
            let run = number("mean_run").round();
            line(&format!("bare loop: {shape}, {run} packets in a GSO run"), bare, "");
        }
        let load = if full { "full load".into() } else { format!("{:.0}/s in", number("rate_in")) };
        let ratio = bare / cpu;
        let verdict = if full {
            held(ratio >= MIN_ENGINE, "at least 0.5 of the bare loop")
        } else {
            format!("p50 {:.0} µs, p99 {:.0} µs", number("p50_us"), number("p99_us"))
        };
        line(&format!("whole engine: {shape}, {load}"), cpu, format!("{ratio:.2} {verdict}"));
    }
    Ok(())
}

/// The criterion benches of `rtp` and `srtp`, as they are named.
fn parts(criterion: &Path) -> io::Result<()> {
    let mut found = Vec::new();
    collect(criterion, criterion, &mut found)?;
    found.sort();
    for name in found.iter().filter(|name| !name.starts_with("core_")) {
        let ns = median(&criterion.join(name).join("new"))?;
        println!("{name:<62} {:>12.0} {ns:>10.0}", 1e9 / ns);
    }
    Ok(())
}

/// Every directory below `dir` that holds a measurement, by its path from `root`.
fn collect(root: &Path, dir: &Path, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.join("new/estimates.json").exists() {
            let name = path.strip_prefix(root).unwrap_or(&path);
            found.push(name.to_string_lossy().into_owned());
        } else {
            collect(root, &path, found)?;
        }
    }
    Ok(())
}

/// Median time of one of what the bench counts, ns.
fn per_element(bench: &Path) -> io::Result<f64> {
    let new = bench.join("new");
    let elements = json(&new.join("benchmark.json"))?;
    let elements = elements.pointer("/throughput/Elements").and_then(Value::as_f64);
    Ok(median(&new)? / elements.unwrap_or(1.0))
}

/// Median time of one iteration, ns.
fn median(new: &Path) -> io::Result<f64> {
    let file = new.join("estimates.json");
    let median = json(&file)?.pointer("/median/point_estimate").and_then(Value::as_f64);
    median.ok_or_else(|| io::Error::other(format!("no median in {}", file.display())))
}

fn json(file: &Path) -> io::Result<Value> {
    let text = fs::read_to_string(file)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}; `make bench`", file.display())))?;
    serde_json::from_str(&text).map_err(io::Error::other)
}
