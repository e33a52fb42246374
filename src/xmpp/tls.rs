//! TLS to a server (RFC 6120 section 5).

use std::{io, sync::Arc};

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
        SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_name,
        },
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        server::ParsedCertificate,
    },
};

use super::cause::Cause;
use crate::certificates;

/// Makes the TLS configuration. With `verify`, the server must have a certificate of its domain that the
/// system trusts.
pub(super) fn connector(verify: bool) -> Result<TlsConnector, Cause> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Cause::Tls(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = if verify {
        Arc::new(Trusted::new(certificates::trusted(), provider)?)
    } else {
        Arc::new(AnyCertificate(provider))
    };
    let config =
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Describes a TLS error; most are about the certificate of `domain`.
pub(super) fn cause(domain: &str, error: &io::Error) -> Cause {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(rustls::Error::InvalidCertificate(fault)) = inner else {
        return Cause::Tls(error.to_string());
    };
    let fault = match fault {
        CertificateError::UnknownIssuer => "is self-signed or of an unknown issuer",
        fault if is_authority(fault) => "is self-signed or of an unknown issuer",
        CertificateError::BadSignature => "is not signed with the key that is trusted",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is of another name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet"
        }
        other => &format!("is not good ({other})"),
    };
    Cause::Tls(format!(
        "the certificate for {domain} {fault} (DISABLE_CERTIFICATE_VERIFICATION would take it)"
    ))
}

/// The certificate is valid, of the right name, and of an authority that is trusted; or trusted itself.
///
/// `prosodyctl cert generate` makes self-signed certificates that claim to be an authority. The one way to
/// trust such a server is to trust that very certificate.
#[derive(Debug)]
struct Trusted {
    certificates: &'static [CertificateDer<'static>],
    chains: Arc<WebPkiServerVerifier>,
}

impl Trusted {
    fn new(
        certificates: &'static [CertificateDer<'static>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Cause> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Cause::Tls(format!("this system trusts no certificate: {error}")))?;
        Ok(Self { certificates, chains })
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        time: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chains.verify_server_cert(certificate, intermediates, name, ocsp, time);
        match verified {
            // The dates have been looked at before this was noticed; the name has not.
            Err(rustls::Error::InvalidCertificate(fault))
                if is_authority(&fault) && self.certificates.contains(certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Whether a certificate was refused because it claims to be an authority. The type of this error is of a
/// crate that rustls does not export; its name is.
fn is_authority(fault: &CertificateError) -> bool {
    matches!(fault, CertificateError::Other(error) if error.to_string() == "CaUsedAsEndEntity")
}

/// `DISABLE_CERTIFICATE_VERIFICATION`: accepts any certificate. The server must still own its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    const DOMAIN: &str = "auth.example.com";

    /// A certificate that signs itself, valid in 2020.
    fn self_signed(is_ca: IsCa) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([DOMAIN.to_owned()]).unwrap();
        params.is_ca = is_ca;
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// The result of verifying `shown`, in a given year, on a system that trusts `trusted` only.
    fn said(
        trusted: &CertificateDer<'static>,
        shown: &CertificateDer<'static>,
        name: &'static str,
        year: u64,
    ) -> Result<(), String> {
        let certificates = Vec::leak(vec![trusted.clone()]);
        let trusted = Trusted::new(certificates, Arc::new(ring::default_provider())).unwrap();
        let time = Duration::from_secs((year - 1970) * 31_557_600 + 15_000_000);
        let time = UnixTime::since_unix_epoch(time);
        let server = ServerName::try_from(name).unwrap();
        let verified = trusted.verify_server_cert(shown, &[], &server, &[], time);
        verified.map(|_| ()).map_err(|error| cause(name, &io::Error::other(error)).to_string())
    }

    #[test]
    fn a_trusted_certificate_is_taken_although_it_is_an_authority() {
        let authority = || self_signed(IsCa::Ca(BasicConstraints::Unconstrained));
        for (trusted, stranger, stranger_is) in [
            (authority(), authority(), "self-signed or of an unknown issuer"),
            (
                self_signed(IsCa::ExplicitNoCa),
                self_signed(IsCa::ExplicitNoCa),
                "not signed with the key that is trusted",
            ),
        ] {
            assert_eq!(said(&trusted, &trusted, DOMAIN, 2020), Ok(()));
            for (shown, name, year, reason) in [
                (&stranger, DOMAIN, 2020, stranger_is),
                (&trusted, "example.com", 2020, "for example.com is of another name"),
                (&trusted, DOMAIN, 2021, "has expired"),
                (&trusted, DOMAIN, 2019, "is not valid yet"),
            ] {
                let error = said(&trusted, shown, name, year).unwrap_err();
                assert!(error.contains(reason), "{error}");
                assert!(error.contains("DISABLE_CERTIFICATE_VERIFICATION"), "{error}");
            }
        }
    }
}
