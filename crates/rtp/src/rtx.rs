//! Retransmission payloads (RFC 4588 section 4): two bytes of original sequence number (OSN), then
//! the original payload.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use super::header::FIXED_LEN;
use super::{RtpHeader, Seq, be16, put};

/// Length of the original sequence number in front of the payload, in bytes.
pub const OSN_LEN: usize = 2;

/// The original sequence number in an RTX payload; `None` for the padding-only packets that probe
/// for bandwidth.
#[inline]
pub fn original_seq(payload: &[u8]) -> Option<Seq> {
    be16(payload, 0).map(Seq)
}

/// Writes the original sequence number at the start of an RTX payload and returns its length.
#[inline]
pub fn write_original_seq(payload: &mut [u8], seq: Seq) -> Option<usize> {
    put(payload, 0, &seq.0.to_be_bytes())?;
    Some(OSN_LEN)
}

/// Restores, in place, the original packet from the decrypted RTX packet `packet`: the header moves
/// two bytes up over the original sequence number and gets the original payload type, sequence
/// number and SSRC; marker, timestamp, extension, padding and payload stay.
///
/// Returns where the restored packet starts in `packet` (always 2); `None`, without a change, if
/// there is no original sequence number.
#[inline]
pub fn restore(
    packet: &mut [u8],
    header: &RtpHeader,
    payload_type: u8,
    ssrc: u32,
) -> Option<usize> {
    let payload = header.payload_range(packet).ok()?;
    let seq = original_seq(packet.get(payload)?)?;
    packet.copy_within(..header.len, OSN_LEN);
    stamp(packet.get_mut(OSN_LEN..)?, payload_type, seq, ssrc)?;
    Some(OSN_LEN)
}

/// Turns, in place, the packet in `buf[..len]` into an RTX packet: the payload after `header_len`
/// moves two bytes up, the original sequence number is written before it, and the header gets the
/// retransmission's payload type, sequence number and SSRC.
///
/// Returns the new length; `None`, without a change, if `buf` is too short.
#[inline]
pub fn wrap(
    buf: &mut [u8],
    header_len: usize,
    len: usize,
    payload_type: u8,
    seq: Seq,
    ssrc: u32,
) -> Option<usize> {
    let end = len.checked_add(OSN_LEN)?;
    if header_len < FIXED_LEN || header_len > len || end > buf.len() {
        return None;
    }
    let original = be16(buf, 2)?;
    buf.copy_within(header_len..len, header_len + OSN_LEN);
    put(buf, header_len, &original.to_be_bytes())?;
    stamp(buf, payload_type, seq, ssrc)?;
    Some(end)
}

/// Overwrites payload type (not the marker), sequence number and SSRC of a header.
#[inline]
fn stamp(packet: &mut [u8], payload_type: u8, seq: Seq, ssrc: u32) -> Option<()> {
    let fixed = packet.first_chunk_mut::<FIXED_LEN>()?;
    fixed[1] = (fixed[1] & 0x80) | (payload_type & 0x7f);
    fixed[2..4].copy_from_slice(&seq.0.to_be_bytes());
    fixed[8..12].copy_from_slice(&ssrc.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_header;
    use proptest::prelude::*;

    #[test]
    fn padding_only_packets_carry_nothing() {
        let mut packet = [0u8; 16];
        write_header(&mut packet, false, 97, Seq(1), 0, 1);
        packet[0] |= 0x20;
        packet[15] = 4;
        let header = RtpHeader::parse(&packet).unwrap();
        let before = packet;
        assert_eq!(restore(&mut packet, &header, 96, 2), None);
        assert_eq!(packet, before);
    }

    proptest! {
        #[test]
        fn restore_undoes_wrap(
            marker in any::<bool>(), seq in any::<u16>(), rtx_seq in any::<u16>(),
            payload in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut buf = vec![0u8; 12 + payload.len() + 2];
            write_header(&mut buf, marker, 96, Seq(seq), 90_000, 0x1111);
            let len = 12 + payload.len();
            buf[12..len].copy_from_slice(&payload);
            let original = buf[..len].to_vec();

            prop_assert_eq!(wrap(&mut buf[..len], 12, len, 97, Seq(rtx_seq), 0x2222), None);
            prop_assert_eq!(wrap(&mut buf, 12, len, 97, Seq(rtx_seq), 0x2222), Some(len + 2));
            let header = RtpHeader::parse(&buf).unwrap();
            prop_assert_eq!((header.payload_type, header.sequence.0, header.ssrc), (97, rtx_seq, 0x2222));
            prop_assert_eq!(header.marker, marker);
            prop_assert_eq!(original_seq(&buf[12..]), Some(Seq(seq)));

            prop_assert_eq!(restore(&mut buf, &header, 96, 0x1111), Some(2));
            prop_assert_eq!(&buf[2..], &original[..]);
        }
    }
}
