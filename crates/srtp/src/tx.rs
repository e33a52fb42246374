//! Encrypts what is sent to one peer.

use std::fmt;

use super::{Cipher, MAX_RTP_INDEX, Profile, RTCP_E_BIT, Session, SrtpError};

/// The sending side of one peer's SRTP session.
///
/// RTP is stateless: the caller owns sequence numbers and roll-over counters, and must never use an
/// (SSRC, index) pair twice with other bytes. SRTCP has one index counter for the context.
pub struct TxContext {
    profile: Profile,
    session: Session,
    rtcp_index: u32,
}

impl TxContext {
    /// Derives the session keys from a master key followed by its master salt.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] when the length is not that of the profile.
    pub fn new(profile: Profile, key_and_salt: &[u8]) -> Result<Self, SrtpError> {
        Ok(Self { profile, session: Session::new(profile, key_and_salt)?, rtcp_index: 0 })
    }

    /// The protection profile.
    #[inline]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Seals, in place, the plain packet in `buf[..plain_len]`, whose first `header_len` bytes are
    /// its RTP header, and appends the tag; returns the length of the SRTP packet.
    ///
    /// `index` is roll-over counter << 16 | sequence number (RFC 3711 section 3.3.1). A stream must
    /// start with a roll-over counter of zero, because that is the receiver's first guess.
    ///
    /// # Errors
    /// [`SrtpError::NoRoom`] when `buf` has not [`Profile::rtp_overhead`] bytes after the packet,
    /// [`SrtpError::Short`] when the header is longer than the packet, [`SrtpError::Exhausted`] when
    /// the index has more than 48 bits.
    #[inline]
    pub fn seal_rtp(
        &self,
        buf: &mut [u8],
        header_len: usize,
        plain_len: usize,
        index: u64,
        ssrc: u32,
    ) -> Result<usize, SrtpError> {
        if index > MAX_RTP_INDEX {
            return Err(SrtpError::Exhausted);
        }
        match &self.session.rtp {
            Cipher::Gcm(gcm) => gcm.seal_rtp(buf, header_len, plain_len, ssrc, index),
            Cipher::Cm(cm) => cm.seal_rtp(buf, header_len, plain_len, ssrc, index),
        }
    }

    /// Seals, in place, the compound RTCP packet in `buf[..plain_len]` and appends index and tag;
    /// returns the length of the SRTCP packet. The SSRC is that of the first packet's sender.
    ///
    /// # Errors
    /// [`SrtpError::NoRoom`] when `buf` has not [`Profile::rtcp_overhead`] bytes after the packet,
    /// [`SrtpError::Short`] when the packet is shorter than eight bytes, [`SrtpError::Exhausted`]
    /// after 2^31 packets.
    #[expect(clippy::arithmetic_side_effects, reason = "compared with 2^31 before")]
    pub fn seal_rtcp(&mut self, buf: &mut [u8], plain_len: usize) -> Result<usize, SrtpError> {
        let index = self.rtcp_index;
        if index >= RTCP_E_BIT {
            return Err(SrtpError::Exhausted);
        }
        if plain_len < super::RTCP_CLEAR_LEN {
            return Err(SrtpError::Short);
        }
        let ssrc = super::be32(buf, 4).ok_or(SrtpError::Short)?;
        let len = match &self.session.rtcp {
            Cipher::Gcm(gcm) => gcm.seal_rtcp(buf, plain_len, ssrc, index),
            Cipher::Cm(cm) => cm.seal_rtcp(buf, plain_len, ssrc, index),
        }?;
        self.rtcp_index = index + 1;
        Ok(len)
    }
}

impl fmt::Debug for TxContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxContext").field("profile", &self.profile).finish_non_exhaustive()
    }
}
