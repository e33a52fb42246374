//! Commands to a shard. Commands of one lane are applied in order, between batches.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use rialto_media::{EndpointId, MediaParams, ShardId, SourceId, SourceSpec, SubscriptionParams};
use rialto_srtp::Keying;

use crate::{AllocationConstraints, EndpointSpec, Tap, egress::SourceInfo};

/// One command to one shard.
#[derive(Clone, Debug)]
pub enum ShardCommand {
    /// To every shard: packets from `remote` belong to this endpoint.
    Bind {
        /// The validated address.
        remote: SocketAddr,
        /// The endpoint.
        endpoint: EndpointId,
        /// The endpoint's home.
        home: ShardId,
    },
    /// To every shard: the address belongs to nobody any more, if it is still `endpoint`'s.
    Unbind {
        /// The address.
        remote: SocketAddr,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// To the home shard: the endpoint lives here.
    AddEndpoint(EndpointId, EndpointSpec),
    /// To the home shard.
    RemoveEndpoint(EndpointId),
    /// To the home shard.
    SetMedia(EndpointId, Arc<MediaParams>),
    /// To the home shard.
    SetSources(EndpointId, Vec<SourceSpec>),
    /// To the home shard.
    SetForceMute {
        /// The sender.
        endpoint: EndpointId,
        /// Drop audio.
        audio: bool,
        /// Drop video.
        video: bool,
    },
    /// To the home shard.
    SetDominant(EndpointId, bool),
    /// To the home shard.
    RequestKeyframeAhead {
        /// The sender.
        speaker: EndpointId,
        /// The delay.
        after: Duration,
    },
    /// To the home shard.
    Tap(EndpointId, Option<Tap>),
    /// To the home shard.
    Select {
        /// The endpoint.
        endpoint: EndpointId,
        /// The address to send to.
        remote: SocketAddr,
        /// The address to send from.
        local: SocketAddr,
    },
    /// To the home shard.
    SetKeys(EndpointId, Keying),
    /// To the home shard.
    SetRtt(EndpointId, Duration),
    /// To the sender's home: this shard has receivers of the source.
    AddRoute {
        /// The source.
        source: SourceId,
        /// The receivers' shard.
        shard: ShardId,
        /// Whether some receiver asked for it by name.
        included: bool,
    },
    /// To the sender's home: the shard has no receivers of the source any more.
    RemoveRoute {
        /// The source.
        source: SourceId,
        /// The shard.
        shard: ShardId,
    },
    /// To the receiver's home. Repeated when the sender's media parameters or the terms change.
    Subscribe {
        /// The receiver.
        receiver: EndpointId,
        /// The source.
        source: Arc<SourceInfo>,
        /// How it is to be forwarded.
        terms: SubscriptionParams,
    },
    /// To the receiver's home.
    Unsubscribe {
        /// The receiver.
        receiver: EndpointId,
        /// The source.
        source: SourceId,
    },
    /// To the receiver's home.
    SetAllocation {
        /// The receiver.
        receiver: EndpointId,
        /// The constraints, in order of priority.
        wishes: Arc<AllocationConstraints>,
    },
    /// To any shard: send this datagram.
    Transmit {
        /// Source address.
        local: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// The datagram.
        bytes: Bytes,
    },
}
