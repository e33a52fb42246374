//! Reception statistics of one stream (RFC 3550 sections 6.4.1, A.3 and A.8).
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits, and what RFC 3550 keeps of them"
)]

use std::time::{Duration, Instant};

/// The contents of a report block about a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Fraction lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; 24 bits on the wire.
    pub cumulative_lost: i32,
    /// Highest extended sequence number received, 32 bits.
    pub highest: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time, 0 if none.
    pub last_sr: u32,
    /// Time since it arrived, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// Counters of one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamStats {
    base: Option<u64>,
    highest: u64,
    received: u64,
    /// Packets dropped undecrypted since the last counted one, and in all: they do not count as
    /// expected.
    passed: u64,
    excused: u64,
    expected_before: u64,
    received_before: u64,
    /// Jitter in 1/16 timestamp units (RFC 3550 appendix A.8).
    jitter_q4: u32,
    transit: Option<i64>,
    last_sr: Option<(u32, Instant)>,
    /// Bytes since the last snapshot.
    pub interval_bytes: u64,
    /// Expected and received packets at the last snapshot.
    snapshot: (u64, u64),
}

impl StreamStats {
    /// Records a packet that arrived plain.
    #[inline]
    pub fn on_packet(
        &mut self,
        since_epoch: Duration,
        index: u64,
        timestamp: u32,
        clock_rate: u32,
        len: usize,
    ) {
        let base = *self.base.get_or_insert(index);
        self.base = Some(base.min(index));
        if index > self.highest {
            let gap = index - self.highest - 1;
            self.excused += std::mem::take(&mut self.passed).min(gap);
        }
        self.highest = self.highest.max(index);
        self.received += 1;
        self.interval_bytes += len as u64;
        let arrival =
            (since_epoch.as_micros() as u64).wrapping_mul(u64::from(clock_rate)) / 1_000_000;
        let transit = i64::from((arrival as u32).wrapping_sub(timestamp));
        if let Some(before) = self.transit.replace(transit) {
            let d = (transit - before).unsigned_abs().min(u64::from(clock_rate)) as u32;
            self.jitter_q4 =
                self.jitter_q4.saturating_add(d).saturating_sub((self.jitter_q4 + 8) >> 4);
        }
    }

    /// Records a packet that was dropped undecrypted, ahead of all that were counted.
    #[inline]
    pub fn pass(&mut self) {
        self.passed += u64::from(self.base.is_some());
    }

    /// Records a sender report.
    pub fn on_sender_report(&mut self, now: Instant, ntp: u64) {
        self.last_sr = Some(((ntp >> 16) as u32, now));
    }

    /// Returns a report block, and starts the next interval. `None` if nothing was received yet.
    pub fn report(&mut self, now: Instant) -> Option<Report> {
        let expected = self.expected()?;
        let interval_expected = expected.saturating_sub(self.expected_before);
        let interval_received = self.received.saturating_sub(self.received_before);
        self.expected_before = expected;
        self.received_before = self.received;
        let lost = interval_expected.saturating_sub(interval_received);
        let fraction = (lost * 256).checked_div(interval_expected).unwrap_or(0).min(255);
        let (last_sr, at) = self.last_sr.map_or((0, now), |(sr, at)| (sr, at));
        let delay = now.saturating_duration_since(at);
        Some(Report {
            fraction_lost: fraction as u8,
            cumulative_lost: (expected as i64 - self.received as i64).clamp(-0x80_0000, 0x7f_ffff)
                as i32,
            highest: self.highest as u32,
            jitter: self.jitter_q4 >> 4,
            last_sr,
            delay_since_last_sr: (delay.as_micros() * 65_536 / 1_000_000).min(u128::from(u32::MAX))
                as u32,
        })
    }

    /// Expected and received packets since the last call.
    pub fn take_interval(&mut self) -> (u64, u64) {
        let now = (self.expected().unwrap_or(0), self.received);
        let before = std::mem::replace(&mut self.snapshot, now);
        (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))
    }

    /// Packets received.
    pub fn received(&self) -> u64 {
        self.received
    }

    fn expected(&self) -> Option<u64> {
        Some((self.highest.saturating_sub(self.base?) + 1).saturating_sub(self.excused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_loss_of_the_interval() {
        let now = Instant::now();
        let mut s = StreamStats::default();
        assert_eq!(s.report(now), None);
        for i in (0..100u64).filter(|i| i % 4 != 0) {
            s.on_packet(Duration::from_millis(i * 20), 1_000 + i, (i * 960) as u32, 48_000, 100);
        }
        let r = s.report(now).unwrap();
        assert_eq!(r.cumulative_lost, 24, "the first of the four is not known to be missing");
        assert_eq!(r.fraction_lost, (24 * 256 / 99) as u8);
        assert_eq!(r.jitter, 0, "sent and received at the same pace");
        assert_eq!(s.report(now).unwrap().fraction_lost, 0);
        assert_eq!(s.take_interval(), (99, 75));
    }

    #[test]
    fn what_ended_unopened_is_not_lost_and_a_loss_among_it_is() {
        let now = Instant::now();
        let mut s = StreamStats::default();
        let come = |s: &mut StreamStats, index: u64| {
            s.on_packet(
                Duration::from_millis(index * 20),
                index,
                (index * 960) as u32,
                48_000,
                100,
            );
        };
        s.pass();
        come(&mut s, 1_000);
        (0..50).for_each(|_| s.pass());
        come(&mut s, 1_051);
        assert_eq!(s.report(now).unwrap().cumulative_lost, 0);
        (0..8).for_each(|_| s.pass());
        come(&mut s, 1_061);
        let report = s.report(now).unwrap();
        assert_eq!(
            (report.cumulative_lost, report.fraction_lost),
            (1, 128),
            "of 9 packets, 8 passed"
        );
        come(&mut s, 1_062);
        come(&mut s, 1_064);
        assert_eq!(s.report(now).unwrap().cumulative_lost, 2);
        assert_eq!(s.take_interval(), (7, 5));
    }

    #[test]
    fn the_delay_since_the_sender_report_is_in_65536ths() {
        let now = Instant::now();
        let mut s = StreamStats::default();
        s.on_packet(Duration::ZERO, 1, 0, 90_000, 1);
        s.on_sender_report(now, 0x1234_5678_9abc_def0);
        let r = s.report(now + Duration::from_millis(500)).unwrap();
        assert_eq!((r.last_sr, r.delay_since_last_sr), (0x5678_9abc, 32_768));
    }
}
