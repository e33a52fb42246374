//! Messages between shards: values in batches. The bytes of a packet are copied once per target
//! shard.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "lengths of one batch, which is bounded"
)]

use std::net::SocketAddr;

use rialto_media::{
    EndpointId, ShardId, SourceId,
    encodings::{EncodingMask, Heights},
};

use crate::ingress::{PacketMeta, layers::EncodingLayers, rate::Rates};

/// Memory limit of the media in one batch, bytes. Media that does not fit is dropped and counted.
/// Each pair of shards has some dozen batches, and all of them come to be used.
const MAX_BYTES: usize = 128 << 10;
/// Most messages in one batch. Messages without media, of which there may be one for each source,
/// do not count towards [`MAX_BYTES`].
const MAX_ITEMS: usize = 4_096;
/// Messages for which a batch keeps memory: as many as there can be with media.
const KEPT_ITEMS: usize = (MAX_BYTES / ITEM).next_power_of_two();
const ITEM: usize = size_of::<(PeerItem, u32, u32)>();

/// One message between shards.
#[derive(Clone, Copy, Debug)]
pub enum PeerItem {
    /// A datagram that arrived on the wrong shard.
    Datagram {
        /// The endpoint that sent it.
        endpoint: EndpointId,
        /// The address it came from.
        remote: SocketAddr,
    },
    /// A packet of a source with receivers on the target shard.
    Media {
        /// The source.
        source: SourceId,
        /// The encoding.
        encoding: u8,
        /// Its parsed metadata.
        meta: PacketMeta,
    },
    /// A sender report about one encoding. Its bytes are the sender's CNAME, empty if it announced
    /// none.
    SenderReport {
        /// The source.
        source: SourceId,
        /// The encoding.
        encoding: u8,
        /// The sender's wall clock, NTP format.
        ntp: u64,
        /// The same instant on the RTP clock.
        timestamp: u32,
    },
    /// To receivers' shards: the active encodings, their heights and bitrates. Repeated once a
    /// second.
    Active {
        /// The source.
        source: SourceId,
        /// The active encodings.
        active: EncodingMask,
        /// Frame height of each.
        heights: Heights,
        /// Bitrate of each.
        rates: Rates,
    },
    /// To receivers' shards: the layers within one encoding, if it has any. Repeated once a second.
    Layers {
        /// The source.
        source: SourceId,
        /// The encoding.
        encoding: u8,
        /// The layers.
        layers: EncodingLayers,
    },
    /// To the sender's home: which encodings this shard's receivers need. Repeated once a second.
    Wanted {
        /// The source.
        source: SourceId,
        /// The encodings.
        wanted: EncodingMask,
    },
    /// To the sender's home: a receiver needs a keyframe.
    Keyframe {
        /// The source.
        source: SourceId,
        /// The encoding.
        encoding: u8,
    },
}

/// A batch from one shard to another. Batches are recycled and keep their memory.
#[derive(Debug)]
pub struct PeerBatch {
    /// The shard that filled it.
    pub from: ShardId,
    items: Vec<(PeerItem, u32, u32)>,
    bytes: Vec<u8>,
    /// Memory used by messages with media.
    used: usize,
}

impl PeerBatch {
    /// Creates an empty batch of shard `from`.
    pub fn new(from: ShardId) -> Self {
        Self { from, items: Vec::new(), bytes: Vec::new(), used: 0 }
    }

    /// Appends a message and its bytes. Returns false if the batch is full.
    #[inline]
    pub fn push(&mut self, item: PeerItem, bytes: &[u8]) -> bool {
        let cost = if bytes.is_empty() { 0 } else { ITEM + bytes.len() };
        if self.items.len() >= MAX_ITEMS || self.used + cost > MAX_BYTES {
            return false;
        }
        self.used += cost;
        self.items.push((item, self.bytes.len() as u32, bytes.len() as u32));
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.items.shrink_to(KEPT_ITEMS);
        self.bytes.clear();
        self.used = 0;
    }

    /// Removes all messages and passes each to `each` with its bytes, which may be changed in
    /// place.
    pub fn drain(&mut self, mut each: impl FnMut(PeerItem, &mut [u8])) {
        for (item, start, len) in self.items.drain(..) {
            let (start, len) = (start as usize, len as usize);
            each(item, self.bytes.get_mut(start..start + len).unwrap_or_default());
        }
        self.clear();
    }
}

/// A shard's pending batches, one for each other shard.
#[derive(Debug)]
pub struct PeerBatches {
    batches: Vec<PeerBatch>,
    half_full: bool,
}

impl PeerBatches {
    /// Creates empty batches of shard `from` for `shards` shards.
    pub fn new(from: ShardId, shards: u16) -> Self {
        Self { batches: (0..shards).map(|_| PeerBatch::new(from)).collect(), half_full: false }
    }

    /// Appends a message for shard `to`. Returns false if its batch is full or there is no such
    /// shard.
    #[inline]
    pub fn push(&mut self, to: ShardId, item: PeerItem, bytes: &[u8]) -> bool {
        let Some(batch) = self.batches.get_mut(usize::from(to.0)) else { return false };
        let before = batch.used;
        let pushed = batch.push(item, bytes);
        self.half_full |= before < MAX_BYTES / 2 && batch.used >= MAX_BYTES / 2;
        pushed
    }

    /// Swaps the pending batch for a shard with an empty one. Returns false if nothing is pending.
    pub fn take(&mut self, to: ShardId, spare: &mut PeerBatch) -> bool {
        let batch = self.batches.get_mut(usize::from(to.0)).filter(|b| !b.is_empty());
        let Some(batch) = batch else { return false };
        spare.clear();
        spare.from = batch.from;
        std::mem::swap(batch, spare);
        true
    }

    /// Returns whether a batch for a shard is pending.
    pub fn has(&self, to: ShardId) -> bool {
        self.batches.get(usize::from(to.0)).is_some_and(|b| !b.is_empty())
    }

    /// Returns true if a batch has become half full since the last call: it should be sent.
    pub fn half_full(&mut self) -> bool {
        std::mem::take(&mut self.half_full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: PeerItem = PeerItem::Active {
        source: SourceId(1),
        active: 1,
        heights: [0; 4],
        rates: [crate::ingress::rate::Rate { bps: 0, fps: 0 }; 4],
    };
    const MEDIA: PeerItem =
        PeerItem::Datagram { endpoint: EndpointId(1), remote: crate::sim::BRIDGE };
    const TO: ShardId = ShardId(1);

    #[test]
    fn says_once_that_a_batch_is_half_full_and_bounds_its_memory() {
        let mut batches = PeerBatches::new(ShardId(0), 2);
        let (mut pushed, mut flush_requests) = (0, Vec::new());
        while batches.push(TO, MEDIA, &[7; 1_000]) {
            pushed += 1;
            if batches.half_full() {
                flush_requests.push(pushed);
            }
        }
        assert_eq!(flush_requests, [pushed / 2 + 1]);
        assert!(!batches.push(ShardId(2), ACTIVE, &[]), "there is no such shard");
        let mut batch = PeerBatch::new(TO);
        assert!(batches.take(TO, &mut batch));
        assert_eq!((batch.from, batch.len()), (ShardId(0), pushed));
        assert!(!batches.has(TO) && !batches.take(TO, &mut PeerBatch::new(TO)));
        let memory = batch.items.capacity() * ITEM + batch.bytes.capacity();
        assert!(memory < 4 * MAX_BYTES, "{memory}");
        batch.drain(|_, bytes| assert_eq!(bytes, [7; 1_000]));
        assert!(batch.push(MEDIA, &[7; 1_000]), "there is room again");
    }

    #[test]
    fn what_is_said_of_many_sources_fits_beside_media_and_keeps_no_memory() {
        let mut batches = PeerBatches::new(ShardId(0), 2);
        while batches.push(TO, MEDIA, &[7; 1_000]) {}
        for _ in 0..MAX_ITEMS / 2 {
            assert!(batches.push(TO, ACTIVE, &[]));
        }
        let mut batch = PeerBatch::new(TO);
        batches.take(TO, &mut batch);
        batch.drain(|_, _| {});
        assert!(batch.items.capacity() <= KEPT_ITEMS);
    }
}
