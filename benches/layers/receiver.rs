//! What receivers say of what has arrived.

use std::{collections::VecDeque, time::Duration};

use rialto_rtp::{ExtSeq, rtcp::Arrival};
use rialto_srtp::TxContext;

use crate::{outbox::Sent, rig};

/// From the core to the client, when the link is idle.
const PATH: Duration = Duration::from_millis(20);
/// A queue before a link is so long at most.
const QUEUE: Duration = Duration::from_millis(300);

/// An endpoint that receives, and what has arrived since it last said so.
pub(crate) struct Receiver {
    pub(crate) id: u32,
    seal: TxContext,
    /// What its link carries; `None`: everything.
    link_bps: Option<u64>,
    seen: Sent,
    free_at: Duration,
    /// Transport-wide number, and when it arrives.
    arriving: VecDeque<(u64, Duration)>,
    count: u8,
    pub(crate) lost: u64,
}

impl Receiver {
    /// One who has been sent something already, which it does not report.
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

    /// What it was sent so far.
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

    /// Protected packets that report all that has arrived.
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
