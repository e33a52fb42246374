//! Reordering and loss on the way to the bridge: packets that carry a new template structure, and
//! packets that never arrive however often they are requested.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use rialto_media::{Drop, Extension, SourceId};
use rialto_rtp::RtpHeader;

use crate::sim::{
    Plain, Weather, World, WorldConfig,
    codec::{Mode, Network, Problem, Truth},
};

const SECOND: Duration = Duration::from_secs(1);

/// A call with one sender. From now on only what a test delivers arrives.
fn a_call(mode: Mode) -> (World, SourceId) {
    let mut world = World::new(WorldConfig::default());
    world.join();
    world.join();
    let source = world.publish_layers(0, mode);
    world.run(SECOND);
    world.clients[0].fall_silent();
    world.set_weather(Weather { loss: 1.0, ..Weather::FINE }, Weather::FINE);
    world.run(SECOND / 10);
    (world, source)
}

/// The same, with a sender whose next frame changes its layers.
fn about_to_change() -> (World, SourceId) {
    let (mut world, source) = a_call(Mode::AV1_L3T3);
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

/// The keyframe's retransmission takes longer than a packet may wait, so what followed it was
/// dropped meanwhile.
#[test]
fn nothing_follows_a_structure_that_came_after_it_was_given_up() {
    let (mut world, _) = about_to_change();
    let pictures: Vec<_> = (0..25).map(|_| picture(&mut world)).collect();
    let before = sent(&world);
    deliver(&mut world, &pictures[0][1..]);
    let mut retained_requests = None;
    for (n, packets) in pictures.iter().enumerate().skip(1) {
        if retained_requests.is_none() {
            world.run(Duration::from_millis(33));
            deliver(&mut world, packets);
            let ended = world.cores[0].drops.get(Drop::StructureMissing) > 0;
            retained_requests = ended.then_some(n);
        }
    }
    let retained_requests = retained_requests.expect("it does not wait for ever");
    assert_eq!(sent(&world), before);
    let asked = world.clients[0].heard.keyframe_requests;
    deliver(&mut world, &pictures[0][..1]);
    let late = sent(&world) - before;
    for packets in &pictures[retained_requests + 1..] {
        deliver(&mut world, packets);
    }
    assert!(late <= 1 && sent(&world) - before == late, "{late}, {}", sent(&world) - before);
    world.run(SECOND / 2);
    assert!(world.clients[0].heard.keyframe_requests > asked, "only another keyframe helps");
}

/// Two keyframes in a row lose their first packets. Delivers these in one order or the other.
/// Returns how many packets left after the first and after both, and how many packets each of the
/// four pictures has.
fn lose_two_structures(second_first: bool) -> (u64, u64, Vec<u64>) {
    let (mut world, source) = about_to_change();
    let mut pictures = vec![picture(&mut world), picture(&mut world)];
    world.coder(source).set_mode(Mode::AV1_L3T3);
    pictures.extend([picture(&mut world), picture(&mut world)]);
    let before = sent(&world);
    for (n, packets) in pictures.iter().enumerate() {
        deliver(&mut world, &packets[usize::from(n % 2 == 0)..]);
    }
    let order = if second_first { [2, 0] } else { [0, 2] };
    let [one, both] = order.map(|n| {
        deliver(&mut world, &pictures[n][..1]);
        sent(&world) - before
    });
    let next = picture(&mut world);
    deliver(&mut world, &next);
    let network = Network { lossy: second_first, orderly: false, ..Network::FINE };
    let problems = world.wire(1, source).unwrap().judge(&network);
    assert!(problems.is_empty(), "{:?}", problems.iter().map(Problem::to_string).next());
    (one, both, pictures.iter().map(|packets| packets.len() as u64).collect())
}

#[test]
fn what_refers_to_the_second_of_two_structures_waits_for_it() {
    let (one, both, of) = lose_two_structures(false);
    assert_eq!((one, both), (of[0] + of[1], of.iter().sum()));
    let (one, _, of) = lose_two_structures(true);
    assert_eq!(one, of[2] + of[3], "nobody needs what is older");
}

#[test]
fn what_waits_is_read_again_with_a_few_structures_only() {
    let (mut world, source) = about_to_change();
    let mut pictures: Vec<_> = (0..6)
        .map(|_| {
            let first = picture(&mut world).remove(0);
            world.coder(source).set_mode(Mode::AV1_L2T1);
            first
        })
        .collect();
    let (_, mut waits) = (picture(&mut world), picture(&mut world));
    waits.truncate(2);
    deliver(&mut world, &waits);
    let ended = |world: &World| world.cores[0].drops.get(Drop::StructureMissing);
    let counts: Vec<_> = pictures
        .drain(..)
        .map(|first| {
            deliver(&mut world, &[first]);
            ended(&world)
        })
        .collect();
    assert_eq!(counts, [0, 0, 0, waits.len() as u64, waits.len() as u64, waits.len() as u64]);
}

/// Corrupts a sender's dependency descriptors, or the order of its packets.
fn lie(rng: &mut StdRng, packets: &mut Vec<Plain>, held: &mut Vec<Plain>, id: u8) {
    match rng.random_range(0..12) {
        0 => held.extend(packets.drain(..rng.random_range(0..=packets.len()))),
        1 => packets.append(held),
        2 => packets.shuffle(rng),
        3 => packets.truncate(rng.random_range(0..=packets.len())),
        4 | 5 => {
            for plain in packets.iter_mut() {
                let header = RtpHeader::parse(&plain.bytes).unwrap();
                let found = header.extensions(&plain.bytes).find(|e| e.id == id);
                let Some((start, len)) = found.map(|e| (e.start, e.data.len())) else { continue };
                let at = start + rng.random_range(0..len);
                plain.bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
        _ => {}
    }
}

#[test]
fn what_descriptors_lied_about_is_over_when_they_are_honest() {
    let modes = [Mode::AV1_L3T3, Mode::AV1_L2T1, Mode::AV1_L1T3];
    // One of these seeds gives a keyframe the structure that it had and a number that is 1,024
    // ahead.
    for seed in 340..360 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut world, mut held) = (World::new(WorldConfig::default()), Vec::new());
        world.join();
        world.join();
        let source = world.publish_layers(0, modes[seed as usize % modes.len()]);
        world.run(SECOND);
        world.clients[0].fall_silent();
        let id = world.clients[0].numbering.extension(Extension::DependencyDescriptor);
        for _ in 0..rng.random_range(10..120) {
            if rng.random_bool(0.03) {
                let mode = modes[rng.random_range(0..modes.len())];
                world.coder(source).set_mode(mode);
            }
            let mut packets = picture(&mut world);
            lie(&mut rng, &mut packets, &mut held, id);
            deliver(&mut world, &packets);
        }
        let mut whole = 0;
        for _ in 0..130 {
            let packets = picture(&mut world);
            let before = sent(&world);
            deliver(&mut world, &packets);
            whole = if sent(&world) >= before + packets.len() as u64 { whole + 1 } else { 0 };
        }
        assert!(whole >= 10, "seed {seed}: {whole}");
    }
}

/// A delivered picture.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    key: bool,
    temporal: u8,
    /// Whether any of its packets left.
    forwarded: bool,
}

/// Loses one whole picture of a temporal layer. Returns what happens to the pictures after it, and
/// how many keyframes are requested.
fn lose_a_picture(mode: Mode, of_temporal: u8) -> (Vec<Delivered>, u32) {
    let (mut world, _) = a_call(mode);
    let asked = world.clients[0].heard.keyframe_requests;
    let (mut all, mut lost) = (Vec::new(), false);
    // After a longer time the other client's link would be taken for broken, since nothing comes
    // from it either.
    for _ in 0..30 {
        let packets = picture(&mut world);
        let Some(first) = packets.first() else { continue };
        let header = RtpHeader::parse(&first.bytes).unwrap();
        let truth = Truth::read(&first.bytes[header.payload_range(&first.bytes).unwrap()]).unwrap();
        let (key, temporal) = (truth.body.key, truth.temporal);
        if !lost && !key && temporal == of_temporal {
            lost = true;
            continue;
        }
        let before = sent(&world);
        deliver(&mut world, &packets);
        all.push(Delivered { key, temporal, forwarded: sent(&world) > before });
    }
    (all, world.clients[0].heard.keyframe_requests - asked)
}

#[test]
fn nothing_that_refers_to_a_lost_picture_is_forwarded_once_it_is_given_up() {
    let single = Mode::find("H264 L1T1").unwrap();
    for mode in [Mode::VP9_L1T3, Mode::VP9_L3T3, Mode::AV1_L1T3, Mode::VP9_L1T3_FLEXIBLE, single] {
        let (all, asked) = lose_a_picture(mode, 0);
        assert_eq!(asked, 1, "{}", mode.name);
        let ended = all.iter().position(|p| !p.forwarded).expect("it is given up");
        let next = ended + all[ended..].iter().position(|p| p.key).expect("a keyframe comes");
        assert!(all[..ended].len() > 3, "{}: it may come when it is asked for", mode.name);
        assert!(all[ended..next].iter().all(|p| !p.forwarded), "{}: {all:?}", mode.name);
        assert!(all[next..].iter().take(8).all(|p| p.forwarded), "{}: {all:?}", mode.name);
    }
}

#[test]
fn a_lost_picture_of_an_upper_temporal_layer_takes_nothing_from_the_base() {
    for mode in [Mode::VP9_L1T3, Mode::VP9_L3T3_KEY, Mode::AV1_L1T3, Mode::AV1_L3T3] {
        let (all, asked) = lose_a_picture(mode, 2);
        assert_eq!(asked, 0, "{}", mode.name);
        assert!(all.iter().all(|p| p.forwarded || p.temporal > 0), "{}: {all:?}", mode.name);
        let left_out = all.iter().filter(|p| !p.forwarded).count();
        assert!(left_out < 4, "{}: up to the next of the base: {all:?}", mode.name);
    }
}
