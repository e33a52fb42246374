//! Which changes of an estimate are worth a new allocation.

/// Keeps the bandwidth last allocated until an estimate differs enough.
///
/// A fall by more than the threshold counts at once. So does a rise, but for one that follows a fall:
/// that must be twice as large, or have lasted from one [`Hysteresis::settle`] to the next. An estimate
/// that wavers by a tenth around any value thus changes an allocation a few times and then no more,
/// which the threshold by itself does not bring about: 1.1 is a fifth more than 0.9.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hysteresis {
    threshold: f64,
    allocated: Option<u64>,
    fell: bool,
    /// The least and the most that were estimated since the last [`Hysteresis::settle`].
    seen: Option<(u64, u64)>,
}

impl Hysteresis {
    /// `threshold`: the fraction that is nothing.
    pub const fn new(threshold: f64) -> Self {
        Self { threshold, allocated: None, fell: false, seen: None }
    }

    /// What to allocate, bit/s; `None` before the first estimate.
    pub const fn bandwidth(&self) -> Option<u64> {
        self.allocated
    }

    /// Takes an estimate, bit/s. Returns whether what to allocate has changed.
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

    /// Small changes that lasted count, too: brings what to allocate into the range of what was
    /// estimated since the last call. To be called before each periodic run. Returns whether that
    /// changed it.
    pub fn settle(&mut self) -> bool {
        let Some(((least, most), allocated)) = self.seen.take().zip(self.allocated) else {
            return false;
        };
        let settled = allocated.clamp(least, most);
        self.allocated = Some(settled);
        settled != allocated
    }
}
