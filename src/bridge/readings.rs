//! What the bridge knows of itself, published as a whole for whoever asks: no reader waits for anybody.

use std::{collections::BTreeMap, sync::Arc};

use super::{health::ShardReport, packets::PacketsBySize, stats::Queues};

/// The bridge's measurements of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    /// What shards reported last.
    pub shards: BTreeMap<u16, Arc<ShardReport>>,
    /// What they reported before that.
    pub before: BTreeMap<u16, Arc<ShardReport>>,
    /// The engine's events have ended.
    pub engine_gone: bool,
    /// The transports' updates have ended.
    pub transports_gone: bool,
    /// What waited for the bridge when a shard last reported.
    pub queues: Queues,
    /// Load as a fraction of what is too much.
    pub stress: f64,
    /// The part of the time that the hypervisor gave to others lately.
    pub cpu_steal: f64,
    /// How many videos anybody gets while the bridge is as busy as it is, if that is bounded.
    pub last_n_by_load: Option<usize>,
    /// What conferences of each size carried.
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
