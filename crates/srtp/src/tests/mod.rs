//! Vectors of RFC 7714, interoperation with webrtc-srtp, and the guarantees of the contexts.

mod interop;
mod promises;
mod vectors;

use super::*;

/// Bytes from hexadecimal digits; white space does not count.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect()
}

/// Some key material for a profile.
fn key_and_salt(profile: Profile) -> Vec<u8> {
    (0..profile.key_len() + profile.salt_len()).map(|n| (n * 7 + 3) as u8).collect()
}

/// A plain RTP packet, and the length of its header.
fn packet(seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 12];
    rialto_rtp::write_header(&mut packet, false, 96, seq.into(), 1234, ssrc);
    packet.extend_from_slice(payload);
    packet
}

/// Seals a copy of a plain packet with a header of 12 bytes.
fn seal(tx: &TxContext, index: u64, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut buf = packet(index as u16, ssrc, payload);
    let len = buf.len();
    buf.resize(len + tx.profile().rtp_overhead(), 0);
    let sealed = tx.seal_rtp(&mut buf, 12, len, index, ssrc).unwrap();
    assert_eq!(sealed, buf.len());
    buf
}

/// Both ends of one direction.
fn pair(profile: Profile) -> (TxContext, RxContext) {
    let key = key_and_salt(profile);
    (TxContext::new(profile, &key).unwrap(), RxContext::new(profile, &key).unwrap())
}
