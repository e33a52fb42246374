//! Bytes over time: what is sent, and what the receiver acknowledges.

use crate::num::{Micros, real};

const BINS: usize = 32;
/// Two bins are a frame of 25 a second.
const BIN: Micros = 20_000;
/// Window for a rate without a queue. A multiple of the time between frames of 25 or 30 a second,
/// so that the number of frames in it does not vary.
pub(crate) const LONG: Micros = 600_000;
/// Window for a rate with a queue: packets then arrive without gaps, and a link that has just
/// become slower must be measured at its new rate.
pub(crate) const SHORT: Micros = 160_000;
/// A shorter span says nothing about a rate.
const MIN_SPAN: Micros = 100_000;

/// Bytes by their sending or arrival time, for the last 640 ms.
///
/// Bins limit the memory at any rate, and order within them does not matter: a packet that was
/// overtaken counts where it belongs.
#[derive(Debug, Clone)]
pub(crate) struct Throughput {
    bins: [u32; BINS],
    first: Option<Micros>,
    latest: Micros,
}

impl Throughput {
    pub(crate) fn new() -> Self {
        Self { bins: [0; BINS], first: None, latest: 0 }
    }

    /// Adds a packet. One that is older than all bins is not counted.
    pub(crate) fn add(&mut self, at: Micros, bytes: u16) {
        if self.first.is_none() {
            self.first = Some(at);
            self.latest = at;
        }
        let (newest, bin) = (self.latest / BIN, at / BIN);
        if bin > newest {
            let fresh = bin.saturating_sub(newest).min(real_len());
            for ahead in 1..=fresh {
                if let Some(slot) = self.slot(newest.saturating_add(ahead)) {
                    *slot = 0;
                }
            }
        } else if newest.saturating_sub(bin) >= real_len() {
            return;
        }
        self.latest = self.latest.max(at);
        if let Some(slot) = self.slot(bin) {
            *slot = slot.saturating_add(u32::from(bytes));
        }
    }

    /// Bits per second over the `window` that ends at `end`, or at the latest packet if that is
    /// later. `None` until enough time is covered.
    pub(crate) fn over(&self, window: Micros, end: Micros) -> Option<f64> {
        let first = self.first?;
        let end = end.max(self.latest);
        let span = window.min(end.saturating_sub(first));
        if span < MIN_SPAN {
            return None;
        }
        let start = end.saturating_sub(span);
        let oldest = start / BIN;
        let newest = self.latest / BIN;
        // Bins after the latest packet are empty, and those a whole ring before it were reused.
        let kept = newest.saturating_sub(real_len().saturating_sub(1));
        let mut bytes = 0.0;
        if oldest >= kept && oldest <= newest {
            let inside = BIN.saturating_sub(start.checked_rem(BIN).unwrap_or(0));
            bytes = f64::from(self.get(oldest)) * (real(inside) / real(BIN));
        }
        let whole = oldest.saturating_add(1).max(kept)..=newest;
        let whole = whole.fold(0u64, |sum, bin| sum.saturating_add(self.get(bin).into()));
        Some((bytes + real(whole)) * 8.0 * 1e6 / real(span))
    }

    fn slot(&mut self, bin: u64) -> Option<&mut u32> {
        let at = usize::try_from(bin.checked_rem(real_len())?).ok()?;
        self.bins.get_mut(at)
    }

    fn get(&self, bin: u64) -> u32 {
        let at = bin.checked_rem(real_len()).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bins.get(at)).copied().unwrap_or(0)
    }
}

const fn real_len() -> u64 {
    BINS as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_measured_over_both_windows() {
        let mut rate = Throughput::new();
        assert_eq!(rate.over(LONG, 0), None);
        for n in 0..1_000_u64 {
            rate.add(7 + n * 10_000, 1_250);
        }
        let end = 7 + 999 * 10_000;
        for window in [LONG, SHORT] {
            let bps = rate.over(window, end).unwrap();
            assert!((950_000.0..1_070_000.0).contains(&bps), "{bps}");
        }
        // Half of the window is silence.
        let bps = rate.over(LONG, end + LONG / 2).unwrap();
        assert!((470_000.0..540_000.0).contains(&bps), "{bps}");
        assert!(rate.over(LONG, end + 2 * LONG).unwrap() < 1.0);
    }

    #[test]
    fn what_is_too_old_does_not_count() {
        let mut rate = Throughput::new();
        rate.add(0, 60_000);
        rate.add(10_000_000, 1_000);
        rate.add(9_000_000, 60_000);
        rate.add(10_200_000, 1_000);
        assert_eq!(rate.over(LONG, 0).unwrap().round(), 26_667.0);
    }
}
