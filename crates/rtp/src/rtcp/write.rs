//! Writing compound RTCP packets.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use super::super::{ExtSeq, Seq, put};
use super::lists::CNAME;
use super::transport_cc_write::{Arrival, Feedback};
use super::{ReportBlock, RtcpError, ccfb, format, packet_type, xr};

/// The largest value of the five-bit count in the common header.
const MAX_COUNT: usize = 31;

/// Appends RTCP packets to a buffer. A packet that does not fit is not written, and the ones before
/// it stay.
#[derive(Debug)]
pub struct RtcpWriter<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> RtcpWriter<'a> {
    /// A writer at the start of `buf`.
    #[inline]
    pub const fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Bytes written so far.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes left for further packets.
    pub const fn room(&self) -> usize {
        self.buf.len().saturating_sub(self.len)
    }

    /// Returns whether nothing was written.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A sender report (RFC 3550 section 6.4.1) with at most 31 blocks; `ntp` and `rtp_ts` are the
    /// same instant.
    ///
    /// # Errors
    /// [`RtcpError::Full`] and [`RtcpError::Count`].
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the NTP time")]
    pub fn sender_report(
        &mut self,
        ssrc: u32,
        ntp: u64,
        rtp_ts: u32,
        packets: u32,
        octets: u32,
        blocks: &[ReportBlock],
    ) -> Result<(), RtcpError> {
        let mut out = self.begin();
        out.words(&[ssrc, (ntp >> 32) as u32, ntp as u32, rtp_ts, packets, octets])?;
        out.blocks(blocks)?;
        let end = out.at;
        self.end(packet_type::SR, blocks.len(), end)
    }

    /// A receiver report (RFC 3550 section 6.4.2) with at most 31 blocks.
    ///
    /// # Errors
    /// [`RtcpError::Full`] and [`RtcpError::Count`].
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> Result<(), RtcpError> {
        let mut out = self.begin();
        out.words(&[ssrc])?;
        out.blocks(blocks)?;
        let end = out.at;
        self.end(packet_type::RR, blocks.len(), end)
    }

    /// A source description with the CNAME of one source (RFC 3550 section 6.5.1).
    ///
    /// # Errors
    /// [`RtcpError::Full`], and [`RtcpError::Count`] if the name has more than 255 bytes.
    pub fn sdes_cname(&mut self, ssrc: u32, cname: &str) -> Result<(), RtcpError> {
        let len = u8::try_from(cname.len()).map_err(|_| RtcpError::Count)?;
        let mut out = self.begin();
        out.words(&[ssrc])?;
        out.bytes(&[CNAME, len])?;
        out.bytes(cname.as_bytes())?;
        // At least one zero ends the list.
        let zeros = 4 - out.at % 4;
        out.bytes([0; 4].get(..zeros).unwrap_or_default())?;
        let end = out.at;
        self.end(packet_type::SDES, 1, end)
    }

    /// A goodbye of at most 31 sources (RFC 3550 section 6.6).
    ///
    /// # Errors
    /// [`RtcpError::Full`] and [`RtcpError::Count`].
    pub fn bye(&mut self, ssrcs: &[u32]) -> Result<(), RtcpError> {
        let mut out = self.begin();
        out.words(ssrcs)?;
        let end = out.at;
        self.end(packet_type::BYE, ssrcs.len(), end)
    }

    /// A generic NACK (RFC 4585 section 6.2.1). Numbers in ascending order share entries: at best
    /// 17 per entry.
    ///
    /// # Errors
    /// [`RtcpError::Full`], and [`RtcpError::Count`] when there are none.
    pub fn nack(
        &mut self,
        sender: u32,
        media: u32,
        lost: impl IntoIterator<Item = Seq>,
    ) -> Result<(), RtcpError> {
        let mut out = self.begin();
        out.words(&[sender, media])?;
        let mut entry: Option<(Seq, u16)> = None;
        let mut any = false;
        for seq in lost {
            any = true;
            if let Some((base, bits)) = &mut entry {
                let ahead = seq.0.wrapping_sub(base.0);
                if ahead <= 16 {
                    // Bit n stands for base + 1 + n; a repeated base changes nothing.
                    *bits |= if ahead == 0 { 0 } else { 1 << (ahead - 1) };
                    continue;
                }
                out.words(&[(u32::from(base.0) << 16) | u32::from(*bits)])?;
            }
            entry = Some((seq, 0));
        }
        if let Some((base, bits)) = entry {
            out.words(&[(u32::from(base.0) << 16) | u32::from(bits)])?;
        }
        let end = out.at;
        if any {
            self.end(packet_type::RTPFB, format::NACK.into(), end)
        } else {
            Err(RtcpError::Count)
        }
    }

    /// A picture loss indication (RFC 4585 section 6.3.1).
    ///
    /// # Errors
    /// [`RtcpError::Full`].
    pub fn pli(&mut self, sender: u32, media: u32) -> Result<(), RtcpError> {
        let mut out = self.begin();
        out.words(&[sender, media])?;
        let end = out.at;
        self.end(packet_type::PSFB, format::PLI.into(), end)
    }

    /// A full intra request (RFC 5104 section 4.3.1): (SSRC, command number) of each stream. The
    /// number is increased for each new command, and repeated for a repetition.
    ///
    /// # Errors
    /// [`RtcpError::Full`], and [`RtcpError::Count`] when there are none.
    pub fn fir(&mut self, sender: u32, requests: &[(u32, u8)]) -> Result<(), RtcpError> {
        if requests.is_empty() {
            return Err(RtcpError::Count);
        }
        let mut out = self.begin();
        out.words(&[sender, 0])?;
        for (ssrc, number) in requests {
            out.words(&[*ssrc, u32::from(*number) << 24])?;
        }
        let end = out.at;
        self.end(packet_type::PSFB, format::FIR.into(), end)
    }

    /// A receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03 section 2.2) in bits per
    /// second, rounded down to 18 significant bits, for at most 255 streams.
    ///
    /// # Errors
    /// [`RtcpError::Full`] and [`RtcpError::Count`].
    #[expect(clippy::cast_possible_truncation, reason = "18 bits are left")]
    pub fn remb(&mut self, sender: u32, bitrate: u64, ssrcs: &[u32]) -> Result<(), RtcpError> {
        let count = u8::try_from(ssrcs.len()).map_err(|_| RtcpError::Count)?;
        let exponent = (64 - bitrate.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate >> exponent) as u32;
        let mut out = self.begin();
        out.words(&[sender, 0])?;
        out.bytes(b"REMB")?;
        out.words(&[(u32::from(count) << 24) | (exponent << 18) | mantissa])?;
        out.words(ssrcs)?;
        let end = out.at;
        self.end(packet_type::PSFB, format::APPLICATION.into(), end)
    }

    /// An extended report that answers one receiver reference time (RFC 3611 section 4.5): the SSRC
    /// that asked, the middle 32 bits of its time, and how long ago it arrived, in 1/65536 s.
    ///
    /// # Errors
    /// [`RtcpError::Full`].
    pub fn delay_since_reference(
        &mut self,
        sender: u32,
        to: u32,
        reference: u32,
        delay: u32,
    ) -> Result<(), RtcpError> {
        let mut out = self.begin();
        out.words(&[sender, u32::from(xr::DLRR) << 24 | 3, to, reference, delay])?;
        let end = out.at;
        self.end(packet_type::XR, 0, end)
    }

    /// Transport-wide congestion control feedback about the packets from `base` on. `arrivals` are
    /// sorted by sequence number; numbers between them were lost. Returns the number of arrivals
    /// reported: fewer than given if the buffer is full, a delta is longer than 8 s, or more than
    /// 65,535 packets are spanned. The rest goes into another packet with the next `feedback_count`
    /// and a base after the last one reported.
    ///
    /// # Errors
    /// [`RtcpError::Count`] if there are none, [`RtcpError::Full`] if not even one fits, or the
    /// first one is before `base` or more than 65,534 after it.
    pub fn transport_cc(
        &mut self,
        sender: u32,
        media: u32,
        feedback_count: u8,
        base: ExtSeq,
        arrivals: &[Arrival],
    ) -> Result<usize, RtcpError> {
        if arrivals.is_empty() {
            return Err(RtcpError::Count);
        }
        let feedback = Feedback { sender, media, number: feedback_count, base, arrivals };
        let room = self.buf.get_mut(self.len..).unwrap_or_default();
        let (len, taken) = feedback.write(room).ok_or(RtcpError::Full)?;
        self.len += len;
        Ok(taken)
    }

    /// Congestion control feedback (RFC 8888 section 3.1): for each stream its SSRC, the first
    /// sequence number, and the fates of the packets from there on. `report_time`: the middle 32
    /// bits of the NTP time that arrivals are relative to.
    ///
    /// # Errors
    /// [`RtcpError::Full`] if it does not fit, or a block reports on more than 16,384 packets.
    pub fn congestion_feedback(
        &mut self,
        sender: u32,
        blocks: &[(u32, Seq, &[ccfb::Fate])],
        report_time: u32,
    ) -> Result<(), RtcpError> {
        let start = self.len + 4;
        let room = self.buf.get_mut(start..).ok_or(RtcpError::Full)?;
        let len = ccfb::write(room, sender, blocks, report_time).ok_or(RtcpError::Full)?;
        self.end(packet_type::RTPFB, format::CCFB.into(), start + len)
    }

    /// A cursor behind the common header.
    fn begin(&mut self) -> Cursor<'_> {
        Cursor { at: self.len + 4, buf: self.buf }
    }

    /// Completes the packet that ends at `end` by writing its common header.
    #[expect(clippy::cast_possible_truncation, reason = "compared with 31 before")]
    fn end(&mut self, packet_type: u8, count: usize, end: usize) -> Result<(), RtcpError> {
        if count > MAX_COUNT {
            return Err(RtcpError::Count);
        }
        let words = u16::try_from((end - self.len) / 4 - 1).map_err(|_| RtcpError::Full)?;
        let [w0, w1] = words.to_be_bytes();
        put(self.buf, self.len, &[0x80 | count as u8, packet_type, w0, w1])
            .ok_or(RtcpError::Full)?;
        self.len = end;
        Ok(())
    }
}

/// Appends to an incomplete packet.
struct Cursor<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), RtcpError> {
        put(self.buf, self.at, bytes).ok_or(RtcpError::Full)?;
        self.at += bytes.len();
        Ok(())
    }

    fn words(&mut self, words: &[u32]) -> Result<(), RtcpError> {
        words.iter().try_for_each(|word| self.bytes(&word.to_be_bytes()))
    }

    fn blocks(&mut self, blocks: &[ReportBlock]) -> Result<(), RtcpError> {
        blocks.iter().try_for_each(|block| self.words(&block.words()))
    }
}
