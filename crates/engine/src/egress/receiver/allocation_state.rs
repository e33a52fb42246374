//! A receiver's constraints on video, and the state of its bandwidth allocation.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{AllocationConfig, AllocationConstraints, egress::allocation::Hysteresis};

/// Time over which the audio bitrate is measured.
const AUDIO_WINDOW: Duration = Duration::from_secs(1);
/// Time over which the bitrate of retransmissions is measured. It counts once it has lasted for
/// another window: a burst of losses takes no layer away.
const RETRANSMISSION_WINDOW: Duration = Duration::from_secs(2);
/// Bitrate of redundant audio relative to plain audio, in halves: two more payloads, and one header.
const REDUNDANT_HALVES: u64 = 5;
/// Redundancy is added if plain audio takes at most one part in this many of the bandwidth, and stays while
/// it takes at most one in the second number.
const AUDIO_PART: (u64, u64) = (10, 8);
/// An estimate is reported again when it differs by one part in this many.
const REPORT_PART: u64 = 20;

/// The state of a receiver's bandwidth allocation.
#[derive(Debug)]
pub struct AllocationState {
    /// Its constraints, in order of priority; `None` until control sets them.
    pub wishes: Option<Arc<AllocationConstraints>>,
    /// The estimate that was last allocated.
    pub hysteresis: Hysteresis,
    /// Whether it is in the shard's list of scheduled allocations.
    pub listed: bool,
    /// When it was last allocated; small changes are collected since then.
    pub at: Instant,
    /// Bitrate of the videos in the last allocation, bit/s.
    pub decided_bps: u64,
    /// The estimate last reported to control, bit/s.
    reported: Option<u64>,
    /// The number of videos in the last allocation.
    videos: usize,
    /// Whether control got a report since the last [`AllocationState::begin_interval`].
    reported_lately: bool,
    /// Whether a change still has to be reported to control.
    unreported: bool,
    audio: Measured,
    retransmitted: Measured,
}

/// A bitrate measured over the last window.
#[derive(Debug)]
struct Measured {
    bytes: u64,
    since: Instant,
    bps: u64,
    /// The bitrate of the window before.
    before_bps: u64,
}

impl Measured {
    fn new(now: Instant) -> Self {
        Self { bytes: 0, since: now, bps: 0, before_bps: 0 }
    }

    #[inline]
    fn add(&mut self, len: usize) {
        self.bytes = self.bytes.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    }

    fn advance(&mut self, now: Instant, window: Duration) {
        let over = now.saturating_duration_since(self.since);
        if over >= window {
            let bits = std::mem::take(&mut self.bytes).saturating_mul(8_000);
            let ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
            self.before_bps = std::mem::replace(&mut self.bps, bits.checked_div(ms).unwrap_or(0));
            self.since = now;
        }
    }
}

impl AllocationState {
    /// Creates the state of a receiver without estimate and constraints.
    pub fn new(config: &AllocationConfig, now: Instant) -> Self {
        Self {
            wishes: None,
            hysteresis: Hysteresis::new(config.change_threshold),
            listed: false,
            at: now,
            decided_bps: 0,
            reported: None,
            videos: 0,
            reported_lately: false,
            unreported: false,
            audio: Measured::new(now),
            retransmitted: Measured::new(now),
        }
    }

    /// Counts audio that was sent. It is not part of the allocation: it has priority over video.
    #[inline]
    pub fn on_audio(&mut self, len: usize) {
        self.audio.add(len);
    }

    /// Counts bytes that were retransmitted. They are not part of the allocation either: without
    /// them the original packets are of no use.
    pub fn on_retransmitted(&mut self, len: usize) {
        self.retransmitted.add(len);
    }

    /// The bitrate to reserve for audio, and for retransmissions that have lasted for some time,
    /// bit/s.
    pub fn reserved_bps(&mut self, now: Instant) -> u64 {
        self.audio.advance(now, AUDIO_WINDOW);
        self.retransmitted.advance(now, RETRANSMISSION_WINDOW);
        self.audio.bps.saturating_add(self.retransmitted.bps.min(self.retransmitted.before_bps))
    }

    /// Returns whether a bandwidth of `bps` has room for audio that is sent three times: on a narrow
    /// link it would take the place of all video, and lose more than it protects. `redundant`: the
    /// measured audio was redundant. `None`: no audio was measured.
    pub fn affords_redundancy(&self, bps: u64, redundant: bool) -> Option<bool> {
        let audio = Some(self.audio.bps).filter(|bps| *bps > 0)?;
        let (plain, part) = if redundant {
            (audio.saturating_mul(2) / REDUNDANT_HALVES, AUDIO_PART.1)
        } else {
            (audio, AUDIO_PART.0)
        };
        Some(plain.saturating_mul(part) <= bps)
    }

    /// Returns whether to report to control now, because the estimate, the number of videos or
    /// something else changed since the last report. One video less may be the only change: no
    /// other decision changes then. There is one report per interval; later changes in the interval
    /// are reported together at the start of the next one.
    pub fn should_report(&mut self, estimate: Option<u64>, videos: usize, changed: bool) -> bool {
        let others = std::mem::replace(&mut self.videos, videos) != videos;
        let differs = match (self.reported, estimate) {
            (Some(reported), Some(now)) => {
                reported.abs_diff(now) > reported.checked_div(REPORT_PART).unwrap_or(0)
            }
            (reported, now) => reported != now,
        };
        self.unreported |= differs || others || changed;
        if !self.unreported || self.reported_lately {
            return false;
        }
        (self.reported_lately, self.unreported, self.reported) = (true, false, estimate);
        true
    }

    /// Allows another report to control. Returns whether a change is still to be reported.
    pub fn begin_interval(&mut self) -> bool {
        self.reported_lately = false;
        self.unreported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_is_measured_by_the_second() {
        let start = Instant::now();
        let mut a = AllocationState::new(&AllocationConfig::default(), start);
        for _ in 0..50 {
            a.on_audio(100);
        }
        assert_eq!(a.reserved_bps(start + Duration::from_millis(999)), 0);
        assert_eq!(a.reserved_bps(start + Duration::from_secs(1)), 40_000);
        assert_eq!(a.reserved_bps(start + Duration::from_millis(1_500)), 40_000);
        assert_eq!(a.reserved_bps(start + Duration::from_secs(2)), 0, "it fell silent");
    }

    #[test]
    fn redundancy_is_afforded_where_plain_audio_takes_a_tenth() {
        let start = Instant::now();
        let mut a = AllocationState::new(&AllocationConfig::default(), start);
        assert_eq!(a.affords_redundancy(u64::MAX, false), None, "nothing was measured");
        a.on_audio(3_750);
        a.reserved_bps(start + Duration::from_secs(1));
        assert_eq!(a.affords_redundancy(300_000, false), Some(true));
        assert_eq!(a.affords_redundancy(299_999, false), Some(false));
        // It was 12 kbit/s before it was made redundant.
        assert_eq!(a.affords_redundancy(96_000, true), Some(true));
        assert_eq!(a.affords_redundancy(95_999, true), Some(false));
    }

    #[test]
    fn what_is_sent_again_counts_when_it_lasts() {
        let start = Instant::now();
        let mut a = AllocationState::new(&AllocationConfig::default(), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        a.on_retransmitted(25_000);
        assert_eq!(a.reserved_bps(at(2)), 0);
        a.on_retransmitted(10_000);
        assert_eq!(a.reserved_bps(at(4)), 40_000);
        assert_eq!(a.reserved_bps(at(5)), 40_000);
        assert_eq!(a.reserved_bps(at(6)), 0);
    }

    #[test]
    fn an_estimate_is_told_when_it_is_another() {
        let mut a = AllocationState::new(&AllocationConfig::default(), Instant::now());
        let mut should_report = |estimate| {
            a.begin_interval();
            a.should_report(estimate, 0, false)
        };
        assert!(!should_report(None) && should_report(Some(1_000)));
        assert!(!should_report(Some(1_050)) && should_report(Some(1_051)));
        assert!(!should_report(Some(1_000)) && should_report(None));
    }

    #[test]
    fn control_is_told_once_in_an_interval_and_of_the_last_change_in_the_next() {
        let mut a = AllocationState::new(&AllocationConfig::default(), Instant::now());
        assert!(a.should_report(Some(1_000), 0, false), "the first change is reported at once");
        assert!(!a.should_report(Some(2_000), 0, false) && !a.should_report(Some(1_000), 0, true));
        assert!(a.begin_interval() && a.should_report(Some(1_000), 0, false));
        assert!(
            !a.begin_interval() && !a.should_report(Some(1_000), 0, false),
            "there is nothing new"
        );
        assert!(a.should_report(Some(1_000), 0, true));
    }

    #[test]
    fn a_video_more_or_less_is_told() {
        let mut a = AllocationState::new(&AllocationConfig::default(), Instant::now());
        for (videos, reported) in [(2, true), (2, false), (1, true), (1, false)] {
            a.begin_interval();
            assert_eq!(a.should_report(None, videos, false), reported, "{videos}");
        }
    }
}
