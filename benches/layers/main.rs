//! The cost of selecting layers in a shard's core, beside forwarding all of the same packets.
//!
//! `cargo bench -p rialto-benches --bench layers [-- NAME]`
//!
//! Each row is the CPU time of the thread for a set of incoming packets: a picture of each sender,
//! with its audio. Three cores process the same packets in turn: one that does not know the codec
//! (`unread`), one where all layers are requested, and one where 180 lines are requested by all but
//! one, or of all videos but one of each receiver (`wished`). No sockets; virtual time, with its
//! timers.

mod call;
mod outbox;
mod receiver;
#[path = "../rig.rs"]
mod rig;
mod sender;

use std::process::ExitCode;

use call::{Call, Round, Select, Shape};
use rialto_codec_model::Mode;

/// Limit for the time of selecting layers, relative to forwarding everything.
const MAX_TIME: f64 = 1.15;
/// Turns of each core.
const TURNS: usize = 15;
/// Approximate number of outgoing packets per turn, if all are forwarded.
const TURN: u64 = 30_000;

const SHAPES: [Shape; 4] = [
    webinar("1 to 20", 20),
    webinar("1 to 300", 300),
    Shape { senders: 10, people: 10, each: 9, ..webinar("10 to 10", 0) },
    Shape {
        senders: 100,
        people: 100,
        each: 25,
        audio: true,
        ..webinar("100, each with 25 tiles", 0)
    },
];

const fn webinar(name: &'static str, receivers: u32) -> Shape {
    Shape { name, senders: 1, people: 1 + receivers, each: 1, audio: false, congested: None }
}

fn main() -> ExitCode {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    // `cargo test --benches` needs nothing of it.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let wants = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    println!("µs of CPU for a set of packets that come in, and packets that go out");
    println!(
        "{:<40} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6} {:<8} {:>5}",
        "", "in", "unread", "all", "wished", "out", "wished", "out", "time", "", "all"
    );
    let mut held = true;
    for shape in SHAPES {
        for mode in [Mode::AV1_L3T3, Mode::VP9_L3T3_KEY, Mode::VP8_T3] {
            let name = format!("{}, {}", shape.name, mode.name);
            if wants(&name) {
                held &= compare(&name, shape, mode);
            }
        }
    }
    if wants("congested") {
        congested();
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a row. Returns whether its limit holds.
fn compare(name: &str, shape: Shape, mode: Mode) -> bool {
    let selects = [Select::Unread, Select::All, Select::Wished];
    let mut calls = selects.map(|select| Call::new(shape, mode, select));
    let [unread, all, wished] = turns(&mut calls);
    let ratio = wished.us / unread.us;
    let held = ratio <= MAX_TIME;
    let verdict = if held { "held" } else { "NOT HELD" };
    println!(
        "{name:<40} {:>8.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>6.2} {ratio:>6.2} {verdict:<8} {:>5.2}",
        unread.packets_in,
        unread.us,
        all.us,
        wished.us,
        unread.packets_out,
        wished.packets_out,
        wished.packets_out / unread.packets_out,
        all.us / unread.us,
    );
    held
}

/// The result of a call for a set of incoming packets.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// The median of all turns, µs.
    us: f64,
    packets_in: f64,
    packets_out: f64,
}

/// Runs calls in turn.
fn turns<const N: usize>(calls: &mut [Call; N]) -> [Cost; N] {
    let most = calls.iter_mut().map(|call| call.round().packets_out).max();
    let rounds = (TURN / most.unwrap_or(1).max(1)).clamp(3, 600) / 3 * 3;
    let mut all: [Vec<Round>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..TURNS {
        for (call, turns) in calls.iter_mut().zip(&mut all) {
            let mut turn = Round::default();
            for _ in 0..rounds {
                let round = call.round();
                turn.time += round.time;
                turn.packets_in += round.packets_in;
                turn.packets_out += round.packets_out;
            }
            turns.push(turn);
        }
    }
    all.map(|mut turns| {
        turns.sort_by_key(|turn| turn.time);
        let each = |sum: u64| sum as f64 / (rounds * TURNS as u64) as f64;
        Cost {
            us: turns[turns.len() / 2].time.as_secs_f64() * 1e6 / rounds as f64,
            packets_in: each(turns.iter().map(|turn| turn.packets_in).sum()),
            packets_out: each(turns.iter().map(|turn| turn.packets_out).sum()),
        }
    })
}

/// The cost of receivers with full links to those beside them.
fn congested() {
    let free = webinar("1 to 2000", 2_000);
    let full = Shape { congested: Some((10, 600_000)), ..free };
    let mut calls = [free, full].map(|shape| Call::new(shape, Mode::AV1_L3T3, Select::All));
    let [free, full] = turns(&mut calls);
    let per_packet = |cost: &Cost| cost.us * 1e3 / cost.packets_out;
    println!(
        "1 to 2000, AV1 L3T3: {:.0} packets out for a picture, {:.0} ns each; congested, a tenth at 600 kbit/s: \
         {:.0} packets out, {:.0} ns each ({:.2} of the time), {} lost",
        free.packets_out,
        per_packet(&free),
        full.packets_out,
        per_packet(&full),
        full.us / free.us,
        calls[1].lost(),
    );
}
