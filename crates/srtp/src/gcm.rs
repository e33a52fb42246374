//! AES-GCM for SRTP and SRTCP (RFC 7714).
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::kdf::{Kdf, Labels};
use super::{RTCP_CLEAR_LEN, RTCP_E_BIT, RTCP_INDEX_LEN, SrtpError};

/// Length of the tag in bytes.
pub(super) const TAG_LEN: usize = 16;

/// An AES-GCM session key with its salt.
pub(super) struct Gcm {
    key: LessSafeKey,
    /// The 96-bit salt.
    salt: u128,
}

impl Gcm {
    /// Derives key and salt; `key_len` is 16 or 32.
    pub(super) fn derive(kdf: &Kdf, labels: Labels, key_len: usize) -> Result<Self, SrtpError> {
        let mut key = [0u8; 32];
        let key = key.get_mut(..key_len).ok_or(SrtpError::KeyLength)?;
        kdf.derive(labels.key, key);
        let salt: [u8; 12] = kdf.array(labels.salt);
        Self::new(key, salt)
    }

    /// Uses session keys as given.
    pub(super) fn new(key: &[u8], salt: [u8; 12]) -> Result<Self, SrtpError> {
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        let key = UnboundKey::new(algorithm, key).map_err(|_| SrtpError::KeyLength)?;
        let salt = salt.iter().fold(0, |salt, byte| (salt << 8) | u128::from(*byte));
        Ok(Self { key: LessSafeKey::new(key), salt })
    }

    /// The nonce (RFC 7714 sections 8.1 and 9.1): SSRC and 48-bit index, both xored with the salt.
    #[inline]
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let value = self.salt ^ (u128::from(ssrc) << 48) ^ u128::from(index);
        let [_, _, _, _, nonce @ ..] = value.to_be_bytes();
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals `buf[..plain_len]`, whose first `header_len` bytes stay clear, and appends the tag.
    #[inline]
    pub(super) fn seal_rtp(
        &self,
        buf: &mut [u8],
        header_len: usize,
        plain_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        let (header, rest) = buf.split_at_mut_checked(header_len).ok_or(SrtpError::NoRoom)?;
        let payload_len = plain_len.checked_sub(header_len).ok_or(SrtpError::Short)?;
        let (payload, tail) = rest.split_at_mut_checked(payload_len).ok_or(SrtpError::NoRoom)?;
        let out = tail.first_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(&*header), payload)
            .map_err(|_| SrtpError::Auth)?;
        out.copy_from_slice(tag.as_ref());
        Ok(plain_len + TAG_LEN)
    }

    /// Opens a packet whose first `header_len` bytes are clear; returns its plain length.
    #[inline]
    pub(super) fn open_rtp(
        &self,
        buf: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        let (header, sealed) = buf.split_at_mut_checked(header_len).ok_or(SrtpError::Short)?;
        let plain = self
            .key
            .open_in_place(self.nonce(ssrc, index), Aad::from(&*header), sealed)
            .map_err(|_| SrtpError::Auth)?;
        Ok(header_len + plain.len())
    }

    /// Seals a compound RTCP packet: the clear eight bytes, ciphertext, tag, index word (RFC 7714
    /// section 9).
    pub(super) fn seal_rtcp(
        &self,
        buf: &mut [u8],
        plain_len: usize,
        ssrc: u32,
        index: u32,
    ) -> Result<usize, SrtpError> {
        let len = plain_len + TAG_LEN + RTCP_INDEX_LEN;
        let buf = buf.get_mut(..len).ok_or(SrtpError::NoRoom)?;
        let word = (index | RTCP_E_BIT).to_be_bytes();
        let (clear, rest) =
            buf.split_first_chunk_mut::<RTCP_CLEAR_LEN>().ok_or(SrtpError::Short)?;
        let secret_len = plain_len.checked_sub(RTCP_CLEAR_LEN).ok_or(SrtpError::Short)?;
        let (secret, tail) = rest.split_at_mut_checked(secret_len).ok_or(SrtpError::Short)?;
        let (tag_out, word_out) =
            tail.split_first_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let aad = Self::rtcp_aad(*clear, word);
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(ssrc, u64::from(index)), Aad::from(aad), secret)
            .map_err(|_| SrtpError::Auth)?;
        tag_out.copy_from_slice(tag.as_ref());
        word_out.copy_from_slice(&word);
        Ok(len)
    }

    /// Opens a compound SRTCP packet with its index word; returns its plain length.
    pub(super) fn open_rtcp(
        &self,
        buf: &mut [u8],
        ssrc: u32,
        index: u32,
    ) -> Result<usize, SrtpError> {
        let (body, word) = buf.split_last_chunk_mut::<RTCP_INDEX_LEN>().ok_or(SrtpError::Short)?;
        let (clear, sealed) =
            body.split_first_chunk_mut::<RTCP_CLEAR_LEN>().ok_or(SrtpError::Short)?;
        let aad = Self::rtcp_aad(*clear, *word);
        let plain = self
            .key
            .open_in_place(self.nonce(ssrc, u64::from(index)), Aad::from(aad), sealed)
            .map_err(|_| SrtpError::Auth)?;
        Ok(RTCP_CLEAR_LEN + plain.len())
    }

    /// The additional data of SRTCP: the clear header, then the index word with its E bit.
    fn rtcp_aad(clear: [u8; RTCP_CLEAR_LEN], word: [u8; RTCP_INDEX_LEN]) -> [u8; 12] {
        let mut aad = [0; RTCP_CLEAR_LEN + RTCP_INDEX_LEN];
        let (clear_out, word_out) = aad.split_at_mut(RTCP_CLEAR_LEN);
        clear_out.copy_from_slice(&clear);
        word_out.copy_from_slice(&word);
        aad
    }
}
