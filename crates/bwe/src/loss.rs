//! The loss-based rate.
//!
//! A link loses some packets whatever is sent (radio), and others because more is sent than it can
//! carry. Both parts are fitted to the observations of the last seconds: among a few candidate
//! rates, the one under which the observed losses are most likely is chosen, with some preference
//! for higher rates. The loss that is attributed to the link itself is bounded, and the bound is
//! wider while there is no queue: a full queue loses packets with a delay, a bad radio without.

use crate::num::{MS, Micros, real};

/// Number of observations that are used.
const OBSERVATIONS: usize = 15;
/// Least duration of an observation: the fit is made once per observation.
const SPAN: Micros = 250 * MS;
/// Fewer observations prove nothing.
const MIN_OBSERVATIONS: usize = 3;
/// Weight of an observation relative to the next one.
const AGING: f64 = 0.9;
/// Candidates around the last estimate.
const CANDIDATES: [f64; 3] = [1.02, 1.0, 0.95];
/// Least loss that is attributed to the link itself, and its initial value.
const MIN_INHERENT: f64 = 0.001;
const FIRST_INHERENT: f64 = 0.01;
/// Most loss that is attributed to a fast link itself: with a queue, and without.
const MAX_INHERENT: (f64, f64) = (0.05, 0.2);
/// At a low rate more is allowed: this, divided by the rate.
const BALANCE_BPS: f64 = 100_000.0;
/// Loss above which there are no probes.
const LOSSY: f64 = 0.08;
/// Loss that, together with a queue, means that the queue overflows.
const DROPPING: f64 = 0.1;
/// Bytes of an observation, and the lost fraction of them, from which on a queue certainly
/// overflows.
const FLOOD: (f64, f64) = (12_000.0, 0.3);
const NEWTON_STEP: f64 = 0.75;
const NEWTON_STEPS: u32 = 2;
/// Preference for a higher rate: per kbit/s, and for its logarithm. It turns at this loss.
const BIAS: (f64, f64) = (0.0002, 0.02);
const BIAS_TURNS: f64 = 0.2;
const BIAS_SMOOTH: f64 = 0.002;
/// Limits on growth while loss limits: beyond the acknowledged rate, and within a window.
const RAMP: f64 = 1.5;
const WINDOW_GROWTH: f64 = 1.3;
const WINDOW: Micros = 300 * MS;
/// After a decrease the rate is held for this long, and for twice as long each time that it happens
/// again.
const HOLD: Micros = 300 * MS;
const MAX_HOLD: Micros = 10_000 * MS;

#[derive(Debug, Clone, Copy, Default)]
struct Observation {
    bps: f64,
    bytes: f64,
    lost: f64,
}

/// The link's own loss, and its bandwidth.
#[derive(Debug, Clone, Copy)]
struct Fit {
    inherent: f64,
    bps: f64,
}

impl Fit {
    /// The fraction of what is sent at a rate that is lost.
    fn loss_at(self, bps: f64) -> f64 {
        let over = if bps > self.bps { (bps - self.bps) / bps } else { 0.0 };
        (self.inherent + (1.0 - self.inherent) * over).clamp(1e-6, 1.0 - 1e-6)
    }
}

/// Loss ratio, weighted bytes, and weighted lost bytes.
type Part = (f64, f64, f64);

/// Limits of the fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) delay_based: f64,
    pub(crate) acknowledged: Option<f64>,
    /// Less is sent than the estimate allows: the acknowledged rate is no candidate.
    pub(crate) app_limited: bool,
    pub(crate) queue_stands: bool,
    pub(crate) max: f64,
}

/// Fits loss and rate to the observations.
#[derive(Debug, Clone)]
pub(crate) struct LossBased {
    /// The latest is first.
    observations: [Observation; OBSERVATIONS],
    len: usize,
    bytes: u64,
    lost: u64,
    first_sent: Option<Micros>,
    last_sent: Micros,
    fit: Option<Fit>,
    /// The estimate while loss limits.
    limit: Option<f64>,
    decreasing: bool,
    hold: Option<(Micros, f64)>,
    hold_for: Micros,
    window: Option<(Micros, f64)>,
}

impl LossBased {
    pub(crate) fn new() -> Self {
        Self {
            observations: [Observation::default(); OBSERVATIONS],
            len: 0,
            bytes: 0,
            lost: 0,
            first_sent: None,
            last_sent: 0,
            fit: None,
            limit: None,
            decreasing: false,
            hold: None,
            hold_for: HOLD,
            window: None,
        }
    }

    /// The rate that loss allows; `None` while it does not limit.
    pub(crate) fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Returns whether so much is lost that a probe would only lose more.
    pub(crate) fn is_lossy(&self) -> bool {
        self.len >= MIN_OBSERVATIONS && self.average_loss() > LOSSY
    }

    /// The lost fraction of the bytes of the last seconds; `None` while little is known.
    pub(crate) fn lost(&self) -> Option<f64> {
        (self.len >= MIN_OBSERVATIONS).then(|| self.average_loss())
    }

    /// Returns whether much of the latest observation is lost.
    pub(crate) fn is_dropping(&self) -> bool {
        self.bytes > 5_000 && real(self.lost) > DROPPING * real(self.bytes)
    }

    /// Returns whether so much of the latest observation is lost that no link loses it by itself.
    pub(crate) fn is_flooding(&self) -> bool {
        let latest = self.observations.first().filter(|_| self.len > 0);
        let before = latest.is_some_and(|o| o.bytes > FLOOD.0 && o.lost > FLOOD.1 * o.bytes);
        before || real(self.bytes) > FLOOD.0 && real(self.lost) > FLOOD.1 * real(self.bytes)
    }

    /// Handles the first report of a packet's fate.
    pub(crate) fn on_packet(&mut self, sent: Micros, size: u16, lost: bool) {
        self.bytes = self.bytes.saturating_add(u64::from(size));
        if lost {
            self.lost = self.lost.saturating_add(u64::from(size));
        }
        self.first_sent = Some(self.first_sent.map_or(sent, |first| first.min(sent)));
        self.last_sent = self.last_sent.max(sent);
    }

    /// Handles a packet that was reported lost and was only late.
    pub(crate) fn on_late(&mut self, size: u16) {
        let size = u64::from(size);
        if self.lost >= size {
            self.lost = self.lost.saturating_sub(size);
        } else if let Some(latest) = self.observations.first_mut() {
            latest.lost = (latest.lost - real(size)).max(0.0);
        }
    }

    /// Forgets what was lost in an outage, which proves nothing about a rate.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    /// Restarts at the rate that a probe has found.
    pub(crate) fn set(&mut self, bps: f64) {
        if let Some(fit) = &mut self.fit {
            fit.bps = fit.bps.max(bps);
        }
        if self.limit.is_some_and(|limit| limit < bps) {
            self.limit = Some(bps);
            self.decreasing = false;
        }
    }

    /// Fits again if an observation is complete.
    pub(crate) fn update(&mut self, bounds: &Bounds) {
        if !self.observe() || self.len < MIN_OBSERVATIONS {
            return;
        }
        let now = self.last_sent;
        if self.limit.is_none() && self.observations.iter().all(|o| o.lost == 0.0) {
            // No candidate is more likely than the highest.
            self.fit =
                Some(Fit { inherent: MIN_INHERENT, bps: bounds.delay_based.min(bounds.max) });
            return self.decide(now, bounds.delay_based, bounds);
        }
        let max_inherent = if bounds.queue_stands { MAX_INHERENT.0 } else { MAX_INHERENT.1 };
        let average = self.average_loss();
        let current = self.fit.unwrap_or(Fit { inherent: FIRST_INHERENT, bps: bounds.delay_based });
        let mut best = self.best(current, bounds, average, max_inherent);
        // More loss than is attributed to the link itself: no time to grow.
        if average > best.inherent * 1.1 + 0.002 && best.bps > current.bps {
            best.bps = current.bps;
        }
        if self.limit.is_some() && best.bps > current.bps {
            best.bps = self.ramp(best.bps, current.bps, bounds);
        }
        let upper = if average > max_inherent {
            BALANCE_BPS / (average - max_inherent)
        } else {
            bounds.max
        };
        let lower = bounds.acknowledged.unwrap_or(0.0);
        let bounded = best.bps.min(upper).min(bounds.delay_based).max(lower);
        self.fit = Some(if bounded < best.bps {
            Fit { inherent: MIN_INHERENT, bps: bounded }
        } else {
            Fit { bps: best.bps.max(lower), ..best }
        });
        self.decide(now, bounded, bounds);
    }

    fn decide(&mut self, now: Micros, bounded: f64, bounds: &Bounds) {
        if bounded >= bounds.delay_based.min(bounds.max) * 0.999 {
            (self.limit, self.hold, self.window) = (None, None, None);
            self.hold_for = HOLD;
            self.decreasing = false;
            return;
        }
        if let (true, Some((until, held))) = (self.decreasing, self.hold)
            && until > now
        {
            self.limit = Some(bounded.min(held.max(bounds.acknowledged.unwrap_or(0.0))));
            return;
        }
        let grows = self.limit.is_some_and(|limit| bounded > limit);
        if grows {
            self.decreasing = false;
        } else if !self.decreasing {
            self.hold = Some((now.saturating_add(self.hold_for), bounded));
            self.hold_for = self.hold_for.saturating_mul(2).min(MAX_HOLD);
            self.decreasing = true;
        }
        self.limit = Some(bounded);
        if self.window.is_none_or(|(since, _)| now.saturating_sub(since) > WINDOW) {
            self.window = Some((now, bounded * WINDOW_GROWTH));
        }
    }

    fn ramp(&self, wanted: f64, current: f64, bounds: &Bounds) -> f64 {
        let window = self.window.map_or(f64::INFINITY, |(_, most)| most);
        let acknowledged = bounds.acknowledged.map_or(f64::INFINITY, |bps| bps * RAMP);
        wanted.min(window).min(acknowledged).max(current)
    }

    /// Completes the observation if it has lasted long enough, and returns whether it has.
    fn observe(&mut self) -> bool {
        let Some(first) = self.first_sent else { return false };
        let span = self.last_sent.saturating_sub(first);
        if span < SPAN {
            return false;
        }
        self.observations.rotate_right(1);
        if let Some(slot) = self.observations.first_mut() {
            let bytes = real(self.bytes);
            *slot = Observation { bps: bytes * 8e6 / real(span), bytes, lost: real(self.lost) };
        }
        self.len = self.len.saturating_add(1).min(OBSERVATIONS);
        (self.bytes, self.lost, self.first_sent) = (0, 0, Some(self.last_sent));
        true
    }

    fn weighted(&self) -> impl Iterator<Item = (f64, &Observation)> {
        let mut weight = 1.0 / AGING;
        self.observations.iter().take(self.len).map(move |observation| {
            weight *= AGING;
            (weight, observation)
        })
    }

    /// The mean loss, without the best and the worst observation.
    fn average_loss(&self) -> f64 {
        let (mut bytes, mut lost) = (0.0, 0.0);
        let (mut best, mut worst): (Option<Part>, Option<Part>) = (None, None);
        for (weight, observation) in self.weighted() {
            let part = (
                observation.lost / observation.bytes.max(1.0),
                weight * observation.bytes,
                weight * observation.lost,
            );
            bytes += part.1;
            lost += part.2;
            if best.is_none_or(|best| part.0 < best.0) {
                best = Some(part);
            }
            if worst.is_none_or(|worst| part.0 > worst.0) {
                worst = Some(part);
            }
        }
        if let (true, Some(best), Some(worst)) = (self.len > MIN_OBSERVATIONS, best, worst) {
            bytes -= best.1 + worst.1;
            lost -= best.2 + worst.2;
        }
        (lost / bytes.max(1.0)).clamp(0.0, 1.0)
    }

    fn best(&self, current: Fit, bounds: &Bounds, average: f64, max_inherent: f64) -> Fit {
        let mut candidates = [current.bps; 5];
        for (candidate, factor) in candidates.iter_mut().zip(CANDIDATES) {
            *candidate *= factor;
        }
        if let (false, Some(bps)) = (bounds.app_limited, bounds.acknowledged) {
            candidates[3] = bps;
        }
        candidates[4] = bounds.delay_based.max(current.bps);
        let mut best = current;
        let mut most = f64::NEG_INFINITY;
        for bps in candidates {
            let bps = bps.min(bounds.max.max(current.bps));
            let fit = self.fitted(Fit { bps, ..current }, max_inherent);
            let likelihood = self.likelihood(fit, average);
            if likelihood > most {
                (best, most) = (fit, likelihood);
            }
        }
        best
    }

    /// Moves the inherent loss of a candidate towards its most likely value.
    fn fitted(&self, fit: Fit, max_inherent: f64) -> Fit {
        let most = (max_inherent + BALANCE_BPS / fit.bps.max(1.0)).min(1.0);
        let mut fit = Fit { inherent: fit.inherent.clamp(MIN_INHERENT, most), ..fit };
        for _ in 0..NEWTON_STEPS {
            fit.inherent = self.step(fit).clamp(MIN_INHERENT, most);
        }
        fit
    }

    /// One step of Newton's method.
    fn step(&self, fit: Fit) -> f64 {
        let (mut first, mut second) = (0.0, 0.0);
        for (weight, seen) in self.weighted() {
            let loss = fit.loss_at(seen.bps);
            let (lost, kept) = (seen.lost / loss, (seen.bytes - seen.lost) / (1.0 - loss));
            first += weight * (lost - kept);
            second -= weight * (lost / loss + kept / (1.0 - loss));
        }
        if second < 0.0 { fit.inherent - NEWTON_STEP * first / second } else { fit.inherent }
    }

    fn likelihood(&self, fit: Fit, average: f64) -> f64 {
        let turn = BIAS_TURNS - average;
        let preference = turn / (BIAS_SMOOTH + turn.abs());
        let kbps = fit.bps / 1_000.0;
        let bias = preference * (BIAS.0 * kbps + BIAS.1 * (1.0 + kbps).ln());
        self.weighted()
            .map(|(weight, seen)| {
                let loss = fit.loss_at(seen.bps);
                let (lost, kept) = (seen.lost / 1_000.0, (seen.bytes - seen.lost) / 1_000.0);
                let likelihood = lost * loss.ln() + kept * (1.0 - loss).ln();
                weight * (likelihood + bias * seen.bytes / 1_000.0)
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at a rate for some seconds, and loses packets as a function says.
    fn run(
        loss: &mut LossBased,
        seconds: std::ops::Range<u64>,
        bps: f64,
        bounds: &Bounds,
        lost: impl Fn(u64) -> bool,
    ) {
        let each = whole_micros(1_200.0 * 8.0 / bps);
        let mut sent = seconds.start * 1_000_000;
        let mut n = 0;
        while sent < seconds.end * 1_000_000 {
            loss.on_packet(sent, 1_200, lost(n));
            (sent, n) = (sent + each, n + 1);
            if n % 16 == 0 {
                loss.update(bounds);
            }
        }
    }

    fn whole_micros(seconds: f64) -> u64 {
        crate::num::whole(seconds * 1e6)
    }

    fn bounds(delay_based: f64, acknowledged: f64) -> Bounds {
        Bounds {
            delay_based,
            acknowledged: Some(acknowledged),
            app_limited: false,
            queue_stands: false,
            max: 20e6,
        }
    }

    #[test]
    fn no_loss_and_random_loss_limit_nothing() {
        for every in [u64::MAX, 50, 20] {
            let mut loss = LossBased::new();
            run(&mut loss, 0..30, 2.6e6, &bounds(3e6, 2.5e6), |n| n % every == every - 1);
            let limit = loss.limit().unwrap_or(f64::INFINITY);
            assert!(limit > 2.7e6, "one in {every}: {limit}");
            assert!(!loss.is_lossy());
        }
    }

    #[test]
    fn what_a_policer_drops_lowers_the_rate_to_what_it_lets_through() {
        let mut loss = LossBased::new();
        run(&mut loss, 0..5, 2.6e6, &bounds(3e6, 2.6e6), |_| false);
        run(&mut loss, 5..10, 2.6e6, &bounds(3e6, 1.3e6), |n| n % 2 == 0);
        assert!(loss.is_lossy() && loss.is_dropping());
        let limit = loss.limit().unwrap();
        assert!((1.2e6..1.6e6).contains(&limit), "{limit}");
        // It stays near while less is sent without loss, and is gone once more arrives.
        run(&mut loss, 10..25, 1.3e6, &bounds(1.4e6, 1.3e6), |_| false);
        assert!(loss.limit().is_none_or(|limit| limit >= 1.3e6));
        assert!(!loss.is_lossy());
    }

    #[test]
    fn a_packet_that_was_only_late_is_not_lost() {
        let mut loss = LossBased::new();
        for second in 0..10 {
            for n in 0..100 {
                let sent = second * 1_000_000 + n * 10_000;
                loss.on_packet(sent, 1_200, n % 3 == 0);
                if n % 3 == 0 {
                    loss.on_late(1_200);
                }
                loss.update(&bounds(1e6, 0.96e6));
            }
        }
        assert_eq!(loss.limit(), None);
        assert!(loss.average_loss() < 0.02);
    }

    #[test]
    fn a_probe_that_succeeds_raises_the_limit() {
        let mut loss = LossBased::new();
        run(&mut loss, 0..5, 2e6, &bounds(2e6, 1e6), |n| n % 2 == 0);
        let before = loss.limit().unwrap();
        loss.set(before * 2.0);
        assert_eq!(loss.limit(), Some(before * 2.0));
        loss.forget();
        assert_eq!(loss.limit(), None);
    }
}
