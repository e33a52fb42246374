//! Nobody's connectivity checks arrive: then it is not the clients, and the operator is told once.

use std::time::{Duration, Instant};

/// Checks are waited for so long before it is said that none come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of checks that do not come.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Since when somebody's checks have been waited for, and none have come.
    since: Option<Instant>,
    endpoints: u32,
    told: bool,
}

/// No check has arrived for a long time, though peers should be sending them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreachable {
    /// Endpoints whose peers are known, from which nothing came.
    pub endpoints: u32,
    /// For how long.
    pub silent: Duration,
}

impl Silence {
    /// A peer is known from now on, and should be sending checks.
    pub fn expect(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.endpoints = self.endpoints.saturating_add(1);
    }

    /// Something came, from whomever: the port is open.
    pub fn heard(&mut self) {
        *self = Self::default();
    }

    /// What there is to tell, once until something comes.
    pub fn poll(&mut self, now: Instant) -> Option<Unreachable> {
        let silent = now.saturating_duration_since(self.since?);
        if self.told || silent < PATIENCE {
            return None;
        }
        self.told = true;
        Some(Unreachable { endpoints: self.endpoints, silent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_once_and_again_after_something_came() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut silence = Silence::default();
        assert_eq!(silence.poll(at(1_000)), None, "nobody is expected");
        silence.expect(at(1_000));
        silence.expect(at(1_030));
        assert_eq!(silence.poll(at(1_059)), None);
        let unreachable = Unreachable { endpoints: 2, silent: Duration::from_secs(61) };
        assert_eq!(silence.poll(at(1_061)), Some(unreachable));
        assert_eq!(silence.poll(at(1_100)), None);
        silence.heard();
        assert_eq!(silence.poll(at(2_000)), None);
        silence.expect(at(2_000));
        assert_eq!(silence.poll(at(2_060)).map(|u| u.endpoints), Some(1));
    }
}
