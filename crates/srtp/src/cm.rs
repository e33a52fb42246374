//! AES in counter mode with HMAC-SHA1 tags of 80 or 32 bits (RFC 3711 sections 4.1.1 and 4.2.1).
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use aes::Aes128Enc;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::kdf::{Kdf, Labels};
use super::{RTCP_CLEAR_LEN, RTCP_E_BIT, RTCP_INDEX_LEN, SrtpError};

/// Length of the tag in bytes.
pub(super) const TAG_LEN: usize = 10;
/// Length of an RTP packet's tag in `SRTP_AES128_CM_HMAC_SHA1_32`. Its SRTCP has tags of 80 bits
/// (RFC 5764 section 4.1.2).
pub(super) const SHORT_TAG_LEN: usize = 4;

/// Session keys of `AES_CM_128_HMAC_SHA1_80` or, for RTP, `_32`.
pub(super) struct Cm {
    aes: Aes128Enc,
    /// The 112-bit salt, shifted left by 16 as it enters the counter block.
    salt: u128,
    /// The keyed state after the inner and outer pads; cloned for each packet.
    mac: Hmac<Sha1>,
    /// RTP packets have tags of [`SHORT_TAG_LEN`].
    short: bool,
}

impl Cm {
    /// Derives encryption key, authentication key and salt. `short`: of `SHA1_32`.
    pub(super) fn derive(kdf: &Kdf, labels: Labels, short: bool) -> Self {
        Self::new(kdf.array(labels.key), kdf.array(labels.salt), kdf.array(labels.auth), short)
    }

    /// Uses session keys as given.
    pub(super) fn new(key: [u8; 16], salt: [u8; 14], auth: [u8; 20], short: bool) -> Self {
        let salt = salt.iter().fold(0, |salt, byte| (salt << 8) | u128::from(*byte)) << 16;
        // A key shorter than the block is padded with zeros (RFC 2104 section 2).
        let mut block = [0u8; 64];
        for (to, from) in block.iter_mut().zip(auth) {
            *to = from;
        }
        Self {
            aes: Aes128Enc::new(&key.into()),
            salt,
            mac: <Hmac<Sha1> as KeyInit>::new(&block.into()),
            short,
        }
    }

    /// Xors the key stream of (ssrc, index) into `data` (RFC 3711 section 4.1.1).
    #[inline]
    pub(super) fn apply(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        let counter = self.salt ^ (u128::from(ssrc) << 64) ^ (u128::from(index) << 16);
        let iv = counter.to_be_bytes();
        let core = CtrCore::<&Aes128Enc, Ctr128BE>::inner_iv_init(&self.aes, (&iv).into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }

    #[inline]
    fn tag<const LEN: usize>(&self, parts: [&[u8]; 2]) -> [u8; LEN] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        let full: [u8; 20] = mac.finalize().into_bytes().into();
        let mut tag = [0; LEN];
        for (to, from) in tag.iter_mut().zip(full) {
            *to = from;
        }
        tag
    }

    #[inline]
    fn verify(&self, parts: [&[u8]; 2], tag: &[u8]) -> Result<(), SrtpError> {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        mac.verify_truncated_left(tag).map_err(|_| SrtpError::Auth)
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
        if self.short {
            self.seal_with::<SHORT_TAG_LEN>(buf, header_len, plain_len, ssrc, index)
        } else {
            self.seal_with::<TAG_LEN>(buf, header_len, plain_len, ssrc, index)
        }
    }

    #[inline]
    fn seal_with<const LEN: usize>(
        &self,
        buf: &mut [u8],
        header_len: usize,
        plain_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        let (packet, tail) = buf.split_at_mut_checked(plain_len).ok_or(SrtpError::NoRoom)?;
        let out = tail.first_chunk_mut::<LEN>().ok_or(SrtpError::NoRoom)?;
        self.apply(ssrc, index, packet.get_mut(header_len..).ok_or(SrtpError::Short)?);
        *out = self.tag([packet, &roc(index)]);
        Ok(plain_len + LEN)
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
        if self.short {
            self.open_with::<SHORT_TAG_LEN>(buf, header_len, ssrc, index)
        } else {
            self.open_with::<TAG_LEN>(buf, header_len, ssrc, index)
        }
    }

    #[inline]
    fn open_with<const LEN: usize>(
        &self,
        buf: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        let (packet, tag) = buf.split_last_chunk_mut::<LEN>().ok_or(SrtpError::Short)?;
        self.verify([packet, &roc(index)], tag)?;
        let len = packet.len();
        self.apply(ssrc, index, packet.get_mut(header_len..).ok_or(SrtpError::Short)?);
        Ok(len)
    }

    /// Seals a compound RTCP packet: the clear eight bytes, ciphertext, index word, tag (RFC 3711
    /// section 3.4).
    pub(super) fn seal_rtcp(
        &self,
        buf: &mut [u8],
        plain_len: usize,
        ssrc: u32,
        index: u32,
    ) -> Result<usize, SrtpError> {
        let (packet, tail) = buf.split_at_mut_checked(plain_len).ok_or(SrtpError::NoRoom)?;
        let (word_out, tail) =
            tail.split_first_chunk_mut::<RTCP_INDEX_LEN>().ok_or(SrtpError::NoRoom)?;
        let tag_out = tail.first_chunk_mut::<TAG_LEN>().ok_or(SrtpError::NoRoom)?;
        let secret = packet.get_mut(RTCP_CLEAR_LEN..).ok_or(SrtpError::Short)?;
        self.apply(ssrc, u64::from(index), secret);
        *word_out = (index | RTCP_E_BIT).to_be_bytes();
        *tag_out = self.tag([packet, word_out]);
        Ok(plain_len + RTCP_INDEX_LEN + TAG_LEN)
    }

    /// Opens a compound SRTCP packet with its index word and tag; returns its plain length.
    pub(super) fn open_rtcp(
        &self,
        buf: &mut [u8],
        ssrc: u32,
        index: u32,
    ) -> Result<usize, SrtpError> {
        let (packet, tag) = buf.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::Short)?;
        self.verify([packet, &[]], tag)?;
        let len = packet.len().checked_sub(RTCP_INDEX_LEN).ok_or(SrtpError::Short)?;
        let secret = packet.get_mut(RTCP_CLEAR_LEN..len).ok_or(SrtpError::Short)?;
        self.apply(ssrc, u64::from(index), secret);
        Ok(len)
    }
}

/// The roll-over counter as it enters the tag.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the roll-over counter has 32 bits (RFC 3711 section 3.3.1)"
)]
fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::hex;

    /// RFC 3711 appendix B.2: the first and the last key stream blocks of a segment.
    #[test]
    fn key_stream_vectors() {
        let key: [u8; 16] = hex("2B7E151628AED2A6ABF7158809CF4F3C").try_into().unwrap();
        let salt: [u8; 14] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let cm = Cm::new(key, salt, [0; 20], false);
        let mut stream = vec![0u8; 0xff02 * 16];
        cm.apply(0, 0, &mut stream);
        assert_eq!(
            stream[..48],
            hex("E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB\
                 41E95B3BB0A2E8DD477901E4FCA894C0")
        );
        assert_eq!(
            stream[0xfeff * 16..],
            hex("EC8CDF7398607CB0F2D21675EA9EA1E4362B7C3C6773516318A077D7FC5073AE\
                 6A2CC3787889374FBEB4C81B17BA6C44")
        );
    }
}
