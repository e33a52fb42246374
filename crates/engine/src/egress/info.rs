//! Description of a source for shards with receivers.

use std::sync::Arc;

use rialto_media::{Codec, MediaParams, ShardId, SourceSpec};

/// A source, as described to its receivers' shards.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// The signalled source.
    pub spec: SourceSpec,
    /// The sender's home shard: packets come from there, and keyframe requests go there.
    pub home: ShardId,
    /// What the sender negotiated.
    pub media: Arc<MediaParams>,
    /// The sender's CNAME until it announces its own. The same for all of its sources.
    pub cname: Arc<str>,
    /// The sender's conference.
    pub conference: u64,
}

impl SourceInfo {
    /// Its RTP clock, Hz.
    pub fn clock_rate(&self) -> u32 {
        let own =
            |codec: Codec, media| media == self.spec.media && !matches!(codec, Codec::Rtx { .. });
        let formats = &self.media.payload_types;
        formats.iter().find(|p| own(p.codec, p.media)).map_or(90_000, |p| p.clock_rate)
    }
}
