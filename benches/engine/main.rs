//! The cost of the engine over real sockets, beside a bare loop that only seals and sends.
//!
//! `cargo bench --bench engine [-- sinks|bare|connected|wait|whole]`
//!
//! The measured thread runs on CPU 0, everything else on CPU 1. The result is the CPU time of that
//! thread, which other load on the machine disturbs less than the wall clock; a core's packets per
//! second are its inverse. Over loopback it includes the kernel's work of delivery up to the
//! receiver's socket.

mod bare;
mod connected;
mod latency;
mod sinks;
mod wait;
mod whole;

use std::{io, time::Duration};

/// Receivers of the one source.
const RECEIVERS: usize = 20;

/// An RTP packet before protection, bytes.
const PACKET: usize = 1_100;

/// How long each case runs.
const RUN: Duration = Duration::from_millis(1_500);

/// Runs a loop that sends to sinks on CPU 0, in a thread of its own.
fn on_cpu_0(
    kind: sinks::Kind,
    receivers: usize,
    send: impl FnOnce(&sinks::Sinks) -> io::Result<f64> + Send,
) -> io::Result<f64> {
    let sinks = sinks::Sinks::new(kind, receivers)?;
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            rialto_sys::set_affinity(0)?;
            send(&sinks)
        });
        measured.join().expect("no loop panics")
    })
}

fn main() -> io::Result<()> {
    // Cargo passes `--bench`.
    let part = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if part.as_deref() == Some("sinks") {
        bare::compare_sinks()?;
    }
    if wants("bare") {
        bare::report()?;
    }
    if wants("connected") {
        connected::report()?;
    }
    if wants("whole") {
        whole::report()?;
    }
    if wants("wait") {
        wait::report()?;
    }
    Ok(())
}
