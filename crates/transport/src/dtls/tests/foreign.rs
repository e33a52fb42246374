//! Peers such as GStreamer, Asterisk or Janus: OpenSSL with certificates of all kinds, in both
//! roles.

use std::io::{self, Read, Write};

use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    ssl::{Ssl, SslContext, SslMethod, SslOptions, SslStream, SslVerifyMode},
    x509::{X509, X509NameBuilder},
};

use super::*;

const LABEL: &str = "EXTRACTOR-dtls_srtp";
const ALL_PROFILES: &str = "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM";
/// `SSL_OP_NO_EXTENDED_MASTER_SECRET`.
const NO_EMS: u64 = 1;

/// Configuration of a peer.
struct Peer {
    key: PKey<Private>,
    /// Bytes by which the certificate is made longer.
    padding: usize,
    profiles: &'static str,
    suites: &'static str,
    ems: bool,
}

impl Peer {
    fn with(key: PKey<Private>) -> Self {
        Self { key, padding: 0, profiles: ALL_PROFILES, suites: "DEFAULT@SECLEVEL=1", ems: true }
    }

    fn certificate(&self) -> X509 {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "peer").unwrap();
        // An attribute has room for 64 characters.
        for _ in 0..self.padding / 75 {
            name.append_entry_by_text("OU", &"x".repeat(64)).unwrap();
        }
        let name = name.build();
        let mut certificate = X509::builder().unwrap();
        certificate.set_version(2).unwrap();
        certificate.set_subject_name(&name).unwrap();
        certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        certificate.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
        certificate.set_pubkey(&self.key).unwrap();
        let edwards = self.key.id() == openssl::pkey::Id::ED25519;
        let digest = if edwards { MessageDigest::null() } else { MessageDigest::sha256() };
        certificate.sign(&self.key, digest).unwrap();
        certificate.build()
    }

    fn start(&self, client: bool) -> Running {
        let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
        context.set_certificate(&self.certificate()).unwrap();
        context.set_private_key(&self.key).unwrap();
        context.set_tlsext_use_srtp(self.profiles).unwrap();
        context.set_cipher_list(self.suites).unwrap();
        let required = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        context.set_verify_callback(required, |_, _| true);
        context.set_options(SslOptions::NO_QUERY_MTU);
        if !self.ems {
            context.set_options(SslOptions::from_bits_retain(NO_EMS));
        }
        let mut ssl = Ssl::new(&context.build()).unwrap();
        ssl.set_mtu(1100).unwrap();
        if client {
            ssl.set_connect_state();
        } else {
            ssl.set_accept_state();
        }
        Running { stream: SslStream::new(ssl, Pipe::default()).unwrap(), client, error: None }
    }
}

#[derive(Debug, Default)]
struct Pipe {
    received: Vec<Bytes>,
    sent: Vec<Bytes>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let datagram = self.received.remove(0);
        buf[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.sent.push(Bytes::copy_from_slice(datagram));
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Running {
    stream: SslStream<Pipe>,
    client: bool,
    error: Option<String>,
}

impl Running {
    /// Continues its handshake, then sends.
    fn run(&mut self) -> Vec<Bytes> {
        if self.error.is_none()
            && !self.stream.ssl().is_init_finished()
            && let Err(error) = self.stream.do_handshake()
        {
            self.error = error.ssl_error().map(ToString::to_string);
        }
        std::mem::take(&mut self.stream.get_mut().sent)
    }

    fn keys(&self, profile: Profile) -> Keying {
        let mut material = vec![0; 2 * (profile.key_len() + profile.salt_len())];
        self.stream.ssl().export_keying_material(&mut material, LABEL, None).unwrap();
        keying(&material, profile, self.client).unwrap()
    }
}

/// The results of both.
#[derive(Default)]
struct Outcome {
    certificate: Option<Vec<u8>>,
    keys: Option<Keying>,
    connected: bool,
    error: Option<String>,
    sent: Vec<Bytes>,
}

fn ours(client: bool, now: Instant) -> Dtls {
    let config = shared_config(&TransportConfig::default()).unwrap();
    Dtls::new(&config, &certificate(1), client, now).unwrap()
}

/// Lets both send; the peer's datagrams go through `path` first.
fn talk_over(
    ours: &mut Dtls,
    peer: &mut Running,
    now: Instant,
    mut path: impl FnMut(usize, Bytes) -> Vec<Bytes>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut count = 0;
    for _ in 0..20 {
        for datagram in peer.run() {
            for datagram in path(count, datagram) {
                if let Err(error) = ours.handle(now, &datagram) {
                    outcome.error = Some(error.to_string());
                }
            }
            count += 1;
        }
        take(ours, peer, &mut outcome);
    }
    outcome
}

fn take(ours: &mut Dtls, peer: &mut Running, outcome: &mut Outcome) {
    let mut events = Vec::new();
    ours.poll(&mut events);
    for event in events {
        match event {
            DtlsEvent::Packet(packet) => {
                outcome.sent.push(packet.clone());
                peer.stream.get_mut().received.push(packet);
            }
            DtlsEvent::Certificate(der) => outcome.certificate = Some(der),
            DtlsEvent::Keys(keys) => outcome.keys = Some(keys),
            DtlsEvent::Connected => outcome.connected = true,
            DtlsEvent::Data(_) | DtlsEvent::Closed => {}
        }
    }
}

fn talk_with(peer: &Peer, client: bool) -> (Outcome, Running) {
    let now = Instant::now();
    let mut ours = ours(client, now);
    let mut running = peer.start(!client);
    let outcome = talk_over(&mut ours, &mut running, now, |_, datagram| vec![datagram]);
    (outcome, running)
}

/// Both have the same keys, and ours has the peer's certificate.
fn assert_connected(peer: &Peer, client: bool, what: &str) -> Profile {
    let (outcome, running) = talk_with(peer, client);
    let errors = (outcome.error.as_deref(), running.error.as_deref());
    assert!(outcome.connected, "{what}, we are the client: {client}: {errors:?}");
    let keys = outcome.keys.unwrap();
    let theirs = running.keys(keys.profile);
    assert_eq!((&keys.send, &keys.receive), (&theirs.receive, &theirs.send), "{what}");
    let certificate = running.stream.ssl().certificate().unwrap().to_der().unwrap();
    assert_eq!(outcome.certificate, Some(certificate), "{what}");
    keys.profile
}

fn curve(nid: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(nid).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

#[test]
fn certificates_of_all_kinds_in_both_roles() {
    for (what, key) in [
        ("P-256", curve(Nid::X9_62_PRIME256V1)),
        ("P-384", curve(Nid::SECP384R1)),
        ("P-521", curve(Nid::SECP521R1)),
        ("RSA 2048", rsa(2048)),
        ("RSA 4096", rsa(4096)),
        ("Ed25519", PKey::generate_ed25519().unwrap()),
    ] {
        let peer = Peer::with(key);
        // As a server, OpenSSL has no cipher suite of DTLS for Ed25519.
        for client in if what == "Ed25519" { &[false][..] } else { &[false, true] } {
            let client = *client;
            let profile = assert_connected(&peer, client, what);
            // The server chooses, and the peer has another preference.
            assert_eq!(profile == Profile::AeadAes128Gcm, !client, "{what}: {profile}");
        }
    }
}

#[test]
fn peers_without_extended_master_secret() {
    for key in [curve(Nid::X9_62_PRIME256V1), rsa(2048)] {
        let peer = Peer { ems: false, ..Peer::with(key) };
        for client in [false, true] {
            assert_connected(&peer, client, "no EMS");
        }
    }
}

#[test]
fn certificates_of_16_kilobytes() {
    for padding in [2_000, 8_000, 15_700] {
        for key in [curve(Nid::X9_62_PRIME256V1), rsa(2048)] {
            let peer = Peer { padding, ..Peer::with(key) };
            let length = peer.certificate().to_der().unwrap().len();
            assert!(length > padding && length <= 16 * 1024 + 600, "{length} bytes");
            for client in [false, true] {
                assert_connected(&peer, client, "a long certificate");
            }
        }
    }
}

/// pyOpenSSL and others send a flight as one datagram.
#[test]
fn flights_in_one_datagram() {
    for (padding, key) in [(0, rsa(4096)), (15_700, rsa(2048))] {
        let peer = Peer { padding, ..Peer::with(key) };
        for client in [false, true] {
            let now = Instant::now();
            let mut ours = ours(client, now);
            let mut running = peer.start(!client);
            let mut outcome = Outcome::default();
            for _ in 0..20 {
                let flight = running.run().concat();
                ours.handle(now, &flight).unwrap();
                take(&mut ours, &mut running, &mut outcome);
            }
            assert!(outcome.connected, "{padding}, we are the client: {client}");
        }
    }
}

#[test]
fn profiles_that_dimpl_does_not_know() {
    for (profiles, expected) in [
        ("SRTP_AES128_CM_SHA1_32", Profile::Aes128CmSha1_32),
        ("SRTP_AES128_CM_SHA1_80", Profile::Aes128CmSha1_80),
        ("SRTP_AES128_CM_SHA1_32:SRTP_AES128_CM_SHA1_80", Profile::Aes128CmSha1_80),
        ("SRTP_AES128_CM_SHA1_32:SRTP_AEAD_AES_256_GCM", Profile::AeadAes256Gcm),
    ] {
        let peer = Peer { profiles, ..Peer::with(curve(Nid::X9_62_PRIME256V1)) };
        assert_eq!(assert_connected(&peer, false, profiles), expected);
    }
    let profiles = "SRTP_AES128_CM_SHA1_32";
    let peer = Peer { profiles, ..Peer::with(rsa(2048)) };
    assert_eq!(assert_connected(&peer, true, profiles), Profile::Aes128CmSha1_32);
}

#[test]
fn a_refusal_says_what_the_peer_lacks() {
    let suites = "ECDHE-RSA-AES128-GCM-SHA256";
    let peer = Peer { suites, ..Peer::with(rsa(2048)) };
    let (outcome, running) = talk_with(&peer, false);
    let why = outcome.error.unwrap();
    assert!(why.contains("offers no cipher suite"), "{why}");
    assert!(running.error.is_some(), "the peer is told by an alert");
}

fn alert(description: u8) -> Bytes {
    Bytes::from(vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 200, 0, 2, 2, description])
}

#[test]
fn alerts_in_plaintext_end_nothing() {
    for client in [false, true] {
        let now = Instant::now();
        let mut ours = ours(client, now);
        let mut running = Peer::with(rsa(2048)).start(!client);
        let outcome = talk_over(&mut ours, &mut running, now, |_, datagram| {
            vec![alert(40), alert(0), datagram, alert(80)]
        });
        assert!(outcome.connected && outcome.keys.is_some(), "we are the client: {client}");
        assert!(ours.take_ignored_alerts() > 3);
    }
}

/// A ClientHello of somebody else, who sends nothing more.
fn spoofed(dimpl: bool) -> Vec<Bytes> {
    if dimpl {
        return super::Peer::new(Version::Auto, 1150, true, Instant::now()).poll();
    }
    Peer::with(curve(Nid::X9_62_PRIME256V1)).start(true).run()
}

#[test]
fn spoofed_hellos_before_and_after_the_genuine_one_end_nothing() {
    for dimpl in [false, true] {
        for place in 0..4 {
            let now = Instant::now();
            let mut ours = ours(false, now);
            let mut running = Peer::with(rsa(2048)).start(true);
            if place == 0 {
                for datagram in spoofed(dimpl) {
                    ours.handle(now, &datagram).unwrap();
                }
                // The answers reach nobody.
                ours.poll(&mut Vec::new());
            }
            let outcome = talk_over(&mut ours, &mut running, now, |count, datagram| {
                let mut all = if count == place && place > 0 { spoofed(dimpl) } else { Vec::new() };
                all.push(datagram);
                all
            });
            assert!(outcome.connected, "place {place}, dimpl's: {dimpl}, {:?}", running.error);
            assert_eq!(ours.attempts.len(), 1);
        }
    }
}

#[test]
fn a_flood_of_hellos_is_limited() {
    let now = Instant::now();
    let mut ours = ours(false, now);
    for _ in 0..50 {
        for datagram in spoofed(false) {
            ours.handle(now, &datagram).unwrap();
        }
        assert!(ours.attempts.len() <= MAX_ATTEMPTS);
    }
    let mut answers = Vec::new();
    ours.poll(&mut answers);
    assert!(answers.len() <= 2 * BURST as usize, "{} datagrams", answers.len());
    // The genuine client arrives a moment later.
    let later = now + 2 * REFILL;
    let mut running = Peer::with(rsa(2048)).start(true);
    let outcome = talk_over(&mut ours, &mut running, later, |_, datagram| vec![datagram]);
    assert!(outcome.connected, "{:?}", running.error);
}

#[test]
fn what_is_lost_is_sent_again() {
    for client in [false, true] {
        // Loses each of our datagrams in turn.
        for lost in 0..4 {
            let mut now = Instant::now();
            let mut ours = ours(client, now);
            let mut running = Peer::with(rsa(2048)).start(!client);
            let mut outcome = Outcome::default();
            let mut sent = 0;
            for _ in 0..40 {
                let mut events = Vec::new();
                ours.poll(&mut events);
                for event in events {
                    match event {
                        DtlsEvent::Packet(packet) => {
                            if sent != lost {
                                running.stream.get_mut().received.push(packet);
                            }
                            sent += 1;
                        }
                        DtlsEvent::Connected => outcome.connected = true,
                        _ => {}
                    }
                }
                let datagrams = running.run();
                if datagrams.is_empty()
                    && let Some(at) = ours.poll_timeout()
                {
                    now = now.max(at);
                    ours.handle_timeout(now).unwrap();
                }
                for datagram in datagrams {
                    ours.handle(now, &datagram).unwrap();
                }
            }
            // If our very last flight is lost, the peer has to ask.
            let last = !client && !running.stream.ssl().is_init_finished();
            assert!(outcome.connected, "client: {client}, lost: {lost}");
            assert!(!last || lost > 0, "client: {client}, lost: {lost}");
        }
    }
}

#[test]
fn data_and_goodbye() {
    for client in [false, true] {
        let now = Instant::now();
        let mut ours = ours(client, now);
        let mut running = Peer::with(rsa(2048)).start(!client);
        let outcome = talk_over(&mut ours, &mut running, now, |_, datagram| vec![datagram]);
        assert!(outcome.connected);
        assert_eq!(ours.version(), Some("1.2"));
        ours.send(b"from us").unwrap();
        take(&mut ours, &mut running, &mut Outcome::default());
        let mut buffer = [0; 100];
        let length = running.stream.ssl_read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"from us");
        running.stream.ssl_write(b"from them").unwrap();
        let _ = running.stream.shutdown();
        for datagram in running.run() {
            ours.handle(now, &datagram).unwrap();
        }
        let mut events = Vec::new();
        ours.poll(&mut events);
        assert!(events.iter().any(|e| matches!(e, DtlsEvent::Data(data) if data == "from them")));
        assert!(events.iter().any(|e| matches!(e, DtlsEvent::Closed)));
    }
}
