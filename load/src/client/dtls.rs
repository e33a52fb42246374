//! The DTLS client (crate `dtls`) over a connected ICE agent, and the keys that it exports.

use std::{sync::Arc, time::Duration};

use dtls::{
    config::{Config, ExtendedMasterSecretType},
    conn::DTLSConn,
    crypto::Certificate,
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rialto_srtp::Profile;
use sha2::{Digest, Sha256};
use webrtc_util::{Conn, KeyingMaterialExporter};

use crate::srtp::Keys;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum DtlsError {
    /// The handshake failed.
    #[error("the handshake failed: {0}")]
    Handshake(#[from] dtls::Error),
    /// The bridge chose no SRTP profile, or one that was not offered.
    #[error("the bridge chose no SRTP profile that was offered")]
    Profile,
    /// The exporter refused.
    #[error("no keys could be exported: {0}")]
    Export(String),
}

/// The certificate of all clients of this process, and its fingerprint.
#[derive(Clone)]
pub struct Identity {
    certificate: Certificate,
    /// SHA-256 in colon-separated hexadecimal digits.
    pub fingerprint: String,
}

impl Identity {
    /// A fresh self-signed certificate, ECDSA P-256.
    pub fn generate() -> Result<Self, dtls::Error> {
        let certificate = Certificate::generate_self_signed(vec!["rialto-load".to_owned()])?;
        let der = certificate.certificate.first().map_or(&[][..], |der| der.as_ref());
        let fingerprint = fingerprint(der);
        Ok(Self { certificate, fingerprint })
    }
}

fn fingerprint(der: &[u8]) -> String {
    let hex: Vec<_> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    hex.join(":")
}

/// Performs the handshake as the client, checks the bridge's certificate against the signalled
/// fingerprints, and exports the SRTP keys. The connection must be kept as long as the keys are
/// used.
pub async fn connect(
    conn: Arc<dyn Conn + Send + Sync>,
    identity: &Identity,
    profiles: &[Profile],
    fingerprints: Vec<(String, String)>,
) -> Result<(DTLSConn, Keys), DtlsError> {
    let config = Config {
        certificates: vec![identity.certificate.clone()],
        srtp_protection_profiles: profiles.iter().map(|p| offered(*p)).collect(),
        extended_master_secret: ExtendedMasterSecretType::Require,
        flight_interval: Duration::from_millis(500),
        insecure_skip_verify: true, // by fingerprint instead
        verify_peer_certificate: Some(Arc::new(move |chain, _| verify(chain, &fingerprints))),
        ..Config::default()
    };
    let dtls = DTLSConn::new(conn, config, true, None).await?;
    let chosen = Profile::from_id(dtls.selected_srtpprotection_profile() as u16)
        .filter(|profile| profiles.contains(profile))
        .ok_or(DtlsError::Profile)?;
    let len = 2 * (chosen.key_len() + chosen.salt_len());
    let exported = dtls
        .connection_state()
        .await
        .export_keying_material("EXTRACTOR-dtls_srtp", &[], len)
        .await
        .map_err(|error| DtlsError::Export(format!("{error:?}")))?;
    let keys = Keys::of_client(chosen, &exported)
        .ok_or_else(|| DtlsError::Export("too few bytes".to_owned()))?;
    Ok((dtls, keys))
}

fn offered(profile: Profile) -> SrtpProtectionProfile {
    SrtpProtectionProfile::from(profile.id())
}

/// Only the signalled SHA-256 fingerprint is checked: every bridge has one.
fn verify(chain: &[Vec<u8>], signalled: &[(String, String)]) -> Result<(), dtls::Error> {
    let Some(certificate) = chain.first() else {
        return Err(dtls::Error::Other("the bridge showed no certificate".to_owned()));
    };
    let actual = fingerprint(certificate);
    let mut of_kind = signalled.iter().filter(|(hash, _)| hash == "sha-256").peekable();
    if of_kind.peek().is_none() {
        return Err(dtls::Error::Other("the bridge signalled no sha-256 fingerprint".to_owned()));
    }
    if of_kind.any(|(_, fingerprint)| *fingerprint == actual) {
        return Ok(());
    }
    Err(dtls::Error::Other("the bridge's certificate is not the one it signalled".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_held_to_their_fingerprints() {
        let chain = [b"certificate".to_vec()];
        let good = ("sha-256".to_owned(), fingerprint(b"certificate"));
        let other = ("sha-256".to_owned(), fingerprint(b"other"));
        let kind = ("sha-512".to_owned(), fingerprint(b"certificate"));
        assert!(verify(&chain, &[other.clone(), good.clone()]).is_ok());
        assert!(verify(&chain, &[other]).is_err());
        assert!(verify(&chain, &[kind]).is_err());
        assert!(verify(&[], &[good]).is_err());
    }
}
