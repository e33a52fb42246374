//! When to probe, how far, and what a probe has shown.

use crate::{
    ClusterId, Probe,
    num::{MS, Micros, real, whole},
};

/// A probe reaches so far beyond the rate at which the next layer becomes possible: what is measured is a
/// little less than what was asked for.
const MARGIN: f64 = 1.15;
/// The first probe, in units of the initial rate, and a probe that follows one that succeeded.
const FIRST: f64 = 3.0;
const FURTHER: f64 = 2.0;
/// A probe that is not the first, in units of the estimate.
const STEP: f64 = 2.0;
/// A probe takes so long on an even path, and longer where jitter hides the rate of a short one.
const LENGTH_MS: f64 = 15.0;
const LENGTH_PER_JITTER: f64 = 6.0;
const MAX_LENGTH_MS: f64 = 90.0;
const MIN_PACKETS: u32 = 5;
/// Waits after one, two, three, … probes in a row that did not show what they reached for.
const WAITS: [Micros; 4] = [600 * MS, 1_000 * MS, 2_000 * MS, 3_000 * MS];
/// An overuse so soon after a probe that raised the estimate is its fault.
const REGRET: Micros = 2_000 * MS;
const MAX_REGRETS: u32 = 4;
/// A probe whose packets are not all reported by then has failed.
const EXPIRY: Micros = 2_000 * MS;
/// A probe that nobody has sent by then is none.
const UNSENT: Micros = 1_000 * MS;
/// The part of the packets' rate that must arrive, or else the link was full.
const FULL: f64 = 0.9;
/// Of what a full link delivered.
const OF_FULL: f64 = 0.95;
/// The part of a probe that must have arrived.
const NEEDED: f64 = 0.8;

/// What a probe has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shown {
    pub(crate) bps: f64,
    /// What arrived was slower than what was sent: the link carries no more.
    pub(crate) full: bool,
    /// The first probe of all: nothing is known but the initial rate.
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

/// The probe that is out.
#[derive(Debug, Clone, Copy)]
struct Out {
    probe: Probe,
    made: Micros,
    taken: bool,
    first: bool,
    sent_bytes: u64,
    sent_packets: u32,
    reported_bytes: u64,
    received_bytes: u64,
    origin: Option<(Micros, i64)>,
    sent: Line,
    received: Line,
    jitter: f64,
}

/// What is needed to decide on a probe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) target: f64,
    pub(crate) initial: f64,
    pub(crate) max: f64,
    pub(crate) jitter_ms: f64,
    /// A queue stands or builds up, loss has lowered the estimate, or there is no feedback.
    pub(crate) strained: bool,
}

/// Decides on probes and measures them, one at a time.
#[derive(Debug, Clone)]
pub(crate) struct Prober {
    useful: f64,
    next: Option<f64>,
    out: Option<Out>,
    cluster: u16,
    started: bool,
    failures: usize,
    allowed: Micros,
    /// The last one succeeded since the start or a large drop: the next one reaches further.
    fast: bool,
    /// When a probe has raised the estimate, and how often that was soon regretted.
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
        // Something new is to be had: what failed before was about something else.
        if more && self.started {
            self.failures = self.failures.min(1);
            self.allowed = self.allowed.min(now.saturating_add(WAITS[0]));
        }
        self.useful = real(useful);
        self.next = next;
    }

    /// Whether a probe is out.
    pub(crate) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// The estimate has just fallen for a reason that may pass: probe soon.
    pub(crate) fn recover(&mut self, now: Micros, wait: Micros) {
        self.failures = 0;
        self.fast = true;
        self.allowed = self.allowed.max(now.saturating_add(wait));
    }

    /// A queue has built up. If a probe has just raised the estimate it has promised too much, as others
    /// send on the same link: the next one waits, longer each time.
    pub(crate) fn on_overuse(&mut self, now: Micros) {
        self.fast = false;
        if self.raised.take().is_some_and(|at| now.saturating_sub(at) < REGRET) {
            self.regrets = self.regrets.saturating_add(1).min(MAX_REGRETS);
            let wait = WAITS[2].saturating_mul(u64::from(self.regrets));
            self.allowed = self.allowed.max(now.saturating_add(wait));
        }
    }

    /// When [`Self::take`] may have something to say.
    pub(crate) fn due(&self, target: f64) -> Option<Micros> {
        match &self.out {
            Some(out) if !out.taken => Some(out.made),
            Some(out) => Some(out.made.saturating_add(EXPIRY)),
            None => self.next.filter(|next| *next > target).map(|_| self.allowed),
        }
    }

    /// One packet, so that feedback can come back; its result is of no interest.
    pub(crate) fn knock(&mut self, target: u64) -> Probe {
        self.out = None;
        self.cluster = self.cluster.wrapping_add(1);
        Probe { cluster: ClusterId(self.cluster), bps: target, min_bytes: 1, min_packets: 1 }
    }

    /// A probe that should be sent now.
    pub(crate) fn take(&mut self, now: Micros, situation: &Situation) -> Option<Probe> {
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

    /// A packet of a probe leaves.
    pub(crate) fn on_sent(&mut self, cluster: ClusterId, size: u16) {
        if let Some(out) = self.out.as_mut().filter(|out| out.probe.cluster == cluster) {
            out.sent_bytes = out.sent_bytes.saturating_add(u64::from(size));
            out.sent_packets = out.sent_packets.saturating_add(1);
        }
    }

    /// A packet of a probe was reported, in the order of sending.
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
        // A packet leaves when those before it have, and has arrived when it has itself.
        out.sent.add(before, real(sent.saturating_sub(first_sent)));
        let arrival = received.saturating_sub(first_received);
        out.received.add(real(out.received_bytes), arrival as f64);
    }

    /// What a probe has shown that is completely reported. A probe whose result is less than it reached for
    /// counts as failed, and the next one waits.
    pub(crate) fn result(&mut self, now: Micros) -> Option<Shown> {
        let out = self.out.as_ref()?;
        if out.sent_bytes < u64::from(out.probe.min_bytes) || out.reported_bytes < out.sent_bytes {
            return None;
        }
        if real(out.received_bytes) < real(out.sent_bytes) * NEEDED {
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
        if age > EXPIRY || (age > UNSENT && out.sent_packets == 0) {
            self.fail(now);
        }
    }

    fn decide(&mut self, now: Micros, situation: &Situation) {
        let Some(next) = self.next else { return };
        if now < self.allowed || situation.strained || next <= situation.target {
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
        self.out = Some(Out {
            probe,
            made: now,
            taken: false,
            first,
            sent_bytes: 0,
            sent_packets: 0,
            reported_bytes: 0,
            received_bytes: 0,
            origin: None,
            sent: Line::default(),
            received: Line::default(),
            jitter: jitter * 1_000.0,
        });
    }
}

impl Out {
    fn shown(&self) -> Option<Shown> {
        // Packets that leave at the same moment have no rate that could be measured.
        let sent = self.sent.slope().filter(|slope| *slope > 0.0)?;
        let received = self.received.slope().unwrap_or(0.0).max(0.0);
        // Jitter makes the slope uncertain by its spread over that of the bytes.
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
        (self.received.n >= 3.0).then_some(Shown {
            bps: bps.min(real(self.probe.bps) * 1.1),
            full,
            first: self.first,
        })
    }
}
