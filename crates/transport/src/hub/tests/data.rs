//! A data channel over DTLS, over ICE.

use super::*;
use crate::sctp::SendError;

fn texts(world: &World, side: usize) -> Vec<String> {
    let text = |update: &TransportUpdate| match update {
        TransportUpdate::ChannelText { text, .. } => Some(text.to_string()),
        _ => None,
    };
    world.sides[side].updates.iter().filter_map(text).collect()
}

fn opened(seed: u64, setup: Setup, change: impl FnOnce(&mut World)) -> World {
    let mut world = natted(seed);
    change(&mut world);
    world.create(ALICE, true, false);
    world.sides[BRIDGE].hub.offer_sctp(ALICE);
    world.signal(ALICE, setup);
    assert!(world.until_ready(ALICE, 30));
    assert!(world.connect_sctp(ALICE));
    let opened = TransportUpdate::ChannelOpened { endpoint: ALICE };
    assert!(world.until(60, |w| w.sides[BRIDGE].saw(&opened)));
    world
}

#[test]
fn texts_of_every_size_go_both_ways() {
    for (seed, setup) in [(1, Setup::Active), (2, Setup::Passive)] {
        let mut world = opened(seed, setup, |world| (world.loss, world.delay) = (0.05, 10..60));
        let sent: Vec<_> = [0, 1, 1100, 1200, 20_000, 65_536].map(|n| "x".repeat(n)).into();
        for side in [BRIDGE, CLIENT] {
            for text in &sent {
                assert_eq!(world.send_text(side, ALICE, text), Ok(()));
            }
        }
        let done =
            |w: &World| [BRIDGE, CLIENT].iter().all(|side| texts(w, *side).len() == sent.len());
        assert!(world.until(120, done), "{:?}", world.sides[BRIDGE].hub.debug(world.now, ALICE));
        assert_eq!((texts(&world, BRIDGE), texts(&world, CLIENT)), (sent.clone(), sent));
    }
}

#[test]
fn without_an_offer_there_is_no_channel() {
    let mut world = natted(3);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    assert!(!world.connect_sctp(ALICE));
    assert!(world.sides[BRIDGE].hub.counters().application_data_dropped > 0);
    assert_eq!(world.send_text(BRIDGE, ALICE, "x"), Err(SendError::NotOpen));
    assert_eq!(world.send_text(BRIDGE, BOB, "x"), Err(SendError::NotOpen));
}

#[test]
fn a_channel_ends_with_its_dtls() {
    let mut world = opened(4, Setup::Active, |_| {});
    world.remove(CLIENT, ALICE);
    let closed = TransportUpdate::ChannelClosed { endpoint: ALICE };
    assert!(world.until(10, |w| w.sides[BRIDGE].saw(&closed)));
    assert_eq!(world.send_text(BRIDGE, ALICE, "x"), Err(SendError::NotOpen));
}

#[test]
fn what_nobody_reads_is_bounded() {
    let mut world = opened(5, Setup::Active, |_| {});
    let text = "x".repeat(65_536);
    for _ in 0..300 {
        assert_eq!(world.send_text(CLIENT, ALICE, &text), Ok(()));
        world.run(Duration::from_millis(900));
    }
    let counters = world.sides[BRIDGE].hub.counters();
    assert_eq!(counters.channel_texts_received + counters.channel_texts_dropped, 300);
    assert!(counters.channel_texts_dropped > 40, "{counters:?}");
    world.sides[BRIDGE].updates.clear();
    assert_eq!(world.send_text(CLIENT, ALICE, "read"), Ok(()));
    assert!(world.until(10, |w| texts(w, BRIDGE) == ["read"]));
}
