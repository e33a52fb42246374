//! The table of the results of all scenarios.

use std::{fmt::Write, time::Instant};

use super::{
    scenarios,
    world::{Outcomes, World},
};

/// Runs all scenarios; the result is the same each time.
pub fn print(start: Instant) -> String {
    let mut table = format!(
        "{:34} {:>5} {:>5} {:>5} {:>6} {:>7} {:>7} {:>7} {:>7} {:>6} {:>5} {:>5} {:>5}\n",
        "scenario",
        "util%",
        "q p50",
        "q p95",
        "drop%",
        "settle",
        "drained",
        "recover",
        "freeze",
        "audio%",
        "pad%",
        "rtx%",
        "offer"
    );
    for scenario in scenarios::all() {
        let name = scenario.name;
        for (n, outcome) in World::new(scenario, start).run().into_iter().enumerate() {
            let name = if n == 0 { name } else { "  the other" };
            row(&mut table, name, &outcome);
        }
    }
    table
}

fn row(table: &mut String, name: &str, outcome: &Outcomes) {
    let seconds = |seconds: Option<f64>| seconds.map_or("-".into(), |at| format!("{at:.2}"));
    let _ = writeln!(
        table,
        "{name:34} {:>5.0} {:>5.0} {:>5.0} {:>6.2} {:>7} {:>7} {:>7} {:>7.2} {:>6.2} {:>5.1} {:>5.1} {:>5.2}",
        outcome.utilisation * 100.0,
        outcome.queue_p50,
        outcome.queue_p95,
        outcome.dropped * 100.0,
        seconds(outcome.settle),
        seconds(outcome.drained),
        seconds(outcome.recover),
        outcome.freeze,
        outcome.audio_lost * 100.0,
        outcome.padding * 100.0,
        outcome.again * 100.0,
        outcome.offered,
    );
}
