//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01
//! section 3.1): reading.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths within one packet, and ticks in 64 bits"
)]

use super::super::{Seq, be16, be24, be32};
use super::RtcpError;

/// Length of the body before the status chunks: two SSRCs, base, count, time, counter.
pub(super) const FIXED_LEN: usize = 16;
/// Arrival ticks of 250 µs in one unit of the reference time, which is 64 ms.
pub(super) const TICKS_PER_REFERENCE: i64 = 256;
/// Symbols: not received, received with a delta of one byte, of two bytes.
pub(super) const LOST: u8 = 0;
pub(super) const SMALL: u8 = 1;
pub(super) const LARGE: u8 = 2;

/// A feedback packet whose statuses and deltas are consistent.
#[derive(Clone, Copy, Debug)]
pub struct TransportCc<'a> {
    /// The receiver of the packets.
    pub sender: u32,
    /// A stream of the connection; which one does not matter.
    pub media: u32,
    /// The transport-wide sequence number of the first status.
    pub base: Seq,
    /// Number of statuses.
    pub count: u16,
    /// Counts feedback packets, modulo 256.
    pub feedback_count: u8,
    /// Reference time in units of 64 ms, 24 bits signed, of the receiver's clock.
    pub reference_time: i32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportCc<'a> {
    /// Parses the body of the packet (after the common header, without padding).
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, RtcpError> {
        let short = RtcpError::Short;
        let count = be16(body, 10).ok_or(short)?;
        let time = be24(body, 12).ok_or(short)?;
        let rest = body.get(FIXED_LEN..).ok_or(short)?;
        let (chunks_len, deltas_len) = measure(rest, count)?;
        let (chunks, deltas) = rest.split_at_checked(chunks_len).ok_or(short)?;
        Ok(Self {
            sender: be32(body, 0).ok_or(short)?,
            media: be32(body, 4).ok_or(short)?,
            base: Seq(be16(body, 8).ok_or(short)?),
            count,
            feedback_count: *body.get(15).ok_or(short)?,
            reference_time: ((time << 8) as i32) >> 8,
            chunks,
            deltas: deltas.get(..deltas_len).ok_or(short)?,
        })
    }

    /// One status per packet from `base` on: its sequence number and, if it was received, its
    /// arrival in ticks of 250 µs of the receiver's clock.
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            seq: self.base,
            left: self.count,
            chunks: self.chunks,
            chunk: Chunk { symbol_bits: 2, bits: 0, run: None, left: 0 },
            deltas: self.deltas,
            time: i64::from(self.reference_time) * TICKS_PER_REFERENCE,
        }
    }
}

/// Measures chunks and deltas, in constant time per chunk.
fn measure(data: &[u8], count: u16) -> Result<(usize, usize), RtcpError> {
    let mut left = count;
    let mut chunks_len = 0;
    let mut deltas_len = 0usize;
    while left > 0 {
        let mut chunk = Chunk::new(be16(data, chunks_len).ok_or(RtcpError::Short)?);
        chunks_len += 2;
        if let Some(symbol) = chunk.run {
            let run = chunk.left.min(left);
            deltas_len += delta_len(symbol)? * usize::from(run);
            left -= run;
        } else {
            while let Some(symbol) = chunk.next().filter(|_| left > 0) {
                deltas_len += delta_len(symbol)?;
                left -= 1;
            }
        }
    }
    if data.len() < chunks_len + deltas_len {
        return Err(RtcpError::Short);
    }
    Ok((chunks_len, deltas_len))
}

fn delta_len(symbol: u8) -> Result<usize, RtcpError> {
    match symbol {
        LOST => Ok(0),
        SMALL => Ok(1),
        LARGE => Ok(2),
        _ => Err(RtcpError::TransportCc),
    }
}

/// A status chunk being read.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    symbol_bits: u8,
    /// The remaining symbols, the next one in the uppermost of 16 bits.
    bits: u16,
    /// The symbol of a run-length chunk.
    run: Option<u8>,
    /// Number of remaining symbols.
    left: u16,
}

impl Chunk {
    fn new(word: u16) -> Self {
        if word & 0x8000 == 0 {
            let symbol = ((word >> 13) & 3) as u8;
            Self { symbol_bits: 2, bits: 0, run: Some(symbol), left: word & 0x1fff }
        } else if word & 0x4000 == 0 {
            Self { symbol_bits: 1, bits: word << 2, run: None, left: 14 }
        } else {
            Self { symbol_bits: 2, bits: word << 2, run: None, left: 7 }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "one or two bits are left")]
    fn next(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        if self.run.is_some() {
            return self.run;
        }
        let symbol = (self.bits >> (16 - self.symbol_bits)) as u8;
        self.bits <<= self.symbol_bits;
        Some(symbol)
    }
}

/// Iterates over the statuses of a feedback packet.
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    seq: Seq,
    left: u16,
    chunks: &'a [u8],
    chunk: Chunk,
    deltas: &'a [u8],
    time: i64,
}

impl Iterator for Statuses<'_> {
    type Item = (Seq, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let symbol = loop {
            if let Some(symbol) = self.chunk.next() {
                break symbol;
            }
            let (word, rest) = self.chunks.split_first_chunk::<2>()?;
            self.chunk = Chunk::new(u16::from_be_bytes(*word));
            self.chunks = rest;
        };
        let delta = match symbol {
            LOST => None,
            SMALL => {
                let (delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                Some(i64::from(*delta))
            }
            _ => {
                let (delta, rest) = self.deltas.split_first_chunk::<2>()?;
                self.deltas = rest;
                Some(i64::from(i16::from_be_bytes(*delta)))
            }
        };
        let seq = self.seq;
        self.seq = seq.next();
        Some((
            seq,
            delta.map(|delta| {
                self.time += delta;
                self.time
            }),
        ))
    }
}
