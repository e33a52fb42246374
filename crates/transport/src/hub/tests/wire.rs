//! Ufrags of any length, and requests with unknown attributes.

use super::*;
use crate::stun::Writer;

#[test]
fn ufrags_and_passwords_may_be_as_long_as_they_can_be() {
    let now = Instant::now();
    let config = |length: usize| TransportConfig {
        ufrag_prefix: "p".repeat(length),
        ..TransportConfig::default()
    };
    for (ours, theirs) in [(0, 100), (100, 0), (237, 237), (1000, 237)] {
        let bridge = hub(&[SERVER], config(ours), 1, now);
        let client = hub(&["10.0.0.7:5000"], config(theirs), 2, now);
        let mut world = World::with_hubs(70, now, bridge, client);
        world.connect(ALICE, Setup::Active);
        let ufrag = world.sides[BRIDGE].hub.describe(ALICE).unwrap().ufrag;
        assert_eq!(ufrag.len(), ours.min(237) + 14);
        assert!(world.until_ready(ALICE, 5), "{ours} {theirs}");
    }
}

/// A client with its own credentials, which the other hub did not make.
#[test]
fn names_of_256_bytes_are_taken_and_longer_ones_are_not() {
    let password = "w".repeat(256);
    for (length, pwd, taken) in [(1, 256, true), (256, 1, true), (257, 22, false), (4, 257, false)]
    {
        let now = Instant::now();
        let mut bridge = hub(&[SERVER], TransportConfig::default(), 1, now);
        let ours = bridge.create(now, ALICE, options(true));
        let ufrag = "u".repeat(length);
        let password = format!("{password}w")[..pwd].to_owned();
        let (name, secret) = (Some(ufrag.clone()), Some(password.clone()));
        let remote = RemoteTransport { ufrag: name, pwd: secret, ..RemoteTransport::default() };
        bridge.set_remote(now, ALICE, remote);
        let check = Writer::new(Class::Request, [1; 12]).username(&ours.ufrag, &ufrag).priority(1);
        receive(&mut bridge, now, check.finish(ours.pwd.as_bytes()));
        bridge.handle_timeout(now + Duration::from_millis(100));
        let checked = sent(&mut bridge).iter().any(|bytes| {
            let check = Message::parse(bytes).unwrap();
            let names = Some((ufrag.as_bytes(), ours.ufrag.as_bytes()));
            check.ufrags() == names && check.is_authentic(password.as_bytes())
        });
        assert_eq!(checked, taken, "{length} {pwd}");
    }
}

fn receive(hub: &mut Hub, now: Instant, bytes: Bytes) {
    let datagram = TransportDatagram {
        shard: ShardId(0),
        local: addr(SERVER),
        remote: addr(NAT_1),
        endpoint: None,
        received: now,
        bytes,
    };
    hub.on_event(now, &TransportEvent::Stun(datagram));
}

fn sent(hub: &mut Hub) -> Vec<Bytes> {
    let outputs = std::iter::from_fn(|| hub.poll_output());
    let bytes = |output| match output {
        Output::Command(TransportCommand::Transmit { bytes, .. }) => Some(bytes),
        _ => None,
    };
    outputs.filter_map(bytes).collect()
}

/// RFC 8489 section 6.3.1.
#[test]
fn requests_with_unknown_attributes_get_420() {
    let now = Instant::now();
    let mut bridge = hub(&[SERVER], TransportConfig::default(), 1, now);
    let ours = bridge.create(now, ALICE, options(true));
    let (ufrag, pwd) = (Some("them".to_owned()), Some("them".repeat(6)));
    bridge.set_remote(now, ALICE, RemoteTransport { ufrag, pwd, ..RemoteTransport::default() });
    let request = |kinds: &[u16], pwd: &str| {
        let writer = Writer::new(Class::Request, [9; 12]).username(&ours.ufrag, "them").priority(1);
        let add = |writer: Writer, kind: &u16| writer.attribute(*kind, &[b"value"]);
        kinds.iter().fold(writer, add).finish(pwd.as_bytes())
    };
    let _ = sent(&mut bridge);

    receive(&mut bridge, now, request(&[0x7777, 0x0003, 0xc057, 0x7777], &ours.pwd));
    let answers = sent(&mut bridge);
    assert_eq!(answers.len(), 1);
    let answer = Message::parse(&answers[0]).unwrap();
    assert_eq!((answer.class, answer.error), (Class::Error, Some(420)));
    assert_eq!(answer.transaction, [9; 12]);
    assert!(answer.is_authentic(ours.pwd.as_bytes()));
    // UNKNOWN-ATTRIBUTES: type, length, the two in the order of the request.
    let listed = [0, 10, 0, 4, 0x77, 0x77, 0, 3];
    assert!(answers[0].windows(8).any(|bytes| bytes == listed), "{:02x?}", answers[0]);

    // Unauthenticated requests get no answer, and bind no address.
    receive(&mut bridge, now, request(&[0x7777], "wrong"));
    assert!(sent(&mut bridge).is_empty());
    assert!(bridge.shared.common.owners.of(addr(NAT_1)).is_none());

    // However many there are, the answer lists a few; and a flood of them is limited.
    for _ in 0..200 {
        let kinds: Vec<u16> = (0x4000..0x4040).collect();
        receive(&mut bridge, now, request(&kinds, &ours.pwd));
    }
    let answers = sent(&mut bridge);
    assert!(answers.len() <= 100 && answers.iter().all(|bytes| bytes.len() <= 100));

    // Optional attributes are ignored.
    let later = now + Duration::from_secs(10);
    receive(&mut bridge, later, request(&[0xc057, 0x8022], &ours.pwd));
    let class = |bytes: &Bytes| Message::parse(bytes).unwrap().class;
    assert!(sent(&mut bridge).iter().any(|bytes| class(bytes) == Class::Success));
}
