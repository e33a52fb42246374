//! What a shard with receivers knows of a source.

use std::sync::Arc;

use rialto_media::{MediaParams, ShardId, SourceSpec};

/// A source as its receivers' shards know it.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// What was signalled.
    pub spec: SourceSpec,
    /// Where packets come in, and requests for keyframes go.
    pub home: ShardId,
    /// What the sender negotiated.
    pub media: Arc<MediaParams>,
    /// The sender's CNAME until it gives one itself: the same for all of its sources.
    pub cname: Arc<str>,
    /// The sender's conference.
    pub conference: u64,
}
