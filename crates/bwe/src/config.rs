//! Settings of the estimator.

/// Limits and initial value of an estimate, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The estimate before any feedback (`jmt.bwe.estimator.initial-bw` of JVB). Default 2,500,000.
    pub initial_bps: u64,
    /// Lower limit (`min-bw`). Default 30,000.
    pub min_bps: u64,
    /// Upper limit, which nothing that a receiver reports can exceed (`max-bw`). Default
    /// 20,000,000.
    pub max_bps: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { initial_bps: 2_500_000, min_bps: 30_000, max_bps: 20_000_000 }
    }
}

impl Config {
    /// Returns the settings with ordered limits: 1 ≤ min ≤ initial ≤ max ≤ 1 Tbit/s.
    pub(crate) fn in_order(mut self) -> Self {
        self.max_bps = self.max_bps.clamp(1, 1_000_000_000_000);
        self.min_bps = self.min_bps.clamp(1, self.max_bps);
        self.initial_bps = self.initial_bps.clamp(self.min_bps, self.max_bps);
        self
    }
}
