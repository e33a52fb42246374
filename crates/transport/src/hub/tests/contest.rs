//! Two endpoints with the same address.

use super::*;
use crate::stun::Writer;

/// How a client leaves before it comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaves {
    Silently,
    WithGoodbye,
    Expired,
}

fn new_client(world: &World, seed: u8) -> Side {
    Side::new(hub(&["10.0.0.7:5000"], TransportConfig::default(), seed, world.now))
}

fn connected(seed: u64) -> World {
    let mut world = natted(seed);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    world.run(Duration::from_secs(3));
    world
}

/// A reload behind a port that stays the same: the focus may not know yet that the first endpoint
/// is gone.
#[test]
fn a_client_that_comes_back_as_another_endpoint_is_served_at_once() {
    for leaves in [Leaves::Silently, Leaves::WithGoodbye, Leaves::Expired] {
        for (seed, setup) in [(40, Setup::Active), (41, Setup::Passive)] {
            let mut world = connected(seed);
            if leaves == Leaves::WithGoodbye {
                world.remove(CLIENT, ALICE);
                world.run(Duration::from_millis(30));
            }
            world.sides[CLIENT] = new_client(&world, 99);
            if leaves == Leaves::Expired {
                world.remove(BRIDGE, ALICE);
            }
            let start = world.now;
            world.connect(BOB, setup);
            assert!(world.until_ready(BOB, 5), "{leaves:?}");
            let took = world.now - start;
            assert!(took < Duration::from_secs(1), "{leaves:?}, {setup:?}: {took:?}");
            assert_same_keys(&world, BOB);
            let bridge = &world.sides[BRIDGE];
            assert_eq!(bridge.bound, BTreeMap::from([(addr(NAT_1), BOB)]));
            let expected = u64::from(leaves != Leaves::Expired);
            assert_eq!(bridge.hub.counters().addresses_taken_over, expected);
            let gone = TransportUpdate::Disconnected { endpoint: ALICE };
            assert_eq!(bridge.saw(&gone), leaves != Leaves::Expired, "{leaves:?}");
            // The end of the first endpoint does not cost the second one its address.
            world.run(Duration::from_secs(10));
            world.remove(BRIDGE, ALICE);
            assert_eq!(world.sides[BRIDGE].bound, BTreeMap::from([(addr(NAT_1), BOB)]));
            world.run(Duration::from_secs(30));
            let gone = TransportUpdate::Disconnected { endpoint: BOB };
            assert!(!world.sides[BRIDGE].saw(&gone));
        }
    }
}

/// Two clients behind one socket: the first one stays, and the other is served once it is gone.
#[test]
fn an_owner_that_lives_keeps_its_address() {
    for seed in 50..54 {
        let mut world = connected(seed);
        world.delay = 10..60;
        let second = new_client(&world, 99);
        world.ghost = Some(std::mem::replace(&mut world.sides[CLIENT], second));
        let sent = world.sides[BRIDGE].sent;
        world.connect(BOB, Setup::Active);
        world.run(Duration::from_secs(6));
        let bridge = &world.sides[BRIDGE];
        assert_eq!(bridge.bound, BTreeMap::from([(addr(NAT_1), ALICE)]));
        assert!(!bridge.saw(&TransportUpdate::Disconnected { endpoint: ALICE }));
        assert!(!bridge.keys.contains_key(&BOB));
        let counters = bridge.hub.counters();
        assert_eq!(counters.addresses_taken_over, 0);
        assert!(counters.addresses_contested > 0);
        let sent = bridge.sent - sent;
        assert!(sent < 60, "{sent} datagrams in 6 s");
        world.ghost = None;
        assert!(world.until_ready(BOB, 20), "{:?}", world.sides[BRIDGE].hub.counters());
        assert_eq!(world.sides[BRIDGE].bound, BTreeMap::from([(addr(NAT_1), BOB)]));
    }
}

/// A sender with a forged source address takes no address, even from an owner that does not answer.
#[test]
fn requests_alone_take_no_address() {
    let mut world = connected(60);
    world.filter = |to, _, _, _| to == BRIDGE;
    let now = world.now;
    let bob = world.sides[BRIDGE].hub.create(now, BOB, options(true));
    let remote = RemoteTransport {
        ufrag: Some("bobs".to_owned()),
        pwd: Some("bobsbobsbobsbobsbobsbobs".to_owned()),
        ..RemoteTransport::default()
    };
    world.signal_to(BRIDGE, BOB, remote);
    let sent = world.sides[BRIDGE].sent;
    for _ in 0..100 {
        let forged = request(&bob.ufrag, "bobs", &bob.pwd);
        world.deliver(BRIDGE, addr(NAT_1), addr(SERVER), &forged);
        world.run(Duration::from_millis(100));
        assert_eq!(world.sides[BRIDGE].bound.get(&addr(NAT_1)), Some(&ALICE));
    }
    assert_eq!(world.sides[BRIDGE].hub.counters().addresses_taken_over, 0);
    // Each request gets its answer; there are few other datagrams.
    let sent = world.sides[BRIDGE].sent - sent;
    assert!(sent < 100 + 100, "{sent} datagrams for 100 requests");
}

/// Requests and answers of an endpoint reach its hub, and an address can move between hubs.
#[test]
fn an_address_moves_between_hubs() {
    let mut world = connected(61);
    let now = world.now;
    // Bob's hub beside Alice's: notices for hers go through here.
    let common = Arc::clone(&world.sides[BRIDGE].hub.shared.common);
    let mut other = Hub::part(common, 0, TransportConfig::default(), vec![addr(SERVER)], [77; 32]);
    let bob = other.create(now, BOB, options(true));
    let [pwd, ufrag] = ["bobsbobsbobsbobsbobsbobs", "bobs"].map(|text| Some(text.to_owned()));
    other.set_remote(now, BOB, RemoteTransport { ufrag, pwd, ..RemoteTransport::default() });
    let stun = |received, bytes: Vec<u8>| {
        TransportEvent::Stun(TransportDatagram {
            shard: ShardId(0),
            local: addr(SERVER),
            remote: addr(NAT_1),
            endpoint: Some(ALICE),
            received,
            bytes: bytes.into(),
        })
    };
    other.on_event(now, &stun(now, request(&bob.ufrag, "bobs", &bob.pwd)));
    // Alice's client is gone: whatever is sent to it is lost.
    world.filter = |_, _, _, _| true;
    let mut bound = false;
    for _ in 0..100 {
        world.run(Duration::from_millis(10));
        let now = world.now;
        other.handle_timeout(now);
        let mut answers = Vec::new();
        while let Some(output) = other.poll_output() {
            match output {
                Output::Notice(notice) => {
                    assert_eq!(notice.to(), ALICE);
                    world.sides[BRIDGE].hub.on_notice(now, notice);
                }
                Output::Command(TransportCommand::Transmit { remote, bytes, .. }) => {
                    let Ok(check) = Message::parse(&bytes) else { panic!("not STUN") };
                    if check.class == Class::Request {
                        let answer = Writer::new(Class::Success, check.transaction);
                        let answer = answer.mapped(addr(SERVER));
                        answers.push(answer.finish(b"bobsbobsbobsbobsbobsbobs"));
                    }
                    assert_eq!(remote, addr(NAT_1));
                }
                Output::Command(TransportCommand::Bind { endpoint, .. }) => {
                    // Hers was unbound first: in the other order media would go astray.
                    assert!(world.sides[BRIDGE].bound.is_empty());
                    bound = endpoint == BOB;
                }
                _ => {}
            }
        }
        for answer in answers {
            other.on_event(now, &stun(now, answer.to_vec()));
        }
        // Notices from her hub to his.
        for notice in std::mem::take(&mut world.sides[BRIDGE].notices) {
            other.on_notice(now, notice);
        }
    }
    assert!(bound);
    assert_eq!(world.sides[BRIDGE].hub.counters().addresses_taken_over, 1);
}
