//! RTP and RTCP wire formats: zero-copy reading, writing into a caller's buffer.
//!
//! Nothing here allocates, keeps time or trusts its input: readers return an error or end early, and
//! writers fail when the buffer is full. [`header`] and [`ext`] read and write the clear part of a
//! packet, [`seq`] the circular number spaces, [`rtx`] retransmission, [`rtcp`] control packets,
//! [`codec`] the payload descriptors that a forwarder needs to know about frames.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

pub mod codec;
pub mod ext;
#[doc(hidden)]
pub mod fuzz;
pub mod header;
pub mod rtcp;
pub mod rtx;
pub mod seq;
pub mod vla;

pub use ext::{Ext, ExtError, ExtIter, ExtWriter};
pub use header::{ExtensionBlock, Kind, RtpError, RtpHeader, demux, is_rtcp, write_header};
pub use seq::{ExtSeq, RtpTime, Seq, SeqUnwrapper};

/// Reads a big-endian 16-bit integer at `at`.
#[inline]
pub(crate) fn be16(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

/// Reads a big-endian 24-bit integer at `at`.
#[inline]
pub(crate) fn be24(data: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = *data.get(at..)?.first_chunk::<3>()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// Reads a big-endian 32-bit integer at `at`.
#[inline]
pub(crate) fn be32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Takes an unsigned number off the front of `data`: seven bits a byte, the lowest first (AV1 section 4.10.5). `None`: it
/// has more than `most` bytes, of which nine are as many as there may be, or does not end.
pub(crate) fn leb128(data: &mut &[u8], most: usize) -> Option<u64> {
    let (mut value, mut shift) = (0u64, 0u32);
    for _ in 0..most {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift = shift.saturating_add(7);
    }
    None
}

/// Reads a big-endian 64-bit integer at `at`.
#[inline]
pub(crate) fn be64(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}

/// Copies `bytes` to `at`; `None`, without a change, if they do not fit.
#[inline]
pub(crate) fn put(data: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    let end = at.checked_add(bytes.len())?;
    data.get_mut(at..end)?.copy_from_slice(bytes);
    Some(())
}
