//! The result of a DTLS handshake for SRTP.

use std::fmt;

use crate::Profile;

/// SRTP keys of both directions, from the DTLS exporter (RFC 5764 section 4.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Keying {
    /// The negotiated protection profile.
    pub profile: Profile,
    /// Master key and salt of what the peer sends, key first.
    pub receive: Vec<u8>,
    /// Master key and salt of what we send, key first.
    pub send: Vec<u8>,
}

impl fmt::Debug for Keying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keying").field("profile", &self.profile).finish_non_exhaustive()
    }
}
