//! Report blocks (RFC 3550 section 6.4.1).

/// Length of a report block in bytes.
pub(super) const BLOCK_LEN: usize = 24;
/// Limits of the 24-bit count of lost packets.
const LOST_RANGE: (i32, i32) = (-(1 << 23), (1 << 23) - 1);

/// A receiver's report about one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Loss since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the start; duplicates can make it negative. 24 bits on the wire, where
    /// it is clamped.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest_seq: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report, 0 if there was none.
    pub last_sr: u32,
    /// Delay since that report, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    pub(super) fn read(bytes: &[u8; BLOCK_LEN]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |n: usize| words.get(n).map_or(0, |word| u32::from_be_bytes(*word));
        Self {
            ssrc: word(0),
            fraction_lost: (word(1) >> 24) as u8,
            // Shifted up and back to extend the sign of 24 bits.
            cumulative_lost: ((word(1) << 8) as i32) >> 8,
            highest_seq: word(2),
            jitter: word(3),
            last_sr: word(4),
            delay_since_last_sr: word(5),
        }
    }

    #[expect(clippy::cast_sign_loss, reason = "24 bits of a two's complement")]
    pub(super) fn words(&self) -> [u32; BLOCK_LEN / 4] {
        let lost = self.cumulative_lost.clamp(LOST_RANGE.0, LOST_RANGE.1) as u32 & 0xff_ffff;
        [
            self.ssrc,
            (u32::from(self.fraction_lost) << 24) | lost,
            self.highest_seq,
            self.jitter,
            self.last_sr,
            self.delay_since_last_sr,
        ]
    }
}

/// Iterates over the report blocks of a sender or receiver report.
#[derive(Clone, Debug)]
pub struct ReportBlocks<'a> {
    rest: &'a [u8],
}

impl<'a> ReportBlocks<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.rest.split_first_chunk::<BLOCK_LEN>()?;
        self.rest = rest;
        Some(ReportBlock::read(block))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rest.len() / BLOCK_LEN;
        (left, Some(left))
    }
}

impl ExactSizeIterator for ReportBlocks<'_> {}
