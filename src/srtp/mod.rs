//! SRTP and SRTCP (RFC 3711, RFC 7714): contexts, replay window, in-place seal and open.

/// Protection profiles (RFC 5764 section 4.1.2, RFC 7714 section 14.2), in order of preference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`.
    Aes128CmSha1_80,
}
