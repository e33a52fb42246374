//! The libraries without I/O behind one trait.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::BytesMut;
use dimpl::{
    DtlsCertificate, NamedGroup, Output, SrtpProfile, certificate::generate_self_signed_certificate,
};
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto_provider::default_provider,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::TransportProtocol;

use super::{CLIENT, LABEL, MATERIAL};

/// Larger than any datagram of theirs, bytes.
const SCRATCH: usize = 2_048;

/// One end of a session.
pub trait End {
    /// All datagrams that it wants to send.
    fn poll(&mut self) -> Vec<Vec<u8>>;
    /// Takes a datagram.
    fn handle(&mut self, datagram: &[u8]);
    /// The keying material, once it has it.
    fn keys(&self) -> Option<&[u8]>;
}

/// Which DTLS.
#[derive(Clone, Copy)]
pub enum Version {
    /// RFC 6347.
    V12,
    /// RFC 9147.
    V13,
}

/// What all sessions of dimpl share.
pub struct DimplShared {
    version: Version,
    config: Arc<dimpl::Config>,
    certificates: [DtlsCertificate; 2],
}

impl DimplShared {
    /// The bridge's settings, P-256 only.
    pub fn new(version: Version) -> Self {
        let config = dimpl::Config::builder()
            .use_server_cookie(false)
            .require_client_certificate(true)
            .kx_groups(&[NamedGroup::Secp256r1])
            .build()
            .expect("a valid configuration");
        let certificates =
            [0, 1].map(|_| generate_self_signed_certificate().expect("a certificate"));
        Self { version, config: Arc::new(config), certificates }
    }
}

/// An end of dimpl.
pub struct Dimpl {
    dtls: dimpl::Dtls,
    keys: Option<Vec<u8>>,
}

impl Dimpl {
    /// A client or a server.
    pub fn new(shared: &DimplShared, side: usize, now: Instant) -> Self {
        let (config, pair) = (Arc::clone(&shared.config), shared.certificates[side].clone());
        let mut dtls = match shared.version {
            Version::V12 => dimpl::Dtls::new_12(config, pair, now),
            Version::V13 => dimpl::Dtls::new_13(config, pair, now),
        };
        dtls.set_active(side == CLIENT);
        dtls.handle_timeout(now).expect("a start");
        Self { dtls, keys: None }
    }
}

impl End for Dimpl {
    fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut flight = Vec::new();
        let mut scratch = [0; SCRATCH];
        loop {
            match self.dtls.poll_output(&mut scratch) {
                Output::Packet(datagram) => flight.push(datagram.to_vec()),
                Output::KeyingMaterial(keys, profile) => {
                    assert_eq!(profile, SrtpProfile::AEAD_AES_256_GCM);
                    self.keys = Some(keys.to_vec());
                }
                Output::Timeout(_) => return flight,
                _ => {}
            }
        }
    }

    fn handle(&mut self, datagram: &[u8]) {
        self.dtls.handle_packet(datagram).expect("a datagram of the other end");
    }

    fn keys(&self) -> Option<&[u8]> {
        self.keys.as_deref()
    }
}

/// What all sessions of rtc-dtls share.
pub struct RtcShared {
    configs: [Arc<HandshakeConfig>; 2],
}

impl RtcShared {
    /// The settings of the others. Certificates are accepted as they come, and left to the caller.
    pub fn new() -> Self {
        let crypto = default_provider().expect("the crate's own provider");
        let configs = [0, 1].map(|side| {
            let certificate = rtc_dtls::crypto::Certificate::generate_self_signed_with_alg(
                vec!["peer".to_owned()],
                &rcgen::PKCS_ECDSA_P256_SHA256,
                crypto.crypto(),
            );
            let config = ConfigBuilder::default()
                .with_crypto_provider(Arc::clone(&crypto))
                .with_certificates(vec![certificate.expect("a certificate")])
                .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm])
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .build(side == CLIENT, Some(address(1 - side)));
            Arc::new(config.expect("a valid configuration"))
        });
        Self { configs }
    }
}

/// An end of rtc-dtls: an endpoint with one association.
pub struct Rtc {
    endpoint: Endpoint,
    side: usize,
    now: Instant,
    keys: Option<Vec<u8>>,
}

impl Rtc {
    /// A client or a server.
    pub fn new(shared: &RtcShared, side: usize, now: Instant) -> Self {
        let config = Arc::clone(&shared.configs[side]);
        let (client, server) =
            if side == CLIENT { (Some(config), None) } else { (None, Some(config)) };
        let mut endpoint = Endpoint::new(address(side), TransportProtocol::UDP, server);
        if let Some(config) = client {
            endpoint.connect(now, address(1 - side), config, None).expect("a start");
        }
        Self { endpoint, side, now, keys: None }
    }
}

/// The library tells associations apart by the peer's address.
fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, side as u8 + 1], 5_000))
}

impl End for Rtc {
    fn poll(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.endpoint.poll_transmit())
            .map(|transmit| transmit.message.to_vec())
            .collect()
    }

    fn handle(&mut self, datagram: &[u8]) {
        let peer = address(1 - self.side);
        let events = self.endpoint.read(self.now, peer, None, BytesMut::from(datagram));
        let events = events.expect("a datagram of the other end");
        if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
            let state = self.endpoint.get_connection_state(peer).expect("an association");
            assert_eq!(
                state.srtp_protection_profile(),
                SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm
            );
            let keys = state.export_keying_material(LABEL, &[], MATERIAL).expect("keys");
            self.keys = Some(keys.as_ref().to_vec());
        }
    }

    fn keys(&self) -> Option<&[u8]> {
        self.keys.as_deref()
    }
}
