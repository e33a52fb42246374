//! Decrypts what one peer sends.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths of one packet, and a clock of 64 bits"
)]

use std::fmt;

use super::replay::Window;
use super::{
    Cipher, MAX_RTP_INDEX, Profile, RTCP_CLEAR_LEN, RTCP_E_BIT, RTCP_INDEX_LEN, RTP_FIXED_LEN,
    Session, SrtpError, be32,
};

/// Most SRTCP senders that a context remembers. A browser has at most one for each of its sources
/// and retransmission streams.
const MAX_RTCP_SENDERS: usize = 64;
/// The longest packet whose first copy may be tried with a second roll-over counter: longer ones do
/// not fit a datagram on a usual path.
const MAX_RETRY_LEN: usize = 1600;

/// The result of opening an RTP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Length of the plain packet, header included.
    pub len: usize,
    /// Roll-over counter << 16 | sequence number (RFC 3711 section 3.3.1).
    pub index: u64,
}

/// Receive state of one SSRC: the roll-over estimate and the replay window. The first authentic
/// packet creates it, and only authentic packets change it.
#[derive(Clone, Debug)]
pub struct RxStream {
    window: Window,
}

impl RxStream {
    /// The highest authentic index so far: roll-over counter << 16 | sequence number.
    #[inline]
    pub const fn highest(&self) -> u64 {
        self.window.highest()
    }

    /// How far a sequence number is ahead of the highest authentic one, modulo 2^16.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the sequence number")]
    pub const fn ahead(&self, seq: u16) -> i16 {
        seq.wrapping_sub(self.highest() as u16) as i16
    }

    /// The index nearest to the highest one that has this sequence number (RFC 3711 section 3.3.1
    /// and appendix A).
    #[inline]
    fn estimate(&self, seq: u16) -> Result<u64, SrtpError> {
        let highest = self.highest();
        let index =
            highest.checked_add_signed(i64::from(self.ahead(seq))).ok_or(SrtpError::TooOld)?;
        if index > MAX_RTP_INDEX { Err(SrtpError::Exhausted) } else { Ok(index) }
    }
}

/// The receiving side of one peer's SRTP session.
pub struct RxContext {
    profile: Profile,
    session: Session,
    rtcp: Vec<RtcpSender>,
    /// Counts authentic SRTCP packets, to find the sender that was silent longest.
    rtcp_clock: u64,
}

impl RxContext {
    /// Derives the session keys from a master key followed by its master salt.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] when the length is not that of the profile.
    pub fn new(profile: Profile, key_and_salt: &[u8]) -> Result<Self, SrtpError> {
        let session = Session::new(profile, key_and_salt)?;
        Ok(Self { profile, session, rtcp: Vec::new(), rtcp_clock: 0 })
    }

    /// The protection profile.
    #[inline]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Opens, in place, the SRTP packet `buf`, whose header (with extension) has `header_len` bytes.
    /// `stream` is the state of its SSRC, `None` until the first authentic packet.
    ///
    /// The first packet is assumed to have a roll-over counter of zero; if that fails and its
    /// sequence number is in the lower half, of one: the sender may have started near the end and
    /// wrapped while its first packets were lost. After an error the payload's bytes are undefined.
    ///
    /// # Errors
    /// [`SrtpError::Short`], [`SrtpError::Replay`], [`SrtpError::TooOld`], [`SrtpError::Auth`] or
    /// [`SrtpError::Exhausted`]; `stream` has not changed then.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half of the first word is the sequence number"
    )]
    pub fn open_rtp(
        &self,
        stream: &mut Option<RxStream>,
        buf: &mut [u8],
        header_len: usize,
    ) -> Result<Opened, SrtpError> {
        // The lower half of the first word.
        let seq = be32(buf, 0).ok_or(SrtpError::Short)? as u16;
        let ssrc = be32(buf, 8).ok_or(SrtpError::Short)?;
        if header_len < RTP_FIXED_LEN {
            return Err(SrtpError::Short);
        }
        if let Some(stream) = stream {
            let index = stream.estimate(seq)?;
            stream.window.check(index)?;
            let len = self.open_as(buf, header_len, ssrc, index)?;
            stream.window.accept(index);
            Ok(Opened { len, index })
        } else {
            let opened = self.open_first(buf, header_len, ssrc, seq)?;
            *stream = Some(RxStream { window: Window::new(opened.index) });
            Ok(opened)
        }
    }

    /// Opens the compound SRTCP packet `buf` in place and returns the length of the plain one.
    /// Remembers up to 64 senders, the most recently heard.
    ///
    /// # Errors
    /// [`SrtpError::Short`], [`SrtpError::Unencrypted`], [`SrtpError::Replay`],
    /// [`SrtpError::TooOld`] or [`SrtpError::Auth`]; nothing is remembered then.
    pub fn open_rtcp(&mut self, buf: &mut [u8]) -> Result<usize, SrtpError> {
        let shortest = RTCP_CLEAR_LEN + self.profile.rtcp_overhead();
        if buf.len() < shortest {
            return Err(SrtpError::Short);
        }
        let ssrc = be32(buf, 4).ok_or(SrtpError::Short)?;
        let after_word = match self.session.rtcp {
            Cipher::Gcm(_) => 0,
            Cipher::Cm(_) => super::cm::TAG_LEN,
        };
        let word = be32(buf, buf.len() - after_word - RTCP_INDEX_LEN).ok_or(SrtpError::Short)?;
        if word & RTCP_E_BIT == 0 {
            return Err(SrtpError::Unencrypted);
        }
        let index = word & !RTCP_E_BIT;
        let known = self.rtcp.iter().position(|sender| sender.ssrc == ssrc);
        if let Some(sender) = known.and_then(|at| self.rtcp.get(at)) {
            sender.check(index)?;
        }
        let len = match &self.session.rtcp {
            Cipher::Gcm(gcm) => gcm.open_rtcp(buf, ssrc, index),
            Cipher::Cm(cm) => cm.open_rtcp(buf, ssrc, index),
        }?;
        self.rtcp_clock += 1;
        if let Some(sender) = known.and_then(|at| self.rtcp.get_mut(at)) {
            sender.accept(index, self.rtcp_clock);
        } else {
            self.remember(RtcpSender { ssrc, highest: index, seen: 1, used: self.rtcp_clock });
        }
        Ok(len)
    }

    #[cold]
    #[inline(never)]
    fn open_first(
        &self,
        buf: &mut [u8],
        header_len: usize,
        ssrc: u32,
        seq: u16,
    ) -> Result<Opened, SrtpError> {
        let index = u64::from(seq);
        // A failed GCM open destroys the ciphertext, hence the copy. It is made until a stream is
        // known, not for each packet.
        let mut copy = [0u8; MAX_RETRY_LEN];
        let mut retry = copy.get_mut(..buf.len()).filter(|_| seq < 0x8000);
        if let Some(copy) = &mut retry {
            copy.copy_from_slice(buf);
        }
        match (self.open_as(buf, header_len, ssrc, index), retry) {
            (Ok(len), _) => Ok(Opened { len, index }),
            (Err(SrtpError::Auth), Some(copy)) => {
                let index = index | 1 << 16;
                let len = self.open_as(copy, header_len, ssrc, index)?;
                buf.copy_from_slice(copy);
                Ok(Opened { len, index })
            }
            (Err(error), _) => Err(error),
        }
    }

    #[inline]
    fn open_as(
        &self,
        buf: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        if buf.len() < header_len.saturating_add(self.profile.rtp_overhead()) {
            return Err(SrtpError::Short);
        }
        match &self.session.rtp {
            Cipher::Gcm(gcm) => gcm.open_rtp(buf, header_len, ssrc, index),
            Cipher::Cm(cm) => cm.open_rtp(buf, header_len, ssrc, index),
        }
    }

    /// Adds a sender, in place of the one that was silent longest when there are too many.
    fn remember(&mut self, sender: RtcpSender) {
        if self.rtcp.len() < MAX_RTCP_SENDERS {
            self.rtcp.push(sender);
        } else if let Some(oldest) = self.rtcp.iter_mut().min_by_key(|sender| sender.used) {
            *oldest = sender;
        }
    }
}

impl fmt::Debug for RxContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxContext").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Replay window of one SRTCP sender: 128 packets.
struct RtcpSender {
    ssrc: u32,
    highest: u32,
    /// Bit n: `highest - n` was seen.
    seen: u128,
    used: u64,
}

impl RtcpSender {
    fn check(&self, index: u32) -> Result<(), SrtpError> {
        match self.highest.checked_sub(index) {
            None => Ok(()),
            Some(behind) => match 1u128.checked_shl(behind) {
                None => Err(SrtpError::TooOld),
                Some(bit) if self.seen & bit != 0 => Err(SrtpError::Replay),
                Some(_) => Ok(()),
            },
        }
    }

    fn accept(&mut self, index: u32, clock: u64) {
        self.used = clock;
        if let Some(ahead) = index.checked_sub(self.highest) {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = index;
        } else {
            self.seen |= 1u128.checked_shl(self.highest - index).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TxContext;

    #[test]
    fn senders_of_rtcp_are_bounded_and_the_silent_ones_go() {
        let profile = Profile::AeadAes128Gcm;
        let key = vec![1; 28];
        let mut tx = TxContext::new(profile, &key).unwrap();
        let mut rx = RxContext::new(profile, &key).unwrap();
        let mut report = |rx: &mut RxContext, ssrc: u32| {
            let mut buf = [0; 28];
            buf[..4].copy_from_slice(&[0x80, 201, 0, 1]);
            buf[4..8].copy_from_slice(&ssrc.to_be_bytes());
            tx.seal_rtcp(&mut buf, 8).unwrap();
            assert_eq!(rx.open_rtcp(&mut buf.clone()), Ok(8));
            assert_eq!(rx.open_rtcp(&mut buf.clone()), Err(SrtpError::Replay));
        };
        for ssrc in 0..200 {
            report(&mut rx, ssrc);
            report(&mut rx, 1_000_000);
        }
        assert_eq!(rx.rtcp.len(), MAX_RTCP_SENDERS);
        assert!(rx.rtcp.iter().any(|sender| sender.ssrc == 1_000_000));
        assert!(rx.rtcp.iter().any(|sender| sender.ssrc == 199));
        assert!(!rx.rtcp.iter().any(|sender| sender.ssrc == 0));
    }

    #[test]
    fn the_rtcp_window_has_128_places() {
        let mut sender = RtcpSender { ssrc: 1, highest: 1000, seen: 1, used: 0 };
        assert_eq!(sender.check(1000), Err(SrtpError::Replay));
        assert_eq!(sender.check(873), Ok(()));
        assert_eq!(sender.check(872), Err(SrtpError::TooOld));
        sender.accept(873, 1);
        assert_eq!(sender.check(873), Err(SrtpError::Replay));
        sender.accept(1001, 2);
        assert_eq!(sender.check(1000), Err(SrtpError::Replay));
        assert_eq!(sender.check(873), Err(SrtpError::TooOld));
        sender.accept(5000, 3);
        assert_eq!(sender.check(4999), Ok(()));
    }
}
