//! Transport-wide congestion control feedback: writing.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths within one packet, and ticks in 64 bits"
)]

use super::super::{ExtSeq, put};
use super::transport_cc::{FIXED_LEN, LARGE, LOST, SMALL, TICKS_PER_REFERENCE};
use super::{format, packet_type};

/// Length of everything before the status chunks.
const HEAD_LEN: usize = 4 + FIXED_LEN;
/// Symbols in a vector chunk of one bit each, and of two bits each.
const ONE_BIT_SYMBOLS: usize = 14;
const TWO_BIT_SYMBOLS: usize = 7;
/// The longest run of one symbol.
const MAX_RUN: usize = 0x1fff;

/// One received packet to report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Its transport-wide sequence number, extended.
    pub seq: ExtSeq,
    /// When it arrived, in ticks of 250 µs of any one clock; only 2^31 units of 64 ms are
    /// distinguished.
    pub at: i64,
}

/// The contents of a feedback packet to be written.
pub(super) struct Feedback<'a> {
    pub(super) sender: u32,
    pub(super) media: u32,
    /// Counts feedback packets.
    pub(super) number: u8,
    /// The first reported sequence number: missing ones before the first arrival count as lost.
    pub(super) base: ExtSeq,
    /// Sorted by sequence number, none below `base`.
    pub(super) arrivals: &'a [Arrival],
}

impl Feedback<'_> {
    /// Writes one packet at the start of `buf` that reports as many arrivals as possible. Returns
    /// its length and the number of arrivals; `None` if not even one fits.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the last number is less than 65,535 ahead of the base"
    )]
    pub(super) fn write(&self, buf: &mut [u8]) -> Option<(usize, usize)> {
        let reference = self.arrivals.first()?.at.div_euclid(TICKS_PER_REFERENCE);
        let start = reference * TICKS_PER_REFERENCE;
        let limit = (buf.len() & !3).min(4 * 0x1_0000);
        let mut chunks = Chunks::new();
        let (mut seq, mut time, mut deltas_len, mut taken) = (self.base, start, 0, 0);
        for arrival in self.arrivals {
            let Some((delta, gap)) = step(arrival, seq, time) else { break };
            let before = chunks;
            let symbol = if u8::try_from(delta).is_ok() { SMALL } else { LARGE };
            let fits = chunks.push_run(LOST, gap, buf, limit)
                && chunks.push_run(symbol, 1, buf, limit)
                && arrival.seq.distance_from(self.base) < i64::from(u16::MAX);
            let more = deltas_len + usize::from(symbol);
            if !fits || chunks.len_when_flushed() + more > limit {
                chunks = before;
                break;
            }
            deltas_len = more;
            (seq, time) = (arrival.seq.next(), arrival.at);
            taken += 1;
        }
        if taken == 0 {
            return None;
        }
        let chunks_end = chunks.flush(buf)?;
        let count = seq.distance_from(self.base) as u16;
        let end = write_deltas(buf, chunks_end, self.arrivals.get(..taken)?, start)?;
        let len = self.write_head(buf, end, count, reference)?;
        Some((len, taken))
    }

    /// Writes the padding and everything before the chunks; returns the packet's length.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than four bytes of padding, and at most 65,536 words"
    )]
    fn write_head(&self, buf: &mut [u8], end: usize, count: u16, reference: i64) -> Option<usize> {
        let len = end.next_multiple_of(4);
        let padding = len - end;
        buf.get_mut(end..len)?.fill(0);
        if padding > 0 {
            put(buf, len - 1, &[padding as u8])?;
        }
        let padding_bit = u8::from(padding > 0) << 5;
        put(buf, 0, &[0x80 | padding_bit | format::TRANSPORT_CC, packet_type::RTPFB])?;
        put(buf, 2, &((len / 4 - 1) as u16).to_be_bytes())?;
        put(buf, 4, &self.sender.to_be_bytes())?;
        put(buf, 8, &self.media.to_be_bytes())?;
        put(buf, 12, &self.base.seq().0.to_be_bytes())?;
        put(buf, 14, &count.to_be_bytes())?;
        let [.., t0, t1, t2] = reference.to_be_bytes();
        put(buf, 16, &[t0, t1, t2, self.number])?;
        Some(len)
    }
}

/// The delta and the number of lost packets before `arrival`; `None` if this feedback cannot
/// express it, because the delta exceeds 16 bits (8 s), the gap exceeds what a packet can count, or
/// the arrival is out of order in the list.
fn step(arrival: &Arrival, seq: ExtSeq, time: i64) -> Option<(i16, usize)> {
    let gap = u16::try_from(arrival.seq.distance_from(seq)).ok()?;
    let delta = i16::try_from(arrival.at.checked_sub(time)?).ok()?;
    Some((delta, usize::from(gap)))
}

fn write_deltas(
    buf: &mut [u8],
    mut at: usize,
    arrivals: &[Arrival],
    mut time: i64,
) -> Option<usize> {
    for arrival in arrivals {
        let delta = i16::try_from(arrival.at - time).ok()?;
        time = arrival.at;
        if let Ok(delta) = u8::try_from(delta) {
            put(buf, at, &[delta])?;
            at += 1;
        } else {
            put(buf, at, &delta.to_be_bytes())?;
            at += 2;
        }
    }
    Some(at)
}

/// Packs symbols into status chunks, greedily: symbols wait until it is clear which form holds the
/// most of them.
#[derive(Clone, Copy)]
struct Chunks {
    /// Where the next chunk goes.
    at: usize,
    /// The waiting symbols; a longer run of one symbol is only counted.
    symbols: [u8; ONE_BIT_SYMBOLS],
    waiting: usize,
    /// All waiting symbols are the same.
    same: bool,
    /// One of them needs two bits.
    large: bool,
}

impl Chunks {
    const fn new() -> Self {
        Self {
            at: HEAD_LEN,
            symbols: [LOST; ONE_BIT_SYMBOLS],
            waiting: 0,
            same: true,
            large: false,
        }
    }

    /// Length of the packet up to the deltas, if it ended here.
    fn len_when_flushed(&self) -> usize {
        self.at + if self.waiting > 0 { 2 } else { 0 }
    }

    /// Adds a symbol `times`; returns false if a chunk does not fit below `limit`.
    fn push_run(&mut self, symbol: u8, times: usize, buf: &mut [u8], limit: usize) -> bool {
        for _ in 0..times {
            if !self.can_take(symbol) && (self.at + 2 > limit || self.emit(buf).is_none()) {
                return false;
            }
            self.take(symbol);
        }
        true
    }

    fn can_take(&self, symbol: u8) -> bool {
        let first = self.symbols.first().copied().unwrap_or(LOST);
        self.waiting < TWO_BIT_SYMBOLS
            || (self.waiting < ONE_BIT_SYMBOLS && !self.large && symbol != LARGE)
            || (self.waiting < MAX_RUN && self.same && symbol == first)
    }

    fn take(&mut self, symbol: u8) {
        self.same &= self.waiting == 0 || self.symbols.first() == Some(&symbol);
        self.large |= symbol == LARGE;
        if let Some(slot) = self.symbols.get_mut(self.waiting) {
            *slot = symbol;
        }
        self.waiting += 1;
    }

    /// Writes one full chunk and keeps the remaining symbols.
    fn emit(&mut self, buf: &mut [u8]) -> Option<()> {
        let (word, held) = if self.same {
            (self.run_word(), self.waiting)
        } else if self.waiting == ONE_BIT_SYMBOLS && !self.large {
            (self.vector_word(1), ONE_BIT_SYMBOLS)
        } else {
            (self.vector_word(2), TWO_BIT_SYMBOLS)
        };
        put(buf, self.at, &word.to_be_bytes())?;
        let kept = *self;
        *self = Self { at: self.at + 2, ..Self::new() };
        for symbol in kept.symbols.iter().take(kept.waiting).skip(held) {
            self.take(*symbol);
        }
        Some(())
    }

    /// Writes the waiting symbols as the last chunk; returns where the deltas go.
    fn flush(self, buf: &mut [u8]) -> Option<usize> {
        if self.waiting == 0 {
            return Some(self.at);
        }
        let word = if self.same {
            self.run_word()
        } else if self.waiting <= TWO_BIT_SYMBOLS {
            self.vector_word(2)
        } else {
            self.vector_word(1)
        };
        put(buf, self.at, &word.to_be_bytes())?;
        Some(self.at + 2)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a run has at most 13 bits")]
    fn run_word(&self) -> u16 {
        let symbol = self.symbols.first().copied().unwrap_or(LOST);
        (u16::from(symbol) << 13) | self.waiting as u16
    }

    /// A vector chunk of symbols of `bits` each; unused ones are zero.
    fn vector_word(&self, bits: u16) -> u16 {
        let count = if bits == 1 { ONE_BIT_SYMBOLS } else { TWO_BIT_SYMBOLS };
        let waiting = self.symbols.iter().take(self.waiting).chain(std::iter::repeat(&LOST));
        let symbols =
            waiting.take(count).fold(0u16, |word, symbol| (word << bits) | u16::from(*symbol));
        0x8000 | ((bits - 1) << 14) | symbols
    }
}
