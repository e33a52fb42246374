//! JVB's queues, and the drop counters of this bridge that correspond to them.

use rialto_media::Drop;

use crate::{bridge::BridgeStats, channel::Dropped};

/// A queue of JVB.
pub(super) struct JvbQueue {
    /// Prefix of its metrics.
    pub name: &'static str,
    /// Its name in `/debug/stats/jvb/queue-stats`; empty if it is not listed there.
    pub in_json: &'static str,
    /// Packets dropped at the corresponding point; 0 where this bridge has no such queue.
    pub dropped: fn(&BridgeStats) -> u64,
}

/// All queues. Handlers throw no exceptions here; failures are counted under names of their own.
pub(super) const JVB_QUEUES: [JvbQueue; 8] = [
    JvbQueue {
        name: "srtp_send_queue",
        in_json: "srtp_send_queue",
        dropped: |s| drops(s, Drop::SendQueueFull),
    },
    JvbQueue { name: "relay_srtp_send_queue", in_json: "relay_srtp_send_queue", dropped: |_| 0 },
    JvbQueue {
        name: "relay_endpoint_srtp_send_queue",
        in_json: "relay_endpoint_sender_srtp_send_queue",
        dropped: |_| 0,
    },
    JvbQueue {
        name: "rtp_receiver",
        in_json: "rtp_receiver_queue",
        dropped: |s| drops(s, Drop::PeerQueueFull),
    },
    JvbQueue { name: "rtp_sender", in_json: "rtp_sender_queue", dropped: |_| 0 },
    JvbQueue { name: "colibri_queue", in_json: "colibri_queue", dropped: |s| s.requests_refused },
    JvbQueue {
        name: "endpoint_receive_message_queue",
        in_json: "bridge-channel-message-incoming-queue",
        dropped: |s| {
            s.channels.dropped.get(Dropped::RateLimited as usize).copied().unwrap_or_default()
        },
    },
    // The sum of all queues.
    JvbQueue {
        name: "queue",
        in_json: "",
        dropped: |s| {
            let others = JVB_QUEUES.iter().filter(|queue| !queue.in_json.is_empty());
            others.fold(0, |sum, queue| sum.saturating_add((queue.dropped)(s)))
        },
    },
];

fn drops(stats: &BridgeStats, reason: Drop) -> u64 {
    let label = Drop::ALL.iter().find(|(each, _)| *each == reason).map(|(_, label)| *label);
    let count = stats.drops.iter().find(|(each, _)| Some(*each) == label);
    count.map_or(0, |(_, count)| *count)
}
