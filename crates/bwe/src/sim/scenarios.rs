//! The scenarios of the table.

use super::{
    Random,
    link::{Bursts, LinkConfig, Time},
    receiver::FeedbackConfig,
    world::Scenario,
};

const SECOND: Time = 1_000_000;
const MINUTE: Time = 60 * SECOND;
const MBIT: u64 = 1_000_000;

/// A receiver of one source on a link of 5 Mbit/s with a round trip of 50 ms, with feedback as
/// libwebrtc's receivers send it.
fn plain(name: &'static str) -> Scenario {
    Scenario {
        name,
        link: LinkConfig::default(),
        feedback: FeedbackConfig { interval: 50_000, delay: 25_000, loss: 0.0 },
        receivers: vec![(0, 1)],
        tcp: None,
        keyframes: None,
        share: 1.0,
        length: MINUTE,
    }
}

fn steady(name: &'static str, rate: u64, sources: usize) -> Scenario {
    let mut scenario = plain(name);
    scenario.link.rates = vec![(0, rate)];
    scenario.receivers = vec![(0, sources)];
    scenario
}

fn steps(name: &'static str, rates: [u64; 3], sources: usize) -> Scenario {
    let mut scenario = steady(name, rates[0], sources);
    let [first, second, third] = rates;
    scenario.link.rates = vec![(0, first), (20 * SECOND, second), (40 * SECOND, third)];
    scenario
}

fn round_trip(name: &'static str, millis: Time) -> Scenario {
    let mut scenario = steady(name, 3 * MBIT, 1);
    scenario.link.delay = millis * 500;
    scenario.feedback.delay = millis * 500;
    scenario
}

fn queue(name: &'static str, queue: Time) -> Scenario {
    let mut scenario = steps(name, [5 * MBIT, MBIT, 5 * MBIT], 1);
    scenario.link.queue = queue;
    scenario
}

fn feedback(name: &'static str, interval: Time, delay: Time, loss: f64) -> Scenario {
    let mut scenario = steps(name, [5 * MBIT, MBIT, 5 * MBIT], 1);
    scenario.feedback = FeedbackConfig { interval, delay, loss };
    scenario
}

/// Links that lose packets at random or in bursts, or delay them.
fn impaired() -> Vec<Scenario> {
    let mut random = round_trip("2 % random loss, 3 Mbit/s", 100);
    random.link.loss = 0.02;
    let mut bursts = steady("10 % loss in bursts, 5 s", 5 * MBIT, 1);
    let (from, until) = (20 * SECOND, 25 * SECOND);
    bursts.link.bursts = Some(Bursts { from, until, loss: 0.1, length: 4.0 });
    let mut jitter = round_trip("jitter 30 ms, 5 % overtaking", 100);
    jitter.link.jitter = 30_000;
    jitter.link.overtaking = 0.05;
    let mut ordered = jitter.clone();
    ordered.name = "jitter 30 ms in order";
    ordered.link.overtaking = 0.0;
    let mut free = jitter.clone();
    free.name = "jitter 30 ms, any order";
    free.link.overtaking = 1.0;
    vec![random, bursts, jitter, ordered, free]
}

/// Links shared with others.
fn shared() -> Vec<Scenario> {
    let mut tcp = steady("TCP-like flow, 10 s to 40 s", 6 * MBIT, 1);
    tcp.tcp = Some((10 * SECOND, 40 * SECOND));
    tcp.share = 0.5;
    let mut two = steady("two receivers, 4 Mbit/s", 4 * MBIT, 4);
    two.receivers = vec![(0, 4), (10 * SECOND, 4)];
    two.share = 0.5;
    let mut keyframes = steady("a keyframe each 5 s, 3 Mbit/s", 3 * MBIT, 1);
    keyframes.keyframes = Some(5 * SECOND);
    vec![tcp, two, keyframes]
}

/// A receiver of some sources on a link with some of every impairment, chosen by a seed.
pub fn random(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let mut pick = |from: &[u64]| from[random.bits() as usize % from.len()];
    let rate = pick(&[300, 500, 700, 1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 10_000]) * 1_000;
    let mut scenario = steady("random", rate, pick(&[1, 1, 2, 3, 5]) as usize);
    scenario.link.delay = pick(&[5, 25, 50, 100]) * 1_000;
    scenario.link.queue = pick(&[100, 150, 300, 600]) * 1_000;
    scenario.link.jitter = pick(&[0, 0, 10, 30, 50]) * 1_000;
    scenario.link.overtaking = pick(&[0, 5, 100]) as f64 / 100.0;
    scenario.link.loss = pick(&[0, 0, 1, 2, 5]) as f64 / 100.0;
    scenario.link.seed = seed;
    scenario.feedback.interval = pick(&[50, 100, 200]) * 1_000;
    scenario.feedback.delay = scenario.link.delay;
    scenario.keyframes = [None, Some(5 * SECOND), Some(9 * SECOND)][pick(&[0, 1, 2]) as usize];
    scenario
}

/// All scenarios, in the order of the table.
pub fn all() -> Vec<Scenario> {
    let mut gone = steady("link gone for 3 s", 5 * MBIT, 1);
    gone.link.rates = vec![(0, 5 * MBIT), (20 * SECOND, 0), (23 * SECOND, 5 * MBIT)];
    let mut all = vec![
        steady("steady 0.3 Mbit/s", 300_000, 1),
        steady("steady 1 Mbit/s", MBIT, 1),
        steady("steady 1 Mbit/s, 3 sources", MBIT, 3),
        steady("steady 3 Mbit/s", 3 * MBIT, 1),
        steady("steady 5 Mbit/s", 5 * MBIT, 1),
        steady("steady 20 Mbit/s, 7 sources", 20 * MBIT, 7),
        steps("5 - 1 - 5 Mbit/s", [5 * MBIT, MBIT, 5 * MBIT], 1),
        steps("5 - 1 - 5 Mbit/s, 3 sources", [5 * MBIT, MBIT, 5 * MBIT], 3),
        steps("2 - 0.5 - 2 Mbit/s", [2 * MBIT, 500_000, 2 * MBIT], 1),
        round_trip("round trip 50 ms, 3 Mbit/s", 50),
        round_trip("round trip 150 ms, 3 Mbit/s", 150),
        round_trip("round trip 300 ms, 3 Mbit/s", 300),
    ];
    all.extend(impaired());
    all.push(queue("queue 50 ms, 5 - 1 - 5", 50_000));
    all.push(queue("queue 1 s, 5 - 1 - 5", SECOND));
    all.extend(shared());
    all.push(feedback("feedback 300 ms late, 5 - 1 - 5", 50_000, 300_000, 0.0));
    all.push(feedback("feedback each 400 ms, 5 - 1 - 5", 400_000, 25_000, 0.0));
    all.push(feedback("half the feedback lost, 5 - 1 - 5", 50_000, 25_000, 0.5));
    all.push(gone);
    all
}
