//! What waits to be sent to one receiver. Packets stay in the rings of their sources and a stream
//! knows its position there, so that waiting needs neither a copy nor an entry per packet.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::history::Sent;
use crate::slots::OutStreamSlot;

/// Most retransmissions that wait. If a receiver requests more, its oldest requests are dropped,
/// and it requests them again.
const MAX_RETRANSMISSIONS: usize = 512;

/// Delay between a retransmission and its second copy: losses come in runs, and a copy sent at once
/// would be lost with the first.
const COPY_AFTER: Duration = Duration::from_millis(15);
/// Most copies that wait.
const MAX_COPIES: usize = 128;

/// A requested retransmission.
#[derive(Clone, Copy, Debug)]
pub struct Retransmission {
    /// The stream.
    pub stream: OutStreamSlot,
    /// How it was sent.
    pub sent: Sent,
}

/// What waits to be sent to one receiver.
#[derive(Debug, Default)]
pub struct Queue {
    /// Audio streams with packets to send.
    pub audio: Vec<OutStreamSlot>,
    /// Video streams with packets to send.
    pub video: Vec<OutStreamSlot>,
    /// Requested retransmissions, the oldest request first.
    pub retransmissions: VecDeque<Retransmission>,
    /// Second copies with the time they are due, the earliest first.
    copies: VecDeque<(Instant, Retransmission)>,
    /// Whether the receiver is in the shard's list to poll in this tick.
    pub listed: bool,
    /// When the shard is to poll it if nothing happens until then.
    pub wake: Option<Instant>,
}

impl Queue {
    /// Adds a stream with packets to send.
    #[inline]
    pub fn push(&mut self, stream: OutStreamSlot, video: bool) {
        if video {
            self.video.push(stream);
        } else {
            self.audio.push(stream);
        }
    }

    /// Adds a retransmission. Returns whether an older one was dropped for it.
    pub fn push_retransmission(&mut self, retransmission: Retransmission) -> bool {
        let full = self.retransmissions.len() >= MAX_RETRANSMISSIONS;
        if full {
            self.retransmissions.pop_front();
        }
        self.retransmissions.push_back(retransmission);
        full
    }

    /// Schedules a second copy of a retransmission.
    #[expect(clippy::arithmetic_side_effects, reason = "a moment and 15 ms")]
    pub fn copy_later(&mut self, now: Instant, retransmission: Retransmission) {
        if self.copies.len() < MAX_COPIES {
            self.copies.push_back((now + COPY_AFTER, retransmission));
        }
    }

    /// Returns a copy that is due.
    pub fn take_copy(&mut self, now: Instant) -> Option<Retransmission> {
        let (at, _) = self.copies.front()?;
        if *at > now {
            return None;
        }
        self.copies.pop_front().map(|(_, retransmission)| retransmission)
    }

    /// When the next copy is due.
    pub fn next_copy(&self) -> Option<Instant> {
        self.copies.front().map(|(at, _)| *at)
    }

    /// Drops the requested retransmissions.
    pub fn clear_retransmissions(&mut self) {
        self.retransmissions.clear();
        self.copies.clear();
    }

    /// Returns whether nothing waits that may leave now.
    pub fn is_empty(&self) -> bool {
        self.audio.is_empty() && self.video.is_empty() && self.retransmissions.is_empty()
    }
}
