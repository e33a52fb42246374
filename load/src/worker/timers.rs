//! The timers of all clients of a worker.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum What {
    /// The next frame of the client's n-th source, or the next packet of one that is spread.
    Send(usize),
    /// Receiver and sender reports.
    Report,
    /// Transport-wide feedback.
    Feedback,
}

/// A queue of timers.
#[derive(Default)]
pub struct Timers(BinaryHeap<Reverse<(Instant, usize, What)>>);

impl Timers {
    /// Adds one.
    pub fn push(&mut self, due: Instant, endpoint: usize, what: What) {
        self.0.push(Reverse((due, endpoint, what)));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((due, ..))| *due)
    }

    /// Takes one that is due.
    pub fn pop(&mut self, now: Instant) -> Option<(usize, What)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, endpoint, what))| (endpoint, what))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn in_order_and_not_early() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.push(now + Duration::from_secs(2), 1, What::Report);
        timers.push(now, 2, What::Send(0));
        assert_eq!(timers.pop(now), Some((2, What::Send(0))));
        assert_eq!(timers.pop(now), None);
        assert_eq!(timers.next(), Some(now + Duration::from_secs(2)));
    }
}
