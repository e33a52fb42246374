//! Key stores: one file with a private key, its certificates, and the authorities whose clients are
//! trusted.

use std::path::Path;

use p12_keystore::{KeyStoreEntry, Pkcs12ImportPolicy, PrivateKeyChain, error::Error};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{TlsError, ec_key, tls};

/// The content of a key store that a server uses.
#[derive(Debug)]
pub(super) struct KeyStore {
    /// The server's certificate and the intermediate certificates up to an authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Trusted authorities of client certificates. `None` in a format that cannot tell them from the chain.
    pub trusted: Option<Vec<CertificateDer<'static>>>,
}

/// Magic numbers of Java's own formats, JKS and JCEKS.
const JAVA: [[u8; 4]; 2] = [[0xfe, 0xed, 0xfe, 0xed], [0xce, 0xce, 0xce, 0xce]];

/// First byte of DER: a sequence.
const DER: u8 = 0x30;

impl KeyStore {
    /// Reads a PKCS#12 or PEM file.
    ///
    /// # Errors
    /// Files that cannot be read, that this password does not open, or that have no server key.
    pub(super) fn read(path: &Path, password: &str) -> Result<Self, TlsError> {
        Self::parse(&path.display().to_string(), &tls::read(path)?, password)
    }

    fn parse(file: &str, bytes: &[u8], password: &str) -> Result<Self, TlsError> {
        let file = || file.to_owned();
        match bytes {
            [DER, ..] => pkcs12(file(), bytes, password),
            _ if JAVA.iter().any(|magic| bytes.starts_with(magic)) => {
                Err(TlsError::JavaKeyStore { file: file() })
            }
            _ => pem(&file(), bytes),
        }
    }
}

fn pem(file: &str, bytes: &[u8]) -> Result<KeyStore, TlsError> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
    {
        return Err(TlsError::EncryptedKey { file: file.to_owned() });
    }
    let (chain, key) = (tls::chain(file, bytes)?, tls::key(file, bytes)?);
    Ok(KeyStore { chain, key, trusted: None })
}

fn pkcs12(file: String, bytes: &[u8], password: &str) -> Result<KeyStore, TlsError> {
    let store = p12_keystore::KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Strict);
    let store = match store {
        Ok(store) => store,
        Err(Error::MacError(_)) => return Err(TlsError::Password { file }),
        Err(error) => return Err(TlsError::Pkcs12 { file, what: error.to_string() }),
    };
    let certificate = |c: &p12_keystore::Certificate| CertificateDer::from(c.as_der().to_vec());
    let mut chains: Vec<&PrivateKeyChain> = Vec::new();
    let mut trusted = Vec::new();
    for (_, entry) in store.entries() {
        match entry {
            KeyStoreEntry::PrivateKeyChain(chain) => {
                chains.push(chain);
                // As in Java: of the certificates that come with a key, only its own is trusted.
                trusted.extend(chain.certs().first().map(certificate));
            }
            KeyStoreEntry::Certificate(authority) => trusted.push(certificate(authority)),
            KeyStoreEntry::Secret(_) => {}
        }
    }
    let Some(first) = chains.first() else { return Err(TlsError::NoKey { file }) };
    if chains.len() > 1 {
        tracing::warn!(file, keys = chains.len(), "the key store has several keys: one is used");
    }
    let chain: Vec<_> = first.certs().iter().map(certificate).collect();
    let der = first.key().as_der();
    let completed = chain.first().and_then(|leaf| ec_key::completed(der, leaf));
    let key = PrivatePkcs8KeyDer::from(completed.unwrap_or_else(|| der.to_vec())).into();
    Ok(KeyStore { chain, key, trusted: Some(trusted) })
}

/// Limit on hashing rounds while fuzzing: thousands are usual, take milliseconds and find nothing more. The
/// stores in the corpus are from the usual tools, with one round.
const FEW_ROUNDS: u32 = 1 << 6;

/// Fuzz entry: an accepted file has a key and certificates, and a refused one gives its reason in one line.
/// The first byte chooses the password.
pub(crate) fn fuzz(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    // DER numbers of three and four bytes may be round counts.
    let long = bytes.windows(6).any(|at| match *at {
        [2, 2, a, b, ..] => u32::from_be_bytes([0, 0, a, b]) > FEW_ROUNDS,
        [2, 3, a, b, c, _] => u32::from_be_bytes([0, a, b, c]) > FEW_ROUNDS,
        [2, 4, ..] => true,
        _ => false,
    });
    if long && bytes.first() == Some(&DER) {
        return;
    }
    let password = ["changeit", "", "p\u{e4}ss"][usize::from(*first) % 3];
    match KeyStore::parse("store", bytes, password) {
        Ok(store) => {
            assert!(!store.chain.is_empty() && !store.key.secret_der().is_empty());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.len() < 4_096, "{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPENSSL: &[u8] = include_bytes!("../../tests/data/tls/openssl.p12");
    const LEGACY: &[u8] = include_bytes!("../../tests/data/tls/legacy.p12");
    const KEYTOOL: &[u8] = include_bytes!("../../tests/data/tls/keytool.p12");
    const KEYTOOL_EC: &[u8] = include_bytes!("../../tests/data/tls/keytool-ec.p12");
    const NO_KEY: &[u8] = include_bytes!("../../tests/data/tls/no-key.p12");
    const JKS: &[u8] = include_bytes!("../../tests/data/tls/old.jks");
    const PEM: &[u8] = include_bytes!("../../tests/data/tls/server.pem");
    const PASSWORD: &str = "changeit";

    fn refused(bytes: &[u8], password: &str) -> String {
        KeyStore::parse("store", bytes, password).unwrap_err().to_string()
    }

    #[test]
    fn key_stores_of_all_makers_are_read() {
        for (store, chain, trusted) in [
            (OPENSSL, 2, Some(1)),
            (LEGACY, 2, Some(1)),
            (KEYTOOL, 1, Some(2)),
            (KEYTOOL_EC, 1, Some(1)),
            (PEM, 2, None),
        ] {
            let store = KeyStore::parse("store", store, PASSWORD).unwrap();
            let has = (store.chain.len(), store.trusted.map(|trusted| trusted.len()));
            assert_eq!(has, (chain, trusted));
        }
    }

    #[test]
    fn what_cannot_be_used_says_why_and_never_the_password() {
        for store in [OPENSSL, LEGACY, KEYTOOL] {
            let wrong = "store cannot be opened with this key-store-password";
            assert_eq!(refused(store, "swordfish"), wrong);
            assert_eq!(refused(store, ""), wrong);
        }
        assert!(refused(NO_KEY, PASSWORD).contains("holds no private key with its certificate"));
        let convert = "keytool -importkeystore -srckeystore store -destkeystore store.p12 \
                       -deststoretype pkcs12";
        assert!(refused(JKS, PASSWORD).contains(convert));
        assert!(refused(b"", PASSWORD).contains("no PEM certificate"));
        assert!(refused(&OPENSSL[..900], PASSWORD).contains("cannot be read as PKCS#12"));
        let text = String::from_utf8_lossy(PEM).into_owned();
        let encrypted = text.replace("BEGIN PRIVATE KEY", "BEGIN ENCRYPTED PRIVATE KEY");
        assert!(refused(encrypted.as_bytes(), PASSWORD).contains("is encrypted"));
        let (certificates, _) = text.split_once("-----BEGIN PRIVATE").unwrap();
        assert!(refused(certificates.as_bytes(), PASSWORD).contains("no PEM private key"));
        let (empty, _) = text.split_once("-----BEGIN PRIVATE KEY-----\n").unwrap();
        let empty = format!("{empty}-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n");
        assert!(refused(empty.as_bytes(), PASSWORD).contains("no PEM private key"));
        // Without the line break, the line has bytes of the key.
        let joined = text.replace("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY");
        assert!(
            refused(joined.as_bytes(), PASSWORD).ends_with("begins a section and is malformed")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_is_an_error_and_no_panic(at in 0..NO_KEY.len(), to: u8, end in 0..NO_KEY.len()) {
            let mut bytes = NO_KEY.to_vec();
            bytes[at] = to;
            prop_assert!(KeyStore::parse("store", &bytes, PASSWORD).is_err());
            prop_assert!(KeyStore::parse("store", &bytes[..end], PASSWORD).is_err());
        }
    }
}
