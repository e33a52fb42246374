//! A call in a simulated world: three senders and five receivers, one shard and four, a network
//! that loses, delays, reorders and duplicates. What arrives is compared with what was sent.
//!
//! `SIM_SEEDS=1000 cargo test --release --test simulation` tries more seeds; `SIM_SEED=17` repeats
//! one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use rialto_engine::{
    BandwidthConfig,
    sim::{Body, LOWEST_HEIGHT, Weather, World, WorldConfig},
};
use rialto_media::{Drop, MediaType, SourceId};
use rialto_srtp::Profile;

const SENDERS: usize = 3;
const RECEIVERS: usize = 5;
/// Media of the last moments may still be in flight, or be requested again.
const TAIL: Duration = Duration::from_millis(1_500);
/// Time until everybody has a first keyframe.
const HEAD: Duration = Duration::from_millis(1_500);

/// The seeds of this run.
fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("SIM_SEEDS").unwrap_or(6),
    }
}

/// Three clients with microphone and camera, one of them with simulcast, and five that only
/// receive.
fn call(config: WorldConfig) -> World {
    let mut world = World::new(config);
    for _ in 0..SENDERS + RECEIVERS {
        world.join();
    }
    for sender in 0..SENDERS {
        world.publish(sender, MediaType::Audio, 1);
        world.publish(sender, MediaType::Video, if sender == 0 { 3 } else { 1 });
    }
    world
}

/// What a client sent of a source in a window: the encoding that receivers get.
fn made(world: &World, source: SourceId, window: &Range<Duration>) -> BTreeSet<Body> {
    let tracks = world.clients.iter().flat_map(|c| &c.tracks);
    let track = tracks.into_iter().find(|t| t.spec.id == source);
    let highest = track.map_or(0, |t| t.spec.encodings.len() - 1) as u8;
    let made = track.into_iter().flat_map(|t| &t.made);
    made.filter(|(body, at)| body.encoding == highest && window.contains(*at))
        .map(|(body, _)| *body)
        .collect()
}

/// Everything that can arrive has arrived, complete and once, at every receiver in a window of
/// time.
fn judge(world: &World, window: &Range<Duration>) {
    for (at, client) in world.clients.iter().enumerate() {
        for incoming in client.incoming.values() {
            incoming.check();
            let mut expected = made(world, incoming.spec.id, window);
            let got: BTreeSet<Body> = incoming.got.values().map(|(body, _)| *body).collect();
            let got: BTreeSet<Body> = got.intersection(&expected).copied().collect();
            if incoming.spec.media == MediaType::Audio {
                // Nobody requests audio again: exactly what the network lost is missing.
                let lost =
                    |b: &Body| world.lost_up.contains(b) || world.lost_down.contains(&(at, *b));
                expected.retain(|body| !lost(body));
                let missing: Vec<_> = expected.difference(&got).take(5).collect();
                assert!(missing.is_empty(), "{at} misses of {}: {missing:?}", incoming.spec.name);
            }
            let missing: Vec<_> = expected.difference(&got).take(5).collect();
            assert!(missing.is_empty(), "{at} misses of {}: {missing:?}", incoming.spec.name);
            assert!(!expected.is_empty(), "nothing was sent of {}", incoming.spec.name);
        }
    }
}

/// The complete frames that a receiver got.
fn frames(world: &World, receiver: usize) -> BTreeSet<(u32, u32)> {
    let incoming = world.clients[receiver].incoming.values();
    incoming.flat_map(|i| i.got.values().map(|(body, _)| (body.source, body.frame))).collect()
}

fn foul(shards: u16, seed: u64) -> WorldConfig {
    let profile =
        if seed.is_multiple_of(2) { Profile::AeadAes128Gcm } else { Profile::Aes128CmSha1_80 };
    WorldConfig {
        shards,
        seed,
        weather: Weather::FOUL,
        scatter: shards > 1,
        profile,
        bandwidth: wide(),
        ..WorldConfig::default()
    }
}

/// Estimates are high from the start: this test checks that everything gets through; bandwidth is
/// tested in `links.rs`.
fn wide() -> BandwidthConfig {
    BandwidthConfig { initial_bps: 50_000_000, max_bps: 50_000_000, ..BandwidthConfig::default() }
}

#[test]
fn everybody_gets_everything_in_foul_weather_on_one_shard_and_on_four() {
    for seed in seeds() {
        for shards in [1, 4] {
            println!("SIM_SEED={seed}, {shards} shards");
            let mut world = call(foul(shards, seed));
            world.run(Duration::from_secs(6));
            judge(&world, &(HEAD..world.elapsed().saturating_sub(TAIL)));
            let lost = world.lost_up.len() + world.lost_down.len();
            assert!(lost > 100, "the network was kind: {lost}");
        }
    }
}

#[test]
fn four_shards_deliver_what_one_delivers() {
    let run = |shards| {
        let mut world = call(WorldConfig { shards, scatter: shards > 1, ..WorldConfig::default() });
        world.run(Duration::from_secs(4));
        judge(&world, &(HEAD..world.elapsed().saturating_sub(TAIL)));
        if shards > 1 {
            assert!(world.cores.iter().any(|core| core.totals.handed_over > 0));
        }
        let window = |frames: BTreeSet<(u32, u32)>| -> BTreeSet<_> {
            frames.into_iter().filter(|(_, frame)| (30..100).contains(frame)).collect()
        };
        (0..SENDERS + RECEIVERS).map(|r| window(frames(&world, r))).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(4));
}

/// The frames of a source that a receiver got in a window, with the encoding of each.
fn encodings(
    world: &World,
    receiver: usize,
    source: SourceId,
    window: &Range<Duration>,
) -> BTreeMap<u32, BTreeSet<u8>> {
    let track = world.clients.iter().flat_map(|c| &c.tracks).find(|t| t.spec.id == source);
    let made = &track.unwrap().made;
    let mut frames: BTreeMap<u32, BTreeSet<u8>> = BTreeMap::new();
    for (body, _) in world.clients[receiver].incoming[&source].got.values() {
        if window.contains(&made[body]) {
            frames.entry(body.frame).or_default().insert(body.encoding);
        }
    }
    frames
}

/// Of a simulcast camera, everybody gets the encoding that fits what they asked for, on one shard and on
/// several, and another one without a hole when they ask for another height.
/// Frames in which a sender may not have sent again what was lost.
const BEFORE_SWITCH: u32 = 3;

#[test]
fn heights_are_obeyed() {
    let lowest = LOWEST_HEIGHT;
    for shards in [1, 4] {
        let mut world = World::new(foul(shards, 13));
        for _ in 0..6 {
            world.join();
        }
        let video = world.publish(0, MediaType::Video, 3);
        let bounds = [Some(lowest), Some(2 * lowest), Some(4 * lowest - 1), None, Some(1)];
        for (receiver, bound) in (1..).zip(bounds) {
            world.bound(receiver, video, bound);
        }
        world.run(Duration::from_secs(4));
        let settled = HEAD..world.elapsed().saturating_sub(TAIL);
        for (receiver, encoding) in (1..).zip([0, 1, 1, 2, 0]) {
            let got = encodings(&world, receiver, video, &settled);
            assert!(got.len() > 25, "{receiver}: {}", got.len());
            assert!(got.values().all(|all| *all == BTreeSet::from([encoding])), "{receiver}");
        }

        let before = world.clients[0].tracks[0].keyframes_asked;
        world.bound(1, video, Some(4 * lowest));
        world.bound(4, video, Some(2 * lowest));
        let from = world.elapsed();
        world.run(Duration::from_secs(4));
        assert!(world.clients[0].tracks[0].keyframes_asked > before, "switches need keyframes");
        let changed = from + HEAD..world.elapsed().saturating_sub(TAIL);
        for (receiver, encoding) in (1..).zip([2, 1, 1, 1, 0]) {
            let got = encodings(&world, receiver, video, &changed);
            assert!(got.values().all(|all| *all == BTreeSet::from([encoding])), "{receiver}");
            let all = encodings(&world, receiver, video, &(HEAD..changed.end));
            let (first, last) = (all.first_key_value().unwrap().0, all.last_key_value().unwrap().0);
            // The sender may retransmit what was lost right before a switch after it.
            let switches: Vec<_> = all.iter().zip(all.iter().skip(1)).collect();
            let switches = switches.iter().filter(|((_, a), (_, b))| a != b);
            let before: BTreeSet<_> =
                switches.flat_map(|(_, (frame, _))| **frame - BEFORE_SWITCH..**frame).collect();
            let missing = |frame: &u32| !all.contains_key(frame) && !before.contains(frame);
            let holes: Vec<_> = (*first..=*last).filter(missing).collect();
            assert!(holes.is_empty(), "{receiver}: {holes:?} of {first}..={last}");
            world.clients[receiver].incoming[&video].check();
        }
    }
}

/// The encoding is chosen among the active ones.
#[test]
fn an_encoding_that_falls_silent_is_replaced_by_what_fits() {
    let mut world = World::new(WorldConfig { shards: 2, ..WorldConfig::default() });
    for _ in 0..3 {
        world.join();
    }
    let video = world.publish(0, MediaType::Video, 3);
    world.bound(1, video, Some(2 * LOWEST_HEIGHT));
    world.run(Duration::from_secs(3));
    let shown = |world: &World, receiver: usize| {
        let half_a_second = Duration::from_millis(500);
        let window = world.elapsed().saturating_sub(half_a_second)..world.elapsed();
        let got = encodings(world, receiver, video, &window);
        assert!(!got.is_empty());
        got.into_values().flatten().collect::<BTreeSet<u8>>()
    };
    let silence = |world: &mut World, encoding: usize, silent| {
        world.clients[0].tracks[0].silence(encoding, silent);
        world.run(Duration::from_secs(3));
    };
    assert_eq!((shown(&world, 1), shown(&world, 2)), ([1].into(), [2].into()));
    silence(&mut world, 1, true);
    assert_eq!((shown(&world, 1), shown(&world, 2)), ([0].into(), [2].into()));
    silence(&mut world, 0, true);
    assert_eq!(shown(&world, 1), [2].into(), "too high rather than none");
    silence(&mut world, 0, false);
    assert_eq!(shown(&world, 1), [0].into());
    silence(&mut world, 1, false);
    assert_eq!((shown(&world, 1), shown(&world, 2)), ([1].into(), [2].into()));
}

#[test]
fn a_seed_makes_one_run() {
    let run = || {
        let mut world = call(foul(4, 3));
        world.run(Duration::from_secs(2));
        let got = |r: usize| {
            let incoming = world.clients[r].incoming.values();
            incoming.flat_map(|i| i.got.clone()).collect::<Vec<_>>()
        };
        (0..SENDERS + RECEIVERS).map(got).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn who_leaves_is_not_missed_and_may_return() {
    for shards in [1, 4] {
        let mut world = call(foul(shards, 11));
        world.run(Duration::from_secs(2));
        world.leave(1);
        world.run(Duration::from_millis(200));
        let left: Vec<SourceId> = world.clients[1].tracks.iter().map(|t| t.spec.id).collect();
        let told =
            |world: &World, r: usize| left.iter().any(|s| world.clients[r].incoming[s].ended);
        // It is one datagram, and the network may lose one of the five.
        let heard = (3..8).filter(|r| told(&world, *r)).count();
        assert!(heard >= 4, "a BYE for what has ended: {heard} of 5");
        world.clients[1].incoming.clear();
        for client in &mut world.clients {
            client.incoming.retain(|source, _| !left.contains(source));
        }
        let from = world.elapsed() + HEAD;
        let back = world.join();
        let specs: Vec<_> = world.clients[..3]
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != 1)
            .flat_map(|(_, c)| c.tracks.iter().map(|t| t.spec.clone()))
            .collect();
        for spec in &specs {
            world.subscribe(back, spec);
        }
        world.publish(back, MediaType::Audio, 1);
        world.publish(back, MediaType::Video, 1);
        world.clients[1].tracks.clear();
        world.run(Duration::from_secs(5));
        judge(&world, &(from..world.elapsed().saturating_sub(TAIL)));
    }
}

#[test]
fn a_source_that_stops_and_starts_again_continues() {
    let mut world = call(foul(1, 5));
    world.run(Duration::from_secs(2));
    let spec = world.clients[1].tracks[1].spec.clone();
    world.unpublish(1, spec.id);
    world.run(Duration::from_secs(1));
    let from = world.elapsed() + HEAD;
    world.publish_again(1, &spec);
    world.run(Duration::from_secs(4));
    let window = from..world.elapsed().saturating_sub(TAIL);
    let expected: BTreeSet<_> = made(&world, spec.id, &window);
    for receiver in 3..8 {
        let got: BTreeSet<_> = world.clients[receiver].incoming[&spec.id]
            .got
            .values()
            .map(|(body, _)| *body)
            .collect();
        assert!(expected.is_subset(&got), "{receiver}");
    }
}

#[test]
fn an_address_may_change_in_the_middle() {
    for shards in [1, 4] {
        let mut world = call(foul(shards, 7));
        world.run(Duration::from_secs(2));
        // To ports whose datagrams other shards' sockets receive.
        for client in [0, 4] {
            world.bind(client, format!("10.2.0.{client}:{}", 6_001 + client).parse().unwrap());
        }
        let from = world.elapsed() + HEAD;
        world.run(Duration::from_secs(5));
        judge(&world, &(from..world.elapsed().saturating_sub(TAIL)));
    }
}

#[test]
fn who_floods_and_forges_changes_nothing() {
    let mut world = call(foul(1, 9));
    world.run(Duration::from_secs(1));
    let (stranger, friend) = ("10.9.9.9:9".parse().unwrap(), world.clients[0].addr);
    for n in 0..2_000u32 {
        let mut bytes: Vec<u8> = (0..200).map(|i| (n.wrapping_mul(i + 7) >> 3) as u8).collect();
        bytes[0] = 0x80;
        world.deliver(0, stranger, &mut bytes.clone());
        world.deliver(0, friend, &mut bytes);
        if n.is_multiple_of(100) {
            world.run(Duration::from_millis(10));
        }
    }
    let drops = world.cores[0].drops;
    assert_eq!(drops.get(Drop::UnboundAddress), 2_000);
    assert!(drops.get(Drop::UnknownSsrc) + drops.get(Drop::MalformedRtp) > 500);
    let from = world.elapsed() + HEAD;
    world.run(Duration::from_secs(4));
    judge(&world, &(from..world.elapsed().saturating_sub(TAIL)));
}
