//! What waits to be sent to one receiver. Packets stay in the rings of their sources; a stream knows how
//! far it has come, so that waiting costs no copy and no entry for each packet.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::history::Sent;
use crate::slots::OutStreamSlot;

/// Retransmissions that wait; a receiver that asks for more gets its oldest requests forgotten, and asks
/// again.
const MAX_AGAIN: usize = 512;

/// A second copy of a retransmission leaves so long after the first: losses come in runs, and what follows
/// the first at once is lost with it.
const COPY_AFTER: Duration = Duration::from_millis(15);
/// Copies that wait.
const MAX_COPIES: usize = 128;

/// A packet that was asked for again.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// The stream.
    pub stream: OutStreamSlot,
    /// As it was sent.
    pub sent: Sent,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Queue {
    /// Audio streams with something to send.
    pub audio: Vec<OutStreamSlot>,
    /// Video streams with something to send.
    pub video: Vec<OutStreamSlot>,
    /// What is to be sent again, the oldest request first.
    pub again: VecDeque<Again>,
    /// Second copies, and when they are due, the first due first.
    copies: VecDeque<(Instant, Again)>,
    /// The receiver is in the shard's list of those to poll in this tick.
    pub listed: bool,
    /// When the shard is to poll it, if nothing happens until then.
    pub wake: Option<Instant>,
}

impl Queue {
    /// A stream has something to send.
    #[inline]
    pub fn push(&mut self, stream: OutStreamSlot, video: bool) {
        if video {
            self.video.push(stream);
        } else {
            self.audio.push(stream);
        }
    }

    /// A packet is to be sent again. Returns whether an older one had to be forgotten for it.
    pub fn push_again(&mut self, again: Again) -> bool {
        let full = self.again.len() >= MAX_AGAIN;
        if full {
            self.again.pop_front();
        }
        self.again.push_back(again);
        full
    }

    /// What was sent again is to be sent once more, a little later.
    #[expect(clippy::arithmetic_side_effects, reason = "a moment and 15 ms")]
    pub fn copy_later(&mut self, now: Instant, again: Again) {
        if self.copies.len() < MAX_COPIES {
            self.copies.push_back((now + COPY_AFTER, again));
        }
    }

    /// A copy that is due.
    pub fn take_copy(&mut self, now: Instant) -> Option<Again> {
        let (at, _) = self.copies.front()?;
        if *at > now {
            return None;
        }
        self.copies.pop_front().map(|(_, again)| again)
    }

    /// When the next copy is due.
    pub fn next_copy(&self) -> Option<Instant> {
        self.copies.front().map(|(at, _)| *at)
    }

    /// Forgets what was asked for again.
    pub fn clear_again(&mut self) {
        self.again.clear();
        self.copies.clear();
    }

    /// Whether anything waits that may leave now.
    pub fn is_empty(&self) -> bool {
        self.audio.is_empty() && self.video.is_empty() && self.again.is_empty()
    }
}
