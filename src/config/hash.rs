//! `jmt.dtls`: hash functions of certificate fingerprints (RFC 8122), as keys name them.

/// A hash function. The weaker ones of RFC 8122 (md5, md2, sha-224) are not supported, as in JVB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// All hash functions, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sha512, Self::Sha384, Self::Sha256, Self::Sha1];

    /// Parses a name, ignoring case.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_str()))
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }
}
