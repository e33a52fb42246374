//! Maps congestion control feedback (RFC 8888), which names packets by SSRC and sequence number, to
//! the estimator's numbers, which run over all streams of a path.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "times of the receiver's clock, unwrapped and bounded by FAR"
)]

use std::collections::{HashMap, VecDeque};

use rialto_bwe::Report;
use rialto_rtp::rtcp::{
    CongestionFeedback,
    ccfb::{Fate, Metric},
};

/// Packets that are remembered, and for how long, ms: two seconds of 25 Mbit/s.
const REMEMBERED: usize = 4_096;
const REMEMBERED_MS: u16 = 2_000;

/// A clock that has advanced this far, in 1/65,536 s, is reset. That takes two years, or reports
/// that each leap by hours.
const FAR: u64 = 1 << 42;

/// A packet as a receiver names it.
type Name = (u32, u16);

/// The packets sent last on a path.
#[derive(Debug)]
pub(super) struct Reported {
    numbers: HashMap<Name, u16>,
    /// The packets in sending order, with their time, ms: the last of them is the one before
    /// `next`. They take as much memory as two seconds of packets need.
    order: VecDeque<(Name, u16)>,
    next: u16,
    /// The clock of the receiver's last report, in 1/65,536 s, unwrapped.
    clock: Option<i64>,
    reports: Vec<Report>,
}

impl Reported {
    pub(super) fn new() -> Self {
        Self {
            numbers: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            clock: None,
            reports: Vec::new(),
        }
    }

    /// Records a packet sent under the estimator's `number`, at `ms` milliseconds of any clock.
    pub(super) fn on_sent(&mut self, name: Name, number: u16, ms: u16) {
        while let Some((oldest, at)) = self.order.front().copied()
            && (self.order.len() == REMEMBERED || ms.wrapping_sub(at) > REMEMBERED_MS)
        {
            let first = self.next.wrapping_sub(u16::try_from(self.order.len()).unwrap_or_default());
            if self.numbers.get(&oldest) == Some(&first) {
                self.numbers.remove(&oldest);
            }
            self.order.pop_front();
        }
        if number != self.next {
            // The estimator counts each packet; those in between were sent before this existed.
            self.numbers.clear();
            self.order.clear();
        }
        self.numbers.insert(name, number);
        self.order.push_back((name, ms));
        self.next = number.wrapping_add(1);
    }

    /// Reads a feedback packet. Returns its reports in the order of the estimator's numbers, up to
    /// `next`, the next number to be sent; and the number of reports about unknown packets.
    pub(super) fn read(
        &mut self,
        feedback: &CongestionFeedback<'_>,
        next: u16,
    ) -> (impl Iterator<Item = Report>, u32) {
        let reported_at = self.unwrap(feedback.report_time);
        self.reports.clear();
        let mut unknown = 0u32;
        for Metric { ssrc, seq, fate } in feedback.metrics() {
            let received = match fate {
                Fate::Lost => None,
                // Both are in units of 1/65,536 s: the report's time, and 64 of them for each
                // 1/1024 s.
                Fate::Received(offset) => {
                    Some((reported_at - 64 * i64::from(offset)) * 1_000_000 / 65_536)
                }
                Fate::ReceivedSometime => continue,
            };
            match self.numbers.get(&(ssrc, seq.0)) {
                Some(number) => self.reports.push(Report { number: *number, received }),
                None => unknown = unknown.saturating_add(1),
            }
        }
        self.reports.sort_unstable_by_key(|report| u16::MAX - next.wrapping_sub(report.number));
        (self.reports.drain(..), unknown)
    }

    fn unwrap(&mut self, time: u32) -> i64 {
        let last = self.clock.unwrap_or_else(|| time.into());
        // The low half of the last time: the difference is a step of a clock that wraps.
        let low = u32::try_from(last.rem_euclid(1 << 32)).unwrap_or_default();
        let step = time.wrapping_sub(low).cast_signed();
        let ahead = last + i64::from(step);
        let now = if ahead.unsigned_abs() < FAR { ahead } else { time.into() };
        self.clock = Some(now);
        now
    }
}

#[cfg(test)]
mod tests {
    use rialto_rtp::{
        Seq,
        rtcp::{Rtcp, RtcpPackets, RtcpWriter},
    };

    use super::*;

    fn read(
        reported: &mut Reported,
        blocks: &[(u32, Seq, &[Fate])],
        time: u32,
        next: u16,
    ) -> (Vec<(u16, Option<i64>)>, u32) {
        let mut buf = [0; 1_200];
        let mut writer = RtcpWriter::new(&mut buf);
        writer.congestion_feedback(1, blocks, time).unwrap();
        let len = writer.len();
        let Some(Ok(Rtcp::CongestionFeedback(feedback))) = RtcpPackets::new(&buf[..len]).next()
        else {
            panic!("no feedback")
        };
        let (reports, unknown) = reported.read(&feedback, next);
        (reports.map(|report| (report.number, report.received)).collect(), unknown)
    }

    #[test]
    fn packets_of_several_streams_come_in_the_order_in_which_they_were_sent() {
        let mut reported = Reported::new();
        // Audio and video by turns, across a wrap of either number.
        for n in 0..4u16 {
            reported.on_sent((7, 0xfffe_u16.wrapping_add(n)), 0xfffd_u16.wrapping_add(2 * n), 0);
            reported.on_sent((8, 100 + n), 0xfffe_u16.wrapping_add(2 * n), 0);
        }
        let second = 65_536;
        let got = |offset| Fate::Received(offset);
        let video = [got(1_024), Fate::Lost, got(512), Fate::ReceivedSometime];
        let audio = [got(1_023), got(768), got(511), got(255), got(0)];
        let blocks = [(7, Seq(0xfffe), &video[..]), (8, Seq(100), &audio[..])];
        let (reports, unknown) = read(&mut reported, &blocks, 10 * second, 5);
        let numbers: Vec<u16> = reports.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0xfffd, 0xfffe, 0xffff, 0, 1, 2, 4]);
        let times: Vec<Option<i64>> = reports.iter().map(|(_, received)| *received).collect();
        let us = |ms: i64, more: i64| Some(9_000_000 + ms * 1_000 + more);
        assert_eq!(times[..3], [us(0, 0), us(0, 976), None]);
        assert_eq!(times[3..5], [us(250, 0), us(500, 0)]);
        assert_eq!(unknown, 1, "104 was not sent");
        // The report's time wraps after 18 hours.
        let (before, _) = read(&mut reported, &[(7, Seq(0), &[got(0)])], u32::MAX - 32_767, 5);
        let (after, _) = read(&mut reported, &[(7, Seq(0), &[got(0)])], 32_768, 5);
        assert_eq!(after[0].1.unwrap() - before[0].1.unwrap(), 1_000_000);
    }

    #[test]
    fn takes_as_much_memory_as_two_seconds_need() {
        let mut reported = Reported::new();
        // 2.5 Mbit/s for a minute.
        for n in 0..60 * 280u32 {
            let ms = (n * 1_000 / 280) as u16;
            reported.on_sent((1, n as u16), n as u16, ms);
            assert!(reported.order.len() <= 562);
        }
        let (order, numbers) = (reported.order.capacity() * 8, reported.numbers.capacity() * 13);
        assert!(order + numbers < 40 << 10, "{order} and {numbers} bytes");
    }

    #[test]
    fn remembers_so_many_and_no_more() {
        let mut reported = Reported::new();
        for n in 0..20_000u32 {
            reported.on_sent((1, n as u16), n as u16, 0);
            assert!(reported.numbers.len() <= REMEMBERED && reported.order.len() <= REMEMBERED);
        }
        // The same names again under other numbers: what was overwritten is not removed with the
        // old entries.
        for n in 0..20_000u32 {
            reported.on_sent((1, (n % 100) as u16), n as u16, 0);
        }
        let (reports, unknown) = read(&mut reported, &[(1, Seq(0), &[Fate::Lost; 100])], 0, 20_000);
        assert_eq!((reports.len(), unknown), (100, 0));
    }

    #[test]
    fn a_clock_that_leaps_in_each_report_counts_on() {
        let mut reported = Reported::new();
        reported.on_sent((7, 0), 1, 0);
        for step in [i32::MAX.cast_unsigned(), i32::MIN.cast_unsigned()] {
            let mut time = 0u32;
            for _ in 0..20_000 {
                time = time.wrapping_add(step);
                let (reports, _) =
                    read(&mut reported, &[(7, Seq(0), &[Fate::Received(0)])], time, 2);
                assert_eq!(reports.len(), 1);
            }
        }
    }
}
