//! The certificates that this system trusts.

use std::sync::OnceLock;

use rustls_pki_types::CertificateDer;

/// The system's trusted certificates, read once.
pub(crate) fn trusted() -> &'static [CertificateDer<'static>] {
    static CERTIFICATES: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    CERTIFICATES.get_or_init(|| rustls_native_certs::load_native_certs().certs)
}
