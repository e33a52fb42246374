//! Latency measured per packet; the sending time travels at the packet's end.

use std::time::Duration;

/// A collection of durations.
#[derive(Clone, Default, Debug)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// Writes the sending time, counted from an instant that both sides know.
    pub(crate) fn stamp(packet: &mut [u8], now: Duration) {
        if let Some(end) = packet.last_chunk_mut() {
            *end = (now.as_nanos() as u64).to_be_bytes();
        }
    }

    /// Adds the age of a packet at `now`.
    pub(crate) fn add_since(&mut self, packet: &[u8], now: Duration) {
        if let Some(end) = packet.last_chunk() {
            self.add(now.saturating_sub(Duration::from_nanos(u64::from_be_bytes(*end))));
        }
    }

    /// Adds a latency.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(latency.as_nanos() as u64);
    }

    /// The `q` quantile; zero if there are no values.
    pub(crate) fn quantile(&mut self, q: f64) -> Duration {
        self.0.sort_unstable();
        let at = (self.0.len() as f64 * q) as usize;
        Duration::from_nanos(self.0.get(at).or(self.0.last()).copied().unwrap_or(0))
    }
}
