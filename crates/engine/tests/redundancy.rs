//! Redundant audio (RFC 2198): receivers that can read it get it, others get the plain audio in it,
//! and receivers that lose packets get it even if no sender sends it.

use std::time::Duration;

use rialto_engine::{
    AudioConfig, RedPolicy, Redundancy,
    sim::{Bottleneck, Weather, World, WorldConfig},
};
use rialto_media::{Drop, MediaType, SourceId};

const SECOND: Duration = Duration::from_secs(1);

/// One client speaks, two receive it, of which only the second reads redundant audio. All have
/// different payload types.
fn a_call(policy: RedPolicy, weather: Weather) -> (World, SourceId) {
    let redundancy = Redundancy { policy, ..Redundancy::default() };
    let audio = AudioConfig { redundancy, ..AudioConfig::default() };
    let mut world = World::new(WorldConfig { audio, weather, ..WorldConfig::default() });
    (0..3).for_each(|_| assert!(world.join() < 3));
    world.negotiate_red(0);
    world.negotiate_red(2);
    let source = world.publish(0, MediaType::Audio, 1);
    (world, source)
}

/// What each receiver got: packets, redundant ones among them, blocks of other packets in those.
fn heard(world: &World, source: SourceId) -> [(usize, u32, u32); 2] {
    [1, 2].map(|client| {
        let incoming = &world.clients[client].incoming[&source];
        incoming.check();
        (incoming.got.len(), incoming.redundant.0, incoming.redundant.1)
    })
}

#[test]
fn each_gets_what_it_can_read() {
    let (mut world, source) = a_call(RedPolicy::AsSent, Weather::FINE);
    world.clients[0].tracks[0].redundancy = Some(2);
    world.run(4 * SECOND);
    let [plain, redundant] = heard(&world, source);
    assert!(plain.0 > 190, "{plain:?}");
    assert_eq!((plain.1, redundant.1), (0, redundant.0 as u32));
    assert!(redundant.2 > 380, "{redundant:?}");
    // The sender switches to plain audio and back: nobody notices.
    for redundancy in [None, Some(1)] {
        world.clients[0].tracks[0].redundancy = redundancy;
        world.run(2 * SECOND);
    }
    let [plain, redundant] = heard(&world, source);
    assert!(plain.0 > 390 && redundant.0 == plain.0, "{plain:?} {redundant:?}");
    let numbers = &world.clients[1].incoming[&source].got;
    let (first, last) = (numbers.keys().next().unwrap(), numbers.keys().last().unwrap());
    assert_eq!(last - first + 1, numbers.len() as u64, "no gap");
    assert_eq!(world.cores[0].drops.get(Drop::CodecNotNegotiated), 0);
}

#[test]
fn nobody_gets_it_where_the_policy_says_so() {
    let (mut world, source) = a_call(RedPolicy::Strip, Weather::FINE);
    world.clients[0].tracks[0].redundancy = Some(2);
    world.run(2 * SECOND);
    let [plain, other] = heard(&world, source);
    assert!(plain.0 > 90 && plain == other && plain.1 == 0, "{plain:?} {other:?}");
}

#[test]
fn who_loses_packets_is_protected_and_nobody_else() {
    let (mut world, source) = a_call(RedPolicy::Protect, Weather::FINE);
    world.run(2 * SECOND);
    let [_, before] = heard(&world, source);
    assert_eq!(before.1, 0, "it loses nothing");
    world.clients[2].claims_loss = 12;
    world.run(2 * SECOND);
    let [plain, now] = heard(&world, source);
    assert!(now.1 > 70 && now.2 > 140, "{now:?}");
    assert_eq!(plain.1, 0);
    world.clients[2].claims_loss = 0;
    world.run(11 * SECOND);
    let protected = heard(&world, source)[1].1;
    world.run(SECOND);
    assert_eq!(heard(&world, source)[1].1, protected, "it has lost nothing for a while");
}

#[test]
fn losses_of_the_path_are_enough_before_any_report_tells_of_audio() {
    let (mut world, source) = a_call(RedPolicy::Protect, Weather::FINE);
    world.publish(0, MediaType::Video, 1);
    world.run(3 * SECOND);
    assert_eq!(heard(&world, source)[1].1, 0, "nothing is lost");
    world.set_weather(Weather::FINE, Weather { loss: 0.1, ..Weather::FINE });
    world.run(SECOND);
    let [plain, protected] = heard(&world, source);
    assert!(protected.1 > 20, "within half a second: {protected:?}");
    assert_eq!(plain.1, 0);
}

#[test]
fn a_link_of_which_audio_takes_a_large_part_is_not_filled_with_copies() {
    // Plain audio is some 40 kbit/s with its headers.
    for (bps, protects) in [(300_000, false), (1_500_000, true)] {
        let (mut world, source) = a_call(RedPolicy::Protect, Weather::FINE);
        world.publish(0, MediaType::Video, 3);
        world.bottlenecks.insert(2, Bottleneck::new(bps, SECOND / 3));
        world.set_weather(Weather::FINE, Weather { loss: 0.05, ..Weather::FINE });
        world.clients[2].claims_loss = 13;
        world.run(10 * SECOND);
        let before = heard(&world, source)[1].1;
        world.run(5 * SECOND);
        assert_eq!(heard(&world, source)[1].1 > before + 100, protects, "{bps}");
    }
}

#[test]
fn losses_and_reordering_leave_redundancy_sound() {
    let weather = Weather { loss: 0.05, jitter: Duration::from_millis(30), ..Weather::FINE };
    for policy in [RedPolicy::AsSent, RedPolicy::Protect] {
        let (mut world, source) = a_call(policy, weather);
        world.clients[2].claims_loss = 13;
        for redundancy in [Some(2), None, Some(1)] {
            world.clients[0].tracks[0].redundancy = redundancy;
            world.run(10 * SECOND);
        }
        let [plain, redundant] = heard(&world, source);
        assert!(plain.0 > 1_200 && redundant.0 > 1_200, "{plain:?} {redundant:?}");
        assert!(redundant.1 > 600, "{redundant:?}");
    }
}

#[test]
fn what_cannot_be_read_is_dropped_for_who_needs_it_read_and_counted() {
    let (mut world, source) = a_call(RedPolicy::AsSent, Weather::FINE);
    world.run(SECOND);
    world.clients[0].tracks[0].redundancy = Some(1);
    world.clients[0].fall_silent();
    world.run(SECOND / 10);
    let before = heard(&world, source);
    let before_drops = world.cores[0].drops.get(Drop::MalformedRed);
    for _ in 0..5 {
        let (since, client) = (world.elapsed(), &mut world.clients[0]);
        let mut plain = client.tracks[0].make_frame(since, &mut 7_000).remove(0);
        // Only the first header is left.
        plain.bytes.truncate(plain.header_len + 3);
        let (from, mut bytes) = (client.addr, client.seal(&plain));
        world.clients[2].tape = Some(Vec::new());
        world.deliver(0, from, &mut bytes);
        world.run(SECOND / 50);
    }
    assert_eq!(world.cores[0].drops.get(Drop::MalformedRed) - before_drops, 5);
    assert_eq!(heard(&world, source)[0], before[0]);
    assert!(!world.clients[2].tape.take().unwrap().is_empty(), "who reads it may judge itself");
}
