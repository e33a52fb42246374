//! Metrics with labels: one number for each reason, shard, queue or candidate.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use serde_json::{Map, Value};

use crate::{bridge::BridgeStats, channel::Dropped, stats::Number};

/// A metric with labels.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    counter: bool,
    /// Values with their labels; no two have the same labels.
    samples: Vec<(Vec<(&'static str, String)>, Number)>,
}

impl Family {
    fn new(name: &'static str, help: &'static str, counter: bool) -> Self {
        Self { name, help, counter, samples: Vec::new() }
    }

    fn with<N: Into<Number>>(
        mut self,
        label: &'static str,
        samples: impl IntoIterator<Item = (String, N)>,
    ) -> Self {
        let labelled = |(value, number): (String, N)| (vec![(label, value)], number.into());
        self.samples.extend(samples.into_iter().map(labelled));
        self
    }

    /// Encodes the family as text.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = if self.counter { MetricType::Counter } else { MetricType::Gauge };
        let mut family = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        self.samples.iter().try_for_each(|(labels, number)| {
            let encoder = family.encode_family(labels)?;
            match (self.counter, *number) {
                (true, Number::Whole(value)) => ConstCounter::new(value).encode(encoder),
                (false, Number::Whole(value)) => {
                    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
                }
                (_, Number::Fraction(value)) => ConstGauge::new(value).encode(encoder),
                (_, Number::Flag(value)) => ConstGauge::new(i64::from(value)).encode(encoder),
            }
        })
    }

    /// Returns its name and a JSON object of its values by label.
    pub(super) fn json(&self) -> (String, Value) {
        let end = if self.counter { "_total" } else { "" };
        let values: Map<String, Value> = self
            .samples
            .iter()
            .map(|(labels, number)| {
                let labels: Vec<&str> = labels.iter().map(|(_, value)| value.as_str()).collect();
                (labels.join("/"), Value::from(*number))
            })
            .collect();
        (format!("{}{end}", self.name), Value::Object(values))
    }
}

/// All labelled metrics of this bridge, prefixed `rialto_`.
pub(super) fn families(stats: &BridgeStats) -> Vec<Family> {
    let text = |(name, count): &(&'static str, u64)| ((*name).to_owned(), *count);
    let channel_drops = Dropped::ALL.into_iter().map(Dropped::label).zip(stats.channels.dropped);
    let loads = &stats.shard_loads;
    let of = |shard: u16| shard.to_string();
    let mut depth = Family::new(
        "queue_depth",
        "Length of a queue: the longest of the last second for a shard's, the current one for control's",
        false,
    );
    for load in loads {
        for (queue, waiting) in
            [("commands", load.waiting.commands), ("batches", load.waiting.batches)]
        {
            let labels = vec![("queue", queue.to_owned()), ("shard", of(load.shard))];
            depth.samples.push((labels, waiting.into()));
        }
    }
    let queues = &stats.queues;
    let depth = depth.with(
        "queue",
        [
            ("media_events".to_owned(), queues.media_events),
            ("transport_updates".to_owned(), queues.transport_updates),
            ("requests".to_owned(), queues.requests),
        ],
    );
    vec![
        Family::new("dropped_packets", "Packets dropped, by reason", true)
            .with("reason", stats.drops.iter().map(text)),
        Family::new("dropped_channel_messages", "Bridge-channel messages dropped, by reason", true)
            .with("reason", channel_drops.map(|(reason, count)| (reason.to_owned(), count))),
        Family::new(
            "videos",
            "Number of videos that endpoints could receive, by the reason why they do not receive more of them",
            false,
        )
        .with("reason", stats.video_reasons.iter().map(text)),
        Family::new(
            "shard_busy",
            "Fraction of the last second in which the engine thread did not sleep",
            false,
        )
        .with("shard", loads.iter().map(|load| (of(load.shard), load.busy))),
        Family::new("shard_endpoints", "Number of endpoints on the engine thread that is their home", false)
            .with("shard", loads.iter().map(|load| (of(load.shard), load.endpoints))),
        depth,
        Family::new(
            "ice_checks",
            "Authenticated connectivity checks of endpoints, by the local address at which they arrived",
            true,
        )
        .with("candidate", stats.ice_checks.iter().map(|(to, count)| (to.to_string(), *count))),
    ]
}
