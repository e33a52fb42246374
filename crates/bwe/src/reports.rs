//! The rate for receivers without transport-wide feedback: from REMB and receiver reports.

use crate::num::{MS, Micros, real};

/// Loss, in 256ths, above which the rate falls and below which it grows.
const HIGH: u8 = 26;
const LOW: u8 = 5;
const GROWTH: f64 = 1.08;
/// The rate falls or grows at most once per interval.
const INTERVAL: Micros = 300 * MS;

/// A rate from REMB and from the loss in receiver reports.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    remb: Option<f64>,
    by_loss: f64,
    updated: Option<Micros>,
}

impl Reports {
    pub(crate) fn new(initial: f64) -> Self {
        Self { remb: None, by_loss: initial, updated: None }
    }

    /// Handles the receiver's estimate.
    pub(crate) fn on_remb(&mut self, bps: u64) {
        self.remb = Some(real(bps));
    }

    /// Returns whether anything was reported.
    pub(crate) fn is_alive(&self) -> bool {
        self.remb.is_some() || self.updated.is_some()
    }

    /// Handles the loss since the last report, in 256ths.
    pub(crate) fn on_loss(&mut self, now: Micros, fraction: u8, sent: Option<f64>, max: f64) {
        if self.updated.is_some_and(|at| now.saturating_sub(at) < INTERVAL) {
            return;
        }
        self.updated = Some(now);
        if fraction > HIGH {
            self.by_loss *= 1.0 - 0.5 * f64::from(fraction) / 256.0;
        } else if fraction <= LOW && self.remb.is_none_or(|remb| self.by_loss <= remb) {
            let grown = self.by_loss * GROWTH;
            // Unsent traffic proves nothing.
            let limit = sent.map_or(grown, |sent| sent * 1.5 + 10_000.0);
            self.by_loss = grown.min(limit).max(self.by_loss).min(max);
        }
    }

    /// The allowed rate.
    pub(crate) fn bps(&self) -> f64 {
        match self.remb {
            // REMB grows with what arrives; loss only lowers it.
            Some(remb) if self.updated.is_none() => remb,
            Some(remb) => remb.min(self.by_loss.max(remb * 0.5)),
            None => self.by_loss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remb_is_followed_and_loss_only_lowers_it() {
        let mut reports = Reports::new(1e6);
        assert!(!reports.is_alive());
        reports.on_remb(2_000_000);
        assert!(reports.is_alive());
        assert_eq!(reports.bps(), 2e6);
        reports.on_remb(0);
        assert_eq!(reports.bps(), 0.0);
        reports.on_remb(u64::MAX);
        assert!(reports.bps().is_finite());
    }

    #[test]
    fn loss_alone_raises_by_steps_and_lowers_by_half_of_itself() {
        let mut reports = Reports::new(1e6);
        reports.on_loss(0, 0, Some(1e6), 5e6);
        assert_eq!(reports.bps(), 1.08e6);
        reports.on_loss(100 * MS, 0, Some(1e6), 5e6);
        assert_eq!(reports.bps(), 1.08e6, "too soon");
        for n in 1..100 {
            reports.on_loss(n * 1_000 * MS, 0, Some(1e6), 5e6);
        }
        assert_eq!(reports.bps(), 1.51e6, "what is not sent proves nothing");
        reports.on_loss(200_000 * MS, 128, Some(1e6), 5e6);
        assert_eq!(reports.bps(), 1.51e6 * 0.75);
        reports.on_loss(201_000 * MS, 13, Some(1e6), 5e6);
        assert_eq!(reports.bps(), 1.51e6 * 0.75, "between the two it stays");
    }
}
