//! Keyframes with a new template structure, of which packets overtake the one that has it, or which lose that one.

use std::time::Duration;

use rialto_media::{Drop, SourceId};

use crate::sim::{
    Plain, Weather, World, WorldConfig,
    codec::{Mode, Network, Problem},
};

const SECOND: Duration = Duration::from_secs(1);

/// A call of one who sends all layers, and goes over to other ones with what it sends next. From then on nothing
/// comes but what a test delivers.
fn about_to_change() -> (World, SourceId) {
    let mut world = World::new(WorldConfig::default());
    world.join();
    world.join();
    let source = world.publish_layers(0, Mode::AV1_L3T3);
    world.run(SECOND);
    world.clients[0].fall_silent();
    world.set_weather(Weather { loss: 1.0, ..Weather::FINE }, Weather::FINE);
    world.run(SECOND / 10);
    world.coder(source).set_mode(Mode::AV1_L2T1);
    (world, source)
}

/// The packets of the next picture.
fn picture(world: &mut World) -> Vec<Plain> {
    world.run(Duration::from_millis(33));
    let since = world.elapsed();
    world.clients[0].tracks[0].make_frame(since, &mut 0)
}

fn deliver(world: &mut World, packets: &[Plain]) {
    for plain in packets {
        let (from, mut bytes) = (world.clients[0].addr, world.clients[0].seal(plain));
        world.deliver(0, from, &mut bytes);
    }
    world.run(Duration::from_millis(1));
}

fn sent(world: &World) -> u64 {
    world.cores[0].totals.rtp_sent
}

#[test]
fn what_overtakes_a_structure_waits_for_it() {
    let (mut world, source) = about_to_change();
    let before = sent(&world);
    let (key, delta) = (picture(&mut world), picture(&mut world));
    deliver(&mut world, &key[1..]);
    deliver(&mut world, &delta);
    assert_eq!(sent(&world), before, "nothing is known of their layers");
    deliver(&mut world, &key[..1]);
    assert_eq!(sent(&world) - before, (key.len() + delta.len()) as u64);
    let next = picture(&mut world);
    deliver(&mut world, &next);
    let problems = world.wire(1, source).unwrap().judge(&Network::FINE);
    assert!(problems.is_empty(), "{:?}", problems.iter().map(Problem::to_string).next());
    assert_eq!(world.cores[0].drops.get(Drop::StructureMissing), 0);
}

#[test]
fn a_structure_that_does_not_come_is_given_up_and_a_keyframe_asked_for() {
    let (mut world, source) = about_to_change();
    let (before, asked) = (sent(&world), world.clients[0].heard.keyframe_requests);
    let mut kept = 0;
    let ended = |world: &World| world.cores[0].drops.get(Drop::StructureMissing);
    while ended(&world) == 0 {
        assert_eq!(sent(&world), before);
        let packets = picture(&mut world);
        let lost = usize::from(kept == 0);
        deliver(&mut world, &packets[lost..]);
        kept += packets.len() - lost;
    }
    assert!(ended(&world) < kept as u64, "the last waits for another: {} of {kept}", ended(&world));
    world.run(SECOND / 10);
    assert_eq!(world.clients[0].heard.keyframe_requests, asked + 1);
    world.run(SECOND / 10);
    let key = picture(&mut world);
    deliver(&mut world, &key);
    assert!(sent(&world) >= before + key.len() as u64, "it goes on with that");
    let network = Network { lossy: true, ..Network::FINE };
    let problems = world.wire(1, source).unwrap().judge(&network);
    assert!(problems.is_empty(), "{:?}", problems.iter().map(Problem::to_string).next());
}

#[test]
fn what_waits_for_a_structure_is_bounded() {
    let (mut world, _) = about_to_change();
    let before = sent(&world);
    world.run(SECOND);
    let since = world.elapsed();
    let mut packets: Vec<_> =
        (0..200).flat_map(|_| world.clients[0].tracks[0].make_frame(since, &mut 0)).collect();
    packets.remove(0);
    packets.truncate(300);
    deliver(&mut world, &packets);
    assert_eq!(world.cores[0].drops.get(Drop::StructureMissing), 256, "twice as many as have room");
    assert_eq!(sent(&world), before);
}
