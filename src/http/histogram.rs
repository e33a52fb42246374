//! Histograms, as Prometheus text and as JSON.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use rialto_engine::{BOUNDS_US, DelayHistogram};
use serde_json::{Map, Value};

use crate::bridge::BridgeStats;

/// One histogram without labels.
pub(super) struct Histogram {
    /// Name without prefix.
    pub name: &'static str,
    pub help: &'static str,
    pub sum: f64,
    /// Upper bounds, the last one infinite, each with the count of values in this bucket alone.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Makes a histogram of endpoint counts: buckets 0, 1, … 20 and the rest.
    pub(super) fn of(name: &'static str, help: &'static str, values: &[usize]) -> Self {
        let mut buckets: Vec<(f64, u64)> = (0..=20).map(|upper| (f64::from(upper), 0)).collect();
        buckets.push((f64::INFINITY, 0));
        for &value in values {
            if let Some((_, count)) = buckets.iter_mut().find(|(upper, _)| value as f64 <= *upper) {
                *count += 1;
            }
        }
        Self { name, help, sum: values.iter().sum::<usize>() as f64, buckets }
    }

    fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Encodes the histogram as text.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor(self.name, self.help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(self.sum, self.count(), &self.buckets, None)
    }

    /// Returns JVB's JSON: cumulative counts up to each bound.
    pub(super) fn json(&self) -> Value {
        let mut so_far = 0;
        let mut object: Map<String, Value> = self
            .buckets
            .iter()
            .map(|(upper, count)| {
                so_far += count;
                let upper =
                    if upper.is_finite() { format!("{upper:?}") } else { "+Inf".to_owned() };
                (format!("bucket_le_{upper}"), (so_far as f64).into())
            })
            .collect();
        object.insert("count".to_owned(), (self.count() as f64).into());
        object.insert("sum".to_owned(), self.sum.into());
        Value::Object(object)
    }
}

/// The delay from receiving a batch to sending it, one measurement for each batch.
pub(super) fn forwarding_delay(stats: &BridgeStats) -> Histogram {
    let help = "Time from receiving to sending of the slowest packet of each batch, seconds";
    in_seconds("forwarding_delay_seconds", help, &stats.delays)
}

/// The delay that pacers add.
pub(super) fn pacing_delay(stats: &BridgeStats) -> Histogram {
    let help = "Time for which the pacer held back video packets that exceeded the estimate of their receiver's link, seconds";
    in_seconds("pacing_delay_seconds", help, &stats.pacing)
}

fn in_seconds(name: &'static str, help: &'static str, delays: &DelayHistogram) -> Histogram {
    let bound = |us: u64| if us == u64::MAX { f64::INFINITY } else { us as f64 / 1e6 };
    let buckets = BOUNDS_US.into_iter().map(bound).zip(delays.buckets).collect();
    Histogram { name, help, sum: delays.sum_us as f64 / 1e6, buckets }
}

/// The forwarding delay as JVB's histogram, in whole milliseconds: delays below one go into the first
/// bucket.
pub(super) fn transit_time(stats: &BridgeStats) -> Histogram {
    let delays: &DelayHistogram = &stats.delays;
    let mut before = 0;
    let mut buckets: Vec<(f64, u64)> =
        [(0.0, 1_000), (5.0, 5_000), (50.0, 50_000), (500.0, 500_000)]
            .into_iter()
            .map(|(ms, us)| {
                let so_far = delays.up_to(us);
                let count = so_far.saturating_sub(before);
                before = so_far;
                (ms, count)
            })
            .collect();
    buckets.push((f64::INFINITY, delays.count().saturating_sub(before)));
    Histogram {
        name: "rtp_transit_time",
        help: "Time from receiving to sending of the slowest packet of each batch, ms",
        sum: delays.sum_us as f64 / 1e3,
        buckets,
    }
}
