//! Prints the table that is committed as `table.txt`, or a scenario by the tenth of a second.
//!
//!   cargo run --release -p rialto-bwe --example table [SCENARIO [RECEIVER]]
//!
//! A SCENARIO is part of a name, or the seed of a random one (see `sweep`).

use std::time::Instant;

use rialto_bwe::sim::{scenarios, table, world::World};

fn main() {
    let start = Instant::now();
    let Some(wanted) = std::env::args().nth(1) else {
        print!("{}", table::print(start));
        return;
    };
    let named = scenarios::all().into_iter().find(|each| each.name.contains(&wanted));
    let Some(scenario) = wanted.parse().ok().map(scenarios::random).or(named) else {
        eprintln!("no scenario is named so");
        return;
    };
    println!("{}", scenario.name);
    let receiver = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut world = World::new(scenario, start);
    while world.step() {
        let (now, queue) = world.state();
        if now % 100_000 == 0 {
            let sender = world.sender(receiver);
            println!(
                "{:5.1} queue {:3} forwarded {:5} {:?}",
                now as f64 / 1e6,
                queue / 1_000,
                sender.forwarded() / 1_000,
                sender.estimator.debug()
            );
        }
    }
    println!("{:?}", world.receiver(receiver).pictures());
}
