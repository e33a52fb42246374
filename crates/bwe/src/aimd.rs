//! The delay-based rate: grows while there is no queue, and falls to what the link delivers when
//! there is one.

use crate::num::{MS, Micros, millis, real};

/// Fraction of the measured capacity that is kept after an overuse, so that the queue drains.
const DECREASE: f64 = 0.9;
/// The same where the queue grows slowly, and the least fraction that is kept.
const SLOW_DECREASE: f64 = 0.95;
const STEP_DOWN: f64 = 0.85;
/// Growth per second while the capacity is unknown.
const GROWTH: f64 = 1.08;
/// The rate exceeds the acknowledged rate by at most this factor, since unsent traffic proves
/// nothing.
const HEADROOM: f64 = 1.25;
const HEADROOM_BPS: f64 = 10_000.0;
/// Time after a decrease from which on arrivals prove a rate.
const PROVES_AFTER: Micros = 2_000 * MS;
/// Growth per response time (one packet) where the capacity is known.
const STEP_BITS: f64 = 9_600.0;
const MIN_STEP_BPS: f64 = 4_000.0;

/// Mean and variance of the capacity measured at overuses.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    bps: f64,
    /// Of the difference, in units of the mean.
    variance: f64,
}

impl Capacity {
    fn spread(&self) -> f64 {
        3.0 * (self.variance * self.bps).sqrt()
    }
}

/// Additive increase, multiplicative decrease.
#[derive(Debug, Clone)]
pub(crate) struct Aimd {
    bps: f64,
    capacity: Option<Capacity>,
    updated: Micros,
    decreased: Option<Micros>,
    corrected: bool,
}

impl Aimd {
    pub(crate) fn new(bps: f64, now: Micros) -> Self {
        Self { bps, capacity: None, updated: now, decreased: None, corrected: false }
    }

    pub(crate) fn bps(&self) -> f64 {
        self.bps
    }

    pub(crate) fn clamp(&mut self, min: f64, max: f64) {
        self.bps = self.bps.clamp(min, max);
    }

    /// Sets the rate, after a probe or at the end of an outage.
    pub(crate) fn set(&mut self, now: Micros, bps: f64) {
        if self.capacity.is_some_and(|capacity| bps > capacity.bps + capacity.spread()) {
            self.capacity = None;
        }
        self.bps = bps;
        self.updated = now;
    }

    /// Increases the rate: there is no queue. `answer_ms` is the time until a packet's fate is
    /// known.
    pub(crate) fn increase(&mut self, now: Micros, acknowledged: Option<f64>, answer_ms: f64) {
        let seconds = millis(now.saturating_sub(self.updated)).min(1_000.0) / 1_000.0;
        self.updated = now;
        let Some(acknowledged) = acknowledged else { return };
        if self.capacity.is_some_and(|known| acknowledged > known.bps + known.spread()) {
            self.capacity = None;
        }
        let near = self.capacity.is_some_and(|known| self.bps > known.bps - known.spread());
        let grown = if near {
            let step = STEP_BITS * 1_000.0 / (answer_ms + 100.0);
            self.bps + step.max(MIN_STEP_BPS) * seconds
        } else {
            self.bps * GROWTH.powf(seconds)
        };
        let limit = acknowledged * HEADROOM + HEADROOM_BPS;
        self.bps = grown.min(limit).max(self.bps);
    }

    /// Raises the rate to what has arrived without causing a queue. Soon after a decrease the
    /// measurement reaches back to before it, and proves nothing.
    pub(crate) fn prove(&mut self, now: Micros, acknowledged: f64) {
        if self.decreased.is_none_or(|at| now.saturating_sub(at) >= PROVES_AFTER) {
            self.bps = self.bps.max(acknowledged);
        }
    }

    /// Lowers the rate: a queue builds up, and the link delivers `delivered`. If that is clearly
    /// less than what is sent (`overloaded`), the queue is ours and the link's rate is known.
    /// Otherwise it may be another's, or ours and slow, and the rate follows in steps. Returns
    /// whether the rate was lowered: it is not until the effect of the last decrease has been
    /// reported, except for one correction.
    pub(crate) fn decrease(
        &mut self,
        now: Micros,
        delivered: f64,
        overloaded: bool,
        answer_ms: f64,
    ) -> bool {
        let wait = answer_ms.clamp(50.0, 1_000.0) + 50.0;
        let recent =
            self.decreased.is_some_and(|at| real(now.saturating_sub(at)) < wait * real(MS));
        let corrects = overloaded && !self.corrected && delivered < self.bps * 0.8;
        if recent && !corrects {
            return false;
        }
        self.corrected = recent;
        self.updated = now;
        self.decreased = Some(now);
        if overloaded {
            self.learn(delivered);
        }
        // A sender that exceeds the rate has more than it delivered; the rate falls all the same.
        let delivered = delivered.min(self.bps);
        self.bps = if overloaded {
            delivered * DECREASE
        } else {
            (delivered * SLOW_DECREASE).max(self.bps * STEP_DOWN)
        };
        true
    }

    /// Records a measurement of the capacity.
    pub(crate) fn learn(&mut self, delivered: f64) {
        match &mut self.capacity {
            Some(known) if (delivered - known.bps).abs() <= known.spread() => {
                let off = delivered - known.bps;
                known.bps += 0.05 * off;
                let variance = 0.95 * known.variance + 0.05 * off * off / known.bps.max(1.0);
                known.variance = variance.clamp(400.0, 2_500.0);
            }
            known => *known = Some(Capacity { bps: delivered, variance: 400.0 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000 * MS;

    #[test]
    fn without_a_queue_it_grows_but_not_beyond_what_is_proved() {
        let mut aimd = Aimd::new(1e6, 0);
        for n in 1..=10 {
            aimd.increase(n * 100 * MS, Some(1e6), 50.0);
        }
        assert!((1.07e6..1.09e6).contains(&aimd.bps()), "{}", aimd.bps());
        for n in 10..1_000 {
            aimd.increase(n * 100 * MS, Some(1e6), 50.0);
        }
        assert!((aimd.bps() - 1.26e6).abs() < 1.0);
        aimd.increase(200 * SECOND, None, 50.0);
        aimd.increase(201 * SECOND, Some(0.2e6), 50.0);
        assert!((aimd.bps() - 1.26e6).abs() < 1.0, "growth never lowers it");
    }

    #[test]
    fn what_arrives_without_a_queue_is_no_less_than_the_link_carries() {
        let mut aimd = Aimd::new(2.5e6, 0);
        aimd.prove(100 * MS, 3.8e6);
        assert_eq!(aimd.bps(), 3.8e6);
        assert!(aimd.decrease(SECOND, 1e6, true, 100.0));
        aimd.prove(SECOND + 400 * MS, 2e6);
        assert_eq!(aimd.bps(), 0.9e6, "that was before");
    }

    #[test]
    fn an_overload_lowers_it_to_what_arrives_and_once() {
        let mut aimd = Aimd::new(3e6, 0);
        assert!(aimd.decrease(SECOND, 1.5e6, true, 100.0));
        assert_eq!(aimd.bps(), 1.35e6);
        // The first measurement reached back to before the change: it is corrected, once.
        assert!(aimd.decrease(SECOND + 50 * MS, 1e6, true, 100.0));
        assert_eq!(aimd.bps(), 0.9e6);
        assert!(!aimd.decrease(SECOND + 100 * MS, 0.5e6, true, 100.0));
        assert!(aimd.decrease(SECOND + 300 * MS, 0.5e6, true, 100.0));
        assert_eq!(aimd.bps(), 0.45e6);
    }

    #[test]
    fn a_slow_overload_lowers_it_in_steps() {
        let mut aimd = Aimd::new(3e6, 0);
        assert!(aimd.decrease(SECOND, 0.5e6, false, 100.0));
        assert_eq!(aimd.bps(), 2.55e6);
        assert!(aimd.decrease(2 * SECOND, 2.5e6, false, 100.0));
        assert_eq!(aimd.bps(), 2.375e6);
        assert!(aimd.decrease(3 * SECOND, 2.9e6, false, 100.0));
        assert_eq!(aimd.bps(), 2.375e6 * 0.95, "more is sent than the rate");
    }

    #[test]
    fn near_the_capacity_it_grows_by_a_packet_for_each_answer() {
        let mut aimd = Aimd::new(1.1e6, 0);
        aimd.decrease(SECOND, 1e6, true, 100.0);
        let before = aimd.bps();
        for n in 1..=10 {
            aimd.increase(2 * SECOND + n * 100 * MS, Some(0.95e6), 100.0);
        }
        // 64 kbit/s in a second, for the two that have passed.
        assert!((80e3..150e3).contains(&(aimd.bps() - before)), "{}", aimd.bps() - before);
        // More than the capacity arrives: the estimate was wrong.
        aimd.increase(4 * SECOND, Some(2e6), 100.0);
        let before = aimd.bps();
        aimd.increase(5 * SECOND, Some(2e6), 100.0);
        assert!(aimd.bps() > before * 1.07);
    }
}
