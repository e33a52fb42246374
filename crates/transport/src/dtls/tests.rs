mod foreign;
mod interop;

use bytes::Bytes;
use dimpl::Output;
use rand::{SeedableRng, rngs::StdRng};
use rialto_srtp::{Keying, Profile};

use super::{library::keying, *};

const SCRATCH: usize = 2048;

/// A peer with another configuration than ours: one version only, small datagrams.
struct Peer {
    dtls: dimpl::Dtls,
    keys: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Version {
    Only12,
    Only13,
    Auto,
}

fn certificate(seed: u64) -> Arc<Certificate> {
    let mut rng = StdRng::seed_from_u64(seed);
    Certificate::generate(Duration::from_secs(1_800_000_000), crate::Hash::Sha256, &mut rng)
        .unwrap()
}

impl Peer {
    fn new(version: Version, mtu: usize, client: bool, now: Instant) -> Self {
        let config = Arc::new(dimpl::Config::builder().mtu(mtu).build().unwrap());
        let pair = certificate(2).pair.clone();
        let mut dtls = match version {
            Version::Only12 => dimpl::Dtls::new_12(config, pair, now),
            Version::Only13 => dimpl::Dtls::new_13(config, pair, now),
            Version::Auto => dimpl::Dtls::new_auto(config, pair, now),
        };
        dtls.set_active(client);
        dtls.handle_timeout(now).unwrap();
        Self { dtls, keys: None }
    }

    fn poll(&mut self) -> Vec<Bytes> {
        let mut packets = Vec::new();
        let mut scratch = [0; SCRATCH];
        loop {
            match self.dtls.poll_output(&mut scratch) {
                Output::Packet(packet) => packets.push(Bytes::copy_from_slice(packet)),
                Output::KeyingMaterial(keys, _) => self.keys = Some(keys.to_vec()),
                Output::Timeout(_) => return packets,
                _ => {}
            }
        }
    }
}

/// Lets both send until nothing is left to send; the peer's first flight arrives in reverse order.
fn talk(ours: &mut Dtls, peer: &mut Peer, now: Instant) -> (Vec<DtlsEvent>, usize) {
    let mut told = Vec::new();
    let mut first_flight = 0;
    for _ in 0..20 {
        let mut flight = peer.poll();
        if first_flight == 0 {
            first_flight = flight.len();
            flight.reverse();
        }
        for packet in flight {
            ours.handle(now, &packet).unwrap();
        }
        let mut events = Vec::new();
        ours.poll(&mut events);
        for event in events {
            match event {
                DtlsEvent::Packet(packet) => peer.dtls.handle_packet(&packet).unwrap(),
                other => told.push(other),
            }
        }
    }
    (told, first_flight)
}

fn handshake(version: Version, mtu: usize, client: bool) -> (Dtls, Vec<DtlsEvent>, Peer, usize) {
    let now = Instant::now();
    let config = shared_config(&TransportConfig::default()).unwrap();
    let mut ours = Dtls::new(&config, &certificate(1), client, now).unwrap();
    let mut peer = Peer::new(version, mtu, !client, now);
    let (told, first_flight) = talk(&mut ours, &mut peer, now);
    (ours, told, peer, first_flight)
}

#[test]
fn both_versions_in_both_roles() {
    for (client, cases) in [
        (false, &[(Version::Only12, "1.2"), (Version::Only13, "1.3"), (Version::Auto, "1.3")][..]),
        // With 1.2, the client accepts any certificate.
        (true, &[(Version::Only12, "1.2"), (Version::Auto, "1.2")]),
    ] {
        for (version, name) in cases {
            let (ours, told, peer, _) = handshake(*version, 1150, client);
            assert_eq!(ours.version(), Some(*name), "client: {client}");
            let order: Vec<_> = told
                .iter()
                .map(|event| match event {
                    DtlsEvent::Certificate(_) => "certificate",
                    DtlsEvent::Keys(_) => "keys",
                    DtlsEvent::Connected => "connected",
                    _ => "other",
                })
                .collect();
            assert_eq!(order.iter().filter(|o| **o == "certificate").count(), 1, "{order:?}");
            let place = |what| order.iter().position(|o| *o == what).unwrap();
            assert!(place("certificate") < place("keys"), "{order:?}");
            assert!(place("connected") < order.len());
            assert!(peer.keys.is_some());
        }
    }
}

#[test]
fn a_client_hello_in_pieces_is_reassembled() {
    for (version, mtu) in [(Version::Only12, 90), (Version::Only13, 150)] {
        let (_, told, peer, first_flight) = handshake(version, mtu, false);
        assert!(first_flight >= 2, "the ClientHello came in {first_flight} datagrams");
        assert!(told.iter().any(|event| matches!(event, DtlsEvent::Keys(_))), "{version:?}");
        assert!(peer.keys.is_some());
    }
}

#[test]
fn keys_are_split_as_rfc_5764_says() {
    let (_, told, peer, _) = handshake(Version::Auto, 1150, false);
    let keys =
        told.into_iter().find_map(|e| if let DtlsEvent::Keys(k) = e { Some(k) } else { None });
    let (keys, material) = (keys.unwrap(), peer.keys.unwrap());
    let (key, salt) = match keys.profile {
        Profile::AeadAes128Gcm => (16, 12),
        Profile::AeadAes256Gcm => (32, 12),
        Profile::Aes128CmSha1_80 | Profile::Aes128CmSha1_32 => (16, 14),
    };
    // We are the server: we receive with the client's key and salt.
    assert_eq!(keys.receive[..key], material[..key]);
    assert_eq!(keys.receive[key..], material[2 * key..2 * key + salt]);
    assert_eq!(keys.send[..key], material[key..2 * key]);
    assert_eq!(keys.send[key..], material[2 * key + salt..]);
}

#[test]
fn material_of_another_length_is_refused() {
    let profile = Profile::AeadAes128Gcm;
    assert!(keying(&[0; 56], profile, true).is_some());
    assert!(keying(&[0; 55], profile, true).is_none());
    assert!(keying(&[0; 57], profile, true).is_none());
}

#[test]
fn rubbish_does_not_end_a_waiting_association() {
    let now = Instant::now();
    let config = shared_config(&TransportConfig::default()).unwrap();
    for client in [false, true] {
        let mut ours = Dtls::new(&config, &certificate(1), client, now).unwrap();
        let mut hello = Vec::new();
        ours.poll(&mut hello);
        for bytes in [&[22u8][..], &[20; 40], &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9]] {
            ours.handle(now, bytes).unwrap();
            let mut events = Vec::new();
            ours.poll(&mut events);
        }
    }
}

/// The peer's ClientHello with another list of SRTP profiles of the same length, which its library
/// does not allow to choose. The handshake cannot complete, but our answer shows our choice.
fn answer_to(version: Version, profiles: [u16; 3], mtu: usize) -> (Dtls, Vec<u8>) {
    let now = Instant::now();
    let config = shared_config(&TransportConfig::default()).unwrap();
    let mut ours = Dtls::new(&config, &certificate(1), false, now).unwrap();
    let theirs = [0, 14, 0, 9, 0, 6, 0, 8, 0, 7, 0, 1, 0];
    for packet in Peer::new(version, mtu, true, now).poll() {
        let mut packet = packet.to_vec();
        if let Some(at) = packet.windows(theirs.len()).position(|bytes| bytes == theirs) {
            let list: Vec<_> = profiles.iter().flat_map(|id| id.to_be_bytes()).collect();
            packet[at + 6..at + 12].copy_from_slice(&list);
        }
        ours.handle(now, &packet).unwrap();
    }
    let mut events = Vec::new();
    ours.poll(&mut events);
    let packets = events.iter().filter_map(|event| match event {
        DtlsEvent::Packet(packet) => Some(packet.as_ref()),
        _ => None,
    });
    let answer = packets.flatten().copied().collect();
    (ours, answer)
}

#[test]
fn gcm_behind_cm_is_chosen_under_1_2() {
    let (cm, gcm_128, gcm_256, none) = (1, 7, 8, 0x99);
    for (profiles, version, chosen) in [
        ([cm, none, none], "1.3", None),
        ([cm, gcm_128, none], "1.2", Some(gcm_128)),
        ([cm, gcm_128, gcm_256], "1.2", Some(gcm_256)),
        ([gcm_256, cm, none], "1.3", None),
        ([gcm_128, none, none], "1.3", None),
    ] {
        for mtu in [1150, 250] {
            let (ours, answer) = answer_to(Version::Auto, profiles, mtu);
            assert_eq!(ours.version(), Some(version), "{profiles:?} in packets of {mtu}");
            // Under 1.3 the choice is encrypted.
            if let Some(chosen) = chosen {
                let extension = [0, 14, 0, 5, 0, 2, 0, chosen as u8, 0];
                assert!(answer.windows(9).any(|bytes| bytes == extension), "{profiles:?}");
            }
        }
        let (ours, _) = answer_to(Version::Only13, profiles, 1150);
        assert_eq!(ours.version(), Some("1.3"), "{profiles:?}");
    }
}

/// A peer on dimpl with a certificate of about this size.
fn with_certificate_of(bytes: usize, version: Version, now: Instant) -> Peer {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let name = "x".repeat(60);
    let names: Vec<_> = (0..bytes / 66).map(|n| format!("{n:04}{}", &name[4..])).collect();
    let certificate =
        rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().der().to_vec();
    assert!(certificate.len() + 700 > bytes && certificate.len() < bytes + 700);
    let pair = dimpl::DtlsCertificate { certificate, private_key: key.serialize_der() };
    // It cannot send flights of more than twelve records under 1.3.
    let config = dimpl::Config::builder().mtu(1900).max_queue_tx(40).build().unwrap();
    let config = Arc::new(config);
    let mut dtls = match version {
        Version::Only12 => dimpl::Dtls::new_12(config, pair, now),
        Version::Only13 => dimpl::Dtls::new_13(config, pair, now),
        Version::Auto => dimpl::Dtls::new_auto(config, pair, now),
    };
    dtls.set_active(true);
    dtls.handle_timeout(now).unwrap();
    Peer { dtls, keys: None }
}

#[test]
fn long_certificates_fit_into_dimpl() {
    for bytes in [1_800, 2_200, 8_000, 16_000] {
        for version in [Version::Only13, Version::Auto] {
            let now = Instant::now();
            let config = shared_config(&TransportConfig::default()).unwrap();
            let mut ours = Dtls::new(&config, &certificate(1), false, now).unwrap();
            let mut peer = with_certificate_of(bytes, version, now);
            let (told, _) = talk(&mut ours, &mut peer, now);
            let certificate = told.iter().find_map(|event| match event {
                DtlsEvent::Certificate(der) => Some(der.len()),
                _ => None,
            });
            assert!(certificate.is_some_and(|length| length + 700 > bytes), "{bytes} {version:?}");
            assert!(
                told.iter().any(|event| matches!(event, DtlsEvent::Keys(_))),
                "{bytes} {version:?}"
            );
        }
    }
}

#[test]
fn a_server_without_1_2_is_asked_again() {
    let now = Instant::now();
    let config = shared_config(&TransportConfig::default()).unwrap();
    let mut ours = Dtls::new(&config, &certificate(1), true, now).unwrap();
    ours.poll(&mut Vec::new());
    let refusal = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, PROTOCOL_VERSION];
    ours.handle(now, &refusal).unwrap();
    ours.handle(now, &refusal).unwrap();
    assert_eq!(ours.attempts.len(), 2, "once");
    let mut peer = Peer::new(Version::Only13, 1150, false, now);
    let (told, _) = talk(&mut ours, &mut peer, now);
    assert!(told.iter().any(|event| matches!(event, DtlsEvent::Keys(_))));
    assert_eq!(ours.version(), Some("1.3"));
}

#[test]
fn a_failed_client_says_hello_again() {
    let now = Instant::now();
    let config = shared_config(&TransportConfig::default()).unwrap();
    let mut ours = Dtls::new(&config, &certificate(1), true, now).unwrap();
    let mut hello = Vec::new();
    ours.poll(&mut hello);
    // A truncated ServerHello.
    let bad =
        [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 3, 3];
    assert!(ours.handle(now, &bad).is_err());
    assert!(ours.attempts.is_empty());
    let mut alert = Vec::new();
    ours.poll(&mut alert);
    assert_eq!(alert.len(), 1);
    let at = ours.poll_timeout().unwrap();
    assert_eq!(at, now + RETRY);
    ours.handle_timeout(at).unwrap();
    let mut peer = Peer::new(Version::Only12, 1150, false, at);
    let (told, _) = talk(&mut ours, &mut peer, at);
    assert!(told.iter().any(|event| matches!(event, DtlsEvent::Keys(_))));
}
