//! Runs random scenarios and prints those with a bad result.
//!
//!   cargo run --release -p rialto-bwe --example sweep [FIRST [COUNT]]

use std::time::Instant;

use rialto_bwe::sim::{scenarios, world::World};

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let (first, count) = (args.next().unwrap_or(1), args.next().unwrap_or(200));
    let mut bad = 0;
    for seed in first..first + count {
        let scenario = scenarios::random(seed);
        let outcome = World::new(scenario.clone(), Instant::now()).run()[0];
        let link = &scenario.link;
        let slack = link.jitter as f64 / 1_000.0;
        let verdict = [
            (outcome.utilisation < 0.85, "utilisation"),
            (outcome.queue_p95 > 100.0 + slack, "queue"),
            (outcome.dropped > 0.02, "dropped"),
            (outcome.freeze > 1.0, "freeze"),
            (outcome.settle.is_none_or(|settle| settle > 3.0), "settle"),
        ];
        let words: Vec<_> = verdict.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        if words.is_empty() {
            continue;
        }
        bad += 1;
        println!(
            "{seed:5} {:6} kbit/s {} sources rtt {:3} queue {:3} jitter {:2} ({:.2}) loss {:.2} feedback {:3} keys {:?}: util {:3.0} p50 {:3.0} p95 {:3.0} drop {:.1} settle {:?} freeze {:.2} pad {:.1}: {}",
            link.rates[0].1 / 1_000,
            scenario.receivers[0].1,
            link.delay / 500,
            link.queue / 1_000,
            link.jitter / 1_000,
            link.overtaking,
            link.loss,
            scenario.feedback.interval / 1_000,
            scenario.keyframes.map(|each| each / 1_000_000),
            outcome.utilisation * 100.0,
            outcome.queue_p50,
            outcome.queue_p95,
            outcome.dropped * 100.0,
            outcome.settle,
            outcome.freeze,
            outcome.padding * 100.0,
            words.join(", ")
        );
    }
    println!("{bad} of {count}");
}
