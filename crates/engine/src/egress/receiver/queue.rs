//! What waits to be sent to one receiver. Packets stay in the rings of their sources; a stream knows how
//! far it has come, so that waiting costs no copy and no entry for each packet.

use std::{collections::VecDeque, time::Instant};

use super::history::Sent;
use crate::slots::OutStreamSlot;

/// Retransmissions that wait; a receiver that asks for more gets its oldest requests forgotten, and asks
/// again.
const MAX_AGAIN: usize = 512;

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

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.audio.is_empty() && self.video.is_empty() && self.again.is_empty()
    }
}
