//! Congestion control feedback of RFC 8888: reads and writes it.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use super::super::{Seq, be16, be32};
use super::RtcpError;

/// Length of the sender's SSRC, before the blocks, and of the report timestamp, after them.
const WORD: usize = 4;
/// Length of a block's header: SSRC, first sequence number, number of reports.
const HEAD: usize = 8;
/// Length of the report about one packet.
const METRIC: usize = 2;
/// The packet was received.
const RECEIVED: u16 = 0x8000;
/// Arrival time offset: longer ago than the field can express.
const OVER: u16 = 0x1ffe;
/// Most packets that a block may report on (section 3.1).
const MAX_REPORTS: u16 = 16_384;

/// A feedback packet (section 3.1) whose blocks are consistent.
#[derive(Clone, Copy, Debug)]
pub struct CongestionFeedback<'a> {
    /// The receiver of the packets.
    pub sender: u32,
    /// When the report was made: the middle 32 bits of an NTP time of the receiver's clock.
    pub report_time: u32,
    blocks: &'a [u8],
}

/// The fate of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Not received.
    Lost,
    /// Received this many 1/1024 s before [`CongestionFeedback::report_time`].
    Received(u16),
    /// Received longer ago than can be expressed, or after the report's time.
    ReceivedSometime,
}

/// The fate of one packet of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// The stream.
    pub ssrc: u32,
    /// The packet's sequence number.
    pub seq: Seq,
    /// Its fate.
    pub fate: Fate,
}

impl<'a> CongestionFeedback<'a> {
    /// Parses the body of the packet (after the common header, without padding).
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, RtcpError> {
        let sender = be32(body, 0).ok_or(RtcpError::Short)?;
        let rest = body.get(WORD..).ok_or(RtcpError::Short)?;
        let end = rest.len().checked_sub(WORD).ok_or(RtcpError::Short)?;
        let (blocks, time) = rest.split_at_checked(end).ok_or(RtcpError::Short)?;
        let report_time = be32(time, 0).ok_or(RtcpError::Short)?;
        let mut left = blocks;
        while !left.is_empty() {
            left = block(left)?.rest;
        }
        Ok(Self { sender, report_time, blocks })
    }

    /// One metric for each reported packet, in the order of the packet.
    pub fn metrics(&self) -> Metrics<'a> {
        Metrics { rest: self.blocks, ssrc: 0, seq: Seq(0), words: &[] }
    }
}

/// A block, and what follows it.
struct Block<'a> {
    ssrc: u32,
    first: Seq,
    metrics: &'a [u8],
    rest: &'a [u8],
}

/// Splits the first block off.
fn block(data: &[u8]) -> Result<Block<'_>, RtcpError> {
    let short = RtcpError::Short;
    let count = be16(data, 6).ok_or(short)?;
    if count > MAX_REPORTS {
        return Err(RtcpError::Count);
    }
    let body = data.get(HEAD..).ok_or(short)?;
    let len = METRIC * usize::from(count);
    // An odd number of reports is padded to a whole word.
    let (padded, rest) = body.split_at_checked(len.next_multiple_of(WORD)).ok_or(short)?;
    Ok(Block {
        ssrc: be32(data, 0).ok_or(short)?,
        first: Seq(be16(data, 4).ok_or(short)?),
        metrics: padded.get(..len).ok_or(short)?,
        rest,
    })
}

/// See [`CongestionFeedback::metrics`].
#[derive(Clone, Debug)]
pub struct Metrics<'a> {
    rest: &'a [u8],
    ssrc: u32,
    seq: Seq,
    words: &'a [u8],
}

impl Iterator for Metrics<'_> {
    type Item = Metric;

    fn next(&mut self) -> Option<Metric> {
        while self.words.is_empty() {
            let Block { ssrc, first, metrics, rest } = block(self.rest).ok()?;
            *self = Self { rest, ssrc, seq: first, words: metrics };
        }
        let (word, words) = self.words.split_first_chunk::<METRIC>()?;
        let word = u16::from_be_bytes(*word);
        let metric = Metric { ssrc: self.ssrc, seq: self.seq, fate: Fate::of(word) };
        self.words = words;
        self.seq = self.seq.wrapping_add(1);
        Some(metric)
    }
}

impl Fate {
    fn of(word: u16) -> Self {
        match word & 0x1fff {
            _ if word & RECEIVED == 0 => Self::Lost,
            offset if offset < OVER => Self::Received(offset),
            _ => Self::ReceivedSometime,
        }
    }

    /// Without congestion marks (ECN).
    const fn word(self) -> u16 {
        match self {
            Self::Lost => 0,
            Self::Received(offset) if offset < OVER => RECEIVED | offset,
            Self::Received(_) | Self::ReceivedSometime => RECEIVED | OVER,
        }
    }
}

/// Writes the body of a packet into `buf`: one block per stream with its SSRC, its first sequence
/// number and the fates of the packets from there on. Returns its length; `None` if `buf` is too
/// short.
pub(super) fn write(
    buf: &mut [u8],
    sender: u32,
    blocks: &[(u32, Seq, &[Fate])],
    report_time: u32,
) -> Option<usize> {
    let mut at = 0;
    let mut append = |bytes: &[u8]| {
        buf.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        at += bytes.len();
        Some(())
    };
    append(&sender.to_be_bytes())?;
    for (ssrc, first, fates) in blocks {
        let count = u16::try_from(fates.len()).ok().filter(|count| *count <= MAX_REPORTS)?;
        append(&ssrc.to_be_bytes())?;
        append(&first.0.to_be_bytes())?;
        append(&count.to_be_bytes())?;
        for fate in *fates {
            append(&fate.word().to_be_bytes())?;
        }
        if count % 2 == 1 {
            append(&[0; METRIC])?;
        }
    }
    append(&report_time.to_be_bytes())?;
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Rtcp, RtcpPackets, RtcpWriter};
    use super::*;

    fn read(packet: &[u8]) -> Result<(u32, u32, Vec<Metric>), RtcpError> {
        match RtcpPackets::new(packet).next().unwrap()? {
            Rtcp::CongestionFeedback(feedback) => {
                Ok((feedback.sender, feedback.report_time, feedback.metrics().collect()))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Two streams, of three packets and of one, laid out as in the figure of section 3.1.
    #[test]
    fn reads_what_the_rfc_shows() {
        let packet = [
            0x8b, 205, 0, 9, // version 2, format 11, ten words
            0, 0, 0, 1, // sender
            0, 0, 0, 2, 0xff, 0xff, 0, 3, // SSRC, first number, three reports
            0x80, 0x0a, 0x00, 0x00, 0xff, 0xfe, 0,
            0, // received, lost, received with CE, padding
            0, 0, 0, 3, 0, 7, 0, 1, // another SSRC, one report
            0x9f, 0xff, 0, 0, // received after the report's time, padding
            0x12, 0x34, 0x56, 0x78, // report timestamp
        ];
        let metric = |ssrc, seq, fate| Metric { ssrc, seq: Seq(seq), fate };
        let metrics = vec![
            metric(2, 0xffff, Fate::Received(10)),
            metric(2, 0, Fate::Lost),
            metric(2, 1, Fate::ReceivedSometime),
            metric(3, 7, Fate::ReceivedSometime),
        ];
        assert_eq!(read(&packet), Ok((1, 0x1234_5678, metrics)));
        for len in (8..packet.len()).step_by(4) {
            let mut cut = packet[..len].to_vec();
            cut[3] = (len / 4 - 1) as u8;
            let _ = read(&cut);
        }
        let mut endless = packet;
        endless[14..16].copy_from_slice(&[0x40, 0x01]);
        assert_eq!(read(&endless).unwrap_err(), RtcpError::Count);
        endless[14..16].copy_from_slice(&[0x40, 0x00]);
        assert_eq!(read(&endless).unwrap_err(), RtcpError::Short);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            sender: u32,
            time: u32,
            blocks in prop::collection::vec((any::<u32>(), any::<u16>(), prop::collection::vec(any::<u16>(), 0..40)), 0..5),
        ) {
            let fates: Vec<Vec<Fate>> =
                blocks.iter().map(|(_, _, words)| words.iter().map(|w| Fate::of(*w)).collect()).collect();
            let given: Vec<(u32, Seq, &[Fate])> = blocks
                .iter()
                .zip(&fates)
                .map(|((ssrc, first, _), fates)| (*ssrc, Seq(*first), fates.as_slice()))
                .collect();
            let mut buf = [0; 1_200];
            let mut writer = RtcpWriter::new(&mut buf);
            writer.congestion_feedback(sender, &given, time).unwrap();
            let len = writer.len();
            let metrics: Vec<Metric> = given
                .iter()
                .flat_map(|(ssrc, first, fates)| {
                    (0u16..).zip(*fates).map(|(n, fate)| Metric {
                        ssrc: *ssrc,
                        seq: first.wrapping_add(n),
                        fate: *fate,
                    })
                })
                .collect();
            prop_assert_eq!(read(&buf[..len]), Ok((sender, time, metrics)));
        }

        #[test]
        fn anything_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(feedback) = CongestionFeedback::parse(&body) {
                prop_assert!(feedback.metrics().count() * METRIC <= body.len());
            }
        }
    }
}
