//! HTTPS: for browsers, which allow cameras on secure pages only, and for servers with a key store.

use std::{io, path::Path, sync::Arc};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    version,
};

use super::key_store::KeyStore;
use crate::config;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A file contains no PEM of the right kind.
    #[error("{file} holds no PEM {what}: {}", fault_of(source))]
    Pem {
        /// The file.
        file: String,
        /// `certificate` or `private key`.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// A PEM file whose key is encrypted.
    #[error(
        "the private key in {file} is encrypted: write it without a password, or make a PKCS#12 file"
    )]
    EncryptedKey {
        /// The file.
        file: String,
    },
    /// A key store in a format that only Java reads.
    #[error(
        "{file} is a key store of Java's own format. This makes one to use instead: keytool \
         -importkeystore -srckeystore {file} -destkeystore {file}.p12 -deststoretype pkcs12"
    )]
    JavaKeyStore {
        /// The file.
        file: String,
    },
    /// The password does not open the key store.
    #[error("{file} cannot be opened with this key-store-password")]
    Password {
        /// The file.
        file: String,
    },
    /// A damaged key store, or one of an unknown kind.
    #[error("{file} cannot be read as PKCS#12: {what}")]
    Pkcs12 {
        /// The file.
        file: String,
        /// Why not.
        what: String,
    },
    /// A key store with certificates only.
    #[error("{file} holds no private key with its certificate")]
    NoKey {
        /// The file.
        file: String,
    },
    /// A PEM file where client certificates are required.
    #[error(
        "need-client-auth needs a PKCS#12 key store with the authorities that are trusted (keytool \
         -importcert): {file} is PEM"
    )]
    NoTrust {
        /// The file.
        file: String,
    },
    /// Client authorities that cannot be used.
    #[error("need-client-auth: the certificates of {file} cannot be trusted: {source}")]
    Trust {
        /// The file.
        file: String,
        /// Why not.
        source: VerifierBuilderError,
    },
    /// The configured versions and cipher suites leave nothing to negotiate.
    #[error(
        "tls-protocols and tls-cipher-suites leave nothing to speak: there are TLSv1.2 and TLSv1.3, \
         with {}",
        suite_names()
    )]
    Nothing,
    /// A key store whose key does not match its certificate, or is of an unsupported kind.
    #[error(
        "certificate and key of {file} cannot be used (keys may be RSA, ECDSA with P-256 or P-384, \
         or Ed25519): {source}"
    )]
    Key {
        /// The file.
        file: String,
        /// Why not.
        source: rustls::Error,
    },
    /// Certificate and key do not match, or are of an unsupported kind.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The part of a server's TLS configuration that has to be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsPart {
    /// The key store.
    KeyStore,
    /// Its password.
    Password,
    /// The requirement of client certificates.
    ClientAuth,
    /// The cipher suites.
    CipherSuites,
}

impl TlsError {
    /// Returns the part that has to be changed, for errors of a server with a key store.
    pub fn part(&self) -> TlsPart {
        match self {
            Self::Password { .. } => TlsPart::Password,
            Self::NoTrust { .. } | Self::Trust { .. } => TlsPart::ClientAuth,
            Self::Nothing => TlsPart::CipherSuites,
            Self::Unreadable { .. }
            | Self::Pem { .. }
            | Self::EncryptedKey { .. }
            | Self::JavaKeyStore { .. }
            | Self::Pkcs12 { .. }
            | Self::NoKey { .. }
            | Self::Key { .. }
            | Self::Unusable(_) => TlsPart::KeyStore,
        }
    }
}

/// The TLS configuration of an HTTPS server, with its certificate.
#[derive(Clone, Debug)]
pub struct Https {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificate: Option<CertificateDer<'static>>,
}

impl Https {
    /// Returns the server's own certificate.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.certificate.clone()
    }
}

/// Reads a certificate chain and its key, both PEM.
///
/// # Errors
/// Files that cannot be read, have the wrong content, or do not belong together.
pub fn tls_config(certificate: &Path, key: &Path) -> Result<Https, TlsError> {
    let chain = chain(&certificate.display().to_string(), &read(certificate)?)?;
    let key = self::key(&key.display().to_string(), &read(key)?)?;
    let certificate = chain.first().cloned();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Https { config: http1(config), certificate })
}

/// Returns the TLS configuration of a server with a key store; `None` without one.
///
/// # Errors
/// A key store that cannot be used, or no version or cipher suite left.
pub fn server_tls(tls: &config::Tls) -> Result<Option<Https>, TlsError> {
    let Some(path) = &tls.key_store else { return Ok(None) };
    let store = KeyStore::read(path, tls.password.reveal())?;
    let provider = Arc::new(provider(&tls.cipher_suites));
    let versions = versions(&tls.protocols);
    let speaks = |suite: &SupportedCipherSuite| versions.contains(&suite.version());
    if !provider.cipher_suites.iter().any(speaks) {
        return Err(TlsError::Nothing);
    }
    let clients = match (tls.need_client_auth, store.trusted) {
        (false, _) => WebPkiClientVerifier::no_client_auth(),
        (true, None) => return Err(TlsError::NoTrust { file: path.display().to_string() }),
        (true, Some(trusted)) => clients(trusted, &provider)
            .map_err(|source| TlsError::Trust { file: path.display().to_string(), source })?,
    };
    let certificate = store.chain.first().cloned();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .with_client_cert_verifier(clients)
        .with_single_cert(store.chain, store.key)
        .map_err(|source| TlsError::Key { file: path.display().to_string(), source })?;
    Ok(Some(Https { config: http1(config), certificate }))
}

/// Requires client certificates from one of the `trusted` authorities.
fn clients(
    trusted: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()
}

/// Returns the provider with the named cipher suites; all suites when `names` is empty.
fn provider(names: &[String]) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !names.is_empty() {
        provider.cipher_suites.retain(|suite| names.contains(&suite_name(*suite)));
    }
    provider
}

/// Returns the named versions; all versions when `names` is empty.
fn versions(names: &[String]) -> Vec<&'static SupportedProtocolVersion> {
    let named = |(name, _): &(&str, _)| names.is_empty() || names.iter().any(|n| n == name);
    VERSIONS.into_iter().filter(named).map(|(_, version)| version).collect()
}

/// TLS versions by Java's names.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("TLSv1.2", &version::TLS12), ("TLSv1.3", &version::TLS13)];

/// The suite's name as in IANA's registry and in Java.
fn suite_name(suite: SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn suite_names() -> String {
    let names: Vec<String> = ring::ALL_CIPHER_SUITES.iter().copied().map(suite_name).collect();
    names.join(", ")
}

fn http1(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path)
        .map_err(|source| TlsError::Unreadable { file: path.display().to_string(), source })
}

/// Describes an error in a PEM file. The library's message may quote a line, which may be part of a key and
/// of any length, so it is not shown.
fn fault_of(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section does not end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => {
            "a line begins a section and is malformed".to_owned()
        }
        pem::Error::NoItemsFound => "there is none".to_owned(),
        other => other.to_string(),
    }
}

/// Returns all certificates of a PEM file; at least one.
pub(super) fn chain(file: &str, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem { file: file.to_owned(), what: "certificate", source };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(wrong)?;
    if chain.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

/// Returns the first key of a PEM file.
pub(super) fn key(file: &str, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |source| TlsError::Pem { file: file.to_owned(), what: "private key", source };
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(wrong)?;
    if key.secret_der().is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_knows_what_the_library_has() {
        assert_eq!(VERSIONS.map(|(name, _)| name), config::TLS_PROTOCOLS);
        let mut names: Vec<String> =
            ring::ALL_CIPHER_SUITES.iter().copied().map(suite_name).collect();
        names.sort();
        let mut known = config::TLS_CIPHER_SUITES;
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
