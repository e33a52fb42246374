//! Decides which changes of an estimate cause a new allocation.

/// Keeps the bandwidth that was last allocated until the estimate differs enough.
///
/// A drop by more than the threshold counts at once. So does a rise, unless it follows a drop: it
/// must then be twice as large, or have lasted from one [`Hysteresis::settle`] to the next. An
/// estimate that varies by a tenth around a value thus changes an allocation a few times at most.
/// The threshold alone would not ensure that: 1.1 is a fifth more than 0.9.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hysteresis {
    threshold: f64,
    allocated: Option<u64>,
    fell: bool,
    /// The lowest and the highest estimate since the last [`Hysteresis::settle`].
    seen: Option<(u64, u64)>,
}

impl Hysteresis {
    /// `threshold` is the fraction by which an estimate may change without effect.
    pub const fn new(threshold: f64) -> Self {
        Self { threshold, allocated: None, fell: false, seen: None }
    }

    /// The bandwidth to allocate, bit/s; `None` before the first estimate.
    pub const fn bandwidth(&self) -> Option<u64> {
        self.allocated
    }

    /// Handles an estimate, bit/s. Returns whether the bandwidth to allocate changed.
    pub fn estimated(&mut self, bps: u64) -> bool {
        let (least, most) = self.seen.unwrap_or((bps, bps));
        self.seen = Some((least.min(bps), most.max(bps)));
        let Some(allocated) = self.allocated else {
            self.allocated = Some(bps);
            return true;
        };
        let by = (bps as f64 - allocated as f64) / (allocated as f64).max(1.0);
        let rise = if self.fell { 2.0 * self.threshold } else { self.threshold };
        if by <= rise && by >= -self.threshold {
            return false;
        }
        self.fell = by < 0.0;
        self.allocated = Some(bps);
        true
    }

    /// Lets small changes that lasted count too: moves the bandwidth to allocate into the range of
    /// the estimates since the last call. To be called before each periodic run. Returns whether it
    /// changed.
    pub fn settle(&mut self) -> bool {
        let Some(((least, most), allocated)) = self.seen.take().zip(self.allocated) else {
            return false;
        };
        let settled = allocated.clamp(least, most);
        self.allocated = Some(settled);
        settled != allocated
    }
}
