//! Whether the server is still there. No I/O.

use std::time::{Duration, Instant};

use super::cause::Cause;

/// A server that has said nothing for so long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(10);
/// And has so long to say anything.
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

    /// When to call [`Life::on_time`] at the latest. `heard`: when bytes came last.
    pub(super) fn deadline(&self, heard: Instant) -> Instant {
        match self.waits_since(heard) {
            Some(at) => at + PING_TIMEOUT,
            None => heard + PING_AFTER,
        }
    }

    /// Whether to ask the server now.
    pub(super) fn on_time(&mut self, heard: Instant, now: Instant) -> Result<bool, Cause> {
        match self.waits_since(heard) {
            Some(at) if now >= at + PING_TIMEOUT => Err(Cause::Silent),
            Some(_) => Ok(false),
            None => {
                let asks = now >= heard + PING_AFTER;
                self.pinged = asks.then_some(now);
                Ok(asks)
            }
        }
    }

    /// Since when an answer is waited for: none has come since.
    fn waits_since(&self, heard: Instant) -> Option<Instant> {
        self.pinged.filter(|at| heard < *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_server_is_given_up() {
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
        let heard = start + 19 * SECOND;
        assert_eq!(life.deadline(heard), heard + 10 * SECOND);
        assert_eq!(life.on_time(heard, start + 20 * SECOND), Ok(false));
        assert_eq!(life.on_time(heard, heard + 10 * SECOND), Ok(true), "and is asked again");
    }
}
