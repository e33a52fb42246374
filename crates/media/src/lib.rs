//! Media types that the engine, the transports and control share: ids, formats, sources, encodings,
//! header extensions, and the reasons for dropping packets.
//!
//! Plain values without I/O, locks or time.
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
pub use source::{EncodingSpec, MAX_ENCODINGS, Mid, SlotSsrcs, SourceSpec, Terms};
pub use tables::{PtInfo, PtMap, Tables, passes_on, video_codec};
