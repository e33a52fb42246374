//! The lists inside RTCP packets, as iterators over the packet's bytes.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use super::super::Seq;

/// Iterates over SSRCs.
#[derive(Clone, Debug)]
pub struct Ssrcs<'a> {
    rest: &'a [u8],
}

impl<'a> Ssrcs<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl Iterator for Ssrcs<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let (ssrc, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*ssrc))
    }
}

/// Iterates over the sequence numbers that a generic NACK requests (RFC 4585 section 6.2.1), in the
/// order of the packet: at most 17 for each four bytes.
#[derive(Clone, Debug)]
pub struct LostSeqs<'a> {
    rest: &'a [u8],
    /// Base and remaining bits of the entry being read; bit n stands for base + 1 + n.
    base: Seq,
    bits: u16,
}

impl<'a> LostSeqs<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { rest: data, base: Seq(0), bits: 0 }
    }
}

impl Iterator for LostSeqs<'_> {
    type Item = Seq;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most 16 zeros")]
    fn next(&mut self) -> Option<Seq> {
        if self.bits != 0 {
            let bit = self.bits.trailing_zeros() as u16;
            self.bits &= self.bits.wrapping_sub(1);
            return Some(self.base.wrapping_add(bit + 1));
        }
        let ([p0, p1, b0, b1], rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        self.base = Seq(u16::from_be_bytes([*p0, *p1]));
        self.bits = u16::from_be_bytes([*b0, *b1]);
        Some(self.base)
    }
}

/// Iterates over the entries of a full intra request: (SSRC, command sequence number). A repeated
/// command has the number of the first one (RFC 5104 section 4.3.1.1).
#[derive(Clone, Debug)]
pub struct FirRequests<'a> {
    rest: &'a [u8],
}

impl<'a> FirRequests<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl Iterator for FirRequests<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let ([a, b, c, d, number, ..], rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some((u32::from_be_bytes([*a, *b, *c, *d]), *number))
    }
}

/// Iterates over the chunks of a source description: (SSRC, CNAME if there is one). It ends early at
/// a malformed chunk.
#[derive(Clone, Debug)]
pub struct SdesChunks<'a> {
    rest: &'a [u8],
    left: u8,
}

impl<'a> SdesChunks<'a> {
    pub(super) const fn new(data: &'a [u8], count: u8) -> Self {
        Self { rest: data, left: count }
    }
}

/// The SDES item type of a CNAME (RFC 3550 section 6.5.1).
pub(super) const CNAME: u8 = 1;

impl<'a> Iterator for SdesChunks<'a> {
    type Item = (u32, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (ssrc, _) = self.rest.split_first_chunk::<4>()?;
        let mut at = 4;
        let mut cname = None;
        while *self.rest.get(at)? != 0 {
            let len = usize::from(*self.rest.get(at + 1)?);
            let text = self.rest.get(at + 2..at + 2 + len)?;
            if *self.rest.get(at)? == CNAME {
                cname = Some(text);
            }
            at += 2 + len;
        }
        // The list ends with one to four zeros, up to the next word.
        self.rest = self.rest.get((at + 1).next_multiple_of(4)..).unwrap_or_default();
        Some((u32::from_be_bytes(*ssrc), cname))
    }
}
