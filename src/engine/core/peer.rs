//! What shards say to each other: values in batches, the bytes copied once per target shard.

use std::net::SocketAddr;

use crate::{
    bwe::EncodingMask,
    engine::{EndpointId, ShardId, SourceId},
    ingress::PacketMeta,
};

/// Bytes of one batch; what does not fit waits for nothing and is dropped and counted.
const MAX_BYTES: usize = 512 << 10;
/// Messages of one batch.
const MAX_ITEMS: usize = 4_096;

/// One message.
#[derive(Clone, Copy, Debug)]
pub enum PeerItem {
    /// A datagram that landed on the wrong shard.
    Datagram {
        /// Whose it is.
        endpoint: EndpointId,
        /// Where it came from.
        remote: SocketAddr,
    },
    /// A packet of a source with receivers on the target shard.
    Media {
        /// The source.
        source: SourceId,
        /// The encoding.
        encoding: u8,
        /// What was read from it.
        meta: PacketMeta,
    },
    /// A sender report about one encoding.
    SenderReport {
        /// The source.
        source: SourceId,
        /// The encoding.
        encoding: u8,
        /// Wall clock of the sender, NTP format.
        ntp: u64,
        /// The same instant on the RTP clock.
        timestamp: u32,
    },
    /// To receivers' shards: which encodings arrive. Repeated once a second.
    Active {
        /// The source.
        source: SourceId,
        /// The encodings.
        active: EncodingMask,
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

/// A batch from one shard to another. Recycled: it keeps its memory.
#[derive(Debug)]
pub struct PeerBatch {
    /// The shard that filled it.
    pub from: ShardId,
    items: Vec<(PeerItem, u32, u32)>,
    bytes: Vec<u8>,
}

impl PeerBatch {
    /// An empty batch of shard `from`.
    pub fn new(from: ShardId) -> Self {
        Self { from, items: Vec::new(), bytes: Vec::new() }
    }

    /// Appends a message and the bytes that belong to it. False: it is full.
    #[inline]
    pub fn push(&mut self, item: PeerItem, bytes: &[u8]) -> bool {
        if self.items.len() >= MAX_ITEMS || self.bytes.len() + bytes.len() > MAX_BYTES {
            return false;
        }
        self.items.push((item, self.bytes.len() as u32, bytes.len() as u32));
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// Whether there is nothing to deliver.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }

    /// Its messages with their bytes, which may be changed in place.
    pub fn drain(&mut self, mut each: impl FnMut(PeerItem, &mut [u8])) {
        for (item, start, len) in self.items.drain(..) {
            let (start, len) = (start as usize, len as usize);
            each(item, self.bytes.get_mut(start..start + len).unwrap_or_default());
        }
        self.bytes.clear();
    }
}
