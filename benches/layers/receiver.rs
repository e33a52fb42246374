//! Feedback of receivers.

use std::{collections::VecDeque, time::Duration};

use rialto_rtp::{ExtSeq, rtcp::Arrival};
use rialto_srtp::TxContext;

use crate::{outbox::Sent, rig};

/// Delay from the core to the client, if the link is idle.
const PATH: Duration = Duration::from_millis(20);
/// Longest queue in front of a link.
const QUEUE: Duration = Duration::from_millis(300);

/// An endpoint that receives, and what has arrived since its last feedback.
pub(crate) struct Receiver {
    pub(crate) id: u32,
    seal: TxContext,
    /// Bandwidth of its link; `None`: unlimited.
    link_bps: Option<u64>,
    seen: Sent,
    free_at: Duration,
    /// Transport sequence numbers, and when they arrive.
    arriving: VecDeque<(u64, Duration)>,
    count: u8,
    pub(crate) lost: u64,
}

impl Receiver {
    /// A receiver that was sent something already, which it does not report.
    pub(crate) fn new(id: u32, link_bps: Option<u64>) -> Self {
        Self {
            id,
            seal: rig::seal(id),
            link_bps,
            seen: Sent::default(),
            free_at: Duration::ZERO,
            arriving: VecDeque::new(),
            count: 0,
            lost: 0,
        }
    }

    /// Counts what it was sent so far.
    pub(crate) fn on_sent(&mut self, sent: Sent, now: Duration) {
        let packets = sent.packets - self.seen.packets;
        let len = (sent.bytes - self.seen.bytes).checked_div(packets).unwrap_or(0);
        for number in self.seen.packets..sent.packets {
            let Some(bps) = self.link_bps else {
                self.arriving.push_back((number, now + PATH));
                continue;
            };
            let starts = self.free_at.max(now);
            if starts > now + QUEUE {
                self.lost += 1;
                continue;
            }
            self.free_at = starts + Duration::from_secs_f64(len as f64 * 8.0 / bps as f64);
            self.arriving.push_back((number, self.free_at + PATH));
        }
        self.seen = sent;
    }

    /// Protected feedback packets about everything that has arrived.
    pub(crate) fn feedback(&mut self, now: Duration) -> Vec<Vec<u8>> {
        let here = self.arriving.iter().take_while(|(_, at)| *at <= now + PATH).count();
        let arrivals: Vec<Arrival> = self
            .arriving
            .drain(..here)
            .map(|(seq, at)| Arrival { seq: ExtSeq(seq), at: rig::ticks(at) })
            .collect();
        rig::feedback(&mut self.seal, &mut self.count, &arrivals)
    }
}
