//! Media types that the engine, the transports and control share: ids, formats, sources, encodings,
//! header extensions, the reasons for dropping packets, and rate limits.
//!
//! Plain values without I/O or clocks.
#![forbid(unsafe_code)]

mod datagram;
mod descriptions;
mod drop;
pub mod encodings;
mod extension;
mod format;
pub mod h264;
mod ids;
mod keyed;
mod limit;
mod source;
mod tables;

pub use datagram::{TransportDatagram, TransportEvent};
pub use descriptions::{Description, DescriptionId, Descriptions};
pub use drop::{Drop, DropCounters};
pub use encodings::{EncodingMask, Heights};
pub use extension::Extension;
pub use format::{Codec, MediaParams, MediaType, PayloadType};
pub use ids::{EndpointId, ShardId, SourceId};
pub use keyed::{HashKey, KeyedMap, SplitMix64};
pub use limit::{LogLimit, Rate, TokenBucket};
pub use source::{EncodingSpec, MAX_ENCODINGS, Mid, SlotSsrcs, SourceSpec, SubscriptionParams};
pub use tables::{PtInfo, PtMap, Tables, passes_on, video_codec};
