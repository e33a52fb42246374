//! Counters of one direction of a link, and their line of JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::json;

use super::settings::Settings;

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// How many.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

impl Flow {
    /// Counts one packet.
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    fn merge(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// Counters of one direction of a link over some time.
#[derive(Debug)]
pub struct Counts {
    /// What arrived at the near end.
    pub offered: Flow,
    /// What arrived at the far end.
    pub delivered: Flow,
    /// Dropped because the queue was full.
    pub queue_dropped: Flow,
    /// Lost on the way.
    pub lost: Flow,
    /// How long packets waited for the bottleneck, µs.
    waits: Histogram<u64>,
}

impl Default for Counts {
    fn default() -> Self {
        let flow = Flow::default();
        // Three digits of up to a minute; what is longer counts as that.
        let waits =
            Histogram::new_with_max(60_000_000, 3).expect("bounds that the histogram allows");
        Self { offered: flow, delivered: flow, queue_dropped: flow, lost: flow, waits }
    }
}

impl Counts {
    /// Records how long a packet waited.
    pub fn waited(&mut self, wait: Duration) {
        self.waits.saturating_record(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds other counters.
    pub fn merge(&mut self, other: &Self) {
        self.offered.merge(other.offered);
        self.delivered.merge(other.delivered);
        self.queue_dropped.merge(other.queue_dropped);
        self.lost.merge(other.lost);
        self.waits.add(&other.waits).expect("histograms of the same bounds");
    }

    /// How long packets waited.
    pub fn queue(&self) -> Waits {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Waits {
            p50: ms(self.waits.value_at_quantile(0.5)),
            p95: ms(self.waits.value_at_quantile(0.95)),
            max: ms(self.waits.max()),
        }
    }
}

/// Quantiles of how long packets waited for the bottleneck, ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Waits {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The longest.
    pub max: f64,
}

/// Counters of one direction of a link in one interval.
#[derive(Debug)]
pub struct Report {
    /// End of the interval, seconds since 1970.
    pub time: f64,
    /// End of the interval, since the start.
    pub at: Duration,
    /// `down` is into the namespace, `up` out of it.
    pub direction: &'static str,
    /// The settings at the end of the interval.
    pub settings: Settings,
    /// The counters.
    pub counts: Counts,
}

impl Report {
    /// As a line of JSON.
    pub fn line(&self) -> String {
        let counts = &self.counts;
        json!({
            "time": self.time,
            "at": self.at.as_secs_f64(),
            "direction": self.direction,
            "rate": self.settings.rate,
            "offered": counts.offered,
            "delivered": counts.delivered,
            "queue_dropped": counts.queue_dropped,
            "lost": counts.lost,
            "queue_ms": counts.queue(),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_intervals_add_up() {
        let mut all = Counts::default();
        for wait in [10, 20, 30] {
            let mut counts = Counts::default();
            counts.offered.add(100);
            counts.lost.add(50);
            counts.waited(Duration::from_millis(wait));
            all.merge(&counts);
        }
        assert_eq!(all.offered, Flow { packets: 3, bytes: 300 });
        assert_eq!(all.lost, Flow { packets: 3, bytes: 150 });
        let queue = all.queue();
        assert!((queue.p50 - 20.0).abs() < 0.1 && (queue.max - 30.0).abs() < 0.1, "{queue:?}");
    }

    #[test]
    fn a_line_is_json() {
        let report = Report {
            time: 1.5e9,
            at: Duration::from_secs(2),
            direction: "down",
            settings: Settings { rate: Some(5_000_000), ..Settings::default() },
            counts: Counts::default(),
        };
        let line: serde_json::Value = serde_json::from_str(&report.line()).unwrap();
        assert_eq!((&line["rate"], &line["direction"]), (&json!(5_000_000), &json!("down")));
        assert_eq!(line["queue_ms"], json!({ "p50": 0.0, "p95": 0.0, "max": 0.0 }));
        assert_eq!(line["offered"], json!({ "packets": 0, "bytes": 0 }));
    }
}
