//! Handshakes with another stack: the crate `dtls` of webrtc-rs (DTLS 1.2), in both roles.

use dtls::{
    config::{ClientAuthType, Config, ExtendedMasterSecretType},
    conn::DTLSConn,
    crypto::Certificate as TheirCertificate,
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use webrtc_util::{Conn, KeyingMaterialExporter, conn::conn_pipe::pipe};

use super::*;

fn their_config(profiles: &[SrtpProtectionProfile]) -> Config {
    Config {
        certificates: vec![
            TheirCertificate::generate_self_signed(vec!["peer".to_owned()]).unwrap(),
        ],
        srtp_protection_profiles: profiles.to_vec(),
        extended_master_secret: ExtendedMasterSecretType::Require,
        client_auth: ClientAuthType::RequireAnyClientCert,
        insecure_skip_verify: true,
        ..Config::default()
    }
}

/// Runs our side until it has keys and nothing more to send.
async fn ours(wire: impl Conn, client: bool) -> Keying {
    let config = shared_config(&TransportConfig::default()).unwrap();
    let mut dtls = Dtls::new(&config, &certificate(1), client, Instant::now()).unwrap();
    let (mut keys, mut connected) = (None, false);
    let mut buffer = [0; SCRATCH];
    while keys.is_none() || !connected {
        let mut events = Vec::new();
        dtls.poll(&mut events);
        for event in events {
            match event {
                DtlsEvent::Packet(packet) => drop(wire.send(&packet).await.unwrap()),
                DtlsEvent::Keys(found) => keys = Some(found),
                DtlsEvent::Connected => connected = true,
                _ => {}
            }
        }
        if !connected {
            let length = wire.recv(&mut buffer).await.unwrap();
            dtls.handle(Instant::now(), &buffer[..length]).unwrap();
        }
    }
    keys.unwrap()
}

async fn handshake_with_webrtc_rs(client: bool, profiles: &[SrtpProtectionProfile]) -> Keying {
    let (here, there) = pipe();
    let config = their_config(profiles);
    let theirs = DTLSConn::new(Arc::new(there), config, !client, None);
    let (keys, theirs) = tokio::join!(ours(here, client), theirs);
    let theirs = theirs.unwrap();
    let length = keys.send.len() + keys.receive.len();
    let state = theirs.connection_state().await;
    let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], length).await.unwrap();
    let expected = keying(&material, keys.profile, client).unwrap();
    assert_eq!((&expected.send, &expected.receive), (&keys.send, &keys.receive));
    keys
}

#[tokio::test]
async fn webrtc_rs_as_client_and_as_server() {
    use SrtpProtectionProfile as P;
    for client in [false, true] {
        let (cm, gcm_128) = (P::Srtp_Aes128_Cm_Hmac_Sha1_80, P::Srtp_Aead_Aes_128_Gcm);
        for (offered, expected) in [
            (vec![cm], Profile::Aes128CmSha1_80),
            (vec![cm, gcm_128], Profile::AeadAes128Gcm),
            (vec![P::Srtp_Aead_Aes_256_Gcm, cm], Profile::AeadAes256Gcm),
            (vec![gcm_128], Profile::AeadAes128Gcm),
            (vec![P::Srtp_Aes128_Cm_Hmac_Sha1_32], Profile::Aes128CmSha1_32),
        ] {
            let keys = handshake_with_webrtc_rs(client, &offered).await;
            assert_eq!(keys.profile, expected, "we are the client: {client}");
        }
    }
}
