mod contest;
mod cost;
mod data;
mod wire;
mod world;

use rand::Rng;
use rialto_srtp::Profile;

use self::world::{BRIDGE, CLIENT, Side, World, addr, hub, options};
use super::*;
use crate::{Fingerprint, RemoteCandidate, Setup, types::FailReason};

const ALICE: EndpointId = EndpointId(7);
const BOB: EndpointId = EndpointId(8);
const SERVER: &str = "192.0.2.1:10000";
const NAT_1: &str = "198.51.100.1:40001";
const NAT_2: &str = "198.51.100.2:40002";

fn natted(seed: u64) -> World {
    let mut world = World::new(seed);
    world.nat.insert(addr("10.0.0.7:5000"), addr(NAT_1));
    world
}

fn assert_same_keys(world: &World, id: EndpointId) {
    let [bridge, client] = world.sides.each_ref().map(|side| side.keys.get(&id).unwrap());
    assert_eq!(bridge.profile, client.profile);
    assert_eq!(bridge.send, client.receive);
    assert_eq!(bridge.receive, client.send);
    assert_ne!(bridge.send, bridge.receive);
}

#[test]
fn connects_from_behind_a_nat_on_credentials_alone() {
    let mut world = natted(1);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5), "{:?}", world.sides[BRIDGE].hub.debug(world.now, ALICE));
    assert_same_keys(&world, ALICE);
    let bridge = &world.sides[BRIDGE];
    assert_eq!(bridge.selected[&ALICE], (addr(SERVER), addr(NAT_1)));
    let expected = [
        TransportUpdate::Connected { endpoint: ALICE },
        TransportUpdate::Ready { endpoint: ALICE },
    ];
    assert_eq!(bridge.updates, expected);
    assert!(bridge.rtt.is_some_and(|rtt| rtt == Duration::from_millis(40)), "{:?}", bridge.rtt);
    assert_eq!(bridge.hub.counters().dtls_succeeded, 1);
    assert_eq!(bridge.hub.counters().ice_succeeded, 1);
}

#[test]
fn either_dtls_role() {
    for (answer, ours) in [(Setup::Active, Setup::Passive), (Setup::Passive, Setup::Active)] {
        let mut world = natted(2);
        world.create(ALICE, true, false);
        let before = world.sides[BRIDGE].hub.describe(ALICE).unwrap();
        assert_eq!(before.fingerprint.setup, Some(Setup::Actpass));
        world.signal(ALICE, answer);
        let after = world.sides[BRIDGE].hub.describe(ALICE).unwrap();
        assert_eq!(after.fingerprint.setup, Some(ours));
        assert!(world.until_ready(ALICE, 5), "{answer:?}");
        assert_same_keys(&world, ALICE);
    }
}

#[test]
fn connects_fast() {
    // Check and answer, triggered check and answer, then a handshake of at most two round trips.
    let mut world = natted(3);
    let start = world.now;
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    assert!(world.now - start < Duration::from_millis(400), "{:?}", world.now - start);
}

#[test]
fn controlled_when_asked() {
    let mut world = natted(4);
    world.create(ALICE, false, true);
    world.signal(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    assert_eq!(world.sides[BRIDGE].selected[&ALICE].1, addr(NAT_1));
}

#[test]
fn role_conflicts_are_resolved() {
    for both in [true, false] {
        for seed in 0..8 {
            let mut world = natted(seed);
            world.create(ALICE, both, both);
            world.signal(ALICE, Setup::Active);
            assert!(world.until_ready(ALICE, 10), "both controlling: {both}, seed {seed}");
            world.run(Duration::from_secs(12));
            let controlling = |side: usize| {
                let debug = world.sides[side].hub.debug(world.now, ALICE).unwrap();
                debug["controlling"].as_bool().unwrap()
            };
            assert_ne!(controlling(BRIDGE), controlling(CLIENT));
            let conflicts = |side: usize| world.sides[side].hub.counters().role_conflicts;
            assert!(conflicts(BRIDGE) + conflicts(CLIENT) > 0);
        }
    }
}

#[test]
fn survives_loss_reordering_and_duplication() {
    for seed in 0..20 {
        let mut world = natted(seed);
        world.loss = 0.3;
        world.duplication = 0.1;
        world.delay = 5..120;
        world.connect(ALICE, if seed % 2 == 0 { Setup::Active } else { Setup::Passive });
        assert!(world.until_ready(ALICE, 60), "seed {seed}: {:?}", world.sides[BRIDGE].updates);
        assert_same_keys(&world, ALICE);
    }
}

#[test]
fn a_wrong_fingerprint_gives_no_keys() {
    let mut world = natted(5);
    world.create(ALICE, true, false);
    let offer = world.offer(BRIDGE, ALICE, Setup::Passive);
    let mut answer = world.offer(CLIENT, ALICE, Setup::Active);
    answer.fingerprints[0].bytes[0] ^= 1;
    world.signal_to(CLIENT, ALICE, offer);
    world.signal_to(BRIDGE, ALICE, answer);
    let reason = FailReason::FingerprintMismatch;
    let failed = TransportUpdate::Failed { endpoint: ALICE, reason };
    assert!(world.until(10, |w| w.sides[BRIDGE].saw(&failed)));
    world.run(Duration::from_secs(40));
    let bridge = &world.sides[BRIDGE];
    assert!(bridge.keys.is_empty());
    assert!(bridge.bound.is_empty());
    assert_eq!(bridge.hub.counters().dtls_fingerprint_mismatch, 1);
    assert_eq!(bridge.updates.iter().filter(|u| **u == failed).count(), 1);
}

#[test]
fn keys_wait_for_the_fingerprint() {
    let mut world = natted(6);
    world.create(ALICE, true, false);
    let offer = world.offer(BRIDGE, ALICE, Setup::Passive);
    let mut answer = world.offer(CLIENT, ALICE, Setup::Active);
    let fingerprints = std::mem::take(&mut answer.fingerprints);
    world.signal_to(CLIENT, ALICE, offer);
    world.signal_to(BRIDGE, ALICE, answer);
    world.run(Duration::from_secs(5));
    assert!(world.sides[CLIENT].keys.contains_key(&ALICE), "the client is through");
    assert!(world.sides[BRIDGE].keys.is_empty(), "no media key before the match");
    world.signal_to(BRIDGE, ALICE, RemoteTransport { fingerprints, ..RemoteTransport::default() });
    assert_same_keys(&world, ALICE);
    assert!(world.sides[BRIDGE].saw(&TransportUpdate::Ready { endpoint: ALICE }));
}

#[test]
fn the_handshake_has_thirty_seconds() {
    let mut world = natted(7);
    // No DTLS reaches the client.
    world.filter = |to, _, _, bytes| to == CLIENT && bytes.first().is_some_and(|b| *b >= 20);
    world.connect(ALICE, Setup::Active);
    let connected = TransportUpdate::Connected { endpoint: ALICE };
    assert!(world.until(5, |w| w.sides[BRIDGE].saw(&connected)));
    let start = world.now;
    let reason = FailReason::DtlsTimeout;
    let failed = TransportUpdate::Failed { endpoint: ALICE, reason };
    assert!(world.until(60, |w| w.sides[BRIDGE].saw(&failed)));
    let took = world.now - start;
    assert!((29..=31).contains(&took.as_secs()), "{took:?}");
    assert_eq!(world.sides[BRIDGE].hub.counters().dtls_failed, 1);
}

#[test]
fn a_client_that_never_speaks_dtls_fails_too() {
    let mut world = natted(8);
    world.filter = |to, _, _, bytes| to == BRIDGE && bytes.first().is_some_and(|b| *b >= 20);
    world.connect(ALICE, Setup::Active);
    let reason = FailReason::DtlsTimeout;
    let failed = TransportUpdate::Failed { endpoint: ALICE, reason };
    assert!(world.until(40, |w| w.sides[BRIDGE].saw(&failed)));
}

#[test]
fn spoofed_alerts_end_no_handshake() {
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, 40];
    for setup in [Setup::Active, Setup::Passive] {
        let mut world = natted(25);
        world.connect(ALICE, setup);
        for _ in 0..200 {
            world.deliver(BRIDGE, addr(NAT_1), addr(SERVER), &alert);
            world.run(Duration::from_millis(5));
        }
        assert!(world.until_ready(ALICE, 5), "{setup:?}");
        assert_same_keys(&world, ALICE);
        let counters = world.sides[BRIDGE].hub.counters();
        assert!(counters.dtls_alerts_ignored > 10);
        assert_eq!((counters.dtls_failed, counters.dtls_restarted), (0, 0));
    }
}

#[test]
fn an_unreachable_peer_fails() {
    let mut world = natted(9);
    world.filter = |_, _, _, _| true;
    world.connect(ALICE, Setup::Active);
    let reason = FailReason::IceTimeout;
    let failed = TransportUpdate::Failed { endpoint: ALICE, reason };
    assert!(world.until(70, |w| w.sides[BRIDGE].saw(&failed)));
    assert_eq!(world.sides[BRIDGE].hub.counters().ice_failed, 1);
}

#[test]
fn checks_that_never_come_are_told_of_once() {
    let mut world = natted(9);
    world.filter = |_, _, _, _| true;
    world.connect(ALICE, Setup::Active);
    world.run(Duration::from_secs(61));
    let now = world.now;
    let hub = &mut world.sides[BRIDGE].hub;
    assert_eq!(hub.poll_unreachable(now).map(|u| u.endpoints), Some(1));
    assert_eq!(hub.poll_unreachable(now), None);
    assert!(!hub.advertised().is_empty());

    let mut world = natted(9);
    world.connect(ALICE, Setup::Active);
    world.run(Duration::from_secs(61));
    let now = world.now;
    assert_eq!(world.sides[BRIDGE].hub.poll_unreachable(now), None, "they came");
}

#[test]
fn consent_is_kept_and_lost_and_found() {
    let mut world = natted(10);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    let mut quiet = Duration::ZERO;
    for _ in 0..120 {
        world.run(Duration::from_secs(1));
        let heard = world.sides[BRIDGE].hub.last_heard(ALICE).unwrap();
        quiet = quiet.max(world.now - heard);
    }
    assert!(quiet < Duration::from_millis(6_500), "{quiet:?} is shorter than JVB's 8 s");
    let lost = TransportUpdate::Disconnected { endpoint: ALICE };
    assert!(!world.sides[BRIDGE].saw(&lost));
    world.filter = |_, _, _, _| true;
    let start = world.now;
    assert!(world.until(40, |w| w.sides[BRIDGE].saw(&lost)));
    let took = (world.now - start).as_secs_f64();
    assert!((8.0..=22.0).contains(&took), "{took}");
    assert!(
        world.sides[BRIDGE]
            .hub
            .last_heard(ALICE)
            .is_some_and(|at| at <= start + Duration::from_millis(100))
    );
    assert!(world.sides[BRIDGE].bound.is_empty());
    assert_eq!(world.sides[BRIDGE].hub.counters().consent_lost, 1);
    world.run(Duration::from_secs(10));
    world.filter = |_, _, _, _| false;
    assert!(world.until(15, |w| {
        w.sides[BRIDGE].updates.last() == Some(&TransportUpdate::Connected { endpoint: ALICE })
    }));
    assert_eq!(world.sides[BRIDGE].bound.len(), 1);
}

#[test]
fn requests_without_answers_are_no_consent() {
    let mut world = natted(11);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    // The client's answers are lost, its requests are not (RFC 7675 section 5.1).
    world.filter = |to, _, _, bytes| to == BRIDGE && bytes.starts_with(&[1, 1]);
    let lost = TransportUpdate::Disconnected { endpoint: ALICE };
    assert!(world.until(40, |w| w.sides[BRIDGE].saw(&lost)));
}

#[test]
fn follows_a_changed_address() {
    for client_controls in [false, true] {
        let mut world = natted(12);
        world.create(ALICE, !client_controls, client_controls);
        world.signal(ALICE, Setup::Active);
        assert!(world.until_ready(ALICE, 5));
        world.run(Duration::from_secs(20));
        for nat in [NAT_2, NAT_1, NAT_2] {
            world.nat.insert(addr("10.0.0.7:5000"), addr(nat));
            let start = world.now;
            let moved = world.until(20, |w| w.sides[BRIDGE].selected[&ALICE].1 == addr(nat));
            assert!(moved, "to {nat}, client controls: {client_controls}");
            let took = world.now - start;
            assert!(took < Duration::from_secs(12), "{took:?}");
            world.run(Duration::from_secs(10));
        }
        let bridge = &world.sides[BRIDGE];
        assert!(!bridge.saw(&TransportUpdate::Disconnected { endpoint: ALICE }));
        assert_eq!(bridge.hub.counters().address_changes, 3);
    }
}

#[test]
fn stays_where_it_is_while_two_networks_work() {
    for seed in 0..4 {
        let now = Instant::now();
        let bridge = hub(&[SERVER], TransportConfig::default(), 1, now);
        let client = hub(&["10.0.0.7:5000", "10.1.0.7:5000"], TransportConfig::default(), 2, now);
        let mut world = World::with_hubs(seed, now, bridge, client);
        world.loss = 0.05;
        world.connect(ALICE, Setup::Active);
        assert!(world.until_ready(ALICE, 20));
        world.run(Duration::from_secs(10));
        let before = world.sides[BRIDGE].hub.counters().address_changes;
        world.run(Duration::from_secs(300));
        let bridge = &world.sides[BRIDGE];
        assert_eq!(bridge.bound.len(), 2);
        let changes = bridge.hub.counters().address_changes - before;
        assert!(changes <= 1, "{changes} changes, seed {seed}");
    }
}

#[test]
fn endless_address_changes_stay_bounded() {
    let mut world = natted(13);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    for port in 1..400u16 {
        let nat = SocketAddr::new([203, 0, 113, (port % 250) as u8].into(), 20_000 + port);
        world.nat.insert(addr("10.0.0.7:5000"), nat);
        world.run(Duration::from_millis(2700));
        assert!(world.sides[BRIDGE].bound.len() <= 8);
    }
    world.run(Duration::from_secs(40));
    let last = world.nat[&addr("10.0.0.7:5000")];
    assert_eq!(world.sides[BRIDGE].selected[&ALICE].1, last);
    assert_eq!(world.sides[BRIDGE].bound.len(), 1);
    assert_eq!(world.sides[BRIDGE].hub.shared.common.owners.len(), 1);
}

#[test]
fn a_flood_of_requests_is_limited() {
    let mut world = natted(14);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    let request = captured_request(&world);
    let sent = world.sides[BRIDGE].sent;
    for _ in 0..1000 {
        world.deliver(BRIDGE, addr(NAT_1), addr(SERVER), &request);
    }
    assert!(world.sides[BRIDGE].sent - sent <= 110);
    assert!(world.sides[BRIDGE].hub.counters().stun_rate_limited >= 890);
}

/// A genuine request of the client to the bridge.
fn captured_request(world: &World) -> Vec<u8> {
    let ours = world.sides[BRIDGE].hub.describe(ALICE).unwrap();
    let theirs = world.sides[CLIENT].hub.describe(ALICE).unwrap();
    request(&ours.ufrag, &theirs.ufrag, &ours.pwd)
}

fn request(ours: &str, theirs: &str, pwd: &str) -> Vec<u8> {
    use is::{DefaultSha1HmacProvider, Sha1HmacProvider, stun};
    let username = format!("{ours}:{theirs}");
    let transaction = stun::TransId::new();
    let message =
        stun::StunMessage::binding_request(&username, transaction, false, 1, 1_853_824_767, false);
    let mut buffer = vec![0; 256];
    let hmac = |key: &[u8], parts: &[&[u8]]| DefaultSha1HmacProvider.sha1_hmac(key, parts);
    let length = message.to_bytes(Some(pwd.as_bytes()), &mut buffer, hmac).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn forged_requests_bind_nothing_and_get_no_answer() {
    let mut world = natted(15);
    world.connect(ALICE, Setup::Active);
    let ours = world.sides[BRIDGE].hub.describe(ALICE).unwrap();
    let theirs = world.sides[CLIENT].hub.describe(ALICE).unwrap();
    let forger = addr("203.0.113.66:666");
    let mut other = ours.ufrag.clone();
    other.replace_range(other.len() - 1.., if other.ends_with('a') { "b" } else { "a" });
    let sent = world.sides[BRIDGE].sent;
    let attempts = [
        request(&ours.ufrag, &theirs.ufrag, "wrongwrongwrongwrongwrong"),
        request(&ours.ufrag, "nobody", &ours.pwd),
        request(&other, &theirs.ufrag, &ours.pwd),
        request("unknown", &theirs.ufrag, &ours.pwd),
    ];
    for bytes in &attempts {
        world.deliver(BRIDGE, forger, addr(SERVER), bytes);
    }
    assert_eq!(world.sides[BRIDGE].sent, sent);
    assert!(world.sides[BRIDGE].bound.is_empty());
    let counters = world.sides[BRIDGE].hub.counters();
    assert_eq!((counters.stun_unauthenticated, counters.stun_unknown), (2, 2));
    // A genuine one does bind; on an address that is not ours it does not.
    let genuine = request(&ours.ufrag, &theirs.ufrag, &ours.pwd);
    world.deliver(BRIDGE, forger, addr("192.0.2.99:10000"), &genuine);
    assert!(world.sides[BRIDGE].bound.is_empty());
    world.deliver(BRIDGE, forger, addr(SERVER), &genuine);
    assert_eq!(world.sides[BRIDGE].bound.get(&forger), Some(&ALICE));
}

#[test]
fn answers_are_never_larger_than_requests() {
    let mut world = natted(16);
    world.connect(ALICE, Setup::Active);
    let request = captured_request(&world);
    world.filter = |to, _, _, bytes| {
        if to == CLIENT && bytes.first() == Some(&1) {
            assert!(bytes.len() <= 100, "{}", bytes.len());
        }
        true
    };
    assert!(request.len() >= 100);
    world.deliver(BRIDGE, addr(NAT_1), addr(SERVER), &request);
}

#[test]
fn a_forged_source_does_not_take_an_address_away() {
    let mut world = natted(17);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    // Bob is a genuine participant, but sends with Alice's address as the source.
    let now = world.now;
    let bob = world.sides[BRIDGE].hub.create(now, BOB, options(true));
    let remote = RemoteTransport {
        ufrag: Some("bobs".to_owned()),
        pwd: Some("bobsbobsbobsbobsbobsbobs".to_owned()),
        ..RemoteTransport::default()
    };
    world.signal_to(BRIDGE, BOB, remote);
    let forged = request(&bob.ufrag, "bobs", &bob.pwd);
    world.deliver(BRIDGE, addr(NAT_1), addr(SERVER), &forged);
    assert_eq!(world.sides[BRIDGE].bound[&addr(NAT_1)], ALICE);
    world.run(Duration::from_secs(30));
    assert_eq!(world.sides[BRIDGE].bound[&addr(NAT_1)], ALICE);
    assert_eq!(world.sides[BRIDGE].updates.len(), 2);
}

#[test]
fn restarts_with_the_old_pair_in_use() {
    let mut world = natted(19);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    world.run(Duration::from_secs(5));
    let now = world.now;
    let before = world.sides[BRIDGE].hub.describe(ALICE).unwrap();
    assert_eq!(before.ice_generation, None);
    let Restart::Started(offer) = world.sides[BRIDGE].hub.restart_ice(now, ALICE) else {
        panic!("refused")
    };
    assert_eq!(offer.ice_generation, Some(1));
    assert_ne!(offer.ufrag, before.ufrag);
    assert_ne!(offer.pwd, before.pwd);
    assert_eq!(offer.fingerprint.bytes, before.fingerprint.bytes);
    // The client takes its time; the old pair stays in use, with consent.
    world.run(Duration::from_secs(12));
    assert_eq!(world.sides[BRIDGE].selected[&ALICE].1, addr(NAT_1));
    assert_eq!(world.sides[BRIDGE].bound.len(), 1);
    // It answers from another network.
    let Restart::Started(_) = world.sides[CLIENT].hub.restart_ice(now, ALICE) else {
        panic!("refused")
    };
    world.nat.insert(addr("10.0.0.7:5000"), addr(NAT_2));
    let offer = world.offer(BRIDGE, ALICE, Setup::Passive);
    let answer = world.offer(CLIENT, ALICE, Setup::Active);
    world.signal_to(CLIENT, ALICE, offer);
    world.signal_to(BRIDGE, ALICE, answer);
    assert!(world.until(3, |w| w.sides[BRIDGE].selected[&ALICE].1 == addr(NAT_2)));
    world.run(Duration::from_secs(60));
    let bridge = &world.sides[BRIDGE];
    assert!(!bridge.saw(&TransportUpdate::Disconnected { endpoint: ALICE }));
    assert_eq!(bridge.bound.keys().collect::<Vec<_>>(), [&addr(NAT_2)]);
    let counters = bridge.hub.counters();
    assert_eq!((counters.restarts_started, counters.restarts_succeeded), (1, 1));
    assert_eq!(bridge.hub.describe(ALICE).unwrap().ice_generation, Some(1));
}

#[test]
fn restarts_that_cannot_be() {
    let mut world = natted(20);
    let now = world.now;
    assert_eq!(world.sides[BRIDGE].hub.restart_ice(now, ALICE), Restart::Refused);
    world.create(ALICE, true, false);
    let unchanged = world.sides[BRIDGE].hub.describe(ALICE).unwrap();
    let restart = world.sides[BRIDGE].hub.restart_ice(now, ALICE);
    assert_eq!(restart, Restart::NotEstablished(unchanged));
    world.signal(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    // A restart without an answer is given up; the old pair is as good as before.
    let now = world.now;
    for generation in 1..=2 {
        match world.sides[BRIDGE].hub.restart_ice(now, ALICE) {
            Restart::Started(local) => assert_eq!(local.ice_generation, Some(generation)),
            other => panic!("{other:?}"),
        }
    }
    world.run(Duration::from_secs(40));
    let counters = world.sides[BRIDGE].hub.counters();
    assert_eq!((counters.restarts_superseded, counters.restarts_failed), (1, 1));
    assert_eq!(counters.restarts_not_established, 1);
    assert_eq!(counters.restarts_rejected, 1);
    assert_eq!(world.sides[BRIDGE].bound.len(), 1);
    assert_eq!(world.sides[BRIDGE].updates.len(), 2);
}

#[test]
fn removal_says_goodbye() {
    let mut world = natted(21);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    world.sides[BRIDGE].hub.remove(ALICE);
    world.run(Duration::from_secs(1));
    assert!(world.sides[CLIENT].saw(&TransportUpdate::Closed { endpoint: ALICE }));
    assert!(world.sides[BRIDGE].bound.is_empty());
    assert!(world.sides[BRIDGE].hub.is_empty());
    assert!(world.sides[BRIDGE].hub.shared.common.owners.len() == 0);
    world.run(Duration::from_secs(60));
    assert!(world.sides[BRIDGE].hub.shared.pending.is_empty());
}

#[test]
fn unusable_candidates_are_ignored_and_counted() {
    let mut world = natted(22);
    world.create(ALICE, true, false);
    let candidate = |ip: &str, port, protocol: &str, component| RemoteCandidate {
        foundation: "1".to_owned(),
        component,
        protocol: protocol.to_owned(),
        priority: 1,
        ip: ip.to_owned(),
        port,
        kind: CandidateKind::Host,
    };
    let candidates = vec![
        candidate("10.0.0.7", 5000, "tcp", 1),
        candidate("10.0.0.7", 5000, "udp", 2),
        candidate("10.0.0.7", 0, "udp", 1),
        candidate("127.0.0.1", 5000, "udp", 1),
        candidate("0.0.0.0", 5000, "udp", 1),
        candidate("2001:db8::1", 5000, "udp", 1),
        candidate("abcd.local", 5000, "udp", 1),
        candidate("example.org", 5000, "udp", 1),
        candidate("10.0.0.7", 5000, "UDP", 1),
    ];
    let remote = RemoteTransport { candidates, ..RemoteTransport::default() };
    world.signal_to(BRIDGE, ALICE, remote);
    assert_eq!(world.sides[BRIDGE].hub.counters().candidates_ignored, 8);
    assert!(!world.sides[BRIDGE].hub.has_names());
}

#[test]
fn certificates_are_renewed_for_new_endpoints() {
    let now = Instant::now();
    let mut hub = hub(&[SERVER], TransportConfig::default(), 1, now);
    let print = |local: LocalTransport| local.fingerprint.bytes;
    let first = print(hub.create(now, ALICE, options(true)));
    let later = now + Duration::from_secs(25 * 3600);
    let second = print(hub.create(later, BOB, options(true)));
    assert_ne!(first, second);
    assert_eq!(hub.describe(ALICE).map(print), Some(first));
    assert_eq!(hub.describe(BOB).map(print), Some(second.clone()));
    assert!(
        Fingerprint { hash: crate::Hash::Sha256, setup: None, bytes: second }.value().len() == 95
    );
}

#[test]
fn only_accepted_hash_functions_are_believed() {
    let now = Instant::now();
    for (accepted_hashes, connects) in
        [(vec![crate::Hash::Sha256], true), (vec![crate::Hash::Sha512], false)]
    {
        let settings = TransportConfig {
            accepted_hashes,
            local_hash: crate::Hash::Sha384,
            ..TransportConfig::default()
        };
        let bridge = hub(&[SERVER], settings, 1, now);
        let client = hub(&["10.0.0.7:5000"], TransportConfig::default(), 2, now);
        let mut world = World::with_hubs(3, now, bridge, client);
        world.connect(ALICE, Setup::Active);
        // The client signals sha-256.
        assert_eq!(world.until_ready(ALICE, 5), connects);
        let ours = world.sides[BRIDGE].hub.describe(ALICE).unwrap().fingerprint;
        assert_eq!(ours.hash, crate::Hash::Sha384);
    }
}

#[test]
fn garbage_changes_nothing() {
    let mut world = natted(23);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    for _ in 0..5000 {
        let length = world.rng.random_range(0..200);
        let mut bytes: Vec<u8> = (0..length).map(|_| world.rng.random()).collect();
        if let Some(first) = bytes.first_mut() {
            *first = [0, 1, 20, 22, 23, 25, 0x2c][usize::from(*first) % 7];
        }
        world.deliver(BRIDGE, addr(NAT_1), addr(SERVER), &bytes);
    }
    world.run(Duration::from_secs(30));
    assert_eq!(world.sides[BRIDGE].updates.len(), 2);
    assert_eq!(world.sides[BRIDGE].bound.len(), 1);
}

#[test]
fn dtls_that_is_no_dtls_is_counted() {
    let mut world = natted(25);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    assert_eq!(world.sides[BRIDGE].hub.counters().dtls_malformed, 0, "a handshake is none");
    world.deliver(BRIDGE, addr(NAT_1), addr(SERVER), &[22, 254, 253, 0, 0]);
    world.deliver(BRIDGE, addr(NAT_1), addr(SERVER), &[63; 40]);
    assert_eq!(world.sides[BRIDGE].hub.counters().dtls_malformed, 2);
}

#[test]
fn a_gcm_profile_is_agreed() {
    let mut world = natted(24);
    world.connect(ALICE, Setup::Active);
    assert!(world.until_ready(ALICE, 5));
    let profile = world.sides[BRIDGE].keys[&ALICE].profile;
    assert!(matches!(profile, Profile::AeadAes128Gcm | Profile::AeadAes256Gcm));
}
