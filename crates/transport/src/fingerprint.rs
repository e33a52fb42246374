//! Certificate fingerprints (RFC 8122): parsing, formatting, matching.

use std::fmt;

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};

/// A hash function that a fingerprint may use. The weaker ones of RFC 8122 (md5, md2, sha-224) are
/// refused, as in JVB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hash {
    /// `sha-1`.
    Sha1,
    /// `sha-256`.
    Sha256,
    /// `sha-384`.
    Sha384,
    /// `sha-512`.
    Sha512,
}

impl Hash {
    /// All, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sha512, Self::Sha384, Self::Sha256, Self::Sha1];

    /// Parses the signalled name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_str()))
    }

    /// The signalled name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Length of a fingerprint, bytes.
    pub fn output_len(self) -> usize {
        self.algorithm().output_len()
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        }
    }
}

/// Who opens the DTLS connection (RFC 4145 section 4, RFC 5763 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Setup {
    /// The signaller is the client.
    Active,
    /// The signaller is the server.
    Passive,
    /// The signaller takes either role; the other one chooses.
    Actpass,
    /// No connection for now.
    Holdconn,
}

impl Setup {
    /// The signalled name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Actpass => "actpass",
            Self::Holdconn => "holdconn",
        }
    }

    /// Parses the signalled name.
    pub fn parse(name: &str) -> Result<Self, FingerprintError> {
        Ok(match name {
            "active" => Self::Active,
            "passive" => Self::Passive,
            "actpass" => Self::Actpass,
            "holdconn" => Self::Holdconn,
            _ => return Err(FingerprintError::UnknownSetup),
        })
    }
}

/// A signalled fingerprint.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The hash function.
    pub hash: Hash,
    /// The role that was signalled with it, if any.
    pub setup: Option<Setup>,
    /// The hash value, [`Hash::output_len`] bytes.
    pub bytes: Vec<u8>,
}

/// Why a fingerprint was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FingerprintError {
    /// A hash function that is unknown or too weak.
    #[error("unknown or unacceptable hash function")]
    UnknownHash,
    /// A `setup` other than the four of RFC 4145.
    #[error("unknown setup")]
    UnknownSetup,
    /// Not pairs of hexadecimal digits with colons between them.
    #[error("not pairs of hexadecimal digits with colons between them")]
    Syntax,
    /// The value is longer or shorter than the hash function's.
    #[error("{found} bytes where the hash function has {expected}")]
    Length {
        /// Bytes of the hash function.
        expected: usize,
        /// Bytes in the value.
        found: usize,
    },
}

impl Fingerprint {
    /// Parses the signalled hash name (any case) and value (`AB:CD:…`, any case).
    pub fn parse(hash: &str, value: &str, setup: Option<Setup>) -> Result<Self, FingerprintError> {
        let hash = Hash::parse(hash).ok_or(FingerprintError::UnknownHash)?;
        let bytes = decode(value)?;
        if bytes.len() != hash.output_len() {
            return Err(FingerprintError::Length {
                expected: hash.output_len(),
                found: bytes.len(),
            });
        }
        Ok(Self { hash, setup, bytes })
    }

    /// The fingerprint of a certificate (DER).
    pub fn of(hash: Hash, certificate: &[u8], setup: Option<Setup>) -> Self {
        Self { hash, setup, bytes: digest(hash.algorithm(), certificate).as_ref().to_vec() }
    }

    /// Returns whether this is the fingerprint of a certificate (DER).
    pub fn matches(&self, certificate: &[u8]) -> bool {
        digest(self.hash.algorithm(), certificate).as_ref() == self.bytes.as_slice()
    }

    /// The signalled form of the value: upper-case pairs with colons.
    pub fn value(&self) -> String {
        let mut out = String::with_capacity(self.bytes.len() * 3);
        for byte in &self.bytes {
            if !out.is_empty() {
                out.push(':');
            }
            for nibble in [byte >> 4, byte & 15] {
                out.push(
                    char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase(),
                );
            }
        }
        out
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.hash.as_str(), self.value(), self.setup)
    }
}

fn decode(value: &str) -> Result<Vec<u8>, FingerprintError> {
    value
        .split(':')
        .map(|pair| match *pair.as_bytes() {
            [high, low] => {
                let digit = |c: u8| char::from(c).to_digit(16).ok_or(FingerprintError::Syntax);
                Ok((digit(high)? * 16 + digit(low)?) as u8)
            }
            _ => Err(FingerprintError::Syntax),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_captured_one() {
        let value = "DE:2D:D3:09:AA:A9:B6:0C:67:7F:D5:D8:42:F1:BB:B3:\
                     E0:3A:04:83:B2:0F:05:A2:12:32:D2:1A:1E:13:DB:8C";
        let print = Fingerprint::parse("SHA-256", value, Some(Setup::Actpass)).unwrap();
        assert_eq!(print.bytes.first(), Some(&0xde));
        assert_eq!(print.value(), value);
        assert_eq!(
            Fingerprint::parse("sha-256", &value.to_lowercase(), None).unwrap().value(),
            value
        );
    }

    #[test]
    fn refuses_what_is_not_one() {
        let parse = |hash, value| Fingerprint::parse(hash, value, None).unwrap_err();
        assert_eq!(parse("md5", "00"), FingerprintError::UnknownHash);
        assert_eq!(parse("sha-1", "00:11"), FingerprintError::Length { expected: 20, found: 2 });
        for bad in ["", ":", "0", "000", "0:1", "gg", "00:", "+1", " 0:11", "00 11", "é"] {
            assert_eq!(parse("sha-1", bad), FingerprintError::Syntax, "{bad}");
        }
        assert_eq!(Setup::parse("ACTIVE"), Err(FingerprintError::UnknownSetup));
    }

    #[test]
    fn matches_only_its_certificate() {
        for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let print = Fingerprint::of(hash, b"abc", None);
            assert_eq!(print.bytes.len(), hash.output_len());
            assert!(print.matches(b"abc"));
            assert!(!print.matches(b"abd"));
        }
        // FIPS 180-4, the example of one block.
        assert!(Fingerprint::of(Hash::Sha1, b"abc", None).value().starts_with("A9:99:3E:36"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(hash in "(sha-1|sha-256|.*)", value in "([0-9A-Fa-f:]|.)*") {
            if let Ok(print) = Fingerprint::parse(&hash, &value, None) {
                prop_assert_eq!(print.value(), value.to_uppercase());
            }
        }
    }
}
