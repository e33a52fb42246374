//! The bridge's measurements of itself, published as one snapshot: no reader waits.

use std::{collections::BTreeMap, sync::Arc};

use super::{health::ShardReport, packets::PacketsBySize, stats::Queues};

/// The bridge's measurements of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    /// The latest reports of shards.
    pub shards: BTreeMap<u16, Arc<ShardReport>>,
    /// The reports before those.
    pub before: BTreeMap<u16, Arc<ShardReport>>,
    /// The engine's events have ended.
    pub engine_gone: bool,
    /// The transports' updates have ended.
    pub transports_gone: bool,
    /// The length of the bridge's event queue when a shard last reported.
    pub queues: Queues,
    /// Load as a fraction of the configured threshold.
    pub stress: f64,
    /// The recent fraction of time that the hypervisor gave to others.
    pub cpu_steal: f64,
    /// The bound of videos for each receiver at the present load, if there is one.
    pub last_n_by_load: Option<usize>,
    /// Packets and bytes of conferences by size.
    pub packets: Arc<PacketsBySize>,
}

impl Readings {
    /// A shard reports.
    pub(super) fn take(&mut self, report: ShardReport) {
        let shard = report.load.shard;
        if let Some(before) = self.shards.insert(shard, Arc::new(report)) {
            self.before.insert(shard, before);
        }
    }

    /// RTP packets per second, both ways, as shards reported last.
    pub(super) fn packet_rate(&self) -> u64 {
        self.shards.values().fold(0, |sum, shard| sum.saturating_add(shard.packet_rate))
    }

    /// The part of the last second in which the busiest shard did not sleep.
    pub(super) fn busiest(&self) -> Option<f64> {
        self.shards.values().map(|shard| shard.load.busy).reduce(f64::max)
    }
}
