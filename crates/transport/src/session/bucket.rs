//! Rate limit of the requests of one endpoint.

use std::time::{Duration, Instant};

/// Requests at once.
const BURST: f64 = 100.0;
/// Requests a second. A browser with several interfaces sends some 20 while it connects.
const PER_SECOND: f64 = 50.0;

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    refilled: Option<Instant>,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { tokens: BURST, refilled: None }
    }
}

impl Bucket {
    /// Takes a token if there is one, and returns whether there was.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = self.refilled.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.refilled = Some(now);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * PER_SECOND).min(BURST);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}
