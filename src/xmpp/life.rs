//! Detects whether the server is alive. No I/O.

use std::time::{Duration, Instant};

use super::cause::Cause;

/// A server that has been silent for this long gets a ping.
const PING_AFTER: Duration = Duration::from_secs(10);
/// How long it then has to send anything.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Signs of life. Any byte is one.
#[derive(Debug)]
pub(super) struct Life {
    pinged: Option<Instant>,
}

impl Life {
    pub(super) fn new() -> Self {
        Self { pinged: None }
    }

    /// When to call [`Life::on_time`] at the latest. `last_received`: when bytes came last.
    pub(super) fn deadline(&self, last_received: Instant) -> Instant {
        match self.waits_since(last_received) {
            Some(at) => at + PING_TIMEOUT,
            None => last_received + PING_AFTER,
        }
    }

    /// Whether to ping the server now.
    pub(super) fn on_time(&mut self, last_received: Instant, now: Instant) -> Result<bool, Cause> {
        match self.waits_since(last_received) {
            Some(at) if now >= at + PING_TIMEOUT => Err(Cause::Silent),
            Some(_) => Ok(false),
            None => {
                let asks = now >= last_received + PING_AFTER;
                self.pinged = asks.then_some(now);
                Ok(asks)
            }
        }
    }

    /// When the ping was sent that has had no answer yet.
    fn waits_since(&self, last_received: Instant) -> Option<Instant> {
        self.pinged.filter(|at| last_received < *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_connection_to_a_silent_server_ends() {
        let start = Instant::now();
        let mut life = Life::new();
        assert_eq!(life.deadline(start), start + 10 * SECOND);
        assert_eq!(life.on_time(start, start + 9 * SECOND), Ok(false));
        assert_eq!(life.on_time(start, start + 10 * SECOND), Ok(true));
        assert_eq!(life.deadline(start), start + 20 * SECOND);
        assert_eq!(life.on_time(start, start + 19 * SECOND), Ok(false));
        assert_eq!(life.on_time(start, start + 20 * SECOND), Err(Cause::Silent));
    }

    #[test]
    fn whatever_it_says_is_a_sign() {
        let start = Instant::now();
        let mut life = Life::new();
        assert_eq!(life.on_time(start, start + 10 * SECOND), Ok(true));
        let last_received = start + 19 * SECOND;
        assert_eq!(life.deadline(last_received), last_received + 10 * SECOND);
        assert_eq!(life.on_time(last_received, start + 20 * SECOND), Ok(false));
        assert_eq!(
            life.on_time(last_received, last_received + 10 * SECOND),
            Ok(true),
            "and is asked again"
        );
    }
}
