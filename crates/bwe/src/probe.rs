//! Decides when and at which rate to probe, and evaluates probes.

use crate::{
    ClusterId, Probe,
    num::{MS, Micros, real, whole},
};

/// A probe goes this far beyond the rate at which the next layer becomes possible, because the
/// measurement is a little less than the probe's rate.
const MARGIN: f64 = 1.15;
/// The next layer may need a little more than its rate before it is allocated.
const NEAR: f64 = 1.05;
/// The rate of the first probe in units of the initial rate, and of a probe after a successful one.
const FIRST: f64 = 3.0;
const FURTHER: f64 = 2.0;
/// The rate of other probes, in units of the estimate.
const STEP: f64 = 2.0;
/// Length of a probe on an even path; longer if jitter hides the rate of a short one.
const LENGTH_MS: f64 = 15.0;
const LENGTH_PER_JITTER: f64 = 6.0;
const MAX_LENGTH_MS: f64 = 90.0;
const MIN_PACKETS: u32 = 5;
/// Waits after one, two, three, … probes in a row that did not reach their rate.
const WAITS: [Micros; 4] = [600 * MS, 1_000 * MS, 2_000 * MS, 3_000 * MS];
/// An overuse this soon after a probe that raised the estimate is its fault.
const REGRET: Micros = 2_000 * MS;
const MAX_REGRETS: u32 = 4;
/// A probe whose packets are not all reported by then has failed.
const EXPIRY: Micros = 2_000 * MS;
/// A probe that was not sent by then is dropped.
const UNSENT: Micros = 1_000 * MS;
/// If less than this fraction of the packets' rate arrives, the link was full.
const FULL: f64 = 0.9;
/// Fraction of what a full link delivered that is used.
const OF_FULL: f64 = 0.95;
/// Feedback about a packet that was sent this much later means that the probe gets no more
/// feedback.
const SETTLED: Micros = 20 * MS;
/// Fraction of a probe that must be reported; otherwise it is repeated.
const REPORTED: f64 = 0.6;
/// Fraction of the reported packets that must have arrived.
const NEEDED: f64 = 0.8;

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ProbeResult {
    pub(crate) bps: f64,
    /// Packets arrived more slowly than they were sent: the link is full.
    pub(crate) full: bool,
    /// It was the first probe: nothing is known but the initial rate.
    pub(crate) first: bool,
}

/// Sums for a line of time over bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// Microseconds per byte.
    fn slope(&self) -> Option<f64> {
        let xx = self.xx - self.x * self.x / self.n;
        let slope = (self.xy - self.x * self.y / self.n) / xx;
        (xx > 0.0 && slope.is_finite()).then_some(slope)
    }
}

/// The probe in progress.
#[derive(Debug, Clone, Copy)]
struct ActiveProbe {
    probe: Probe,
    made: Micros,
    taken: bool,
    first: bool,
    sent_bytes: u64,
    sent_packets: u32,
    last_sent: Micros,
    reported_bytes: u64,
    received_bytes: u64,
    origin: Option<(Micros, i64)>,
    sent: Line,
    received: Line,
    jitter: f64,
}

/// The inputs for a decision on a probe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeInputs {
    pub(crate) target: f64,
    pub(crate) initial: f64,
    pub(crate) max: f64,
    pub(crate) jitter_ms: f64,
    /// There is or builds up a queue, or loss has lowered the estimate, or feedback is missing.
    pub(crate) strained: bool,
}

/// Decides on probes and evaluates them, one at a time.
#[derive(Debug, Clone)]
pub(crate) struct Prober {
    useful: f64,
    next: Option<f64>,
    out: Option<ActiveProbe>,
    cluster: u16,
    started: bool,
    failures: usize,
    allowed: Micros,
    /// The last one succeeded since the start or a large drop: the next one goes further.
    fast: bool,
    /// When a probe raised the estimate, and how often that was soon regretted.
    raised: Option<Micros>,
    regrets: u32,
}

impl Prober {
    pub(crate) fn new() -> Self {
        Self {
            useful: 0.0,
            next: None,
            out: None,
            cluster: 0,
            started: false,
            failures: 0,
            allowed: 0,
            fast: true,
            raised: None,
            regrets: 0,
        }
    }

    pub(crate) fn set_useful(&mut self, now: Micros, useful: u64, next: Option<u64>) {
        let next = next.map(real);
        let more = match (self.next, next) {
            (None, Some(_)) => true,
            (Some(before), Some(next)) => next > before * 1.05,
            _ => false,
        };
        // There is something new to gain; earlier failures were about something else.
        if more && self.started {
            self.failures = self.failures.min(1);
            self.allowed = self.allowed.min(now.saturating_add(WAITS[0]));
        }
        self.useful = real(useful);
        self.next = next;
    }

    /// Returns whether a probe is in progress.
    pub(crate) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// Schedules a probe soon: the estimate has just fallen for a reason that may pass.
    pub(crate) fn recover(&mut self, now: Micros, wait: Micros) {
        self.failures = 0;
        self.fast = true;
        self.allowed = self.allowed.max(now.saturating_add(wait));
    }

    /// Handles a queue that has built up. If a probe has just raised the estimate it promised too
    /// much, as others share the link: the next one waits, longer each time.
    pub(crate) fn on_overuse(&mut self, now: Micros) {
        self.fast = false;
        if self.raised.take().is_some_and(|at| now.saturating_sub(at) < REGRET) {
            self.regrets = self.regrets.saturating_add(1).min(MAX_REGRETS);
            let wait = WAITS[2].saturating_mul(u64::from(self.regrets));
            self.allowed = self.allowed.max(now.saturating_add(wait));
        }
    }

    /// When [`Self::take`] may return a probe.
    pub(crate) fn due(&self, target: f64) -> Option<Micros> {
        match &self.out {
            Some(out) if !out.taken => Some(out.made),
            Some(out) => Some(out.made.saturating_add(EXPIRY)),
            None => self.next.filter(|next| *next * NEAR > target).map(|_| self.allowed),
        }
    }

    /// Returns whether [`Self::take`] has nothing to return.
    pub(crate) fn is_idle(&self, now: Micros, target: f64) -> bool {
        self.out.is_none() && self.due(target).is_none_or(|due| now < due)
    }

    /// A single packet, so that feedback can resume; its result is ignored.
    pub(crate) fn keepalive(&mut self, target: u64) -> Probe {
        self.out = None;
        self.cluster = self.cluster.wrapping_add(1);
        Probe { cluster: ClusterId(self.cluster), bps: target, min_bytes: 1, min_packets: 1 }
    }

    /// Returns a probe that should be sent now.
    pub(crate) fn take(&mut self, now: Micros, situation: &ProbeInputs) -> Option<Probe> {
        self.expire(now);
        if self.out.is_none() {
            self.decide(now, situation);
        }
        let out = self.out.as_mut()?;
        if out.taken {
            return None;
        }
        out.taken = true;
        Some(out.probe)
    }

    /// Records a packet of a probe that leaves.
    pub(crate) fn on_sent(&mut self, now: Micros, cluster: ClusterId, size: u16) {
        if let Some(out) = self.out.as_mut().filter(|out| out.probe.cluster == cluster) {
            out.sent_bytes = out.sent_bytes.saturating_add(u64::from(size));
            out.sent_packets = out.sent_packets.saturating_add(1);
            out.last_sent = now;
        }
    }

    /// Handles a reported packet of a probe, in sending order.
    pub(crate) fn on_packet(
        &mut self,
        cluster: ClusterId,
        size: u16,
        sent: Micros,
        received: Option<i64>,
    ) {
        let Some(out) = self.out.as_mut().filter(|out| out.probe.cluster == cluster) else {
            return;
        };
        out.reported_bytes = out.reported_bytes.saturating_add(u64::from(size));
        let Some(received) = received else { return };
        let (first_sent, first_received) = *out.origin.get_or_insert((sent, received));
        let before = real(out.received_bytes);
        out.received_bytes = out.received_bytes.saturating_add(u64::from(size));
        // A packet leaves when those before it have left, and has arrived when it has itself.
        out.sent.add(before, real(sent.saturating_sub(first_sent)));
        let arrival = received.saturating_sub(first_received);
        out.received.add(real(out.received_bytes), arrival as f64);
    }

    /// Returns the result of a probe that is completely reported, or whose feedback is partly lost:
    /// packets sent until `newest` are reported. A probe whose result is below its goal counts as
    /// failed, and the next one waits.
    pub(crate) fn result(&mut self, now: Micros, newest: Micros) -> Option<ProbeResult> {
        let out = self.out.as_ref()?;
        if out.sent_bytes < u64::from(out.probe.min_bytes) {
            return None;
        }
        let (sent, reported) = (real(out.sent_bytes), real(out.reported_bytes));
        if reported < sent {
            if newest <= out.last_sent.saturating_add(SETTLED) {
                return None;
            }
            if reported < sent * REPORTED {
                // Nothing was learned.
                self.out = None;
                self.allowed = now.saturating_add(WAITS[0] / 2);
                return None;
            }
        }
        if real(out.received_bytes) < reported * NEEDED {
            self.fail(now);
            return None;
        }
        let out = self.out.take()?;
        let shown = out.shown();
        match shown {
            Some(shown) if !shown.full => {
                self.failures = 0;
                self.allowed = now;
                if self.raised.replace(now).is_some_and(|at| now.saturating_sub(at) > REGRET) {
                    self.regrets = 0;
                }
            }
            _ => self.fail(now),
        }
        shown
    }

    fn fail(&mut self, now: Micros) {
        self.out = None;
        self.fast = false;
        let wait = WAITS.get(self.failures).or(WAITS.last()).copied().unwrap_or(0);
        self.failures = self.failures.saturating_add(1);
        self.allowed = now.saturating_add(wait);
    }

    fn expire(&mut self, now: Micros) {
        let Some(out) = &self.out else { return };
        let age = now.saturating_sub(out.made);
        if age >= EXPIRY || (age >= UNSENT && out.sent_packets == 0) {
            self.fail(now);
        }
    }

    fn decide(&mut self, now: Micros, situation: &ProbeInputs) {
        let Some(next) = self.next else { return };
        if now < self.allowed || situation.strained || next * NEAR <= situation.target {
            return;
        }
        let target = situation.target;
        let first = !self.started;
        let reach = (self.useful.max(next) * MARGIN).min(situation.max);
        let bps = if first {
            (situation.initial * FIRST).max(target * STEP)
        } else if self.fast {
            (target * FURTHER).max(next * MARGIN)
        } else {
            (target * STEP).min(next * MARGIN)
        };
        let bps = bps.min(reach);
        if bps <= target * 1.02 {
            return;
        }
        self.started = true;
        self.cluster = self.cluster.wrapping_add(1);
        let jitter = (situation.jitter_ms - 2.0).max(0.0);
        let length = (LENGTH_MS + LENGTH_PER_JITTER * jitter).min(MAX_LENGTH_MS);
        let min_bytes = u32::try_from(whole(bps * length / 8_000.0)).unwrap_or(u32::MAX);
        let probe = Probe {
            cluster: ClusterId(self.cluster),
            bps: whole(bps),
            min_bytes,
            min_packets: MIN_PACKETS,
        };
        self.out = Some(ActiveProbe {
            probe,
            made: now,
            taken: false,
            first,
            sent_bytes: 0,
            sent_packets: 0,
            last_sent: now,
            reported_bytes: 0,
            received_bytes: 0,
            origin: None,
            sent: Line::default(),
            received: Line::default(),
            jitter: jitter * 1_000.0,
        });
    }
}

impl ActiveProbe {
    fn shown(&self) -> Option<ProbeResult> {
        // Packets that leave at the same time have no measurable rate.
        let sent = self.sent.slope().filter(|slope| *slope > 0.0)?;
        let received = self.received.slope().unwrap_or(0.0).max(0.0);
        // The uncertainty of the slope by jitter is its spread over that of the bytes.
        let spread = (self.received.xx / self.received.n
            - (self.received.x / self.received.n).powi(2))
        .max(1.0)
        .sqrt();
        let error = self.jitter / (spread * self.received.n.sqrt());
        let bits = 8e6;
        // Lost packets were sent, too.
        let lost = real(self.reported_bytes) / real(self.received_bytes.max(1));
        let sent_bps = bits / sent * lost;
        let full = sent < (received - error) * FULL;
        let bps = if full { bits / received * OF_FULL } else { sent_bps };
        (self.received.n >= 3.0).then_some(ProbeResult {
            bps: bps.min(real(self.probe.bps) * 1.1),
            full,
            first: self.first,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation(target: f64) -> ProbeInputs {
        ProbeInputs { target, initial: 2.5e6, max: 20e6, jitter_ms: 0.0, strained: false }
    }

    /// Sends a probe over a link of a rate, and reports it.
    fn send(prober: &mut Prober, probe: &Probe, link: f64, at: Micros) {
        let (mut sent, mut free) = (at, 0.0);
        let mut packets = Vec::new();
        let mut bytes = 0;
        while bytes < probe.min_bytes {
            prober.on_sent(sent, probe.cluster, 1_000);
            free = f64::max(free, real(sent)) + 8e9 / link;
            packets.push((sent, free));
            bytes += 1_000;
            sent += 8_000_000_000 / probe.bps;
        }
        for (sent, arrival) in packets {
            let arrival = i64::try_from(whole(arrival)).unwrap();
            prober.on_packet(probe.cluster, 1_000, sent, Some(arrival + 40_000));
        }
    }

    #[test]
    fn the_first_probes_reach_three_times_and_twice_as_far_up_to_what_is_useful() {
        let mut prober = Prober::new();
        assert_eq!(prober.take(0, &situation(2.5e6)), None);
        prober.set_useful(0, 18_000_000, Some(2_600_000));
        let probe = prober.take(0, &situation(2.5e6)).unwrap();
        assert_eq!(probe.bps, 7_500_000);
        assert_eq!(prober.take(0, &situation(2.5e6)), None, "one at a time");
        send(&mut prober, &probe, 50e6, 0);
        let shown = prober.result(60_000, 0).unwrap();
        assert!(!shown.full && shown.first && (shown.bps / 7.5e6 - 1.0).abs() < 0.03, "{shown:?}");
        prober.set_useful(60_000, 18_000_000, Some(9_000_000));
        let further = prober.take(60_000, &situation(shown.bps)).unwrap();
        assert!((14e6..16e6).contains(&real(further.bps)));
        send(&mut prober, &further, 50e6, 60_000);
        let shown = prober.result(120_000, 0).unwrap();
        prober.set_useful(120_000, 18_000_000, Some(17_000_000));
        let last = prober.take(120_000, &situation(shown.bps)).unwrap();
        assert_eq!(last.bps, 20_000_000, "no further than the cap");
    }

    #[test]
    fn one_source_needs_no_more_than_its_best_layer() {
        let mut prober = Prober::new();
        prober.set_useful(0, 2_590_000, Some(2_590_000));
        let probe = prober.take(0, &situation(2.5e6)).unwrap();
        assert_eq!(probe.bps, 2_978_500);
        assert_eq!((probe.min_packets, probe.min_bytes), (5, 5_584));
    }

    #[test]
    fn there_is_none_when_nothing_better_is_to_be_had_or_it_would_do_harm() {
        let mut prober = Prober::new();
        prober.set_useful(0, 2_590_000, None);
        assert_eq!(prober.take(0, &situation(1e6)), None);
        prober.set_useful(0, 2_590_000, Some(600_000));
        assert_eq!(prober.take(0, &situation(1e6)), None, "the next layer is possible already");
        prober.set_useful(0, 2_590_000, Some(2_590_000));
        let strained = ProbeInputs { strained: true, ..situation(1e6) };
        assert_eq!(prober.take(0, &strained), None);
        assert!(prober.take(0, &situation(1e6)).is_some());
    }

    #[test]
    fn a_full_link_shows_its_rate_and_the_next_probe_waits_longer_each_time() {
        let mut prober = Prober::new();
        prober.set_useful(0, 2_590_000, Some(2_590_000));
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..6 {
            let probe = prober.take(now, &situation(1.0e6)).unwrap();
            send(&mut prober, &probe, 1e6, now);
            now += 100 * MS;
            let shown = prober.result(now, 0).unwrap();
            assert!(shown.full && (shown.bps / 0.95e6 - 1.0).abs() < 0.05, "{shown:?}");
            let since = now;
            while prober.due(1e6).unwrap() > now {
                assert_eq!(prober.take(now, &situation(1e6)), None);
                now = prober.due(1e6).unwrap();
            }
            waits.push((now - since) / MS);
        }
        assert_eq!(waits, [600, 1_000, 2_000, 3_000, 3_000, 3_000]);
    }

    #[test]
    fn a_probe_that_is_not_sent_or_not_reported_fails() {
        let mut prober = Prober::new();
        prober.set_useful(0, 2_590_000, Some(2_590_000));
        assert!(prober.take(0, &situation(1e6)).is_some());
        assert_eq!(prober.take(900 * MS, &situation(1e6)), None);
        assert_eq!(prober.take(UNSENT, &situation(1e6)), None);
        let again = UNSENT + WAITS[0];
        let probe = prober.take(again, &situation(1e6)).unwrap();
        for _ in 0..10 {
            prober.on_sent(again, probe.cluster, 1_000);
            prober.on_packet(probe.cluster, 1_000, again, None);
        }
        assert_eq!(prober.result(again + 100 * MS, 0), None, "all of it was lost");
        assert!(!prober.is_out());
    }

    #[test]
    fn a_probe_whose_feedback_is_lost_is_measured_by_the_rest_or_made_again() {
        for (reported, measured) in [(7, true), (3, false)] {
            let mut prober = Prober::new();
            prober.set_useful(0, 9_000_000, Some(4_000_000));
            let probe = prober.take(0, &situation(2.5e6)).unwrap();
            for n in 0..10 {
                let sent = n * 8_000_000_000 / probe.bps;
                prober.on_sent(sent, probe.cluster, 2_000);
                if n < reported {
                    let arrival = i64::try_from(sent + 40_000).unwrap();
                    prober.on_packet(probe.cluster, 2_000, sent, Some(arrival));
                }
            }
            assert_eq!(prober.result(60 * MS, 12 * MS), None, "more may come");
            assert_eq!(prober.result(120 * MS, 100 * MS).is_some(), measured);
            assert!(!prober.is_out());
            let due = if measured { 120 } else { 420 };
            assert_eq!(prober.due(2.5e6), Some(due * MS));
        }
    }

    #[test]
    fn a_probe_that_promised_too_much_is_regretted() {
        let mut prober = Prober::new();
        prober.set_useful(0, 9_000_000, Some(2_590_000));
        let probe = prober.take(0, &situation(1e6)).unwrap();
        send(&mut prober, &probe, 50e6, 0);
        assert!(prober.result(50 * MS, 0).is_some());
        prober.on_overuse(500 * MS);
        assert_eq!(prober.due(1e6), Some(2_500 * MS));
    }
}
