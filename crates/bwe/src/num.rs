//! Conversions between the integers of the interface and the floating point of the arithmetic inside.

use std::time::{Duration, Instant};

/// Microseconds since the estimator was made.
pub(crate) type Micros = u64;

/// Microseconds in a millisecond.
pub(crate) const MS: Micros = 1_000;

/// A rate, or another number that is not negative. What is not a number is 0; what is too large saturates.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from floating point saturates, and makes 0 of what is no number"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

/// An integer as floating point; beyond 2^53 it is rounded.
pub(crate) fn real(value: u64) -> f64 {
    value as f64
}

/// The time between two moments.
pub(crate) fn micros(from: Instant, to: Instant) -> Micros {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds of a time in microseconds.
pub(crate) fn millis(micros: Micros) -> f64 {
    real(micros) / 1_000.0
}

/// Microseconds of a duration.
pub(crate) fn duration_micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A moment as time since another one.
pub(crate) fn after(epoch: Instant, at: Micros) -> Option<Instant> {
    epoch.checked_add(Duration::from_micros(at))
}
