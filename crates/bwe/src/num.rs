//! Conversions between the integers of the interface and the floating point of the calculations.

use std::time::{Duration, Instant};

/// Microseconds since the estimator was created.
pub(crate) type Micros = u64;

/// Microseconds in a millisecond.
pub(crate) const MS: Micros = 1_000;

/// A rate, or another non-negative number. NaN becomes 0; what is too large saturates.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from floating point saturates, and makes 0 of what is no number"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

/// An integer as floating point; rounded beyond 2^53.
pub(crate) fn real(value: u64) -> f64 {
    value as f64
}

/// The time between two instants.
pub(crate) fn micros(from: Instant, to: Instant) -> Micros {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds as milliseconds.
pub(crate) fn millis(micros: Micros) -> f64 {
    real(micros) / 1_000.0
}

/// Microseconds of a duration.
pub(crate) fn duration_micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The instant at a time after another one.
pub(crate) fn after(epoch: Instant, at: Micros) -> Option<Instant> {
    epoch.checked_add(Duration::from_micros(at))
}
