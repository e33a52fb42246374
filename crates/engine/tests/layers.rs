//! Senders with layers, and receivers whose constraints change every few seconds, over networks
//! that lose, reorder and duplicate. What leaves the bridge is judged against each frame's true
//! references, and what receivers see against what they requested.
//!
//! `SIM_SEEDS=1000 cargo test --release --test layers` tries more seeds; `SIM_SEED=17` repeats one,
//! `SIM_SECONDS` makes each longer.

use std::{ops::Range, sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rialto_engine::{
    BandwidthConfig, Control,
    sim::{
        Weather, World, WorldConfig,
        codec::{Mode, Network, Problem, Rule},
    },
};
use rialto_media::{Codec, MediaParams, SourceId};

const RECEIVERS: usize = 2;
/// Time until everybody has a first keyframe.
const HEAD: Duration = Duration::from_secs(2);
/// Media of the last moments may still be in flight, or be requested again.
const TAIL: Duration = Duration::from_millis(1_500);
/// How often an AV1 encoder leaves out a layer of a picture.
const LAYER_DROPS: f64 = 0.03;
/// Time after a change of constraints.
const SETTLE: Duration = Duration::from_secs(1);

/// What is expected of the bridge, besides a decodable stream.
#[derive(Clone, Copy, Debug)]
struct Expect {
    /// A receiver gets no layers but those that fit. If unset: no encodings but those.
    layers: bool,
    /// How many tenths of what is seen must have the highest possible layer: if upper layers get
    /// lost on the way, lower ones are seen.
    fitting: u32,
    /// It can distinguish layers if only descriptors are readable.
    encrypted: bool,
    /// It starts with H.264's parameter sets.
    parameter_sets: bool,
    /// It loses nothing of a keyframe whose packets overtake each other on their way to it.
    overtaken: bool,
}

/// What the bridge currently does.
const TODAY: Expect =
    Expect { layers: true, fitting: 9, encrypted: true, parameter_sets: true, overtaken: true };

/// The same where networks lose packets.
const LOSSY: Expect = Expect { fitting: 5, ..TODAY };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Returns whether a mode is to be tested: all are, unless `SIM_MODE` names one.
fn chosen(mode: &str) -> bool {
    std::env::var("SIM_MODE").map_or(true, |name| name == mode)
}

/// The seeds of this run.
fn seeds() -> Range<u64> {
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("SIM_SEEDS").unwrap_or(1),
    }
}

fn length() -> Duration {
    Duration::from_secs(number("SIM_SECONDS").unwrap_or(10))
}

/// A call with one sender.
struct Call {
    world: World,
    source: SourceId,
    rng: StdRng,
    heights: Vec<u16>,
    h264: bool,
    /// The constraints of each receiver, and when they were set.
    wishes: Vec<Vec<(Duration, Option<u16>)>>,
}

impl Call {
    fn new(mode: Mode, seed: u64, shards: u16, (up, down): (Weather, Weather)) -> Self {
        // Estimates are high: here only the constraints decide.
        let bandwidth = BandwidthConfig {
            initial_bps: 50_000_000,
            max_bps: 50_000_000,
            ..BandwidthConfig::default()
        };
        let scatter = shards > 1 && !up.is_orderly();
        let config = WorldConfig { shards, seed, scatter, bandwidth, ..WorldConfig::default() };
        let mut world = World::new(config);
        world.set_weather(up, down);
        for _ in 0..=RECEIVERS {
            world.join();
        }
        // One reads one-byte header extensions only, as far as it said.
        let (id, numbering) = (world.clients[RECEIVERS].id, world.clients[RECEIVERS].numbering);
        let plain = MediaParams { extmap_allow_mixed: false, ..numbering.media() };
        world.control(Control::SetMedia(id, Arc::new(plain)));
        let source = world.publish_layers(0, mode);
        if mode.codec == Codec::Av1 {
            world.coder(source).layer_drops = LAYER_DROPS;
        }
        let wishes = vec![vec![(Duration::ZERO, None)]; RECEIVERS];
        let h264 = mode.codec == Codec::H264;
        let rng = StdRng::seed_from_u64(seed);
        Self { world, source, rng, heights: mode.heights(), h264, wishes }
    }

    /// Lets time pass while constraints change.
    fn run(&mut self, time: Duration) {
        let end = self.world.elapsed() + time;
        while self.world.elapsed() < end {
            self.world.run(Duration::from_millis(self.rng.random_range(700..2_500)));
            let receiver = self.rng.random_range(0..RECEIVERS);
            let heights = self.heights.iter().map(|height| Some(*height)).chain([None]);
            let heights: Vec<_> = heights.collect();
            let wish = heights[self.rng.random_range(0..heights.len())];
            self.world.bound(receiver + 1, self.source, wish);
            self.wishes[receiver].push((self.world.elapsed(), wish));
        }
    }

    /// Checks everything that was sent and seen.
    fn judge(&self, name: &str, expect: Expect) {
        for receiver in 1..=RECEIVERS {
            let fail = |problems: Vec<Problem>| {
                let all: Vec<String> = problems.iter().take(5).map(Problem::to_string).collect();
                assert!(all.is_empty(), "{name}, receiver {receiver}:\n{}", all.join("\n"));
            };
            let wire = self.world.wire(receiver, self.source).expect("something was sent");
            let mut problems = wire.judge(&Network {
                overtaken: !expect.overtaken,
                until: self.world.elapsed().saturating_sub(TAIL),
                ..self.world.network(self.source)
            });
            let headless = self.h264 && !expect.parameter_sets;
            problems.retain(|p| !(headless && matches!(p.rule, Rule::Torn | Rule::Descriptor)));
            fail(problems);
            let screen = self.world.clients[receiver].incoming[&self.source].screen.as_ref();
            let screen = screen.expect("a source with layers");
            fail(screen.compare(wire));
            assert!(screen.packets() > 200, "{name}: {}", screen.packets());
            if expect.layers {
                self.judge_heights(name, receiver, expect);
            }
        }
    }

    /// Checks that a receiver sees only the requested height, soon after it requested it.
    fn judge_heights(&self, name: &str, receiver: usize, expect: Expect) {
        let end = self.world.elapsed().saturating_sub(TAIL);
        let wishes = &self.wishes[receiver - 1];
        let ends = wishes.iter().skip(1).map(|(at, _)| *at).chain([end]);
        let screen = self.world.clients[receiver].incoming[&self.source].screen.as_ref();
        for ((at, wish), until) in wishes.iter().zip(ends) {
            let window = (*at + SETTLE).max(HEAD)..until.min(end);
            if window.end < window.start + SETTLE {
                continue;
            }
            let most = wish.unwrap_or(u16::MAX);
            let fits = self.heights.iter().rfind(|h| **h <= most).unwrap_or(&self.heights[0]);
            let heights = screen.map(|s| s.heights(&window)).unwrap_or_default();
            let all: u32 = heights.values().sum();
            let fitting = heights.get(fits).copied().unwrap_or_default();
            assert!(
                heights.keys().all(|height| height <= fits) && fitting * 10 >= all * expect.fitting,
                "{name}, receiver {receiver} asked for {wish:?} at {at:?} and sees {heights:?} in {window:?}"
            );
        }
    }

    /// The longest time for which a receiver saw nothing new.
    fn longest_freeze(&self) -> Duration {
        let window = HEAD..self.world.elapsed().saturating_sub(TAIL);
        let screens = self.world.clients[1..].iter();
        let screens = screens.filter_map(|c| c.incoming[&self.source].screen.as_ref());
        screens.map(|screen| screen.longest_freeze(&window)).max().unwrap_or_default()
    }
}

fn modes(expect: Expect) -> impl Iterator<Item = Mode> {
    Mode::ALL
        .into_iter()
        .filter(|mode| chosen(mode.name))
        .filter(move |mode| expect.encrypted || !mode.encrypted)
}

/// Runs every mode; returns the longest freeze.
fn play(weather: (Weather, Weather), shards: u16, expect: Expect, patience: Duration) {
    for seed in seeds() {
        for mode in modes(expect) {
            play_one(mode, seed, weather, shards, expect, patience);
        }
    }
}

fn play_one(
    mode: Mode,
    seed: u64,
    weather: (Weather, Weather),
    shards: u16,
    expect: Expect,
    patience: Duration,
) {
    let name = format!("SIM_SEED={seed}, {}, {shards} shards", mode.name);
    println!("{name}");
    let mut call = Call::new(mode, seed, shards, weather);
    call.run(length());
    // Encodings are told apart already.
    let layers = expect.layers || mode.encodings > 1;
    call.judge(&name, Expect { layers, ..expect });
    let freeze = call.longest_freeze();
    assert!(freeze <= patience, "{name}: nothing new for {freeze:?}");
}

#[test]
fn receivers_get_what_they_ask_for_on_fine_networks() {
    play((Weather::FINE, Weather::FINE), 1, TODAY, Duration::from_millis(500));
}

#[test]
fn what_is_lost_on_the_way_to_receivers_changes_nothing() {
    play((Weather::FINE, Weather::FOUL), 1, LOSSY, Duration::from_secs(1));
}

/// For networks that lose the sender's packets. A keyframe whose packets overtake one another may
/// have to be requested several times.
const UPLINK: (Expect, Duration) = (Expect { layers: false, ..LOSSY }, Duration::from_secs(2));

#[test]
fn what_is_lost_on_the_way_to_the_bridge_is_all_that_is_missing() {
    let (expect, patience) = UPLINK;
    play((Weather::FOUL, Weather::FOUL), 2, expect, patience);
}

/// Seeds that found something in a mode.
const FOUND: [(u64, &str); 18] = [
    (3, "AV1 S3T3"),
    (4, "H264 3xL1T3 DD encrypted"),
    (7, "H264 3xL1T2"),
    (9, "VP9 L2T1"),
    (11, "AV1 L3T3 encrypted"),
    (14, "AV1 S3T3"),
    (15, "VP9 S3T3"),
    (16, "H264 3xL1T3 DD encrypted"),
    (19, "AV1 S3T3"),
    (20, "H264 3xL1T2"),
    (24, "AV1 L3T3 encrypted"),
    (26, "H264 3xL1T3 DD encrypted"),
    (29, "H264 3xL1T2"),
    (34, "H264 3xL1T3 DD encrypted"),
    (55, "AV1 L3T3 encrypted"),
    (102, "VP9 S3T3"),
    (103, "H264 3xL1T3 DD encrypted"),
    (117, "H264 3xL1T3 DD encrypted"),
];

#[test]
fn networks_that_found_something_do_not_find_it_again() {
    let (expect, patience) = UPLINK;
    for (seed, name) in FOUND {
        let mode = Mode::find(name).expect("a mode of this name");
        play_one(mode, seed, (Weather::FOUL, Weather::FOUL), 2, expect, patience);
    }
    for seed in [18, 23] {
        change_codecs_once(&SIMULCAST, seed, (Weather::FOUL, Weather::FOUL), 2, LOSSY);
    }
    change_codecs_once(&SINGLE, 49, (Weather::FOUL, Weather::FOUL), 2, LOSSY);
}

/// Codecs that a sender of one encoding switches to.
const SINGLE: [&str; 7] = [
    "AV1 L3T3",
    "VP8 L1T3",
    "VP9 L3T3_KEY",
    "H264 L1T2",
    "VP8 L1T3 DD",
    "AV1 L3T3_KEY",
    "H264 L1T3 DD",
];
/// The same of three encodings.
const SIMULCAST: [&str; 6] =
    ["VP8 3xL1T3", "H264 3xL1T2", "AV1 3xL1T3", "H264 3xL1T3 DD", "VP8 3xL1T3 DD", "VP9 3xL1T3"];

fn change_codecs(names: &[&str], weather: (Weather, Weather), shards: u16, expect: Expect) {
    for seed in seeds() {
        change_codecs_once(names, seed, weather, shards, expect);
    }
}

/// The sender goes from each of these modes to the next.
fn change_codecs_once(
    names: &[&str],
    seed: u64,
    weather: (Weather, Weather),
    shards: u16,
    expect: Expect,
) {
    let modes: Vec<Mode> = names.iter().filter_map(|name| Mode::find(name)).collect();
    assert_eq!(modes.len(), names.len());
    let name = format!("SIM_SEED={seed}, {names:?}, {shards} shards");
    let mut call = Call::new(modes[0], seed, shards, weather);
    for mode in &modes {
        call.world.coder(call.source).set_mode(*mode);
        call.run(Duration::from_secs(3));
    }
    call.judge(&name, Expect { layers: false, ..expect });
    let freeze = call.longest_freeze();
    assert!(freeze <= Duration::from_secs(2), "{name}: nothing new for {freeze:?}");
}

#[test]
fn senders_may_change_to_any_codec() {
    let fine = (Weather::FINE, Weather::FINE);
    change_codecs(&SINGLE, fine, 1, TODAY);
    change_codecs(&SIMULCAST, fine, 1, TODAY);
}

#[test]
fn senders_may_change_to_any_codec_over_networks_that_lose() {
    let foul = (Weather::FOUL, Weather::FOUL);
    change_codecs(&SINGLE, foul, 2, LOSSY);
    change_codecs(&SIMULCAST, foul, 2, LOSSY);
}

/// The sender drops layers and restores them, and switches to other codecs.
#[test]
fn senders_may_change_their_minds() {
    let fine = (Weather::FINE, Weather::FINE);
    for seed in seeds() {
        let name = format!("SIM_SEED={seed}");
        let mut call = Call::new(Mode::AV1_L3T3, seed, 1, fine);
        for mode in
            [Mode::AV1_L3T3, Mode::VP9_L3T3, Mode::AV1_L3T3_KEY, Mode::VP9_L3T3_KEY_FLEXIBLE]
        {
            call.world.coder(call.source).set_mode(mode);
            for (spatial, temporal) in [(3, 3), (2, 3), (2, 2), (3, 3), (1, 1), (3, 3)] {
                call.world.coder(call.source).set_layers(spatial, temporal);
                call.run(Duration::from_secs(2));
            }
        }
        // The sender decides the height.
        call.judge(&name, Expect { layers: false, ..TODAY });
    }
}
