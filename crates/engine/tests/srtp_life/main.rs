//! SRTP for the life of its keys: whatever signalling and network do, a receiver that knows nothing
//! but RFC 3711 (`webrtc-srtp`) decrypts each packet that reaches it, no number is used with other
//! bytes under one key, and everything that should be heard is heard.
//!
//! `SRTP_LIVES=500 cargo test --release -p rialto-engine --test srtp_life` tries more seeds;
//! `SRTP_LIFE=17` repeats one.

mod world;

use std::{ops::Range, sync::Arc, time::Duration};

use rand::Rng as _;
use rialto_engine::Control;
use rialto_media::EncodingSpec;

use world::{LOUD, PEERS, SILENT, VP8, VP9, World};

const STEPS: usize = 400;
/// Packets in a row of one run: more than there are sequence numbers.
const LONG: u32 = 70_000;

/// One event in a call.
fn step(world: &mut World) {
    let (at, source) = (world.pick(0..PEERS), world.pick(0..2));
    let other = (at + world.pick(1..PEERS)) % PEERS;
    match world.pick(0..20) {
        0..4 => {
            let packets = world.rng.random_range(1..200);
            world.stream(at, source, packets, LOUD, 60);
        }
        4 => world.stream(at, source, 60, LOUD, 8_000),
        5 => world.stream(at, source, 40, SILENT, 3),
        6 => {
            let time = Duration::from_secs(world.rng.random_range(0..1_200));
            world.pass(time);
        }
        7 | 8 => {
            let s = &mut world.peers[at].sources[source];
            s.signalled = !s.signalled;
            world.signal(at);
        }
        9 => {
            world.rename(at, source);
            world.signal(at);
        }
        10 => {
            // Layers leave and return.
            let spec = &mut world.peers[at].sources[1].spec;
            let all = if spec.encodings.len() == 3 { 1 } else { 3 };
            let base = spec.encodings[0].ssrc;
            let encoding = |n| EncodingSpec { ssrc: base + n, rtx: Some(base + 0x80 + n) };
            spec.encodings = (0..all).map(encoding).collect();
            world.signal(at);
        }
        11 | 12 => {
            world.mute(at);
            if world.peers[at].muted {
                world.stream(at, source, 300, LOUD, 8_000);
            }
        }
        13 => world.refuse(at, other, source),
        14 => world.go_or_return(at),
        15 => world.new_keys(at),
        16 => {
            let (id, keying) = (world.peers[at].id, world.peers[at].keying.clone());
            world.control(Control::SetKeys(id, keying));
        }
        17 => {
            let has_both = world.peers[at].has(VP9);
            let s = &mut world.peers[at].sources[1];
            s.pt = if s.pt == VP8 && has_both { VP9 } else { VP8 };
            world.stream(at, 1, 150, LOUD, 60);
        }
        18 => {
            world.nack(at, other);
            let p = &mut world.peers[at];
            p.variant = !p.variant;
            let (id, media) = (p.id, Arc::new(p.media()));
            world.control(Control::SetMedia(id, media));
            world.nack(at, other);
        }
        _ => {
            world.nack(at, other);
            world.pass(Duration::from_millis(200));
            world.nack(at, other);
        }
    }
}

/// The seeds of this run.
fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("SRTP_LIFE") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("SRTP_LIVES").unwrap_or(6),
    }
}

#[test]
fn what_arrives_can_be_decrypted_whatever_happens() {
    let (mut time, mut sealed, mut lives) = (Duration::ZERO, 0, 0);
    for seed in seeds() {
        println!("SRTP_LIFE={seed}");
        let mut world = World::new(seed);
        world.judge();
        for n in 0..STEPS {
            step(&mut world);
            if n % 5 == 0 {
                world.judge();
            }
            if n % 60 == 59 {
                let at = world.pick(0..PEERS);
                world.replace(at);
            }
        }
        time += world.now - world.start;
        sealed += world.sealed.len();
        lives += 1;
    }
    println!("{lives} lives, {time:?}, {sealed} packets");
    assert!(time > Duration::from_secs(3_600) * lives && sealed > 1_000 * lives as usize);
}

#[test]
fn numbers_wrap_and_are_continued_by_whoever_returns() {
    let mut world = World::new(100);
    let audio = world.peers[0].sources[0].spec.id;
    for at in [2, 3] {
        world.peers[at].refuses.insert(audio);
    }
    world.signal(0);
    for round in 0..2 {
        world.stream(0, 0, LONG, LOUD, 3);
        world.judge();
        // Removed and added, under the same name and under another.
        for renamed in [false, true] {
            world.peers[0].sources[0].signalled = false;
            world.signal(0);
            world.peers[0].sources[0].signalled = true;
            if renamed {
                world.rename(0, 0);
            }
            world.signal(0);
            world.judge();
        }
        // Muted, silent, not wanted, and without receivers: each for longer than a gap may be.
        world.mute(0);
        world.stream(0, 0, 200, LOUD, 8_000);
        world.mute(0);
        world.judge();
        world.stream(0, 0, 100, SILENT, 0);
        world.judge();
        let changes: [fn(&mut World); 2] =
            [|world| world.refuse(1, 0, 0), |world| world.go_or_return(1)];
        for change in changes {
            change(&mut world);
            world.stream(0, 0, 2_000, LOUD, 3);
            change(&mut world);
            world.judge();
        }
        if round == 0 {
            // The sender's keys are new, and its indices start anew.
            world.new_keys(0);
            world.judge();
        }
    }
    let ssrc = world.peers[0].sources[0].spec.encodings[0].ssrc;
    assert!(world.peers[1].highest[&ssrc] > 2 << 16, "it wrapped twice");
    // And the receiver's.
    world.new_keys(1);
    world.judge();
}
