//! Records when packets with transport-wide sequence numbers arrived
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), for the feedback from which a sender
//! estimates its uplink.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "numbers and ticks of 64 bits"
)]

use std::time::{Duration, Instant};

use rialto_rtp::{ExtSeq, rtcp::Arrival};

/// Interval of feedback while packets arrive.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// Most packets recorded between two feedback packets; if there are more, the feedback leaves
/// early.
pub const CAPACITY: usize = 512;

/// The number of an undecrypted packet counts if it is this close to the newest one.
const UNOPENED_WITHIN: u64 = 64;

/// Records the arrivals of one sender.
#[derive(Debug)]
pub struct TwccRecorder {
    epoch: Instant,
    arrivals: Vec<Arrival>,
    newest: Option<u64>,
    /// First sequence number that the next feedback describes.
    next_base: Option<u64>,
    last_sent: Instant,
    /// Arrivals that did not fit, since they were last counted.
    overflowed: u64,
}

impl TwccRecorder {
    /// Creates a recorder whose feedback times count from `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            arrivals: Vec::with_capacity(CAPACITY),
            newest: None,
            next_base: None,
            last_sent: now,
            overflowed: 0,
        }
    }

    /// Records a packet.
    #[inline]
    pub fn on_packet(&mut self, now: Instant, sequence: u16) {
        if self.arrivals.len() >= CAPACITY {
            self.overflowed += 1;
            return;
        }
        let extended = self.newest.map_or(0x1_0000 | u64::from(sequence), |n| nearest(n, sequence));
        self.newest = Some(self.newest.map_or(extended, |n| n.max(extended)));
        let at = now.saturating_duration_since(self.epoch).as_micros() as i64 / 250;
        let arrival = Arrival { seq: ExtSeq(extended), at };
        // Nearly always in order: insert from the end.
        let place = self.arrivals.iter().rposition(|a| a.seq.0 <= extended).map_or(0, |p| p + 1);
        let duplicate = place
            .checked_sub(1)
            .and_then(|p| self.arrivals.get(p))
            .is_some_and(|a| a.seq.0 == extended);
        if !duplicate {
            self.arrivals.insert(place, arrival);
        }
    }

    /// Records an undecrypted packet if its number is close to the newest one: a forged one makes
    /// at most a few packets look as if they had arrived, or had not.
    #[inline]
    pub fn on_unopened(&mut self, now: Instant, sequence: u16) {
        let near = |newest| nearest(newest, sequence).abs_diff(newest) <= UNOPENED_WITHIN;
        if self.newest.is_some_and(near) {
            self.on_packet(now, sequence);
        }
    }

    /// Returns whether feedback should be built now.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.arrivals.is_empty()
            && (now.saturating_duration_since(self.last_sent) >= INTERVAL || self.is_full())
    }

    /// Returns whether feedback must be sent early.
    pub fn is_full(&self) -> bool {
        self.arrivals.len() >= CAPACITY / 2
    }

    /// Returns how many arrivals did not fit since the last call, because no feedback could be
    /// sent.
    pub fn take_overflowed(&mut self) -> u64 {
        std::mem::take(&mut self.overflowed)
    }

    /// Passes the base sequence number and the arrivals since the last call to `build`, in order of
    /// sequence number. `build` reports every number from the base to the last one it includes,
    /// gaps as lost, and returns how many arrivals it reported. Returns whether any are left for
    /// another packet.
    pub fn take(&mut self, now: Instant, build: impl FnOnce(u64, &[Arrival]) -> usize) -> bool {
        let (Some(first), Some(last)) = (self.arrivals.first(), self.arrivals.last()) else {
            return false;
        };
        // A late packet from before the last feedback is reported again from there on.
        let base = self.next_base.map_or(first.seq.0, |n| n.min(first.seq.0));
        // A jump of the counter is not thousands of losses.
        let base = base.max(last.seq.0.saturating_sub(2 * CAPACITY as u64));
        let from = self.arrivals.partition_point(|a| a.seq.0 < base);
        let taken = build(base, self.arrivals.get(from..).unwrap_or_default());
        let reported = from.saturating_add(taken).min(self.arrivals.len());
        if let Some(last) = reported.checked_sub(1).and_then(|at| self.arrivals.get(at)) {
            let next = last.seq.0 + 1;
            self.next_base = Some(self.next_base.map_or(next, |n| n.max(next)));
        }
        self.arrivals.drain(..reported);
        if self.arrivals.is_empty() {
            self.last_sent = now;
        }
        !self.arrivals.is_empty()
    }
}

/// Returns the extended number with the low bits `sequence` that is nearest to `newest`.
pub fn nearest(newest: u64, sequence: u16) -> u64 {
    let delta = i64::from(sequence.wrapping_sub(newest as u16) as i16);
    newest.saturating_add_signed(delta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_reports_each_number_once() {
        let start = Instant::now();
        let mut r = TwccRecorder::new(start);
        for (ms, seq) in [(0, 65_534), (1, 65_535), (2, 1), (3, 0), (3, 0)] {
            r.on_packet(start + Duration::from_millis(ms), seq);
        }
        assert!(!r.is_due(start + Duration::from_millis(10)));
        assert!(r.is_due(start + INTERVAL));
        let mut seen = Vec::new();
        r.take(start + INTERVAL, |base, arrivals| {
            assert_eq!(base as u16, 65_534);
            seen = arrivals.iter().map(|a| (a.seq.0 as u16, a.at)).collect();
            arrivals.len()
        });
        assert_eq!(seen, [(65_534, 0), (65_535, 4), (0, 12), (1, 8)]);
        assert!(!r.is_due(start + INTERVAL * 5));
    }

    #[test]
    fn the_next_report_begins_where_the_last_ended() {
        let start = Instant::now();
        let mut r = TwccRecorder::new(start);
        r.on_packet(start, 10);
        r.take(start, |_, arrivals| arrivals.len());
        r.on_packet(start, 13);
        r.take(start, |base, arrivals| {
            assert_eq!(base as u16, 11, "11 and 12 are reported lost");
            assert_eq!(arrivals.len(), 1);
            1
        });
    }

    #[test]
    fn what_has_no_room_is_reported_by_the_next() {
        let start = Instant::now();
        let mut r = TwccRecorder::new(start);
        for seq in [1, 2, 4, 5] {
            r.on_packet(start, seq);
        }
        assert!(r.take(start + INTERVAL, |_, _| 2));
        assert!(r.is_due(start + INTERVAL), "the rest does not wait");
        let left = r.take(start + INTERVAL, |base, arrivals| {
            assert_eq!(base as u16, 3, "3 is reported lost");
            assert_eq!(arrivals.len(), 2);
            2
        });
        assert!(!left && !r.is_due(start + INTERVAL));
    }

    #[test]
    fn what_was_not_opened_counts_near_the_newest_only() {
        let start = Instant::now();
        let mut r = TwccRecorder::new(start);
        r.on_unopened(start, 5);
        assert!(r.arrivals.is_empty(), "nothing is known yet");
        r.on_packet(start, 10);
        for sequence in [11, 75, 140, 9_000, 65_000] {
            r.on_unopened(start, sequence);
        }
        let seen: Vec<_> = r.arrivals.iter().map(|a| a.seq.0 as u16).collect();
        assert_eq!(seen, [10, 11, 75]);
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let mut r = TwccRecorder::new(start);
        for i in 0..10_000u32 {
            r.on_packet(start, i as u16);
        }
        assert_eq!(r.arrivals.len(), CAPACITY);
        assert_eq!(r.take_overflowed(), 10_000 - CAPACITY as u64);
        assert_eq!(r.arrivals.capacity(), CAPACITY);
    }
}
