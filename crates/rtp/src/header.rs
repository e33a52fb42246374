//! The RTP header (RFC 3550 section 5.1), and the protocol of a datagram (RFC 7983, 5761).
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use std::ops::Range;

use thiserror::Error;

use super::{ExtIter, Seq, be16, be32};

/// Length of the fixed part of the header, in bytes.
pub const FIXED_LEN: usize = 12;

/// Why a packet is not usable RTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RtpError {
    /// Shorter than its header says.
    #[error("the packet is shorter than its header")]
    Short,
    /// Not version 2.
    #[error("not RTP version 2")]
    Version,
    /// The padding count is zero or longer than the payload.
    #[error("the padding is longer than the payload, or empty")]
    Padding,
}

/// Where the header extension of a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtensionBlock {
    /// The 16 bits "defined by profile": `0xBEDE` or `0x100X` (RFC 8285).
    pub profile: u16,
    /// Offset in the packet of the first byte after the profile and length words.
    pub start: usize,
    /// Offset in the packet of the byte after the block.
    pub end: usize,
}

/// A parsed RTP header. It describes a packet without borrowing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtpHeader {
    /// The marker bit.
    pub marker: bool,
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: Seq,
    /// The timestamp in units of the payload type's clock.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
    /// Number of contributing sources after the fixed part, 0 to 15.
    pub csrc_count: u8,
    /// The padding bit: the last byte of the (decrypted) packet counts padding bytes.
    pub padding: bool,
    /// The header extension, if there is one.
    pub extension: Option<ExtensionBlock>,
    /// Length of the whole header in bytes, contributing sources and extension included.
    pub len: usize,
}

impl RtpHeader {
    /// Parses the header of an RTP or SRTP packet, which SRTP does not encrypt (RFC 3711 section
    /// 3.1).
    ///
    /// # Errors
    /// [`RtpError::Short`] and [`RtpError::Version`].
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let fixed = packet.first_chunk::<FIXED_LEN>().ok_or(RtpError::Short)?;
        let [b0, b1, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *fixed;
        if b0 >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let csrc_count = b0 & 0x0f;
        let mut len = FIXED_LEN + 4 * usize::from(csrc_count);
        let mut extension = None;
        if b0 & 0x10 != 0 {
            let profile = be16(packet, len).ok_or(RtpError::Short)?;
            let words = be16(packet, len + 2).ok_or(RtpError::Short)?;
            let start = len + 4;
            len = start + 4 * usize::from(words);
            extension = Some(ExtensionBlock { profile, start, end: len });
        }
        if packet.len() < len {
            return Err(RtpError::Short);
        }
        Ok(Self {
            marker: b1 & 0x80 != 0,
            payload_type: b1 & 0x7f,
            sequence: Seq(u16::from_be_bytes([s0, s1])),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            csrc_count,
            padding: b0 & 0x20 != 0,
            extension,
            len,
        })
    }

    /// Where the payload of the decrypted `packet` is, without padding (RFC 3550 section 5.1). A
    /// padding-only packet has an empty range.
    ///
    /// # Errors
    /// [`RtpError::Padding`] if the count is impossible, [`RtpError::Short`] if `packet` is not the
    /// one that was parsed.
    #[inline]
    pub fn payload_range(&self, packet: &[u8]) -> Result<Range<usize>, RtpError> {
        let payload = packet.get(self.len..).ok_or(RtpError::Short)?;
        let mut end = packet.len();
        if self.padding {
            let count = usize::from(payload.last().copied().ok_or(RtpError::Padding)?);
            if count == 0 || count > payload.len() {
                return Err(RtpError::Padding);
            }
            end -= count;
        }
        Ok(self.len..end)
    }

    /// The elements of the header extension of `packet`; none if it has no extension or one of an
    /// unknown profile.
    #[inline]
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> ExtIter<'a> {
        match self.extension {
            Some(block) => ExtIter::new(packet, block),
            None => ExtIter::default(),
        }
    }

    /// The `n`th contributing source of `packet`.
    pub fn csrc(&self, packet: &[u8], n: u8) -> Option<u32> {
        (n < self.csrc_count).then(|| be32(packet, FIXED_LEN + 4 * usize::from(n)))?
    }
}

/// Writes a fixed header without contributing sources, padding or extension, and returns its length
/// (12); `None` if `buf` is shorter. Use [`set_extension_bit`] if an extension follows.
#[inline]
pub fn write_header(
    buf: &mut [u8],
    marker: bool,
    payload_type: u8,
    seq: Seq,
    timestamp: u32,
    ssrc: u32,
) -> Option<usize> {
    let out = buf.first_chunk_mut::<FIXED_LEN>()?;
    let [s0, s1] = seq.0.to_be_bytes();
    let [t0, t1, t2, t3] = timestamp.to_be_bytes();
    let [i0, i1, i2, i3] = ssrc.to_be_bytes();
    let b1 = (u8::from(marker) << 7) | (payload_type & 0x7f);
    *out = [0x80, b1, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3];
    Some(FIXED_LEN)
}

/// Sets or clears the extension bit of the header that `packet` starts with.
#[inline]
pub fn set_extension_bit(packet: &mut [u8], present: bool) {
    if let Some(first) = packet.first_mut() {
        *first = if present { *first | 0x10 } else { *first & !0x10 };
    }
}

/// Sets or clears the padding bit of the header that `packet` starts with.
#[inline]
pub fn set_padding_bit(packet: &mut [u8], present: bool) {
    if let Some(first) = packet.first_mut() {
        *first = if present { *first | 0x20 } else { *first & !0x20 };
    }
}

/// The protocol of a datagram, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A STUN message (RFC 8489).
    Stun,
    /// A DTLS record (RFC 6347, 9147).
    Dtls,
    /// RTP, usually SRTP.
    Rtp,
    /// RTCP, usually SRTCP.
    Rtcp,
    /// Anything else: ZRTP, TURN channel data, garbage, an empty datagram.
    Other,
}

/// Distinguishes the protocols of one port (RFC 7983 section 7; RFC 5761 section 4 for RTCP).
#[inline]
pub fn demux(datagram: &[u8]) -> Kind {
    match datagram.first() {
        Some(0..=3) => Kind::Stun,
        Some(20..=63) => Kind::Dtls,
        Some(128..=191) if datagram.len() < 2 => Kind::Other,
        Some(128..=191) if is_rtcp(datagram) => Kind::Rtcp,
        Some(128..=191) => Kind::Rtp,
        _ => Kind::Other,
    }
}

/// Returns whether a packet that is RTP or RTCP is RTCP: its second byte is a packet type from 192
/// to 223, which payload types do not use (RFC 5761 section 4).
#[inline]
pub fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet.get(1), Some(192..=223))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use webrtc_util::marshal::{Marshal, Unmarshal};

    #[test]
    fn demultiplexes_by_the_first_bytes() {
        assert_eq!(demux(&[]), Kind::Other);
        assert_eq!(demux(&[0, 1]), Kind::Stun);
        assert_eq!(demux(&[3]), Kind::Stun);
        assert_eq!(demux(&[4]), Kind::Other);
        assert_eq!(demux(&[16]), Kind::Other);
        assert_eq!(demux(&[22, 254, 253]), Kind::Dtls);
        assert_eq!(demux(&[64]), Kind::Other);
        assert_eq!(demux(&[0x80, 0xbf]), Kind::Rtp);
        assert_eq!(demux(&[0x80, 192]), Kind::Rtcp);
        assert_eq!(demux(&[0x8f, 223]), Kind::Rtcp);
        assert_eq!(demux(&[0x80, 224]), Kind::Rtp);
        assert_eq!(demux(&[0x80, 111]), Kind::Rtp);
        assert_eq!(demux(&[0x80]), Kind::Other);
        assert_eq!(demux(&[192, 0]), Kind::Other);
    }

    #[test]
    fn writes_what_it_reads() {
        let mut buf = [0u8; 20];
        assert_eq!(write_header(&mut buf, true, 96, Seq(65535), 7, 0xdead_beef), Some(12));
        let header = RtpHeader::parse(&buf).unwrap();
        assert!(header.marker && !header.padding && header.extension.is_none());
        assert_eq!((header.payload_type, header.sequence, header.timestamp), (96, Seq(65535), 7));
        assert_eq!((header.ssrc, header.csrc_count, header.len), (0xdead_beef, 0, 12));
        assert_eq!(write_header(&mut [0; 11], false, 0, Seq(0), 0, 0), None);
    }

    #[test]
    fn padding_is_stripped_or_refused() {
        let mut packet = [0u8; 20];
        write_header(&mut packet, false, 96, Seq(1), 0, 1);
        set_padding_bit(&mut packet, true);
        for (count, expected) in [
            (0, Err(RtpError::Padding)),
            (3, Ok(12..17)),
            (8, Ok(12..12)),
            (9, Err(RtpError::Padding)),
        ] {
            packet[19] = count;
            let header = RtpHeader::parse(&packet).unwrap();
            assert_eq!(header.payload_range(&packet), expected);
        }
        let header = RtpHeader::parse(&packet[..12]).unwrap();
        assert_eq!(header.payload_range(&packet[..12]), Err(RtpError::Padding));
        assert_eq!(header.payload_range(&packet[..11]), Err(RtpError::Short));
    }

    #[test]
    fn truncated_headers_are_errors() {
        let full =
            [0x91u8, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 9, 9, 9, 0xbe, 0xde, 0, 1, 0, 0, 0, 0];
        let header = RtpHeader::parse(&full).unwrap();
        assert_eq!(header.len, full.len());
        assert_eq!(header.csrc(&full, 0), Some(0x0909_0909));
        assert_eq!(header.csrc(&full, 1), None);
        for len in 0..full.len() {
            assert_eq!(RtpHeader::parse(&full[..len]), Err(RtpError::Short), "{len}");
        }
        assert_eq!(RtpHeader::parse(&[0x40; 12]), Err(RtpError::Version));
    }

    proptest! {
        #[test]
        fn never_panics(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = demux(&packet);
            if let Ok(header) = RtpHeader::parse(&packet) {
                let _ = header.payload_range(&packet);
                prop_assert!(header.extensions(&packet).count() <= packet.len());
            }
        }

        /// The `rtp` crate is the oracle: it writes, we read.
        #[test]
        fn agrees_with_the_rtp_crate(
            marker in any::<bool>(),
            payload_type in 0u8..128,
            sequence_number in any::<u16>(),
            timestamp in any::<u32>(),
            ssrc in any::<u32>(),
            csrc in proptest::collection::vec(any::<u32>(), 0..15),
            one_byte in any::<bool>(),
            elements in proptest::collection::btree_map(
                1u8..15, proptest::collection::vec(any::<u8>(), 1..16), 0..6),
            payload in proptest::collection::vec(any::<u8>(), 1..60),
        ) {
            let header = rtp::header::Header {
                version: 2,
                padding: false,
                extension: !elements.is_empty(),
                marker,
                payload_type,
                sequence_number,
                timestamp,
                ssrc,
                csrc: csrc.clone(),
                extension_profile: if one_byte { 0xbede } else { 0x1000 },
                extensions: elements
                    .iter()
                    .map(|(id, data)| rtp::header::Extension { id: *id, payload: data.clone().into() })
                    .collect(),
                extensions_padding: 0,
            };
            let sent = rtp::packet::Packet { header, payload: payload.clone().into() };
            let bytes = sent.marshal().unwrap();

            let read = RtpHeader::parse(&bytes).unwrap();
            prop_assert_eq!(read.marker, marker);
            prop_assert_eq!(read.payload_type, payload_type);
            prop_assert_eq!(read.sequence.0, sequence_number);
            prop_assert_eq!(read.timestamp, timestamp);
            prop_assert_eq!(read.ssrc, ssrc);
            for (n, expected) in csrc.iter().enumerate() {
                prop_assert_eq!(read.csrc(&bytes, n as u8), Some(*expected));
            }
            let range = read.payload_range(&bytes).unwrap();
            prop_assert_eq!(&bytes[range], &payload[..]);
            let seen: Vec<_> =
                read.extensions(&bytes).map(|e| (e.id, e.data.to_vec())).collect();
            prop_assert_eq!(seen, elements.into_iter().collect::<Vec<_>>());
        }

        /// We write, the `rtp` crate reads.
        #[test]
        fn the_rtp_crate_reads_what_we_write(
            marker in any::<bool>(), pt in 0u8..128, seq in any::<u16>(),
            ts in any::<u32>(), ssrc in any::<u32>(),
        ) {
            let mut buf = [7u8; 16];
            write_header(&mut buf, marker, pt, Seq(seq), ts, ssrc).unwrap();
            let read = rtp::packet::Packet::unmarshal(&mut &buf[..]).unwrap();
            prop_assert_eq!(read.header.marker, marker);
            prop_assert_eq!(read.header.payload_type, pt);
            prop_assert_eq!(read.header.sequence_number, seq);
            prop_assert_eq!(read.header.timestamp, ts);
            prop_assert_eq!(read.header.ssrc, ssrc);
            prop_assert_eq!(&read.payload[..], &[7u8; 4][..]);
        }
    }
}
