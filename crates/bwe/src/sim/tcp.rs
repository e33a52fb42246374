//! A flow that behaves like TCP: a window that grows until something is lost.

use super::link::Time;

/// Bytes of a segment.
pub(crate) const SEGMENT: usize = 1_500;

/// A sender of bulk data with slow start, additive increase and a window that halves.
#[derive(Debug)]
pub(crate) struct Tcp {
    window: f64,
    threshold: f64,
    in_flight: u64,
    /// When the window was last halved; losses of the same round trip count once.
    halved: Time,
    rtt: Time,
    from: Time,
    until: Time,
}

impl Tcp {
    pub(crate) fn new(from: Time, until: Time) -> Self {
        Self { window: 10.0, threshold: 1e9, in_flight: 0, halved: 0, rtt: 100_000, from, until }
    }

    /// Number of segments that leave now.
    pub(crate) fn poll(&mut self, now: Time) -> u64 {
        if now < self.from || now >= self.until {
            return 0;
        }
        let more = (self.window as u64).saturating_sub(self.in_flight).min(10);
        self.in_flight += more;
        more
    }

    pub(crate) fn on_acknowledged(&mut self, now: Time, sent: Time) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.rtt = now - sent;
        self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
    }

    /// Handles the loss of a segment, a round trip after it.
    pub(crate) fn on_lost(&mut self, now: Time, sent: Time) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if sent >= self.halved {
            self.window = (self.window / 2.0).max(2.0);
            self.threshold = self.window;
            self.halved = now;
        }
    }
}
