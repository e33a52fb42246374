//! Detects whether a queue builds up in front of the receiver.
//!
//! Each packet has two delays: the measured one (arrival minus departure, above the lowest of the
//! last seconds), and the one that its own sender explains (the packets sent before it, drained at
//! the estimate; [`VirtualQueue`]). The difference is the *excess*: a link that is as fast as the
//! estimate has none, however bursty frames and keyframes are. Jitter delays some packets of a
//! group, a queue delays all of them, so a group counts with the lowest excess of its packets. A
//! line through the last groups has a slope. It is an overuse if the slope exceeds both an adaptive
//! threshold and what the scatter of the groups explains, or if the excess itself persists.

use crate::{
    Trend,
    num::{MS, Micros, millis, real},
};

/// Packets sent within this time are one group: a frame, with the audio beside it.
const GROUP: Micros = 20 * MS;
/// Number of groups that the line goes through.
const WINDOW: usize = 20;
/// Older groups say nothing about the present.
const MAX_AGE: Micros = 1_500 * MS;
/// Number of groups that decide whether a standing queue has drained.
const RECENT: usize = 5;
/// The lowest delay is taken over one to two of these.
const BASE_SPAN: Micros = 5_000 * MS;
/// A slope of 1 is a queue that grows by a second per second; the threshold is in these units.
const GAIN: f64 = 240.0;
const THRESHOLD: (f64, f64, f64) = (6.0, 12.5, 600.0);
/// How fast the threshold follows the trend up and down, per millisecond.
const ADAPT: (f64, f64) = (0.0087, 0.039);
/// A trend this far above the threshold is a spike, to which it does not adapt.
const SPIKE: f64 = 15.0;
/// Excess that is no queue yet.
const SLACK_MS: f64 = 6.0;
/// Excess that is a queue even without a slope.
const STANDING_MS: f64 = 25.0;
/// Limits of the tolerance for a queue of somebody else, which comes again: how many times more
/// excess is tolerated, and for how long.
const MAX_TOLERANCE: f64 = 4.0;
const TOLERATED: Micros = 10_000 * MS;
/// Longest queue that a sender explains, seconds: that of a paced keyframe.
const MAX_OWN_S: f64 = 0.2;
/// Audio alone may exceed an estimate below this, and then explains nothing.
const MIN_OWN_BPS: f64 = 120_000.0;
/// Slope above which clearly more is sent than arrives.
const OVERLOADS: f64 = 0.1;
/// Slope below which a queue drains.
const DRAINS: f64 = -0.02;
/// A keyframe on a link that is just fast enough has passed after this time.
const LASTING: Micros = 700 * MS;
/// Number of standard errors that a slope must exceed.
const SIGNIFICANT: f64 = 3.0;

/// The delay that a sender causes itself on a link whose bandwidth equals the estimate.
#[derive(Debug, Clone)]
pub(crate) struct VirtualQueue {
    bits: f64,
    at: Micros,
}

impl VirtualQueue {
    pub(crate) fn new() -> Self {
        Self { bits: 0.0, at: 0 }
    }

    /// Sends a packet. Returns the time until it has left the link, in microseconds.
    pub(crate) fn send(&mut self, now: Micros, size: u16, bps: u64) -> f64 {
        let bps = real(bps).max(MIN_OWN_BPS);
        let drained = real(now.saturating_sub(self.at)) * bps / 1e6;
        self.at = now;
        let most = bps * MAX_OWN_S;
        self.bits = ((self.bits - drained).max(0.0) + f64::from(size) * 8.0).min(most);
        self.bits * 1e6 / bps
    }
}

/// The lowest value of the last seconds.
#[derive(Debug, Clone)]
struct Base {
    current: f64,
    before: f64,
    since: Micros,
    latest: Micros,
}

impl Base {
    fn update(&mut self, at: Micros, delay: f64) -> f64 {
        self.latest = self.latest.max(at);
        if at.saturating_sub(self.since) > BASE_SPAN {
            self.before = self.current;
            self.current = f64::INFINITY;
            self.since = at;
        }
        self.current = self.current.min(delay);
        self.current.min(self.before)
    }
}

/// A group: when it was sent, its lowest excess and its lowest delay above the base.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    sent: Micros,
    excess: f64,
    queue: f64,
}

/// Detects queues from the delays of packets, in sending order.
#[derive(Debug, Clone)]
pub(crate) struct DelayDetector {
    base: Base,
    current: Option<Group>,
    /// The lowest measured delay of the current group and the one before, for a restart.
    lowest: [f64; 2],
    groups: [Group; WINDOW],
    len: usize,
    last_delay: Option<f64>,
    jitter: f64,
    noise: f64,
    threshold: f64,
    adapted: Micros,
    over: u32,
    /// Additional excess that is tolerated after a queue turned out not to be ours.
    tolerance: f64,
    restarted: Micros,
    queued_since: Option<Micros>,
    lasts: bool,
    draining: bool,
    overloads: bool,
}

impl DelayDetector {
    pub(crate) fn new() -> Self {
        Self {
            base: Base { current: f64::INFINITY, before: f64::INFINITY, since: 0, latest: 0 },
            current: None,
            lowest: [f64::INFINITY; 2],
            groups: [Group::default(); WINDOW],
            len: 0,
            last_delay: None,
            jitter: 0.0,
            noise: 0.0,
            threshold: THRESHOLD.1,
            adapted: 0,
            over: 0,
            tolerance: 1.0,
            restarted: 0,
            queued_since: None,
            lasts: false,
            draining: false,
            overloads: false,
        }
    }

    /// Handles a packet that was sent at `sent` and took `delay_ms` (between two clocks), of which
    /// its sender explains `own_ms`. A packet from before the current group is too late to count.
    pub(crate) fn on_packet(&mut self, sent: Micros, delay_ms: f64, own_ms: f64) {
        if let Some(last) = self.last_delay.replace(delay_ms) {
            self.jitter += ((delay_ms - last).abs().min(200.0) - self.jitter) / 32.0;
        }
        let base = self.base.update(sent, delay_ms);
        let queue = delay_ms - base;
        let excess = (queue - own_ms).max(0.0);
        match &mut self.current {
            Some(group) if sent < group.sent => {}
            Some(group) if sent.saturating_sub(group.sent) < GROUP => {
                group.excess = group.excess.min(excess);
                group.queue = group.queue.min(queue);
                self.lowest[0] = self.lowest[0].min(delay_ms);
            }
            current => {
                let done = current.replace(Group { sent, excess, queue });
                self.lowest = [delay_ms, self.lowest[0]];
                if let Some(group) = done {
                    self.close(group);
                }
            }
        }
    }

    pub(crate) fn state(&self) -> Trend {
        if self.over >= 2 || self.lasts || (self.is_standing() && !self.draining) {
            Trend::Overuse
        } else if self.draining && self.excess_ms() > SLACK_MS {
            Trend::Underuse
        } else {
            Trend::Normal
        }
    }

    /// The queue that its sender does not explain, in milliseconds: the lowest excess of the group
    /// that is arriving and the one before.
    pub(crate) fn excess_ms(&self) -> f64 {
        let least = |least: f64, group: &Group| least.min(group.excess);
        let last = self.latest().fold(f64::INFINITY, least);
        if last.is_finite() { last } else { 0.0 }
    }

    /// The whole queue, whoever caused it, in milliseconds.
    pub(crate) fn queue_ms(&self) -> f64 {
        let last = self.latest().fold(f64::INFINITY, |least: f64, group| least.min(group.queue));
        if last.is_finite() { last } else { 0.0 }
    }

    /// Returns whether the queue is so long that packets arrive as fast as the link allows.
    pub(crate) fn is_standing(&self) -> bool {
        self.len >= 2 && self.excess_ms() > self.standing_ms()
    }

    fn standing_ms(&self) -> f64 {
        STANDING_MS * self.tolerance + 3.0 * self.noise
    }

    /// Returns whether clearly more is sent than arrives.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloads
    }

    /// Returns whether there is a queue, which a probe would only lengthen.
    pub(crate) fn is_queued(&self) -> bool {
        self.queue_ms() > STANDING_MS + 3.0 * self.noise
    }

    /// The mean difference between the delays of consecutive packets, in milliseconds.
    pub(crate) fn jitter_ms(&self) -> f64 {
        self.jitter
    }

    /// Restarts with the current delay as the base: the queue is not ours, since sending less does
    /// not change it, and counts as delay of the path from now on.
    pub(crate) fn start_again(&mut self) {
        let lowest = self.lowest[0].min(self.lowest[1]);
        self.tolerance = (self.tolerance * 2.0).min(MAX_TOLERANCE);
        self.restarted = self.base.latest;
        self.base.current = lowest;
        self.base.before = lowest;
        self.len = 0;
        self.over = 0;
        self.current = None;
        (self.lasts, self.draining) = (false, false);
        self.queued_since = None;
    }

    fn latest(&self) -> impl Iterator<Item = &Group> {
        self.current.iter().chain(self.recent(1))
    }

    fn recent(&self, n: usize) -> impl Iterator<Item = &Group> {
        self.groups.iter().take(self.len).rev().take(n)
    }

    fn close(&mut self, group: Group) {
        if self.len == WINDOW {
            self.groups.rotate_left(1);
            self.len = WINDOW.saturating_sub(1);
        }
        if let Some(slot) = self.groups.get_mut(self.len) {
            *slot = group;
            self.len = self.len.saturating_add(1);
        }
        let old = self.groups.iter().take(self.len);
        let old = old.filter(|old| group.sent.saturating_sub(old.sent) > MAX_AGE).count();
        if old > 0 {
            self.groups.rotate_left(old);
            self.len = self.len.saturating_sub(old);
        }
        self.detect(group);
    }

    fn detect(&mut self, last: Group) {
        if last.sent.saturating_sub(self.restarted) > TOLERATED {
            self.restarted = last.sent;
            self.tolerance = (self.tolerance / 2.0).max(1.0);
        }
        let excess = |group: &Group| group.excess;
        let all = line(self.recent(WINDOW), excess);
        let recent = line(self.recent(RECENT), excess);
        let modified = all.slope * GAIN * (real_len(self.len) / real_len(WINDOW));
        let queued = self.excess_ms() > SLACK_MS + 2.0 * self.noise;
        self.draining = recent.slope < DRAINS && self.len >= RECENT;
        let significant = all.slope > SIGNIFICANT * all.error && self.len >= 4;
        let grows = modified > self.threshold && significant && queued && !self.draining;
        self.over = if grows { self.over.saturating_add(1) } else { 0 };
        self.overloads = recent.slope > OVERLOADS && self.len >= 3;
        self.lasts = self.lasts_long(last);
        if self.state() == Trend::Normal {
            self.noise += (all.scatter.min(50.0) - self.noise) / 64.0;
        }
        self.adapt(modified.abs(), last.sent);
    }

    /// Returns whether a queue, even one that the sender explains, neither drains nor has been
    /// empty for longer than a keyframe takes: more is sent than the estimate.
    fn lasts_long(&mut self, last: Group) -> bool {
        if last.queue < self.standing_ms() {
            self.queued_since = None;
            return false;
        }
        let since = *self.queued_since.get_or_insert(last.sent);
        last.sent.saturating_sub(since) >= LASTING
            && line(self.recent(WINDOW), |group| group.queue).slope > DRAINS
    }

    fn adapt(&mut self, modified: f64, at: Micros) {
        let elapsed = millis(at.saturating_sub(self.adapted)).min(100.0);
        self.adapted = at;
        if modified > self.threshold + SPIKE {
            return;
        }
        let rate = if modified < self.threshold { ADAPT.1 } else { ADAPT.0 };
        let moved = self.threshold + (rate * elapsed).min(1.0) * (modified - self.threshold);
        self.threshold = moved.clamp(THRESHOLD.0, THRESHOLD.2);
    }
}

/// A line through groups.
struct Line {
    slope: f64,
    /// The standard error of the slope.
    error: f64,
    /// How far the groups are from the line.
    scatter: f64,
}

/// Least squares fit of a measure of each group over its sending time. The latest group is first.
fn line<'a>(groups: impl Iterator<Item = &'a Group>, measure: impl Fn(&Group) -> f64) -> Line {
    let mut latest = None;
    let (mut n, mut sum_x, mut sum_y) = (0.0, 0.0, 0.0);
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for group in groups {
        // Close to 0, so that sums of squares stay exact.
        let x = -millis(latest.get_or_insert(group.sent).saturating_sub(group.sent));
        let y = measure(group);
        n += 1.0;
        sum_x += x;
        sum_y += y;
        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    if n < 3.0 {
        return Line { slope: 0.0, error: 0.0, scatter: 0.0 };
    }
    xx -= sum_x * sum_x / n;
    xy -= sum_x * sum_y / n;
    yy -= sum_y * sum_y / n;
    if xx < 1.0 {
        return Line { slope: 0.0, error: 0.0, scatter: 0.0 };
    }
    let slope = xy / xx;
    let scatter = (yy - slope * xy).max(0.0) / (n - 2.0);
    Line { slope, error: (scatter / xx).sqrt(), scatter: scatter.sqrt() }
}

fn real_len(len: usize) -> f64 {
    len as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pseudo-random number between 0 and 1.
    fn part(n: u64) -> f64 {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n >> 3).wrapping_mul(0xbf58_476d);
        real(mixed.wrapping_mul(0x94d0_49bb_1331_11eb) >> 40) / real(1 << 24)
    }

    /// Sends frames of eleven packets, 25 a second, whose delays are a function of time and packet.
    fn frames(
        detector: &mut DelayDetector,
        frames: std::ops::Range<u64>,
        delay: impl Fn(Micros, u64) -> f64,
    ) -> u32 {
        let mut overuses = 0;
        for frame in frames {
            for packet in 0..11 {
                let sent = frame * 40 * MS + packet * 300;
                detector.on_packet(sent, 50.0 + delay(sent, frame * 11 + packet), 1.0);
                overuses += u32::from(detector.state() == Trend::Overuse);
            }
        }
        overuses
    }

    #[test]
    fn a_steady_delay_is_none_and_neither_is_jitter() {
        for jitter in [0.0, 5.0, 30.0, 50.0] {
            let mut detector = DelayDetector::new();
            let overuses = frames(&mut detector, 0..2_000, |_, packet| jitter * part(packet));
            assert_eq!(overuses, 0, "{jitter}");
            assert!(detector.queue_ms() < 20.0 + jitter / 2.0);
            assert!((detector.jitter_ms() - jitter / 3.0).abs() < 1.0 + jitter / 6.0);
        }
    }

    #[test]
    fn a_queue_is_seen_at_once_if_it_grows_fast_and_soon_if_it_grows_slowly() {
        for (slope, frames_needed) in [(1.5, 3), (0.2, 8), (0.05, 25), (0.01, 120)] {
            let mut detector = DelayDetector::new();
            assert_eq!(frames(&mut detector, 0..250, |_, packet| 2.0 * part(packet)), 0);
            let since = 250 * 40 * MS;
            let grown = |sent: Micros, packet| {
                slope * millis(sent.saturating_sub(since)) + 2.0 * part(packet)
            };
            let overuses = frames(&mut detector, 250..250 + frames_needed, grown);
            assert!(overuses > 0, "{slope}");
            assert_eq!(detector.is_overloaded(), slope > 0.15, "{slope}");
        }
    }

    #[test]
    fn a_queue_that_empties_is_no_overuse() {
        let mut detector = DelayDetector::new();
        frames(&mut detector, 0..100, |_, _| 0.0);
        let end = 100 * 40 * MS;
        frames(&mut detector, 100..106, |sent, _| millis(sent - end));
        assert_eq!(detector.state(), Trend::Overuse);
        let turn = 106 * 40 * MS;
        frames(&mut detector, 106..112, |sent, _| 240.0 - 0.4 * millis(sent - turn));
        assert_eq!(detector.state(), Trend::Underuse);
        frames(&mut detector, 112..130, |_, _| 0.0);
        assert_eq!(detector.state(), Trend::Normal);
    }

    #[test]
    fn what_the_sender_explains_is_no_queue() {
        let mut detector = DelayDetector::new();
        let (mut own, mut link) = (VirtualQueue::new(), VirtualQueue::new());
        for frame in 0..500_u64 {
            // A frame in fifty is a keyframe that takes the link 160 ms.
            let packets = if frame % 50 == 10 { 55 } else { 7 };
            for packet in 0..packets {
                let sent = frame * 40 * MS + packet * 1_000;
                let waits = link.send(sent, 1_100, 3_000_000);
                let explained = own.send(sent, 1_100, 2_800_000);
                detector.on_packet(sent, 25.0 + waits / 1_000.0, explained / 1_000.0);
                assert_ne!(detector.state(), Trend::Overuse, "frame {frame}");
            }
        }
    }

    #[test]
    fn a_queue_of_others_becomes_the_path() {
        let mut detector = DelayDetector::new();
        frames(&mut detector, 0..100, |_, _| 0.0);
        assert!(frames(&mut detector, 100..110, |_, _| 100.0) > 0);
        detector.start_again();
        assert_eq!(frames(&mut detector, 110..200, |_, _| 100.0), 0);
        // It comes and goes: more is tolerated for a while.
        let since = 200 * 40 * MS;
        let grown = |sent: Micros, _| 100.0 + 0.01 * millis(sent.saturating_sub(since));
        assert_eq!(frames(&mut detector, 200..300, grown), 0);
        assert!(detector.excess_ms() > STANDING_MS);
    }
}
