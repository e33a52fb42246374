//! A source on one shard: its packets (one ring for each encoding) and the receivers there.

use std::{sync::Arc, time::Instant};

use rialto_media::{
    MAX_ENCODINGS, MediaType,
    encodings::{self, EncodingMask, Heights},
};

use super::{
    SourceInfo,
    receiver::Subscription,
    ring::{PacketRing, RingIndex, RingSize},
};
use crate::ingress::PacketMeta;

/// A feed is flushed early when so many packets wait in one ring.
const FLUSH_AT: u64 = 32;

/// One encoding's packets on this shard.
#[derive(Debug, Default)]
pub struct EncodingFeed {
    /// Allocated when the first packet comes.
    pub ring: Option<PacketRing>,
    /// First packet that was not yet given to the receivers.
    pub fresh: RingIndex,
}

impl EncodingFeed {
    /// Packets not yet given to the receivers.
    pub fn fresh_range(&self) -> std::ops::Range<RingIndex> {
        self.fresh..self.ring.as_ref().map_or(self.fresh, PacketRing::head)
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct Feed {
    /// The source.
    pub info: Arc<SourceInfo>,
    /// One for each signalled encoding.
    pub encodings: [EncodingFeed; MAX_ENCODINGS],
    /// The receivers on this shard.
    pub subscriptions: Vec<Subscription>,
    /// Encodings that arrive at the sender's home, as last told.
    pub active: EncodingMask,
    /// How high each encoding is, as last told.
    pub heights: Heights,
    /// Encodings that receivers here need, as last told to the sender's home.
    pub told_wanted: EncodingMask,
    /// When fresh packets must leave; `None`: there are none.
    pub due: Option<Instant>,
    /// When the oldest of them came to this shard.
    pub since: Option<Instant>,
}

impl Feed {
    /// A feed without packets and receivers.
    pub fn new(info: Arc<SourceInfo>) -> Self {
        Self {
            info,
            encodings: Default::default(),
            subscriptions: Vec::new(),
            active: 0,
            heights: Heights::default(),
            told_wanted: 0,
            due: None,
            since: None,
        }
    }

    /// Takes a packet. `hold`: until when a packet without company may wait. Returns whether the feed
    /// has just become one with fresh packets.
    pub fn push(
        &mut self,
        encoding: u8,
        meta: PacketMeta,
        packet: &[u8],
        now: Instant,
        hold: Instant,
    ) -> bool {
        let audio = self.info.spec.media == MediaType::Audio;
        let Some(feed) = self.encodings.get_mut(usize::from(encoding)) else { return false };
        let size = if audio { RingSize::AUDIO } else { RingSize::VIDEO };
        let ring = feed.ring.get_or_insert_with(|| PacketRing::new(size));
        if ring.push(meta, packet).is_none() {
            return false;
        }
        let full = ring.head() - feed.fresh >= FLUSH_AT;
        // The last packet of a frame has nothing to wait for; audio never waits.
        let at = if audio || meta.marker || full { now } else { hold };
        let first = self.due.is_none();
        self.since.get_or_insert(now);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        first
    }

    /// Encodings that receivers here get or wait for.
    pub fn wanted(&self) -> EncodingMask {
        self.subscriptions.iter().fold(0, |mask, s| {
            mask | encodings::bit(s.projection.current()) | encodings::bit(s.projection.target())
        })
    }

    /// Bytes allocated for packets.
    pub fn memory(&self) -> usize {
        self.encodings.iter().filter_map(|e| e.ring.as_ref()).map(PacketRing::memory).sum()
    }
}
