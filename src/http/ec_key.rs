//! Completes elliptic curve keys as Java writes them: without the public key, which *ring* requires beside
//! the private key. The certificate has the public key.

/// The constant DER bytes of a curve's keys.
struct Curve {
    /// AlgorithmIdentifier (RFC 5480 section 2.1.1), content of the sequence.
    algorithm: &'static [u8],
    /// Length of the private key in bytes; the public key has twice as many plus one.
    length: usize,
}

const P256: Curve = Curve {
    algorithm: b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    length: 32,
};

const P384: Curve = Curve {
    algorithm: b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22",
    length: 48,
};

/// Returns the PKCS#8 `key` with the public key of `certificate` added; `None` when `key` is not such a key
/// or is not on the certificate's curve. The TLS library checks whether the two belong together.
pub(super) fn completed(key: &[u8], certificate: &[u8]) -> Option<Vec<u8>> {
    [P256, P384].iter().find_map(|curve| {
        let private = key.strip_prefix(&*curve.head(&[])).filter(|k| k.len() == curve.length)?;
        let public = curve.public(certificate)?;
        let public = der(0xa1, &[&der(0x03, &[&[0], public])]);
        Some([&*curve.head(&public), private, &public].concat())
    })
}

impl Curve {
    /// A PrivateKeyInfo with an ECPrivateKey (RFC 5208, RFC 5915) up to and including the private key,
    /// followed by `rest`.
    fn head(&self, rest: &[u8]) -> Vec<u8> {
        let private = der(0x04, &[&vec![0; self.length]]);
        let key = der(0x30, &[b"\x02\x01\x01", &private, rest]);
        let algorithm = der(0x30, &[self.algorithm]);
        let mut all = der(0x30, &[b"\x02\x01\x00", &algorithm, &der(0x04, &[&key])]);
        all.truncate(all.len().saturating_sub(self.length + rest.len()));
        all
    }

    /// The public key of a certificate: the bytes after the curve's identifier.
    fn public<'a>(&self, certificate: &'a [u8]) -> Option<&'a [u8]> {
        let length = 2 * self.length + 1;
        let mut head = der(0x30, &[self.algorithm]);
        head.extend([0x03, u8::try_from(length + 1).ok()?, 0, 0x04]);
        let at = certificate.windows(head.len()).position(|window| window == head)?;
        let start = at + head.len() - 1;
        certificate.get(start..start + length)
    }
}

/// Encodes a DER value of at most 255 bytes.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = value.len() as u8;
    let head: &[u8] = if length < 0x80 { &[tag, length] } else { &[tag, 0x81, length] };
    [head, &value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gets_its_public_key_back() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
            let whole = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let certificate = rcgen::CertificateParams::default().self_signed(&whole).unwrap();
            let curve = if whole.public_key_raw().len() == 65 { P256 } else { P384 };
            // *ring* writes keys with both private and public key.
            let der = whole.serialize_der();
            let public = vec![0; 5 + 2 * curve.length + 1];
            let private = &der[curve.head(&public).len()..][..curve.length];
            let half = [&*curve.head(&[]), private].concat();
            assert_eq!(completed(&half, certificate.der()).unwrap(), der);
            assert_eq!(completed(&der, certificate.der()), None, "is whole");
            assert_eq!(completed(&half, b"no certificate"), None);
            assert_eq!(completed(&half[1..], certificate.der()), None);
        }
    }
}
