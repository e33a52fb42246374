//! The DTLS certificate: self-signed, ECDSA P-256, renewed daily (RFC 8827 section 6.5).

use std::{sync::Arc, time::Duration};

use openssl::{error::ErrorStack, ssl::SslContext};
use rand::RngCore;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SerialNumber,
};

use super::{
    dtls,
    fingerprint::{Fingerprint, Hash},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// New endpoints get a certificate that is not older than this.
pub(crate) const RENEW_AFTER: Duration = DAY;

/// A certificate with its key. An endpoint keeps the one it was created with.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// Certificate and key in DER, for `dimpl`.
    pub pair: dimpl::DtlsCertificate,
    /// The same for OpenSSL.
    pub context: SslContext,
    /// Its fingerprint, without a role.
    pub fingerprint: Fingerprint,
}

/// Why a certificate could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It could not be generated or signed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// OpenSSL does not accept it.
    #[error("cannot load the new certificate: {0}")]
    Load(#[from] ErrorStack),
}

impl Certificate {
    /// Generates a certificate. `unix_time` is the time since 1970; the certificate is valid from a
    /// day before to seven days after. `hash` is used for its fingerprint.
    pub(crate) fn generate(
        unix_time: Duration,
        hash: Hash,
        rng: &mut impl RngCore,
    ) -> Result<Arc<Self>, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(Vec::new())?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "rialto");
        params.distinguished_name = name;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + unix_time.saturating_sub(DAY);
        params.not_after = epoch + unix_time + 7 * DAY;
        // Firefox refuses two certificates with the same issuer and serial number.
        let mut serial = [0; 16];
        rng.fill_bytes(&mut serial);
        serial[0] = serial[0] & 0x7f | 1;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.self_signed(&key)?.der().to_vec();
        let fingerprint = Fingerprint::of(hash, &certificate, None);
        let private_key = key.serialize_der();
        let context = dtls::context(&certificate, &private_key)?;
        let pair = dimpl::DtlsCertificate { certificate, private_key };
        Ok(Arc::new(Self { pair, context, fingerprint }))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn each_is_another() {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Duration::from_secs(1_800_000_000);
        let one = Certificate::generate(now, Hash::Sha256, &mut rng).unwrap();
        let two = Certificate::generate(now, Hash::Sha512, &mut rng).unwrap();
        assert_ne!(one.fingerprint, two.fingerprint);
        assert!(one.fingerprint.matches(&one.pair.certificate));
        assert_eq!(two.fingerprint.hash, Hash::Sha512);
        assert!(two.fingerprint.matches(&two.pair.certificate));
    }
}
