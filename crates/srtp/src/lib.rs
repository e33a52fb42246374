//! SRTP and SRTCP (RFC 3711, RFC 7714): contexts, replay window, in-place seal and open.
//!
//! [`TxContext`] protects what is sent to one peer, [`RxContext`] decrypts what it sends. Both work
//! in the caller's buffer, never allocate per packet (except for an SRTCP sender seen for the first
//! time), and keep no state per SSRC: the sender's index is an argument, and the receiver's is in
//! an [`RxStream`] that the caller keeps with the source.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

mod cm;
#[doc(hidden)]
pub mod fuzz;
mod gcm;
mod kdf;
mod keying;
mod replay;
mod rx;
mod tx;

#[cfg(test)]
mod tests;

use thiserror::Error;

pub use keying::Keying;
pub use rx::{Opened, RxContext, RxStream};
pub use tx::TxContext;

/// Protection profiles (RFC 5764 section 4.1.2, RFC 7714 section 14.2), in order of preference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`.
    Aes128CmSha1_80,
    /// `SRTP_AES128_CM_HMAC_SHA1_32`: RTP with tags of 32 bits, RTCP as with the one above.
    Aes128CmSha1_32,
}

impl Profile {
    /// All profiles, the preferred one first.
    pub const ALL: [Self; 4] =
        [Self::AeadAes128Gcm, Self::AeadAes256Gcm, Self::Aes128CmSha1_80, Self::Aes128CmSha1_32];

    /// Length of the master key in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Length of the master salt in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => 14,
        }
    }

    /// Bytes that sealing adds to an RTP packet: the authentication tag.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => gcm::TAG_LEN,
            Self::Aes128CmSha1_80 => cm::TAG_LEN,
            Self::Aes128CmSha1_32 => cm::SHORT_TAG_LEN,
        }
    }

    /// Bytes that sealing adds to a compound RTCP packet: the tag and the index word.
    #[expect(clippy::arithmetic_side_effects, reason = "two small constants")]
    pub const fn rtcp_overhead(self) -> usize {
        let tag = match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => gcm::TAG_LEN,
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => cm::TAG_LEN,
        };
        tag + RTCP_INDEX_LEN
    }

    /// The name in the IANA registry of DTLS-SRTP protection profiles.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
            Self::Aes128CmSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
            Self::Aes128CmSha1_32 => "SRTP_AES128_CM_HMAC_SHA1_32",
        }
    }

    /// The profile of that name in the IANA registry, if it is one of these.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// The value in the `use_srtp` extension of DTLS (RFC 5764 section 4.1.2).
    pub const fn id(self) -> u16 {
        match self {
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
            Self::Aes128CmSha1_80 => 0x0001,
            Self::Aes128CmSha1_32 => 0x0002,
        }
    }

    /// The profile of that value in the `use_srtp` extension, if it is one of these.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.id() == id)
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a packet was not sealed or opened. In that case nothing but the packet's own bytes has
/// changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum SrtpError {
    /// The length of the key material does not fit the profile.
    #[error("the key material does not fit the profile")]
    KeyLength,
    /// The packet is shorter than its header and tag.
    #[error("the packet is too short")]
    Short,
    /// The buffer has no room for the tag.
    #[error("no room for the tag")]
    NoRoom,
    /// The tag does not match: forged, damaged, or other keys.
    #[error("authentication failed")]
    Auth,
    /// The index was seen before (RFC 3711 section 3.3.2).
    #[error("replayed")]
    Replay,
    /// The index is older than the replay window.
    #[error("older than the replay window")]
    TooOld,
    /// An SRTCP packet without encryption, which WebRTC does not allow.
    #[error("SRTCP without encryption")]
    Unencrypted,
    /// All indices of this key are used; new keys are needed (RFC 3711 section 9.2).
    #[error("the key is exhausted")]
    Exhausted,
}

/// Length of the SRTCP index word in bytes.
const RTCP_INDEX_LEN: usize = 4;
/// Length of the part of an RTCP packet that stays clear, in bytes (RFC 3711 section 3.4).
const RTCP_CLEAR_LEN: usize = 8;
/// The E bit of the SRTCP index word: the packet is encrypted.
const RTCP_E_BIT: u32 = 1 << 31;
/// Largest index of a packet: 32 bits of roll-over counter and 16 of sequence number.
const MAX_RTP_INDEX: u64 = (1 << 48) - 1;

/// Length of the fixed part of an RTP header, in bytes (RFC 3550 section 5.1).
const RTP_FIXED_LEN: usize = 12;

/// Reads a big-endian 32-bit integer at `at`.
#[inline]
fn be32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

/// The keyed transform of one direction and of RTP or RTCP. This enum is the interface to the
/// cipher libraries; `docs/decisions.md` has the measurements that chose them.
#[expect(
    clippy::large_enum_variant,
    reason = "a pointer to follow per packet costs more than the space"
)]
enum Cipher {
    Gcm(gcm::Gcm),
    Cm(cm::Cm),
}

/// Session keys of one direction.
struct Session {
    rtp: Cipher,
    rtcp: Cipher,
}

impl Session {
    /// Derives the session keys from a master key followed by its salt (RFC 3711 section 4.3).
    #[expect(clippy::arithmetic_side_effects, reason = "two small constants")]
    fn new(profile: Profile, key_and_salt: &[u8]) -> Result<Self, SrtpError> {
        if key_and_salt.len() != profile.key_len() + profile.salt_len() {
            return Err(SrtpError::KeyLength);
        }
        let (key, salt) =
            key_and_salt.split_at_checked(profile.key_len()).ok_or(SrtpError::KeyLength)?;
        let kdf = kdf::Kdf::new(key, salt)?;
        let cipher = |labels: kdf::Labels| -> Result<Cipher, SrtpError> {
            Ok(match profile {
                Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                    Cipher::Gcm(gcm::Gcm::derive(&kdf, labels, profile.key_len())?)
                }
                Profile::Aes128CmSha1_80 => Cipher::Cm(cm::Cm::derive(&kdf, labels, false)),
                Profile::Aes128CmSha1_32 => Cipher::Cm(cm::Cm::derive(&kdf, labels, true)),
            })
        };
        Ok(Self { rtp: cipher(kdf::RTP)?, rtcp: cipher(kdf::RTCP)? })
    }
}
