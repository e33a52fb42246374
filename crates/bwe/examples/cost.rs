//! Prints the cost of an estimator: per packet, per report, and its memory.
//!
//!   cargo run --release -p rialto-bwe --example cost

use std::time::{Duration, Instant};

use rialto_bwe::{Config, Estimator, Kind, Report};

const FEEDBACKS: u64 = 200_000;
/// Packets per feedback: 2.6 Mbit/s, reported each 50 ms.
const PACKETS: u16 = 14;

fn main() {
    let start = Instant::now();
    let mut estimator = Estimator::new(Config::default(), start);
    let (mut sending, mut reporting) = (Duration::ZERO, Duration::ZERO);
    for n in 0..FEEDBACKS {
        let first = estimator.next_number();
        let began = Instant::now();
        for packet in 0..u64::from(PACKETS) {
            let now = start + Duration::from_micros(n * 50_000 + packet * 3_500);
            estimator.on_sent(now, 1_150, Kind::Video, None);
        }
        sending += began.elapsed();
        let now = start + Duration::from_micros(n * 50_000 + 49_000);
        let reports = (0..PACKETS).map(|packet| Report {
            number: first.wrapping_add(packet),
            received: (packet != 5 || n % 4 != 0)
                .then(|| (n * 50_000 + u64::from(packet) * 3_500 + n * 7 % 900).cast_signed()),
        });
        let began = Instant::now();
        estimator.on_feedback(now, reports);
        reporting += began.elapsed();
    }
    let packets = FEEDBACKS as f64 * f64::from(PACKETS);
    println!(
        "a packet {:.0} ns, a report {:.0} ns, a feedback of {PACKETS} {:.0} ns",
        sending.as_nanos() as f64 / packets,
        reporting.as_nanos() as f64 / packets,
        reporting.as_nanos() as f64 / FEEDBACKS as f64
    );
    println!(
        "an estimator {} bytes, its history {} bytes, a pacer {} bytes",
        size_of::<Estimator>(),
        estimator.memory(),
        size_of::<rialto_bwe::Pacer>()
    );
}
