//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): reads compound packets without copying, and
//! writes them into a caller's buffer.
//!
//! ```
//! use rialto_rtp::rtcp::{Rtcp, RtcpPackets, RtcpWriter};
//!
//! let mut buf = [0; 64];
//! let mut writer = RtcpWriter::new(&mut buf);
//! writer.receiver_report(1, &[])?;
//! writer.pli(1, 2)?;
//! let len = writer.len();
//! let last = RtcpPackets::new(&buf[..len]).last();
//! assert!(matches!(last, Some(Ok(Rtcp::Pli { sender: 1, media: 2 }))));
//! # Ok::<(), rialto_rtp::rtcp::RtcpError>(())
//! ```
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

pub mod ccfb;
mod lists;
pub mod ntp;
mod report;
mod transport_cc;
mod transport_cc_write;
mod write;
pub mod xr;

#[cfg(test)]
mod tests;

use thiserror::Error;

pub use ccfb::CongestionFeedback;
pub use lists::{FirRequests, LostSeqs, SdesChunks, Ssrcs};
pub use report::{ReportBlock, ReportBlocks};
pub use transport_cc::{Statuses, TransportCc};
pub use transport_cc_write::Arrival;
pub use write::RtcpWriter;

use super::{be32, be64};

/// Packet types (IANA registry "RTCP Control Packet Types").
pub(super) mod packet_type {
    /// Sender report.
    pub(super) const SR: u8 = 200;
    /// Receiver report.
    pub(super) const RR: u8 = 201;
    /// Source description.
    pub(super) const SDES: u8 = 202;
    /// Goodbye.
    pub(super) const BYE: u8 = 203;
    /// Application-defined.
    pub(super) const APP: u8 = 204;
    /// Transport-layer feedback (RFC 4585).
    pub(super) const RTPFB: u8 = 205;
    /// Payload-specific feedback (RFC 4585).
    pub(super) const PSFB: u8 = 206;
    /// Extended report (RFC 3611).
    pub(super) const XR: u8 = 207;
}

/// Feedback message types within RTPFB and PSFB.
pub(super) mod format {
    /// RTPFB: generic NACK (RFC 4585 section 6.2.1).
    pub(super) const NACK: u8 = 1;
    /// RTPFB: congestion control feedback (RFC 8888 section 3.1).
    pub(super) const CCFB: u8 = 11;
    /// RTPFB: transport-wide congestion control feedback.
    pub(super) const TRANSPORT_CC: u8 = 15;
    /// PSFB: picture loss indication (RFC 4585 section 6.3.1).
    pub(super) const PLI: u8 = 1;
    /// PSFB: full intra request (RFC 5104 section 4.3.1).
    pub(super) const FIR: u8 = 4;
    /// PSFB: application layer feedback, which REMB is.
    pub(super) const APPLICATION: u8 = 15;
}

/// Why RTCP was not read or not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RtcpError {
    /// A packet is longer than the remaining bytes, or shorter than its type needs.
    #[error("an RTCP packet is cut short")]
    Short,
    /// Not version 2.
    #[error("not RTCP version 2")]
    Version,
    /// The padding count is zero or longer than the packet.
    #[error("the padding is longer than the packet, or empty")]
    Padding,
    /// The statuses or deltas of transport-wide feedback are inconsistent.
    #[error("malformed transport-wide feedback")]
    TransportCc,
    /// The buffer has no room for the packet; what was written before stays.
    #[error("no room for the RTCP packet")]
    Full,
    /// More entries than the packet's count can express, or none where one is needed.
    #[error("too many or too few entries for one RTCP packet")]
    Count,
}

/// One packet of a compound RTCP packet.
#[derive(Clone, Debug)]
pub enum Rtcp<'a> {
    /// RFC 3550 section 6.4.1.
    SenderReport {
        /// The sender.
        ssrc: u32,
        /// Wall clock of the report, 32.32 fixed point seconds since 1900.
        ntp: u64,
        /// The same instant as RTP timestamp.
        rtp_ts: u32,
        /// Packets sent so far, modulo 2^32.
        packets: u32,
        /// Payload bytes sent so far, modulo 2^32.
        octets: u32,
        /// Report blocks about what the sender receives.
        blocks: ReportBlocks<'a>,
    },
    /// RFC 3550 section 6.4.2.
    ReceiverReport {
        /// The reporter.
        ssrc: u32,
        /// Report blocks about what it receives.
        blocks: ReportBlocks<'a>,
    },
    /// RFC 3550 section 6.5.
    Sdes(SdesChunks<'a>),
    /// RFC 3550 section 6.6: sources that end.
    Bye(Ssrcs<'a>),
    /// RFC 4585 section 6.2.1.
    Nack {
        /// The SSRC of the requester.
        sender: u32,
        /// The stream with the gaps.
        media: u32,
        /// The lost sequence numbers.
        lost: LostSeqs<'a>,
    },
    /// RFC 4585 section 6.3.1: a keyframe is needed.
    Pli {
        /// The SSRC of the requester.
        sender: u32,
        /// The stream that needs a keyframe.
        media: u32,
    },
    /// RFC 5104 section 4.3.1: keyframes are needed.
    Fir {
        /// The SSRC of the requester.
        sender: u32,
        /// The streams, each with its command number.
        requests: FirRequests<'a>,
    },
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1.
    TransportCc(TransportCc<'a>),
    /// RFC 8888 section 3.1.
    CongestionFeedback(CongestionFeedback<'a>),
    /// draft-alvestrand-rmcat-remb-03 section 2.2.
    Remb {
        /// The SSRC of the receiver that estimates.
        sender: u32,
        /// The estimate in bits per second.
        bitrate: u64,
        /// The streams that it applies to.
        ssrcs: Ssrcs<'a>,
    },
    /// RFC 3611: the bytes after the header; see [`xr`].
    Xr(&'a [u8]),
    /// RFC 3550 section 6.7: the bytes after the header.
    App(&'a [u8]),
    /// A type or feedback format that is not parsed here.
    Other {
        /// Packet type.
        packet_type: u8,
        /// The five bits of count or format.
        count: u8,
        /// The bytes after the header.
        body: &'a [u8],
    },
}

/// Iterates over the packets of a plain compound (or reduced-size, RFC 5506) RTCP packet. A
/// malformed packet gives an error, and the next one follows at the place given by its length; only
/// a packet that is longer than the remaining bytes ends the iteration.
#[derive(Clone, Debug)]
pub struct RtcpPackets<'a> {
    rest: &'a [u8],
}

impl<'a> RtcpPackets<'a> {
    /// The packets in `data`.
    #[inline]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl<'a> Iterator for RtcpPackets<'a> {
    type Item = Result<Rtcp<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((packet, rest)) = split(self.rest) else {
            self.rest = &[];
            return Some(Err(RtcpError::Short));
        };
        self.rest = rest;
        Some(read(packet).and_then(|packet| packet.parse()))
    }
}

/// A packet of a compound: the fields of the common header, and the rest.
struct Packet<'a> {
    kind: u8,
    count: u8,
    body: &'a [u8],
}

/// Splits the first packet off `data`. `None` if it is longer than that: nothing shows where the
/// next one would begin.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([_, _, len0, len1], _) = data.split_first_chunk::<4>()?;
    data.split_at_checked(4 + 4 * usize::from(u16::from_be_bytes([*len0, *len1])))
}

/// Parses the common header of a packet and removes the padding.
fn read(packet: &[u8]) -> Result<Packet<'_>, RtcpError> {
    let ([first, packet_type, _, _], mut body) =
        packet.split_first_chunk::<4>().ok_or(RtcpError::Short)?;
    if first >> 6 != 2 {
        return Err(RtcpError::Version);
    }
    if first & 0x20 != 0 {
        let padding = usize::from(body.last().copied().ok_or(RtcpError::Padding)?);
        let kept = body.len().checked_sub(padding).filter(|_| padding > 0);
        body = kept.and_then(|kept| body.get(..kept)).ok_or(RtcpError::Padding)?;
    }
    Ok(Packet { kind: *packet_type, count: first & 0x1f, body })
}

impl<'a> Packet<'a> {
    fn parse(&self) -> Result<Rtcp<'a>, RtcpError> {
        let Self { kind: packet_type, count, body } = *self;
        Ok(match (packet_type, count) {
            (packet_type::SR, _) => self.sender_report()?,
            (packet_type::RR, _) => {
                Rtcp::ReceiverReport { ssrc: self.word(0)?, blocks: self.blocks(4)? }
            }
            (packet_type::SDES, _) => Rtcp::Sdes(SdesChunks::new(body, count)),
            (packet_type::BYE, _) => Rtcp::Bye(Ssrcs::new(self.slice(0, 4 * usize::from(count))?)),
            (packet_type::APP, _) => Rtcp::App(body),
            (packet_type::XR, _) => Rtcp::Xr(body),
            (packet_type::RTPFB, format::NACK) => Rtcp::Nack {
                sender: self.word(0)?,
                media: self.word(4)?,
                lost: LostSeqs::new(self.after(8)?),
            },
            (packet_type::RTPFB, format::TRANSPORT_CC) => {
                Rtcp::TransportCc(TransportCc::parse(body)?)
            }
            (packet_type::RTPFB, format::CCFB) => {
                Rtcp::CongestionFeedback(CongestionFeedback::parse(body)?)
            }
            (packet_type::PSFB, format::PLI) => {
                Rtcp::Pli { sender: self.word(0)?, media: self.word(4)? }
            }
            (packet_type::PSFB, format::FIR) => {
                Rtcp::Fir { sender: self.word(0)?, requests: FirRequests::new(self.after(8)?) }
            }
            (packet_type::PSFB, format::APPLICATION) if body.get(8..12) == Some(b"REMB") => {
                self.remb()?
            }
            _ => Rtcp::Other { packet_type, count, body },
        })
    }

    fn sender_report(&self) -> Result<Rtcp<'a>, RtcpError> {
        Ok(Rtcp::SenderReport {
            ssrc: self.word(0)?,
            ntp: be64(self.body, 4).ok_or(RtcpError::Short)?,
            rtp_ts: self.word(12)?,
            packets: self.word(16)?,
            octets: self.word(20)?,
            blocks: self.blocks(24)?,
        })
    }

    fn remb(&self) -> Result<Rtcp<'a>, RtcpError> {
        let word = self.word(12)?;
        let count = (word >> 24) as usize;
        let exponent = (word >> 18) & 0x3f;
        let mantissa = u64::from(word & 0x3_ffff);
        // An estimate beyond 64 bits means no limit.
        let bitrate =
            if mantissa.leading_zeros() < exponent { u64::MAX } else { mantissa << exponent };
        let ssrcs = Ssrcs::new(self.slice(16, 4 * count)?);
        Ok(Rtcp::Remb { sender: self.word(0)?, bitrate, ssrcs })
    }

    fn word(&self, at: usize) -> Result<u32, RtcpError> {
        be32(self.body, at).ok_or(RtcpError::Short)
    }

    fn after(&self, at: usize) -> Result<&'a [u8], RtcpError> {
        self.body.get(at..).ok_or(RtcpError::Short)
    }

    fn slice(&self, at: usize, len: usize) -> Result<&'a [u8], RtcpError> {
        self.body.get(at..at + len).ok_or(RtcpError::Short)
    }

    fn blocks(&self, at: usize) -> Result<ReportBlocks<'a>, RtcpError> {
        let len = report::BLOCK_LEN * usize::from(self.count);
        Ok(ReportBlocks::new(self.slice(at, len)?))
    }
}
