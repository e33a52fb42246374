//! What a receiver wants of its videos, and what it is given of its link for them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{AllocationConfig, Wishes, egress::allocation::Hysteresis};

/// The rate of audio is measured over so long.
const AUDIO_WINDOW: Duration = Duration::from_secs(1);
/// The rate of what is sent again is measured over so long, and counts once it has lasted for another window: a
/// burst of losses takes no layer away.
const AGAIN_WINDOW: Duration = Duration::from_secs(2);
/// Redundant audio takes so many times what plain audio takes: two more payloads, and one header.
const REDUNDANT: u64 = 2;
/// The part of a link that plain audio may take where it is made redundant.
const AUDIO_PART: u64 = 10;
/// An estimate is told anew when it differs by this part.
const TOLD_PART: u64 = 20;

/// See the module's description.
#[derive(Debug)]
pub struct Allotment {
    /// What it wants, in the order of priority; `None`: control has not said.
    pub wishes: Option<Arc<Wishes>>,
    /// The estimate that was last shared out.
    pub hysteresis: Hysteresis,
    /// It is in the shard's list of those whose link is to be shared out anew.
    pub listed: bool,
    /// When it was last shared out, and since when small changes are collected.
    pub at: Instant,
    /// What the videos were taken to cost that were last decided, bit/s.
    pub decided_bps: u64,
    /// The estimate that control was told, bit/s.
    told: Option<u64>,
    /// How many videos there were when it was last shared out.
    videos: usize,
    /// Control has been told since the last [`Allotment::begin_interval`].
    told_lately: bool,
    /// Control has yet to be told of something.
    untold: bool,
    audio: Measured,
    again: Measured,
}

/// The rate of something over the last window.
#[derive(Debug)]
struct Measured {
    bytes: u64,
    since: Instant,
    bps: u64,
    /// That of the window before.
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

impl Allotment {
    /// A receiver of which nothing is known.
    pub fn new(config: &AllocationConfig, now: Instant) -> Self {
        Self {
            wishes: None,
            hysteresis: Hysteresis::new(config.change_threshold),
            listed: false,
            at: now,
            decided_bps: 0,
            told: None,
            videos: 0,
            told_lately: false,
            untold: false,
            audio: Measured::new(now),
            again: Measured::new(now),
        }
    }

    /// Audio of so many bytes was sent. It is not shared out: it comes first.
    #[inline]
    pub fn on_audio(&mut self, len: usize) {
        self.audio.add(len);
    }

    /// So many bytes were sent again. They are not shared out either: without them what was sent the first time
    /// is of no use.
    pub fn on_again(&mut self, len: usize) {
        self.again.add(len);
    }

    /// What audio takes, bit/s, and what is sent again for some time.
    pub fn set_aside_bps(&mut self, now: Instant) -> u64 {
        self.audio.advance(now, AUDIO_WINDOW);
        self.again.advance(now, AGAIN_WINDOW);
        self.audio.bps.saturating_add(self.again.bps.min(self.again.before_bps))
    }

    /// Whether a link of `bps` has room for audio that is sent three times: on a narrow one it would take the place of
    /// all video, and lose more than it protects. `redundant`: what was measured was.
    pub fn affords_redundancy(&self, bps: u64, redundant: bool) -> bool {
        let plain = if redundant { self.audio.bps / REDUNDANT } else { self.audio.bps };
        plain > 0 && plain.saturating_mul(AUDIO_PART) <= bps
    }

    /// Whether control is to be told now, because this estimate, the number of videos or something else is
    /// new to it. One video less may be all that changes: nothing else is decided for those that stay. It
    /// is told once in an interval: what comes later in that interval is told at the start of the next one,
    /// with all that changed meanwhile.
    pub fn tells(&mut self, estimate: Option<u64>, videos: usize, changed: bool) -> bool {
        let others = std::mem::replace(&mut self.videos, videos) != videos;
        let differs = match (self.told, estimate) {
            (Some(told), Some(now)) => {
                told.abs_diff(now) > told.checked_div(TOLD_PART).unwrap_or(0)
            }
            (told, now) => told != now,
        };
        self.untold |= differs || others || changed;
        if !self.untold || self.told_lately {
            return false;
        }
        (self.told_lately, self.untold, self.told) = (true, false, estimate);
        true
    }

    /// Control may be told again. Returns whether there is something that it was not told.
    pub fn begin_interval(&mut self) -> bool {
        self.told_lately = false;
        self.untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_is_measured_by_the_second() {
        let start = Instant::now();
        let mut a = Allotment::new(&AllocationConfig::default(), start);
        for _ in 0..50 {
            a.on_audio(100);
        }
        assert_eq!(a.set_aside_bps(start + Duration::from_millis(999)), 0);
        assert_eq!(a.set_aside_bps(start + Duration::from_secs(1)), 40_000);
        assert_eq!(a.set_aside_bps(start + Duration::from_millis(1_500)), 40_000);
        assert_eq!(a.set_aside_bps(start + Duration::from_secs(2)), 0, "it fell silent");
    }

    #[test]
    fn redundancy_is_afforded_where_plain_audio_takes_a_tenth() {
        let start = Instant::now();
        let mut a = Allotment::new(&AllocationConfig::default(), start);
        assert!(!a.affords_redundancy(u64::MAX, false), "nothing was measured");
        a.on_audio(3_750);
        a.set_aside_bps(start + Duration::from_secs(1));
        assert!(a.affords_redundancy(300_000, false) && !a.affords_redundancy(299_999, false));
        assert!(a.affords_redundancy(150_000, true) && !a.affords_redundancy(149_999, true));
    }

    #[test]
    fn what_is_sent_again_counts_when_it_lasts() {
        let start = Instant::now();
        let mut a = Allotment::new(&AllocationConfig::default(), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        a.on_again(25_000);
        assert_eq!(a.set_aside_bps(at(2)), 0);
        a.on_again(10_000);
        assert_eq!(a.set_aside_bps(at(4)), 40_000);
        assert_eq!(a.set_aside_bps(at(5)), 40_000);
        assert_eq!(a.set_aside_bps(at(6)), 0);
    }

    #[test]
    fn an_estimate_is_told_when_it_is_another() {
        let mut a = Allotment::new(&AllocationConfig::default(), Instant::now());
        let mut tells = |estimate| {
            a.begin_interval();
            a.tells(estimate, 0, false)
        };
        assert!(!tells(None) && tells(Some(1_000)));
        assert!(!tells(Some(1_050)) && tells(Some(1_051)));
        assert!(!tells(Some(1_000)) && tells(None));
    }

    #[test]
    fn control_is_told_once_in_an_interval_and_of_the_last_change_in_the_next() {
        let mut a = Allotment::new(&AllocationConfig::default(), Instant::now());
        assert!(a.tells(Some(1_000), 0, false), "the first change is told at once");
        assert!(!a.tells(Some(2_000), 0, false) && !a.tells(Some(1_000), 0, true));
        assert!(a.begin_interval() && a.tells(Some(1_000), 0, false));
        assert!(!a.begin_interval() && !a.tells(Some(1_000), 0, false), "there is nothing new");
        assert!(a.tells(Some(1_000), 0, true));
    }

    #[test]
    fn a_video_more_or_less_is_told() {
        let mut a = Allotment::new(&AllocationConfig::default(), Instant::now());
        for (videos, told) in [(2, true), (2, false), (1, true), (1, false)] {
            a.begin_interval();
            assert_eq!(a.tells(None, videos, false), told, "{videos}");
        }
    }
}
